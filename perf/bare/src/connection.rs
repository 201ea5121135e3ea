//! A connection of the server: its socket, and its answers on their way from the group to the socket.
//!
//! ```text
//! frame -> begun --(its group's write starts)--> flushing --(it is durable)--> outgoing -> socket
//! ```
//!
//! One task reads and another writes. Whatever is outgoing when the writer's turn comes goes out in one
//! write: a write per answer would cost many times the CPU.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;

use crate::wakeup::Wakeup;

/// Answers that wait for a socket before nothing more is read from it.
const OUTGOING_BYTES_HIGH: usize = 4 << 20;

/// Both directions. Nothing is borrowed across an await.
pub(crate) struct Connection {
    stream: RefCell<TcpStream>,
    begun: RefCell<Vec<u8>>,
    flushing: RefCell<Vec<u8>>,
    outgoing: RefCell<Vec<u8>>,
    filled: Wakeup,
    is_closed: Cell<bool>,
    /// There may be room: in the group, or behind the answers.
    pub(crate) room: Wakeup,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream: RefCell::new(stream),
            begun: RefCell::default(),
            flushing: RefCell::default(),
            outgoing: RefCell::default(),
            filled: Wakeup::default(),
            is_closed: Cell::new(false),
            room: Wakeup::default(),
        }
    }

    /// Reads what is there, at least a byte; 0 at the end.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|context| Pin::new(&mut *self.stream.borrow_mut()).poll_read(context, buffer)).await
    }

    /// Lets `write` append an answer; true if it is the first of its group.
    pub(crate) fn answer(&self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut begun = self.begun.borrow_mut();
        let is_first = begun.is_empty();
        write(&mut begun);
        is_first
    }

    /// The write of the group starts: later answers are of the next one.
    pub(crate) fn start_flush(&self) {
        let mut flushing = self.flushing.borrow_mut();
        assert!(flushing.is_empty(), "one write at a time");
        std::mem::swap(&mut *self.begun.borrow_mut(), &mut flushing);
    }

    /// The group is durable.
    pub(crate) fn finish_flush(&self) {
        let mut flushing = self.flushing.borrow_mut();
        let mut outgoing = self.outgoing.borrow_mut();
        if self.is_closed.get() {
            flushing.clear();
        } else if outgoing.is_empty() {
            std::mem::swap(&mut *outgoing, &mut flushing);
        } else {
            outgoing.append(&mut flushing);
        }
        self.filled.set();
    }

    pub(crate) fn has_room(&self) -> bool {
        self.outgoing.borrow().len() < OUTGOING_BYTES_HIGH || self.is_closed.get()
    }

    /// Drops what waits, and ends the writer.
    pub(crate) fn close(&self) {
        self.is_closed.set(true);
        self.filled.set();
        self.room.set();
    }

    /// Writes what comes until [`Self::close`], or until an error.
    pub(crate) async fn write_outgoing(&self) -> io::Result<()> {
        let mut batch = Vec::new();
        while !self.is_closed.get() {
            std::mem::swap(&mut batch, &mut *self.outgoing.borrow_mut());
            if batch.is_empty() {
                self.filled.wait().await;
                continue;
            }
            self.write_all(&batch).await?;
            batch.clear();
            self.room.set();
        }
        Ok(())
    }

    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = poll_fn(|context| {
                Pin::new(&mut *self.stream.borrow_mut()).poll_write(context, bytes)
            });
            match written.await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => bytes = &bytes[written..],
            }
        }
        Ok(())
    }
}
