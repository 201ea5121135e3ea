//! Improves a map vertex by vertex: keeps the balance limits, then takes the move with the highest
//! gain, again and again, under a budget of moves.
//!
//! This is the warm start (from the current map) and the clean-up after METIS. It only ever climbs:
//! escaping a local optimum is METIS's part. Ties are broken by vertex number, so equal input gives
//! equal output.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::graph::InteractionGraph;
use crate::score::float;

/// Largest value over the average that a map may have.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    /// Load (touched accounts) per shard.
    pub load: f64,
    /// Accounts per shard.
    pub accounts: f64,
}

/// Rounds over all vertices; each moves a vertex at most once. Greedy gains die out after a few.
const PASSES_MAX: usize = 12;

/// A map of a graph's vertices in the making.
pub struct Refiner<'a> {
    graph: &'a InteractionGraph,
    parts: Vec<u32>,
    /// Where the vertices are today; a vertex that is elsewhere costs a move.
    origin: &'a [u32],
    loads: Vec<u64>,
    counts: Vec<u64>,
    load_max: u64,
    count_max: u64,
    /// Weight of the edges of vertex v into part p, at `v * parts + p`.
    links: Vec<u64>,
    moved: usize,
    moved_max: usize,
}

impl<'a> Refiner<'a> {
    /// Starts from `parts`. `idle` are the accounts per part that have no edges and stay.
    ///
    /// # Panics
    /// If lists differ in length, or a part is not below `idle.len()`.
    #[must_use]
    pub fn new(
        graph: &'a InteractionGraph,
        parts: Vec<u32>,
        origin: &'a [u32],
        idle: &[u64],
        limits: Limits,
        moved_max: usize,
    ) -> Self {
        assert!(parts.len() == graph.len() && origin.len() == graph.len());
        let width = idle.len();
        let mut loads = vec![0; width];
        let mut counts = idle.to_vec();
        let mut links = vec![0; graph.len() * width];
        for (v, &part) in parts.iter().enumerate() {
            loads[part as usize] += graph.loads()[v];
            counts[part as usize] += 1;
            for (to, weight) in graph.edges(v) {
                links[v * width + parts[to] as usize] += weight;
            }
        }
        let moved = parts.iter().zip(origin).filter(|(a, b)| a != b).count();
        Self {
            load_max: load_max(graph, width, limits.load),
            count_max: limit(counts.iter().sum(), width, limits.accounts),
            graph,
            parts,
            origin,
            loads,
            counts,
            links,
            moved,
            moved_max,
        }
    }

    /// The map as it is now.
    #[must_use]
    pub fn into_parts(self) -> Vec<u32> {
        self.parts
    }

    /// Moves vertices out of parts above a limit, the least cut per unit of excess first, as far as
    /// the other parts have room. A vertex heavier than the limit cannot be helped.
    pub fn balance(&mut self) {
        for part in 0..self.width() {
            if self.loads[part] > self.load_max {
                self.relieve(
                    part,
                    |this, v| this.graph.loads()[v],
                    |this| this.loads[part] > this.load_max,
                );
            }
            if self.counts[part] > self.count_max {
                self.relieve(part, |_, _| 1, |this| this.counts[part] > this.count_max);
            }
        }
    }

    /// Takes moves of positive gain, highest first, until there are none or the budget is used up.
    pub fn improve(&mut self) {
        for _ in 0..PASSES_MAX {
            if !self.improve_once() {
                return;
            }
        }
    }

    fn width(&self) -> usize {
        self.loads.len()
    }

    fn links(&self, v: usize) -> &[u64] {
        &self.links[v * self.width()..(v + 1) * self.width()]
    }

    /// One pass: every vertex moves at most once. Whether anything moved.
    fn improve_once(&mut self) -> bool {
        let mut heap: BinaryHeap<(u64, Reverse<usize>)> = (0..self.parts.len())
            .filter_map(|v| self.gain(v).map(|(gain, _)| (gain, Reverse(v))))
            .collect();
        let mut done = vec![false; self.parts.len()];
        let mut any = false;
        while let Some((gain, Reverse(v))) = heap.pop() {
            if done[v] {
                continue;
            }
            // Gains age while they wait: only one that is still true is taken, others are put back.
            match self.gain(v) {
                Some((now, target)) if now >= gain => {
                    done[v] = true;
                    any = true;
                    self.shift(v, target);
                    for (to, _) in self.graph.edges(v) {
                        if let Some((gain, _)) = self.gain(to).filter(|_| !done[to]) {
                            heap.push((gain, Reverse(to)));
                        }
                    }
                }
                Some((now, _)) => heap.push((now, Reverse(v))),
                None => {}
            }
        }
        any
    }

    /// The best admissible move of `v` with a positive gain in cut weight.
    fn gain(&self, v: usize) -> Option<(u64, usize)> {
        let links = self.links(v);
        let here = links[self.parts[v] as usize];
        (0..self.width())
            .filter(|&p| links[p] > here && self.admits(v, p))
            .max_by_key(|&p| (links[p], Reverse(p)))
            .map(|p| (links[p] - here, p))
    }

    /// Whether `v` may move to `part`: both limits and the budget hold afterwards.
    fn admits(&self, v: usize, part: usize) -> bool {
        let was = usize::from(self.parts[v] != self.origin[v]);
        let will = usize::from(part != self.origin[v] as usize);
        part != self.parts[v] as usize
            && self.loads[part] + self.graph.loads()[v] <= self.load_max
            && self.counts[part] < self.count_max
            && self.moved + will - was <= self.moved_max.max(self.moved)
    }

    fn shift(&mut self, v: usize, target: usize) {
        let (width, source, load) = (self.width(), self.parts[v] as usize, self.graph.loads()[v]);
        assert!(source != target && self.admits(v, target));
        self.moved -= usize::from(source != self.origin[v] as usize);
        self.moved += usize::from(target != self.origin[v] as usize);
        self.loads[source] -= load;
        self.loads[target] += load;
        self.counts[source] -= 1;
        self.counts[target] += 1;
        self.parts[v] = u32::try_from(target).expect("parts are counted in 32 bits");
        for (to, weight) in self.graph.edges(v) {
            self.links[to * width + source] -= weight;
            self.links[to * width + target] += weight;
        }
    }

    /// Moves vertices out of `part` while `over` says so, least loss per `relief` first. Losses are
    /// those at the start: recomputing them after every move would matter only to neighbours.
    fn relieve(
        &mut self,
        part: usize,
        relief: impl Fn(&Self, usize) -> u64,
        over: impl Fn(&Self) -> bool,
    ) {
        let mut leaving: Vec<(f64, usize)> = (0..self.parts.len())
            .filter(|&v| self.parts[v] as usize == part)
            .map(|v| {
                let links = self.links(v);
                let best = (0..links.len())
                    .filter(|&p| p != part)
                    .map(|p| links[p])
                    .max();
                let loss = float(links[part]) - float(best.unwrap_or(0));
                (loss / float(relief(self, v)), v)
            })
            .collect();
        leaving.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for (_, v) in leaving {
            if !over(self) {
                return;
            }
            let target = (0..self.width())
                .filter(|&p| self.admits(v, p))
                .max_by_key(|&p| (self.links(v)[p], Reverse(self.loads[p]), Reverse(p)));
            if let Some(target) = target {
                self.shift(v, target);
            }
        }
    }
}

/// Load that a part may have: `factor` times the average, but at least one vertex of average load
/// more than the average (in a small graph nothing could move otherwise), and at least the heaviest
/// vertex. That vertex has to be somewhere, the part with it is the busiest whatever else lies there,
/// and keeping the others below it would cost cuts and relieve nobody.
#[must_use]
pub fn load_max(graph: &InteractionGraph, parts: usize, factor: f64) -> u64 {
    let sum = 2 * graph.total();
    let heaviest = graph.loads().iter().max().copied().unwrap_or(0);
    let one_more = sum / (parts as u64) + sum / (graph.len().max(1) as u64);
    limit(sum, parts, factor).max(one_more).max(heaviest)
}

/// The largest value that keeps `max / average <= factor`, and at least the average rounded up.
fn limit(sum: u64, parts: usize, factor: f64) -> u64 {
    let parts = u64::try_from(parts).expect("a length fits 64 bits");
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and a float beyond u64 saturates"
    )]
    let limit = (float(sum) * factor / float(parts)).floor() as u64;
    limit.max(sum.div_ceil(parts))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_protocol::ids::AccountId;

    use super::*;
    use crate::graph::WeightedPair;

    const LIMITS: Limits = Limits {
        load: 1.1,
        accounts: 1.3,
    };

    fn graph(pairs: &[(u128, u128, u64)]) -> InteractionGraph {
        let pair = |&(a, b, weight)| WeightedPair {
            a: AccountId(a),
            b: AccountId(b),
            weight,
        };
        InteractionGraph::from_pairs(&pairs.iter().map(pair).collect::<Vec<_>>()).unwrap()
    }

    fn loads(graph: &InteractionGraph, parts: &[u32], width: usize) -> Vec<u64> {
        let mut loads = vec![0; width];
        for (v, &part) in parts.iter().enumerate() {
            loads[part as usize] += graph.loads()[v];
        }
        loads
    }

    #[test]
    fn two_groups_come_apart_by_single_moves() {
        let inside =
            |first: u128| (0..6).flat_map(move |i| (0..i).map(move |j| (first + i, first + j, 10)));
        let pairs: Vec<_> = inside(0).chain(inside(6)).chain([(0, 6, 1)]).collect();
        let graph = graph(&pairs);
        let origin: Vec<u32> = (0..12)
            .map(|v| u32::from(v % 6 == 0) ^ u32::from(v >= 6))
            .collect();
        let limits = Limits {
            load: 1.4,
            accounts: 1.4,
        };
        let mut refiner =
            Refiner::new(&graph, origin.clone(), &origin, &[0, 0], limits, usize::MAX);
        refiner.improve();
        let parts = refiner.into_parts();
        assert_eq!(graph.edge_cut(&parts), 1, "{parts:?}");
    }

    #[test]
    fn everything_on_one_part_is_spread_to_the_limit() {
        let pairs: Vec<_> = (0..300).map(|i| (i, (i + 1) % 300, 1)).collect();
        let graph = graph(&pairs);
        let origin = vec![0; 300];
        let mut refiner =
            Refiner::new(&graph, origin.clone(), &origin, &[0; 3], LIMITS, usize::MAX);
        refiner.balance();
        let loads = loads(&graph, &refiner.into_parts(), 3);
        assert!(loads.iter().all(|&load| load <= 220), "{loads:?} of 600");
    }

    proptest! {
        /// Never worse than the start: cut, budget and limits are counted here from the parts.
        #[test]
        fn improving_keeps_the_limits_and_the_budget(
            pairs in prop::collection::vec((0_u128..30, 0_u128..30, 1_u64..20), 1..120),
            start in prop::collection::vec(0_u32..3, 30),
            idle in prop::collection::vec(0_u64..5, 3),
            budget in 0_usize..20,
        ) {
            let graph = graph(&pairs);
            let origin = start[..graph.len()].to_vec();
            let mut refiner = Refiner::new(&graph, origin.clone(), &origin, &idle, LIMITS, budget);
            refiner.improve();
            let parts = refiner.into_parts();
            prop_assert!(graph.edge_cut(&parts) <= graph.edge_cut(&origin));
            prop_assert!(parts.iter().zip(&origin).filter(|(a, b)| a != b).count() <= budget);
            let before = loads(&graph, &origin, 3);
            let limit = load_max(&graph, 3, LIMITS.load);
            for (before, after) in before.iter().zip(loads(&graph, &parts, 3)) {
                prop_assert!(after <= limit.max(*before));
            }
            let total = graph.len() as u64 + idle.iter().sum::<u64>();
            let count = |parts: &[u32], p: u32| {
                parts.iter().filter(|&&x| x == p).count() as u64 + idle[p as usize]
            };
            for p in 0..3 {
                let limit = (total * 13 / 30).max(total.div_ceil(3));
                prop_assert!(count(&parts, p) <= limit.max(count(&origin, p)));
            }
        }
    }
}
