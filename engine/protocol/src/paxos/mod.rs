//! Multi-Paxos for one shard's group.

pub mod message;
pub mod stub;
pub use stub::*;
