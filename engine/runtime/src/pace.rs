//! How far a checkpoint goes on between two turns of the core.
//!
//! A turn takes what has arrived: a few microseconds of it, or tens of milliseconds of full entries. Whatever is
//! done once per turn is therefore done 30,000 times a second or 20 times, and the leader of a loaded group has the
//! fewest. A checkpoint has to be done by the time the next one falls due, which is a matter of how much was
//! applied, or apply stands still until it is. So its work follows the work of the turn, by [`Pace`]:
//!
//! | | after each turn | why it is enough |
//! | --- | --- | --- |
//! | parts, index work, rows that are moved | a quarter of the time that the inputs took, and one piece at least | per transfer it takes 0.3 us, and up to 1 us where most accounts change, where applying takes 2 to 5 |
//! | bytes written | one operation, of all that a file has waiting | 8,190 transfers bring 0.9 MB of history and up to 2.8 MB of accounts, and take four milliseconds or more |
//! | bytes read for rows that are moved | one read in three turns | of these there are at most three times the own ones |
//!
//! In return a checkpoint takes a fifth of the time of a core under full load, and a piece, some 100 us, of each short
//! turn while it is under way; and short turns see short writes, which the log's flushes do not wait for.

use std::time::Duration;

/// Of the time that the inputs of a turn took.
const SHARE: u32 = 4;
/// However long that was: heartbeats wait meanwhile.
const SHARE_MAX: Duration = Duration::from_millis(20);
/// Bytes that one operation or read may take for each microsecond of the turn, and in any case.
const BYTES_PER_US: usize = 256;
const BYTES_MIN: usize = 512 << 10;
const BYTES_MAX: usize = 8 << 20;

/// What the store may do until the next turn has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// How long it may work. A piece that was begun is ended.
    pub(crate) share: Duration,
    /// How many bytes may wait to be written, or be read ahead.
    pub(crate) bytes: usize,
}

impl Pace {
    /// After a turn whose inputs took so long.
    pub(crate) fn after(inputs: Duration) -> Self {
        let us = usize::try_from(inputs.as_micros()).unwrap_or(usize::MAX);
        Self {
            share: (inputs / SHARE).min(SHARE_MAX),
            bytes: us.saturating_mul(BYTES_PER_US).clamp(BYTES_MIN, BYTES_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_turn_pays_a_fifth_and_lets_its_bytes_through() {
        let inputs = Duration::from_millis(12);
        let pace = Pace::after(inputs);
        assert_eq!(5 * pace.share, inputs + pace.share);
        // 8,190 transfers of history, and accounts of their own.
        assert!(pace.bytes > 8190 * (110 + 2 * 80));
    }

    #[test]
    fn whatever_the_turn_the_pace_has_bounds() {
        assert_eq!(Pace::after(Duration::ZERO).bytes, BYTES_MIN);
        let pace = Pace::after(Duration::from_secs(60));
        assert_eq!((pace.share, pace.bytes), (SHARE_MAX, BYTES_MAX));
    }
}
