//! A trace whose accounts are numbered, and graphs of parts of it.
//!
//! Numbers are dense and ascend with the ids: what is known of every account is a list by number,
//! and vertices of a graph come in the order of their numbers. Nothing here decides about shards.

use quorate_protocol::ids::AccountId;
use quorate_protocol::shard::map::Placement;

use crate::error::PlanError;
use crate::graph::InteractionGraph;
use crate::numbering::Numbering;
use crate::trace::{Trace, TraceTransfer};

/// The transfers of a trace by account number.
pub(crate) struct Numbered {
    numbering: Numbering,
    /// Hash home of each account, 0-based.
    pub home: Vec<u32>,
    /// (debit, credit), oldest first.
    pub transfers: Vec<(u32, u32)>,
    pub shards: u32,
}

impl Numbered {
    pub fn new(trace: &Trace, shards: u32) -> Self {
        let ends = |t: &TraceTransfer| [t.debit, t.credit];
        let numbering = Numbering::of(trace.transfers().iter().flat_map(ends));
        let number = |id| {
            let found = numbering.number(id).expect("numbered above");
            u32::try_from(found).expect("a trace of 2^32 accounts does not fit in memory")
        };
        let transfers = (trace.transfers().iter())
            .map(|t| (number(t.debit), number(t.credit)))
            .collect();
        let home = |&id| Placement::Hash.home(id, shards).0 - 1;
        Self {
            home: numbering.ids().iter().map(home).collect(),
            numbering,
            transfers,
            shards,
        }
    }

    /// Every account of the trace, ascending; the position is its number.
    pub fn accounts(&self) -> &[AccountId] {
        self.numbering.ids()
    }

    /// The number of an account of the trace.
    pub fn number(&self, id: AccountId) -> usize {
        let found = self.numbering.number(id);
        found.expect("graphs and maps are made of the trace's accounts")
    }

    /// The numbers of a graph's vertices, in their order.
    pub fn numbers(&self, graph: &InteractionGraph) -> impl Iterator<Item = usize> {
        graph.accounts().iter().map(|&id| self.number(id))
    }

    /// The graph of some of the transfers; `weight` of transfer i of n.
    ///
    /// # Errors
    /// As [`InteractionGraph::from_pairs`].
    pub fn graph(
        &self,
        transfers: &[(u32, u32)],
        weight: fn(u64, u64) -> u64,
    ) -> Result<InteractionGraph, PlanError> {
        let count = transfers.len() as u64;
        let pairs = (0..).zip(transfers);
        let pairs = pairs.map(|(i, &(a, b))| (a, b, weight(i, count)));
        InteractionGraph::from_numbers(self.accounts(), pairs)
    }

    /// The parts of a graph's vertices, from those of all accounts.
    pub fn parts_of(&self, graph: &InteractionGraph, parts: &[u32]) -> Vec<u32> {
        self.numbers(graph).map(|number| parts[number]).collect()
    }

    /// Parts of all accounts: those that are known, and the hash homes of the others.
    pub fn or_home(&self, known: &[Option<u32>]) -> Vec<u32> {
        (known.iter().zip(&self.home))
            .map(|(part, &home)| part.unwrap_or(home))
            .collect()
    }
}
