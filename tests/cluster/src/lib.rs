//! Harness for tests on real processes: the built binaries, a cluster in a temporary directory on
//! free ports, and waits with deadlines.
//!
//! The tests speak to a cluster as an operator does, through `quorate` and `quorate-bench`; only
//! `hostile.rs` opens sockets itself. Whatever a test starts is killed when its fixture is dropped,
//! also when the test panics. One cluster runs at a time per test binary: two on one small machine
//! would only measure each other.

#![forbid(unsafe_code)]

mod binaries;
mod fixture;
mod lab;
mod load;
mod ports;
mod scratch;
mod wait;

pub use binaries::{Binaries, binaries};
pub use fixture::{Cluster, Finished, Shape, with_small_checkpoints};
pub use lab::Lab;
pub use load::{Load, LoadReport};
pub use ports::free_base_port;
pub use scratch::scratch;
pub use wait::{patience, until, until_ok};

/// Whether the long forms run (`QUORATE_CLUSTER_FULL=1`).
#[must_use]
pub fn full() -> bool {
    std::env::var_os("QUORATE_CLUSTER_FULL").is_some_and(|value| value == "1")
}
