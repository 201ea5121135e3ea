//! What both transports say first on a connection, and what they accept as its answer.

use std::net::SocketAddr;

use quorate_config::ClusterConfig;
use quorate_protocol::ids::{ClusterId, ReplicaAddress};
use quorate_wire::{EncodeError, Frame, Hello, Origin, encode_hello};

use crate::error::DialError;
use crate::ulid::os_random;

/// What a client says of itself on every connection.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) cluster: ClusterId,
    genesis: String,
    client: u128,
}

impl Greeting {
    /// The greeting of a new client under a number of its own.
    pub(crate) fn of(config: &ClusterConfig) -> Self {
        Self {
            cluster: config.cluster_id,
            genesis: config.genesis().to_string(),
            client: u128::from(os_random()) << 64 | u128::from(os_random()),
        }
    }

    /// The first frame of a connection to `target`.
    pub(crate) fn hello(&self, target: ReplicaAddress) -> Result<Vec<u8>, EncodeError> {
        let hello = Hello {
            origin: Origin::Client { id: self.client },
            target,
            genesis: self.genesis.clone(),
        };
        let mut bytes = Vec::new();
        encode_hello(self.cluster, &hello, &mut bytes)?;
        Ok(bytes)
    }
}

/// Whether `frame` opens the connection to `target` at `address`.
pub(crate) fn check(
    frame: Frame,
    target: ReplicaAddress,
    address: SocketAddr,
) -> Result<(), DialError> {
    match frame {
        Frame::HelloAck(ack) if ack.replica == target => Ok(()),
        Frame::HelloAck(ack) => Err(DialError::WrongReplica {
            address,
            wanted: target,
            found: ack.replica,
        }),
        Frame::Refused(refused) => Err(DialError::Refused { address, refused }),
        other @ (Frame::Hello(_) | Frame::Peer(_) | Frame::Request(_) | Frame::Reply(_)) => {
            Err(DialError::WrongFrame {
                address,
                kind: other.kind().name(),
            })
        }
    }
}
