//! The accepted connections of one replica: who is there, how many, and how replies find their way.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use quorate_config::ClusterConfig;
use quorate_net::Sockets;
use quorate_protocol::client::{self, Reply, ReplyBody, Status};
use quorate_protocol::ids::{ClusterId, ConnectionId, ReplicaAddress, RequestId};
use quorate_protocol::limits::{BYTES_PER_CONNECTION_MAX, REQUESTS_PER_CONNECTION_MAX};
use quorate_wire::{EncodeError, encode_reply};

use crate::inbox::Inbox;
use crate::limits::{
    CLIENT_BYTES_KEPT, CONNECTIONS_PER_PEER_MAX, HANDSHAKES_MAX, REPLY_BYTES_HIGH,
};
use crate::outgoing::Outgoing;
use crate::peers::Peers;
use crate::refusals::Refusals;
use crate::wakeup::Wakeup;

/// With this the reason begins in what an isolated replica says of itself.
pub const ISOLATED: &str = "isolated from its peers";

/// What all connections of a replica share.
pub(crate) struct Connections {
    pub(crate) cluster: Rc<ClusterConfig>,
    pub(crate) address: ReplicaAddress,
    pub(crate) inbox: Rc<Inbox>,
    pub(crate) refusals: Rc<Refusals>,
    /// The node was told to hear no peer.
    pub(crate) isolated: Rc<Cell<bool>>,
    pub(crate) sockets: Rc<Sockets>,
    /// Where relayed messages leave.
    pub(crate) links: Rc<Peers>,
    /// Ordered, so that a shutdown is the same every time.
    live: RefCell<BTreeMap<ConnectionId, Rc<Connection>>>,
    /// In the middle of their handshake, oldest first.
    strangers: RefCell<BTreeSet<ConnectionId>>,
    /// Of each peer, oldest first.
    peers: RefCell<BTreeMap<ReplicaAddress, VecDeque<ConnectionId>>>,
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
    role: Cell<Role>,
    in_flight: RefCell<BTreeMap<RequestId, usize>>,
    bytes_in_flight: Cell<usize>,
}

/// Who is on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// The handshake has not ended.
    Stranger,
    Client,
    Peer(ReplicaAddress),
}

/// How many connections there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) clients: usize,
    pub(crate) peers: usize,
    /// In the middle of their handshake.
    pub(crate) strangers: usize,
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
        links: Rc<Peers>,
    ) -> Self {
        Self {
            cluster,
            address,
            inbox,
            refusals,
            isolated,
            sockets,
            links,
            live: RefCell::default(),
            strangers: RefCell::default(),
            peers: RefCell::default(),
            clients: Cell::new(0),
            last_id: Cell::new(0),
            stopping: Cell::new(false),
            ended: Wakeup::default(),
        }
    }

    /// Registers a new connection. Until its handshake has ended it has a place among strangers, of which the oldest
    /// makes room; `None` if too many that have ended are not gone yet.
    pub(crate) fn admit(&self) -> Option<Rc<Connection>> {
        let displaced = {
            let mut strangers = self.strangers.borrow_mut();
            match strangers.len() >= HANDSHAKES_MAX {
                true => strangers.pop_first(),
                false => None,
            }
        };
        self.displace(displaced, "handshake_displaced");
        let mut live = self.live.borrow_mut();
        let for_peers = CONNECTIONS_PER_PEER_MAX * self.cluster.all_replicas().count();
        let established = self.cluster.limits.connections_limit + for_peers;
        if live.len() >= established + 2 * HANDSHAKES_MAX {
            return None;
        }
        let id = ConnectionId(self.last_id.get() + 1);
        self.last_id.set(id.0);
        let connection = Rc::new(Connection {
            id,
            outgoing: Outgoing::keeping(CLIENT_BYTES_KEPT),
            closing: Wakeup::default(),
            role: Cell::new(Role::Stranger),
            in_flight: RefCell::default(),
            bytes_in_flight: Cell::new(0),
        });
        live.insert(id, Rc::clone(&connection));
        self.strangers.borrow_mut().insert(id);
        Some(connection)
    }

    /// The handshake said that requests follow. False at the limit.
    pub(crate) fn admit_client(&self, connection: &Connection) -> bool {
        if self.clients.get() >= self.cluster.limits.connections_limit {
            return false;
        }
        self.clients.set(self.clients.get() + 1);
        self.strangers.borrow_mut().remove(&connection.id);
        connection.role.set(Role::Client);
        true
    }

    /// The handshake said that messages of this replica follow. It always has a place: a replica that its group cannot reach
    /// serves nobody.
    pub(crate) fn admit_peer(&self, connection: &Connection, from: ReplicaAddress) {
        self.strangers.borrow_mut().remove(&connection.id);
        connection.role.set(Role::Peer(from));
        let displaced = {
            let mut peers = self.peers.borrow_mut();
            let its = peers.entry(from).or_default();
            its.push_back(connection.id);
            match its.len() > CONNECTIONS_PER_PEER_MAX {
                true => its.pop_front(),
                false => None,
            }
        };
        self.displace(displaced, "peer_displaced");
    }

    /// The connection has ended.
    pub(crate) fn forget(&self, connection: &Connection) {
        let known = self.live.borrow_mut().remove(&connection.id);
        assert!(known.is_some(), "forgotten twice");
        match connection.role.get() {
            Role::Stranger => {
                self.strangers.borrow_mut().remove(&connection.id);
            }
            Role::Client => self.clients.set(self.clients.get() - 1),
            Role::Peer(from) => {
                if let Some(its) = self.peers.borrow_mut().get_mut(&from) {
                    its.retain(|&id| id != connection.id);
                }
            }
        }
        self.ended.set();
    }

    /// Ends a connection for another one's sake.
    fn displace(&self, connection: Option<ConnectionId>, cause: &'static str) {
        let connection = connection.and_then(|id| self.live.borrow().get(&id).cloned());
        if let Some(connection) = connection {
            self.refusals.count(cause);
            connection.outgoing.abandon();
            connection.closing.set();
        }
    }

    /// Queues a reply; dropped if nobody waits for it any more.
    pub(crate) fn reply(&self, connection: ConnectionId, reply: &Reply) {
        let connection = self.live.borrow().get(&connection).cloned();
        let Some(connection) = connection else {
            return;
        };
        match &reply.body {
            ReplyBody::Status(status) if self.isolated.get() => {
                let told = Reply {
                    body: ReplyBody::Status(of_isolated(status)),
                    ..reply.clone()
                };
                connection.finish(self.cluster.cluster_id, &told);
            }
            _ => connection.finish(self.cluster.cluster_id, reply),
        }
    }

    /// How many there are.
    pub(crate) fn census(&self) -> Census {
        let peers = self.peers.borrow();
        Census {
            clients: self.clients.get(),
            peers: peers.values().map(VecDeque::len).sum(),
            strangers: self.strangers.borrow().len(),
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

/// What a replica says of itself, which does not know that its node is cut off. One that is out of service has a better reason.
fn of_isolated(status: &Status) -> Status {
    let mut told = status.clone();
    if status.role != client::Role::Stopped {
        told.reason = match &*status.reason {
            "" => ISOLATED.to_owned(),
            reason => format!("{ISOLATED}; {reason}"),
        };
    }
    told
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
        self.role.get() == Role::Client
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
