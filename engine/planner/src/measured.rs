//! What a plan on a trace reports of its map: figures, hubs, moves and the map itself.

use std::collections::BTreeMap;

use quorate_protocol::ids::{AccountId, ShardId};

use crate::candidate::LIMITS;
use crate::error::PlanError;
use crate::graph::InteractionGraph;
use crate::numbered::Numbered;
use crate::outcome::Measured;
use crate::plan::Method;
use crate::refine::load_max;
use crate::score::{Score, ratio};
use crate::{hubs, outcome};

/// A map of a trace's accounts with the transfers that it is about. Parts are 0-based, one for each
/// account of the trace.
pub(crate) struct Mapped<'a> {
    pub method: Method,
    /// Transfers that made the map. Hubs, moves and the figures in sample are theirs.
    pub planned_on: &'a [(u32, u32)],
    pub parts: &'a [u32],
    /// Transfers of the backtest.
    pub scored_on: &'a [(u32, u32)],
    /// Where the accounts were when the backtest happened.
    pub scored_parts: &'a [u32],
    pub backtest: Score,
    /// Whether accounts without a history were placed, too.
    pub places_all: bool,
}

impl Mapped<'_> {
    /// Everything that the document says of the map; accounts move there from their hash homes.
    ///
    /// # Errors
    /// As [`InteractionGraph::from_pairs`].
    pub fn measured(self, numbered: &Numbered) -> Result<Measured, PlanError> {
        let shards = numbered.shards as usize;
        // Hubs and moves are about transfers as they were, not about their weight by age.
        let graph = numbered.graph(self.planned_on, |_, _| 1)?;
        let planned = numbered.parts_of(&graph, self.parts);
        let hubs = hubs::hubs(&graph, shards);
        let load_max = load_max(&graph, shards, LIMITS.load);
        let mut accounts = vec![0; shards];
        for &part in self.parts {
            accounts[part as usize] += 1;
        }
        Ok(Measured {
            method: self.method,
            in_sample: Score::of(self.planned_on, self.parts, numbered.shards),
            accounts,
            moves: outcome::moves(&graph, &numbered.parts_of(&graph, &numbered.home), &planned),
            hubs: hubs::report(&graph, &hubs, &planned),
            hub_floor: hubs::floor(&graph, &hubs, load_max),
            hubs_striped: Some(self.striped(numbered, &graph, &hubs)),
            map: self.map(numbered, &graph),
            backtest: self.backtest,
        })
    }

    /// The ratio of the backtest if crediting a hub were local everywhere.
    fn striped(&self, numbered: &Numbered, graph: &InteractionGraph, hubs: &[usize]) -> f64 {
        let mut is_hub = vec![false; numbered.accounts().len()];
        for &v in hubs {
            is_hub[numbered.number(graph.accounts()[v])] = true;
        }
        let parts = self.scored_parts;
        let cross = (self.scored_on.iter())
            .filter(|&&(a, b)| parts[a as usize] != parts[b as usize])
            .filter(|&&(_, credit)| !is_hub[credit as usize])
            .count();
        ratio(cross as u64, self.scored_on.len() as u64)
    }

    /// Every account that was placed: those with a history, and by first touch the others.
    fn map(&self, numbered: &Numbered, graph: &InteractionGraph) -> BTreeMap<AccountId, ShardId> {
        (numbered.accounts().iter().zip(self.parts))
            .filter(|(id, _)| self.places_all || graph.vertex(**id).is_some())
            .map(|(&id, &part)| (id, ShardId(part + 1)))
            .collect()
    }
}
