//! How long a turn of the core goes on with a checkpoint.
//!
//! A turn takes what has arrived: a few microseconds of it, or some ten milliseconds of full entries. Whatever is
//! done once per turn is therefore done 30,000 times a second or 80 times, and the leader of a loaded group has the
//! fewest. A checkpoint has to be done by the time the next one falls due, which is a matter of how much was
//! applied, or apply stands still until it is. So its work follows the work of the turn:
//!
//! | | per turn | why it is enough |
//! | --- | --- | --- |
//! | parts, index work | [`store_share`]: a quarter of the time that the inputs took | per transfer it takes some 0.3 us where applying takes 2 and more |
//! | bytes | one operation, of all that wait (`READY_BYTES_MAX` and a part) | a turn that applies 8,190 transfers brings 1 MB of history, and up to 2.6 MB of accounts |
//! | rows that are moved | one read (`MOVE_BLOCKS_MAX`) | these are at most three times the rows of its own |
//!
//! In return a checkpoint takes at most a fifth of the core's time, and a core that waits for its next input
//! waits for one piece at most.

use std::time::Duration;

/// Of the time that the inputs of a turn took.
const STORE_SHARE: u32 = 4;
/// Long enough for one piece of work.
const STORE_SHARE_MIN: Duration = Duration::from_micros(100);

/// How long the store may work in a turn whose inputs took so long. A piece that was begun is ended.
pub(crate) fn store_share(inputs: Duration) -> Duration {
    (inputs / STORE_SHARE).max(STORE_SHARE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_has_a_piece_of_every_turn_and_a_fifth_of_a_long_one() {
        assert_eq!(store_share(Duration::ZERO), STORE_SHARE_MIN);
        let inputs = Duration::from_millis(12);
        let share = store_share(inputs);
        assert_eq!(5 * share, inputs + share);
    }
}
