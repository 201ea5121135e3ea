//! Real replicas, stepped by hand: the harness of the moves with a crash at each step.
//!
//! [`cluster`] holds replicas, their logs and the messages between them, and does nothing by itself:
//! a message arrives, a record becomes durable, a process dies only when the caller says so.
//! [`timed`] drives it with latencies, clients and the operator's tool, for tests that crash
//! somebody at every step of a scenario.
//!
//! Nothing here draws a random number, reads a clock or touches a disk.

#![forbid(unsafe_code)]

pub mod cluster;
pub mod disk;
pub mod timed;
