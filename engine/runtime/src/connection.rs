//! The life of one accepted connection: handshake, then requests of a client or messages of a peer.
//!
//! One task per connection reads and writes. It ends when the other side is gone, silent for too
//! long or wrong, when its writer fails, or when the replica stops; the core learns of the end of a
//! client's connection behind everything that the client had sent.

use std::convert::Infallible;
use std::io;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;
use glommio::timer::sleep;
use quorate_access::{Challenged, draw_nonce};
use quorate_config::ClusterKey;
use quorate_net::{Stream, give_way};
use quorate_protocol::client::Request;
use quorate_protocol::ids::ReplicaAddress;
use quorate_protocol::input::Input;
use quorate_protocol::message::{PeerBody, PeerMessage};
use quorate_wire::{
    Frame, FrameError, FrameReader, Hello, HelloAck, Origin, Refusal, Refused, Relayed,
    encode_challenge, encode_hello_ack, encode_refused,
};

use crate::connections::{Connection, Connections, DuplicateRequest};
use crate::inbox::Lane;

/// How long, and how much, is read and dropped behind a refusal: closing a socket with unread bytes
/// resets it, and the other side would lose the reason.
const LINGER: Duration = Duration::from_millis(250);
const LINGER_BYTES_MAX: usize = 2 << 20;

/// Bytes that one connection decodes before other tasks have their turn; about 100 microseconds.
const TURN_BYTES: usize = 256 << 10;

/// Why reading ended.
enum End {
    /// The other side closed or reset the connection.
    Gone,
    /// It sent nothing for too long.
    Silent,
    /// The replica stops: what is decided is still answered.
    Stopping,
    /// The other side is told why, and counted under `cause`.
    Refused {
        cause: &'static str,
        refused: Refused,
    },
}

impl End {
    fn refused(refusal: Refusal, reason: impl Into<String>) -> Self {
        Self::Refused {
            cause: refusal.name(),
            refused: Refused {
                refusal,
                reason: reason.into(),
            },
        }
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::Silent,
            _ => Self::Gone,
        }
    }
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        let refusal = match error {
            FrameError::Version { .. } => Refusal::WireVersion,
            FrameError::Cluster { .. } => Refusal::WrongCluster,
            FrameError::Magic { .. }
            | FrameError::Kind { .. }
            | FrameError::Length { .. }
            | FrameError::Reserved
            | FrameError::Padding
            | FrameError::Crc { .. }
            | FrameError::Structure { .. }
            | FrameError::Entry(_)
            | FrameError::Rows { .. }
            | FrameError::Number { .. } => Refusal::Malformed,
        };
        Self::Refused {
            cause: error.kind(),
            refused: Refused {
                refusal,
                reason: error.to_string(),
            },
        }
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve(shared: Rc<Connections>, stream: TcpStream) {
    let idle_timeout = shared.cluster.limits.idle_timeout;
    let stream = Stream::new(&shared.sockets, stream);
    let stream = stream.and_then(|stream| stream.set_nodelay().map(|()| stream));
    let stream = match stream {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!("connection not usable: {error}"),
    };
    stream.set_write_timeout(idle_timeout);
    let Some(connection) = shared.admit() else {
        shared.refusals.count(Refusal::ConnectionsMax.name());
        return refuse_at_limit(&shared, &stream).await;
    };
    let session = Session {
        shared: &shared,
        connection: &connection,
        stream: &stream,
        reader: FrameReader::for_handshake(shared.cluster.cluster_id),
        bytes_this_turn: 0,
    };
    let writing = async {
        if let Err(error) = connection.outgoing.write_to(&stream).await {
            tracing::debug!(connection = connection.id.0, "write failed: {error}");
            connection.outgoing.abandon();
            connection.closing.set();
        }
    };
    future::zip(session.run(), writing).await;
    shared.forget(&connection);
}

/// Says so if the socket takes it at once; a stranger beyond the limit is not waited for.
async fn refuse_at_limit(shared: &Connections, stream: &Stream) {
    let mut buffer = Vec::new();
    let refused = Refused {
        refusal: Refusal::ConnectionsMax,
        reason: at_limit(shared),
    };
    if encode_refused(shared.cluster.cluster_id, &refused, &mut buffer).is_ok() {
        let written = future::poll_once(stream.write_all(&buffer)).await;
        tracing::debug!(?written, "refused: {}", refused.reason);
    }
}

struct Session<'a> {
    shared: &'a Connections,
    connection: &'a Connection,
    stream: &'a Stream,
    reader: FrameReader,
    /// Since other tasks had their turn.
    bytes_this_turn: usize,
}

impl Session<'_> {
    async fn run(mut self) {
        let (shared, connection, stream) = (self.shared, self.connection, self.stream);
        let stopping = async {
            connection.closing.wait().await;
            End::Stopping
        };
        let end = future::or(stopping, self.read()).await;
        if connection.is_client() {
            let connection = connection.id;
            shared
                .inbox
                .push(Lane::Client, Input::Disconnected { connection }, 0);
        }
        match end {
            End::Gone | End::Silent => connection.outgoing.abandon(),
            End::Stopping => {}
            End::Refused { cause, refused } => {
                shared.refusals.count(cause);
                tracing::debug!(connection = connection.id.0, cause, "{}", refused.reason);
                let cluster = shared.cluster.cluster_id;
                connection.send(|buffer| encode_refused(cluster, &refused, buffer));
                connection.outgoing.close();
                let too_late = async {
                    sleep(LINGER).await;
                };
                let rest = future::or(drop_rest(stream), connection.closing.wait());
                future::or(rest, too_late).await;
            }
        }
    }

    /// Reads until there is a reason to end.
    async fn read(&mut self) -> End {
        let hello = match self.hello().await {
            Ok(hello) => hello,
            Err(end) => return end,
        };
        let ended = match hello.origin {
            Origin::Client { id } => {
                tracing::debug!(connection = self.connection.id.0, client = id, "client");
                self.read_requests().await
            }
            Origin::Peer(from) => {
                tracing::debug!(connection = self.connection.id.0, %from, "peer");
                self.read_messages(from).await
            }
        };
        match ended {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    /// The handshake, within its deadline.
    async fn hello(&mut self) -> Result<Hello, End> {
        let shared = self.shared;
        let limit = shared.cluster.limits.handshake_timeout;
        let too_late = async {
            sleep(limit).await;
            Err(End::refused(
                Refusal::Malformed,
                format!("no handshake within {limit:?}"),
            ))
        };
        let hello = future::or(self.introduction(), too_late).await?;
        check_hello(shared, self.connection, &hello)?;
        let ack = HelloAck {
            replica: shared.address,
        };
        let cluster = shared.cluster.cluster_id;
        self.connection
            .send(|buffer| encode_hello_ack(cluster, &ack, buffer));
        self.reader.open();
        self.stream
            .set_read_timeout(shared.cluster.limits.idle_timeout);
        Ok(hello)
    }

    /// Who dials, and that it has the key. Until then it learns nothing of this cluster but that it needs one.
    async fn introduction(&mut self) -> Result<Hello, End> {
        let frame = self.next_frame().await?;
        let Frame::Hello(hello) = frame else {
            return Err(early(&frame));
        };
        let Some(key) = self.shared.cluster.key.as_ref().map(ClusterKey::key) else {
            return Ok(hello);
        };
        let cluster = self.shared.cluster.cluster_id;
        let nonce = draw_nonce().map_err(|error| {
            tracing::error!("no random numbers: {error}");
            End::refused(Refusal::Unauthenticated, "this node cannot draw a nonce")
        })?;
        let frame = self.reader.last_frame().expect("it was just returned");
        let challenged = Challenged::new(cluster, frame, nonce);
        let challenge = challenged.challenge(key);
        self.connection
            .send(|buffer| encode_challenge(cluster, &challenge, buffer));
        let frame = self.next_frame().await?;
        let Frame::Proof(proof) = frame else {
            let name = frame.kind().name();
            let reason = format!("{name} instead of a proof of the key");
            return Err(End::refused(Refusal::Unauthenticated, reason));
        };
        if !challenged.is_proved(key, &proof) {
            let reason = "the proof is not made with this cluster's key";
            return Err(End::refused(Refusal::Unauthenticated, reason));
        }
        Ok(hello)
    }

    async fn read_requests(&mut self) -> Result<Infallible, End> {
        loop {
            let frame = match self.next_frame().await {
                Err(End::Silent) if self.connection.is_waiting() => continue,
                frame => frame?,
            };
            let Frame::Request(request) = frame else {
                return Err(misplaced(&frame));
            };
            let bytes = self.reader.last_frame_bytes();
            self.connection.room().await;
            self.shared.inbox.room(Lane::Client).await;
            self.take(request, bytes)?;
        }
    }

    fn take(&self, request: Request, bytes: usize) -> Result<(), End> {
        let connection = self.connection.id;
        if let Err(DuplicateRequest) = self.connection.begin(request.id, bytes) {
            let reason = format!("request {} is open already", request.id);
            return Err(End::refused(Refusal::Malformed, reason));
        }
        let input = Input::Client {
            connection,
            request,
        };
        self.shared.inbox.push(Lane::Client, input, bytes);
        Ok(())
    }

    async fn read_messages(&mut self, from: ReplicaAddress) -> Result<Infallible, End> {
        loop {
            let frame = self.next_frame().await?;
            let is_isolated = self.shared.isolated.get();
            match frame {
                Frame::Peer(_) | Frame::Relayed(_) if is_isolated => {}
                Frame::Peer(message) => self.hear(from, message).await,
                Frame::Relayed(relayed) if relayed.to == self.shared.address => {
                    self.hear_relayed(relayed).await?;
                }
                Frame::Relayed(relayed) if relayed.from == from => {
                    self.shared.links.pass_on(&relayed);
                }
                frame => return Err(misplaced(&frame)),
            }
        }
    }

    /// A peer's message, said here or passed on by another peer.
    async fn hear(&self, from: ReplicaAddress, message: PeerMessage) {
        self.shared.inbox.room(Lane::Peer).await;
        let bytes = self.reader.last_frame_bytes();
        self.shared
            .inbox
            .push(Lane::Peer, Input::Peer { from, message }, bytes);
    }

    async fn hear_relayed(&self, relayed: Relayed) -> Result<(), End> {
        let Relayed {
            from,
            clock,
            message,
            ..
        } = relayed;
        if !self.shared.cluster.contains(from) || from == self.shared.address {
            let reason = format!("{from} is not a peer of {}", self.shared.address);
            return Err(End::refused(Refusal::UnknownPeer, reason));
        }
        let body = PeerBody::Txn(message);
        self.hear(from, PeerMessage { clock, body }).await;
        Ok(())
    }

    /// Gives way after a while: a sender that is always ready must not keep the core from its turn.
    async fn next_frame(&mut self) -> Result<Frame, End> {
        if self.bytes_this_turn >= TURN_BYTES {
            self.bytes_this_turn = 0;
            give_way().await;
        }
        let frame = read_frame::<End>(self.stream, &mut self.reader).await?;
        self.bytes_this_turn += self.reader.last_frame_bytes();
        frame.ok_or(End::Gone)
    }
}

/// The next frame of a stream; `None` at its end.
pub(crate) async fn read_frame<E>(
    stream: &Stream,
    reader: &mut FrameReader,
) -> Result<Option<Frame>, E>
where
    E: From<io::Error> + From<FrameError>,
{
    loop {
        if let Some(frame) = reader.next_frame()? {
            return Ok(Some(frame));
        }
        let bytes = stream.read(reader.space()).await?;
        if bytes == 0 {
            return Ok(None);
        }
        reader.advance(bytes);
    }
}

fn check_hello(shared: &Connections, connection: &Connection, hello: &Hello) -> Result<(), End> {
    // First: under another number of replicas the target is another one as well.
    let genesis = shared.cluster.genesis().to_string();
    if hello.genesis != genesis {
        let theirs = hello.genesis.escape_debug();
        let reason = format!("{} goes by `{genesis}`, you by `{theirs}`", shared.address);
        return Err(End::refused(Refusal::WrongGenesis, reason));
    }
    if hello.target != shared.address {
        let reason = format!("this is {}, not {}", shared.address, hello.target);
        return Err(End::refused(Refusal::WrongReplica, reason));
    }
    if shared.is_stopping() {
        return Err(End::refused(
            Refusal::ShuttingDown,
            "this node is going down",
        ));
    }
    match hello.origin {
        Origin::Client { .. } if shared.admit_client(connection) => Ok(()),
        Origin::Client { .. } => Err(End::refused(Refusal::ConnectionsMax, at_limit(shared))),
        Origin::Peer(from) if !shared.cluster.contains(from) || from == shared.address => {
            let reason = format!("{from} is not a peer of {}", shared.address);
            Err(End::refused(Refusal::UnknownPeer, reason))
        }
        Origin::Peer(_) if shared.isolated.get() => {
            Err(End::refused(Refusal::Isolated, "this node is isolated"))
        }
        Origin::Peer(from) => {
            shared.admit_peer(connection, from);
            Ok(())
        }
    }
}

fn at_limit(shared: &Connections) -> String {
    format!(
        "{} connections are taken",
        shared.cluster.limits.connections_limit
    )
}

fn early(frame: &Frame) -> End {
    let name = frame.kind().name();
    End::refused(Refusal::Malformed, format!("{name} before hello"))
}

fn misplaced(frame: &Frame) -> End {
    let name = frame.kind().name();
    End::refused(Refusal::Malformed, format!("{name} has no place here"))
}

async fn drop_rest(stream: &Stream) {
    let mut buffer = [0; 4096];
    let mut bytes = 0;
    while bytes < LINGER_BYTES_MAX {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => bytes += read,
        }
    }
}
