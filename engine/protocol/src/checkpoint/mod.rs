//! Checkpoints: the replicated state at one slot, as rows for the store, and back.
//!
//! When a checkpoint is due is decided by the log alone: by what the entries since the last one weigh.
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

/// What an entry counts beside its bytes: its block in the log, its step in a replay. So many small
/// entries are not replayed for minutes after a crash.
pub const ENTRY_WEIGHT: u64 = 1024;

/// What an entry adds to what the next start would have to replay.
#[must_use]
pub(crate) fn weight_of(entry: &Entry) -> u64 {
    ENTRY_WEIGHT + u64::try_from(entry.bytes()).expect("an entry is at most a frame")
}
