//! The world: nodes, clients and the network between them, driven by one queue of events.
//!
//! ```text
//! faults: clients work, things break  ->  heal  ->  every request answered  ->  every replica equal
//!   ->  audit of accounts and records  ->  checkers
//! ```
//!
//! Each arrow has a bound of simulated time: after healing, anything that does not finish is a
//! violation. The run ends at the first violation.

use std::collections::BTreeMap;

use quorate_protocol::client::{Reply, ReplyBody, Request};
use quorate_protocol::ids::{Ballot, ClusterId, ConnectionId, ReplicaAddress, ShardId};
use quorate_protocol::input::Input;
use quorate_protocol::output::StopReason;
use quorate_protocol::time::{MS, Now, Timestamp};

use crate::checkers::agreement::Agreement;
use crate::checkers::{FinalState, Violation};
use crate::client::{Client, ClientEffect};
use crate::clock::SimClock;
use crate::codec::Codec;
use crate::counters::Counters;
use crate::exit::Exit;
use crate::history::History;
use crate::job::Want;
use crate::network::{Host, SimNetwork};
use crate::node::{Aim, Node};
use crate::operator::MoveTool;
use crate::parameters::Parameters;
use crate::phases::Phase;
use crate::process::{Effect, Process};
use crate::queue::Queue;
use crate::random::{Concern, Stream};
use crate::trace::Trace;
use crate::workload::Workload;
use crate::{disk_faults, faults, rare, setup};

/// The cluster of every run.
pub const CLUSTER: ClusterId = ClusterId(0x0051_5541_4c49_5459);

/// What happens at a moment.
#[derive(Debug)]
pub enum Event {
    /// Bytes from a replica reach a process.
    Peer {
        process: usize,
        from: ReplicaAddress,
        bytes: Vec<u8>,
        corrupted: bool,
    },
    /// Bytes from a client reach a process.
    Request {
        process: usize,
        connection: ConnectionId,
        bytes: Vec<u8>,
        corrupted: bool,
    },
    /// A client's end of a connection is closed.
    Close {
        process: usize,
        connection: ConnectionId,
    },
    /// Bytes from a process reach a client.
    Reply {
        client: usize,
        bytes: Vec<u8>,
        corrupted: bool,
    },
    /// A client learns that a connection is dead.
    Reset {
        client: usize,
        target: ReplicaAddress,
        connection: ConnectionId,
    },
    /// A life of a process goes on.
    Own {
        process: usize,
        life: u64,
        what: OwnEvent,
    },
    /// A client looks at its requests.
    Wake {
        client: usize,
        at_ns: u64,
    },
    /// A client thinks of something new.
    Think {
        client: usize,
    },
    Fault(faults::Fault),
    /// A machine starts.
    Start {
        node: usize,
    },
    Resume {
        node: usize,
        life: u64,
    },
    /// Somebody looks after a node on which a replica could not be started.
    Service {
        node: usize,
        life: u64,
    },
    /// A full disk has room again.
    Room {
        process: usize,
    },
    /// The links that the numbered partition cut are mended.
    Mend {
        number: u64,
    },
    /// The phases of the run are looked after.
    Watch,
}

/// What a process has to wait for.
#[derive(Debug)]
pub enum OwnEvent {
    Tick { at_ns: u64 },
    Flushed,
    Renamed,
    Operated,
    LogRead { answer: Input },
}

/// A client with its machine.
#[derive(Debug)]
pub(crate) struct Actor {
    pub(crate) client: Client,
    pub(crate) clock: SimClock,
    pub(crate) stream: Stream,
    /// The earliest wake-up that is planned.
    pub(crate) wake_ns: Option<u64>,
}

/// One run.
#[derive(Debug)]
pub struct World {
    pub(crate) parameters: Parameters,
    pub(crate) queue: Queue<Event>,
    pub(crate) network: SimNetwork,
    pub(crate) nodes: Vec<Node<Event>>,
    pub(crate) processes: Vec<Process>,
    node_of: Vec<usize>,
    ticks: Vec<Option<u64>>,
    /// Clients with a workload, then the operator.
    pub(crate) actors: Vec<Actor>,
    connections: BTreeMap<ConnectionId, (usize, u64)>,
    pub(crate) tool: MoveTool,
    pub(crate) workload: Workload,
    pub(crate) history: History,
    pub(crate) agreement: Agreement,
    pub(crate) violations: Vec<Violation>,
    pub(crate) faults: Counters,
    pub(crate) rare: Counters,
    pub(crate) crash_stream: Stream,
    /// By the number of the kind of fault.
    pub(crate) fault_streams: Vec<Stream>,
    disk_stream: Stream,
    process_stream: Stream,
    pub(crate) partition_number: u64,
    /// Faults are over.
    pub(crate) healed: bool,
    pub(crate) phase: Phase,
    /// What the audit found.
    pub(crate) final_state: FinalState,
    leaders: BTreeMap<ShardId, ReplicaAddress>,
    codec: Codec,
    pub(crate) trace: Trace,
    pub(crate) events: u64,
}

impl World {
    /// A formatted cluster, everything down, everything planned.
    #[must_use]
    pub fn new(parameters: Parameters, trace: Trace) -> Self {
        let seed = parameters.seed;
        let stream = |concern, member| Stream::new(seed, concern, member);
        let mut clock_stream = stream(Concern::Clock, 0);
        let (processes, node_of) = setup::format_processes(&parameters);
        let nodes = setup::make_nodes(&parameters, &node_of, &mut clock_stream);
        let workload = Workload::new(&parameters, &mut stream(Concern::Workload, 0));
        let actors = setup::make_actors(&parameters, &mut clock_stream);
        let mut fault_counts = Counters::with_names(&crate::network::FAULT_NAMES);
        fault_counts.merge(&Counters::with_names(&crate::client::FAULT_NAMES));
        fault_counts.merge(&Counters::with_names(&crate::disk::FAULT_NAMES));
        fault_counts.merge(&Counters::with_names(&faults::FAULT_NAMES));
        if parameters.clock_drift_ppm > 0 {
            fault_counts.add("clock_drift");
        }
        let mut world = Self {
            queue: Queue::default(),
            network: SimNetwork::new(parameters.network.clone(), stream(Concern::Network, 0)),
            ticks: vec![None; processes.len()],
            nodes,
            processes,
            node_of,
            actors,
            connections: BTreeMap::new(),
            tool: MoveTool::default(),
            workload,
            history: History::default(),
            agreement: Agreement::default(),
            violations: Vec::new(),
            faults: fault_counts,
            rare: rare::counters(),
            crash_stream: stream(Concern::Crash, 0),
            fault_streams: faults::streams(seed),
            disk_stream: stream(Concern::Disk, 1 << 32),
            process_stream: stream(Concern::Process, 0),
            partition_number: 0,
            healed: false,
            phase: Phase::Faults,
            final_state: FinalState::default(),
            leaders: BTreeMap::new(),
            codec: Codec::new(CLUSTER),
            trace,
            events: 0,
            parameters,
        };
        world.plan_start();
        world
    }

    fn plan_start(&mut self) {
        for node in 0..self.nodes.len() {
            let at_ns = self.crash_stream.below(50 * MS);
            self.queue.push(at_ns, Event::Start { node });
        }
        for client in 0..self.actors.len() {
            self.queue.push(MS, Event::Think { client });
        }
        faults::plan_all(self);
        self.queue.push(0, Event::Watch);
    }

    /// Lets the next event happen. False if there is none, which never is: clocks tick.
    pub(crate) fn advance(&mut self) -> bool {
        let Some(event) = self.queue.pop() else {
            return false;
        };
        self.events += 1;
        if let Some(event) = self.pass(event) {
            self.happen(event);
        }
        true
    }

    /// Keeps what happens to a paused machine for later, and lets machines die whose time has come.
    fn pass(&mut self, event: Event) -> Option<Event> {
        let process = match &event {
            Event::Peer { process, .. }
            | Event::Request { process, .. }
            | Event::Close { process, .. }
            | Event::Own { process, .. } => *process,
            Event::Reply { .. }
            | Event::Reset { .. }
            | Event::Wake { .. }
            | Event::Think { .. }
            | Event::Fault(_)
            | Event::Start { .. }
            | Event::Resume { .. }
            | Event::Mend { .. }
            | Event::Service { .. }
            | Event::Room { .. }
            | Event::Watch => return Some(event),
        };
        faults::burn_fuse(self, self.node_of[process]);
        let node = &mut self.nodes[self.node_of[process]];
        if node.up && node.paused {
            node.backlog.push(event);
            return None;
        }
        Some(event)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Peer {
                process,
                from,
                bytes,
                corrupted,
            } => self.peer_bytes(process, from, &bytes, corrupted),
            Event::Request {
                process,
                connection,
                bytes,
                corrupted,
            } => self.request_bytes(process, connection, &bytes, corrupted),
            Event::Close {
                process,
                connection,
            } => self.close(process, connection),
            Event::Reply {
                client,
                bytes,
                corrupted,
            } => self.reply_bytes(client, &bytes, corrupted),
            Event::Reset {
                client,
                target,
                connection,
            } => {
                self.actors[client].client.reset(target, connection);
                self.wake(client);
            }
            Event::Own {
                process,
                life,
                what,
            } => self.own(process, life, what),
            Event::Wake { client, at_ns } => {
                if self.actors[client].wake_ns == Some(at_ns) {
                    self.actors[client].wake_ns = None;
                    self.wake(client);
                }
            }
            Event::Think { client } => crate::phases::think(self, client),
            Event::Fault(fault) => faults::strike(self, fault),
            Event::Start { node } => self.start(node),
            Event::Resume { node, life } => self.resume(node, life),
            Event::Service { node, life } => faults::service(self, node, life),
            Event::Room { process } => disk_faults::make_room(self, process),
            Event::Mend { number } => {
                if number == self.partition_number {
                    self.network.mend();
                }
            }
            Event::Watch => crate::phases::watch(self),
        }
    }

    /// True time.
    pub(crate) fn now_ns(&self) -> u64 {
        self.queue.now_ns()
    }

    pub(crate) fn violate(&mut self, checker: &'static str, text: String) {
        let at_ns = self.now_ns();
        self.trace
            .line(at_ns, || format!("VIOLATION {checker}: {text}"));
        self.violations.push(Violation { checker, text });
    }

    /// Nodes of the replicas that became leaders last, one per shard.
    pub(crate) fn leader_nodes(&self) -> Vec<usize> {
        let leaders = self.leaders.values();
        leaders
            .map(|leader| self.node_of[self.process_of(*leader)])
            .collect()
    }

    /// The replicas that became leaders last, one per shard.
    pub(crate) fn leader_processes(&self) -> Vec<usize> {
        let leaders = self.leaders.values();
        leaders.map(|leader| self.process_of(*leader)).collect()
    }

    /// The node of a process.
    pub(crate) fn node_of(&self, process: usize) -> usize {
        self.node_of[process]
    }

    /// The nodes that vote together, per shard.
    pub(crate) fn groups(&self) -> Vec<Vec<usize>> {
        let groups = self.node_of.chunks(usize::from(self.parameters.replicas));
        groups.map(<[usize]>::to_vec).collect()
    }

    /// The stream of a kind of fault.
    pub(crate) fn fault_stream(&mut self, fault: faults::Fault) -> &mut Stream {
        &mut self.fault_streams[fault as usize]
    }

    /// Whether the moment that a crash waits for is now.
    pub(crate) fn is_met(&self, node: usize, aim: Aim) -> bool {
        self.nodes[node].processes.iter().any(|&number| {
            let process = &self.processes[number];
            match aim {
                Aim::Events(_) | Aim::AfterSend => false,
                Aim::InFlush => process.is_flushing(),
                Aim::UnsyncedName => process.is_renamed_unsynced(),
                Aim::InDoubt => process.status().is_some_and(|s| s.in_doubt > 0),
                Aim::InMove => self.is_moving(process.address()),
            }
        })
    }

    /// Whether a replica leads a shard that takes part in a move under way.
    fn is_moving(&self, address: ReplicaAddress) -> bool {
        let jobs = self.actors[self.parameters.clients].client.jobs();
        self.leaders.get(&address.shard) == Some(&address)
            && jobs
                .filter_map(|job| match job.want {
                    Want::Move(number) => Some(&self.history.moves[number]),
                    _ => None,
                })
                .any(|one| {
                    let takes_part = [one.source, one.target].contains(&address.shard);
                    takes_part && one.started_ns.is_some()
                })
    }

    /// The replica that became leader of a shard last.
    pub(crate) fn leader_of(&self, shard: ShardId) -> Option<ReplicaAddress> {
        self.leaders.get(&shard).copied()
    }

    /// The node that hosts a replica.
    pub(crate) fn host_of(&self, address: ReplicaAddress) -> usize {
        self.node_of[self.process_of(address)]
    }

    /// The process of a replica.
    fn process_of(&self, address: ReplicaAddress) -> usize {
        setup::process_index(&self.parameters, address)
    }

    fn life_of(&self, process: usize) -> u64 {
        self.nodes[self.node_of[process]].life
    }

    fn is_up(&self, process: usize) -> bool {
        self.nodes[self.node_of[process]].up && self.processes[process].is_running()
    }

    fn clocks(&self, process: usize) -> Now {
        self.nodes[self.node_of[process]].clock.now(self.now_ns())
    }

    fn client_host(&self, client: usize) -> Host {
        Host(self.nodes.len() + client)
    }

    fn peer_bytes(&mut self, process: usize, from: ReplicaAddress, bytes: &[u8], corrupted: bool) {
        if !self.is_up(process) {
            return;
        }
        match self.codec.peer(bytes) {
            Ok(message) if !corrupted => {
                let at_ns = self.now_ns();
                let to = self.processes[process].address();
                self.trace
                    .line(at_ns, || format!("{from} -> {to} {message:?}"));
                self.trace_bytes(1, process, bytes);
                rare::messages::of_message(&mut self.rare, &message);
                faults::meet_rival(self, from, &message);
                self.step(process, Input::Peer { from, message });
            }
            decoded => self.refused(decoded.is_ok(), corrupted, bytes),
        }
    }

    fn request_bytes(
        &mut self,
        process: usize,
        connection: ConnectionId,
        bytes: &[u8],
        corrupted: bool,
    ) {
        if self.nodes[self.node_of[process]].up && self.processes[process].is_parked() {
            return self.send_away(process, connection, bytes);
        }
        if !self.is_up(process) {
            return;
        }
        let life = self.life_of(process);
        if *self
            .connections
            .entry(connection)
            .or_insert((process, life))
            != (process, life)
        {
            // The connection belonged to an earlier life, or has been closed.
            self.rare.add("request_on_dead_connection");
            let event = Event::Reset {
                client: client_of(connection),
                target: self.processes[process].address(),
                connection,
            };
            let at_ns = self.now_ns() + MS;
            self.queue.push(at_ns, event);
            return;
        }
        match self.codec.request(bytes) {
            Ok(request) if !corrupted => {
                let at_ns = self.now_ns();
                let to = self.processes[process].address();
                self.trace
                    .line(at_ns, || format!("{connection:?} -> {to} {request:?}"));
                self.trace_bytes(2, process, bytes);
                let input = Input::Client {
                    connection,
                    request,
                };
                self.step(process, input);
            }
            decoded => self.refused(decoded.is_ok(), corrupted, bytes),
        }
    }

    /// A replica that is out of service does not lead, as the runtime answers for it.
    fn send_away(&mut self, process: usize, connection: ConnectionId, bytes: &[u8]) {
        let Ok(request) = self.codec.request(bytes) else {
            return;
        };
        let reply = Reply {
            id: request.id,
            clock: Timestamp::ZERO,
            body: ReplyBody::NotLeader {
                ballot: Ballot::ZERO,
                leader: None,
            },
        };
        let bytes = self.codec.encode_reply(&reply);
        self.send_reply(process, connection, bytes);
    }

    fn reply_bytes(&mut self, client: usize, bytes: &[u8], corrupted: bool) {
        match self.codec.reply(bytes) {
            Ok(reply) if !corrupted => {
                let at_ns = self.now_ns();
                self.trace
                    .line(at_ns, || format!("-> client {client} {reply:?}"));
                self.trace_bytes(3, client, bytes);
                rare::of_reply(&mut self.rare, &reply);
                let actor = &mut self.actors[client];
                actor.client.receive(at_ns, reply, &mut self.history);
                self.wake(client);
            }
            decoded => self.refused(decoded.is_ok(), corrupted, bytes),
        }
    }

    /// Bytes that were altered on the way must not decode; bytes that were not must.
    fn refused(&mut self, decoded: bool, corrupted: bool, bytes: &[u8]) {
        if decoded {
            let length = bytes.len();
            self.violate(
                "wire",
                format!("a corrupted frame of {length} bytes was taken"),
            );
        } else if !corrupted {
            let length = bytes.len();
            self.violate(
                "wire",
                format!("a whole frame of {length} bytes was refused"),
            );
        } else {
            self.faults.add("corruption_caught");
        }
    }

    fn close(&mut self, process: usize, connection: ConnectionId) {
        let known = self.connections.insert(connection, (usize::MAX, 0));
        if known == Some((process, self.life_of(process))) && self.is_up(process) {
            self.step(process, Input::Disconnected { connection });
        }
    }

    fn own(&mut self, process: usize, life: u64, what: OwnEvent) {
        if life != self.life_of(process) || !self.is_up(process) {
            return;
        }
        let now = self.clocks(process);
        match what {
            OwnEvent::Tick { at_ns } => {
                if self.ticks[process] == Some(at_ns) {
                    self.ticks[process] = None;
                    self.step(process, Input::Tick);
                }
            }
            OwnEvent::Flushed => {
                let effects = self.processes[process].flush_done(now);
                self.carry_out_or_exit(process, effects);
            }
            OwnEvent::Renamed => {
                let renamed = self.processes[process].operation_renamed();
                self.carry_out_or_exit(process, renamed.map(|()| Vec::new()));
            }
            OwnEvent::Operated => {
                let effects = self.processes[process].operation_done();
                self.carry_out_or_exit(process, effects);
            }
            OwnEvent::LogRead { answer } => {
                let effects = self.processes[process].read_done(now, answer);
                self.carry_out_or_exit(process, effects);
            }
        }
    }

    fn carry_out_or_exit(&mut self, process: usize, effects: Result<Vec<Effect>, Exit>) {
        match effects {
            Ok(effects) => self.carry_out(process, effects),
            Err(exit) => faults::exit(self, process, exit),
        }
    }

    fn step(&mut self, process: usize, input: Input) {
        let now = self.clocks(process);
        let effects = self.processes[process].step(now, input);
        self.carry_out(process, effects);
    }

    fn carry_out(&mut self, process: usize, effects: Vec<Effect>) {
        let from = self.processes[process].address();
        let mut sent = false;
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    sent = true;
                    let bytes = self.codec.encode_peer(&message);
                    self.send_peer(process, to, bytes);
                }
                Effect::Reply { connection, reply } => {
                    let bytes = self.codec.encode_reply(&reply);
                    self.send_reply(process, connection, bytes);
                }
                Effect::FlushStarted { bytes } => {
                    let delay_ns = self.flush_ns(process, bytes);
                    self.plan_own(process, delay_ns, OwnEvent::Flushed);
                }
                Effect::OperationStarted => {
                    self.rare.add("segment_made");
                    let first_ns = self.flush_ns(process, 1 << 16);
                    // A sync of a directory takes a journal transaction: longer than one of data.
                    let second_ns = first_ns + 10 * self.flush_ns(process, 0);
                    self.plan_own(process, first_ns, OwnEvent::Renamed);
                    self.plan_own(process, second_ns, OwnEvent::Operated);
                }
                Effect::SteppedDown => self.rare.add("leader_stepped_down_unchallenged"),
                Effect::ReadStarted { answer } => {
                    rare::of_log_read(&mut self.rare, &self.processes[process], &answer);
                    let delay_ns = self.flush_ns(process, 0) / 2;
                    self.plan_own(process, delay_ns, OwnEvent::LogRead { answer });
                }
                Effect::Leads { ballot, in_doubt } => {
                    let at_ns = self.now_ns();
                    self.trace
                        .line(at_ns, || format!("{from} leads under {ballot:?}"));
                    let earlier = self.leaders.insert(from.shard, from);
                    rare::of_leader(&mut self.rare, earlier, from, in_doubt);
                }
                Effect::Applied { slot, entry } => {
                    rare::of_entry(&mut self.rare, &entry);
                    if let Err(violation) = self.agreement.applied(from, slot, &entry) {
                        self.violate(violation.checker, violation.text);
                    }
                }
                Effect::AppliedUnseen { slot } => {
                    self.violate("agreement", format!("{from} applied unlogged slot {slot}"));
                }
                Effect::Stopped { reason } => self.stopped_itself(process, &reason),
            }
        }
        self.compare_digest(process);
        self.plan_tick(process);
        if sent {
            faults::burn_fuse_after_send(self, self.node_of[process]);
        }
    }

    /// A core that cannot go on is put out of service. It may be missing a slot of its log only if its
    /// disk was harmed.
    fn stopped_itself(&mut self, process: usize, reason: &StopReason) {
        let (now_ns, from) = (self.now_ns(), self.processes[process].address());
        let text = format!("{from} stopped itself: {reason:?}");
        let harmed = self.processes[process].health().is_harmed();
        if !harmed || !matches!(reason, StopReason::LogLost { .. }) {
            return self.violate("stopped", text);
        }
        self.trace.line(now_ns, || text);
        self.faults.add("replica_stopped_itself");
        self.processes[process].park();
    }

    /// At some slots, and only if the replica is exactly there.
    fn compare_digest(&mut self, process: usize) {
        let Some(slot) = self.processes[process].take_digest_slot(self.parameters.digest_every)
        else {
            return;
        };
        let address = self.processes[process].address();
        let Some((at, digest)) = self.processes[process].digest() else {
            return;
        };
        assert_eq!(at, slot, "digest of another slot");
        if let Err(violation) = self.agreement.digest(address, slot, digest) {
            self.violate(violation.checker, violation.text);
        }
    }

    fn plan_tick(&mut self, process: usize) {
        let Some(deadline_ns) = self.processes[process].deadline_ns() else {
            return;
        };
        let clock = &self.nodes[self.node_of[process]].clock;
        let Some(at_ns) = clock.true_ns(deadline_ns) else {
            return;
        };
        let at_ns = at_ns.max(self.now_ns());
        if self.ticks[process].is_none_or(|planned| at_ns < planned) {
            self.ticks[process] = Some(at_ns);
            let delay_ns = at_ns - self.now_ns();
            self.plan_own(process, delay_ns, OwnEvent::Tick { at_ns });
        }
    }

    fn plan_own(&mut self, process: usize, delay_ns: u64, what: OwnEvent) {
        let event = Event::Own {
            process,
            life: self.life_of(process),
            what,
        };
        self.queue.push(self.now_ns() + delay_ns, event);
    }

    fn flush_ns(&mut self, process: usize, bytes: usize) -> u64 {
        let disk = &self.parameters.disk;
        // About 1 GB/s beside the fixed part.
        let mut delay_ns = disk.flush_min_ns
            + self.disk_stream.exponential(disk.flush_mean_ns)
            + u64::try_from(bytes).expect("small");
        if !self.healed && disk.slow_replica == self.processes[process].address().replica.0 {
            self.faults.add("disk_slow");
            delay_ns *= 30;
        }
        if !self.healed && self.disk_stream.chance(disk.stall_ppm) {
            self.faults.add("disk_stalled");
            delay_ns += self.disk_stream.below(disk.stall_ns);
        }
        delay_ns
    }

    fn send_peer(&mut self, process: usize, to: ReplicaAddress, bytes: Vec<u8>) {
        let from = self.processes[process].address();
        let target = self.process_of(to);
        let hosts = (Host(self.node_of[process]), Host(self.node_of[target]));
        for delivery in self
            .network
            .send(self.queue.now_ns(), hosts.0, hosts.1, bytes)
        {
            let event = Event::Peer {
                process: target,
                from,
                bytes: delivery.bytes,
                corrupted: delivery.corrupted,
            };
            self.queue.push(delivery.at_ns, event);
        }
    }

    fn send_reply(&mut self, process: usize, connection: ConnectionId, bytes: Vec<u8>) {
        let client = client_of(connection);
        let hosts = (Host(self.node_of[process]), self.client_host(client));
        for delivery in self
            .network
            .send(self.queue.now_ns(), hosts.0, hosts.1, bytes)
        {
            let event = Event::Reply {
                client,
                bytes: delivery.bytes,
                corrupted: delivery.corrupted,
            };
            self.queue.push(delivery.at_ns, event);
        }
    }

    /// Lets a client act, and plans when it has to act again.
    pub(crate) fn wake(&mut self, client: usize) {
        let now_ns = self.now_ns();
        let actor = &mut self.actors[client];
        let effects = actor.client.wake(now_ns, &mut self.history);
        for effect in effects {
            match effect {
                ClientEffect::Send {
                    to,
                    connection,
                    request,
                } => self.send_request(client, to, connection, &request),
                ClientEffect::Close { to, connection } => {
                    // Often behind what was sent before, sometimes ahead of it.
                    let delay_ns = self.actors[client].stream.exponential(5 * MS);
                    self.close_later(to, connection, delay_ns);
                }
            }
        }
        let actor = &mut self.actors[client];
        if let Some(at_ns) = actor.client.deadline_ns()
            && actor.wake_ns.is_none_or(|planned| at_ns < planned)
        {
            actor.wake_ns = Some(at_ns);
            self.queue.push(at_ns, Event::Wake { client, at_ns });
        }
    }

    /// A replica learns after a while that a client has closed a connection.
    pub(crate) fn close_later(
        &mut self,
        to: ReplicaAddress,
        connection: ConnectionId,
        delay_ns: u64,
    ) {
        let event = Event::Close {
            process: self.process_of(to),
            connection,
        };
        self.queue.push(self.now_ns() + delay_ns, event);
    }

    fn send_request(
        &mut self,
        client: usize,
        to: ReplicaAddress,
        connection: ConnectionId,
        request: &Request,
    ) {
        let process = self.process_of(to);
        let hosts = (self.client_host(client), Host(self.node_of[process]));
        let bytes = self.codec.encode_request(request);
        let deliveries = self
            .network
            .send(self.queue.now_ns(), hosts.0, hosts.1, bytes);
        // A connection delivers a request once: its number must be unique while it is open.
        for delivery in deliveries.into_iter().take(1) {
            let event = Event::Request {
                process,
                connection,
                bytes: delivery.bytes,
                corrupted: delivery.corrupted,
            };
            self.queue.push(delivery.at_ns, event);
        }
    }

    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].up {
            return;
        }
        let now_ns = self.now_ns();
        self.trace.line(now_ns, || format!("node {node} starts"));
        self.trace.event(now_ns, 4, wide(node), 0);
        let down_ns = now_ns - self.nodes[node].changed_ns;
        let restart = self.nodes[node].life > 0;
        if restart && down_ns < self.parameters.timing.lease_ns {
            self.rare.add("restart_within_lease");
        }
        let machine = &mut self.nodes[node];
        machine.life += 1;
        machine.up = true;
        machine.paused = false;
        machine.changed_ns = now_ns;
        for process in machine.processes.clone() {
            let now = self.clocks(process);
            let seed = self.process_stream.bits();
            self.ticks[process] = None;
            if self.processes[process].health().is_lost() {
                self.faults.add("replica_parked_lost");
                self.processes[process].park();
                continue;
            }
            if self.processes[process].disk_mut().take_read_error() {
                self.processes[process].park();
                faults::refuse_start(self, process);
                continue;
            }
            match self.processes[process].start(seed, now) {
                Ok(started) => {
                    if started.lost > 0 {
                        self.faults.add("log_damage_named");
                    }
                    rare::of_start(&mut self.rare, &started);
                    self.step(process, Input::Tick);
                }
                Err(problem) => self.refuse_damage(process, &problem),
            }
        }
    }

    /// A replica does not start from its disk: within its rights if the disk was harmed.
    fn refuse_damage(&mut self, process: usize, problem: &str) {
        let (now_ns, address) = (self.now_ns(), self.processes[process].address());
        let text = format!("{address} does not start: {problem}");
        if !self.processes[process].health().is_harmed() {
            return self.violate("recovery", text);
        }
        self.trace.line(now_ns, || text);
        self.faults.add("replica_parked_corrupt");
        self.processes[process].park();
    }

    /// Ends all processes of a machine.
    pub(crate) fn stop(&mut self, node: usize, power_loss: bool) {
        let now_ns = self.now_ns();
        self.trace.line(now_ns, || {
            format!("node {node} stops, power loss {power_loss}")
        });
        self.trace
            .event(now_ns, 5, wide(node), u64::from(power_loss));
        for &process in &self.nodes[node].processes {
            rare::of_crash(&mut self.rare, &self.processes[process], power_loss);
        }
        let machine = &mut self.nodes[node];
        machine.up = false;
        machine.paused = false;
        machine.changed_ns = now_ns;
        machine.backlog.clear();
        for process in machine.processes.clone() {
            self.processes[process].stop(power_loss);
        }
    }

    fn resume(&mut self, node: usize, life: u64) {
        let machine = &mut self.nodes[node];
        if !machine.paused || machine.life != life {
            return;
        }
        machine.paused = false;
        let mut backlog = std::mem::take(&mut machine.backlog);
        // What came in first and what the clock says: a process that wakes up may look at either.
        if self.crash_stream.chance(500_000) {
            backlog.sort_by_key(|event| matches!(event, Event::Own { .. }));
        }
        let now_ns = self.now_ns();
        self.trace.line(now_ns, || format!("node {node} resumes"));
        for event in backlog {
            self.queue.push(now_ns, event);
        }
    }

    fn trace_bytes(&mut self, kind: u64, who: usize, bytes: &[u8]) {
        let at_ns = self.now_ns();
        let content = crate::checkers::agreement::hash_bytes(bytes);
        self.trace.event(at_ns, kind, wide(who), content);
    }
}

/// Connections carry the number of their client.
fn client_of(connection: ConnectionId) -> usize {
    usize::try_from(connection.0 >> 32).expect("client numbers are small")
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).expect("a usize fits 64 bits")
}
