//! Who may speak on a connection: one key that all nodes and clients of a cluster share, and the proof of having it.
//!
//! ```text
//! dialler  -> listener   Hello, with the dialler's nonce
//! listener -> dialler    Challenge: the listener's nonce, and its proof
//! dialler  -> listener   Proof: the dialler's
//! listener -> dialler    HelloAck, or Refused
//! ```
//! Both nonces are new for every connection, so a recorded handshake proves nothing on another one. A proof is an
//! HMAC-SHA-256 (RFC 2104, FIPS 180-4) with the key over the side that gives it and a [`Transcript`] of all that
//! was said before; a proof of one side is none of the other, of another replica, cluster, role or wire version.
//!
//! [`Dialler`] and [`Challenged`] are the two sides, fed with frames by whoever has the socket. Without a key nothing is proved, and
//! only loopback is served (`engine/config`); a dialler with a key goes on with no listener that has not shown it.
//!
//! What this crate does not do: it opens no connection and encrypts nothing. Behind the handshake frames
//! are not authenticated; whoever can write into the connection of another can speak in its name.

#![forbid(unsafe_code)]

mod dialler;
mod key;
mod listener;
mod proof;

pub use dialler::{Dialler, HandshakeError, Next};
pub use key::{KEY_BYTES_MAX, KEY_BYTES_MIN, Key, KeyError};
pub use listener::Challenged;
pub use proof::{Side, Transcript, draw_nonce};
