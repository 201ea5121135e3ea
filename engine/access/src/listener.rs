//! The listener's side: a hello has come, and the dialler is asked for the key.

use quorate_protocol::ids::ClusterId;
use quorate_wire::{Challenge, NONCE_BYTES, Proof, WIRE_VERSION};

use crate::key::Key;
use crate::proof::{Side, Transcript};

/// A handshake in which the dialler's proof is awaited.
#[derive(Debug)]
pub struct Challenged {
    said: Transcript,
    nonce: [u8; NONCE_BYTES],
}

impl Challenged {
    /// `hello` is the dialler's first frame as it stood on the connection; `nonce` comes from [`crate::draw_nonce`] and is for
    /// this connection alone.
    #[must_use]
    pub fn new(cluster: ClusterId, hello: &[u8], nonce: [u8; NONCE_BYTES]) -> Self {
        Self {
            said: Transcript::new(WIRE_VERSION, cluster, hello, nonce),
            nonce,
        }
    }

    /// What is answered to the hello. It tells a stranger nothing about the key.
    #[must_use]
    pub fn challenge(&self, key: &Key) -> Challenge {
        Challenge {
            nonce: self.nonce,
            proof: self.said.prove(key, Side::Listener),
        }
    }

    /// Whether the dialler has the key.
    #[must_use]
    pub fn is_proved(&self, key: &Key, proof: &Proof) -> bool {
        self.said.is_proved(key, Side::Dialler, &proof.proof)
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::ids::{ReplicaAddress, ReplicaId, ShardId};
    use quorate_wire::{Frame, FrameReader, HelloAck, Origin, Refusal, Refused};

    use super::*;
    use crate::dialler::{Dialler, HandshakeError, Next};
    use crate::proof::draw_nonce;

    const CLUSTER: ClusterId = ClusterId(7);
    const TARGET: ReplicaAddress = ReplicaAddress {
        shard: ShardId(1),
        replica: ReplicaId(2),
    };
    const ACK: Frame = Frame::HelloAck(HelloAck { replica: TARGET });

    fn key(byte: u8) -> Key {
        Key::new(&[byte; 32]).expect("long enough")
    }

    fn dialler(key: Option<&Key>) -> Dialler<'_> {
        let origin = Origin::Client { id: 3 };
        Dialler::new(CLUSTER, key, origin, TARGET, "a genesis".to_owned()).expect("begun")
    }

    fn challenged(dialler: &Dialler<'_>) -> Challenged {
        Challenged::new(CLUSTER, dialler.hello(), draw_nonce().expect("drawn"))
    }

    /// The proof in bytes that a dialler sends.
    fn proof_in(bytes: &[u8]) -> Proof {
        let mut reader = FrameReader::for_handshake(CLUSTER);
        reader.space()[..bytes.len()].copy_from_slice(bytes);
        reader.advance(bytes.len());
        match reader.next_frame() {
            Ok(Some(Frame::Proof(proof))) => proof,
            other => panic!("{other:?} is no proof"),
        }
    }

    fn answer(dialler: &mut Dialler<'_>, challenge: Challenge) -> Result<Proof, HandshakeError> {
        match dialler.next(Frame::Challenge(challenge))? {
            Next::Send(bytes) => Ok(proof_in(&bytes)),
            Next::Established => panic!("without a proof"),
        }
    }

    #[test]
    fn two_sides_with_one_key_get_together() {
        let key = key(1);
        let mut dialler = dialler(Some(&key));
        let challenged = challenged(&dialler);
        let proof = answer(&mut dialler, challenged.challenge(&key)).expect("answered");
        assert!(challenged.is_proved(&key, &proof));
        assert!(matches!(dialler.next(ACK), Ok(Next::Established)));
    }

    #[test]
    fn two_sides_without_a_key_get_together() {
        assert!(matches!(dialler(None).next(ACK), Ok(Next::Established)));
    }

    #[test]
    fn a_proof_of_another_connection_is_none() {
        let key = key(1);
        let mut dialler = dialler(Some(&key));
        let recorded = challenged(&dialler);
        let proof = answer(&mut dialler, recorded.challenge(&key)).expect("answered");
        // The same hello again, and a new nonce against it.
        assert!(!challenged(&dialler).is_proved(&key, &proof));
        // Nor is the listener's own proof, sent back.
        let own = recorded.challenge(&key).proof;
        assert!(!recorded.is_proved(&key, &Proof { proof: own }));
    }

    #[test]
    fn a_listener_has_to_show_the_key_first() {
        let (key, other) = (key(1), key(2));
        let mut dialler_with = dialler(Some(&key));
        let strange = challenged(&dialler_with).challenge(&other);
        let refused = answer(&mut dialler_with, strange);
        assert!(matches!(refused, Err(HandshakeError::NotProved)));
        // Nor may it do without.
        let refused = dialler(Some(&key)).next(ACK);
        assert!(matches!(refused, Err(HandshakeError::NotProved)));
        // A challenge that was recorded belongs to another hello.
        let recorded = challenged(&dialler(Some(&key))).challenge(&key);
        let refused = answer(&mut dialler(Some(&key)), recorded);
        assert!(matches!(refused, Err(HandshakeError::NotProved)));
    }

    #[test]
    fn without_the_key_a_dialler_says_what_it_lacks() {
        let mut without = dialler(None);
        let challenge = challenged(&without).challenge(&key(1));
        let error = answer(&mut without, challenge).expect_err("no key");
        assert!(matches!(error, HandshakeError::KeyWanted) && error.is_final());
        assert!(error.to_string().contains("key_file"), "{error}");
    }

    #[test]
    fn a_second_challenge_has_no_place() {
        let key = key(1);
        let mut dialler = dialler(Some(&key));
        let challenge = challenged(&dialler).challenge(&key);
        answer(&mut dialler, challenge).expect("answered");
        let error = answer(&mut dialler, challenge).expect_err("twice");
        assert!(matches!(error, HandshakeError::WrongFrame("challenge")));
    }

    #[test]
    fn refusals_and_strangers_are_told_apart() {
        let refused = Frame::Refused(Refused {
            refusal: Refusal::Unauthenticated,
            reason: "why".to_owned(),
        });
        let error = dialler(None).next(refused).expect_err("refused");
        assert!(error.is_final(), "{error}");
        let replica = ReplicaAddress {
            replica: ReplicaId(3),
            ..TARGET
        };
        let error = dialler(None).next(Frame::HelloAck(HelloAck { replica }));
        let error = error.expect_err("another one");
        assert!(matches!(error, HandshakeError::WrongReplica { .. }) && !error.is_final());
    }
}
