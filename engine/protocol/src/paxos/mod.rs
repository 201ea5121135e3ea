//! Multi-Paxos for one shard's group.

pub mod message;
