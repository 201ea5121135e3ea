//! What replicas say to each other.

use crate::time::Timestamp;
use crate::{paxos, snapshot, txn};

/// A message between two replicas, of one group or of two.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerMessage {
    /// The sender's hybrid clock, merged by the receiver.
    pub clock: Timestamp,
    pub body: PeerBody,
}

/// Inside the group or between groups.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerBody {
    Paxos(paxos::message::Message),
    Txn(txn::message::Message),
    /// Inside the group, between the shells: the core takes no notice.
    Snapshot(snapshot::Message),
}
