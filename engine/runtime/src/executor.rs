//! One replica on its executor: the loop that feeds the core and carries out what it wants.
//!
//! One task owns the core. A turn of it takes what has arrived (bounded by time), drains the outputs
//! after each step, and gives way: then the log starts its flush, every connection's writer sends what
//! was queued for it in one write, and readers decode what came. Before the next turn, beside all that, a checkpoint
//! goes on for a share of the time that the last one took.
//!
//! A turn reads the clock every few steps, and uses the reading for steps after it. That is safe for
//! lease reads: no other task runs during a turn, so every input of it had arrived before the reading,
//! and a read that is answered as of the reading is answered as of a moment after it was asked.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::future;
use glommio::timer::{Timer, sleep};
use glommio::{Task, spawn_local};
use quorate_config::ClusterConfig;
use quorate_durable::question::Question;
use quorate_net::{Sockets, Stream, give_way};
use quorate_protocol::client::{Reply, ReplyBody};
use quorate_protocol::config::ReplicaConfig;
use quorate_protocol::ids::{ConnectionId, ReplicaAddress, RequestId};
use quorate_protocol::input::Input;
use quorate_protocol::message::PeerBody;
use quorate_protocol::output::Output;
use quorate_protocol::snapshot;
use quorate_protocol::time::{Now, Timestamp};

use crate::acceptor::Acceptor;
use crate::clock::Clock;
use crate::connections::Connections;
use crate::control::{Command, next_command};
use crate::core::{Core, Parked, Part, stop_reason};
use crate::directory::DataDirectory;
use crate::fatal::{Fatal, end_process};
use crate::inbox::{Inbox, Next};
use crate::limits::{REFUSAL_LOG_INTERVAL, SLICE, STEPS_PER_CLOCK_READING, STOP_TIMEOUT};
use crate::listener;
use crate::log::Log;
use crate::metrics::{Figures, PUBLISH_INTERVAL, Published};
use crate::pace::{Pace, Pacer};
use crate::pair_counter::{self, PairCounter};
use crate::peers::Peers;
use crate::precedence::Precedence;
use crate::rebuild::{Rebuild, Why};
use crate::refusals::Refusals;
use crate::room::Room;
use crate::setup::{Entrances, Setup, watch_over};
use crate::start::start_replica;
use crate::store::{Stepped, Store, between_shells};

/// Runs one replica until it is told to stop.
pub(crate) async fn run(setup: Setup) {
    let Setup {
        cluster,
        config,
        directory,
        entrances,
        counter,
        published,
        watch,
        report,
        running,
    } = setup;
    let Entrances {
        acceptor,
        bell,
        commands,
        answers,
        answered,
    } = entrances;
    let streams = Sockets::start().and_then(|(sockets, serving)| {
        let bell = Stream::new(&sockets, bell.0)?;
        let commands = Stream::new(&sockets, commands)?;
        let answered = Stream::new(&sockets, answered.0)?;
        Ok((sockets, serving, bell, commands, answered))
    });
    // Served to the very end: what is answered last has to go out.
    let (sockets, _serving, bell, commands, answered) = match streams {
        Ok(streams) => streams,
        Err(error) => {
            let problem = format!("replica {}: no sockets: {error}", config.address);
            let unheard = report.send(Err(Fatal::Resources { problem })).is_err();
            return tracing::debug!(unheard, "ends at once");
        }
    };
    let watching = watch.map(|watch| watch_over(watch, &sockets));
    let mut shell = Shell::new(cluster, config, counter, Clock::start(), sockets);
    shell.published = published;
    shell.tasks.extend(watching.flatten());
    // The directory's lock is held until this function ends.
    let outcome = match directory {
        Ok(directory) => {
            let room = Room::new(directory.path(), &shell.cluster, &shell.inbox);
            shell.room = Some(Rc::new(room));
            let started = shell.start(&directory).await;
            shell.directory = Some(directory);
            started
        }
        Err(fault) => Err(fault),
    };
    let outcome = outcome.or_else(|fault| shell.make_do(fault));
    shell.open(acceptor, bell, commands);
    let passing_on = pair_counter::pass_on(answers, answered, Rc::clone(&shell.connections));
    shell.tasks.push(spawn_local(passing_on));
    if report.send(outcome).is_err() {
        tracing::debug!(replica = %shell.address(), "nobody waits for the report");
    }
    shell.serve().await;
    drop(running);
}

/// Carries commands out until `Stop`.
async fn obey(
    commands: Stream,
    isolated: Rc<Cell<bool>>,
    stopping: Rc<Cell<bool>>,
    inbox: Rc<Inbox>,
) {
    loop {
        let command = next_command(&commands).await;
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

/// How it stands with the store's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worked {
    /// Nothing is left to do now.
    All,
    /// There may be more, at once.
    More,
    /// There may be more, when it has been earned.
    Paused,
}

struct Shell {
    config: ReplicaConfig,
    cluster: Rc<ClusterConfig>,
    /// None if it cannot be used.
    directory: Option<DataDirectory>,
    /// There if the directory is.
    room: Option<Rc<Room>>,
    core: Core,
    /// As it was told last.
    part: Part,
    /// None while no core runs, as is the store.
    log: Option<Log>,
    store: Option<Store>,
    /// The core has ended: it needs a checkpoint of its group.
    rebuild: Option<Why>,
    /// The turn gave the store a part.
    gave_part: bool,
    /// The turn had outputs: a flush, a message, an answer.
    has_begun: bool,
    precedence: Precedence,
    pacer: Pacer,
    counter: PairCounter,
    published: Arc<Published>,
    /// Monotonic time of what was published last.
    published_ns: u64,
    peers: Rc<Peers>,
    connections: Rc<Connections>,
    inbox: Rc<Inbox>,
    clock: Clock,
    stopping: Rc<Cell<bool>>,
    /// Dropped, and so ended, with the shell: listener, commands, answers, counters.
    tasks: Vec<Task<()>>,
}

impl Shell {
    /// Nothing runs yet.
    fn new(
        cluster: ClusterConfig,
        config: ReplicaConfig,
        counter: PairCounter,
        clock: Clock,
        sockets: Rc<Sockets>,
    ) -> Self {
        let address = config.address;
        let cluster = Rc::new(cluster);
        let inbox = Rc::new(Inbox::default());
        let refusals = Rc::new(Refusals::default());
        let isolated = Rc::new(Cell::new(false));
        let peers = Rc::new(Peers::new(
            Rc::clone(&cluster),
            address,
            Rc::clone(&refusals),
            Rc::clone(&isolated),
            Rc::clone(&sockets),
        ));
        let core = Core::Parked(Parked::new(address, "starts".to_owned()));
        Self {
            part: core.part(),
            core,
            directory: None,
            room: None,
            log: None,
            store: None,
            rebuild: None,
            gave_part: false,
            has_begun: false,
            precedence: Precedence::default(),
            pacer: Pacer::default(),
            counter,
            published: Arc::new(Published::new(address)),
            published_ns: 0,
            connections: Rc::new(Connections::new(
                Rc::clone(&cluster),
                address,
                Rc::clone(&inbox),
                refusals,
                isolated,
                sockets,
                Rc::clone(&peers),
            )),
            peers,
            config,
            cluster,
            inbox,
            clock,
            stopping: Rc::new(Cell::new(false)),
            tasks: Vec::new(),
        }
    }

    fn address(&self) -> ReplicaAddress {
        self.config.address
    }

    /// Recovers the replica; it runs from now on.
    async fn start(&mut self, directory: &DataDirectory) -> Result<(), Fatal> {
        let room = self.room.as_ref().expect("the directory has one");
        let started = start_replica(
            &self.cluster,
            self.config.clone(),
            directory,
            (&self.inbox, &self.peers, room),
            &mut self.clock,
        )
        .await?;
        self.core = Core::Running(started.replica);
        (self.log, self.store) = (Some(started.log), Some(started.store));
        // No two cores of one process draw the same election timeouts.
        self.config.seed = self.config.seed.wrapping_add(1);
        Ok(())
    }

    /// Opens the entrances: from now on the replica is reached.
    fn open(&mut self, acceptor: Acceptor, bell: Stream, commands: Stream) {
        self.part = self.core.part();
        let (stopping, inbox) = (Rc::clone(&self.stopping), Rc::clone(&self.inbox));
        let isolated = Rc::clone(&self.connections.isolated);
        let refusals = Rc::clone(&self.connections.refusals);
        self.tasks.extend([
            spawn_local(listener::serve_accepted(
                acceptor,
                bell,
                Rc::clone(&self.connections),
            )),
            spawn_local(obey(commands, isolated, stopping, inbox)),
            spawn_local(log_refusals(self.address().to_string(), refusals)),
        ]);
        if let Some(room) = self.room.clone() {
            self.tasks
                .push(spawn_local(async move { room.watch_for_ever().await }));
        }
    }

    async fn serve(mut self) {
        // A new replica has something to say before anything arrives.
        self.drain();
        let mut inputs = Duration::ZERO;
        let mut last = self.now();
        while !self.stopping.get() {
            let now = self.now();
            let progress = self.core.checkpoint_progress();
            let written = self.store.as_ref().map_or(0, |it| it.counters().file_bytes);
            let pace = (self.pacer).after(inputs, elapsed(last, now), progress, written);
            last = now;
            let store = self.work_on_store(now, pace);
            let started = self.now();
            self.gave_part = false;
            self.turn(started);
            inputs = elapsed(started, self.now());
            if let Some(problem) = self.store.as_ref().and_then(Store::damage) {
                self.repair_or_park(&problem);
            }
            self.tell_part();
            self.publish_if_due(last);
            if let Some(why) = self.rebuild.take() {
                self.rebuild(why).await;
            } else if self.inbox.is_empty() && store != Worked::More && !self.gave_part {
                let mut deadline_ns = self.core.deadline_ns();
                if store == Worked::Paused {
                    deadline_ns = deadline_ns.min(now.mono_ns + nanoseconds(self.pacer.pause()));
                }
                self.wait_until(deadline_ns).await;
            } else {
                give_way().await;
            }
        }
        self.stop().await;
    }

    /// What to do about a replica that did not start: one with a damaged store gets another from its group.
    fn make_do(&mut self, fault: Fatal) -> Result<(), Fatal> {
        if let Fatal::StoreCorrupt { .. } = fault {
            self.repair_or_park(&fault.to_string());
            if self.rebuild.is_some() {
                return Ok(());
            }
        } else {
            self.park(&fault.to_string());
        }
        Err(fault)
    }

    /// The store is not what was written. The log is, and so is what this replica has promised.
    fn repair_or_park(&mut self, problem: &str) {
        match self.config.peers().next() {
            Some(from) => {
                tracing::error!(replica = %self.address(), "the store is damaged: {problem}");
                self.rebuild = Some(Why::Damaged { from });
            }
            None => self.park(problem),
        }
    }

    /// Puts the replica out of service until the process is started again.
    fn park(&mut self, reason: &str) {
        let address = self.address();
        tracing::error!(replica = %address, "parked: {reason}");
        self.core = Core::Parked(Parked::new(address, reason.to_owned()));
        // A checkpoint that was cut off says nothing of the next one.
        self.pacer = Pacer::default();
    }

    /// Takes a checkpoint of the group, then starts anew.
    async fn rebuild(&mut self, why: Why) {
        let address = self.address();
        tracing::warn!(replica = %address, ?why, "takes a checkpoint of its group");
        self.core = Core::Parked(Parked::rebuilding(address));
        self.pacer = Pacer::default();
        self.tell_part();
        let now = self.now();
        self.publish(now);
        if let Some(log) = self.log.take() {
            log.quiesce().await;
        }
        if let Some(store) = self.store.take() {
            store.quiesce().await;
        }
        // What they still said was for the core that has ended.
        self.inbox.clear_own();
        let directory = self.directory.take().expect("a replica ran on it");
        let fetched = self.fetch(&directory, why).await;
        let started = match fetched {
            Ok(true) => self.start(&directory).await.map_err(|it| it.to_string()),
            Ok(false) => Ok(()),
            Err(problem) => Err(problem),
        };
        self.directory = Some(directory);
        match started {
            Ok(()) => self.drain(),
            Err(problem) => self.park(&problem),
        }
    }

    /// True once the store holds a newer checkpoint; false if the process is to stop first.
    async fn fetch(&mut self, directory: &DataDirectory, why: Why) -> Result<bool, String> {
        let address = self.address();
        let configs = (&*self.cluster, &self.config);
        let room = self.room.as_ref().expect("the directory has one");
        let mut rebuild = Rebuild::begin(directory, configs, why, (&self.inbox, room))
            .map_err(|fault| fault.to_string())?;
        let started = Instant::now();
        while !self.stopping.get() {
            let now = self.now();
            for _ in 0..INPUTS_PER_FETCH_TURN {
                let Some(next) = self.inbox.pop() else { break };
                match next {
                    Next::Input(Input::Peer { from, message }) => {
                        if let PeerBody::Snapshot(message) = &message.body
                            && from.shard == address.shard
                        {
                            let taken = rebuild.on_message(now.mono_ns, from.replica, message);
                            taken.map_err(|error| error.to_string())?;
                        }
                    }
                    Next::Input(input) => self.step(now, input),
                    Next::TooOld {
                        connection,
                        request,
                    } => busy(&self.connections, now, connection, request),
                }
            }
            while let Some((replica, message)) = rebuild.go_on(now.mono_ns) {
                let to = ReplicaAddress { replica, ..address };
                self.peers.send(to, &between_shells(message));
            }
            if rebuild.is_done() {
                let progress = rebuild.progress();
                let milliseconds = started.elapsed().as_millis();
                tracing::info!(replica = %address, milliseconds, ?progress, "checkpoint taken");
                return Ok(true);
            }
            self.publish_if_due(now);
            if self.inbox.is_empty() {
                self.wait_until(rebuild.deadline_ns()).await;
            } else {
                give_way().await;
            }
        }
        Ok(false)
    }

    /// Steps through what has arrived, for one slice of time at most, then applies an entry if one was put off.
    fn turn(&mut self, started: Now) {
        self.has_begun = false;
        let now = self.take_inputs(started);
        let is_put_off = self.core.is_apply_put_off();
        if self.precedence.applies_now(is_put_off, self.has_begun) {
            self.step(now, Input::Tick);
        }
    }

    fn take_inputs(&mut self, started: Now) -> Now {
        let mut now = started;
        let mut steps = 0_usize;
        loop {
            if self.core.deadline_ns() <= now.mono_ns && !self.core.is_apply_put_off() {
                self.step(now, Input::Tick);
            }
            match self.inbox.pop() {
                Some(Next::Input(input)) => self.step(now, input),
                Some(Next::TooOld {
                    connection,
                    request,
                }) => busy(&self.connections, now, connection, request),
                None => return now,
            }
            steps += 1;
            if steps.is_multiple_of(STEPS_PER_CLOCK_READING) {
                now = self.now();
                if elapsed(started, now) >= SLICE {
                    return now;
                }
            }
        }
    }

    /// Goes on with a checkpoint at this pace.
    fn work_on_store(&mut self, started: Now, pace: Pace) -> Worked {
        if let Some(store) = &self.store {
            store.set_bytes(pace.bytes);
        }
        let Some(work) = pace.work else {
            return Worked::Paused;
        };
        let (mut now, mut told) = (started, Duration::ZERO);
        let worked = loop {
            // One that is put out of service goes no further, or a damaged block would be read again for ever.
            let (Some(store), Core::Running(_)) = (&self.store, &self.core) else {
                break Worked::All;
            };
            match store.step() {
                Stepped::Told(input) => {
                    // What the core does about it, such as to apply what had to wait, is no work of the store's.
                    let before = self.now();
                    self.step(before, input);
                    told += elapsed(before, self.now());
                }
                Stepped::Worked => {}
                Stepped::Waits => break Worked::All,
            }
            now = self.now();
            if elapsed(started, now) >= work {
                break Worked::More;
            }
        };
        let spent = elapsed(started, now).saturating_sub(told);
        self.pacer.worked(spent);
        worked
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
            self.published_ns = 0;
        }
    }

    fn publish_if_due(&mut self, now: Now) {
        if now.mono_ns.saturating_sub(self.published_ns) >= nanoseconds(PUBLISH_INTERVAL) {
            self.publish(now);
        }
    }

    fn publish(&mut self, now: Now) {
        self.published_ns = now.mono_ns;
        let log = self.log.as_ref().map(Log::counters);
        let store = self.store.as_ref().map(Store::counters);
        self.published.tell(Figures {
            at_ns: now.mono_ns,
            status: self.core.status(),
            is_isolated: self.connections.isolated.get(),
            is_disk_full: self.room.as_ref().is_some_and(|room| room.is_full()),
            census: self.connections.census(),
            refused: self.connections.refusals.counts(),
            relayed: self.peers.relayed(),
            log: log.unwrap_or_default(),
            store: store.unwrap_or_default(),
        });
    }

    fn step(&mut self, now: Now, input: Input) {
        if let Input::Peer { from, message } = &input
            && let PeerBody::Snapshot(message) = &message.body
        {
            self.serve_snapshot(*from, message);
            return;
        }
        self.core.step(now, input);
        self.drain();
    }

    /// Between shells: no core knows of it. Only replicas of the group have a use for it.
    fn serve_snapshot(&self, from: ReplicaAddress, message: &snapshot::Message) {
        let Some(store) = &self.store else { return };
        if from.shard != self.address().shard {
            return;
        }
        match message {
            snapshot::Message::Ask { part, offset } => store.serve(from, *part, *offset),
            snapshot::Message::Chunk { .. } | snapshot::Message::Gone { .. } => {
                store.take_answer(from, message);
            }
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.core.poll_output() {
            self.has_begun |= !matches!(output, Output::Count(_));
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
                Output::Checkpoint(part) => {
                    self.gave_part = true;
                    if let Some(store) = &self.store {
                        store.take(part);
                    }
                }
                Output::ReleaseLog { below } => {
                    if let Some(log) = &self.log {
                        log.release_below(below);
                    }
                }
                Output::Load {
                    question,
                    names,
                    accounts,
                } => {
                    if let Some(store) = &self.store {
                        store.ask(Question::new(question, names, accounts));
                    }
                }
                Output::LoadChain { question, chain } => {
                    if let Some(store) = &self.store {
                        store.ask(Question::chain(question, chain));
                    }
                }
                Output::List { after, limit } => {
                    if let Some(store) = &self.store {
                        store.list(after, limit);
                    }
                }
                Output::FetchSnapshot { from } => {
                    let from = from.replica;
                    self.rebuild = Some(Why::Behind { from });
                }
                Output::Count(counting) => {
                    if let Some((connection, refused)) = self.counter.give(counting) {
                        self.connections.reply(connection, &refused);
                    }
                }
                Output::Rejoined => self.note_rejoined(),
                Output::Stop { reason } => self.park(&stop_reason(&reason)),
            }
        }
    }

    /// Once in the life of a disk. Until the mark is gone, a start is that of a non-voter, which is only
    /// slower.
    fn note_rejoined(&self) {
        let directory = self.directory.as_ref().expect("a core runs on it");
        if let Err(fault) = directory.note_rejoined() {
            end_process(&fault);
        }
        tracing::info!(replica = %self.address(), "votes again");
    }

    /// Until something arrives or the deadline comes.
    async fn wait_until(&mut self, deadline_ns: u64) {
        let now = self.now();
        let left_ns = deadline_ns.saturating_sub(now.mono_ns);
        if left_ns == 0 {
            // A timer that is due would keep the other tasks and the sockets waiting.
            return give_way().await;
        }
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
        let (log, store) = (self.log.take(), self.store.take());
        let ended = async {
            if let Some(store) = &store {
                store.quiesce().await;
                let counters = store.counters();
                tracing::info!(replica = %self.connections.address, ?counters, "store closed");
            }
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
                let reply = match output {
                    Output::Reply { connection, reply } => Some((connection, reply)),
                    // Nobody passes on any more what the counter would answer.
                    Output::Count(counting) => counting.lose().1,
                    _ => None,
                };
                if let Some((connection, reply)) = reply {
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

/// What has arrived is looked at in pieces while a checkpoint is taken.
const INPUTS_PER_FETCH_TURN: usize = 256;
/// Of a replica that has nothing to do: its figures are published all the same.
const LONGEST_WAIT_NS: u64 = quorate_protocol::time::SECOND;

fn elapsed(from: Now, upto: Now) -> Duration {
    Duration::from_nanos(upto.mono_ns - from.mono_ns)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

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
