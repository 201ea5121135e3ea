//! The thread that accepts connections and hands them to the executor.
//!
//! glommio listens only on sockets of its own making, which share their port with other processes
//! (SO_REUSEPORT). So the listener is bound by std, where a taken port is an error, and a thread waits for
//! connections. A byte on a socket pair tells the executor of each: nothing else may wake it.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

/// Connections that wait for the executor; the kernel's backlog holds the rest.
const HANDED_MAX: usize = 64;

/// The executor's end.
pub(crate) struct Accepted {
    pub(crate) address: SocketAddr,
    pub(crate) bell: UnixStream,
    pub(crate) handed: Receiver<TcpStream>,
}

/// Binds a port of the loopback interface and starts the thread, which ends with the process, or when
/// the executor's end is gone and another connection comes. It may run on every core that the caller may.
pub(crate) fn start(port: u16) -> io::Result<Accepted> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let address = listener.local_addr()?;
    let (bell, ringing) = UnixStream::pair()?;
    let (sender, handed) = mpsc::sync_channel(HANDED_MAX);
    thread::Builder::new()
        .name("bare accept".to_owned())
        .spawn(move || accept_for_ever(&listener, &sender, ringing))?;
    Ok(Accepted {
        address,
        bell,
        handed,
    })
}

fn accept_for_ever(listener: &TcpListener, sender: &SyncSender<TcpStream>, mut bell: UnixStream) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                if sender.send(stream).is_err() || bell.write_all(b"a").is_err() {
                    return;
                }
            }
            Err(error) => return eprintln!("bare: nothing is accepted any more: {error}"),
        }
    }
}
