//! Connections to other replicas: one per replica that the core has something to say to.
//!
//! Messages to a replica leave on the connection that this side dialled; what it says comes on the one
//! that it dialled. A link connects when there is something to send, again after a pause when that
//! fails, and drops what waited meanwhile: the protocol sends again what matters, and old messages
//! only keep a returning peer busy.

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
use quorate_protocol::message::PeerMessage;
use quorate_wire::{Frame, FrameError, FrameReader, Origin, encode_peer_around};

use crate::connection::read_frame;
use crate::limits::{
    CONNECT_TIMEOUT, OTHER_SHARD_BYTES_KEPT, PEER_BYTES_KEPT, PEER_BYTES_MAX, RECONNECT_MAX,
    RECONNECT_MIN, RUN_BYTES_MIN,
};
use crate::outgoing::Outgoing;
use crate::refusals::Refusals;

/// The links of one replica, made when first used.
pub(crate) struct Peers {
    cluster: Rc<ClusterConfig>,
    own: ReplicaAddress,
    refusals: Rc<Refusals>,
    /// The node was told to speak to no peer.
    isolated: Rc<Cell<bool>>,
    sockets: Rc<Sockets>,
    links: RefCell<BTreeMap<ReplicaAddress, Link>>,
}

struct Link {
    waiting: Rc<Outgoing>,
    _task: Task<()>,
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
        }
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
        let waiting = self.waiting(to);
        if waiting.len() >= PEER_BYTES_MAX {
            self.refusals.count("peer_queue_full");
            return;
        }
        waiting.append_around(|buffer| {
            let cluster = self.cluster.cluster_id;
            let encoded = encode_peer_around(cluster, message, RUN_BYTES_MIN, buffer);
            encoded.unwrap_or_else(|error| {
                tracing::error!(%to, "message not encoded: {error}");
                None
            })
        });
    }

    /// Ends all links.
    pub(crate) fn close(&self) {
        self.links.borrow_mut().clear();
    }

    /// What waits for a peer; makes the link at the first call. A new task is polled at once, so no
    /// borrow is held while one is made.
    fn waiting(&self, to: ReplicaAddress) -> Rc<Outgoing> {
        if let Some(link) = self.links.borrow().get(&to) {
            return Rc::clone(&link.waiting);
        }
        let link = self.link(to);
        let waiting = Rc::clone(&link.waiting);
        self.links.borrow_mut().insert(to, link);
        waiting
    }

    fn link(&self, to: ReplicaAddress) -> Link {
        let bytes_kept = match to.shard == self.own.shard {
            true => PEER_BYTES_KEPT,
            false => OTHER_SHARD_BYTES_KEPT,
        };
        let waiting = Rc::new(Outgoing::keeping(bytes_kept));
        let dialler = Dialler {
            cluster: Rc::clone(&self.cluster),
            sockets: Rc::clone(&self.sockets),
            own: self.own,
            to,
            waiting: Rc::clone(&waiting),
        };
        Link {
            waiting,
            _task: glommio::spawn_local(async move { dialler.run_for_ever().await }),
        }
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
    to: ReplicaAddress,
    waiting: Rc<Outgoing>,
}

impl Dialler {
    async fn run_for_ever(&self) {
        let mut pause = RECONNECT_MIN;
        let mut said = false;
        loop {
            self.waiting.filled().await;
            let connected = self.connect().await;
            let broken = match connected {
                Ok((stream, reader)) => {
                    tracing::debug!(own = %self.own, to = %self.to, "connected");
                    (pause, said) = (RECONNECT_MIN, false);
                    self.serve(&stream, reader).await
                }
                Err(broken) => broken,
            };
            // Once per outage, not once per attempt.
            if !std::mem::replace(&mut said, true) {
                let (own, to) = (self.own, self.to);
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
            self.waiting.clear();
        }
    }

    async fn connect(&self) -> Result<(Stream, FrameReader), Broken> {
        let address = self.cluster.address_of(self.to);
        let too_late = async {
            sleep(CONNECT_TIMEOUT).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        let stream = future::or(Stream::connect(&self.sockets, address), too_late).await?;
        stream.set_nodelay()?;
        stream.set_write_timeout(self.cluster.limits.idle_timeout);
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
        let mut handshake = Handshake::new(cluster, key, origin, self.to, genesis)?;
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
            match self.waiting.write_to(stream).await {
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
