//! A cluster with latencies, clients and the operator's tool, for tests that crash somebody at every
//! step of a scenario.
//!
//! Every message takes the same time, every flush takes the same time, ties are broken by number: a
//! scenario has exactly one course, so its steps can be numbered and a second run can stop at any of
//! them. [`world`] is the driver, [`payer`] a client with one transfer, [`asker`] one with one question, [`tool`] the operator's move
//! tool as `engine/client/src/reshard.rs` works, [`caller`] what they have in common.

pub mod asker;
pub mod caller;
pub mod payer;
pub mod tool;
pub mod world;
