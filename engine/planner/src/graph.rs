//! The interaction graph: who pays whom, how often.
//!
//! Vertices are the accounts that have at least one transfer with another one, in the order of their
//! ids; so the same set of pairs gives the same graph, whatever order they arrive in. Edges are
//! undirected, merged, positive and never loops. An account without edges is not in the graph, and
//! so nothing here can move it. This module decides nothing about shards.

use std::thread;

use quorate_protocol::client::PairRow;
use quorate_protocol::ids::AccountId;

use crate::error::PlanError;
use crate::numbering::Numbering;

/// Number of transfers between two accounts, in either direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WeightedPair {
    pub a: AccountId,
    pub b: AccountId,
    pub weight: u64,
}

impl From<PairRow> for WeightedPair {
    fn from(row: PairRow) -> Self {
        Self {
            a: row.a,
            b: row.b,
            weight: row.weight(),
        }
    }
}

/// Most edges of a graph. METIS counts adjacency entries (two per edge) in an `i32`, and
/// [`scaled`] needs at most half of [`SCALED_SUM_MAX`] for rounding up.
pub const EDGES_MAX: usize = 1 << 28;
/// Bound of every sum of weights that METIS is given; half of what an `i32` holds, because METIS
/// adds slack (balance factors, coarsening bounds) to sums.
pub const SCALED_SUM_MAX: u64 = 1 << 30;
const _: () = assert!(2 * EDGES_MAX as u64 <= SCALED_SUM_MAX / 2);
const _: () = assert!(SCALED_SUM_MAX <= i32::MAX as u64);

/// Sums of weights in the graph stay below this, so that plain `u64` additions cannot overflow.
const WEIGHT_SUM_MAX: u128 = 1 << 60;

/// An undirected weighted graph of accounts, in compressed sparse rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InteractionGraph {
    accounts: Vec<AccountId>,
    offsets: Vec<u32>,
    neighbours: Vec<u32>,
    weights: Vec<u64>,
    loads: Vec<u64>,
    total: u64,
}

impl InteractionGraph {
    /// Merges pairs, in either order and any number of times each. Pairs of weight 0 and of an
    /// account with itself are no interaction and are left out.
    ///
    /// Weights are exact as long as their sum is below 2^60; above, all are halved alike until it
    /// is, and none falls to 0.
    ///
    /// # Errors
    /// More than [`EDGES_MAX`] different pairs.
    pub fn from_pairs(pairs: &[WeightedPair]) -> Result<Self, PlanError> {
        let real = pairs.iter().filter(|p| p.weight > 0 && p.a != p.b);
        let numbering = Numbering::of(real.clone().flat_map(|p| [p.a, p.b]));
        check_accounts(numbering.ids().len())?;
        let number = |id| vertex(numbering.number(id).expect("numbered above"));
        let edges = edges(real.map(|p| (number(p.a), number(p.b), p.weight)))?;
        Ok(Self::from_edges(numbering.into_ids(), &edges))
    }

    /// The same of pairs of numbers: `accounts[n]` is account n. They ascend, and those without
    /// interaction are left out.
    ///
    /// # Errors
    /// As [`InteractionGraph::from_pairs`].
    ///
    /// # Panics
    /// If a number is not below the number of accounts.
    pub(crate) fn from_numbers(
        accounts: &[AccountId],
        pairs: impl Iterator<Item = (u32, u32, u64)> + Clone,
    ) -> Result<Self, PlanError> {
        check_accounts(accounts.len())?;
        let real = pairs.filter(|&(a, b, weight)| weight > 0 && a != b);
        let mut vertices = vec![0; accounts.len()];
        for (a, b, _) in real.clone() {
            (vertices[a as usize], vertices[b as usize]) = (1, 1);
        }
        let mut there = Vec::new();
        for (&account, vertex_of) in accounts.iter().zip(&mut vertices) {
            if *vertex_of == 1 {
                *vertex_of = vertex(there.len());
                there.push(account);
            }
        }
        let vertex_of = |number: u32| vertices[number as usize];
        let edges = edges(real.map(|(a, b, weight)| (vertex_of(a), vertex_of(b), weight)))?;
        Ok(Self::from_edges(there, &edges))
    }

    /// `edges` are sorted, distinct, smaller vertex first.
    fn from_edges(accounts: Vec<AccountId>, edges: &[(u32, u32, u64)]) -> Self {
        let mut offsets = vec![0_u32; accounts.len() + 1];
        let mut loads = vec![0_u64; accounts.len()];
        let mut total = 0;
        for &(a, b, weight) in edges {
            for end in [a, b] {
                offsets[end as usize + 1] += 1;
                loads[end as usize] += weight;
            }
            total += weight;
        }
        for i in 1..offsets.len() {
            offsets[i] += offsets[i - 1];
        }
        let mut neighbours = vec![0; 2 * edges.len()];
        let mut weights = vec![0; 2 * edges.len()];
        // Half of the entries by a thread each: what is written lies at random, and memory is waited for.
        let entries = u32::try_from(edges.len()).expect("at most EDGES_MAX");
        let middle = offsets
            .partition_point(|&first| first < entries)
            .min(accounts.len());
        let at = offsets[middle] as usize;
        let (to_lower, to_upper) = neighbours.split_at_mut(at);
        let (of_lower, of_upper) = weights.split_at_mut(at);
        thread::scope(|scope| {
            scope.spawn(|| fill(edges, &offsets[..=middle], 0, to_lower, of_lower));
            fill(edges, &offsets[middle..], middle, to_upper, of_upper);
        });
        assert!(u128::from(total) < 2 * WEIGHT_SUM_MAX);
        Self {
            accounts,
            offsets,
            neighbours,
            weights,
            loads,
            total,
        }
    }

    /// Accounts with at least one edge, ascending; a vertex is a position in this list.
    #[must_use]
    pub fn accounts(&self) -> &[AccountId] {
        &self.accounts
    }

    /// Number of vertices.
    #[must_use]
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether nobody paid anybody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// The vertex of an account.
    #[must_use]
    pub fn vertex(&self, account: AccountId) -> Option<usize> {
        self.accounts.binary_search(&account).ok()
    }

    /// Neighbours of a vertex with the weight of the edge.
    pub fn edges(&self, vertex: usize) -> impl Iterator<Item = (usize, u64)> + '_ {
        let range = self.offsets[vertex] as usize..self.offsets[vertex + 1] as usize;
        self.neighbours[range.clone()]
            .iter()
            .zip(&self.weights[range])
            .map(|(&to, &weight)| (to as usize, weight))
    }

    /// Load of each vertex: the weight of its edges, that is how often the account was touched.
    #[must_use]
    pub fn loads(&self) -> &[u64] {
        &self.loads
    }

    /// Weight of all edges, each counted once. The loads add up to twice as much.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Weight of the edges between different parts: `parts[v]` is the part of vertex `v`.
    ///
    /// # Panics
    /// If `parts` is not one part per vertex.
    #[must_use]
    pub fn edge_cut(&self, parts: &[u32]) -> u64 {
        assert_eq!(parts.len(), self.len());
        let cut_twice: u64 = (0..self.len())
            .flat_map(|v| self.edges(v).map(move |(to, weight)| (v, to, weight)))
            .filter(|&(v, to, _)| parts[v] != parts[to])
            .map(|(_, _, weight)| weight)
            .sum();
        cut_twice / 2
    }

    /// The same graph in the 32-bit integers of METIS, each sum at most [`SCALED_SUM_MAX`].
    #[must_use]
    pub(crate) fn to_metis(&self) -> MetisGraph {
        let int = |x: u64| i32::try_from(x).expect("at most SCALED_SUM_MAX");
        let all = 2 * self.total;
        let (adjacent, vertices) = (self.neighbours.len(), self.len());
        thread::scope(|scope| {
            let neighbours = scope.spawn(|| {
                let adjncy = self.neighbours.iter().map(|&x| int(x.into()));
                adjncy.collect()
            });
            let weight = |&w: &u64| int(scaled(w, all, adjacent));
            MetisGraph {
                xadj: self.offsets.iter().map(|&x| int(x.into())).collect(),
                adjwgt: self.weights.iter().map(weight).collect(),
                vwgt: (self.loads.iter())
                    .flat_map(|&w| [int(scaled(w, all, vertices)), 1])
                    .collect(),
                adjncy: neighbours.join().expect("it converts numbers"),
            }
        })
    }
}

/// Writes the adjacency of the vertices from `first` on whose entries begin at `offsets`, which ends with the end of the last one.
fn fill(
    edges: &[(u32, u32, u64)],
    offsets: &[u32],
    first: usize,
    neighbours: &mut [u32],
    weights: &mut [u64],
) {
    let begin = offsets[0];
    let mut next: Vec<u32> = offsets.iter().map(|&offset| offset - begin).collect();
    next.pop();
    for &(a, b, weight) in edges {
        for (from, to) in [(a, b), (b, a)] {
            let own = (from as usize).checked_sub(first);
            if let Some(next) = own.and_then(|own| next.get_mut(own)) {
                neighbours[*next as usize] = to;
                weights[*next as usize] = weight;
                *next += 1;
            }
        }
    }
}

/// Refuses more accounts than vertices can be numbered.
fn check_accounts(count: usize) -> Result<(), PlanError> {
    match u32::try_from(count) {
        Ok(_) => Ok(()),
        Err(_) => Err(PlanError::TooLarge(count, EDGES_MAX)),
    }
}

/// Merges pairs of different vertices with positive weights: sorted, distinct, smaller vertex first.
fn edges(
    pairs: impl Iterator<Item = (u32, u32, u64)> + Clone,
) -> Result<Vec<(u32, u32, u64)>, PlanError> {
    let halvings = halvings(pairs.clone().map(|(_, _, weight)| u128::from(weight)).sum());
    let mut edges: Vec<(u32, u32, u64)> = pairs
        .map(|(a, b, weight)| (a.min(b), a.max(b), (weight >> halvings).max(1)))
        .collect();
    // One number is compared faster than two.
    edges.sort_unstable_by_key(|&(a, b, _)| u64::from(a) << 32 | u64::from(b));
    edges.dedup_by(|later, kept| {
        let same = (later.0, later.1) == (kept.0, kept.1);
        if same {
            kept.2 += later.2;
        }
        same
    });
    match edges.len() <= EDGES_MAX {
        true => Ok(edges),
        false => Err(PlanError::TooLarge(edges.len(), EDGES_MAX)),
    }
}

/// Arrays as METIS takes them; the weights of a vertex are (load, 1).
pub(crate) struct MetisGraph {
    pub xadj: Vec<i32>,
    pub adjncy: Vec<i32>,
    pub adjwgt: Vec<i32>,
    pub vwgt: Vec<i32>,
}

/// `weight` of `cells` positive weights with sum `sum`, scaled so that the new sum is at most
/// [`SCALED_SUM_MAX`]; never 0. Equal weights stay equal, so a symmetric matrix stays symmetric.
///
/// Proof of the bound: each cell becomes at most `weight * room / sum + 1`, where
/// `room = SCALED_SUM_MAX - cells`; added up that is at most `room + cells`.
fn scaled(weight: u64, sum: u64, cells: usize) -> u64 {
    if sum <= SCALED_SUM_MAX {
        return weight;
    }
    let room = SCALED_SUM_MAX - u64::try_from(cells).expect("at most 2 * EDGES_MAX");
    let share = u128::from(weight) * u128::from(room) / u128::from(sum);
    u64::try_from(share).expect("weight is at most sum").max(1)
}

/// How often all weights must be halved for a sum below [`WEIGHT_SUM_MAX`] (before rounding up).
fn halvings(mut sum: u128) -> u32 {
    let mut count = 0;
    while sum >= WEIGHT_SUM_MAX {
        sum /= 2;
        count += 1;
    }
    // Weights are 64 bits wide: fewer than 2^64 of them need at most 68 halvings, but a shift must
    // stay below the width; at 63 every weight is 1.
    count.min(63)
}

fn vertex(index: usize) -> u32 {
    u32::try_from(index).expect("the number of accounts was checked")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair((a, b, weight): (u128, u128, u64)) -> WeightedPair {
        WeightedPair {
            a: AccountId(a),
            b: AccountId(b),
            weight,
        }
    }

    fn graph(pairs: &[(u128, u128, u64)]) -> InteractionGraph {
        let pairs: Vec<_> = pairs.iter().copied().map(pair).collect();
        InteractionGraph::from_pairs(&pairs).unwrap()
    }

    /// Weights at the ends of their range and in between.
    fn weight() -> impl Strategy<Value = u64> {
        prop_oneof![
            0_u64..3,
            any::<u64>(),
            (1_u64 << 30) - 2..(1 << 30) + 2,
            (1_u64 << 31) - 2..(1 << 31) + 2,
            u64::MAX - 2..=u64::MAX,
        ]
    }

    #[test]
    fn loops_and_zeros_are_no_interaction() {
        assert!(graph(&[]).is_empty());
        assert!(graph(&[(1, 1, 5), (2, 3, 0)]).is_empty());
        let graph = graph(&[(9, 7, 2), (7, 9, 3), (8, 8, 1), (7, 4, 1)]);
        assert_eq!(graph.accounts(), [4, 7, 9].map(AccountId));
        assert_eq!((graph.loads(), graph.total()), (&[1, 6, 5][..], 6));
        assert_eq!(graph.edges(1).collect::<Vec<_>>(), [(0, 1), (2, 5)]);
        assert_eq!(graph.vertex(AccountId(8)), None);
    }

    proptest! {
        /// Whatever the weights: symmetric, positive, no loops, rows as long as they say, and every
        /// sum within what METIS can add up in an i32.
        #[test]
        fn what_metis_gets_is_always_well_formed(
            pairs in prop::collection::vec((0_u128..12, 0_u128..12, weight()), 0..60)
        ) {
            let graph = graph(&pairs);
            let metis = graph.to_metis();
            let sum = |values: &mut dyn Iterator<Item = i32>| values.map(i64::from).sum::<i64>();
            let bound = i64::try_from(SCALED_SUM_MAX).unwrap();
            prop_assert!(sum(&mut metis.adjwgt.iter().copied()) <= bound);
            prop_assert!(sum(&mut metis.vwgt.iter().step_by(2).copied()) <= bound);
            prop_assert_eq!(metis.xadj.len(), graph.len() + 1);
            prop_assert_eq!(metis.vwgt.len(), 2 * graph.len());
            let mut edges = std::collections::BTreeMap::new();
            for v in 0..graph.len() {
                for i in metis.xadj[v]..metis.xadj[v + 1] {
                    let i = usize::try_from(i).unwrap();
                    let to = usize::try_from(metis.adjncy[i]).unwrap();
                    prop_assert!(to != v && metis.adjwgt[i] > 0);
                    prop_assert_eq!(edges.insert((v, to), metis.adjwgt[i]), None);
                }
            }
            prop_assert_eq!(edges.len(), metis.adjncy.len());
            prop_assert!(edges.iter().all(|(&(a, b), w)| edges.get(&(b, a)) == Some(w)));
            prop_assert!(metis.vwgt.iter().all(|&w| w > 0));
        }

        /// The bound of the scaling at its worst: many cells, sums near 2^63.
        #[test]
        fn scaled_sums_stay_within_the_bound(
            heavy in prop::collection::vec(1_u64..1 << 55, 1..64),
            light in 0_usize..5_000,
        ) {
            let weights: Vec<u64> = heavy.into_iter().chain(std::iter::repeat_n(1, light)).collect();
            let sum = weights.iter().sum();
            let scaled: Vec<u64> = weights.iter().map(|&w| scaled(w, sum, weights.len())).collect();
            prop_assert!(scaled.iter().all(|&w| w > 0));
            prop_assert!(scaled.iter().sum::<u64>() <= SCALED_SUM_MAX);
            prop_assert!(sum > SCALED_SUM_MAX || scaled == weights);
        }

        /// Against a dumb twin that looks up each pair as it came in.
        #[test]
        fn the_cut_is_the_weight_of_the_pairs_that_are_apart(
            pairs in prop::collection::vec((0_u128..20, 0_u128..20, 0_u64..1000), 0..80),
            part in prop::collection::vec(0_u32..4, 20),
        ) {
            let graph = graph(&pairs);
            let of = |id: u128| part[usize::try_from(id).unwrap()];
            let apart = pairs.iter().filter(|(a, b, _)| of(*a) != of(*b));
            let parts: Vec<u32> = graph.accounts().iter().map(|id| of(id.0)).collect();
            prop_assert_eq!(graph.edge_cut(&parts), apart.map(|(_, _, weight)| weight).sum::<u64>());
        }

        /// Numbers are only another way of writing ids, however far apart those are.
        #[test]
        fn pairs_of_numbers_make_the_graph_of_their_accounts(
            pairs in prop::collection::vec((0_u32..9, 0_u32..9, 0_u64..9), 0..30),
            gap in prop_oneof![Just(1), Just(1 << 70)],
        ) {
            let accounts: Vec<AccountId> = (0..9).map(|n| AccountId(5 + n * gap)).collect();
            let id = |n: u32| accounts[n as usize].0;
            let by_id: Vec<_> = pairs.iter().map(|&(a, b, w)| (id(a), id(b), w)).collect();
            let by_number = InteractionGraph::from_numbers(&accounts, pairs.iter().copied());
            prop_assert_eq!(by_number, Ok(graph(&by_id)));
        }

        #[test]
        fn the_order_of_the_pairs_does_not_matter(
            pairs in prop::collection::vec((0_u128..9, 0_u128..9, 0_u64..9), 0..30)
        ) {
            let reversed: Vec<_> = pairs.iter().rev().map(|&(a, b, w)| (b, a, w)).collect();
            prop_assert_eq!(graph(&pairs), graph(&reversed));
        }
    }
}
