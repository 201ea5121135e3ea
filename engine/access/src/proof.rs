//! What is proved, and the proof.
//!
//! ```text
//! HMAC-SHA-256 of            bytes
//!   "quorate access 1"          16
//!   side: 1 listener, 2 dialler  1
//!   wire version                 2   little-endian
//!   cluster id                   8   little-endian
//!   listener's nonce            32
//!   SHA-256 of the hello        32   the dialler's whole first frame: its nonce, who it is, whom it wants, the genesis
//! ```
//! Every part has a length of its own that never changes, so no two transcripts have the same bytes.

use std::io;

use hmac::{Hmac, KeyInit, Mac};
use quorate_protocol::ids::ClusterId;
use quorate_wire::{NONCE_BYTES, PROOF_BYTES};
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest, Sha256};

use crate::key::Key;

const LABEL: &[u8; 16] = b"quorate access 1";

/// A number that nobody can foretell and that is used once, from the kernel.
///
/// # Errors
/// The kernel gives none.
pub fn draw_nonce() -> io::Result<[u8; NONCE_BYTES]> {
    let mut nonce = [0; NONCE_BYTES];
    let drawn = getrandom(&mut nonce, GetRandomFlags::empty())?;
    // Up to 256 bytes come whole.
    if drawn < NONCE_BYTES {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(nonce)
}

/// Who proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Listener,
    Dialler,
}

/// What both sides have said before either proves anything.
#[derive(Clone, Debug)]
pub struct Transcript {
    wire_version: u16,
    cluster: ClusterId,
    listener: [u8; NONCE_BYTES],
    hello: [u8; 32],
}

impl Transcript {
    /// `hello` is the dialler's first frame as it stood on the connection, `listener` the nonce that answered it.
    #[must_use]
    pub fn new(
        wire_version: u16,
        cluster: ClusterId,
        hello: &[u8],
        listener: [u8; NONCE_BYTES],
    ) -> Self {
        Self {
            wire_version,
            cluster,
            listener,
            hello: Sha256::digest(hello).into(),
        }
    }

    /// That `side` has the key.
    #[must_use]
    pub fn prove(&self, key: &Key, side: Side) -> [u8; PROOF_BYTES] {
        self.mac(key, side).finalize().into_bytes().into()
    }

    /// Whether it has; the time that this takes tells nothing about the proof that was expected.
    #[must_use]
    pub fn is_proved(&self, key: &Key, side: Side, proof: &[u8; PROOF_BYTES]) -> bool {
        self.mac(key, side).verify_slice(proof).is_ok()
    }

    fn mac(&self, key: &Key, side: Side) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.bytes())
            .expect("an HMAC takes keys of every length");
        let side = match side {
            Side::Listener => 1,
            Side::Dialler => 2,
        };
        mac.update(LABEL);
        mac.update(&[side]);
        mac.update(&self.wire_version.to_le_bytes());
        mac.update(&self.cluster.0.to_le_bytes());
        mac.update(&self.listener);
        mac.update(&self.hello);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(byte: u8) -> Key {
        Key::new(&[byte; 32]).expect("long enough")
    }

    fn transcript() -> Transcript {
        Transcript::new(9, ClusterId(7), b"hello of s1r1", [3; NONCE_BYTES])
    }

    #[test]
    fn each_side_proves_the_key_to_the_other_and_nothing_else() {
        for (side, other) in [
            (Side::Listener, Side::Dialler),
            (Side::Dialler, Side::Listener),
        ] {
            let proof = transcript().prove(&key(1), side);
            assert!(transcript().is_proved(&key(1), side, &proof));
            assert!(!transcript().is_proved(&key(2), side, &proof));
            // A proof sent back to who gave it proves nothing.
            assert!(!transcript().is_proved(&key(1), other, &proof));
        }
    }

    #[test]
    fn a_proof_is_of_one_connection_cluster_version_and_hello() {
        let proof = transcript().prove(&key(1), Side::Dialler);
        let others = [
            Transcript::new(8, ClusterId(7), b"hello of s1r1", [3; NONCE_BYTES]),
            Transcript::new(9, ClusterId(8), b"hello of s1r1", [3; NONCE_BYTES]),
            Transcript::new(9, ClusterId(7), b"hello of s1r2", [3; NONCE_BYTES]),
            Transcript::new(9, ClusterId(7), b"hello of s1r1", [4; NONCE_BYTES]),
        ];
        for other in others {
            assert!(
                !other.is_proved(&key(1), Side::Dialler, &proof),
                "{other:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_changed_bit_of_a_proof_proves_nothing(bit in 0_usize..256) {
            let mut proof = transcript().prove(&key(1), Side::Dialler);
            proof[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!transcript().is_proved(&key(1), Side::Dialler, &proof));
        }
    }

    /// Computed by another implementation from the table above:
    /// `hmac.new(b"\x01" * 32, LABEL + b"\x02" + .., hashlib.sha256)` of Python's standard library.
    #[test]
    fn the_bytes_of_a_proof_are_pinned() {
        let proof = transcript().prove(&key(1), Side::Dialler);
        let hex: String = proof.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "8b64876580c752784aebe9904a6bdc377e0e2e3ce394700de76859ed19a1bdcc"
        );
    }
}
