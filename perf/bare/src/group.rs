//! The frames that the next write makes durable.
//!
//! A frame's bytes go straight from where they were read into the buffer that is written: one copy, and
//! its checksum and the start of its answer are taken from the same cache lines on the way.

use std::rc::Rc;

use crc32fast::Hasher;
use glommio::io::DmaBuffer;

use crate::connection::Connection;
use crate::executor::IO_MEMORY_BYTES;
use crate::frame::{COUNT_MAX, ECHO_BYTES, Frame, HEADER_BYTES, Header, Kind, RECORD_BYTES};
use crate::ring::{BLOCK_BYTES, Ring};

/// Most bytes of one write: every segment has room for them. Frames beyond it wait where they were read.
pub(crate) const GROUP_BYTES_MAX: usize = 8 << 20;
/// Least room of a group. Two such buffers are cut from the executor's registered memory.
const GROUP_BYTES_MIN: usize = 64 << 10;
const _: () = assert!(2 * GROUP_BYTES_MIN <= IO_MEMORY_BYTES);
const _: () = assert!(HEADER_BYTES + COUNT_MAX as usize * RECORD_BYTES <= GROUP_BYTES_MAX);
/// Bytes that are summed, copied and echoed at once: twice that fits the first cache.
const STRIDE_BYTES: usize = 8 << 10;
const _: () = assert!(STRIDE_BYTES.is_multiple_of(RECORD_BYTES));

/// Frames that came while a write was in flight.
pub(crate) struct Group {
    buffer: DmaBuffer,
    length: usize,
    /// Whoever gets an answer; each once.
    senders: Vec<Rc<Connection>>,
}

/// The group has no room for the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Group {
    /// An empty group with twice the room that the last one needed, so that buffers are rarely moved.
    pub(crate) fn after(last_length: usize, ring: &Ring) -> Self {
        Self {
            buffer: ring.buffer(capacity(2 * last_length)),
            length: 0,
            senders: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Takes a frame in, and begins its answer.
    pub(crate) fn append(
        &mut self,
        frame: Frame<'_>,
        sender: &Rc<Connection>,
        ring: &Ring,
    ) -> Result<(), Full> {
        let end = self.length + HEADER_BYTES + frame.payload.len();
        if end > GROUP_BYTES_MAX {
            return Err(Full);
        }
        if end > self.buffer.len() {
            let mut larger = ring.buffer(capacity(end));
            let kept = &self.buffer.as_bytes()[..self.length];
            larger.as_bytes_mut()[..self.length].copy_from_slice(kept);
            self.buffer = larger;
        }
        let record = &mut self.buffer.as_bytes_mut()[self.length..end];
        let is_first = sender.answer(|answers| encode(frame, record, answers));
        if is_first {
            self.senders.push(Rc::clone(sender));
        }
        self.length = end;
        Ok(())
    }

    /// The bytes to write, in whole blocks, and who waits for them.
    pub(crate) fn seal(mut self) -> (DmaBuffer, Vec<Rc<Connection>>) {
        let end = self.length.next_multiple_of(BLOCK_BYTES);
        self.buffer.trim_to_size(end);
        self.buffer.as_bytes_mut()[self.length..].fill(0);
        (self.buffer, self.senders)
    }
}

/// Room for so many bytes, rounded so that buffers come from few sizes.
fn capacity(bytes: usize) -> usize {
    bytes
        .next_power_of_two()
        .clamp(GROUP_BYTES_MIN, GROUP_BYTES_MAX)
}

/// Writes a frame as a record of the log, and its answer.
fn encode(frame: Frame<'_>, record: &mut [u8], answers: &mut Vec<u8>) {
    let answer = Header {
        kind: Kind::Answer,
        ..frame.header
    };
    answer.append_to(answers);
    answers.reserve(answer.payload_bytes());
    let (head, body) = record.split_at_mut(HEADER_BYTES);
    let mut crc = Hasher::new();
    let strides = frame.payload.chunks(STRIDE_BYTES);
    for (from, to) in strides.zip(body.chunks_mut(STRIDE_BYTES)) {
        crc.update(from);
        to.copy_from_slice(from);
        for record in from.chunks_exact(RECORD_BYTES) {
            answers.extend_from_slice(&record[..ECHO_BYTES]);
        }
    }
    head.copy_from_slice(&frame.header.encoded(crc.finalize()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_in_few_sizes_and_hold_what_they_are_made_for() {
        assert_eq!(capacity(0), GROUP_BYTES_MIN);
        assert_eq!(capacity((64 << 10) + 1), 128 << 10);
        assert_eq!(capacity(5 << 20), GROUP_BYTES_MAX);
        assert_eq!(capacity(usize::MAX / 2), GROUP_BYTES_MAX);
    }

    #[test]
    fn a_record_has_the_frame_with_its_checksum_and_the_answer_its_first_bytes() {
        for count in [1_u32, 64, 65, 8190] {
            let header = Header {
                kind: Kind::Request,
                count,
                number: 3,
            };
            let payload: Vec<u8> = (0_u32..)
                .flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_le_bytes())
                .take(header.payload_bytes())
                .collect();
            let mut record = vec![0; HEADER_BYTES + payload.len()];
            let mut answers = b"before".to_vec();
            let payload = &payload[..];
            encode(Frame { header, payload }, &mut record, &mut answers);
            let (head, body) = record.split_at(HEADER_BYTES);
            assert_eq!(body, payload);
            assert_eq!(head, header.encoded(crc32fast::hash(payload)));
            let answer = Header {
                kind: Kind::Answer,
                ..header
            };
            let mut expected = b"before".to_vec();
            answer.append_to(&mut expected);
            for record in payload.chunks(RECORD_BYTES) {
                expected.extend_from_slice(&record[..ECHO_BYTES]);
            }
            assert_eq!(answers, expected);
        }
    }
}
