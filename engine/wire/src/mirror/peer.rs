//! Mirrors of `PeerMessage` and `Relayed`.

use quorate_protocol::message::{PeerBody, PeerMessage};
use quorate_protocol::time::Timestamp;
use rkyv::{Archive, Serialize};

use super::AddressMirror;
use super::paxos::PaxosMirror;
use super::snapshot::SnapshotMirror;
use super::txn::TxnMirror;
use crate::error::FrameError;
use crate::frame::Relayed;

#[derive(Archive, Serialize)]
pub(crate) struct PeerMirror {
    clock: u64,
    body: BodyMirror,
}

#[derive(Archive, Serialize)]
enum BodyMirror {
    Paxos(PaxosMirror),
    Txn(TxnMirror),
    Snapshot(SnapshotMirror),
}

impl PeerMirror {
    pub fn of(message: &PeerMessage) -> Self {
        Self {
            clock: message.clock.0,
            body: match &message.body {
                PeerBody::Paxos(body) => BodyMirror::Paxos(PaxosMirror::of(body)),
                PeerBody::Txn(body) => BodyMirror::Txn(TxnMirror::of(body)),
                PeerBody::Snapshot(body) => BodyMirror::Snapshot(SnapshotMirror::of(body)),
            },
        }
    }
}

impl ArchivedPeerMirror {
    pub fn read(&self) -> Result<PeerMessage, FrameError> {
        Ok(PeerMessage {
            clock: Timestamp(self.clock.to_native()),
            body: match &self.body {
                ArchivedBodyMirror::Paxos(body) => PeerBody::Paxos(body.read()?),
                ArchivedBodyMirror::Txn(body) => PeerBody::Txn(body.read()?),
                ArchivedBodyMirror::Snapshot(body) => PeerBody::Snapshot(body.read()),
            },
        })
    }
}

#[derive(Archive, Serialize)]
pub(crate) struct RelayedMirror {
    from: AddressMirror,
    to: AddressMirror,
    clock: u64,
    message: TxnMirror,
}

impl RelayedMirror {
    pub fn of(relayed: &Relayed) -> Self {
        Self {
            from: AddressMirror::of(relayed.from),
            to: AddressMirror::of(relayed.to),
            clock: relayed.clock.0,
            message: TxnMirror::of(&relayed.message),
        }
    }
}

impl ArchivedRelayedMirror {
    pub fn read(&self) -> Result<Relayed, FrameError> {
        Ok(Relayed {
            from: self.from.read(),
            to: self.to.read(),
            clock: Timestamp(self.clock.to_native()),
            message: self.message.read()?,
        })
    }
}
