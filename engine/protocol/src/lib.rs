//! The pure core of a replica: consensus, ledger, two-phase commit, moves.
//!
//! No IO, clock, thread, async or randomness of the operating system: a replica that depends only on
//! its inputs can be replayed from a seed. The shell feeds one [`input::Input`] at a time and carries
//! out every [`output::Output`].

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod checkpoint;
pub mod client;
pub mod config;
pub mod entry;
pub mod ids;
pub mod input;
pub mod ledger;
pub mod limits;
pub mod message;
pub mod output;
pub mod paxos;
pub mod planted;
pub mod prng;
pub mod replica;
pub mod shard;
pub mod snapshot;
pub mod table;
pub mod time;
pub mod txn;
pub mod words;
