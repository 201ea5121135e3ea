//! Appends whole frames to an outgoing buffer, so that many leave in one write.
//!
//! Every frame starts at a multiple of 16 bytes in the buffer and ends at one.

use quorate_protocol::client::{Reply, Request};
use quorate_protocol::ids::ClusterId;
use quorate_protocol::message::{PeerBody, PeerMessage};
use quorate_protocol::words::Words;
use quorate_protocol::{paxos::message as paxos, txn::message as txn};
use rkyv::Serialize;
use rkyv::api::high::{HighSerializer, to_bytes_in};
use rkyv::rancor::BoxedError;
use rkyv::ser::allocator::ArenaHandle;

use crate::error::EncodeError;
use crate::frame::{Challenge, Frame, FrameKind, Hello, HelloAck, Proof, Refused, Relayed};
use crate::gather::Gather;
use crate::header::{self, FRAME_ALIGN, HEADER_BYTES, PAYLOAD_BYTES_MAX};
use crate::mirror::handshake::{
    ChallengeMirror, HelloAckMirror, HelloMirror, ProofMirror, RefusedMirror,
};
use crate::mirror::peer::{PeerMirror, RelayedMirror};
use crate::mirror::reply::ReplyMirror;
use crate::mirror::request::RequestMirror;

/// Appends a message to a replica.
pub fn encode_peer(
    cluster: ClusterId,
    message: &PeerMessage,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    append(cluster, FrameKind::Peer, &PeerMirror::of(message), out)
}

/// Appends a message to a replica without its bulk, if that has at least `bytes_min`: tells what is left out, and where in
/// `out` it belongs when the frame is sent.
pub fn encode_peer_around(
    cluster: ClusterId,
    message: &PeerMessage,
    bytes_min: usize,
    out: &mut Vec<u8>,
) -> Result<Option<(usize, Words)>, EncodeError> {
    let bulk = bulk_of(message).filter(|words| words.as_bytes().len() >= bytes_min);
    let run = bulk.map(Words::as_bytes);
    let at = append_around(cluster, FrameKind::Peer, &PeerMirror::of(message), run, out)?;
    Ok(at.zip(bulk.cloned()))
}

/// The run of records that a message carries.
fn bulk_of(message: &PeerMessage) -> Option<&Words> {
    match &message.body {
        PeerBody::Paxos(paxos::Message::Accept { entry, .. }) => Some(entry.words()),
        PeerBody::Txn(txn::Message::PrepareTxn(rows)) => Some(rows.words()),
        PeerBody::Txn(txn::Message::Votes(rows) | txn::Message::Decides(rows)) => {
            Some(rows.words())
        }
        _ => None,
    }
}

/// Appends a message that goes by way of another replica.
pub fn encode_relayed(
    cluster: ClusterId,
    relayed: &Relayed,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    append(
        cluster,
        FrameKind::Relayed,
        &RelayedMirror::of(relayed),
        out,
    )
}

/// Appends a request to a replica.
pub fn encode_request(
    cluster: ClusterId,
    request: &Request,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    append(
        cluster,
        FrameKind::Request,
        &RequestMirror::of(request),
        out,
    )
}

/// Appends a reply to a client.
pub fn encode_reply(
    cluster: ClusterId,
    reply: &Reply,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    append(cluster, FrameKind::Reply, &ReplyMirror::of(reply), out)
}

/// Appends the first frame of a dialler.
pub fn encode_hello(
    cluster: ClusterId,
    hello: &Hello,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    append(cluster, FrameKind::Hello, &HelloMirror::of(hello), out)
}

/// Appends a listener's question for the key.
pub fn encode_challenge(
    cluster: ClusterId,
    challenge: &Challenge,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    append(
        cluster,
        FrameKind::Challenge,
        &ChallengeMirror::of(challenge),
        out,
    )
}

/// Appends the dialler's answer to it.
pub fn encode_proof(
    cluster: ClusterId,
    proof: &Proof,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    append(cluster, FrameKind::Proof, &ProofMirror::of(proof), out)
}

/// Appends the answer to a hello that fits.
pub fn encode_hello_ack(
    cluster: ClusterId,
    ack: &HelloAck,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    append(cluster, FrameKind::HelloAck, &HelloAckMirror::of(ack), out)
}

/// Appends the answer to a hello that does not fit. A reason longer than 512 bytes is cut.
pub fn encode_refused(
    cluster: ClusterId,
    refused: &Refused,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    append(
        cluster,
        FrameKind::Refused,
        &RefusedMirror::of(refused),
        out,
    )
}

/// Appends any frame.
pub fn encode_frame(
    cluster: ClusterId,
    frame: &Frame,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    match frame {
        Frame::Hello(hello) => encode_hello(cluster, hello, out),
        Frame::HelloAck(ack) => encode_hello_ack(cluster, ack, out),
        Frame::Refused(refused) => encode_refused(cluster, refused, out),
        Frame::Peer(message) => encode_peer(cluster, message, out),
        Frame::Request(request) => encode_request(cluster, request, out),
        Frame::Reply(reply) => encode_reply(cluster, reply, out),
        Frame::Challenge(challenge) => encode_challenge(cluster, challenge, out),
        Frame::Proof(proof) => encode_proof(cluster, proof, out),
        Frame::Relayed(relayed) => encode_relayed(cluster, relayed, out),
    }
}

/// What the serialiser below can write.
trait Mirror: for<'a, 'b> Serialize<HighSerializer<Gather<'b>, ArenaHandle<'a>, BoxedError>> {}

impl<T> Mirror for T where
    T: for<'a, 'b> Serialize<HighSerializer<Gather<'b>, ArenaHandle<'a>, BoxedError>>
{
}

fn append(
    cluster: ClusterId,
    kind: FrameKind,
    mirror: &impl Mirror,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    append_around(cluster, kind, mirror, None, out).map(|_| ())
}

/// Appends a frame but for `run`; returns where in the buffer that belongs, if it was met.
fn append_around(
    cluster: ClusterId,
    kind: FrameKind,
    mirror: &impl Mirror,
    run: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Result<Option<usize>, EncodeError> {
    assert!(
        out.len().is_multiple_of(FRAME_ALIGN),
        "only whole frames stand in the buffer"
    );
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    match append_payload(mirror, run, out) {
        Ok((payload_bytes, at)) => {
            // A run is whole words: without it the padding is the same.
            out.resize(out.len().next_multiple_of(FRAME_ALIGN), 0);
            let left_out = at.map(|at| at - start).zip(run);
            header::seal(&mut out[start..], left_out, kind, cluster, payload_bytes);
            Ok(at)
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

/// Appends the archive but for `run`; returns its length with the run, and where that belongs. On an error a part of it
/// may stand in the buffer.
fn append_payload(
    mirror: &impl Mirror,
    run: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Result<(u32, Option<usize>), EncodeError> {
    let start = out.len();
    // Pointers inside an archive are relative, and positions are counted from the start of the
    // buffer, so that alignment holds wherever the frame stands.
    let written = to_bytes_in::<_, BoxedError>(mirror, Gather::around(out, run));
    let written = written.map_err(|error| EncodeError::Serialize {
        reason: error.to_string(),
    })?;
    let (at, left_out) = (written.at(), written.left_out());
    let bytes = out.len() - start + left_out;
    let length = u32::try_from(bytes)
        .ok()
        .filter(|_| bytes <= PAYLOAD_BYTES_MAX);
    Ok((length.ok_or(EncodeError::TooLong { bytes })?, at))
}
