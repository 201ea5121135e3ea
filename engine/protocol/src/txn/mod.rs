//! Atomic commitment across shards: two-phase commit over the Paxos groups.

pub mod apply;
pub(crate) mod coordinator;
pub(crate) mod look_up;
pub mod message;
pub(crate) mod participant;
pub(crate) mod plausible;
pub mod record;
pub(crate) mod under_way;
