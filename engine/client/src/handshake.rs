//! What both transports say first on a connection, and what they accept as its answer.

use std::net::SocketAddr;

use quorate_protocol::ids::{ClusterId, ReplicaAddress};
use quorate_wire::{EncodeError, Frame, Hello, Origin, encode_hello};

use crate::error::DialError;

/// The first frame of a client's connection to `target`.
pub(crate) fn hello(
    cluster: ClusterId,
    client: u128,
    target: ReplicaAddress,
) -> Result<Vec<u8>, EncodeError> {
    let hello = Hello {
        origin: Origin::Client { id: client },
        target,
    };
    let mut bytes = Vec::new();
    encode_hello(cluster, &hello, &mut bytes)?;
    Ok(bytes)
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
