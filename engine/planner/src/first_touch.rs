//! First-touch placement: a new account goes to the shard of its first counterparty.
//!
//! On a growing graph most of the saving comes from here, not from the partitioner: an account
//! without history is usually paid by somebody who has one. A cap on the load keeps a popular shard
//! from swallowing everything: above it the account goes to the least loaded shard instead.
//!
//! An account busier than the cap makes its shard the busiest whatever else is put there. Then its
//! own load is the cap: turning its customers away would cost cross-shard transfers and balance
//! nothing.

use crate::graph::InteractionGraph;
use crate::score::float;

/// What a transfer of the history counts, against a new one, for the load cap: above 1, so that a
/// short burst on one shard does not scatter the accounts that it brings.
const HISTORY_LOAD: f64 = 1.5;

/// Places accounts online. It sees one transfer at a time and never looks ahead.
#[derive(Clone, Debug)]
pub struct FirstTouch {
    /// Share of all load above which a part takes no new account.
    share_max: f64,
    loads: Vec<u64>,
    touches: u64,
    /// Touches that the cap is a share of, if there have been fewer.
    expected: u64,
}

impl FirstTouch {
    /// A placer over parts with the given load so far. `cap` is the load over the average above
    /// which a part takes no new account, unless `heaviest_share`, the largest share of all load
    /// that one account has, is more than that.
    ///
    /// # Panics
    /// If there are no parts.
    #[must_use]
    pub fn new(cap: f64, loads: Vec<u64>, heaviest_share: f64) -> Self {
        assert!(!loads.is_empty());
        let touches: u64 = loads.iter().sum();
        Self {
            share_max: (cap / float(loads.len() as u64)).max(heaviest_share),
            loads,
            touches,
            expected: 0,
        }
    }

    /// The same where it is known how many touches there will be: the cap is a share of them all. Otherwise it is a share
    /// of what has been so far, and the first few transfers of a cluster without history would be scattered.
    #[must_use]
    pub fn expecting(self, touches: u64) -> Self {
        Self {
            expected: touches,
            ..self
        }
    }

    /// A placer that goes on after a history: `parts` of the vertices of its graph, which holds as
    /// much as `transfers` new ones.
    ///
    /// # Panics
    /// If a part is not below `shards`, or there are no shards.
    #[must_use]
    pub fn after(
        graph: &InteractionGraph,
        parts: &[u32],
        shards: u32,
        transfers: f64,
        cap: f64,
    ) -> Self {
        let mut loads = vec![0; shards as usize];
        for (&part, &load) in parts.iter().zip(graph.loads()) {
            loads[part as usize] += load;
        }
        let all = float(2 * graph.total());
        let scale = HISTORY_LOAD * 2.0 * transfers / all;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of touches"
        )]
        let loads = loads
            .iter()
            .map(|&load| (float(load) * scale) as u64)
            .collect();
        let heaviest = graph.loads().iter().max().copied().unwrap_or(0);
        Self::new(cap, loads, float(heaviest) / all)
    }

    /// Lets numbered accounts transfer in order; those that have no part yet are placed.
    pub fn place(&mut self, transfers: &[(u32, u32)], known: &mut [Option<u32>]) {
        for &(a, b) in transfers {
            let (a, b) = (a as usize, b as usize);
            let placed = self.touch(known[a], known[b]);
            (known[a], known[b]) = (Some(placed.0), Some(placed.1));
        }
    }

    /// Places the two accounts of a transfer, of which one or both may have no part yet, and counts
    /// the transfer.
    pub fn touch(&mut self, a: Option<u32>, b: Option<u32>) -> (u32, u32) {
        let placed = match (a, b) {
            (Some(a), Some(b)) => (a, b),
            (Some(a), None) => (a, self.near(a)),
            (None, Some(b)) => (self.near(b), b),
            (None, None) => {
                let least = self.least_loaded();
                (least, least)
            }
        };
        for part in [placed.0, placed.1] {
            self.loads[part as usize] += 1;
        }
        self.touches += 2;
        placed
    }

    /// The part for a new account whose first counterparty is on `part`.
    fn near(&self, part: u32) -> u32 {
        let allowed = self.share_max * float(self.touches.max(self.expected));
        if float(self.loads[part as usize]) <= allowed {
            part
        } else {
            self.least_loaded()
        }
    }

    /// The first of the least loaded parts.
    fn least_loaded(&self) -> u32 {
        let least = self.loads.iter().enumerate().min_by_key(|&(_, load)| load);
        let (part, _) = least.expect("there are parts");
        u32::try_from(part).expect("parts are counted in 32 bits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_account_follows_its_counterparty_until_the_cap() {
        let mut placer = FirstTouch::new(1.1, vec![50, 50], 0.0);
        assert_eq!(placer.touch(Some(0), None), (0, 0)); // 52 of 102
        assert_eq!(placer.touch(None, Some(0)), (0, 0)); // 54 of 104
        assert_eq!(placer.touch(Some(0), None), (0, 0)); // 56 of 106
        assert_eq!(placer.touch(Some(0), None), (0, 0)); // 58 of 108
        assert_eq!(placer.touch(Some(0), None), (0, 0)); // 60 of 110
        assert_eq!(placer.touch(Some(0), None), (0, 0)); // 62 of 112, above 0.55 of it
        assert_eq!(placer.touch(Some(0), None), (0, 1));
    }

    #[test]
    fn two_new_accounts_share_the_least_loaded_shard() {
        let mut placer = FirstTouch::new(1.1, vec![9, 4, 4], 0.0);
        assert_eq!(placer.touch(None, None), (1, 1));
        assert_eq!(placer.touch(None, None), (2, 2));
    }

    #[test]
    fn the_shard_of_a_hub_beyond_the_cap_still_takes_its_customers() {
        let loads = vec![70, 30];
        assert_eq!(
            FirstTouch::new(1.1, loads.clone(), 0.2).touch(Some(0), None),
            (0, 1)
        );
        assert_eq!(
            FirstTouch::new(1.1, loads, 0.7).touch(Some(0), None),
            (0, 0)
        );
    }
}
