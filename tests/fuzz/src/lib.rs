//! Fuzz targets: bytes in, properties asserted.
//!
//! Each target is one function from bytes to a [`Verdict`], which panics if a property does not hold. It
//! is called by two drivers: the seeded loop of `tests/seeded.rs`, in the ordinary test command and on
//! the stable compiler, and the cargo-fuzz targets in `cargo-fuzz/`, outside of the workspace. Both start
//! from `corpus/`, which `QUORATE_BLESS=1 cargo test -p quorate-fuzz --test corpus` writes.
//!
//! | target | bytes are | must hold |
//! | --- | --- | --- |
//! | [`frame`] | what a connection receives | any chunking reads the same; what is read encodes to itself; memory is bounded |
//! | [`log`] | segments, packed (see [`log::unpack`]) | recovery ends in one row each time, repairs once, finds the same again, and goes on |
//! | [`config`] | a `cluster.toml` | what is taken renders to itself; what is refused is refused with line and key |
//! | [`scenario`] | a scenario file | the same |
//!
//! A checksum keeps random bytes from everything behind it. So [`frame`] and [`log`] look at their bytes
//! twice: as they are, and with every checksum put right.

#![forbid(unsafe_code)]

pub mod config;
pub mod frame;
pub mod log;
pub mod mutate;
pub mod scenario;
pub mod seeds;

/// What became of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Something in them was read.
    Taken,
    /// All of it was refused, with a reason.
    Refused,
}

/// A function to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Of its directory in `corpus/`, and of its cargo-fuzz target.
    pub name: &'static str,
    pub run: fn(&[u8]) -> Verdict,
    /// Whether its bytes are text.
    pub is_text: bool,
}

/// All targets.
pub const TARGETS: [Target; 4] = [
    Target {
        name: "frame",
        run: frame::run,
        is_text: false,
    },
    Target {
        name: "log",
        run: log::run,
        is_text: false,
    },
    Target {
        name: "config",
        run: config::run,
        is_text: true,
    },
    Target {
        name: "scenario",
        run: scenario::run,
        is_text: true,
    },
];
