//! Why bytes are not a frame, and why a message does not become one.

use quorate_protocol::entry::EntryError;
use quorate_protocol::ids::ClusterId;
use thiserror::Error;

use crate::header::{MAGIC, PAYLOAD_BYTES_MAX, WIRE_VERSION};

/// Why received bytes are not a frame. The stream cannot be followed any further: close it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("magic {found:#010x} instead of {MAGIC:#010x}")]
    Magic { found: u32 },
    #[error("wire version {found}, this side speaks {WIRE_VERSION}")]
    Version { found: u16 },
    #[error("frame of cluster {found}, this side is in cluster {own}")]
    Cluster { own: ClusterId, found: ClusterId },
    #[error("unknown frame kind {number}")]
    Kind { number: u16 },
    #[error("payload of {bytes} bytes, a frame takes 1 to {most} here")]
    Length { bytes: u32, most: usize },
    #[error("reserved header bytes are set")]
    Reserved,
    #[error("bytes behind the payload are set")]
    Padding,
    #[error("crc32 {found:#010x} in the header, {computed:#010x} over the frame")]
    Crc { found: u32, computed: u32 },
    #[error("payload is not a {message}: {reason}")]
    Structure {
        message: &'static str,
        reason: String,
    },
    #[error("entry: {0}")]
    Entry(#[from] EntryError),
    #[error("{bytes} bytes are not whole {rows}")]
    Rows { rows: &'static str, bytes: usize },
    #[error("{what} {number} has no meaning")]
    Number { what: &'static str, number: u64 },
}

impl FrameError {
    /// Every value of [`Self::kind`], for registering counters.
    pub const KINDS: &'static [&'static str] = &[
        "magic",
        "version",
        "cluster",
        "kind",
        "length",
        "reserved",
        "padding",
        "crc",
        "structure",
        "entry",
        "rows",
        "number",
    ];

    /// A stable name of the cause, for counters.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Magic { .. } => "magic",
            Self::Version { .. } => "version",
            Self::Cluster { .. } => "cluster",
            Self::Kind { .. } => "kind",
            Self::Length { .. } => "length",
            Self::Reserved => "reserved",
            Self::Padding => "padding",
            Self::Crc { .. } => "crc",
            Self::Structure { .. } => "structure",
            Self::Entry(_) => "entry",
            Self::Rows { .. } => "rows",
            Self::Number { .. } => "number",
        }
    }
}

/// Why a message does not become a frame. The buffer is as it was before.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    #[error("message of {bytes} bytes, a frame takes {PAYLOAD_BYTES_MAX}")]
    TooLong { bytes: usize },
    #[error("serialization: {reason}")]
    Serialize { reason: String },
}
