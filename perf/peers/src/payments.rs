//! Who pays whom: the generator of `quorate-bench run --workload uniform`, client by client.
//!
//! For transfers between two instances, accounts lie where Quorate's hash placement would put them
//! with two shards, and every payment crosses. A payment's id is this module's own: a client's
//! number and a counter, since the peers need no more than that it is new.

use std::sync::Arc;

use quorate_bench::workload::{CrossMix, Payments, Shape, Uniform};
use quorate_protocol::ids::AccountId;
use quorate_protocol::shard::map::Placement;

/// Instances that take part in transfers across shards.
pub const INSTANCES: u32 = 2;
/// Bits of an id below the client's number: more payments than any run makes.
const COUNTER_BITS: u32 = 40;

/// Whether a payment stays within one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Local,
    /// Every payment is from one instance to the other.
    Cross,
}

/// What fixes the payments of a run.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    pub kind: Kind,
    /// Accounts `1..=accounts`.
    pub accounts: u32,
    pub seed: u64,
}

/// A payment as the peers store it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payment {
    pub id: i64,
    pub debit: i64,
    pub credit: i64,
    /// In the ledger's smallest unit.
    pub amount: i64,
}

impl Work {
    /// The endless payments of `client`.
    pub fn payments(&self, client: u32) -> impl Iterator<Item = Payment> + use<> {
        let shape = Arc::new(Shape::Uniform(Uniform::new(self.accounts)));
        let mix = match self.kind {
            Kind::Local => None,
            Kind::Cross => Some(Arc::new(self.mix())),
        };
        let draws = Payments::new(shape, mix, self.seed, u64::from(client));
        let first = i64::from(client) << COUNTER_BITS;
        (first + 1..).zip(draws).map(|(id, draw)| Payment {
            id,
            debit: small(draw.debit.0),
            credit: small(draw.credit.0),
            amount: small(draw.amount),
        })
    }

    /// # Panics
    /// Never: accounts 1 and 2, which every load has, lie on different instances.
    fn mix(&self) -> CrossMix {
        CrossMix::new(1.0, self.accounts, Placement::Hash, INSTANCES)
            .expect("accounts 1 and 2 lie on different instances")
    }
}

/// The instance of `account`, from 0, by the placement of a Quorate cluster of two shards.
#[must_use]
pub fn instance_of(account: i64) -> usize {
    let account = AccountId(u128::try_from(account).expect("accounts count from 1"));
    let shard = Placement::Hash.home(account, INSTANCES);
    usize::try_from(shard.0 - 1).expect("a u32 fits a usize")
}

/// Accounts of a workload are u32, amounts at most 100.
fn small(number: u128) -> i64 {
    i64::try_from(number).expect("accounts and amounts are small")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const LOCAL: Work = Work {
        kind: Kind::Local,
        accounts: 10_000,
        seed: 1,
    };

    /// Another stream would make the figures those of another load.
    #[test]
    fn local_payments_are_those_of_the_load_generator() {
        let shape = Arc::new(Shape::Uniform(Uniform::new(10_000)));
        for client in [0, 3] {
            let theirs = Payments::new(Arc::clone(&shape), None, 1, u64::from(client));
            for (ours, draw) in LOCAL.payments(client).zip(theirs).take(1_000) {
                let drawn = (draw.debit.0, draw.credit.0, draw.amount);
                assert_eq!((ours.debit, ours.credit, ours.amount), {
                    (small(drawn.0), small(drawn.1), small(drawn.2))
                });
            }
        }
    }

    #[test]
    fn cross_payments_have_a_side_on_each_instance() {
        let work = Work {
            kind: Kind::Cross,
            ..LOCAL
        };
        let mut debits = [0_u32; 2];
        for payment in work.payments(5).take(2_000) {
            assert_ne!(instance_of(payment.debit), instance_of(payment.credit));
            debits[instance_of(payment.debit)] += 1;
        }
        assert!(debits.iter().all(|&n| n > 850), "{debits:?}");
    }

    #[test]
    fn ids_of_clients_do_not_meet() {
        let ids: BTreeSet<i64> = (0..8)
            .flat_map(|client| LOCAL.payments(client).take(500))
            .map(|payment| payment.id)
            .collect();
        assert_eq!(ids.len(), 4_000);
    }

    #[test]
    fn the_smallest_load_can_cross() {
        let work = Work {
            kind: Kind::Cross,
            accounts: 2,
            seed: 1,
        };
        let payments: Vec<Payment> = work.payments(0).take(50).collect();
        let sides: BTreeSet<usize> = payments.iter().map(|p| instance_of(p.debit)).collect();
        assert_eq!(sides.len(), 2);
    }
}
