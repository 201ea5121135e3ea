//! Placement that follows the money: from who pays whom to a plan of moves, or a reasoned refusal.
//!
//! ```text
//! trace.csv --> Trace --+                 +-- METIS, relabelled --+
//!                       +-> graph --------+                       +-> backtest --> gate --> Plan
//! leaders' pair tables -+  (older part)   +-- warm start, greedy -+  (newer part)
//! ```
//!
//! Two entry points, [`plan_from_trace`] and [`plan_live`]. Both are functions of their arguments:
//! the same input gives the same plan, byte for byte. Nothing here reads a clock or talks to a
//! cluster; the only files read are traces. A trace may also be lived through in epochs, the map being
//! updated after each ([`course`]). METIS is C code that uses process-global state, so this
//! crate belongs in the command line's process, never in a server (see [`partition`]).
//!
//! Every figure in a plan that predicts something was measured on transfers which the planner had
//! not seen, and is computed here from the map itself, never taken from the partitioner.

#![forbid(unsafe_code)]

pub mod candidate;
pub mod course;
mod course_plan;
pub mod decay;
pub mod epochs;
pub mod error;
pub mod fingerprint;
pub mod first_touch;
pub mod follow;
pub mod gate;
pub mod graph;
pub mod hubs;
pub mod live;
pub mod map_csv;
mod measured;
mod numbered;
mod numbering;
mod outcome;
pub mod partition;
pub mod plan;
pub mod refine;
pub mod relabel;
pub mod score;
pub mod trace;
pub mod trace_plan;
pub mod windows;

pub use course::{Course, EpochReport};
pub use epochs::EPOCHS_MAX;
pub use error::PlanError;
pub use follow::MOVES_MAX_PERCENT;
pub use gate::GateOptions;
pub use graph::WeightedPair;
pub use live::{LiveOptions, Payback, best_candidate, plan_live};
pub use outcome::SHARDS_MAX;
pub use plan::{Decision, Plan};
pub use trace::{Trace, TraceError};
pub use trace_plan::{TraceOptions, plan_from_trace};
pub use windows::Observed;
