//! Whole nodes in this process, driven over real sockets and real files by a plain blocking client.
//!
//! Real processes, kills and pauses are the business of `tests/cluster`; here are the shell's own
//! promises: what it serves, what it refuses, what it leaves on disk, and how it starts and stops.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod access;
mod faults;
mod full_disk;
mod harness;
mod hostile;
mod relay;
mod rot;
mod serve;
mod watch;
