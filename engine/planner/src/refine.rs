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

/// Load that a part may have: `factor` times the average, but at least the heaviest vertex. That
/// vertex has to be somewhere, the part with it is the busiest whatever else lies there, and keeping
/// the others below it would cost cuts and relieve nobody.
#[must_use]
pub fn load_max(graph: &InteractionGraph, parts: usize, factor: f64) -> u64 {
    let heaviest = graph.loads().iter().max().copied().unwrap_or(0);
    limit(2 * graph.total(), parts, factor).max(heaviest)
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
