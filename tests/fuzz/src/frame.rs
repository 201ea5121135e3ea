//! The frame decoder: what a connection receives.

use quorate_protocol::ids::ClusterId;
use quorate_wire::{
    Frame, FrameError, FrameReader, HEADER_BYTES, PAYLOAD_BYTES_MAX, WIRE_VERSION, encode_frame,
};

use crate::Verdict;

/// The cluster of all samples.
pub const CLUSTER: ClusterId = ClusterId(0x5eed_0000_0000_0001);

/// Reads a stream as it is, and with every frame's header and checksum put right.
pub fn run(bytes: &[u8]) -> Verdict {
    let plain = read(bytes);
    let sealed = read(&seal(bytes));
    match plain == Verdict::Taken || sealed == Verdict::Taken {
        true => Verdict::Taken,
        false => Verdict::Refused,
    }
}

fn read(bytes: &[u8]) -> Verdict {
    let whole = stream(bytes, usize::MAX);
    for chunk in [1 + bytes.len() / 3, 17] {
        let (frames, error) = stream(bytes, chunk);
        assert_eq!(frames, whole.0, "chunks of {chunk}");
        assert_eq!(error, whole.1, "chunks of {chunk}");
    }
    let (frames, error) = whole;
    if let Some(error) = error {
        assert!(FrameError::KINDS.contains(&error.kind()));
        assert!(!error.to_string().is_empty());
    }
    for frame in &frames {
        encodes_to_itself(frame);
    }
    match frames.is_empty() {
        true => Verdict::Refused,
        false => Verdict::Taken,
    }
}

/// What was read is written and read again as the same, and written again as the same bytes.
fn encodes_to_itself(frame: &Frame) {
    let mut once = Vec::new();
    encode_frame(CLUSTER, frame, &mut once).expect("what a frame held fits a frame");
    let (again, error) = stream(&once, usize::MAX);
    assert_eq!(
        (again.as_slice(), error),
        (std::slice::from_ref(frame), None)
    );
    let mut twice = Vec::new();
    encode_frame(CLUSTER, &again[0], &mut twice).expect("it fitted once");
    assert_eq!(once, twice);
}

/// All frames of a stream that comes in pieces of `chunk` bytes, and why it ended early.
fn stream(bytes: &[u8], chunk: usize) -> (Vec<Frame>, Option<FrameError>) {
    let mut reader = FrameReader::new(CLUSTER);
    let (mut frames, mut rest, mut taken) = (Vec::new(), bytes, 0);
    loop {
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => {
                    taken += reader.last_frame_bytes();
                    assert!(reader.last_frame_bytes() <= HEADER_BYTES + PAYLOAD_BYTES_MAX);
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(reader.next_frame(), Err(error.clone()), "it stays closed");
                    return (frames, Some(error));
                }
            }
        }
        assert_eq!(taken + reader.pending_bytes() + rest.len(), bytes.len());
        if rest.is_empty() {
            return (frames, None);
        }
        let pending = reader.pending_bytes();
        let space = reader.space();
        assert!(!space.is_empty(), "the stream is stuck");
        assert!(pending + space.len() <= HEADER_BYTES + PAYLOAD_BYTES_MAX);
        let length = chunk.min(rest.len()).min(space.len());
        space[..length].copy_from_slice(&rest[..length]);
        reader.advance(length);
        rest = &rest[length..];
    }
}

/// Puts right what keeps a stream's frames from being looked into, by the byte table of
/// `docs/reference/wire-format.md`: magic, version, cluster, reserved bytes, padding, checksum. A
/// length that leads out of the stream becomes the longest that does not.
#[must_use]
pub fn seal(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let mut start = 0;
    while let Some(frame) = out
        .get_mut(start..)
        .filter(|rest| rest.len() > HEADER_BYTES)
    {
        let room = frame.len() - HEADER_BYTES;
        let length = u32::from_le_bytes([frame[8], frame[9], frame[10], frame[11]]);
        let wanted = usize::try_from(length).unwrap_or(usize::MAX);
        let payload = match wanted.checked_next_multiple_of(16) {
            Some(padded) if wanted > 0 && padded <= room => wanted,
            _ => room - room % 16,
        };
        if payload == 0 {
            break;
        }
        let end = HEADER_BYTES + payload.next_multiple_of(16);
        let frame = &mut frame[..end];
        frame[..4].copy_from_slice(b"QRT1");
        frame[4..6].copy_from_slice(&WIRE_VERSION.to_le_bytes());
        let kind = u16::from_le_bytes([frame[6], frame[7]]);
        frame[6..8].copy_from_slice(&(1 + (kind.wrapping_sub(1)) % 6).to_le_bytes());
        let payload_bytes = u32::try_from(payload).expect("read from 32 bits, or less");
        frame[8..12].copy_from_slice(&payload_bytes.to_le_bytes());
        frame[12..16].fill(0);
        frame[16..24].copy_from_slice(&CLUSTER.0.to_le_bytes());
        frame[24..HEADER_BYTES].fill(0);
        frame[HEADER_BYTES + payload..].fill(0);
        let crc = crc32fast::hash(frame);
        frame[12..16].copy_from_slice(&crc.to_le_bytes());
        start += end;
    }
    out
}
