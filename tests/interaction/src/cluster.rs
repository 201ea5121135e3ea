//! Replicas, their logs and the messages between them. Nothing happens unless the caller says so.
//!
//! One call steps one replica with one input and drains it, as every shell does. What followed is
//! appended to a list of [`Event`]s; messages wait in flight, records wait for a flush.

use std::collections::BTreeMap;

use quorate_protocol::client::{Reply, Request, Role};
use quorate_protocol::config::{IdRule, Reads, ReplicaConfig};
use quorate_protocol::ids::{
    ClusterId, ConnectionId, PersistSeq, ReplicaAddress, ReplicaId, ShardId, Slot,
};
use quorate_protocol::input::Input;
use quorate_protocol::limits::{ENTRY_BYTES_MAX, TIMING};
use quorate_protocol::message::PeerMessage;
use quorate_protocol::output::{Output, Record, StopReason};
use quorate_protocol::replica::Replica;
use quorate_protocol::shard::map::Placement;
use quorate_protocol::time::{Now, SECOND};

use crate::disk::{Disk, Unflushed};

/// Wall clock at virtual time zero.
pub const WALL_NS: u64 = 1_700_000_000 * SECOND;

/// What a cluster is made of.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub shards: u32,
    pub replicas: u8,
    pub reads: Reads,
    pub ids: IdRule,
    /// Range placement: accounts 1..=N on shard 1, N+1..=2N on shard 2, and so on.
    pub accounts_per_shard: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            shards: 2,
            replicas: 3,
            reads: Reads::Lease,
            ids: IdRule::Any,
            accounts_per_shard: 10,
        }
    }
}

/// A message in flight.
#[derive(Clone, Debug)]
pub struct Letter {
    /// In the order of sending, over the whole cluster.
    pub number: u64,
    pub from: ReplicaAddress,
    pub to: ReplicaAddress,
    pub message: PeerMessage,
    pub sent_ns: u64,
}

/// Something that a replica did.
#[derive(Clone, Debug)]
pub enum Event {
    Sent(Letter),
    Logged {
        at: ReplicaAddress,
        record: Record,
    },
    Flushed {
        at: ReplicaAddress,
    },
    Replied {
        at: ReplicaAddress,
        connection: ConnectionId,
        reply: Reply,
    },
    ReadBack {
        at: ReplicaAddress,
        from: Slot,
        upto: Slot,
    },
    Stopped {
        at: ReplicaAddress,
        reason: StopReason,
    },
}

/// A replica on its disk, running or not.
#[derive(Debug)]
struct Node {
    config: ReplicaConfig,
    running: Option<Replica>,
    disk: Disk,
    lives: u64,
    /// Of the wall clock.
    ahead_ns: u64,
}

/// The replicas of all shards and the network between them.
#[derive(Debug)]
pub struct Cluster {
    shape: Shape,
    nodes: BTreeMap<ReplicaAddress, Node>,
    in_flight: Vec<Letter>,
    events: Vec<Event>,
    now_ns: u64,
    letters: u64,
}

/// The address of a replica.
#[must_use]
pub fn address(shard: u32, replica: u8) -> ReplicaAddress {
    ReplicaAddress {
        shard: ShardId(shard),
        replica: ReplicaId(replica),
    }
}

impl Cluster {
    /// All replicas started on empty logs at time zero. Replica 1 of shard 1 is preferred as its
    /// leader, replica 2 of shard 2, and so on.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        let mut cluster = Self {
            shape,
            nodes: BTreeMap::new(),
            in_flight: Vec::new(),
            events: Vec::new(),
            now_ns: 0,
            letters: 0,
        };
        for shard in 1..=shape.shards {
            for replica in 1..=shape.replicas {
                let at = address(shard, replica);
                let node = Node {
                    config: config(shape, at),
                    running: None,
                    disk: Disk::default(),
                    lives: 0,
                    ahead_ns: 0,
                };
                cluster.nodes.insert(at, node);
                cluster.start(at);
            }
        }
        cluster
    }

    /// What it was made from.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Virtual monotonic time.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Time passes; nobody is told.
    ///
    /// # Panics
    /// If it goes back.
    pub fn set_now_ns(&mut self, now_ns: u64) {
        assert!(now_ns >= self.now_ns, "time does not go back");
        self.now_ns = now_ns;
    }

    /// Puts the wall clock of a replica ahead of the others.
    pub fn set_ahead_ns(&mut self, at: ReplicaAddress, ahead_ns: u64) {
        self.node_mut(at).ahead_ns = ahead_ns;
    }

    /// Every replica, running or not.
    pub fn addresses(&self) -> impl Iterator<Item = ReplicaAddress> + use<'_> {
        self.nodes.keys().copied()
    }

    /// Whether there is such a replica.
    #[must_use]
    pub fn knows(&self, at: ReplicaAddress) -> bool {
        self.nodes.contains_key(&at)
    }

    /// The core, if the process runs.
    #[must_use]
    pub fn replica(&self, at: ReplicaAddress) -> Option<&Replica> {
        self.node(at).running.as_ref()
    }

    /// The replicas of a shard that run.
    pub fn running(&self, shard: ShardId) -> impl Iterator<Item = (ReplicaAddress, &Replica)> {
        let of_shard = self.nodes.iter().filter(move |(at, _)| at.shard == shard);
        of_shard.filter_map(|(at, node)| Some((*at, node.running.as_ref()?)))
    }

    /// The replica that serves a shard; of two that believe so, the one of the later ballot.
    #[must_use]
    pub fn leader(&self, shard: ShardId) -> Option<ReplicaAddress> {
        let serving = self
            .running(shard)
            .filter(|(_, replica)| replica.role() == Role::Leader && replica.serving().is_some());
        serving
            .max_by_key(|(_, replica)| replica.serving())
            .map(|(at, _)| at)
    }

    /// When the next replica wants a tick, and which.
    #[must_use]
    pub fn next_tick(&self) -> Option<(u64, ReplicaAddress)> {
        let wants = |(at, node): (&ReplicaAddress, &Node)| {
            Some((node.running.as_ref()?.deadline_ns(), *at))
        };
        self.nodes.iter().filter_map(wants).min()
    }

    /// Messages that were sent and neither delivered nor dropped, oldest first.
    #[must_use]
    pub fn in_flight(&self) -> &[Letter] {
        &self.in_flight
    }

    /// Takes the events since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Whether a replica has records that are not durable.
    #[must_use]
    pub fn is_dirty(&self, at: ReplicaAddress) -> bool {
        self.node(at).disk.is_dirty()
    }

    /// The last record that a flush started now would make durable.
    #[must_use]
    pub fn last_appended(&self, at: ReplicaAddress) -> Option<PersistSeq> {
        self.node(at).disk.last()
    }

    /// A message arrives, and is no longer in flight. It is lost if nobody runs there.
    ///
    /// # Panics
    /// If it is not in flight.
    pub fn deliver(&mut self, number: u64) {
        let letter = self.remove(number);
        self.arrive(letter);
    }

    /// A copy of a message arrives; the message stays in flight.
    ///
    /// # Panics
    /// If it is not in flight.
    pub fn deliver_copy(&mut self, number: u64) {
        let letter = self.in_flight.iter().find(|l| l.number == number).cloned();
        self.arrive(letter.expect("the message is in flight"));
    }

    /// A message is lost.
    ///
    /// # Panics
    /// If it is not in flight.
    pub fn drop_letter(&mut self, number: u64) {
        self.remove(number);
    }

    /// Every record up to `upto` is durable.
    pub fn flush(&mut self, at: ReplicaAddress, upto: PersistSeq) {
        let node = self.node_mut(at);
        assert!(node.running.is_some(), "{at} does not run");
        node.disk.flush(upto);
        self.events.push(Event::Flushed { at });
        self.step(at, Input::Durable { upto });
    }

    /// Tells a replica that time has passed.
    pub fn tick(&mut self, at: ReplicaAddress) {
        self.step(at, Input::Tick);
    }

    /// A client's request arrives.
    pub fn ask(&mut self, at: ReplicaAddress, connection: ConnectionId, request: Request) {
        let input = Input::Client {
            connection,
            request,
        };
        self.step(at, input);
    }

    /// The process ends at once. What it sent stays in flight.
    pub fn crash(&mut self, at: ReplicaAddress, unflushed: Unflushed) {
        let node = self.node_mut(at);
        assert!(node.running.is_some(), "{at} does not run");
        node.running = None;
        node.disk.crash(unflushed);
    }

    /// The newest durable record of a slot rots, whether the process runs or not. False if there is
    /// none that can.
    pub fn rot(&mut self, at: ReplicaAddress, slot: Slot) -> bool {
        self.node_mut(at).disk.rot(slot)
    }

    /// Starts a process that does not run, from what its log holds.
    pub fn start(&mut self, at: ReplicaAddress) {
        let (now_ns, lives) = (self.now_ns, self.node(at).lives + 1);
        let node = self.node_mut(at);
        assert!(node.running.is_none(), "{at} runs");
        node.lives = lives;
        let config = ReplicaConfig {
            seed: lives,
            ..node.config.clone()
        };
        let now = Now {
            mono_ns: now_ns,
            wall_ns: WALL_NS + now_ns + node.ahead_ns,
        };
        let mut replica = Replica::new(config, node.disk.recover(), now);
        // The start itself may want to read the log.
        replica.step(now, Input::Tick);
        node.running = Some(replica);
        self.drain(at);
    }

    fn arrive(&mut self, letter: Letter) {
        if self.node(letter.to).running.is_some() {
            let input = Input::Peer {
                from: letter.from,
                message: letter.message,
            };
            self.step(letter.to, input);
        }
    }

    fn remove(&mut self, number: u64) -> Letter {
        let at = self.in_flight.iter().position(|l| l.number == number);
        self.in_flight.remove(at.expect("the message is in flight"))
    }

    fn step(&mut self, at: ReplicaAddress, input: Input) {
        let now_ns = self.now_ns;
        let node = self.node_mut(at);
        let now = Now {
            mono_ns: now_ns,
            wall_ns: WALL_NS + now_ns + node.ahead_ns,
        };
        let replica = node.running.as_mut().expect("only running replicas step");
        replica.step(now, input);
        self.drain(at);
    }

    /// Carries out what a step wants. Reads of the log are answered at once, each by a step of its
    /// own after this one.
    fn drain(&mut self, at: ReplicaAddress) {
        let mut reads = Vec::new();
        while let Some(output) = self.poll(at) {
            match output {
                Output::Persist { seq, record } => {
                    self.node_mut(at).disk.append(seq, record.clone());
                    self.events.push(Event::Logged { at, record });
                }
                Output::Send { to, message } => self.post(at, to, message),
                Output::Reply { connection, reply } => self.events.push(Event::Replied {
                    at,
                    connection,
                    reply,
                }),
                Output::ReadLog { from, upto, .. } => {
                    self.events.push(Event::ReadBack { at, from, upto });
                    reads.push((from, self.node(at).disk.read(from, upto)));
                }
                Output::Checkpoint(_)
                | Output::ReleaseLog { .. }
                | Output::Load { .. }
                | Output::LoadChain { .. }
                | Output::List { .. }
                | Output::FetchSnapshot { .. } => {
                    panic!("there are no checkpoints")
                }
                Output::Count(_) => {}
                Output::Rejoined => panic!("no disk is lost"),
                Output::Stop { reason } => self.events.push(Event::Stopped { at, reason }),
            }
        }
        for (from, (entries, lost)) in reads {
            let answer = Input::LogRead {
                from,
                entries,
                lost,
            };
            self.step(at, answer);
        }
    }

    fn post(&mut self, from: ReplicaAddress, to: ReplicaAddress, message: PeerMessage) {
        self.letters += 1;
        let letter = Letter {
            number: self.letters,
            from,
            to,
            message,
            sent_ns: self.now_ns,
        };
        self.in_flight.push(letter.clone());
        self.events.push(Event::Sent(letter));
    }

    fn poll(&mut self, at: ReplicaAddress) -> Option<Output> {
        self.node_mut(at).running.as_mut()?.poll_output()
    }

    fn node(&self, at: ReplicaAddress) -> &Node {
        self.nodes.get(&at).expect("a replica of this cluster")
    }

    fn node_mut(&mut self, at: ReplicaAddress) -> &mut Node {
        self.nodes.get_mut(&at).expect("a replica of this cluster")
    }
}

/// The usual spread of leaders: replica 1 for shard 1, replica 2 for shard 2, and so on.
///
/// # Panics
/// If `replicas` is 0.
#[must_use]
pub fn preferred(shard: ShardId, replicas: u8) -> ReplicaId {
    let index = (shard.0 - 1) % u32::from(replicas);
    ReplicaId(u8::try_from(index + 1).expect("at most the number of replicas"))
}

fn config(shape: Shape, at: ReplicaAddress) -> ReplicaConfig {
    ReplicaConfig {
        cluster: ClusterId(1),
        address: at,
        shards: shape.shards,
        replicas: shape.replicas,
        placement: Placement::Range {
            accounts_per_shard: shape.accounts_per_shard,
        },
        reads: shape.reads,
        ids: shape.ids,
        preferred_leader: preferred(at.shard, shape.replicas),
        timing: TIMING,
        entry_bytes_max: ENTRY_BYTES_MAX,
        admission: quorate_protocol::config::Admission::default(),
        tail_bytes_max: quorate_protocol::limits::LOG_TAIL_BYTES_MAX,
        keep_ns: None,
        checkpoint_weight: None,
        accounts_in_memory_max: quorate_protocol::limits::ACCOUNTS_IN_MEMORY_MAX,
        scan_places: quorate_protocol::limits::SCAN_PLACES,
        apply_bytes: quorate_protocol::limits::APPLY_BYTES,
        telemetry_window_ns: quorate_protocol::limits::TELEMETRY_WINDOW_NS,
        seed: 1,
    }
}
