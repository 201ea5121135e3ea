//! Checkpoints: the replicated state at one slot, as rows for the store, and back.
//!
//! When a checkpoint is due is decided by the log alone: by what the entries since the last one weigh ([`due_weight`]).
//! So all replicas of a shard write the same rows at the same slots, their digests are compared there,
//! and one of them can take what it lacks from any other.
//!
//! It is written beside traffic, part by part. What an account was at the checkpoint's slot is kept
//! aside when it changes before it was written ([`image::Image::keep`]).
//!
//! | part | rows | size |
//! | --- | --- | --- |
//! | accounts | [`rows::AccountRow`] of each account that changed since the last checkpoint | 160 |
//! | gone | ids of accounts that left since then and are not back | 16 |
//! | history | [`rows::HistoryRow`] of each id recorded since then, in order | 96 |
//! | contexts | [`rows::ContextRow`], what rows of history have in common | 48 |
//! | side | every other table, whole ([`side`]) | bytes |

pub(crate) mod image;
pub mod restore;
pub mod rows;
pub(crate) mod side;

use crate::entry::Entry;
use crate::limits::{EARLY_CHECKPOINTS, EARLY_PARTS, REWRITTEN_PART};

/// What an entry counts beside its bytes: its block in the log, its step in a replay. So many small
/// entries are not replayed for minutes after a crash.
pub const ENTRY_WEIGHT: u64 = 1024;

/// What the entries since checkpoint `number` weigh when the next one is due. `bytes`: what has to be written again each
/// time, as far as it is known: rows of the accounts that have changed, in this interval or in the one before, whose
/// checkpoint this one must not catch up with, and the side tables.
///
/// Memory that an interval takes is fresh until the first checkpoint gives some back, and fresh memory is dear: a page that
/// is touched first costs as much as applying four transfers. So a young ledger has short intervals, as long as what is
/// written again is little beside what they weigh. An old one has long ones: each checkpoint leaves a file of history,
/// which every look-up in vain goes through.
pub(crate) fn due_weight(most: u64, number: u64, bytes: u64) -> u64 {
    if number >= EARLY_CHECKPOINTS {
        return most;
    }
    bytes
        .saturating_mul(REWRITTEN_PART)
        .clamp(most / EARLY_PARTS, most)
}

/// What an entry adds to what the next start would have to replay.
#[must_use]
pub(crate) fn weight_of(entry: &Entry) -> u64 {
    ENTRY_WEIGHT + u64::try_from(entry.bytes()).expect("an entry is at most a frame")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 256 << 20;

    #[test]
    fn a_young_ledger_has_short_intervals_if_little_is_written_again() {
        assert_eq!(due_weight(MOST, 0, 0), MOST / 4);
        assert_eq!(due_weight(MOST, 0, 10_000 * 172), MOST / 4);
        assert_eq!(due_weight(MOST, 0, MOST / 16), MOST / 2, "an eighth of it");
        assert_eq!(due_weight(MOST, 0, MOST), MOST);
        assert_eq!(due_weight(MOST, 0, u64::MAX), MOST);
        assert_eq!(due_weight(0, 0, 1), 0);
    }

    #[test]
    fn an_old_one_has_long_intervals() {
        assert_eq!(due_weight(MOST, EARLY_CHECKPOINTS - 1, 0), MOST / 4);
        assert_eq!(due_weight(MOST, EARLY_CHECKPOINTS, 0), MOST);
    }
}
