//! Frames and rkyv messages: bytes of a connection to and from the types of `quorate-protocol`.
//!
//! This crate knows bytes, not sockets. [`encode_peer`] and its siblings append whole frames to an
//! outgoing buffer, so that one write carries many messages; a [`FrameReader`] is fed by whoever
//! reads the socket and hands out checked messages. Everything that a peer or a client can get wrong
//! is a [`FrameError`], never a panic, and nothing larger than one frame is ever allocated for it.
//!
//! The layout, byte by byte, is in `docs/reference/wire-format.md`; `tests/golden.rs` pins it.

#![forbid(unsafe_code)]

mod encode;
mod error;
mod frame;
mod gather;
mod header;
mod mirror;
mod reader;
mod run;

pub use encode::{
    encode_challenge, encode_frame, encode_hello, encode_hello_ack, encode_peer,
    encode_peer_around, encode_proof, encode_refused, encode_relayed, encode_reply, encode_request,
};
pub use error::{EncodeError, FrameError};
pub use frame::{
    Challenge, Frame, FrameKind, Hello, HelloAck, NONCE_BYTES, Origin, PROOF_BYTES, Proof, Refusal,
    Refused, Relayed,
};
pub use header::{HANDSHAKE_BYTES_MAX, HEADER_BYTES, PAYLOAD_BYTES_MAX, WIRE_VERSION};
pub use reader::FrameReader;
