//! Heartbeat rounds of one leadership: what they prove about reads.
//!
//! ```text
//! leader    sent(r) ------------------------------- lease ends at sent(r) + lease - drift
//!              \            / a quorum answered r
//! follower      heard(r) --------------------------- does not elect before heard(r) + election_min
//! ```
//!
//! A round proves two things once a quorum has answered it: nobody else led when it was sent (so
//! reads that arrived before may be answered from applied state), and nobody else will lead before
//! the lease has ended. The lease runs from the moment of *sending*, on the leader's own clock.
//! This file knows no messages; it counts.

use alloc::collections::VecDeque;

use crate::limits::{READ_ROUNDS_OPEN_MAX, ROUNDS_OPEN_MAX, Timing};

#[derive(Clone, Copy, Debug)]
struct Round {
    number: u64,
    sent_ns: u64,
}

#[derive(Debug)]
pub(super) struct Rounds {
    /// Sent and not confirmed, ascending.
    open: VecDeque<Round>,
    last: u64,
    confirmed: u64,
    /// When the newest confirmed round was sent.
    confirmed_sent_ns: Option<u64>,
    began_ns: u64,
    /// Reads wait for the round after `last`.
    wanted: bool,
}

impl Rounds {
    /// Rounds of one leadership are numbered after `last`, so that a number is never used twice.
    pub(super) fn new(last: u64, now_ns: u64) -> Self {
        Self {
            open: VecDeque::new(),
            last,
            confirmed: last,
            confirmed_sent_ns: None,
            began_ns: now_ns,
            wanted: false,
        }
    }

    /// The last round that a quorum answered.
    pub(super) fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// A round goes out now; its number.
    pub(super) fn send(&mut self, now_ns: u64) -> u64 {
        self.last += 1;
        self.wanted = false;
        if self.open.len() == ROUNDS_OPEN_MAX {
            self.open.pop_front();
        }
        self.open.push_back(Round {
            number: self.last,
            sent_ns: now_ns,
        });
        self.last
    }

    /// A quorum answered `round` (or a later one). True if a round should be sent for waiting reads.
    pub(super) fn confirm(&mut self, round: u64) -> bool {
        let round = round.min(self.last);
        while let Some(&Round { number, sent_ns }) = self.open.front()
            && number <= round
        {
            self.open.pop_front();
            self.confirmed = number;
            self.confirmed_sent_ns = Some(sent_ns);
        }
        self.wanted && self.open.len() < READ_ROUNDS_OPEN_MAX
    }

    /// The round that will cover reads arrived up to now, and whether it has to be sent at once.
    pub(super) fn cover_reads(&mut self) -> (u64, bool) {
        let send_now = !self.wanted && self.open.len() < READ_ROUNDS_OPEN_MAX;
        self.wanted = true;
        (self.last + 1, send_now)
    }

    /// Whether nobody else can lead at `now_ns`.
    pub(super) fn lease_holds(&self, now_ns: u64, timing: &Timing) -> bool {
        self.confirmed_sent_ns
            .is_some_and(|sent_ns| now_ns < sent_ns + (timing.lease_ns - timing.drift_ns))
    }

    /// When a leader without a further confirmed round has to step down.
    pub(super) fn quorum_lost_ns(&self, timing: &Timing) -> u64 {
        self.confirmed_sent_ns.unwrap_or(self.began_ns) + timing.election_max_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TIMING;
    use crate::time::MS;

    #[test]
    fn the_lease_runs_from_sending_not_from_the_answer() {
        let mut rounds = Rounds::new(0, 0);
        let sent_ns = 1_000 * MS;
        let round = rounds.send(sent_ns);
        assert!(!rounds.lease_holds(sent_ns, &TIMING));
        rounds.confirm(round);
        let end_ns = sent_ns + TIMING.lease_ns - TIMING.drift_ns;
        assert!(rounds.lease_holds(end_ns - 1, &TIMING));
        assert!(!rounds.lease_holds(end_ns, &TIMING));
    }

    #[test]
    fn a_round_covers_only_reads_that_came_before_it_was_sent() {
        let mut rounds = Rounds::new(7, 0);
        let (first, send_now) = rounds.cover_reads();
        assert_eq!((first, send_now), (8, true));
        assert_eq!(rounds.send(0), 8);
        let (second, _) = rounds.cover_reads();
        assert_eq!(second, 9, "round 8 has left already");
        assert_eq!(
            rounds.cover_reads(),
            (9, false),
            "both share the round to come"
        );
    }

    #[test]
    fn rounds_for_reads_are_bounded_and_the_next_follows_a_confirmation() {
        let mut rounds = Rounds::new(0, 0);
        for _ in 0..READ_ROUNDS_OPEN_MAX {
            assert!(rounds.cover_reads().1);
            rounds.send(0);
        }
        assert_eq!(rounds.cover_reads(), (5, false));
        assert!(rounds.confirm(1));
        assert_eq!(rounds.send(0), 5);
        assert!(!rounds.confirm(5));
        assert_eq!(rounds.confirmed(), 5);
    }

    #[test]
    fn an_answer_to_a_round_never_sent_proves_nothing() {
        let mut rounds = Rounds::new(0, 0);
        rounds.send(0);
        rounds.confirm(99);
        assert_eq!(rounds.confirmed(), 1);
        rounds.confirm(0);
        assert_eq!(rounds.confirmed(), 1);
    }
}
