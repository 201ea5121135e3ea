//! The trace of a run: a hash over everything that happened, and on request the lines themselves.
//!
//! Two runs of one seed must have the same hash; the lines are for people and are made only if
//! somebody reads them.

use std::fmt;
use std::io::Write;

use crate::random::mix;

/// Hash and, if asked for, a writer of lines.
#[derive(Default)]
pub struct Trace {
    hash: u64,
    lines: Option<Box<dyn Write>>,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({:016x})", self.hash)
    }
}

impl Trace {
    /// A trace that also writes one line per event.
    #[must_use]
    pub fn to_writer(writer: Box<dyn Write>) -> Self {
        Self {
            hash: 0,
            lines: Some(writer),
        }
    }

    /// Whether lines are wanted: makes their text worth building.
    #[must_use]
    pub fn has_lines(&self) -> bool {
        self.lines.is_some()
    }

    /// Takes an event in: when, what kind, who, and a number that stands for its content.
    pub fn event(&mut self, at_ns: u64, kind: u64, who: u64, content: u64) {
        for part in [at_ns, kind, who, content] {
            self.hash = mix(self.hash ^ part);
        }
    }

    /// Writes a line if lines are wanted. An error of the writer ends the lines, not the run.
    pub fn line(&mut self, at_ns: u64, text: impl FnOnce() -> String) {
        let Some(writer) = &mut self.lines else {
            return;
        };
        let seconds = at_ns / 1_000_000_000;
        let rest = at_ns % 1_000_000_000;
        if let Err(error) = writeln!(writer, "{seconds}.{rest:09} {}", text()) {
            eprintln!("trace file: {error}");
            self.lines = None;
        }
    }

    /// Everything so far in one number.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_every_part_and_on_the_order() {
        let hash = |events: &[[u64; 4]]| {
            let mut trace = Trace::default();
            for [at, kind, who, content] in events {
                trace.event(*at, *kind, *who, *content);
            }
            trace.hash()
        };
        let base = hash(&[[1, 2, 3, 4], [5, 6, 7, 8]]);
        assert_eq!(base, hash(&[[1, 2, 3, 4], [5, 6, 7, 8]]));
        assert_ne!(base, hash(&[[5, 6, 7, 8], [1, 2, 3, 4]]));
        assert_ne!(base, hash(&[[1, 2, 3, 4], [5, 6, 7, 9]]));
        assert_ne!(base, hash(&[[1, 2, 4, 4], [5, 6, 7, 8]]));
    }
}
