//! Sockets made with std, handed to glommio.
//!
//! glommio's own `bind` sets SO_REUSEPORT: a second process would share the port silently and take
//! half of the connections. So listeners are bound by std, where a taken port is an error, and
//! converted from the raw descriptor. This is the only `unsafe` of the crate.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::time::{Duration, Instant};

use glommio::net::{TcpListener, UnixStream};

use crate::fatal::Fatal;

/// How long a port may stay in use. The kernel takes an io_uring down in the background, so that the
/// listener of a process that has just ended can outlive it by some milliseconds; nothing tells when.
const PORT_PATIENCE: Duration = Duration::from_secs(2);
const PORT_PAUSE: Duration = Duration::from_millis(10);

/// Binds and listens; an address that stays in use is an error.
pub(crate) fn listen(address: SocketAddr) -> Result<std::net::TcpListener, Fatal> {
    let started = Instant::now();
    loop {
        match std::net::TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(source) if source.kind() == io::ErrorKind::AddrInUse => {
                if started.elapsed() >= PORT_PATIENCE {
                    return Err(Fatal::CannotListen { address, source });
                }
                std::thread::sleep(PORT_PAUSE);
            }
            Err(source) => return Err(Fatal::CannotListen { address, source }),
        }
    }
}

/// Hands a listener to the executor that this runs on.
pub(crate) fn listener_on_executor(listener: std::net::TcpListener) -> TcpListener {
    adopt(listener.into())
}

/// Hands one end of a socket pair to the executor that this runs on.
pub(crate) fn stream_on_executor(stream: std::os::unix::net::UnixStream) -> UnixStream {
    adopt(stream.into())
}

/// `T` has to be a type of socket that `socket` is; both callers above say so by their types.
fn adopt<T: FromRawFd>(socket: OwnedFd) -> T {
    let descriptor = socket.into_raw_fd();
    #[expect(
        unsafe_code,
        reason = "glommio takes bound and connected sockets only as raw descriptors"
    )]
    // SAFETY: `into_raw_fd` gave up the ownership of an open descriptor; the new value is its only
    // owner.
    unsafe {
        T::from_raw_fd(descriptor)
    }
}
