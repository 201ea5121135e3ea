//! METIS behind guards: k-way partitioning under two balance constraints.
//!
//! METIS reads C arrays, draws from libc's process-global `rand()` and installs handlers for SIGTERM
//! and SIGABRT while it runs. It must never run inside a server; in the planner's process calls are
//! serialised here and the generator is seeded by each call, so the same graph and seed give the
//! same parts. A SIGTERM that comes meanwhile waits for METIS's end, when the process's own handler is in
//! its place again: METIS's would jump out of the call, and whoever wanted to end the process would be told of a
//! failed partition instead. What METIS says about cut and balance is not used: callers compute both from the
//! parts ([`InteractionGraph::edge_cut`], [`crate::score`]).
//!
//! METIS writes to C's stdout, and no option prevents it. All of its messages ask for a bit of
//! `DbgLvl`, which is 0 here, but one: `MlevelRecursiveBisection` (pmetis.c), by which the first
//! parts of the coarsest graph are found, says "Cannot bisect a graph with 0 vertices" whenever one
//! of its bisections left a side empty, as happens where a few accounts have nearly all the load and
//! there are many shards. The parts are valid all the same. The text lies in a buffer that C writes
//! when the process exits, so a program whose stdout is read by a machine puts stdout aside for good
//! before it calls (`keep_stdout` of the command line and of the load generator). Errors go to stderr.

use std::sync::{Mutex, PoisonError};

use metis::Graph;
use metis::option::{NCuts, NIter, ObjType, Seed};
use nix::sys::signal::{SigSet, Signal};

use crate::error::PlanError;
use crate::graph::InteractionGraph;

/// Serialises METIS in this process: two interleaved calls would share one stream of `rand()`, and
/// the second would save the first one's signal handlers as the ones to restore.
static METIS: Mutex<()> = Mutex::new(());

/// How far the heaviest part may lie above the average.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tolerance {
    /// Maximum over average of the load, above 1.
    pub load: f32,
    /// Maximum over average of the number of accounts, above 1.
    pub accounts: f32,
}

/// Partitions that METIS computes per call, of which it returns the one with the smallest cut; the
/// time is in proportion.
const CUTS: i32 = 4;
/// Vertices from which on it computes one only: with a million planted accounts, 6.4 million transfers
/// and 8 parts, four instead of one changed the backtest from 0.1310 to 0.1304 and took 34 s instead of 14.
const ONE_CUT_FROM: usize = 200_000;
/// Refinement passes per level; METIS's own default is 10.
const PASSES: i32 = 20;
/// The same where it computes one partition only. On a million planted accounts 20 took the backtest
/// from 0.1118 to 0.1115 and cost a second or two (perf/notes/planner.md).
const PASSES_OF_ONE_CUT: i32 = 10;

/// Vertices per part below which METIS is not asked. With fewer vertices than parts its coarsening
/// fails; with a few times as many it tends to bisect empty graphs and gives bad parts. On graphs of
/// such a size the warm start alone does well.
const VERTICES_PER_PART_MIN: usize = 16;

/// The part (0-based, below `parts`) of each vertex, or `None` if the graph is too small for METIS.
///
/// # Errors
/// METIS refuses the graph or runs out of memory.
///
/// # Panics
/// If `parts` is 0.
pub fn partition(
    graph: &InteractionGraph,
    parts: u32,
    tolerance: Tolerance,
    seed: u64,
) -> Result<Option<Vec<u32>>, PlanError> {
    assert!(parts > 0);
    // An empty graph is a SIGFPE in METIS.
    if graph.len() < VERTICES_PER_PART_MIN * parts as usize {
        return Ok(None);
    }
    // One part is a case that METIS does not handle.
    if parts == 1 {
        return Ok(Some(vec![0; graph.len()]));
    }
    let int = |x: u32| i32::try_from(x).expect("SHARDS_MAX is far below");
    let arrays = graph.to_metis();
    // Edge weights of 0 are a SIGSEGV; the graph has none and scaling makes none.
    assert!(arrays.adjwgt.iter().chain(&arrays.vwgt).all(|&w| w > 0));
    let ubvec = [tolerance.load, tolerance.accounts];
    let (cuts, passes) = if graph.len() < ONE_CUT_FROM {
        (CUTS, PASSES)
    } else {
        (1, PASSES_OF_ONE_CUT)
    };
    let mut found = vec![0_i32; graph.len()];
    let fail = |e: &dyn std::fmt::Display| PlanError::Metis(e.to_string());
    let guard = METIS.lock().unwrap_or_else(PoisonError::into_inner);
    let held_back = TerminationHeldBack::begin();
    Graph::new(2, int(parts), &arrays.xadj, &arrays.adjncy)
        .map_err(|e| fail(&e))?
        .set_vwgt(&arrays.vwgt)
        .set_adjwgt(&arrays.adjwgt)
        .set_ubvec(&ubvec)
        // `Contig` stays off: transfer graphs are disconnected and METIS fails on them with it.
        .set_option(ObjType::Cut)
        .set_option(NCuts(cuts))
        .set_option(NIter(passes))
        .set_option(Seed(seed_of(seed)))
        .part_kway(&mut found)
        .map_err(|e| fail(&e))?;
    drop(held_back);
    drop(guard);
    let part = |p: i32| u32::try_from(p).ok().filter(|&p| p < parts);
    let found = found.into_iter().map(part).collect::<Option<Vec<u32>>>();
    found.map(Some).ok_or_else(|| fail(&"a part out of range"))
}

/// No SIGTERM reaches this thread while it lives. The programs that plan have no other at that time.
struct TerminationHeldBack {
    /// Signals that were blocked before.
    before: Option<SigSet>,
}

impl TerminationHeldBack {
    fn begin() -> Self {
        let mut termination = SigSet::empty();
        termination.add(Signal::SIGTERM);
        // Fails for no set of signals; if it did, METIS would be ended as its makers meant it.
        let before = SigSet::thread_get_mask().ok();
        let blocked = before.filter(|_| termination.thread_block().is_ok());
        Self { before: blocked }
    }
}

impl Drop for TerminationHeldBack {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // As above; what was pending is delivered here.
            let _ = before.thread_set_mask();
        }
    }
}

/// METIS takes a non-negative `i32` (negative means its default).
fn seed_of(seed: u64) -> i32 {
    i32::try_from(seed & 0x7fff_ffff).expect("31 bits")
}

#[cfg(test)]
mod tests {
    use quorate_protocol::ids::AccountId;

    use super::*;
    use crate::graph::WeightedPair;

    const TOLERANCE: Tolerance = Tolerance {
        load: 1.05,
        accounts: 1.3,
    };

    fn graph(pairs: impl IntoIterator<Item = (u128, u128, u64)>) -> InteractionGraph {
        let pair = |(a, b, weight)| WeightedPair {
            a: AccountId(a),
            b: AccountId(b),
            weight,
        };
        let pairs: Vec<_> = pairs.into_iter().map(pair).collect();
        InteractionGraph::from_pairs(&pairs).unwrap()
    }

    /// `count` disconnected rings of `size` accounts.
    fn rings(count: u128, size: u128, weight: u64) -> InteractionGraph {
        let ring = |r| (0..size).map(move |i| (r * size + i, r * size + (i + 1) % size, weight));
        graph((0..count).flat_map(ring))
    }

    #[test]
    fn inputs_that_crash_metis_never_reach_it() {
        for empty in [graph([]), graph([(1, 2, 0)]), graph([(1, 1, 1)])] {
            assert_eq!(partition(&empty, 3, TOLERANCE, 1), Ok(None));
        }
        assert_eq!(
            partition(&graph([(1, 2, 1), (2, 3, 1)]), 3, TOLERANCE, 1),
            Ok(None)
        );
        let one = partition(&rings(1, 16, 1), 1, TOLERANCE, 1);
        assert_eq!(one, Ok(Some(vec![0; 16])));
    }

    #[test]
    fn disconnected_groups_are_not_cut() {
        // With weights whose sum is far beyond 32 bits, too.
        for weight in [1, u64::MAX] {
            let graph = rings(12, 20, weight);
            let parts = partition(&graph, 3, TOLERANCE, 1).unwrap().unwrap();
            assert_eq!(graph.edge_cut(&parts), 0);
            for part in 0..3 {
                assert_eq!(parts.iter().filter(|&&p| p == part).count(), 80);
            }
        }
    }

    #[test]
    fn the_worst_shape_is_divided_from_the_smallest_size_on() {
        for parts in 2..20 {
            let leaves = 16 * u128::from(parts) - 1;
            let star = graph((1..=leaves).map(|i| (0, i, 1)));
            let found = partition(&star, parts, TOLERANCE, 1).unwrap().unwrap();
            assert!(found.iter().all(|&p| p < parts), "{found:?}");
        }
    }
}
