//! Mirrors of `Hello`, `Challenge`, `Proof`, `HelloAck` and `Refused`.

use quorate_protocol::config::GENESIS_BYTES_MAX;
use rkyv::{Archive, Serialize};

use super::{AddressMirror, number};
use crate::error::FrameError;
use crate::frame::{
    Challenge, Hello, HelloAck, NONCE_BYTES, Origin, PROOF_BYTES, Proof, Refusal, Refused,
};

/// Longest text of a refusal that is sent; longer ones are cut.
const REASON_BYTES_MAX: usize = 512;

#[derive(Archive, Serialize)]
pub(crate) struct HelloMirror {
    origin: OriginMirror,
    target: AddressMirror,
    genesis: String,
    nonce: [u8; NONCE_BYTES],
}

#[derive(Archive, Serialize)]
enum OriginMirror {
    Peer(AddressMirror),
    Client { id: u128 },
}

impl HelloMirror {
    pub fn of(hello: &Hello) -> Self {
        Self {
            origin: match hello.origin {
                Origin::Peer(address) => OriginMirror::Peer(AddressMirror::of(address)),
                Origin::Client { id } => OriginMirror::Client { id },
            },
            target: AddressMirror::of(hello.target),
            genesis: hello.genesis.clone(),
            nonce: hello.nonce,
        }
    }
}

impl ArchivedHelloMirror {
    pub fn read(&self) -> Result<Hello, FrameError> {
        let genesis = self.genesis.as_str();
        if genesis.len() > GENESIS_BYTES_MAX {
            return Err(number("length of a genesis", genesis.len() as u64));
        }
        Ok(Hello {
            origin: match &self.origin {
                ArchivedOriginMirror::Peer(address) => Origin::Peer(address.read()),
                ArchivedOriginMirror::Client { id } => Origin::Client { id: id.to_native() },
            },
            target: self.target.read(),
            genesis: genesis.to_owned(),
            nonce: self.nonce,
        })
    }
}

#[derive(Archive, Serialize)]
pub(crate) struct ChallengeMirror {
    nonce: [u8; NONCE_BYTES],
    proof: [u8; PROOF_BYTES],
}

impl ChallengeMirror {
    pub fn of(challenge: &Challenge) -> Self {
        let Challenge { nonce, proof } = *challenge;
        Self { nonce, proof }
    }
}

impl ArchivedChallengeMirror {
    pub fn read(&self) -> Challenge {
        Challenge {
            nonce: self.nonce,
            proof: self.proof,
        }
    }
}

#[derive(Archive, Serialize)]
pub(crate) struct ProofMirror {
    proof: [u8; PROOF_BYTES],
}

impl ProofMirror {
    pub fn of(proof: &Proof) -> Self {
        Self { proof: proof.proof }
    }
}

impl ArchivedProofMirror {
    pub fn read(&self) -> Proof {
        Proof { proof: self.proof }
    }
}

#[derive(Archive, Serialize)]
pub(crate) struct HelloAckMirror {
    replica: AddressMirror,
}

impl HelloAckMirror {
    pub fn of(ack: &HelloAck) -> Self {
        Self {
            replica: AddressMirror::of(ack.replica),
        }
    }
}

impl ArchivedHelloAckMirror {
    pub fn read(&self) -> HelloAck {
        HelloAck {
            replica: self.replica.read(),
        }
    }
}

#[derive(Archive, Serialize)]
pub(crate) struct RefusedMirror {
    refusal: u16,
    reason: String,
}

impl RefusedMirror {
    pub fn of(refused: &Refused) -> Self {
        let mut reason = String::with_capacity(REASON_BYTES_MAX);
        for char in refused.reason.chars() {
            if reason.len() + char.len_utf8() > REASON_BYTES_MAX {
                break;
            }
            reason.push(char);
        }
        Self {
            refusal: refused.refusal as u16,
            reason,
        }
    }
}

impl ArchivedRefusedMirror {
    pub fn read(&self) -> Result<Refused, FrameError> {
        let refusal = self.refusal.to_native();
        Ok(Refused {
            refusal: Refusal::from_u16(refusal).ok_or_else(|| number("refusal", refusal))?,
            reason: self.reason.as_str().to_owned(),
        })
    }
}
