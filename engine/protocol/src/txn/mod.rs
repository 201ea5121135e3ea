//! Atomic commitment across shards: two-phase commit over the Paxos groups.

pub mod apply;
pub mod message;
pub mod record;
