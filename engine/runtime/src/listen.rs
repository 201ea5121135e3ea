//! Listening sockets, made with std.
//!
//! glommio's own `bind` sets SO_REUSEPORT: a second process would share the port silently and take
//! half of the connections. So listeners are bound by std, where a taken port is an error, and a thread
//! accepts from them ([`crate::acceptor`]).

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

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
