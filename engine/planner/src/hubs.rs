//! Accounts so busy that no map can make their transfers local, and the floor that they set.

use quorate_protocol::ids::ShardId;

use crate::graph::InteractionGraph;
use crate::plan::{Hub, rounded};
use crate::score::ratio;

/// Hubs that a plan lists; there can be at most 4 * shards of them anyway.
const HUBS_MAX: usize = 100;

/// Vertices above 1/(4 * parts) of the load, busiest first.
#[must_use]
pub fn hubs(graph: &InteractionGraph, parts: usize) -> Vec<usize> {
    let all = u128::from(graph.total()) * 2;
    let parts = u128::try_from(parts).expect("a length fits");
    let mut hubs: Vec<usize> = (0..graph.len())
        .filter(|&v| u128::from(graph.loads()[v]) * 4 * parts > all)
        .collect();
    hubs.sort_by_key(|&v| (std::cmp::Reverse(graph.loads()[v]), v));
    hubs
}

/// The hubs as a plan reports them.
#[must_use]
pub fn report(graph: &InteractionGraph, hubs: &[usize], planned: &[u32]) -> Vec<Hub> {
    (hubs.iter().take(HUBS_MAX))
        .map(|&v| Hub {
            account: graph.accounts()[v],
            shard: ShardId(planned[v] + 1),
            transfers: graph.loads()[v],
            load_share: rounded(ratio(graph.loads()[v], 2 * graph.total())),
        })
        .collect()
}

/// A lower bound of the cross-shard ratio of every map of which no part has a load above `load_max`.
///
/// A hub of load L has L transfers. Each one that is local also puts its other end's touch on the
/// hub's part, so at most `load_max - L` of them are local and at least `2L - load_max` are cut. A
/// transfer between two hubs may be counted at both, so those are taken off once.
#[must_use]
pub fn floor(graph: &InteractionGraph, hubs: &[usize], load_max: u64) -> f64 {
    let cut = |v: usize| (2 * graph.loads()[v]).saturating_sub(load_max);
    let bound: Vec<usize> = hubs.iter().copied().filter(|&v| cut(v) > 0).collect();
    let sum: u64 = bound.iter().map(|&v| cut(v)).sum();
    let shared: u64 = (bound.iter())
        .flat_map(|&v| graph.edges(v).map(move |(to, weight)| (v, to, weight)))
        .filter(|(v, to, _)| v < to && bound.contains(to))
        .map(|(_, _, weight)| weight)
        .sum();
    ratio(sum.saturating_sub(shared), graph.total())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_protocol::ids::AccountId;

    use super::*;
    use crate::graph::WeightedPair;

    proptest! {
        /// Against a dumb twin that tries every map of a small graph in two parts.
        #[test]
        fn no_map_within_the_limit_is_below_the_floor(
            weights in prop::collection::vec((0_u128..8, 0_u128..8, 1_u64..50), 1..16),
            slack in 100_u64..200,
        ) {
            let pair = |&(a, b, weight)| WeightedPair { a: AccountId(a), b: AccountId(b), weight };
            let graph = InteractionGraph::from_pairs(&weights.iter().map(pair).collect::<Vec<_>>()).unwrap();
            let limit = graph.total() * slack / 100;
            let floor = floor(&graph, &hubs(&graph, 2), limit);
            for bits in 0..1_u32 << graph.len() {
                let map: Vec<u32> = (0..graph.len()).map(|v| bits >> v & 1).collect();
                let mut loads = [0; 2];
                for v in 0..graph.len() {
                    loads[map[v] as usize] += graph.loads()[v];
                }
                if loads.iter().all(|&load| load <= limit) {
                    prop_assert!(ratio(graph.edge_cut(&map), graph.total()) >= floor - 1e-12);
                }
            }
        }
    }
}
