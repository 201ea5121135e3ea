//! One connection to one replica: a non-blocking socket, an outgoing buffer, a frame reader.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use quorate_access::Next;
use quorate_protocol::client::{Reply, Request};
use quorate_protocol::ids::{ClusterId, ReplicaAddress};
use quorate_wire::{EncodeError, Frame, FrameReader, encode_request};

use crate::error::DialError;
use crate::handshake::Greeting;

#[derive(Debug)]
pub(super) struct Connection {
    cluster: ClusterId,
    stream: TcpStream,
    reader: FrameReader,
    out: Vec<u8>,
    /// Bytes of `out` that the socket has taken.
    written: usize,
}

impl Connection {
    /// Connects and shakes hands, waiting at most `timeout` for each.
    pub fn dial(
        greeting: &Greeting,
        target: ReplicaAddress,
        address: SocketAddr,
        timeout: Duration,
    ) -> Result<Self, DialError> {
        let cluster = greeting.cluster;
        let refused = |source| DialError::Handshake { address, source };
        let mut dialler = greeting.dialler(target).map_err(refused)?;
        let mut stream = TcpStream::connect_timeout(&address, timeout)
            .map_err(|source| DialError::Connect { address, source })?;
        let broken = |source| DialError::Broken { address, source };
        stream.set_nodelay(true).map_err(broken)?;
        stream.set_write_timeout(Some(timeout)).map_err(broken)?;
        stream.write_all(dialler.hello()).map_err(broken)?;
        let mut reader = FrameReader::for_handshake(cluster);
        let until = Instant::now() + timeout;
        loop {
            let frame = next_frame(&mut stream, &mut reader, address, until)?;
            match dialler.next(frame).map_err(refused)? {
                Next::Send(bytes) => stream.write_all(&bytes).map_err(broken)?,
                Next::Established => break,
            }
        }
        reader.open();
        stream.set_nonblocking(true).map_err(broken)?;
        Ok(Self {
            cluster,
            stream,
            reader,
            out: Vec::new(),
            written: 0,
        })
    }

    /// Adds a request to what is to be written.
    pub fn queue(&mut self, request: &Request) -> Result<(), EncodeError> {
        encode_request(self.cluster, request, &mut self.out)
    }

    /// Writes as much as the socket takes.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.wants_write() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    pub fn wants_write(&self) -> bool {
        self.written < self.out.len()
    }

    /// Reads what has come and hands every reply to `take`. An error ends the connection; the end
    /// of the stream is one.
    pub fn receive(&mut self, mut take: impl FnMut(Reply)) -> io::Result<()> {
        loop {
            match self.stream.read(self.reader.space()) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => self.reader.advance(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            while let Some(frame) = self.reader.next_frame().map_err(io::Error::other)? {
                match frame {
                    Frame::Reply(reply) => take(reply),
                    other => {
                        let kind = other.kind().name();
                        return Err(io::Error::other(format!("{kind} frame instead of a reply")));
                    }
                }
            }
        }
    }

    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn next_frame(
    stream: &mut TcpStream,
    reader: &mut FrameReader,
    address: SocketAddr,
    until: Instant,
) -> Result<Frame, DialError> {
    let broken = |source| DialError::Broken { address, source };
    loop {
        let next = reader.next_frame();
        if let Some(frame) = next.map_err(|source| DialError::Frame { address, source })? {
            return Ok(frame);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(broken(ErrorKind::TimedOut.into()));
        }
        stream.set_read_timeout(Some(left)).map_err(broken)?;
        match stream.read(reader.space()) {
            Ok(0) => return Err(broken(ErrorKind::UnexpectedEof.into())),
            Ok(bytes) => reader.advance(bytes),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(broken(ErrorKind::TimedOut.into()));
            }
            Err(error) => return Err(broken(error)),
        }
    }
}
