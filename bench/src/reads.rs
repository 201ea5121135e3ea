//! The read share of a load: which of a batch's operations look at accounts instead of paying.
//!
//! Which accounts are read is drawn as payments are, from streams of their own: what is paid does not depend on the
//! share of reads, only how much of it.

use rand::{RngExt, SeedableRng};

use quorate_protocol::ids::AccountId;
use quorate_protocol::shard::map::splitmix64;

use crate::feed::Feed;
use crate::workload::{Draw, Stream};

/// Tells these random numbers of a seed from its payments'.
const READS: u64 = 0x7265_6164_7300;

/// What is read of a drawn pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The account that would pay.
    Debit,
    /// Both: those of one customer.
    Both,
}

/// The reads of all clients.
#[derive(Debug)]
pub struct Reads {
    share: f64,
    look: Look,
    pairs: Feed,
    stream: Stream,
}

impl Reads {
    /// `share` of the operations read what `look` says of the pairs of `pairs`.
    ///
    /// # Panics
    /// If the share is outside `0..=1`.
    #[must_use]
    pub fn new(share: f64, look: Look, pairs: Feed, seed: u64) -> Self {
        assert!((0.0..=1.0).contains(&share));
        Self {
            share,
            look,
            pairs,
            stream: Stream::seed_from_u64(splitmix64(seed) ^ READS),
        }
    }

    /// How many of `count` operations read, and the accounts that they look at.
    pub fn take(
        &mut self,
        client: usize,
        count: usize,
        intended_ns: u64,
    ) -> (usize, Vec<AccountId>) {
        let reads = (0..count)
            .filter(|_| self.stream.random_bool(self.share))
            .count();
        let pairs = self.pairs.take(client, reads, intended_ns);
        let accounts = pairs.iter().flat_map(|draw| match self.look {
            Look::Debit => vec![draw.debit],
            Look::Both => vec![draw.debit, draw.credit],
        });
        (reads, accounts.collect())
    }
}

/// What the clients of a load do.
#[derive(Debug)]
pub struct Operations {
    payments: Feed,
    reads: Option<Reads>,
}

/// The operations of one batch.
#[derive(Debug, Default)]
pub struct Batch {
    pub payments: Vec<Draw>,
    /// Accounts to look at.
    pub reads: Vec<AccountId>,
}

impl Operations {
    /// Payments, and perhaps reads among them.
    #[must_use]
    pub fn new(payments: Feed, reads: Option<Reads>) -> Self {
        Self { payments, reads }
    }

    /// The next `count` operations of `client`, fewer at the end of a list.
    pub fn take(&mut self, client: usize, count: usize, intended_ns: u64) -> Batch {
        let (read, reads) = match &mut self.reads {
            None => (0, Vec::new()),
            Some(reads) => reads.take(client, count, intended_ns),
        };
        Batch {
            payments: self.payments.take(client, count - read, intended_ns),
            reads,
        }
    }

    /// Nothing is left.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.payments.is_exhausted()
    }

    /// Whether every payment has to take effect.
    #[must_use]
    pub fn is_replay(&self) -> bool {
        self.payments.is_replay()
    }
}

impl From<Feed> for Operations {
    fn from(payments: Feed) -> Self {
        Self::new(payments, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Payments, Shape, Uniform};
    use std::sync::Arc;

    fn reads(share: f64, look: Look) -> Reads {
        let shape = Arc::new(Shape::Uniform(Uniform::new(100)));
        let pairs = Feed::Endless(vec![Payments::new(shape, None, 7, 0)]);
        Reads::new(share, look, pairs, 7)
    }

    #[test]
    fn the_share_is_kept_and_ends_are_exact() {
        let (mut some, mut looked_at) = (0, 0);
        let mut quarter = reads(0.25, Look::Both);
        for _ in 0..1_000 {
            let (count, accounts) = quarter.take(0, 40, 0);
            some += count;
            looked_at += accounts.len();
        }
        // 10,000 with a standard deviation of 87.
        assert!((9_500..10_500).contains(&some), "{some}");
        assert_eq!(looked_at, 2 * some);
        assert_eq!(reads(0.0, Look::Debit).take(0, 40, 0), (0, vec![]));
        let (all, accounts) = reads(1.0, Look::Debit).take(0, 40, 0);
        assert_eq!((all, accounts.len()), (40, 40));
    }
}
