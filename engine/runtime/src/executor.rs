//! One replica on its executor: the loop that feeds the core and carries out what it wants.
//!
//! One task owns the core. A turn of it takes what has arrived (bounded by time), drains the outputs
//! after each step, and gives way: then the log starts its flush, every connection's writer sends what
//! was queued for it in one write, and readers decode what came.
//!
//! A turn reads the clock every few steps, and uses the reading for steps after it. That is safe for
//! lease reads: no other task runs during a turn, so every input of it had arrived before the reading,
//! and a read that is answered as of the reading is answered as of a moment after it was asked.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::future;
use glommio::timer::{Timer, sleep};
use glommio::{Task, spawn_local};
use quorate_config::ClusterConfig;
use quorate_protocol::client::{Reply, ReplyBody};
use quorate_protocol::config::ReplicaConfig;
use quorate_protocol::ids::{ConnectionId, ReplicaAddress, RequestId};
use quorate_protocol::input::Input;
use quorate_protocol::output::Output;
use quorate_protocol::replica::Replica;
use quorate_protocol::time::{Now, Timestamp};

use crate::acceptor::{Acceptor, Bell};
use crate::clock::Clock;
use crate::connections::Connections;
use crate::control::{Command, next_command};
use crate::core::{Core, Parked, Part, stop_reason};
use crate::directory::DataDirectory;
use crate::fatal::{Fatal, end_process};
use crate::inbox::{Inbox, Next};
use crate::limits::{REFUSAL_LOG_INTERVAL, SLICE, STEPS_PER_CLOCK_READING, STOP_TIMEOUT};
use crate::log::Log;
use crate::peers::Peers;
use crate::recover::open_log;
use crate::refusals::Refusals;
use crate::turn::give_way;
use crate::{listener, socket};

/// What an executor is given by the thread that starts it.
pub(crate) struct Setup {
    pub(crate) cluster: ClusterConfig,
    pub(crate) config: ReplicaConfig,
    /// Locked and identified, or why not.
    pub(crate) directory: Result<DataDirectory, Fatal>,
    pub(crate) entrances: Entrances,
    /// Told once, when the replica listens: whether it runs or is parked.
    pub(crate) report: mpsc::Sender<Result<(), Fatal>>,
    /// Dropped when the replica has ended.
    pub(crate) running: mpsc::Sender<Infallible>,
}

/// How the outside reaches an executor.
pub(crate) struct Entrances {
    /// New connections, and what tells of them.
    pub(crate) acceptor: Acceptor,
    pub(crate) bell: Bell,
    pub(crate) commands: UnixStream,
}

/// Runs one replica until it is told to stop.
pub(crate) async fn run(setup: Setup) {
    let address = setup.config.address;
    let inbox = Rc::new(Inbox::default());
    let mut clock = Clock::start();
    // The directory's lock is held until this function ends.
    let (directory, started) = match setup.directory {
        Ok(directory) => {
            let (cluster, config) = (&setup.cluster, setup.config);
            let started = start_core(cluster, config, &directory, &inbox, &mut clock).await;
            (Some(directory), started)
        }
        Err(fault) => (None, Err(fault)),
    };
    let (core, log, outcome) = match started {
        Ok((core, log)) => (core, Some(log), Ok(())),
        Err(fault) => {
            tracing::error!(replica = %address, "parked: {fault}");
            let parked = Parked::new(address, fault.to_string());
            (Core::Parked(parked), None, Err(fault))
        }
    };
    let shell = Shell::new(
        setup.cluster,
        address,
        (core, log),
        inbox,
        clock,
        setup.entrances,
    );
    if setup.report.send(outcome).is_err() {
        tracing::debug!(replica = %address, "nobody waits for the report");
    }
    shell.serve().await;
    drop(directory);
    drop(setup.running);
}

async fn start_core(
    cluster: &ClusterConfig,
    config: ReplicaConfig,
    directory: &DataDirectory,
    inbox: &Rc<Inbox>,
    clock: &mut Clock,
) -> Result<(Core, Log), Fatal> {
    let opened = open_log(directory, cluster, config.address).await?;
    let log = Log::start(opened.wal, opened.files, Rc::clone(inbox));
    let now = clock.now()?;
    let replica = Replica::new(config, opened.recovered, now);
    Ok((Core::Running(Box::new(replica)), log))
}

/// Carries commands out until `Stop`.
async fn obey(
    commands: UnixStream,
    isolated: Rc<Cell<bool>>,
    stopping: Rc<Cell<bool>>,
    inbox: Rc<Inbox>,
) {
    let mut commands = socket::on_executor(commands);
    loop {
        let command = next_command(&mut commands).await;
        tracing::info!(?command, "told");
        match command {
            Command::Isolate => isolated.set(true),
            Command::Heal => isolated.set(false),
            Command::Stop => {
                stopping.set(true);
                inbox.nudge();
                return;
            }
        }
    }
}

async fn log_refusals(replica: String, refusals: Rc<Refusals>) {
    loop {
        sleep(REFUSAL_LOG_INTERVAL).await;
        if let Some(counts) = refusals.changes() {
            tracing::warn!(replica, "refused so far: {counts}");
        }
    }
}

struct Shell {
    core: Core,
    /// As it was told last.
    part: Part,
    /// None if the replica could not start.
    log: Option<Log>,
    peers: Peers,
    connections: Rc<Connections>,
    inbox: Rc<Inbox>,
    clock: Clock,
    stopping: Rc<Cell<bool>>,
    /// Dropped, and so ended, with the shell: listener, commands, counters.
    tasks: [Task<()>; 3],
}

impl Shell {
    /// Opens the entrances: from now on the replica is reached.
    fn new(
        cluster: ClusterConfig,
        address: ReplicaAddress,
        (core, log): (Core, Option<Log>),
        inbox: Rc<Inbox>,
        clock: Clock,
        entrances: Entrances,
    ) -> Self {
        let refusals = Rc::new(Refusals::default());
        let isolated = Rc::new(Cell::new(false));
        let stopping = Rc::new(Cell::new(false));
        let cluster = Rc::new(cluster);
        let connections = Rc::new(Connections::new(
            Rc::clone(&cluster),
            address,
            Rc::clone(&inbox),
            Rc::clone(&refusals),
            Rc::clone(&isolated),
        ));
        let tasks = [
            spawn_local(listener::serve_accepted(
                entrances.acceptor,
                entrances.bell,
                Rc::clone(&connections),
            )),
            spawn_local(obey(
                entrances.commands,
                Rc::clone(&isolated),
                Rc::clone(&stopping),
                Rc::clone(&inbox),
            )),
            spawn_local(log_refusals(address.to_string(), Rc::clone(&refusals))),
        ];
        Self {
            part: core.part(),
            core,
            log,
            peers: Peers::new(cluster, address, refusals, isolated),
            connections,
            inbox,
            clock,
            stopping,
            tasks,
        }
    }

    async fn serve(mut self) {
        // A new replica has something to say before anything arrives.
        self.drain();
        while !self.stopping.get() {
            self.turn();
            self.tell_part();
            if self.inbox.is_empty() {
                self.wait().await;
            } else {
                give_way().await;
            }
        }
        self.stop().await;
    }

    /// Steps through what has arrived, for one slice of time at most.
    fn turn(&mut self) {
        let started = self.now();
        let mut now = started;
        let mut steps = 0_usize;
        loop {
            if self.core.deadline_ns() <= now.mono_ns {
                self.step(now, Input::Tick);
            }
            match self.inbox.pop() {
                Some(Next::Input(input)) => self.step(now, input),
                Some(Next::TooOld {
                    connection,
                    request,
                }) => busy(&self.connections, now, connection, request),
                None => return,
            }
            steps += 1;
            if steps.is_multiple_of(STEPS_PER_CLOCK_READING) {
                now = self.now();
                if Duration::from_nanos(now.mono_ns - started.mono_ns) >= SLICE {
                    return;
                }
            }
        }
    }

    /// Elections happen seldom, and are the first thing that is asked after a bad minute.
    fn tell_part(&mut self) {
        let part = self.core.part();
        if part != self.part {
            let Part {
                role,
                ballot,
                serves,
            } = part;
            let replica = self.connections.address;
            tracing::info!(%replica, role = role.name(), %ballot, serves, "part in the group");
            self.part = part;
        }
    }

    fn step(&mut self, now: Now, input: Input) {
        self.core.step(now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Persist { seq, record } => {
                    if let Some(log) = &self.log {
                        log.append(seq, record);
                    }
                }
                Output::Send { to, message } => self.peers.send(to, &message),
                Output::Reply { connection, reply } => self.connections.reply(connection, &reply),
                Output::ReadLog {
                    from,
                    upto,
                    bytes_max,
                } => {
                    if let Some(log) = &self.log {
                        log.read(from, upto, bytes_max);
                    }
                }
                Output::Checkpoint(_)
                | Output::ReleaseLog { .. }
                | Output::Load { .. }
                | Output::LoadChain { .. } => {
                    unreachable!("the configuration asks for no checkpoints")
                }
                // Whoever says that its log has begun to be released is mistaken.
                Output::FetchSnapshot { .. } => {}
                Output::Stop { reason } => {
                    let reason = stop_reason(&reason);
                    let address = self.connections.address;
                    tracing::error!(replica = %address, "stopped: {reason}");
                    self.core.park(address, reason);
                }
            }
        }
    }

    /// Until something arrives or the core's deadline comes.
    async fn wait(&mut self) {
        let now = self.now();
        let left_ns = self.core.deadline_ns().saturating_sub(now.mono_ns);
        let mut timer = pin!(Timer::new(Duration::from_nanos(
            left_ns.min(LONGEST_WAIT_NS)
        )));
        let inbox = &self.inbox;
        poll_fn(|context| match inbox.poll_filled(context) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => timer.as_mut().poll(context).map(|_| ()),
        })
        .await;
    }

    fn now(&mut self) -> Now {
        match self.clock.now() {
            Ok(now) => now,
            Err(fault) => end_process(&fault),
        }
    }

    /// Answers what is decided, ends the log, closes the ports. Bounded: a peer or a client that does
    /// not read must not keep the process.
    async fn stop(mut self) {
        drop(self.tasks);
        self.connections.stop_reading();
        let log = self.log.take();
        let ended = async {
            if let Some(log) = &log {
                log.flush().await;
            }
            true
        };
        let flushed = future::or(ended, timed_out()).await;
        // What became durable lets replies out; nothing is appended behind the end marker.
        let now = match self.clock.now() {
            Ok(now) => now,
            Err(fault) => end_process(&fault),
        };
        while let Some(next) = self.inbox.pop() {
            match next {
                Next::Input(input) => self.core.step(now, input),
                Next::TooOld {
                    connection,
                    request,
                } => busy(&self.connections, now, connection, request),
            }
            while let Some(output) = self.core.poll_output() {
                if let Output::Reply { connection, reply } = output {
                    self.connections.reply(connection, &reply);
                }
            }
        }
        let closing = async {
            if let Some(log) = &log {
                log.close().await;
                let counters = log.counters();
                tracing::info!(replica = %self.connections.address, ?counters, "log closed");
            }
            self.connections.drain().await;
            true
        };
        if !flushed || !future::or(closing, timed_out()).await {
            tracing::warn!(replica = %self.connections.address, "stopped without a clean end");
        }
        self.peers.close();
        if let Some(counts) = self.connections.refusals.changes() {
            tracing::warn!(replica = %self.connections.address, "refused so far: {counts}");
        }
    }
}

/// Timers take durations; "never" is a long one.
const LONGEST_WAIT_NS: u64 = 3_600 * quorate_protocol::time::SECOND;

async fn timed_out() -> bool {
    sleep(STOP_TIMEOUT).await;
    false
}

/// Nothing was done, and nothing will be, for this request.
fn busy(connections: &Connections, now: Now, connection: ConnectionId, id: RequestId) {
    let reply = Reply {
        id,
        clock: Timestamp(now.wall_ns),
        body: ReplyBody::Busy,
    };
    connections.reply(connection, &reply);
}
