//! The world: nodes, clients and the network between them, driven by one queue of events.
//!
//! ```text
//! faults: clients work, things break  ->  heal  ->  every request answered  ->  every replica equal
//!   ->  audit of accounts and records  ->  checkers
//! ```
//!
//! Each arrow has a bound of simulated time: after healing, anything that does not finish is a
//! violation. The run ends at the first violation.

mod event;
mod lives;
mod traffic;

use std::collections::BTreeMap;

use quorate_protocol::ids::{ClusterId, ConnectionId, ReplicaAddress, ShardId};
use quorate_protocol::time::{MS, Now};

use crate::checkers::agreement::Agreement;
use crate::checkers::{FinalState, Violation};
use crate::client::Client;
use crate::clock::SimClock;
use crate::codec::Codec;
use crate::counters::Counters;
use crate::history::History;
use crate::job::Want;
use crate::network::{Host, SimNetwork};
use crate::node::{Aim, Node};
use crate::operator::MoveTool;
use crate::parameters::Parameters;
use crate::phases::Phase;
use crate::plots::{self, Plots};
use crate::process::Process;
use crate::queue::Queue;
use crate::random::{Concern, Stream};
use crate::trace::Trace;
use crate::workload::Workload;
use crate::{disk_faults, faults, rare, setup};

pub use self::event::{Event, OwnEvent};

/// The cluster of every run.
pub const CLUSTER: ClusterId = ClusterId(0x0051_5541_4c49_5459);

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
    pub(crate) plots: Plots,
    pub(crate) document_stream: Stream,
    /// Faults are over.
    pub(crate) healed: bool,
    pub(crate) phase: Phase,
    /// What the audit found.
    pub(crate) final_state: FinalState,
    leaders: BTreeMap<ShardId, ReplicaAddress>,
    /// Since when the core of a process knows that its disk is full.
    pub(crate) full_since_ns: Vec<Option<u64>>,
    /// When a process ended its last round over its store.
    scrubbed_ns: Vec<u64>,
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
        fault_counts.merge(&Counters::with_names(&plots::FAULT_NAMES));
        if parameters.clock_drift_ppm > 0 {
            fault_counts.add("clock_drift");
        }
        let full_since_ns = vec![None; processes.len()];
        let scrubbed_ns = vec![0; processes.len()];
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
            plots: Plots::new(stream(Concern::Plot, 0)),
            document_stream: stream(Concern::Document, 0),
            healed: false,
            phase: Phase::Faults,
            final_state: FinalState::default(),
            leaders: BTreeMap::new(),
            full_since_ns,
            scrubbed_ns,
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
                Aim::InCheckpoint => process.is_writing_store(),
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

    /// The process of a replica, itself.
    pub(crate) fn process_at(&self, address: ReplicaAddress) -> &Process {
        &self.processes[self.process_of(address)]
    }

    /// The same, for faults.
    pub(crate) fn process_at_mut(&mut self, address: ReplicaAddress) -> &mut Process {
        let process = self.process_of(address);
        &mut self.processes[process]
    }

    /// Whether the fault budget allows for damage of a replica's storage.
    pub(crate) fn may_be_harmed(&self, address: ReplicaAddress) -> bool {
        let process = self.process_of(address);
        let shard = process / usize::from(self.parameters.replicas);
        let victim = self.parameters.victims[shard];
        victim == address.replica.0 && !self.processes[process].health().is_lost()
    }

    /// The node that hosts a replica.
    pub(crate) fn host_of(&self, address: ReplicaAddress) -> usize {
        self.node_of[self.process_of(address)]
    }

    /// The process of a replica.
    fn process_of(&self, address: ReplicaAddress) -> usize {
        setup::process_index(&self.parameters, address)
    }

    /// Rises with every start of its node, and with every core in between.
    fn life_of(&self, process: usize) -> u64 {
        let node = &self.nodes[self.node_of[process]];
        (node.life << 32) + self.processes[process].incarnation()
    }

    /// Whether it runs or rebuilds.
    fn is_alive(&self, process: usize) -> bool {
        let process_here = &self.processes[process];
        let does_something = process_here.is_running() || process_here.is_rebuilding();
        self.nodes[self.node_of[process]].up && does_something
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
