//! Appends whole frames to an outgoing buffer, so that many leave in one write.
//!
//! Every frame starts at a multiple of 16 bytes in the buffer and ends at one.

use quorate_protocol::client::{Reply, Request};
use quorate_protocol::ids::ClusterId;
use quorate_protocol::message::PeerMessage;
use rkyv::Serialize;
use rkyv::api::high::{HighSerializer, to_bytes_in};
use rkyv::rancor::BoxedError;
use rkyv::ser::allocator::ArenaHandle;

use crate::error::EncodeError;
use crate::frame::{Frame, FrameKind, Hello, HelloAck, Refused};
use crate::header::{self, FRAME_ALIGN, HEADER_BYTES, PAYLOAD_BYTES_MAX};
use crate::mirror::handshake::{HelloAckMirror, HelloMirror, RefusedMirror};
use crate::mirror::peer::PeerMirror;
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
    }
}

/// What the serialiser below can write.
trait Mirror:
    for<'a, 'b> Serialize<HighSerializer<&'b mut Vec<u8>, ArenaHandle<'a>, BoxedError>>
{
}

impl<T> Mirror for T where
    T: for<'a, 'b> Serialize<HighSerializer<&'b mut Vec<u8>, ArenaHandle<'a>, BoxedError>>
{
}

fn append(
    cluster: ClusterId,
    kind: FrameKind,
    mirror: &impl Mirror,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    assert!(
        out.len().is_multiple_of(FRAME_ALIGN),
        "only whole frames stand in the buffer"
    );
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    match append_payload(mirror, out) {
        Ok(payload_bytes) => {
            out.resize(out.len().next_multiple_of(FRAME_ALIGN), 0);
            header::seal(&mut out[start..], kind, cluster, payload_bytes);
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

/// Appends the archive and returns its length. On an error a part of it may stand in the buffer.
fn append_payload(mirror: &impl Mirror, out: &mut Vec<u8>) -> Result<u32, EncodeError> {
    let start = out.len();
    // Pointers inside an archive are relative, and positions are counted from the start of the
    // buffer, so that alignment holds wherever the frame stands.
    to_bytes_in::<_, BoxedError>(mirror, &mut *out).map_err(|error| EncodeError::Serialize {
        reason: error.to_string(),
    })?;
    let bytes = out.len() - start;
    u32::try_from(bytes)
        .ok()
        .filter(|_| bytes <= PAYLOAD_BYTES_MAX)
        .ok_or(EncodeError::TooLong { bytes })
}
