//! Real replicas, stepped by hand: the harness of the stories and of the moves with a crash
//! at each step.
//!
//! [`cluster`] holds replicas, their logs and the messages between them, and does nothing by itself:
//! a message arrives, a record becomes durable, a process dies only when the caller says so.
//! Two things drive it: [`story`] by the commands of a text file (parsed by [`script`] and
//! [`command`], written down by [`transcript`], [`render`] and [`view`], compared by [`diff`]), and [`timed`] with latencies,
//! clients and the operator's tool, for tests that crash somebody at every step of a scenario.
//!
//! Nothing here draws a random number, reads a clock or touches a disk.

#![forbid(unsafe_code)]

pub mod cluster;
pub mod command;
pub mod diff;
pub mod disk;
pub mod render;
pub mod script;
pub mod story;
pub mod timed;
pub mod transcript;
pub mod view;
