//! All sockets of an executor, watched by one epoll.
//!
//! glommio has a poll in its ring for every socket that somebody waits for. Each that completes interrupts the thread,
//! though it is at work and will look at its ring anyway: with many small messages a third of a leader's time went to
//! such interrupts. So no socket is in the ring. They are in an epoll, edge-triggered, and one task looks after that:
//!
//! ```text
//! something came:  tell the tasks that wait for it, let everybody have a turn, look again
//! nothing came:    put one poll, of the epoll itself, into the ring, and wait for it
//! ```
//!
//! A busy executor asks once a turn what has come and arms nothing; an idle one sleeps on a single poll.
//!
//! | who tells | what | whom |
//! | --- | --- | --- |
//! | kernel | an edge: bytes came, room came, the other side ended | [`Sockets::collect`] |
//! | `collect` | [`Side::ready`], and wakes | the task in [`Side::poll`] |
//! | that task | no longer ready: the kernel had no (more) bytes, or no room | `Side` |
//! | [`Sockets::count_time`] | a side has waited for longer than its limit: wakes | the task, which fails with `TimedOut` |
//!
//! No edge is lost: one between the kernel's "no more" and the next `collect` is still in the epoll, and only this
//! thread takes it out.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::AsyncReadExt;
use glommio::net::TcpStream;
use glommio::timer::sleep;
use glommio::{Task, spawn_local};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use socket2::Socket;

use crate::turn::give_way;

/// Sockets of which one look at the epoll tells; the others are told of in the next turn.
const EVENTS_MAX: usize = 256;
/// How precisely the time is counted for which a socket is waited for.
const TICK: Duration = Duration::from_millis(100);
/// Pause before sockets are looked at again where no descriptor is free to wait with.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(1);

/// The sockets of one executor.
#[derive(Debug)]
pub struct Sockets {
    epoll: OwnedFd,
    places: RefCell<Places>,
    /// Of [`TICK`], since the executor started. Waiting costs no look at a clock.
    ticks: Cell<u32>,
}

/// By the number under which the epoll names each.
#[derive(Debug, Default)]
struct Places {
    taken: Vec<Option<Rc<Place>>>,
    free: Vec<usize>,
}

/// What is known of one socket.
#[derive(Debug, Default)]
pub(crate) struct Place {
    pub(crate) reading: Side,
    pub(crate) writing: Side,
    /// The other side sends no more, or the connection is broken: reading never waits again.
    has_ended: Cell<bool>,
}

/// One direction of a socket. One task at a time waits for it.
#[derive(Debug)]
pub(crate) struct Side {
    /// The kernel has not said "no more" since the last edge.
    ready: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
    /// The tick at which the present wait began.
    since: Cell<Option<u32>>,
    /// Ticks that a wait may last.
    limit: Cell<u32>,
}

impl Default for Side {
    fn default() -> Self {
        Self {
            ready: Cell::new(true),
            waiting: RefCell::new(None),
            since: Cell::new(None),
            limit: Cell::new(u32::MAX),
        }
    }
}

/// Looks after the sockets of its executor until it is dropped.
#[derive(Debug)]
#[must_use = "without it nobody hears of his socket"]
pub struct Serving {
    _tasks: [Task<()>; 2],
}

impl Sockets {
    /// To be called once on an executor: what its streams are made with, and what serves them.
    ///
    /// # Errors
    /// No descriptor is free.
    ///
    /// # Panics
    /// Outside a glommio executor.
    pub fn start() -> io::Result<(Rc<Self>, Serving)> {
        let sockets = Rc::new(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            places: RefCell::default(),
            ticks: Cell::new(0),
        });
        let (watched, counted) = (Rc::clone(&sockets), Rc::clone(&sockets));
        let tasks = [
            spawn_local(async move { watched.watch().await }),
            spawn_local(async move { counted.count_time().await }),
        ];
        Ok((sockets, Serving { _tasks: tasks }))
    }

    /// Watches a socket until [`Self::remove`].
    pub(crate) fn add(&self, socket: impl AsFd) -> io::Result<(usize, Rc<Place>)> {
        let mut places = self.places.borrow_mut();
        let number = match places.free.pop() {
            Some(number) => number,
            None => {
                places.taken.push(None);
                places.taken.len() - 1
            }
        };
        let edges = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        let name = u64::try_from(number).expect("a usize fits 64 bits");
        let added = epoll::add(&self.epoll, socket, epoll::EventData::new_u64(name), edges);
        if let Err(error) = added {
            places.free.push(number);
            return Err(error.into());
        }
        let place = Rc::new(Place::default());
        places.taken[number] = Some(Rc::clone(&place));
        Ok((number, place))
    }

    /// To be called before the socket is closed.
    pub(crate) fn remove(&self, socket: impl AsFd, number: usize) {
        if let Err(error) = epoll::delete(&self.epoll, socket) {
            tracing::error!("a socket was not watched: {error}");
        }
        let mut places = self.places.borrow_mut();
        places.taken[number] = None;
        places.free.push(number);
    }

    pub(crate) fn now(&self) -> u32 {
        self.ticks.get()
    }

    /// Tells tasks what came to their sockets, for ever.
    async fn watch(&self) {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            if self.collect(&mut events) {
                give_way().await;
            } else {
                self.something_comes().await;
            }
        }
    }

    /// Wakes tasks that have waited for too long, for ever.
    async fn count_time(&self) {
        loop {
            sleep(TICK).await;
            let now = self.ticks.get().saturating_add(1);
            self.ticks.set(now);
            for place in self.places.borrow().taken.iter().flatten() {
                for side in [&place.reading, &place.writing] {
                    if side.is_late(now) {
                        side.wake();
                    }
                }
            }
        }
    }

    /// False if nothing came.
    fn collect(&self, events: &mut Vec<epoll::Event>) -> bool {
        const AT_ONCE: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(events), Some(&AT_ONCE)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("the epoll of an executor does not answer: {error}"),
        }
        // A waker of glommio schedules its task and runs nothing, so that no place is taken or given up meanwhile.
        let places = self.places.borrow();
        for event in events.iter() {
            let (number, flags) = (event.data.u64(), event.flags);
            let number = usize::try_from(number).expect("named by a usize");
            // Nothing runs between the kernel's answer and here, so that no place has another socket by now.
            if let Some(place) = &places.taken[number] {
                place.tell(flags);
            }
        }
        !events.is_empty()
    }

    /// Waits until the epoll has something to tell.
    ///
    /// glommio polls only what it takes for a stream. It puts a poll of a new stream into its ring at once, and only when
    /// that has completed tries to read; what it then says of an epoll does not matter. A stream is good for one
    /// poll, so each time it is made of another descriptor of the same epoll.
    async fn something_comes(&self) {
        let Ok(epoll) = self.epoll.try_clone() else {
            // Every descriptor is in use. Until one is free there is nothing to wait with.
            return sleep(DESCRIPTOR_PAUSE).await;
        };
        let mut probe = TcpStream::from(Socket::from(std::net::TcpStream::from(epoll)));
        let told = probe.read(&mut [0]).await;
        debug_assert!(told.is_err(), "an epoll is no stream");
    }
}

impl Place {
    fn tell(&self, flags: epoll::EventFlags) {
        use epoll::EventFlags;
        if flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            self.has_ended.set(true);
        }
        if flags != EventFlags::OUT {
            self.reading.tell();
        }
        if flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
            self.writing.tell();
        }
    }

    /// A read took less than there was room for: it took all there was. (Or it came to an urgent byte, which nobody
    /// sends here; who does waits for itself.)
    pub(crate) fn took_all(&self) {
        self.reading.ready.set(self.has_ended.get());
    }
}

impl Side {
    /// How long a wait may last; precise to a tick or two.
    pub(crate) fn set_limit(&self, limit: Duration) {
        let ticks = limit.as_millis().div_ceil(TICK.as_millis());
        self.limit.set(u32::try_from(ticks).unwrap_or(u32::MAX));
    }

    /// A new wait begins with the next [`Self::poll`] that has to.
    pub(crate) fn begin(&self) {
        self.since.set(None);
    }

    /// Tries the kernel while there is hope, else waits. `attempt` fails with `WouldBlock` if there was none.
    pub(crate) fn poll<T>(
        &self,
        context: &Context<'_>,
        now: u32,
        mut attempt: impl FnMut() -> Result<T, Errno>,
    ) -> Poll<io::Result<T>> {
        while self.ready.get() {
            match attempt() {
                Ok(done) => return Poll::Ready(Ok(done)),
                Err(Errno::INTR) => {}
                // The same number as EAGAIN.
                Err(Errno::WOULDBLOCK) => self.ready.set(false),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        self.since.set(self.since.get().or(Some(now)));
        if self.is_late(now) {
            self.since.set(None);
            // Something may have come that no look at the epoll has told of.
            return Poll::Ready(attempt().map_err(|error| match error {
                Errno::WOULDBLOCK | Errno::INTR => io::ErrorKind::TimedOut.into(),
                error => error.into(),
            }));
        }
        let waiting = match self.waiting.take() {
            Some(waiting) if waiting.will_wake(context.waker()) => waiting,
            _ => context.waker().clone(),
        };
        self.waiting.replace(Some(waiting));
        Poll::Pending
    }

    fn is_late(&self, now: u32) -> bool {
        // The tick in which the wait began counts for nothing.
        let waited = self.since.get().map_or(0, |since| now - since);
        waited > self.limit.get()
    }

    fn tell(&self) {
        self.ready.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }
}
