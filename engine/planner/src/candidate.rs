//! Candidate maps for one graph: METIS from scratch, a warm start from the current map, or staying.

use crate::error::PlanError;
use crate::graph::InteractionGraph;
use crate::partition::{Tolerance, partition};
use crate::plan::Method;
use crate::refine::{Limits, Refiner};
use crate::relabel::relabel;

/// Balance that a map must have on the traffic that made it. Later traffic is never balanced exactly
/// like that: from 2 % the realised balance of steady traffic comes out below 5 %.
pub const LIMITS: Limits = Limits {
    load: 1.02,
    accounts: 1.30,
};
/// The same for METIS.
const TOLERANCE: Tolerance = Tolerance {
    load: 1.02,
    accounts: 1.30,
};

/// Accounts times shards: refinement keeps eight bytes of each, a gibibyte in all.
pub const LINKS_MAX: usize = 1 << 27;

/// What to divide.
pub struct Problem<'a> {
    pub graph: &'a InteractionGraph,
    /// Part of each vertex today, 0-based.
    pub current: Vec<u32>,
    /// Accounts per part that have no edges; they stay.
    pub idle: Vec<u64>,
    /// Most vertices that may end elsewhere than they are.
    pub moves_max: usize,
    pub seed: u64,
}

/// A proposed part per vertex.
pub struct Candidate {
    pub method: Method,
    pub parts: Vec<u32>,
}

/// The candidate that a method makes, or `None` if it can make none.
///
/// # Errors
/// METIS fails, or there are more accounts and shards than [`LINKS_MAX`].
pub fn candidate(problem: &Problem<'_>, method: Method) -> Result<Option<Candidate>, PlanError> {
    let (accounts, shards) = (problem.graph.len(), problem.idle.len());
    if accounts > LINKS_MAX / shards {
        return Err(PlanError::TooWide { accounts, shards });
    }
    let parts = match method {
        Method::Metis => from_scratch(problem)?,
        Method::WarmStart if problem.graph.len() <= problem.idle.len() => None,
        Method::WarmStart => Some(refined(problem, problem.current.clone())),
        Method::Stay => Some(problem.current.clone()),
    };
    Ok(parts.map(|parts| Candidate { method, parts }))
}

fn from_scratch(problem: &Problem<'_>) -> Result<Option<Vec<u32>>, PlanError> {
    let width = u32::try_from(problem.idle.len()).expect("parts are counted in 32 bits");
    let found = partition(problem.graph, width, TOLERANCE, problem.seed)?;
    Ok(found.map(|mut parts| {
        relabel(&mut parts, &problem.current, width);
        let parts = refined(problem, parts);
        within_budget(problem, parts)
    }))
}

fn refined(problem: &Problem<'_>, parts: Vec<u32>) -> Vec<u32> {
    let mut refiner = Refiner::new(
        problem.graph,
        parts,
        &problem.current,
        &problem.idle,
        LIMITS,
        problem.moves_max,
    );
    refiner.balance();
    refiner.improve();
    refiner.into_parts()
}

/// Keeps the hottest moves: half of the moves give most of the gain if they are the hottest half.
fn within_budget(problem: &Problem<'_>, mut parts: Vec<u32>) -> Vec<u32> {
    let mut moved: Vec<usize> = (0..parts.len())
        .filter(|&v| parts[v] != problem.current[v])
        .collect();
    if moved.len() > problem.moves_max {
        moved.sort_by_key(|&v| (std::cmp::Reverse(problem.graph.loads()[v]), v));
        for &v in &moved[problem.moves_max..] {
            parts[v] = problem.current[v];
        }
    }
    parts
}
