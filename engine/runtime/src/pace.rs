//! How long a turn of the core goes on with a checkpoint.
//!
//! A turn takes what has arrived: a few microseconds of it, or some ten milliseconds of full entries. Whatever is
//! done once per turn is therefore done 30,000 times a second or 80 times, and the leader of a loaded group has the
//! fewest. A checkpoint has to be done by the time the next one falls due, which is a matter of how much was
//! applied, or apply stands still until it is. So its work follows the work of the turn:
//!
//! | | per turn | why it is enough |
//! | --- | --- | --- |
//! | parts, index work, rows that are moved | [`store_share`]: a quarter of the time that the inputs took, and one piece at least | per transfer it takes some 0.3 us where applying takes 2 and more |
//! | bytes written | one operation, of all that waits (`READY_BYTES_MAX`, 1 MiB, and a part) | a turn that applies 8,190 transfers brings 0.9 MB of history |
//! | bytes read | one read ([`READ_AHEAD_BLOCKS`]), moved piece by piece | 6,400 rows; of those that are moved there are at most three times the own ones |
//!
//! In return a checkpoint takes a fifth of the time of a core under full load, and a piece, some 100 us, of each short
//! turn while it is under way.

use std::time::Duration;

/// Of the time that the inputs of a turn took.
const STORE_SHARE: u32 = 4;
/// However long that was: heartbeats wait meanwhile.
const STORE_SHARE_MAX: Duration = Duration::from_millis(5);

/// Blocks that are read at once for rows that are moved: 1 MiB.
pub(crate) const READ_AHEAD_BLOCKS: u32 = 256;

/// How long the store may work after a turn whose inputs took so long. A piece that was begun is ended.
pub(crate) fn store_share(inputs: Duration) -> Duration {
    (inputs / STORE_SHARE).min(STORE_SHARE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_has_a_fifth_of_a_long_turn_and_never_long_enough_to_miss_heartbeats() {
        let inputs = Duration::from_millis(12);
        let share = store_share(inputs);
        assert_eq!(5 * share, inputs + share);
        assert_eq!(store_share(Duration::from_secs(60)), STORE_SHARE_MAX);
    }
}
