//! Where the clients' payments come from: an endless stream each, or one recorded file for all.

use std::sync::Arc;

use quorate_planner::trace::Trace;

use crate::workload::{Draw, DriftingPayments, Payments};

/// The payments of one run.
#[derive(Debug)]
pub enum Feed {
    /// One stream per client, so that what a client pays does not depend on how fast others are.
    Endless(Vec<Payments>),
    /// The same, and who pays whom depends on the time.
    Drifting(DriftingPayments),
    /// All clients share one list.
    Replay(Replay),
}

impl Feed {
    /// The next payments of `client`, `count` of them unless the list ends; empty: nothing is left.
    /// They are meant to be sent at `intended_ns` since the start of the load.
    pub fn take(&mut self, client: usize, count: usize, intended_ns: u64) -> Vec<Draw> {
        match self {
            Self::Endless(streams) => streams[client].by_ref().take(count).collect(),
            Self::Drifting(payments) => payments.take(client, count, intended_ns),
            Self::Replay(replay) => replay.take(count),
        }
    }

    /// Nothing is left.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        match self {
            Self::Endless(_) | Self::Drifting(_) => false,
            Self::Replay(replay) => replay.is_exhausted(),
        }
    }

    /// Whether every payment has to take effect: then one that the cluster could not answer is sent
    /// again, with the same id.
    #[must_use]
    pub fn is_replay(&self) -> bool {
        matches!(self, Self::Replay(_))
    }
}

/// A recorded list in its order.
#[derive(Clone, Debug)]
pub struct Replay {
    draws: Arc<[Draw]>,
    next: usize,
    repeat: bool,
}

impl Replay {
    /// Every payment of the list once.
    #[must_use]
    pub fn once(draws: Arc<[Draw]>) -> Self {
        Self {
            draws,
            next: 0,
            repeat: false,
        }
    }

    /// The list over and over.
    #[must_use]
    pub fn repeated(draws: Arc<[Draw]>) -> Self {
        Self {
            draws,
            next: 0,
            repeat: true,
        }
    }

    fn take(&mut self, count: usize) -> Vec<Draw> {
        let rest = &self.draws[self.next..];
        let taken: Vec<Draw> = rest.iter().copied().take(count).collect();
        self.next += taken.len();
        if self.repeat && self.next == self.draws.len() {
            self.next = 0;
        }
        taken
    }

    fn is_exhausted(&self) -> bool {
        self.next == self.draws.len()
    }
}

/// The payments of a trace, oldest first.
#[must_use]
pub fn draws_of(trace: &Trace) -> Vec<Draw> {
    let draw = |transfer: &quorate_planner::trace::TraceTransfer| Draw {
        debit: transfer.debit,
        credit: transfer.credit,
        amount: u128::from(transfer.amount),
    };
    trace.transfers().iter().map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::ids::AccountId;

    fn list(length: u128) -> Arc<[Draw]> {
        let draw = |n| Draw {
            debit: AccountId(1),
            credit: AccountId(2),
            amount: n,
        };
        (1..=length).map(draw).collect()
    }

    #[test]
    fn a_replay_hands_out_every_payment_exactly_once_to_whoever_asks() {
        let mut feed = Feed::Replay(Replay::once(list(25)));
        let mut amounts = Vec::new();
        let mut client = 0;
        while !feed.is_exhausted() {
            amounts.extend(feed.take(client % 3, 4, 0).iter().map(|draw| draw.amount));
            client += 1;
        }
        assert_eq!(amounts, (1..=25).collect::<Vec<u128>>());
        assert!(feed.take(0, 4, 0).is_empty());
    }

    #[test]
    fn a_repeated_replay_starts_again() {
        let mut feed = Feed::Replay(Replay::repeated(list(3)));
        let amounts: Vec<u128> = (0..4)
            .flat_map(|_| feed.take(0, 2, 0))
            .map(|draw| draw.amount)
            .collect();
        assert_eq!(amounts, [1, 2, 3, 1, 2, 3]);
        assert!(!feed.is_exhausted());
    }
}
