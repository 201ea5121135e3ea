//! The file of acknowledged transfers: what the cluster may never lose.
//!
//! One decimal transfer id a line, in the order of the acknowledgements (`ok` and `exists`). A line
//! counts only with its line feed: a generator that is killed may leave a torn last line, whose id
//! nobody can know. Ids reach the operating system at most [`FLUSH_EVERY`] after the acknowledgement.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use quorate_protocol::ids::TransferId;

/// How often the generator hands its ids to the writer.
pub const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// Batches between the generator and the writer. A disk that cannot keep up for this many flushes
/// (25 s) slows the generator down: a lost id would be a check that cannot fail.
const BATCHES_MAX: usize = 256;

/// Collects ids on the generator's thread; a thread of its own formats and writes them.
#[derive(Debug)]
pub struct AckedFile {
    pending: Vec<TransferId>,
    batches: SyncSender<Vec<TransferId>>,
    writer: JoinHandle<io::Result<()>>,
}

impl AckedFile {
    /// Creates the file, or empties an old one.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        let (batches, received) = sync_channel(BATCHES_MAX);
        let writer = std::thread::Builder::new()
            .name("acked".to_owned())
            .spawn(move || write_all(file, &received))?;
        Ok(Self {
            pending: Vec::new(),
            batches,
            writer,
        })
    }

    /// Remembers an acknowledged id until the next flush.
    pub fn push(&mut self, id: TransferId) {
        self.pending.push(id);
    }

    /// Hands everything to the writer.
    pub fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let room = Vec::with_capacity(self.pending.len());
        let batch = std::mem::replace(&mut self.pending, room);
        // A writer that failed has dropped its end; its error is told by `finish`.
        let _ = self.batches.send(batch);
    }

    /// Writes the rest and ends the writer.
    ///
    /// # Errors
    /// Some ids could not be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush();
        drop(self.batches);
        match self.writer.join() {
            Ok(result) => result,
            Err(_) => Err(io::Error::other("the writer of acknowledged ids panicked")),
        }
    }
}

fn write_all(file: File, batches: &Receiver<Vec<TransferId>>) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    for batch in batches {
        for id in batch {
            writeln!(out, "{id}")?;
        }
        out.flush()?;
    }
    Ok(())
}

/// Why a file of ids is refused.
#[derive(Debug)]
pub struct AckedError {
    pub line: usize,
    pub found: String,
}

impl std::fmt::Display for AckedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "line {}: field id: not a decimal id, found \"{}\"",
            self.line, self.found
        )
    }
}

impl std::error::Error for AckedError {}

/// The ids in a file's text, ascending and each once. A last line without line feed is left out.
///
/// # Errors
/// A whole line is not an id.
pub fn parse(text: &str) -> Result<Vec<TransferId>, AckedError> {
    let mut ids = Vec::new();
    for (n, line) in text.split_inclusive('\n').enumerate() {
        let Some(line) = line.strip_suffix('\n') else {
            continue;
        };
        let id = line.parse().map_err(|_| AckedError {
            line: n + 1,
            found: line.to_owned(),
        })?;
        ids.push(TransferId(id));
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("acked");
        let mut file = AckedFile::create(&path).unwrap();
        for n in (0..1000_u128).rev() {
            file.push(TransferId(u128::MAX - n));
            if n.is_multiple_of(100) {
                file.flush();
            }
        }
        file.finish().unwrap();
        let ids = parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let expected: Vec<TransferId> =
            (0..1000).rev().map(|n| TransferId(u128::MAX - n)).collect();
        assert_eq!(ids, expected);
    }

    /// A generator killed in the middle of a write: "12" may be the start of "1234".
    #[test]
    fn a_torn_last_line_is_no_id() {
        assert_eq!(
            parse("7\n5\n7\n12").unwrap(),
            [TransferId(5), TransferId(7)]
        );
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = parse("7\nseven\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2: field id: not a decimal id, found \"seven\""
        );
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_not_a_loss() {
        let Ok(mut file) = AckedFile::create(Path::new("/dev/full")) else {
            panic!("/dev/full exists on Linux");
        };
        file.push(TransferId(1));
        assert!(file.finish().is_err());
    }
}
