//! How tasks of a glommio executor take turns ([`give_way`]), and how they wait for sockets ([`Sockets`], [`Stream`]).
//!
//! Servers and the load generator share it: both have many small messages, and what a message costs is mostly who is
//! woken and interrupted for it.

#![forbid(unsafe_code)]

mod sockets;
mod stream;
mod turn;

pub use sockets::{Serving, Sockets};
pub use stream::Stream;
pub use turn::{PREEMPT_TIMER, give_way};
