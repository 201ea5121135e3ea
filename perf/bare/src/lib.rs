//! The bare program that Quorate's figures are compared with: what the machine, the kernel and glommio
//! allow when there is neither consensus nor a ledger.
//!
//! ```text
//! load   --frames over TCP-->  serve   one O_DIRECT|O_DSYNC write per group, then the answers
//! floor  one flush, one round trip: what a latency is made of
//! ```
//!
//! It uses nothing of ours on purpose: a mistake that it shared with the server would not show as a
//! difference. `serve` runs its executor with the settings of a replica.

#![forbid(unsafe_code)]

mod acceptor;
pub mod args;
mod connection;
mod cpu;
mod executor;
pub mod floor;
pub mod frame;
mod group;
mod link;
pub mod load;
pub mod report;
mod ring;
pub mod serve;
mod wakeup;
