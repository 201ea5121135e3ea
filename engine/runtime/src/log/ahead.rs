//! How fast a segment that the log will need is filled with zeros.
//!
//! ```text
//! segment n     [=========>              ]  is written; bytes since the filling began: g
//! segment n + 1 [                        ]  ready
//! segment n + 2 [0000000000000>          ]  is filled: 5/4 g and one write
//! ```
//!
//! So it is done when four fifths of a segment were written, a segment and a fifth before it is needed, and log and zeros together
//! write at most 9/4 of the log's bytes, but for one write. Without a ready segment it is filled as fast as the disk goes.

use quorate_storage::wal::Wal;

use crate::disk::ZERO_BYTES;

/// Bytes that are filled for as many that are written.
const FILLED: u64 = 5;
const WRITTEN: u64 = 4;

/// A segment that is being filled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead {
    /// What the log had written when it began.
    flushed_bytes: u64,
}

impl Ahead {
    pub(crate) fn of<P: AsRef<[u8]> + Clone>(wal: &Wal<P>) -> Self {
        Self {
            flushed_bytes: wal.counters().flushed_bytes,
        }
    }

    /// Whether more is to be filled when so many bytes are.
    pub(crate) fn may_fill<P: AsRef<[u8]> + Clone>(self, filled: u64, wal: &Wal<P>) -> bool {
        wal.segments_ready() == 0 || self.is_due(filled, wal.counters().flushed_bytes)
    }

    fn is_due(self, filled: u64, flushed_bytes: u64) -> bool {
        let written = flushed_bytes.saturating_sub(self.flushed_bytes);
        filled < (written * FILLED / WRITTEN).max(ZERO_BYTES as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of 64 MiB that are written in flushes of this size: how much of one was written when the next but one was filled,
    /// and the most that was filled between two flushes.
    fn course(flush: u64) -> (u64, u64) {
        const SEGMENT: u64 = 64 << 20;
        let ahead = Ahead {
            flushed_bytes: 1 << 30,
        };
        let (mut written, mut filled, mut most) = (0, 0, 0);
        while filled < SEGMENT {
            let before = filled;
            while filled < SEGMENT && ahead.is_due(filled, (1 << 30) + written) {
                filled += ZERO_BYTES as u64;
            }
            most = most.max(filled - before);
            written += flush;
        }
        (written, most)
    }

    #[test]
    fn it_is_full_before_the_segment_that_is_written_and_never_much_at_once() {
        for flush in [4 << 10, 64 << 10, 1 << 20, 4 << 20] {
            let (written, most) = course(flush);
            assert!(
                written <= (64 << 20) * 4 / 5 + 2 * flush,
                "{flush}: {written}"
            );
            assert!(most <= flush * 5 / 4 + ZERO_BYTES as u64, "{flush}: {most}");
        }
    }
}
