//! A checkpoint on its way to a replica of the same group that the log cannot help any more.
//!
//! ```text
//! replica that rebuilds                      any other replica of the group
//!   Ask Newest ------------------------------>
//!   <----------------------- Chunk of Manifest n, from its beginning
//!   Ask Manifest n, offset ------------------>          until it has all of it
//!   <------------------------------------ Chunk
//!   Ask File, offset ------------------------>          for each file that it lacks
//!   <---------------------------- Chunk, or Gone: begin again with Newest
//! ```
//!
//! | message | sender -> receiver | answer |
//! | --- | --- | --- |
//! | `Ask` | the one that rebuilds -> another | `Chunk` or `Gone`, or none: it is asked again, or somebody else is |
//! | `Chunk` | the other -> the one that rebuilds | - |
//! | `Gone` | the other -> the one that rebuilds | - |
//!
//! Whoever answers keeps nothing in mind. All replicas of a shard write the same files, so chunks may
//! come from several. The bytes carry their own checksums, bound to their places; the shells of both
//! sides read and write them, and the core never sees these messages.

use crate::words::Words;

/// Bytes of one chunk at most; all but the last one of a part have as many.
pub const CHUNK_BYTES: usize = 256 << 10;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The manifest of the newest checkpoint. It is answered as `Manifest`.
    Newest,
    /// The manifest of this checkpoint.
    Manifest { number: u64 },
    /// The data file of this kind that this checkpoint wrote.
    File { kind: u16, number: u64 },
}

/// Between the shells of two replicas of a group.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Send the bytes of a part from `offset` on.
    Ask { part: Part, offset: u64 },
    /// They are these; the whole part has `total` bytes. Parts consist of whole blocks, so of whole words.
    Chunk {
        part: Part,
        offset: u64,
        total: u64,
        bytes: Words,
    },
    /// There is no such part here (any more).
    Gone { part: Part },
}
