//! The server: frames from sockets into groups, groups into the log, answers back.
//!
//! Tasks of one executor, which borrow what they share only between awaits:
//!
//! ```text
//! listener   a connection from the accepting thread -> a reader and a writer
//! reader     socket -> frames -> the group that fills
//! flusher    group -> one O_DIRECT|O_DSYNC write -> the answers of its frames are outgoing
//! writer     outgoing answers -> socket, all of them in one write
//! ```
//!
//! While one group is written the next one fills; as soon as it is durable the next is written. There is
//! no shutdown: the process is ended, and what it wrote means nothing to the next one.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io::{self, ErrorKind, Write};
use std::rc::Rc;

use anyhow::{Context, anyhow, ensure};
use futures_lite::AsyncReadExt;
use glommio::spawn_local;

use crate::acceptor::{self, Accepted};
use crate::args::ServeArguments;
use crate::connection::Connection;
use crate::executor::{adopt, give_way, pinned, raise_limits};
use crate::frame::{FrameReader, Kind};
use crate::group::{Full, Group};
use crate::ring::Ring;
use crate::wakeup::Wakeup;

/// Connections at a time; each holds a largest frame and its answers in memory.
pub const CONNECTIONS_MAX: usize = 1024;
/// Bytes that one connection reads before other tasks have their turn.
const TURN_BYTES: usize = 256 << 10;

/// Serves until the process is ended.
///
/// # Errors
/// The port, the directory or the CPU cannot be used; or a write failed.
pub fn run(arguments: &ServeArguments) -> anyhow::Result<()> {
    raise_limits();
    let accepted = acceptor::start(arguments.port)
        .with_context(|| format!("listening on port {}", arguments.port))?;
    let directory = arguments.dir.clone();
    let segments = usize::from(arguments.segments);
    let segment_bytes = u64::from(arguments.segment_mib) << 20;
    let executor = pinned("bare-serve", arguments.cpu);
    let handle = executor.spawn(move || async move {
        let ring = Ring::create(&directory, segments, segment_bytes).await?;
        // Whoever started this waits for the line.
        writeln!(io::stdout(), "serving on {}", accepted.address)?;
        let server = Rc::new(Server::new(ring));
        let listener = Rc::clone(&server);
        spawn_local(async move {
            let Err(error) = listen(&listener, accepted).await;
            eprintln!("bare: nothing is accepted any more: {error}");
        })
        .detach();
        let Err(error) = server.flush_for_ever().await;
        Err(error)
    });
    let handle =
        handle.map_err(|error| anyhow!("no executor on CPU {}: {error}", arguments.cpu))?;
    handle
        .join()
        .map_err(|error| anyhow!("the executor did not start: {error}"))?
}

struct Server {
    ring: Ring,
    filling: RefCell<Group>,
    filled: Wakeup,
    /// Whose next frame has no room in the group that fills.
    waiting: RefCell<Vec<Rc<Connection>>>,
    connections: Cell<usize>,
}

async fn listen(server: &Rc<Server>, accepted: Accepted) -> anyhow::Result<Infallible> {
    let mut bell: glommio::net::TcpStream = socket2::Socket::from(accepted.bell).into();
    let mut told = [0; 64];
    loop {
        let count = bell.read(&mut told).await?;
        ensure!(count > 0, "the accepting thread has ended");
        for stream in accepted.handed.try_iter().take(count) {
            if server.connections.get() == CONNECTIONS_MAX {
                eprintln!("bare: {CONNECTIONS_MAX} connections are taken");
                continue;
            }
            server.connections.set(server.connections.get() + 1);
            let connection = Rc::new(Connection::new(adopt(stream)?));
            spawn_local(read_to_end(Rc::clone(server), Rc::clone(&connection))).detach();
            spawn_local(write_to_end(connection)).detach();
        }
        // More may have come meanwhile, and then the read would not wait.
        give_way().await;
    }
}

async fn read_to_end(server: Rc<Server>, connection: Rc<Connection>) {
    if let Err(error) = server.read(&connection).await {
        tell(&error);
    }
    connection.close();
    server.connections.set(server.connections.get() - 1);
}

async fn write_to_end(connection: Rc<Connection>) {
    if let Err(error) = connection.write_outgoing().await {
        tell(&error.into());
        connection.close();
    }
}

/// Says why a connection ended, unless the client went away: a generator that has measured enough does
/// so with answers on their way.
fn tell(error: &anyhow::Error) {
    let is_gone = error.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        )
    });
    if !is_gone {
        eprintln!("bare: a connection ended: {error}");
    }
}

impl Server {
    fn new(ring: Ring) -> Self {
        let filling = RefCell::new(Group::after(0, &ring));
        Self {
            ring,
            filling,
            filled: Wakeup::default(),
            waiting: RefCell::default(),
            connections: Cell::new(0),
        }
    }

    async fn read(&self, connection: &Rc<Connection>) -> anyhow::Result<()> {
        let mut reader = FrameReader::new(Kind::Request);
        let mut bytes_this_turn = 0;
        loop {
            let bytes = connection.read(reader.space()).await?;
            if bytes == 0 {
                return Ok(());
            }
            reader.advance(bytes);
            while let Some(frame) = reader.next_frame()? {
                while !connection.has_room() {
                    connection.room.wait().await;
                }
                loop {
                    let appended = self
                        .filling
                        .borrow_mut()
                        .append(frame, connection, &self.ring);
                    match appended {
                        Ok(()) => break,
                        Err(Full) => {
                            self.waiting.borrow_mut().push(Rc::clone(connection));
                            connection.room.wait().await;
                        }
                    }
                }
                self.filled.set();
            }
            bytes_this_turn += bytes;
            if bytes_this_turn >= TURN_BYTES {
                bytes_this_turn = 0;
                give_way().await;
            }
        }
    }

    async fn flush_for_ever(&self) -> anyhow::Result<Infallible> {
        loop {
            if self.filling.borrow().is_empty() {
                self.filled.wait().await;
                continue;
            }
            let last_length = self.filling.borrow().length();
            let group = self.filling.replace(Group::after(last_length, &self.ring));
            let (buffer, senders) = group.seal();
            for connection in &senders {
                connection.start_flush();
            }
            for connection in self.waiting.take() {
                connection.room.set();
            }
            self.ring.append(buffer).await?;
            for connection in senders {
                connection.finish_flush();
            }
        }
    }
}
