//! METIS behind guards: k-way partitioning under two balance constraints.
//!
//! METIS reads C arrays, draws from libc's process-global `rand()` and installs handlers for SIGTERM
//! and SIGABRT while it runs. It must never run inside a server; in the planner's process calls are
//! serialised here and the generator is seeded by each call, so the same graph and seed give the
//! same parts. What METIS says about cut and balance is not used: callers compute both from the
//! parts ([`InteractionGraph::edge_cut`], [`crate::balance`]).

use std::sync::{Mutex, PoisonError};

use metis::Graph;
use metis::option::{NCuts, NIter, ObjType, Seed};

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

/// Partitions that METIS computes per call, of which it returns the one with the smallest cut.
const CUTS: i32 = 4;
/// Refinement passes per level; METIS's own default is 10.
const PASSES: i32 = 20;

/// The part (0-based, below `parts`) of each vertex, or `None` if there is nothing to divide:
/// no more vertices than parts.
///
/// # Errors
/// METIS refuses the graph or runs out of memory.
pub fn partition(
    graph: &InteractionGraph,
    parts: u32,
    tolerance: Tolerance,
    seed: u64,
) -> Result<Option<Vec<u32>>, PlanError> {
    // An empty graph is a SIGFPE in METIS, one part is a case that it does not handle, and with
    // fewer vertices than parts its coarsening fails.
    if graph.len() <= parts as usize || graph.is_empty() {
        return Ok(None);
    }
    if parts <= 1 {
        return Ok(Some(vec![0; graph.len()]));
    }
    let int = |x: u32| i32::try_from(x).expect("SHARDS_MAX is far below");
    let arrays = graph.to_metis();
    // Edge weights of 0 are a SIGSEGV; the graph has none and scaling makes none.
    assert!(arrays.adjwgt.iter().chain(&arrays.vwgt).all(|&w| w > 0));
    let ubvec = [tolerance.load, tolerance.accounts];
    let mut found = vec![0_i32; graph.len()];
    let fail = |e: &dyn std::fmt::Display| PlanError::Metis(e.to_string());
    let guard = METIS.lock().unwrap_or_else(PoisonError::into_inner);
    Graph::new(2, int(parts), &arrays.xadj, &arrays.adjncy)
        .map_err(|e| fail(&e))?
        .set_vwgt(&arrays.vwgt)
        .set_adjwgt(&arrays.adjwgt)
        .set_ubvec(&ubvec)
        // `Contig` stays off: transfer graphs are disconnected and METIS fails on them with it.
        .set_option(ObjType::Cut)
        .set_option(NCuts(CUTS))
        .set_option(NIter(PASSES))
        .set_option(Seed(seed_of(seed)))
        .part_kway(&mut found)
        .map_err(|e| fail(&e))?;
    drop(guard);
    let part = |p: i32| u32::try_from(p).ok().filter(|&p| p < parts);
    let found = found.into_iter().map(part).collect::<Option<Vec<u32>>>();
    found.map(Some).ok_or_else(|| fail(&"a part out of range"))
}

/// METIS takes a non-negative `i32` (negative means its default).
fn seed_of(seed: u64) -> i32 {
    i32::try_from(seed & 0x7fff_ffff).expect("31 bits")
}
