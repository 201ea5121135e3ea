//! A map that follows the traffic of a trace: new accounts are placed as they come, and between
//! epochs the map is updated on what is remembered.
//!
//! It only ever knows transfers that have happened: an epoch is let happen, and scored, before the
//! history that makes the next update contains it. What to compare is the caller's.

use crate::candidate::{Problem, candidate};
use crate::decay::DecayedHistory;
use crate::error::PlanError;
use crate::first_touch::FirstTouch;
use crate::graph::InteractionGraph;
use crate::numbered::Numbered;
use crate::plan::Method;
use crate::score::Score;

/// Most accounts that an update within the budget moves, in percent of those that are known: what a
/// cluster can move between epochs beside its traffic.
pub const MOVES_MAX_PERCENT: u32 = 5;

/// How a map is updated between epochs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Update {
    /// METIS anew, relabelled to the map as it is; a graph too small for METIS by single moves.
    FromScratch,
    /// Single moves from the map as it is, highest gain first, until the budget is used up.
    WithinBudget,
}

/// Where the accounts of a trace are, as far as they have been seen.
#[derive(Clone, Debug)]
pub(crate) struct MovingMap {
    /// Part of each account by number, 0-based.
    parts: Vec<Option<u32>>,
    shards: u32,
}

impl MovingMap {
    /// Nobody has been seen yet.
    pub fn new(numbered: &Numbered) -> Self {
        Self {
            parts: vec![None; numbered.accounts().len()],
            shards: numbered.shards,
        }
    }

    /// Accounts that have been seen.
    pub fn accounts(&self) -> u64 {
        self.parts.iter().flatten().count() as u64
    }

    /// Part of every account of the trace; those that have not been seen are at their hash homes.
    pub fn parts(&self, numbered: &Numbered) -> Vec<u32> {
        numbered.or_home(&self.parts)
    }

    /// Places new accounts by first touch; `history` is what made the map, `graph` its graph.
    pub fn placer(
        &self,
        numbered: &Numbered,
        history: &DecayedHistory,
        graph: &InteractionGraph,
        cap: f64,
    ) -> FirstTouch {
        let parts = self.parts_of(numbered, graph);
        FirstTouch::after(graph, &parts, self.shards, history.transfers(), cap)
    }

    /// Lets an epoch happen and scores it. Accounts that have not been seen are placed by `placer`,
    /// one transfer after the other, or without one at their hash homes.
    pub fn happen(
        &mut self,
        numbered: &Numbered,
        epoch: &[(u32, u32)],
        placer: Option<FirstTouch>,
    ) -> Score {
        if let Some(mut placer) = placer {
            placer.place(epoch, &mut self.parts);
        } else {
            for account in epoch.iter().flat_map(|&(a, b)| [a as usize, b as usize]) {
                self.parts[account].get_or_insert(numbered.home[account]);
            }
        }
        let mut score = Score::new(self.shards);
        let part = |account: u32| self.parts[account as usize].expect("placed above");
        for &(a, b) in epoch {
            score.count(part(a), part(b), 1);
        }
        score
    }

    /// Changes the map by what `graph` remembers, and returns the number of accounts that moved. A
    /// graph with no more accounts than shards changes nothing.
    ///
    /// # Errors
    /// METIS fails.
    pub fn update(
        &mut self,
        numbered: &Numbered,
        graph: &InteractionGraph,
        update: Update,
        seed: u64,
    ) -> Result<u64, PlanError> {
        let current = self.parts_of(numbered, graph);
        let mut idle = vec![0; self.shards as usize];
        for &part in self.parts.iter().flatten() {
            idle[part as usize] += 1;
        }
        for &part in &current {
            idle[part as usize] -= 1;
        }
        let problem = Problem {
            graph,
            current,
            idle,
            moves_max: match update {
                Update::FromScratch => usize::MAX,
                Update::WithinBudget => self.budget(),
            },
            seed,
        };
        let found = match update {
            Update::FromScratch => candidate(&problem, Method::Metis)?,
            Update::WithinBudget => None,
        };
        let found = match found {
            Some(found) => Some(found),
            None => candidate(&problem, Method::WarmStart)?,
        };
        let mut moves = 0;
        for (number, part) in numbered
            .numbers(graph)
            .zip(found.into_iter().flat_map(|found| found.parts))
        {
            moves += u64::from(self.parts[number] != Some(part));
            self.parts[number] = Some(part);
        }
        Ok(moves)
    }

    /// Moves that an update may make.
    fn budget(&self) -> usize {
        let moves = self.accounts() * u64::from(MOVES_MAX_PERCENT) / 100;
        usize::try_from(moves).expect("at most the length of a list")
    }

    /// Parts of a graph's vertices, all of which have been seen.
    fn parts_of(&self, numbered: &Numbered, graph: &InteractionGraph) -> Vec<u32> {
        let part = |number: usize| self.parts[number].expect("its transfers have happened");
        numbered.numbers(graph).map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::ids::AccountId;

    use super::*;
    use crate::trace::{Trace, TraceTransfer};

    /// Rings of 50 accounts each, every account paying the next one once; 4 shards.
    fn rings(count: u32) -> Numbered {
        let id = |ring: u32, i: u32| AccountId(u128::from(1 + ring * 50 + i % 50));
        let transfer = |i: u32| TraceTransfer {
            timestamp: 0.0,
            debit: id(i / 50, i % 50),
            credit: id(i / 50, i % 50 + 1),
            amount: 1,
        };
        let transfers = (0..count * 50).map(transfer).collect();
        Numbered::new(&Trace::new(transfers).unwrap(), 4)
    }

    #[test]
    fn an_update_within_the_budget_moves_as_much_as_it_says_and_no_more() {
        let numbered = rings(12);
        let mut map = MovingMap::new(&numbered);
        let before = map.happen(&numbered, &numbered.transfers, None);
        assert_eq!(map.parts(&numbered), numbered.home);
        let mut history = DecayedHistory::default();
        history.add(&numbered.transfers);
        let graph = history.graph(&numbered).unwrap();
        let moves = map
            .update(&numbered, &graph, Update::WithinBudget, 1)
            .unwrap();
        let moved = map.parts(&numbered);
        let counted = moved.iter().zip(&numbered.home).filter(|(a, b)| a != b);
        assert_eq!(moves, counted.count() as u64);
        assert!((1..=30).contains(&moves), "{moves} of 600");
        let after = map.happen(&numbered, &numbered.transfers, None);
        assert!(after.cross_shard_ratio() < before.cross_shard_ratio());
    }

    #[test]
    fn from_scratch_a_map_cuts_nothing_and_made_again_moves_nobody() {
        let numbered = rings(12);
        let mut map = MovingMap::new(&numbered);
        map.happen(&numbered, &numbered.transfers, None);
        let mut history = DecayedHistory::default();
        history.add(&numbered.transfers);
        let graph = history.graph(&numbered).unwrap();
        let update = |map: &mut MovingMap| {
            map.update(&numbered, &graph, Update::FromScratch, 1)
                .unwrap()
        };
        assert!(update(&mut map) > 300);
        let placer = map.placer(&numbered, &history, &graph, 1.1);
        let score = map.happen(&numbered, &numbered.transfers, Some(placer));
        assert_eq!(score.cross_shard_ratio().to_bits(), 0.0_f64.to_bits());
        // The same graph and seed: the same parts, which relabelling names as they were.
        assert_eq!(update(&mut map), 0);
    }
}
