//! The accepted connections of one replica: who is there, how many, and how replies find their way.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use quorate_config::ClusterConfig;
use quorate_net::Sockets;
use quorate_protocol::client::{Reply, ReplyBody};
use quorate_protocol::ids::{ClusterId, ConnectionId, ReplicaAddress, RequestId};
use quorate_protocol::limits::{BYTES_PER_CONNECTION_MAX, REQUESTS_PER_CONNECTION_MAX};
use quorate_wire::{EncodeError, encode_reply};

use crate::inbox::Inbox;
use crate::limits::{CLIENT_BYTES_KEPT, REPLY_BYTES_HIGH};
use crate::outgoing::Outgoing;
use crate::refusals::Refusals;
use crate::wakeup::Wakeup;

/// A peer dials again while its old connection is not known to be dead.
const PLACES_PER_PEER: usize = 2;

/// What all connections of a replica share.
pub(crate) struct Connections {
    pub(crate) cluster: Rc<ClusterConfig>,
    pub(crate) address: ReplicaAddress,
    pub(crate) inbox: Rc<Inbox>,
    pub(crate) refusals: Rc<Refusals>,
    /// The node was told to hear no peer.
    pub(crate) isolated: Rc<Cell<bool>>,
    pub(crate) sockets: Rc<Sockets>,
    /// Ordered, so that a shutdown is the same every time.
    live: RefCell<BTreeMap<ConnectionId, Rc<Connection>>>,
    clients: Cell<usize>,
    last_id: Cell<u64>,
    stopping: Cell<bool>,
    ended: Wakeup,
}

/// One accepted connection. Its reading task and its writing task end when `closing` is set.
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) outgoing: Outgoing,
    pub(crate) closing: Wakeup,
    is_client: Cell<bool>,
    in_flight: RefCell<BTreeMap<RequestId, usize>>,
    bytes_in_flight: Cell<usize>,
}

/// The request's id is in use on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DuplicateRequest;

impl Connections {
    pub(crate) fn new(
        cluster: Rc<ClusterConfig>,
        address: ReplicaAddress,
        inbox: Rc<Inbox>,
        refusals: Rc<Refusals>,
        isolated: Rc<Cell<bool>>,
        sockets: Rc<Sockets>,
    ) -> Self {
        Self {
            cluster,
            address,
            inbox,
            refusals,
            isolated,
            sockets,
            live: RefCell::default(),
            clients: Cell::new(0),
            last_id: Cell::new(0),
            stopping: Cell::new(false),
            ended: Wakeup::default(),
        }
    }

    /// Registers a new connection; `None` at the limit. Whether it is a client's shows later
    /// ([`Self::admit_client`]); until then it may take a place that is kept for peers.
    pub(crate) fn admit(&self) -> Option<Rc<Connection>> {
        let mut live = self.live.borrow_mut();
        let for_peers = PLACES_PER_PEER * self.cluster.all_replicas().count();
        if live.len() >= self.cluster.limits.connections_limit + for_peers {
            return None;
        }
        let id = ConnectionId(self.last_id.get() + 1);
        self.last_id.set(id.0);
        let connection = Rc::new(Connection {
            id,
            outgoing: Outgoing::keeping(CLIENT_BYTES_KEPT),
            closing: Wakeup::default(),
            is_client: Cell::new(false),
            in_flight: RefCell::default(),
            bytes_in_flight: Cell::new(0),
        });
        live.insert(id, Rc::clone(&connection));
        Some(connection)
    }

    /// The handshake said that requests follow. Clients must not take the places of peers: a replica
    /// that its group cannot reach serves nobody. False at the limit.
    pub(crate) fn admit_client(&self, connection: &Connection) -> bool {
        if self.clients.get() >= self.cluster.limits.connections_limit {
            return false;
        }
        self.clients.set(self.clients.get() + 1);
        connection.is_client.set(true);
        true
    }

    /// The connection has ended.
    pub(crate) fn forget(&self, connection: &Connection) {
        let known = self.live.borrow_mut().remove(&connection.id);
        assert!(known.is_some(), "forgotten twice");
        if connection.is_client() {
            self.clients.set(self.clients.get() - 1);
        }
        self.ended.set();
    }

    /// Queues a reply; dropped if nobody waits for it any more.
    pub(crate) fn reply(&self, connection: ConnectionId, reply: &Reply) {
        let connection = self.live.borrow().get(&connection).cloned();
        if let Some(connection) = connection {
            connection.finish(self.cluster.cluster_id, reply);
        }
    }

    /// Whether the replica takes no new connections.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Stops reading; what is written still goes out.
    pub(crate) fn stop_reading(&self) {
        self.stopping.set(true);
        for connection in self.live.borrow().values() {
            connection.closing.set();
            connection.outgoing.nudge();
        }
    }

    /// Lets the writers finish, and waits until all connections have ended.
    pub(crate) async fn drain(&self) {
        loop {
            for connection in self.live.borrow().values() {
                connection.outgoing.close();
            }
            if self.live.borrow().is_empty() {
                return;
            }
            self.ended.wait().await;
        }
    }
}

impl Connection {
    /// Waits until the client may have another request in flight, and its replies do not pile up.
    /// Until then nothing is read from it, so TCP slows it down.
    pub(crate) async fn room(&self) {
        while !self.has_room() && !self.outgoing.is_closed() {
            self.outgoing.drained().await;
        }
    }

    /// Counts a request until its reply.
    pub(crate) fn begin(&self, request: RequestId, bytes: usize) -> Result<(), DuplicateRequest> {
        let mut in_flight = self.in_flight.borrow_mut();
        if in_flight.contains_key(&request) {
            return Err(DuplicateRequest);
        }
        in_flight.insert(request, bytes);
        self.bytes_in_flight.set(self.bytes_in_flight.get() + bytes);
        Ok(())
    }

    /// Whether the client waits for an answer.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.in_flight.borrow().is_empty()
    }

    /// Queues bytes for the other side.
    pub(crate) fn send(&self, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>) {
        self.outgoing.append(|buffer| {
            if let Err(error) = encode(buffer) {
                tracing::error!(connection = self.id.0, "frame not encoded: {error}");
            }
        });
    }

    /// Whether requests come on it.
    pub(crate) fn is_client(&self) -> bool {
        self.is_client.get()
    }

    fn finish(&self, cluster: ClusterId, reply: &Reply) {
        if let Some(bytes) = self.in_flight.borrow_mut().remove(&reply.id) {
            self.bytes_in_flight.set(self.bytes_in_flight.get() - bytes);
        }
        self.send(|buffer| {
            encode_reply(cluster, reply, buffer).or_else(|error| {
                // Never silence: the client may look up what became of it.
                tracing::error!(connection = self.id.0, "reply not encoded: {error}");
                let unknown = Reply {
                    body: ReplyBody::Unknown,
                    ..reply.clone()
                };
                encode_reply(cluster, &unknown, buffer)
            })
        });
        self.outgoing.nudge();
    }

    fn has_room(&self) -> bool {
        self.in_flight.borrow().len() < REQUESTS_PER_CONNECTION_MAX
            && self.bytes_in_flight.get() < BYTES_PER_CONNECTION_MAX
            && self.outgoing.len() < REPLY_BYTES_HIGH
    }
}
