//! Connections to other replicas: one per replica that the core has something to say to.
//!
//! Messages to a replica leave on the connection that this side dialled; what it says comes on the one
//! that it dialled. A link connects when there is something to send, again after a pause when that
//! fails, and drops what waited meanwhile: the protocol sends again what matters, and old messages
//! only keep a returning peer busy.
//!
//! A link can be broken while both its ends are well and lead: then no transfer between their shards would
//! end. So what leaders of two shards say to each other goes by way of a third replica while their link
//! is down ([`Relayed`]). Inside a group nothing is relayed: a majority that can speak is enough.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;
use glommio::Task;
use glommio::timer::sleep;
use quorate_access::{Dialler as Handshake, HandshakeError, Next};
use quorate_config::{ClusterConfig, ClusterKey};
use quorate_net::{Sockets, Stream};
use quorate_protocol::ids::ReplicaAddress;
use quorate_protocol::message::{PeerBody, PeerMessage};
use quorate_protocol::words::Words;
use quorate_wire::{
    Frame, FrameError, FrameReader, Origin, Relayed, encode_peer_around, encode_relayed,
};

use crate::connection::read_frame;
use crate::limits::{
    CONNECT_TIMEOUT, OTHER_SHARD_BYTES_KEPT, PEER_BYTES_KEPT, PEER_BYTES_MAX, RECONNECT_MAX,
    RECONNECT_MIN, RUN_BYTES_MIN, UNACKNOWLEDGED_MAX,
};
use crate::outgoing::Outgoing;
use crate::refusals::Refusals;
use crate::wakeup::Wakeup;

/// The links of one replica, made when first used.
pub(crate) struct Peers {
    cluster: Rc<ClusterConfig>,
    own: ReplicaAddress,
    refusals: Rc<Refusals>,
    /// The node was told to speak to no peer.
    isolated: Rc<Cell<bool>>,
    sockets: Rc<Sockets>,
    links: RefCell<BTreeMap<ReplicaAddress, Dialled>>,
    /// Messages that were sent by way of another replica.
    relayed: Cell<u64>,
}

/// A link with the task that serves it.
struct Dialled {
    link: Rc<Link>,
    _task: Task<()>,
}

struct Link {
    to: ReplicaAddress,
    waiting: Outgoing,
    condition: Cell<Condition>,
    /// Something would have been sent while the link was down.
    wanted: Wakeup,
    /// Attempts to connect that failed, or connections that broke.
    failures: Cell<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// Never connected so far, and never failed to.
    Untried,
    Up,
    Down,
}

impl Peers {
    pub(crate) fn new(
        cluster: Rc<ClusterConfig>,
        own: ReplicaAddress,
        refusals: Rc<Refusals>,
        isolated: Rc<Cell<bool>>,
        sockets: Rc<Sockets>,
    ) -> Self {
        Self {
            cluster,
            own,
            refusals,
            isolated,
            sockets,
            links: RefCell::default(),
            relayed: Cell::new(0),
        }
    }

    /// Messages that were sent by way of another replica, so far.
    pub(crate) fn relayed(&self) -> u64 {
        self.relayed.get()
    }

    /// Queues a message; dropped (and counted) if there is no such peer or too much waits for it.
    pub(crate) fn send(&self, to: ReplicaAddress, message: &PeerMessage) {
        if self.isolated.get() {
            return;
        }
        // A leader's name may come from another replica's message: it is not to be trusted.
        if !self.cluster.contains(to) || to == self.own {
            self.refusals.count("peer_unknown");
            return;
        }
        let link = self.link(to);
        if link.is_down()
            && let PeerBody::Txn(txn) = &message.body
        {
            link.wanted.set();
            return self.send_around(&link, || Relayed {
                from: self.own,
                to,
                clock: message.clock,
                message: txn.clone(),
            });
        }
        self.queue(&link, |buffer| {
            let cluster = self.cluster.cluster_id;
            let encoded = encode_peer_around(cluster, message, RUN_BYTES_MIN, buffer);
            encoded.unwrap_or_else(|error| {
                tracing::error!(%to, "message not encoded: {error}");
                None
            })
        });
    }

    /// Passes on what a replica that cannot reach another one has sent here. Never to a third one again: two whose
    /// link is down would send it back and forth.
    pub(crate) fn pass_on(&self, relayed: &Relayed) {
        if !self.cluster.contains(relayed.to) || relayed.to == self.own {
            self.refusals.count("peer_unknown");
            return;
        }
        let link = self.link(relayed.to);
        if link.is_down() {
            link.wanted.set();
            self.refusals.count("peer_unreachable");
            return;
        }
        self.queue_relayed(&link, relayed);
    }

    /// Ends all links.
    pub(crate) fn close(&self) {
        self.links.borrow_mut().clear();
    }

    /// By way of a member of the own group on a third node: a leader has a link to each of them. Which one is tried changes
    /// with every failure of the link, since it is not known which of them reaches the other end.
    fn send_around(&self, link: &Link, relayed: impl FnOnce() -> Relayed) {
        let ends = [self.own, link.to].map(|end| self.cluster.node_of(end).id);
        let members = self.cluster.members_of(self.own.shard);
        let between = members.filter(|&member| !ends.contains(&self.cluster.node_of(member).id));
        let links: Vec<Rc<Link>> = between
            .map(|member| self.link(member))
            .filter(|link| link.condition.get() == Condition::Up)
            .collect();
        let turn = link.failures.get();
        match links.get(turn % links.len().max(1)) {
            Some(way) => {
                self.relayed.set(self.relayed.get() + 1);
                self.queue_relayed(way, &relayed());
            }
            None => self.refusals.count("peer_unreachable"),
        }
    }

    fn queue_relayed(&self, link: &Link, relayed: &Relayed) {
        self.queue(link, |buffer| {
            if let Err(error) = encode_relayed(self.cluster.cluster_id, relayed, buffer) {
                tracing::error!(to = %relayed.to, "message not encoded: {error}");
            }
            None
        });
    }

    fn queue(&self, link: &Link, write: impl FnOnce(&mut Vec<u8>) -> Option<(usize, Words)>) {
        if link.waiting.len() >= PEER_BYTES_MAX {
            self.refusals.count("peer_queue_full");
            return;
        }
        link.waiting.append_around(write);
    }

    /// The link to a peer, made at the first call. A new task is polled at once, so no borrow is held while one
    /// is made.
    fn link(&self, to: ReplicaAddress) -> Rc<Link> {
        if let Some(dialled) = self.links.borrow().get(&to) {
            return Rc::clone(&dialled.link);
        }
        let bytes_kept = match to.shard == self.own.shard {
            true => PEER_BYTES_KEPT,
            false => OTHER_SHARD_BYTES_KEPT,
        };
        let link = Rc::new(Link {
            to,
            waiting: Outgoing::keeping(bytes_kept),
            condition: Cell::new(Condition::Untried),
            wanted: Wakeup::default(),
            failures: Cell::new(0),
        });
        let dialler = Dialler {
            cluster: Rc::clone(&self.cluster),
            sockets: Rc::clone(&self.sockets),
            own: self.own,
            link: Rc::clone(&link),
        };
        let dialled = Dialled {
            link: Rc::clone(&link),
            _task: glommio::spawn_local(async move { dialler.run_for_ever().await }),
        };
        self.links.borrow_mut().insert(to, dialled);
        link
    }
}

impl Link {
    fn is_down(&self) -> bool {
        self.condition.get() == Condition::Down
    }

    /// Waits for a reason to connect.
    async fn needed(&self) {
        future::or(self.waiting.filled(), self.wanted.wait()).await;
    }
}

/// Why a link broke.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("the peer {0}")]
    Handshake(#[from] HandshakeError),
    #[error("{0} has no place here")]
    Misplaced(&'static str),
    #[error("closed by the peer")]
    Closed,
    #[error("no handshake within {0:?}")]
    Silent(Duration),
}

struct Dialler {
    cluster: Rc<ClusterConfig>,
    sockets: Rc<Sockets>,
    own: ReplicaAddress,
    link: Rc<Link>,
}

impl Dialler {
    async fn run_for_ever(&self) {
        let mut pause = RECONNECT_MIN;
        let mut said = false;
        loop {
            self.link.needed().await;
            let connected = self.connect().await;
            let broken = match connected {
                Ok((stream, reader)) => {
                    tracing::debug!(own = %self.own, to = %self.link.to, "connected");
                    self.link.condition.set(Condition::Up);
                    (pause, said) = (RECONNECT_MIN, false);
                    self.serve(&stream, reader).await
                }
                Err(broken) => broken,
            };
            self.link.condition.set(Condition::Down);
            self.link.failures.set(self.link.failures.get() + 1);
            // Once per outage, not once per attempt.
            if !std::mem::replace(&mut said, true) {
                let (own, to) = (self.own, self.link.to);
                match &broken {
                    // One of the two has another cluster's configuration: nothing will mend that.
                    Broken::Handshake(error) if error.is_final() => {
                        tracing::warn!(%own, %to, "no link: {broken}");
                    }
                    _ => tracing::info!(%own, %to, "no link: {broken}"),
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_MAX);
            self.link.waiting.clear();
        }
    }

    async fn connect(&self) -> Result<(Stream, FrameReader), Broken> {
        let address = self.cluster.address_of(self.link.to);
        let too_late = async {
            sleep(CONNECT_TIMEOUT).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        let stream = future::or(Stream::connect(&self.sockets, address), too_late).await?;
        stream.set_nodelay()?;
        stream.set_write_timeout(self.cluster.limits.idle_timeout);
        stream.set_unacknowledged_limit(UNACKNOWLEDGED_MAX)?;
        let limit = self.cluster.limits.handshake_timeout;
        let too_late = async {
            sleep(limit).await;
            Err(Broken::Silent(limit))
        };
        let reader = future::or(self.shake_hands(&stream), too_late).await?;
        Ok((stream, reader))
    }

    async fn shake_hands(&self, stream: &Stream) -> Result<FrameReader, Broken> {
        let cluster = self.cluster.cluster_id;
        let key = self.cluster.key.as_ref().map(ClusterKey::key);
        let genesis = self.cluster.genesis().to_string();
        let origin = Origin::Peer(self.own);
        let mut handshake = Handshake::new(cluster, key, origin, self.link.to, genesis)?;
        stream.write_all(handshake.hello()).await?;
        let mut reader = FrameReader::for_handshake(cluster);
        loop {
            let frame = next_frame(stream, &mut reader).await?;
            match handshake.next(frame)? {
                Next::Send(bytes) => stream.write_all(&bytes).await?,
                Next::Established => {
                    reader.open();
                    return Ok(reader);
                }
            }
        }
    }

    /// Writes what comes; the peer says nothing on this connection, so reading it only shows its end.
    async fn serve(&self, stream: &Stream, mut reader: FrameReader) -> Broken {
        let ended = async {
            match next_frame(stream, &mut reader).await {
                Ok(frame) => unexpected(frame),
                Err(broken) => broken,
            }
        };
        let writing = async {
            match self.link.waiting.write_to(stream).await {
                Ok(()) => Broken::Closed,
                Err(error) => Broken::Io(error),
            }
        };
        future::or(ended, writing).await
    }
}

async fn next_frame(stream: &Stream, reader: &mut FrameReader) -> Result<Frame, Broken> {
    read_frame::<Broken>(stream, reader)
        .await?
        .ok_or(Broken::Closed)
}

fn unexpected(frame: Frame) -> Broken {
    match frame {
        Frame::Refused(refused) => Broken::Handshake(HandshakeError::Refused(refused)),
        frame => Broken::Misplaced(frame.kind().name()),
    }
}
