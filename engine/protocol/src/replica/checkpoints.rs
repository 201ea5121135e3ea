//! Checkpoints beside traffic: when one begins, how it goes on, what its end releases.
//!
//! ```text
//! entries weigh enough -> begin (state frozen as of this slot)
//!   part -> CheckpointRoom -> part -> ... -> End -> CheckpointDurable -> the log is released
//! ```
//!
//! The slot at which one begins follows from the log alone ([`checkpoint::due_weight`]). So if the one before is still being
//! written by then, apply waits for it: what is frozen is bounded, and replicas stay alike.

use crate::checkpoint;
use crate::limits::KEPT_FOR_MEMBERS;
use crate::output::Output;
use crate::planted::{Bug, planted};
use crate::replica::Replica;

/// How far the checkpoint under way is.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    /// Its last part was given out.
    is_given: bool,
    /// The store has room for a part.
    has_room: bool,
    /// What the entries weigh that it is the first to cover.
    weight: u64,
}

impl Replica {
    /// Whether the next entry has to wait: a checkpoint is due before it, and one is under way.
    pub(super) fn checkpoint_holds_apply(&self) -> bool {
        self.is_checkpoint_due() && self.ledger.is_checkpoint_open()
    }

    /// Begins a checkpoint if the entries so far weigh enough.
    pub(super) fn begin_checkpoint_if_due(&mut self) {
        if self.is_checkpoint_due() && !self.ledger.is_checkpoint_open() {
            self.checkpoints.weight = self.ledger.weight();
            self.ledger.begin_checkpoint();
            self.checkpoints.is_given = false;
            self.give_part();
            if planted(Bug::LogReleasedEarly) {
                let below = self.ledger.applied().next();
                self.outputs.push_back(Output::ReleaseLog { below });
            }
        }
    }

    fn is_checkpoint_due(&self) -> bool {
        let due = self.due_weight();
        due.is_some_and(|due| self.ledger.weight() >= due)
    }

    fn due_weight(&self) -> Option<u64> {
        let most = self.config.checkpoint_weight?;
        let (number, bytes) = (self.ledger.checkpoint(), self.ledger.rewritten_bytes());
        Some(checkpoint::due_weight(most, number, bytes))
    }

    /// Of the interval that began with the checkpoint under way, the thousandths that have passed, by the weight of
    /// entries, and what the interval weighs in bytes; `None` if no checkpoint is under way.
    #[must_use]
    pub fn checkpoint_passed(&self) -> Option<(u32, u64)> {
        let due = self.due_weight().filter(|due| *due > 0)?;
        let passed = u128::from(self.ledger.weight()) * 1_000 / u128::from(due);
        let passed = u32::try_from(passed).unwrap_or(u32::MAX).min(1_000);
        self.ledger.is_checkpoint_open().then_some((passed, due))
    }

    /// There is room for the next part.
    pub(super) fn on_checkpoint_room(&mut self) {
        self.checkpoints.has_room = true;
        self.go_on_with_checkpoint();
    }

    /// Gives out a part if there is room. A replay comes first, unless the next checkpoint is due in it.
    pub(super) fn go_on_with_checkpoint(&mut self) {
        let may_wait = self.consensus.is_replaying() && !self.checkpoint_holds_apply();
        if self.checkpoints.has_room
            && self.ledger.is_checkpoint_open()
            && !self.checkpoints.is_given
            && !may_wait
        {
            self.give_part();
        }
    }

    fn give_part(&mut self) {
        self.checkpoints.has_room = false;
        match self.ledger.next_part() {
            Some(part) => self.outputs.push_back(Output::Checkpoint(part)),
            None => self.checkpoints.is_given = true,
        }
    }

    /// The store holds checkpoint `number` for good.
    pub(super) fn on_checkpoint_durable(&mut self, number: u64) {
        assert_eq!(number, self.ledger.checkpoint(), "the checkpoint under way");
        let slot = self.ledger.end_checkpoint();
        let kept = self.config.checkpoint_weight.unwrap_or(0);
        let kept_max = match self.is_room_ample && !self.is_disk_full {
            true => kept * KEPT_FOR_MEMBERS,
            false => kept,
        };
        self.consensus
            .on_checkpoint(slot, self.checkpoints.weight, kept, kept_max);
    }
}
