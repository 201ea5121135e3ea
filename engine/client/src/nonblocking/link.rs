//! One connection to one replica: dialled when there is something to say, ended by any error.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};

use futures_lite::future;
use glommio::timer::Timer;
use quorate_access::Next;
use quorate_net::Stream;
use quorate_protocol::client::Request;
use quorate_protocol::ids::{ClusterId, ReplicaAddress};
use quorate_protocol::time::MS;
use quorate_wire::{EncodeError, Frame, FrameReader, encode_request};

use super::Shared;
use crate::error::DialError;

/// How long a replica is not dialled again after a failure; doubles up to the maximum.
const BAR_NS_MIN: u64 = 20 * MS;
const BAR_NS_MAX: u64 = 500 * MS;

/// The side of a connection that calls see.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// Whole frames that wait for the next write; bounded by the session.
    out: Vec<u8>,
    /// Wakes the task when `out` is filled.
    writer: Option<Waker>,
    /// The last dial failed; the next one not before this time.
    barred_until_ns: u64,
    /// Dials that failed since the last one that did not.
    failures: u32,
    dial_error: Option<DialError>,
}

impl Link {
    pub fn is_barred(&self, now_ns: u64) -> bool {
        now_ns < self.barred_until_ns
    }

    /// Adds a request to the next write; whoever is returned has to be woken.
    pub fn queue(
        &mut self,
        cluster: ClusterId,
        request: &Request,
    ) -> Result<Option<Waker>, EncodeError> {
        encode_request(cluster, request, &mut self.out)?;
        Ok(self.writer.take())
    }

    pub fn failed(&mut self, error: DialError, now_ns: u64) {
        let bar_ns = (BAR_NS_MIN << self.failures.min(8)).min(BAR_NS_MAX);
        self.failures += 1;
        self.dial_error = Some(error);
        self.barred_until_ns = now_ns + bar_ns;
        self.out.clear();
    }

    /// What was not written belongs to requests that the session sends again.
    pub fn closed(&mut self) {
        self.out.clear();
    }

    pub fn dial_error(&self) -> Option<&DialError> {
        self.dial_error.as_ref()
    }

    fn dialled(&mut self) {
        self.failures = 0;
        self.dial_error = None;
    }
}

/// Dials whenever there is something to send, for as long as the client lives.
pub(super) async fn run(shared: Rc<Shared>, replica: ReplicaAddress) {
    loop {
        wait_for_requests(&shared, replica).await;
        match connect(&shared, replica).await {
            Ok((stream, reader)) => {
                shared.with_link(replica, Link::dialled);
                // Whichever half ends first takes the other one with it; what ended it makes no
                // difference to the calls.
                let _ = future::or(
                    read_replies(&shared, replica, &stream, reader),
                    write_requests(&shared, replica, &stream),
                )
                .await;
                shared.on_disconnected(replica);
            }
            Err(error) => shared.on_dial_failed(replica, error),
        }
    }
}

/// Returns once something is to be written.
async fn wait_for_requests(shared: &Shared, replica: ReplicaAddress) {
    poll_fn(|context| {
        shared.with_link(replica, |link| {
            if link.out.is_empty() {
                link.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
    })
    .await;
}

async fn connect(
    shared: &Shared,
    replica: ReplicaAddress,
) -> Result<(Stream, FrameReader), DialError> {
    let address = shared.addresses[&replica];
    let too_late = async {
        // Connecting has its own bound; this one is for the handshake behind it.
        Timer::new(shared.options.connect_timeout * 2).await;
        Err(DialError::Broken {
            address,
            source: ErrorKind::TimedOut.into(),
        })
    };
    future::or(dial(shared, replica, address), too_late).await
}

async fn dial(
    shared: &Shared,
    replica: ReplicaAddress,
    address: SocketAddr,
) -> Result<(Stream, FrameReader), DialError> {
    let refused = |source| DialError::Handshake { address, source };
    let mut dialler = shared.greeting.dialler(replica).map_err(refused)?;
    let too_late = async {
        Timer::new(shared.options.connect_timeout).await;
        Err(ErrorKind::TimedOut.into())
    };
    let connecting = Stream::connect(&shared.sockets, address);
    let stream = future::or(connecting, too_late)
        .await
        .map_err(|source| DialError::Connect { address, source })?;
    let broken = |source| DialError::Broken { address, source };
    stream.set_nodelay().map_err(broken)?;
    stream.write_all(dialler.hello()).await.map_err(broken)?;
    let mut reader = FrameReader::for_handshake(shared.greeting.cluster);
    loop {
        let next = reader.next_frame();
        if let Some(frame) = next.map_err(|source| DialError::Frame { address, source })? {
            match dialler.next(frame).map_err(refused)? {
                Next::Send(bytes) => stream.write_all(&bytes).await.map_err(broken)?,
                Next::Established => {
                    reader.open();
                    return Ok((stream, reader));
                }
            }
            continue;
        }
        let bytes = read(&stream, reader.space()).await.map_err(broken)?;
        reader.advance(bytes);
    }
}

async fn read_replies(
    shared: &Shared,
    replica: ReplicaAddress,
    stream: &Stream,
    mut reader: FrameReader,
) -> io::Result<()> {
    loop {
        let mut answered = false;
        while let Some(frame) = reader.next_frame().map_err(io::Error::other)? {
            let Frame::Reply(reply) = frame else {
                let kind = frame.kind().name();
                return Err(io::Error::other(format!("{kind} frame instead of a reply")));
            };
            shared.on_reply(replica, reply);
            answered = true;
        }
        if answered {
            shared.turn();
        }
        let bytes = read(stream, reader.space()).await?;
        reader.advance(bytes);
    }
}

/// Writes what has gathered since the last write, in one piece.
async fn write_requests(
    shared: &Shared,
    replica: ReplicaAddress,
    stream: &Stream,
) -> io::Result<()> {
    let mut writing = Vec::new();
    loop {
        wait_for_requests(shared, replica).await;
        // The two buffers change places, so that neither is allocated anew.
        shared.with_link(replica, |link| {
            std::mem::swap(&mut link.out, &mut writing);
        });
        stream.write_all(&writing).await?;
        writing.clear();
    }
}

/// Reads at least one byte; the end of the stream is an error.
async fn read(stream: &Stream, space: &mut [u8]) -> io::Result<usize> {
    match stream.read(space).await? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        bytes => Ok(bytes),
    }
}
