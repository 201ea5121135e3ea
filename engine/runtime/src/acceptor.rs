//! The thread that accepts the connections of one replica and hands them to its executor.
//!
//! glommio listens only on sockets of its own making, which share their port with other processes
//! (SO_REUSEPORT), or on raw descriptors, which takes `unsafe`. So a thread waits for connections, and the executor gets
//! them through a bounded queue. A byte on a socket pair tells of each: nothing else may wake an executor, see
//! `engine/net/src/turn.rs`.
//!
//! ```text
//! kernel's backlog -> accept -> queue of HANDED_MAX -> executor
//!                               byte on the bell ---->
//! ```
//!
//! While the queue is full the thread waits, and the backlog holds the rest.

use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::limits::{ACCEPT_PAUSE_NS, HANDED_MAX};

/// A connection, or why none could be accepted.
pub(crate) type Accepted = io::Result<TcpStream>;

/// The thread needs little more than its own frames.
const STACK_BYTES: usize = 128 << 10;

/// A running thread. It has ended, and the port is closed, when this is dropped.
#[derive(Debug)]
pub(crate) struct Acceptor {
    /// Dropped first: the thread may wait for room in the queue.
    handed: Option<Receiver<Accepted>>,
    /// The thread's end of the bell. Shut down, it tells the thread to end, whoever else refers to it.
    bell: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// The executor's end.
#[derive(Debug)]
pub(crate) struct Bell(pub(crate) UnixStream);

impl Acceptor {
    /// Starts the thread. It runs on any core that the caller may run on, so this must not be called
    /// from an executor, which is pinned to its replica's.
    pub(crate) fn start(name: &str, listener: TcpListener) -> io::Result<(Self, Bell)> {
        // A connection may be gone between the poll and the accept.
        listener.set_nonblocking(true)?;
        let (bell, executor) = UnixStream::pair()?;
        let ringing = bell.try_clone()?;
        let (sender, handed) = mpsc::sync_channel(HANDED_MAX);
        let thread = thread::Builder::new()
            .name(format!("{name} accept"))
            .stack_size(STACK_BYTES)
            .spawn(move || accept_until_told(&listener, &sender, &ringing))?;
        let acceptor = Self {
            handed: Some(handed),
            bell,
            thread: Some(thread),
        };
        Ok((acceptor, Bell(executor)))
    }

    /// What one byte on the bell told of.
    pub(crate) fn next(&self) -> Option<Accepted> {
        self.handed.as_ref()?.try_recv().ok()
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        drop(self.handed.take());
        // It fails if the other end is gone, and then the thread has seen that.
        if let Err(error) = self.bell.shutdown(Shutdown::Both) {
            tracing::debug!("bell: {error}");
        }
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the accepting thread panicked");
        }
    }
}

fn accept_until_told(listener: &TcpListener, queue: &SyncSender<Accepted>, mut bell: &UnixStream) {
    loop {
        if is_told_to_end(Some(listener), bell) {
            return;
        }
        let accepted = match listener.accept() {
            Ok((stream, _)) => Ok(stream),
            Err(error) if is_nothing(&error) => continue,
            Err(error) => Err(error),
        };
        // Without a free descriptor the connection stays where it is: trying at once would spin.
        let pauses =
            matches!(&accepted, Err(error) if error.kind() != ErrorKind::ConnectionAborted);
        if queue.send(accepted).is_err() || bell.write_all(b"a").is_err() {
            return;
        }
        if pauses && is_told_to_end(None, bell) {
            return;
        }
    }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Waits for a connection, or without a listener for the length of a pause; either ends early, and
/// this is true, when the other side shuts the bell down.
fn is_told_to_end(listener: Option<&TcpListener>, bell: &UnixStream) -> bool {
    let pause = Timespec {
        tv_sec: 0,
        tv_nsec: ACCEPT_PAUSE_NS,
    };
    // A hang-up is told without being asked for. Nobody writes to this end of the bell.
    let mut waited = vec![PollFd::new(bell, PollFlags::empty())];
    waited.extend(listener.map(|listener| PollFd::new(listener, PollFlags::IN)));
    let timeout = listener.is_none().then_some(&pause);
    // An error is an interruption by a signal; the caller comes back.
    poll(&mut waited, timeout).is_ok() && !waited[0].revents().is_empty()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::{Duration, Instant};

    use super::*;

    fn started() -> (SocketAddr, Acceptor, Bell) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (acceptor, bell) = Acceptor::start("s1r1", listener).unwrap();
        bell.0
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        (address, acceptor, bell)
    }

    #[test]
    fn every_byte_of_the_bell_stands_for_one_connection() {
        let (address, acceptor, mut bell) = started();
        assert!(acceptor.next().is_none());
        let clients: Vec<TcpStream> = (0..5)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        for client in &clients {
            bell.0.read_exact(&mut [0]).unwrap();
            let stream = acceptor.next().unwrap().unwrap();
            assert_eq!(stream.peer_addr().unwrap(), client.local_addr().unwrap());
        }
        assert!(acceptor.next().is_none());
    }

    /// A replica that stops must not wait for a connection that never comes, and its port is free.
    #[test]
    fn dropping_it_ends_the_thread_and_closes_the_port() {
        let (address, acceptor, _bell) = started();
        drop(acceptor);
        drop(TcpListener::bind(address).unwrap());
    }

    #[test]
    fn it_ends_while_it_waits_for_room_and_holds_no_more_than_its_bound() {
        let (address, acceptor, mut bell) = started();
        let clients: Vec<TcpStream> = (0..HANDED_MAX + 3)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let mut told = vec![0; HANDED_MAX];
        bell.0.read_exact(&mut told).unwrap();
        drop(acceptor);
        // Nobody will answer those that waited: the kernel says so.
        for mut client in clients {
            client
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            assert!(!matches!(client.read(&mut [0]), Ok(1..)));
        }
    }

    /// With no descriptor to be had every accept fails at once, for as long as the connection waits.
    #[test]
    fn a_pause_lasts_and_ends_early_when_told() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let pause = Duration::from_nanos(ACCEPT_PAUSE_NS.try_into().unwrap());
        let begun = Instant::now();
        assert!(!is_told_to_end(None, &here));
        assert!(begun.elapsed() >= pause);
        here.write_all(b"a").unwrap();
        there.shutdown(Shutdown::Both).unwrap();
        assert!(is_told_to_end(None, &here));
    }
}
