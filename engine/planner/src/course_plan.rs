//! Plans on a recorded trace in epochs: what a cluster would have lived through that updates its map
//! after every epoch, and the map that it would have in the end.
//!
//! ```text
//! epoch 1 at the hash homes --> METIS --> epoch 2 --> update --> epoch 3 --> ... --> epoch N --> update
//!                                         scored                 scored              scored      = the plan
//! ```
//!
//! The plan's map is the one after the last update, made on everything. What it will do nobody has
//! seen; its backtest is the last epoch under the map before, made in the same way without that
//! epoch. All else is as in [`crate::trace_plan`].

use crate::course::{Course, EpochReport};
use crate::decay::DecayedHistory;
use crate::epochs;
use crate::error::PlanError;
use crate::first_touch::FirstTouch;
use crate::follow::{MovingMap, Update};
use crate::graph::InteractionGraph;
use crate::measured::Mapped;
use crate::numbered::Numbered;
use crate::outcome::Outcome;
use crate::plan::{Method, Plan, rounded};
use crate::score::Score;
use crate::trace_plan::TraceOptions;

/// Makes the plan; `outcome` is what is known before the epochs are.
///
/// # Errors
/// Fewer transfers than epochs, or METIS fails.
pub(crate) fn plan(
    numbered: &Numbered,
    options: &TraceOptions,
    mut outcome: Outcome,
) -> Result<Plan, PlanError> {
    let epochs = epochs::cut(&numbered.transfers, options.epochs)?;
    let at_home = |epoch: &&[(u32, u32)]| Score::of(epoch, &numbered.home, options.shards);
    let homes: Vec<Score> = epochs.iter().map(at_home).collect();
    let (followed, from_scratch) = live_through(numbered, options, &epochs)?;
    let last = homes.len() - 1;
    outcome.hash = homes[last].cross_shard_ratio();
    outcome.current = Some(homes[last].clone());
    let mapped = Mapped {
        method: Method::WarmStart,
        planned_on: &numbered.transfers,
        parts: &followed.map.parts(numbered),
        scored_on: epochs[last],
        scored_parts: &followed.parts_scored,
        backtest: followed.score,
        places_all: true,
    };
    let mut plan = outcome.plan(mapped.measured(numbered)?);
    let hash: Vec<f64> = homes[1..].iter().map(Score::cross_shard_ratio).collect();
    plan.course = Some(Course::new(followed.reports, from_scratch.reports, &hash));
    Ok(plan)
}

/// Both courses, which share the first map and what is remembered.
fn live_through(
    numbered: &Numbered,
    options: &TraceOptions,
    epochs: &[&[(u32, u32)]],
) -> Result<(Walk, Walk), PlanError> {
    let (first, later) = epochs.split_first().expect("a trace has one at least");
    let mut history = DecayedHistory::default();
    let mut followed = Walk::new(numbered);
    followed.happen(numbered, first, None);
    history.add(first);
    let mut graph = history.graph(numbered)?;
    followed.update(numbered, &graph, Update::FromScratch, options.seed)?;
    let mut from_scratch = followed.clone();
    for epoch in later {
        for walk in [&mut followed, &mut from_scratch] {
            let cap = options.first_touch_cap;
            let placer = cap.map(|cap| walk.map.placer(numbered, &history, &graph, cap));
            walk.happen(numbered, epoch, placer);
        }
        history.add(epoch);
        graph = history.graph(numbered)?;
        followed.update(numbered, &graph, Update::WithinBudget, options.seed)?;
        from_scratch.update(numbered, &graph, Update::FromScratch, options.seed)?;
    }
    Ok((followed, from_scratch))
}

/// A map on its way, with what is told of it.
#[derive(Clone)]
struct Walk {
    map: MovingMap,
    /// The newest epoch, and where every account of the trace was during it.
    score: Score,
    parts_scored: Vec<u32>,
    reports: Vec<EpochReport>,
}

impl Walk {
    fn new(numbered: &Numbered) -> Self {
        Self {
            map: MovingMap::new(numbered),
            score: Score::new(numbered.shards),
            parts_scored: Vec::new(),
            reports: Vec::new(),
        }
    }

    /// An epoch happens under the map as it is.
    fn happen(&mut self, numbered: &Numbered, epoch: &[(u32, u32)], placer: Option<FirstTouch>) {
        self.score = self.map.happen(numbered, epoch, placer);
        self.parts_scored = self.map.parts(numbered);
    }

    /// The epoch is over: updates the map, and reports both.
    fn update(
        &mut self,
        numbered: &Numbered,
        graph: &InteractionGraph,
        update: Update,
        seed: u64,
    ) -> Result<(), PlanError> {
        let moves = self.map.update(numbered, graph, update, seed)?;
        let before = u32::try_from(self.reports.len()).expect("at most EPOCHS_MAX");
        self.reports.push(EpochReport {
            epoch: before + 1,
            transfers: self.score.transfers(),
            accounts: self.map.accounts(),
            cross_shard_ratio: rounded(self.score.cross_shard_ratio()),
            load_max_over_avg: rounded(self.score.load_max_over_avg()),
            moves,
        });
        Ok(())
    }
}
