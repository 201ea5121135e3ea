//! The thin shell around `quorate_protocol::replica::Replica`: executors, sockets, disk, clock.
//!
//! A node runs each of its replicas on an executor of its own, pinned to one core, with its own log
//! and port; they share nothing. The shell moves bytes and time in, and effects out. It takes no
//! decision of the protocol: ballots, slots and roles pass through it unread.
//!
//! ```text
//! sockets -> connection (frames) -> inbox -> executor: step, drain -> connections, peers -> sockets
//!                                     ^                |
//!                                     +-- log <--------+ persist
//!                                     +-- store <------+ checkpoints, look-ups
//! ```
//!
//! Start with [`run_node`]. glommio's types stay inside this crate.

#![forbid(unsafe_code)]

mod acceptor;
mod clock;
mod connection;
mod connections;
mod control;
mod core;
mod directory;
mod disk;
mod executor;
mod fatal;
mod host;
mod inbox;
mod limits;
mod listen;
mod listener;
mod log;
mod manager;
mod metrics;
mod node;
mod outgoing;
mod pace;
mod pair_counter;
mod peers;
mod precedence;
mod rebuild;
mod recover;
mod refusals;
mod room;
mod roster;
mod setup;
mod start;
mod store;
mod wakeup;

pub use connections::ISOLATED;
pub use fatal::Fatal;
pub use host::{HostLimits, HostNeeds, try_executor};
pub use metrics::{METRICS, Metric, MetricKind};
pub use node::{NodeOptions, RunningNode, run_node};
