//! What a leader knows of its followers, and what it sends to whom at once.
//!
//! | follower | what is proposed |
//! | --- | --- |
//! | within its window | goes to it at once |
//! | further behind | would be refused: it catches up first, which all that room on its link is for |
//! | silent for as long as an election takes | waits until it is heard again |
//!
//! What waited goes out with the follower's next sign of life that shows it within its window, so that a
//! group that needs its vote waits for nothing else.

use super::catch_up::{QUESTION_SLOTS_MAX, QUESTIONS_MAX};
use crate::ids::Slot;
use crate::limits::{PIPELINE_MAX, WINDOW_MAX};

/// What the leader knows of a follower, from its heartbeat answers, votes and questions under this ballot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// The last heartbeat round answered.
    pub(super) round: u64,
    pub(super) chosen_upto: Slot,
    /// The highest slot that it voted for.
    voted_upto: Slot,
    pub(super) heard_ns: Option<u64>,
    /// Since when every answer came in time and was nearly up to date.
    pub(super) caught_up_since_ns: Option<u64>,
    /// Proposals were not sent to it.
    pub(super) is_owed: bool,
}

impl Progress {
    /// Whether the follower, as far as it has been heard, would take in the whole pipeline above
    /// `chosen_upto`. Who votes for what is proposed does; its next heartbeat answer, which alone says what it
    /// knows to be chosen, may be hundreds of slots away.
    pub(super) fn takes_in(&self, chosen_upto: Slot) -> bool {
        let heard_of = self.chosen_upto.max(self.voted_upto);
        self.heard_ns.is_none() || chosen_upto.0 + PIPELINE_MAX <= heard_of.0 + WINDOW_MAX
    }

    /// The follower voted for `slot`.
    pub(super) fn note_vote(&mut self, slot: Slot) {
        self.voted_upto = self.voted_upto.max(slot);
    }

    /// The follower asked for entries from `from` on: it has all before, but for what its other questions are
    /// for.
    pub(super) fn note_question(&mut self, from: Slot) {
        let others = (QUESTIONS_MAX - 1) * QUESTION_SLOTS_MAX;
        let has_upto = Slot(from.0.saturating_sub(1 + others as u64));
        self.chosen_upto = self.chosen_upto.max(has_upto);
    }
}
