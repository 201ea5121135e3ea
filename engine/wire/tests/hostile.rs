//! Bytes that no honest peer sends: the decoder says why, or waits for more, and never panics.
//!
//! Everything is drawn from fixed seeds: a failure repeats.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod samples;

use quorate_protocol::ids::ClusterId;
use quorate_protocol::shard::map::splitmix64;
use quorate_wire::{
    Frame, FrameError, FrameReader, HEADER_BYTES, PAYLOAD_BYTES_MAX, WIRE_VERSION, encode_frame,
};

const CLUSTER: ClusterId = ClusterId(42);

/// A stream of numbers from one seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        splitmix64(self.0)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_frame(CLUSTER, frame, &mut bytes).unwrap();
    bytes
}

fn frames() -> Vec<Vec<u8>> {
    samples::all()
        .iter()
        .map(|(_, frame)| encoded(frame))
        .collect()
}

fn decode(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
    let mut reader = FrameReader::new(CLUSTER);
    feed(&mut reader, bytes);
    reader.next_frame()
}

fn feed(reader: &mut FrameReader, bytes: &[u8]) {
    reader.space()[..bytes.len()].copy_from_slice(bytes);
    reader.advance(bytes.len());
}

/// The checksum by the byte table of the documentation, not by the code under test.
fn reseal(frame: &mut [u8]) {
    frame[12..16].fill(0);
    let crc = crc32fast::hash(frame);
    frame[12..16].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn a_part_of_a_frame_is_waited_for() {
    for frame in frames() {
        for length in 0..frame.len() {
            assert_eq!(
                decode(&frame[..length]),
                Ok(None),
                "{length} of {}",
                frame.len()
            );
        }
    }
}

#[test]
fn no_single_bit_flip_passes() {
    for frame in frames() {
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let decoded = decode(&flipped);
            assert!(!matches!(decoded, Ok(Some(_))), "bit {bit}: {decoded:?}");
        }
    }
}

#[test]
fn a_header_that_lies_is_refused_by_name() {
    let edits: [(&str, usize, &[u8]); 9] = [
        ("magic", 0, b"HTTP"),
        ("version", 4, &(WIRE_VERSION + 1).to_le_bytes()),
        ("cluster", 16, &43_u64.to_le_bytes()),
        ("kind", 6, &0_u16.to_le_bytes()),
        ("kind", 6, &10_u16.to_le_bytes()),
        ("length", 8, &0_u32.to_le_bytes()),
        ("length", 8, &u32::MAX.to_le_bytes()),
        ("length", 8, &1_052_673_u32.to_le_bytes()),
        ("reserved", 47, &[1]),
    ];
    assert_eq!(PAYLOAD_BYTES_MAX, 1_052_672);
    for frame in frames() {
        for (kind, at, bytes) in edits {
            let mut edited = frame.clone();
            edited[at..at + bytes.len()].copy_from_slice(bytes);
            reseal(&mut edited);
            assert_eq!(decode(&edited).unwrap_err().kind(), kind);
            // The header alone is enough to refuse: nothing is received for a frame that lies.
            assert_eq!(decode(&edited[..HEADER_BYTES]).unwrap_err().kind(), kind);
        }
    }
}

#[test]
fn set_padding_is_refused() {
    let padded = frames()
        .into_iter()
        .filter(|frame| u32::from_le_bytes(frame[8..12].try_into().unwrap()) % 16 != 0);
    let mut seen = 0;
    for mut frame in padded {
        *frame.last_mut().unwrap() = 1;
        reseal(&mut frame);
        assert_eq!(decode(&frame), Err(FrameError::Padding));
        seen += 1;
    }
    assert!(seen > 5, "{seen} samples have padding");
}

#[test]
fn corrupted_payloads_with_a_right_checksum_do_no_harm() {
    let frames = frames();
    let mut dice = Dice(7);
    let (mut refused, mut passed) = (0_u32, 0_u32);
    for round in 0..40_000 {
        let mut frame = frames[round % frames.len()].clone();
        for _ in 0..=dice.below(4) {
            let at = HEADER_BYTES + dice.below(frame.len() - HEADER_BYTES);
            frame[at] = match dice.below(4) {
                0 => 0,
                1 => 0xff,
                2 => frame[at].wrapping_add(1),
                _ => dice.next().to_le_bytes()[0],
            };
        }
        reseal(&mut frame);
        match decode(&frame) {
            Ok(Some(message)) => {
                // What passes is a whole message: it survives a round trip.
                assert_eq!(decode(&encoded(&message)), Ok(Some(message)));
                passed += 1;
            }
            Ok(None) => panic!("the length did not change"),
            Err(error) => {
                assert!(FrameError::KINDS.contains(&error.kind()));
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    assert!(
        refused > 1000 && passed > 1000,
        "{refused} refused, {passed} passed"
    );
}

#[test]
fn a_payload_that_says_it_is_another_kind_does_no_harm() {
    for frame in frames() {
        for kind in 1..=6_u16 {
            for cut in [0, 1, 4, 16, 24] {
                let payload = frame.len() - HEADER_BYTES;
                let length = u32::try_from(payload.saturating_sub(cut).max(1)).unwrap();
                let mut edited = frame.clone();
                edited[6..8].copy_from_slice(&kind.to_le_bytes());
                edited[8..12].copy_from_slice(&length.to_le_bytes());
                let end = HEADER_BYTES + usize::try_from(length).unwrap().next_multiple_of(16);
                edited.truncate(end);
                reseal(&mut edited);
                assert_ne!(decode(&edited), Ok(None));
            }
        }
    }
}

#[test]
fn garbage_is_refused_or_waited_for() {
    let mut dice = Dice(11);
    for _ in 0..5_000 {
        let length = dice.below(300);
        let mut garbage: Vec<u8> = (0..length).map(|_| dice.next().to_le_bytes()[0]).collect();
        assert!(!matches!(decode(&garbage), Ok(Some(_))));
        if garbage.len() > HEADER_BYTES {
            // A right header before garbage.
            let payload = u32::try_from(garbage.len() - HEADER_BYTES).unwrap();
            let kind = u16::try_from(1 + dice.below(6)).unwrap();
            garbage[..HEADER_BYTES].copy_from_slice(&frames()[0][..HEADER_BYTES]);
            garbage[6..8].copy_from_slice(&kind.to_le_bytes());
            garbage[8..12].copy_from_slice(&payload.to_le_bytes());
            garbage.resize(garbage.len().next_multiple_of(16), 0);
            reseal(&mut garbage);
            assert_ne!(decode(&garbage), Ok(None));
        }
    }
}

/// rkyv names the pointers that it refuses. The reason of a refusal goes back to a stranger, who could
/// read from it where this process has its memory.
#[test]
fn a_reason_tells_no_address_and_is_the_same_each_time() {
    let mut refused = 0;
    for frame in frames() {
        for at in (HEADER_BYTES..frame.len()).step_by(4) {
            let mut edited = frame.clone();
            edited[at..at + 4].fill(0x7f);
            reseal(&mut edited);
            let Err(error) = decode(&edited) else {
                continue;
            };
            let text = error.to_string();
            assert_eq!(decode(&edited), Err(error));
            let pointers: Vec<&str> = text.split("0x").skip(1).collect();
            if text.contains("pointer") && !pointers.is_empty() {
                assert!(pointers.iter().all(|rest| rest.starts_with("..")), "{text}");
                refused += 1;
            }
        }
    }
    assert!(refused > 50, "only {refused} reasons had a pointer");
}

#[test]
fn after_an_error_the_stream_stays_closed() {
    let mut reader = FrameReader::new(CLUSTER);
    feed(&mut reader, &[0xee; HEADER_BYTES]);
    let error = reader.next_frame().unwrap_err();
    feed(&mut reader, &frames()[0]);
    assert_eq!(reader.next_frame(), Err(error));
}
