//! Which rows of history are let go of, and when: `keep` as a duration.
//!
//! Time is that of entries, so every replica decides the same. At time t the *horizon* is t - keep.
//!
//! | what | below the horizon |
//! | --- | --- |
//! | an id that is not known as used | a transfer under it is refused with `id_too_old` |
//! | a row | may be dropped at a checkpoint, with all rows before it |
//!
//! Rows are dropped in *stretches*, the rows of neighbouring checkpoints. At the checkpoint at time t the
//! oldest stretch goes if
//!
//! 1. the own time of each id in it lies below the horizon of t;
//! 2. each row took effect before the horizon of t;
//! 3. each participant of a commit in it has acknowledged: it said, and this log has it, that nothing is
//!    in doubt there that was prepared at or before the time of the commit.
//!
//! # What this guarantees
//!
//! *A dropped id never takes effect again.* Time rises from entry to entry, so its own time, below the horizon
//! of t by (1), is below that of every later entry. There a transfer, a `Commit` and a `Prepare` of it are
//! refused, on this shard for good. On another shard, which asks this one about it after a move, too: the
//! answer brings this shard's time, and what is proposed there later is stamped above.
//!
//! *A participant is never told "aborted" of what was committed.* What it asks about was prepared there
//! before the time of the commit: its vote brought its time. By (3) it is not in doubt any more, and it never
//! is again: the credit is recorded over there under the id, or was dropped because the id is too old
//! over there. An acknowledgement may be as old as it likes: what it says stays true.
//!
//! *Who retries is told the truth for as long as he may*, by (2): a transfer that took effect late is known by
//! its id for `keep` after that, however old the id was.
//!
//! What is dropped is unknown from the beginning of the checkpoint on, wherever its rows still lie: an answer
//! does not depend on when a replica deletes a file.

use alloc::collections::{BTreeMap, VecDeque};

use zerocopy::IntoBytes;

use crate::checkpoint::restore::RestoreError;
use crate::checkpoint::side::{Decoder, Encoder};
use crate::ids::{ShardId, Slot, TransferId};
use crate::ledger::history::record::HistoryPosition;
use crate::ledger::history::{Dropped, Generation};
use crate::ledger::rules::ulid_ms;
use crate::limits::KEEP_STRETCHES;
use crate::planted::{Bug, planted};
use crate::table::hash128;
use crate::time::{MS, Timestamp};

/// Rows that are dropped together.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stretch {
    /// Of the first row.
    first: HistoryPosition,
    /// At which its last checkpoint was begun.
    slot: Slot,
    /// The highest own time of an id.
    id_ms_max: u64,
    /// When the first and the last row took effect.
    applied_first: Timestamp,
    applied_last: Timestamp,
    /// The newest commit towards each participant.
    commits: BTreeMap<ShardId, Timestamp>,
}

/// What is kept, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Retention {
    keep_ns: u64,
    /// The newest commit towards each participant since the last checkpoint.
    commits: BTreeMap<ShardId, Timestamp>,
    /// Acknowledgement watermarks: up to when nothing that was prepared at the shard is in doubt.
    acknowledged: BTreeMap<ShardId, Timestamp>,
    /// All rows that were checkpointed and are kept, oldest first.
    stretches: VecDeque<Stretch>,
}

impl Retention {
    pub fn new(keep_ns: u64) -> Self {
        Self {
            keep_ns,
            commits: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            stretches: VecDeque::new(),
        }
    }

    /// Whether an id's own time lies below the horizon of an entry at `now`.
    pub fn is_too_old(&self, id: TransferId, now: Timestamp) -> bool {
        ulid_ms(id) < self.horizon(now).0 / MS
    }

    /// A transfer was committed that `participant` has prepared.
    pub fn commits(&mut self, participant: ShardId, commit_ts: Timestamp) {
        self.commits.insert(participant, commit_ts);
    }

    /// Nothing that `participant` has prepared up to `upto` is in doubt there.
    pub fn acknowledge(&mut self, participant: ShardId, upto: Timestamp) {
        let acknowledged = self.acknowledged.entry(participant).or_default();
        *acknowledged = upto.max(*acknowledged);
    }

    /// Whether an acknowledgement up to `upto` would let something go that is held back.
    pub fn waits_for(&self, participant: ShardId, upto: Timestamp) -> bool {
        let known = self.acknowledged_upto(participant);
        let commits = |stretch: &Stretch| stretch.commits.get(&participant).copied();
        self.stretches
            .iter()
            .filter_map(commits)
            .any(|commit_ts| known < commit_ts && commit_ts <= upto)
    }

    /// A checkpoint begins in `slot`, at `now`, and writes the rows of `frozen`: what is dropped with it.
    pub fn checkpoint(
        &mut self,
        slot: Slot,
        now: Timestamp,
        frozen: &Generation,
    ) -> Option<Dropped> {
        let mut dropped = None;
        while let Some(oldest) = self.stretches.front()
            && (self.may_go(oldest, now) || planted(Bug::DropsNeededRows))
        {
            dropped = Some(oldest.slot);
            self.stretches.pop_front();
        }
        // What this one writes is not in the store yet.
        let oldest = self.stretches.front().map(|stretch| stretch.first);
        let from = oldest.unwrap_or(frozen.first());
        self.add(slot, frozen);
        dropped.map(|slot| Dropped { from, slot })
    }

    fn may_go(&self, stretch: &Stretch, now: Timestamp) -> bool {
        let horizon = self.horizon(now);
        let is_acknowledged = |(shard, commit_ts): (&ShardId, &Timestamp)| {
            *commit_ts <= self.acknowledged_upto(*shard)
        };
        stretch.id_ms_max < horizon.0 / MS
            && stretch.applied_last < horizon
            && stretch.commits.iter().all(is_acknowledged)
    }

    /// So short that little is kept for longer than it has to be, and so long that there are few.
    fn add(&mut self, slot: Slot, frozen: &Generation) {
        let commits = core::mem::take(&mut self.commits);
        let Some((first, last)) = frozen.first_and_last() else {
            assert!(commits.is_empty(), "a commit has a row");
            return;
        };
        let (applied_first, applied_last) = (first.applied_ts, last.applied_ts);
        let id_ms_max = ulid_ms(TransferId(frozen.id_max()));
        if let Some(newest) = self.stretches.back_mut()
            && applied_last.0.saturating_sub(newest.applied_first.0) < self.keep_ns / KEEP_STRETCHES
        {
            newest.slot = slot;
            newest.id_ms_max = newest.id_ms_max.max(id_ms_max);
            newest.applied_last = applied_last;
            newest.commits.extend(commits);
            return;
        }
        self.stretches.push_back(Stretch {
            first: frozen.first(),
            slot,
            id_ms_max,
            applied_first,
            applied_last,
            commits,
        });
    }

    fn horizon(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_sub(self.keep_ns))
    }

    fn acknowledged_upto(&self, participant: ShardId) -> Timestamp {
        let known = self.acknowledged.get(&participant);
        known.copied().unwrap_or(Timestamp::ZERO)
    }

    /// Of what entries alone say. The stretches follow from it and from where checkpoints are; they are in
    /// the hash of the side tables.
    pub fn digest(&self) -> u128 {
        let rows = self.acknowledged.iter();
        rows.fold(0, |sum: u128, (shard, upto)| {
            let words = [u64::from(shard.0), upto.0];
            sum.wrapping_add(hash128(words.as_bytes()).rotate_left(7))
        })
    }

    /// As of the beginning of a checkpoint.
    ///
    /// ```text
    /// acknowledged: count u32, per shard: shard u32, upto u64
    /// stretches: count u32, each: first u64, slot u64, id ms u64, applied first u64, applied last u64,
    ///            commits: count u32, per shard: shard u32, commit u64
    /// ```
    pub fn encode(&self, out: &mut Encoder) {
        assert!(self.commits.is_empty(), "a checkpoint has taken them");
        encode_times(&self.acknowledged, out);
        out.count(self.stretches.len());
        for stretch in &self.stretches {
            out.put(&stretch.first.0);
            out.put(&stretch.slot);
            out.put(&stretch.id_ms_max);
            out.put(&stretch.applied_first);
            out.put(&stretch.applied_last);
            encode_times(&stretch.commits, out);
        }
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(&mut self, from: &mut Decoder<'_>) -> Result<(), RestoreError> {
        self.acknowledged = decode_times(from)?;
        for _ in 0..from.count("stretches of history", 44)? {
            let stretch = Stretch {
                first: HistoryPosition(from.take("stretch of history")?),
                slot: from.take("stretch of history")?,
                id_ms_max: from.take("stretch of history")?,
                applied_first: from.take("stretch of history")?,
                applied_last: from.take("stretch of history")?,
                commits: decode_times(from)?,
            };
            self.stretches.push_back(stretch);
        }
        Ok(())
    }
}

fn encode_times(times: &BTreeMap<ShardId, Timestamp>, out: &mut Encoder) {
    out.count(times.len());
    for (shard, time) in times {
        out.put(shard);
        out.put(time);
    }
}

fn decode_times(from: &mut Decoder<'_>) -> Result<BTreeMap<ShardId, Timestamp>, RestoreError> {
    let count = from.count("times of shards", 12)?;
    (0..count)
        .map(|_| Ok((from.take("times of shards")?, from.take("times of shards")?)))
        .collect()
}
