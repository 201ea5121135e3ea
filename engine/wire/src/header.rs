//! The fixed head of every frame.
//!
//! ```text
//! offset  bytes  content (all little-endian)
//!      0      4  magic "QRT1"
//!      4      2  wire version
//!      6      2  frame kind
//!      8      4  payload bytes, exact; the payload is padded with zeros to a multiple of 16
//!     12      4  crc32 over header (this field zero), payload and padding
//!     16      8  cluster id
//!     24     24  reserved, zero
//!     48         payload: one rkyv archive, its root at the end of the exact length
//! ```
//!
//! Magic, version, kind, length and crc keep their place in every version, so that any two versions
//! can at least refuse each other by name.

use crc32fast::Hasher;
use quorate_protocol::ids::ClusterId;
use quorate_protocol::limits::{FRAME_OVERHEAD_MAX, FRAME_PAYLOAD_MAX};

use crate::error::FrameError;
use crate::frame::FrameKind;

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 48;
/// Longest payload: one whole log entry and the fields around it.
pub const PAYLOAD_BYTES_MAX: usize = FRAME_PAYLOAD_MAX + FRAME_OVERHEAD_MAX;
/// Longest payload before a connection stands: a hello with the longest genesis, a refusal with the longest reason.
pub const HANDSHAKE_BYTES_MAX: usize = 1024;
/// Version of everything in this crate, and of what replicas of a group do alike. Any change of a layout raises it, and any
/// change of when a checkpoint is due.
pub const WIRE_VERSION: u16 = 10;
/// Frames and their payloads start at multiples of this: records are read in place.
pub(crate) const FRAME_ALIGN: usize = 16;
/// "QRT1" as the bytes stand on the wire.
pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"QRT1");

const CRC_AT: usize = 12;

const _: () = assert!(HEADER_BYTES.is_multiple_of(FRAME_ALIGN));
const _: () = assert!(PAYLOAD_BYTES_MAX.is_multiple_of(FRAME_ALIGN));
const _: () = assert!(
    PAYLOAD_BYTES_MAX <= i32::MAX as usize,
    "rkyv pointers are 32 bits wide"
);

/// A header that passed every check that does not need the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub kind: FrameKind,
    /// Exact; at least 1.
    pub payload_bytes: usize,
    pub crc: u32,
}

impl Header {
    /// Checks a received header, in the order in which a stranger is best told what is wrong.
    pub fn parse(
        bytes: &[u8; HEADER_BYTES],
        own: ClusterId,
        payload_bytes_max: usize,
    ) -> Result<Self, FrameError> {
        let magic = u32_at(bytes, 0);
        if magic != MAGIC {
            return Err(FrameError::Magic { found: magic });
        }
        let version = u16_at(bytes, 4);
        if version != WIRE_VERSION {
            return Err(FrameError::Version { found: version });
        }
        let cluster = ClusterId(u64_at(bytes, 16));
        if cluster != own {
            return Err(FrameError::Cluster {
                own,
                found: cluster,
            });
        }
        let number = u16_at(bytes, 6);
        let kind = FrameKind::from_u16(number).ok_or(FrameError::Kind { number })?;
        let length = u32_at(bytes, 8);
        let payload_bytes = usize::try_from(length)
            .ok()
            .filter(|bytes| (1..=payload_bytes_max).contains(bytes))
            .ok_or(FrameError::Length {
                bytes: length,
                most: payload_bytes_max,
            })?;
        if bytes[24..].iter().any(|&byte| byte != 0) {
            return Err(FrameError::Reserved);
        }
        Ok(Self {
            kind,
            payload_bytes,
            crc: u32_at(bytes, CRC_AT),
        })
    }

    /// Bytes of the whole frame.
    pub fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.payload_bytes.next_multiple_of(FRAME_ALIGN)
    }
}

/// Writes the header of `frame`, whose payload and padding stand already, but for `left_out` at a place of it.
pub(crate) fn seal(
    frame: &mut [u8],
    left_out: Option<(usize, &[u8])>,
    kind: FrameKind,
    cluster: ClusterId,
    payload_bytes: u32,
) {
    let (head, _) = frame.split_at_mut(HEADER_BYTES);
    head.fill(0);
    head[..4].copy_from_slice(&MAGIC.to_le_bytes());
    head[4..6].copy_from_slice(&WIRE_VERSION.to_le_bytes());
    head[6..8].copy_from_slice(&(kind as u16).to_le_bytes());
    head[8..12].copy_from_slice(&payload_bytes.to_le_bytes());
    head[16..24].copy_from_slice(&cluster.0.to_le_bytes());
    let (at, run) = left_out.unwrap_or((frame.len(), &[]));
    let crc = checksum([&frame[..at], run, &frame[at..]]);
    frame[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
}

/// The checksum of a whole frame in parts, of which the first holds the header, its crc field taken as zero.
pub(crate) fn checksum<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut hasher = Hasher::new();
    let mut parts = parts.into_iter();
    if let Some(first) = parts.next() {
        hasher.update(&first[..CRC_AT]);
        hasher.update(&[0; 4]);
        hasher.update(&first[CRC_AT + 4..]);
    }
    parts.for_each(|part| hasher.update(part));
    hasher.finalize()
}

fn u16_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("2 bytes"))
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}
