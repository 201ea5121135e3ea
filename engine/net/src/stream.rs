//! A stream socket that one task reads and another writes.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, connect,
    getpeername, recv, sendmsg, socket_with, sockopt,
};

use crate::sockets::{Place, Sockets};

/// Pieces of one write; the kernel takes 1,024.
const SLICES_PER_WRITE_MAX: usize = 256;

/// Both directions of a connected socket, of TCP or of a pair. Closed with its last clone.
#[derive(Clone, Debug)]
pub struct Stream(Rc<Watched>);

#[derive(Debug)]
struct Watched {
    socket: OwnedFd,
    sockets: Rc<Sockets>,
    number: usize,
    place: Rc<Place>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.sockets.remove(&self.socket, self.number);
    }
}

impl Stream {
    /// Takes a socket over; it must not be read or written elsewhere.
    pub fn new(sockets: &Rc<Sockets>, socket: impl Into<OwnedFd>) -> io::Result<Self> {
        let socket = socket.into();
        ioctl_fionbio(&socket, true)?;
        let (number, place) = sockets.add(&socket)?;
        Ok(Self(Rc::new(Watched {
            socket,
            sockets: Rc::clone(sockets),
            number,
            place,
        })))
    }

    /// Connects over TCP; waits as long as the kernel does.
    pub async fn connect(sockets: &Rc<Sockets>, address: SocketAddr) -> io::Result<Self> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let stream = Self::new(sockets, socket)?;
        // Room to write comes with the connection, or with the reason why there is none.
        stream
            .write_when_ready(|socket| {
                sockopt::socket_error(socket)??;
                match getpeername(socket) {
                    Err(Errno::NOTCONN) => Err(Errno::WOULDBLOCK),
                    answer => answer.map(|_| ()),
                }
            })
            .await?;
        Ok(stream)
    }

    /// Small messages do not wait for more. Of TCP only.
    pub fn set_nodelay(&self) -> io::Result<()> {
        Ok(sockopt::set_tcp_nodelay(&self.0.socket, true)?)
    }

    /// Writing fails with `TimedOut` after this long without room.
    pub fn set_write_timeout(&self, timeout: Duration) {
        self.0.place.writing.set_limit(timeout);
    }

    /// The connection breaks once something sent has been unacknowledged by the other side's kernel for this long, in
    /// milliseconds at most 2^32 - 1. Of TCP only.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_unacknowledged_limit(&self, limit: Duration) -> io::Result<()> {
        let milliseconds = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        Ok(sockopt::set_tcp_user_timeout(&self.0.socket, milliseconds)?)
    }

    /// Reading fails with `TimedOut` after this long without a byte.
    pub fn set_read_timeout(&self, timeout: Duration) {
        self.0.place.reading.set_limit(timeout);
    }

    /// Reads what is there, at least a byte; 0 at the end.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Watched {
            socket,
            sockets,
            place,
            ..
        } = &*self.0;
        place.reading.begin();
        let bytes = poll_fn(|context| {
            place.reading.poll(context, sockets.now(), || {
                let (bytes, _) = recv(socket, &mut *buffer, RecvFlags::empty())?;
                Ok(bytes)
            })
        })
        .await?;
        if bytes < buffer.len() {
            place.took_all();
        }
        Ok(bytes)
    }

    /// Writes everything.
    pub async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_all_slices(&mut [IoSlice::new(bytes)]).await
    }

    /// Writes everything, from where it is.
    pub async fn write_all_slices(&self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        // Leaves out what is empty: a write of nothing would look like a closed socket.
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let some = &slices[..slices.len().min(SLICES_PER_WRITE_MAX)];
            let written = self
                .write_when_ready(|socket| {
                    let no_rights = &mut SendAncillaryBuffer::default();
                    sendmsg(socket, some, no_rights, SendFlags::NOSIGNAL)
                })
                .await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut slices, written);
        }
        Ok(())
    }

    async fn write_when_ready<T>(
        &self,
        mut attempt: impl FnMut(&OwnedFd) -> Result<T, Errno>,
    ) -> io::Result<T> {
        let Watched {
            socket,
            sockets,
            place,
            ..
        } = &*self.0;
        place.writing.begin();
        poll_fn(|context| {
            place
                .writing
                .poll(context, sockets.now(), || attempt(socket))
        })
        .await
    }
}
