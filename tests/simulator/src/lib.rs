//! Deterministic simulation: whole clusters in one process, virtual time, one seed.
//!
//! The same `protocol` and `storage` code that ships runs here between a simulated network, simulated
//! disks and simulated clocks, all of which misbehave as their seed tells them. Observers that share
//! no code with the core check what the clients were told, what the logs say and what is left at the
//! end. A seed replays to the byte.

pub mod budget;
pub mod checkers;
pub mod client;
pub mod clock;
pub mod codec;
pub mod counters;
pub mod disk;
pub mod disk_faults;
pub mod documents;
pub mod exit;
pub mod faults;
pub mod history;
pub mod job;
pub mod network;
pub mod node;
pub mod operator;
pub mod outcome;
pub mod parameters;
pub mod phases;
mod plots;
pub mod process;
pub mod queue;
pub mod random;
pub mod rare;
pub mod runner;
pub(crate) mod setup;
mod swarm;
pub mod trace;
pub mod workload;
pub mod world;
