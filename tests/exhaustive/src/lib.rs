//! Exhaustive small worlds: everything that can go wrong in a world small enough to try all of it.
//!
//! The simulator draws from large worlds, this crate enumerates small ones. What it finds it finds in
//! every run, and what it passes holds for all of them, up to the size that is written in each test and
//! counted there: a number of worlds that shrinks fails the test.
//!
//! | module | what |
//! | --- | --- |
//! | [`disk`] | a disk that tells every way in which a crash can leave it |
//! | [`twin`] | the log as a list of records, to hold the real one against |
//! | [`log_world`] | the real log on that disk, driven through every crash |
//!
//! The tests are in `tests/`.

#![forbid(unsafe_code)]

pub mod disk;
pub mod log_world;
pub mod twin;
