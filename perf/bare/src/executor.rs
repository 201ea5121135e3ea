//! Executors with the settings of a replica of Quorate, and how their tasks give way.
//!
//! glommio's preempt timer never expires: an executor of glommio 0.9 can park with runnable tasks when
//! it does. So a task that could go on at once ends its share of a turn by [`give_way`], and nothing
//! wakes an executor from another thread but a socket.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use glommio::net::TcpStream;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::Socket;

/// Never, as far as the process is concerned.
const PREEMPT_TIMER: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Registered memory of an executor with a core of its own.
pub(crate) const IO_MEMORY_BYTES: usize = 256 << 10;
const RING_DEPTH: usize = 128;

/// An executor on `cpu`; whether that exists shows when it is spawned.
pub(crate) fn pinned(name: &str, cpu: usize) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(name)
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
        .spin_before_park(Duration::ZERO)
}

/// Lets all other tasks run, and then the executor look at its sockets, files and timers.
pub(crate) async fn give_way() {
    // A timer that is due when it is first polled does not wait, so it is made due afterwards.
    let mut timer = Timer::new(PREEMPT_TIMER);
    let mut waits = false;
    poll_fn(|context| {
        if waits {
            return Poll::Ready(());
        }
        waits = true;
        let polled = Pin::new(&mut timer).poll(context);
        timer.reset(Duration::ZERO);
        polled.map(|_| ())
    })
    .await;
}

/// Hands a connected socket to the executor that this runs on, with Nagle's algorithm off.
pub(crate) fn adopt(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(Socket::from(stream).into())
}

/// Lifts the limits on locked memory and on files as far as this process may: each executor locks about
/// a mebibyte, and says so only when it is joined.
pub(crate) fn raise_limits() {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    // Only a privileged process may; for others the hard limit is what there is.
    if setrlimit(Resource::Memlock, unlimited).is_err() {
        raise(Resource::Memlock);
    }
    raise(Resource::Nofile);
}

fn raise(resource: Resource) {
    let maximum = getrlimit(resource).maximum;
    let lifted = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(resource, lifted) {
        eprintln!("bare: a limit stays as it is: {error}");
    }
}
