//! Storage without IO: a write-ahead log as a pure function of appended records and finished
//! operations.
//!
//! This crate knows bytes, segments and positions. It never opens a file (except the read-only maps
//! of [`mmap`]), never waits, knows no clock and nothing of ledgers or elections: a ballot and a
//! slot are opaque numbers that it orders and repeats. A shell (the runtime, the simulator) carries
//! out what it asks for and reports back.
//!
//! | module | what |
//! | --- | --- |
//! | [`store`] | checkpoint files: accounts, history, side tables, and their manifest |
//! | [`superblock`] | who owns a data directory; refuses the wrong cluster, shard, replica, version |
//! | [`wal`] | append, group commit, recovery, reading, recycling |
//! | [`mmap`] | read-only maps of segment files, the only `unsafe` of this crate |
//!
//! The bytes on disk are specified in `docs/reference/storage-format.md`; `tests/golden.rs` keeps
//! them from drifting.

#![deny(unsafe_code)]

mod bytes;
pub mod mmap;
pub mod planted;
pub mod store;
pub mod superblock;
pub mod wal;

/// Unit of every write: offset and length of a flush are multiples of it (O_DIRECT).
pub const BLOCK_BYTES: u32 = 4096;
/// Unit of alignment inside a segment: frames and payloads start on multiples of it.
pub const ALIGN_BYTES: u32 = 16;

const _: () = assert!(BLOCK_BYTES.is_multiple_of(ALIGN_BYTES));
