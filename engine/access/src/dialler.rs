//! The dialler's side of the handshake, fed with the listener's frames.

use std::io;

use quorate_protocol::ids::{ClusterId, ReplicaAddress};
use quorate_wire::{
    EncodeError, Frame, Hello, Origin, Proof, Refused, WIRE_VERSION, encode_hello, encode_proof,
};
use thiserror::Error;

use crate::key::Key;
use crate::proof::{Side, Transcript, draw_nonce};

/// One handshake. A dialler that has a key goes on only with a listener that has it, too.
#[derive(Debug)]
pub struct Dialler<'k> {
    key: Option<&'k Key>,
    cluster: ClusterId,
    target: ReplicaAddress,
    hello: Vec<u8>,
    /// The listener has shown the key.
    is_answered: bool,
}

/// What a frame leads to.
#[derive(Debug)]
pub enum Next {
    /// These bytes are to be sent; another frame comes.
    Send(Vec<u8>),
    /// The connection stands.
    Established,
}

/// Why a connection does not come about. The texts continue "it ..".
#[derive(Debug, Error)]
pub enum HandshakeError {
    #[error("refused the connection ({}): {}", .0.refusal.name(), .0.reason)]
    Refused(Refused),
    #[error("answers as {found}, {wanted} was asked for")]
    WrongReplica {
        wanted: ReplicaAddress,
        found: ReplicaAddress,
    },
    #[error("answered the handshake with a {0} frame")]
    WrongFrame(&'static str),
    #[error("wants the cluster's key, and this side has none: set key_file in the cluster's file")]
    KeyWanted,
    #[error("has not proved that it has the cluster's key")]
    NotProved,
    #[error("was not asked: the hello does not encode: {0}")]
    Encode(#[from] EncodeError),
    #[error("was not asked: the kernel draws no random numbers: {0}")]
    Draw(#[source] io::Error),
}

impl HandshakeError {
    /// Whether asking again, or another replica of the cluster, is in vain.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.refusal.is_final(),
            Self::KeyWanted | Self::NotProved => true,
            Self::WrongReplica { .. } | Self::WrongFrame(_) | Self::Encode(_) | Self::Draw(_) => {
                false
            }
        }
    }
}

impl<'k> Dialler<'k> {
    /// Begins a handshake with `target`, under the genesis that this side goes by.
    ///
    /// # Errors
    /// There is no nonce to be had, or the genesis is too long.
    pub fn new(
        cluster: ClusterId,
        key: Option<&'k Key>,
        origin: Origin,
        target: ReplicaAddress,
        genesis: String,
    ) -> Result<Self, HandshakeError> {
        let content = Hello {
            origin,
            target,
            genesis,
            nonce: draw_nonce().map_err(HandshakeError::Draw)?,
        };
        let mut hello = Vec::new();
        encode_hello(cluster, &content, &mut hello)?;
        Ok(Self {
            key,
            cluster,
            target,
            hello,
            is_answered: false,
        })
    }

    /// What is sent first.
    #[must_use]
    pub fn hello(&self) -> &[u8] {
        &self.hello
    }

    /// What the listener's next frame leads to.
    ///
    /// # Errors
    /// The connection does not come about: close it.
    pub fn next(&mut self, frame: Frame) -> Result<Next, HandshakeError> {
        match frame {
            Frame::Challenge(challenge) if !self.is_answered => {
                let key = self.key.ok_or(HandshakeError::KeyWanted)?;
                let (cluster, hello) = (self.cluster, &self.hello);
                let said = Transcript::new(WIRE_VERSION, cluster, hello, challenge.nonce);
                if !said.is_proved(key, Side::Listener, &challenge.proof) {
                    return Err(HandshakeError::NotProved);
                }
                self.is_answered = true;
                let proof = Proof {
                    proof: said.prove(key, Side::Dialler),
                };
                let mut bytes = Vec::new();
                encode_proof(cluster, &proof, &mut bytes)?;
                Ok(Next::Send(bytes))
            }
            // A listener without the key may be anybody who has taken the port.
            Frame::HelloAck(_) if self.key.is_some() && !self.is_answered => {
                Err(HandshakeError::NotProved)
            }
            Frame::HelloAck(ack) if ack.replica == self.target => Ok(Next::Established),
            Frame::HelloAck(ack) => Err(HandshakeError::WrongReplica {
                wanted: self.target,
                found: ack.replica,
            }),
            Frame::Refused(refused) => Err(HandshakeError::Refused(refused)),
            other @ (Frame::Hello(_)
            | Frame::Challenge(_)
            | Frame::Proof(_)
            | Frame::Peer(_)
            | Frame::Relayed(_)
            | Frame::Request(_)
            | Frame::Reply(_)) => Err(HandshakeError::WrongFrame(other.kind().name())),
        }
    }
}
