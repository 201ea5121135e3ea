//! Whatever is encoded is decoded to the same, in streams cut anywhere.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod samples;

use quorate_protocol::client::{Reply, ReplyBody, Request, RequestBody};
use quorate_protocol::ids::{Ballot, ClusterId, ReplicaId, RequestId, Slot};
use quorate_protocol::ledger::Transfer;
use quorate_protocol::limits::BATCH_MAX;
use quorate_protocol::message::{PeerBody, PeerMessage};
use quorate_protocol::paxos::message::{Message as Paxos, SlotRecord, SlotReport};
use quorate_protocol::shard::map::splitmix64;
use quorate_protocol::time::Timestamp;
use quorate_protocol::words::{Rows, Word, Words};
use quorate_wire::{
    EncodeError, Frame, FrameReader, HEADER_BYTES, PAYLOAD_BYTES_MAX, Refusal, Refused,
    encode_frame, encode_peer, encode_peer_around,
};

const CLUSTER: ClusterId = ClusterId(u64::MAX);

/// Feeds the bytes in chunks as a socket would, and returns all frames.
fn read_in_chunks(bytes: &[u8], mut chunk: impl FnMut() -> usize) -> Vec<Frame> {
    let mut reader = FrameReader::new(CLUSTER);
    let mut frames = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let space = reader.space();
        assert!(!space.is_empty(), "a socket could not read any further");
        let length = chunk().clamp(1, rest.len().min(space.len()));
        space[..length].copy_from_slice(&rest[..length]);
        reader.advance(length);
        rest = &rest[length..];
        while let Some(frame) = reader.next_frame().unwrap() {
            frames.push(frame);
        }
    }
    assert_eq!(reader.pending_bytes(), 0);
    frames
}

fn stream(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        encode_frame(CLUSTER, frame, &mut bytes).unwrap();
        assert!(bytes.len().is_multiple_of(16));
    }
    bytes
}

/// A request of `rows` transfers with random fields; every bit pattern is a transfer.
fn transfers(seed: u64, rows: usize) -> Frame {
    let words = (0..rows * size_of::<Transfer>() / 16)
        .map(|at| {
            let low = splitmix64(seed ^ u64::try_from(at).unwrap());
            Word((u128::from(low) << 64 | u128::from(splitmix64(low))).to_le_bytes())
        })
        .collect();
    Frame::Request(Request {
        id: RequestId(seed),
        deadline_ms: 1,
        seen: Timestamp(seed),
        body: RequestBody::CreateTransfers(Rows::from_words(Words::from_vec(words)).unwrap()),
    })
}

fn all_samples() -> Vec<Frame> {
    samples::all().into_iter().map(|(_, frame)| frame).collect()
}

#[test]
fn a_stream_of_every_message_survives_any_chunking() {
    let frames = all_samples();
    let bytes = stream(&frames);
    for chunk in [1, 7, 16, 47, 48, 49, 1000, usize::MAX] {
        assert_eq!(
            read_in_chunks(&bytes, || chunk),
            frames,
            "chunks of {chunk}"
        );
    }
}

#[test]
fn small_and_large_frames_mix_under_random_chunking() {
    for seed in 1..=40_u64 {
        let mut state = seed << 32;
        let mut draw = move |end: u64| {
            state += 1;
            usize::try_from(splitmix64(state) % end).unwrap()
        };
        let samples = all_samples();
        let mut frames = Vec::new();
        for number in 0..12 {
            frames.push(samples[draw(u64::try_from(samples.len()).unwrap())].clone());
            let rows = if draw(4) == 0 { BATCH_MAX } else { draw(600) };
            frames.push(transfers(seed * 100 + number, rows));
        }
        let chunk = 1 << (4 + seed % 17);
        assert_eq!(read_in_chunks(&stream(&frames), || 1 + draw(chunk)), frames);
    }
}

#[test]
fn the_largest_entry_fits_a_frame() {
    let frame = |rows| {
        Frame::Peer(PeerMessage {
            clock: Timestamp(1),
            body: PeerBody::Paxos(Paxos::Promise {
                ballot: Ballot::new(2, ReplicaId(1)),
                chosen_upto: Slot(1),
                log_start: Slot(1),
                part: 0,
                parts: 1,
                report: Some(SlotReport {
                    slot: Slot(2),
                    record: SlotRecord::Accepted {
                        accepted: Ballot::new(1, ReplicaId(1)),
                        entry: samples::entry(rows),
                    },
                }),
            }),
        })
    };
    let largest = frame(u128::try_from(BATCH_MAX).unwrap());
    let bytes = stream(std::slice::from_ref(&largest));
    assert!(bytes.len() <= HEADER_BYTES + PAYLOAD_BYTES_MAX);
    assert_eq!(read_in_chunks(&bytes, || 1 << 16), [largest]);
}

#[test]
fn a_message_beyond_the_bound_is_refused_and_leaves_the_buffer_alone() {
    let mut bytes = stream(&all_samples());
    let before = bytes.clone();
    let rows = PAYLOAD_BYTES_MAX / size_of::<Transfer>() + 1;
    let error = encode_frame(CLUSTER, &transfers(1, rows), &mut bytes).unwrap_err();
    assert!(matches!(error, EncodeError::TooLong { bytes } if bytes > PAYLOAD_BYTES_MAX));
    assert_eq!(bytes, before);
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let refused = |reason| {
        Frame::Refused(Refused {
            refusal: Refusal::Malformed,
            reason,
        })
    };
    let bytes = stream(&[refused("x".to_owned() + &"\u{20ac}".repeat(300))]);
    let cut = refused("x".to_owned() + &"\u{20ac}".repeat(170));
    assert_eq!(read_in_chunks(&bytes, || 64), [cut]);
}

#[test]
fn odd_texts_survive() {
    let reply = |text: String| {
        Frame::Reply(Reply {
            id: RequestId(0),
            clock: Timestamp::ZERO,
            body: ReplyBody::BadRequest(text),
        })
    };
    for length in [0, 1, 7, 8, 9, 15, 16, 17, 300] {
        let frame = reply("\u{e4}".repeat(length));
        let bytes = stream(std::slice::from_ref(&frame));
        assert_eq!(read_in_chunks(&bytes, || 5), [frame]);
    }
}

/// Messages of one buffer, each around a run that is sent from where it is, are the bytes that they are with it.
#[test]
fn a_run_that_is_left_out_belongs_where_it_is_said_to() {
    let mut around = Vec::new();
    let (mut sent, mut whole) = (Vec::new(), Vec::new());
    let (mut written, mut left_out) = (0, 0);
    for (_, frame) in samples::all() {
        let Frame::Peer(message) = frame else {
            continue;
        };
        encode_peer(CLUSTER, &message, &mut whole).unwrap();
        if let Some((at, run)) = encode_peer_around(CLUSTER, &message, 1, &mut around).unwrap() {
            sent.extend_from_slice(&around[written..at]);
            sent.extend_from_slice(run.as_bytes());
            (written, left_out) = (at, left_out + 1);
        }
    }
    sent.extend_from_slice(&around[written..]);
    assert_eq!(sent, whole);
    // Accept, PrepareTxn, Votes and Decides at least.
    assert!(left_out >= 4, "{left_out}");
}

#[test]
fn a_run_below_the_least_is_copied() {
    let message = PeerMessage {
        clock: Timestamp(1),
        body: PeerBody::Paxos(Paxos::Accept {
            ballot: Ballot(257),
            slot: Slot(1),
            chosen_upto: Slot(0),
            entry: samples::entry(3),
        }),
    };
    let run = samples::entry(3).bytes();
    let (mut around, mut whole) = (Vec::new(), Vec::new());
    encode_peer(CLUSTER, &message, &mut whole).unwrap();
    let above = encode_peer_around(CLUSTER, &message, run + 1, &mut around);
    assert_eq!((above, &around), (Ok(None), &whole));
    around.clear();
    let exact = encode_peer_around(CLUSTER, &message, run, &mut around).unwrap();
    assert!(exact.is_some());
    assert_eq!(around.len() + run, whole.len());
}
