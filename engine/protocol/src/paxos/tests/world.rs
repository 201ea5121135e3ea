//! A small deterministic world: replicas of one group with drifting clocks, a network that loses,
//! doubles, delays and reorders, logs that flush late, crashes that keep a prefix of what was not
//! flushed. Its observer keeps what was ever chosen and acknowledged, apart from the core.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::disk::Disk;
use crate::config::{IdRule, Reads, Recovered, ReplicaConfig};
use crate::entry::Entry;
use crate::ids::{Ballot, ClusterId, PersistSeq, ReplicaAddress, ReplicaId, ShardId, Slot};
use crate::limits::{TIMING, Timing};
use crate::output::StopReason;
use crate::paxos::message::Message;
use crate::paxos::{Consensus, Effect};
use crate::prng::Prng;
use crate::shard::map::Placement;
use crate::time::{MS, Now, Timestamp};

/// What may go wrong, drawn per seed.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Of 1,000 messages.
    pub loss: u64,
    pub duplicate: u64,
    pub delay_ns_max: u64,
    pub flush_ns_max: u64,
    /// Of 1,000 flushes: one that takes up to a second.
    pub stall: u64,
    /// Clocks run fast or slow by up to this many parts per million.
    pub drift_ppm: u64,
    /// Of 1,000 entries applied: a checkpoint behind it.
    pub checkpoint: u64,
}

impl Faults {
    pub fn none() -> Self {
        Self {
            loss: 0,
            duplicate: 0,
            delay_ns_max: MS,
            flush_ns_max: MS / 2,
            stall: 0,
            drift_ppm: 0,
            checkpoint: 0,
        }
    }
}

/// One replica's process, or what is left of it.
#[derive(Debug)]
pub struct Node {
    pub id: ReplicaId,
    pub core: Option<Consensus>,
    pub disk: Disk,
    /// Its disk was lost, and it is no voter yet.
    pub rejoins: bool,
    pub paused_until_ns: u64,
    restart_at_ns: u64,
    offset_ns: u64,
    rate_ppm: u64,
    log_read: Option<(u64, Slot, Slot, usize)>,
    /// A checkpoint of another replica is on its way: when it is there.
    install: Option<(u64, ReplicaId)>,
    /// Open read: round, ballot, and what was acknowledged when it arrived.
    read: Option<(u64, Ballot, Slot)>,
    pub reads_served: u64,
}

impl Node {
    fn now(&self, true_ns: u64) -> Now {
        let scaled = u128::from(true_ns) * u128::from(self.rate_ppm) / 1_000_000;
        Now {
            mono_ns: self.offset_ns + u64::try_from(scaled).expect("short runs"),
            wall_ns: true_ns,
        }
    }

    /// Whether its log lacks what it once had.
    fn is_harmed(&self) -> bool {
        self.rejoins || self.disk.is_harmed()
    }

    fn true_ns(&self, mono_ns: u64) -> u64 {
        if mono_ns == u64::MAX {
            return u64::MAX;
        }
        let scaled = u128::from(mono_ns.saturating_sub(self.offset_ns)) * 1_000_000;
        u64::try_from(scaled / u128::from(self.rate_ppm) + 1).expect("short runs")
    }
}

/// The group, its surroundings and its observer.
#[derive(Debug)]
pub struct World {
    pub now_ns: u64,
    pub nodes: Vec<Node>,
    pub faults: Faults,
    /// One-way links that deliver nothing.
    pub cut: BTreeSet<(ReplicaId, ReplicaId)>,
    /// Messages under way, by arrival.
    pub network: BTreeMap<(u64, u64), (ReplicaId, ReplicaId, Message)>,
    pub random: Prng,
    pub timing: Timing,
    pub preferred: ReplicaId,
    /// Per 1,000 chances, how often a leader proposes.
    pub load: u64,
    /// What it proposes.
    pub entry: fn(Ballot, Timestamp) -> Entry,
    /// Records may rot at several replicas at once; then replicas may stop over slots whose copies are
    /// lost, and only contradictions count.
    pub rots_anywhere: bool,
    /// Replicas that stopped over lost copies.
    pub stops: u64,
    pub chosen: BTreeMap<Slot, Entry>,
    /// The highest slot that a serving leader applied, that is, acknowledged.
    pub acknowledged: Slot,
    pub leaders: BTreeMap<Ballot, ReplicaId>,
    pub checkpoints: u64,
    pub installs: u64,
    pub fallbacks: u64,
    pub rejoined: u64,
    sent: u64,
    proposals: u64,
}

impl World {
    pub fn new(seed: u64, replicas: u8, faults: Faults) -> Self {
        Self::with_timing(seed, replicas, faults, TIMING)
    }

    pub fn with_timing(seed: u64, replicas: u8, faults: Faults, timing: Timing) -> Self {
        let mut random = Prng::new(seed);
        let nodes = (1..=replicas)
            .map(|id| Node {
                id: ReplicaId(id),
                core: None,
                disk: Disk::default(),
                rejoins: false,
                paused_until_ns: 0,
                restart_at_ns: u64::MAX,
                offset_ns: random.range(0, 1_000_000 * MS),
                rate_ppm: 1_000_000 - faults.drift_ppm + random.range(0, 2 * faults.drift_ppm + 1),
                log_read: None,
                install: None,
                read: None,
                reads_served: 0,
            })
            .collect();
        let mut world = Self {
            now_ns: 0,
            nodes,
            faults,
            cut: BTreeSet::new(),
            network: BTreeMap::new(),
            random,
            timing,
            preferred: ReplicaId(1),
            load: 0,
            entry: Entry::noop,
            rots_anywhere: false,
            stops: 0,
            chosen: BTreeMap::new(),
            acknowledged: Slot::ZERO,
            leaders: BTreeMap::new(),
            checkpoints: 0,
            installs: 0,
            fallbacks: 0,
            rejoined: 0,
            sent: 0,
            proposals: 0,
        };
        for id in 1..=replicas {
            world.start(ReplicaId(id));
        }
        world
    }

    pub fn node(&mut self, id: ReplicaId) -> &mut Node {
        &mut self.nodes[usize::from(id.0) - 1]
    }

    pub fn core(&mut self, id: ReplicaId) -> &mut Consensus {
        self.node(id).core.as_mut().expect("the replica runs")
    }

    pub fn now_of(&mut self, id: ReplicaId) -> Now {
        let now_ns = self.now_ns;
        self.node(id).now(now_ns)
    }

    /// The replica that serves, if exactly one does.
    pub fn serving(&self) -> Option<ReplicaId> {
        let mut serving = self.nodes.iter().filter(|node| {
            node.core
                .as_ref()
                .is_some_and(|core| core.serving().is_some())
        });
        let first = serving.next()?;
        serving.next().is_none().then_some(first.id)
    }

    pub fn can_propose(&self, id: ReplicaId) -> bool {
        self.nodes[usize::from(id.0) - 1]
            .core
            .as_ref()
            .is_some_and(Consensus::can_propose)
    }

    /// Starts a replica from its log.
    pub fn start(&mut self, id: ReplicaId) {
        let replicas = u8::try_from(self.nodes.len()).expect("few");
        let config = ReplicaConfig {
            cluster: ClusterId(1),
            address: ReplicaAddress {
                shard: ShardId(1),
                replica: id,
            },
            shards: 1,
            replicas,
            placement: Placement::Hash,
            reads: Reads::Lease,
            ids: IdRule::Any,
            preferred_leader: self.preferred,
            timing: self.timing,
            entry_bytes_max: crate::limits::ENTRY_BYTES_MAX,
            admission: crate::config::Admission::default(),
            tail_bytes_max: crate::limits::LOG_TAIL_BYTES_MAX,
            keep_ns: None,
            checkpoint_weight: None,
            accounts_in_memory_max: crate::limits::ACCOUNTS_IN_MEMORY_MAX,
            scan_places: crate::limits::SCAN_PLACES,
            apply_bytes: crate::limits::APPLY_BYTES,
            telemetry_window_ns: crate::limits::TELEMETRY_WINDOW_NS,
            seed: self.random.draw(),
        };
        let now = self.now_of(id);
        // Only a checkpoint that the log goes on from can be fallen back to.
        let disk = &self.node(id).disk;
        let can_fall_back = disk.released <= disk.checkpoint_before.next();
        let falls_back =
            disk.checkpoint > Slot::ZERO && can_fall_back && self.random.range(0, 5) == 0;
        self.fallbacks += u64::from(falls_back);
        let node = self.node(id);
        assert!(node.core.is_none());
        node.restart_at_ns = u64::MAX;
        if falls_back {
            node.disk.checkpoint = node.disk.checkpoint_before;
        }
        node.disk.before = node.disk.records.len();
        let recovered = Recovered {
            rejoins: node.rejoins,
            ..node.disk.recover(falls_back)
        };
        node.core = Some(Consensus::new(&config, recovered, now));
        self.drain(id);
    }

    /// Ends a replica; of what was not flushed, `kept` records survive at most.
    pub fn crash(&mut self, id: ReplicaId, kept: usize) {
        let node = self.node(id);
        node.core = None;
        node.log_read = None;
        node.install = None;
        node.read = None;
        node.paused_until_ns = 0;
        let disk = &mut node.disk;
        disk.records.truncate(disk.synced.saturating_add(kept));
        if disk.synced < disk.records.len() {
            disk.flush_began = disk.synced;
        }
        disk.synced = disk.records.len();
        disk.flush = None;
    }

    /// Ends a replica and takes its disk: it comes back as a non-voter.
    pub fn lose_disk(&mut self, id: ReplicaId) {
        self.crash(id, 0);
        let node = self.node(id);
        node.disk = Disk::default();
        node.rejoins = true;
    }

    /// Lets a durable record of a replica rot; unless anything may, only if no other replica's log is
    /// harmed already.
    pub fn rot(&mut self, id: ReplicaId) -> bool {
        let others_whole = self.rots_anywhere || self.is_whole_without(id);
        let node = &mut self.nodes[usize::from(id.0) - 1];
        let youngest = if self.rots_anywhere { 8 } else { 30 };
        others_whole && node.disk.rot(&mut self.random, youngest)
    }

    /// Whether no other replica lacks anything that it once had.
    pub fn is_whole_without(&self, id: ReplicaId) -> bool {
        let mut others = self.nodes.iter().filter(|node| node.id != id);
        others.all(|node| !node.is_harmed())
    }

    /// Whether a record has rotted, healed since or not.
    pub fn has_rotted(&self) -> bool {
        self.nodes.iter().any(|node| !node.disk.rotten.is_empty())
    }

    /// Whether some replica's log lacks a record that it once had.
    pub fn is_harmed(&self) -> bool {
        self.nodes.iter().any(Node::is_harmed)
    }

    pub fn restart_at(&mut self, id: ReplicaId, at_ns: u64) {
        self.node(id).restart_at_ns = at_ns;
    }

    /// Cuts a replica off from all others, both ways.
    pub fn isolate(&mut self, id: ReplicaId) {
        let others: Vec<_> = self.nodes.iter().map(|node| node.id).collect();
        for other in others.into_iter().filter(|&other| other != id) {
            self.cut.insert((id, other));
            self.cut.insert((other, id));
        }
    }

    fn deliver(&mut self, from: ReplicaId, to: ReplicaId, message: Message) {
        let now = self.now_of(to);
        if let Some(core) = self.node(to).core.as_mut() {
            core.on_message(now, from, message);
            self.drain(to);
        }
    }

    fn tick(&mut self, id: ReplicaId) {
        let now = self.now_of(id);
        if let Some(core) = self.node(id).core.as_mut() {
            core.on_tick(now);
            self.drain(id);
        }
    }

    pub fn propose(&mut self, id: ReplicaId) -> Option<Slot> {
        let now = self.now_of(id);
        self.proposals += 1;
        let stamp = Timestamp(self.proposals);
        let entry = self.entry;
        let core = self.node(id).core.as_mut()?;
        if !core.can_propose() {
            return None;
        }
        let ballot = core.leading().expect("can propose");
        let slot = core.propose(now, entry(ballot, stamp));
        self.drain(id);
        Some(slot)
    }

    pub fn transfer(&mut self, from: ReplicaId, to: ReplicaId) -> bool {
        let now = self.now_of(from);
        let Some(core) = self.node(from).core.as_mut() else {
            return false;
        };
        let started = core.transfer_leadership(now, to);
        self.drain(from);
        started
    }

    /// Runs for a while of true time.
    pub fn run(&mut self, for_ns: u64) {
        let end_ns = self.now_ns + for_ns;
        while let Some(at_ns) = self.next_event_ns()
            && at_ns <= end_ns
        {
            self.now_ns = self.now_ns.max(at_ns);
            self.happen();
            self.observe();
        }
        self.now_ns = end_ns;
    }

    /// Runs until something holds; panics after `for_ns`.
    pub fn run_until(&mut self, for_ns: u64, what: &str, holds: impl Fn(&Self) -> bool) {
        let end_ns = self.now_ns + for_ns;
        while !holds(self) {
            assert!(self.now_ns < end_ns, "not in time: {what}");
            self.run(MS);
        }
    }

    fn next_event_ns(&self) -> Option<u64> {
        let message = self.network.first_key_value().map(|(&(at_ns, _), _)| at_ns);
        let nodes = self.nodes.iter().map(|node| {
            let deadline_ns = node
                .core
                .as_ref()
                .map_or(u64::MAX, |core| node.true_ns(core.deadline_ns()));
            let flush_ns = node.disk.flush.map_or(u64::MAX, |(at_ns, _)| at_ns);
            let read_ns = node.log_read.map_or(u64::MAX, |(at_ns, ..)| at_ns);
            let install_ns = node.install.map_or(u64::MAX, |(at_ns, _)| at_ns);
            deadline_ns
                .min(install_ns)
                .min(flush_ns)
                .min(read_ns)
                .max(node.paused_until_ns)
                .min(node.restart_at_ns)
        });
        nodes.chain(message).min().filter(|&at_ns| at_ns < u64::MAX)
    }

    /// Lets everything happen that is due.
    fn happen(&mut self) {
        let now_ns = self.now_ns;
        for id in (1..=self.nodes.len()).map(|id| ReplicaId(u8::try_from(id).expect("few"))) {
            let node = self.node(id);
            if node.restart_at_ns <= now_ns {
                self.start(id);
                continue;
            }
            if node.core.is_none() || node.paused_until_ns > now_ns {
                continue;
            }
            if let Some((at_ns, synced)) = node.disk.flush
                && at_ns <= now_ns
            {
                node.disk.flush = None;
                node.disk.flush_began = node.disk.synced;
                node.disk.synced = synced;
                let seq = u64::try_from(synced - node.disk.before).expect("few");
                let now = node.now(now_ns);
                node.core
                    .as_mut()
                    .expect("runs")
                    .on_durable(now, PersistSeq(seq));
                self.drain(id);
            }
            let node = self.node(id);
            if let Some((at_ns, from, upto, bytes_max)) = node.log_read
                && at_ns <= now_ns
            {
                node.log_read = None;
                let (entries, lost) = node.disk.read(from, upto, bytes_max);
                let now = node.now(now_ns);
                node.core
                    .as_mut()
                    .expect("runs")
                    .on_log_read(now, from, entries, lost);
                self.drain(id);
            }
            if let Some((at_ns, from)) = self.node(id).install
                && at_ns <= now_ns
            {
                self.install(id, from);
            }
            let node = self.node(id);
            let deadline_ns = node.core.as_ref().expect("runs").deadline_ns();
            if deadline_ns <= node.now(now_ns).mono_ns {
                self.tick(id);
            }
        }
        while let Some((&key, _)) = self.network.first_key_value()
            && key.0 <= now_ns
        {
            let (from, to, message) = self.network.remove(&key).expect("just seen");
            let paused_until_ns = self.node(to).paused_until_ns;
            if paused_until_ns > now_ns {
                self.network
                    .insert((paused_until_ns, key.1), (from, to, message));
            } else {
                self.deliver(from, to, message);
            }
        }
    }

    /// Carries out what a replica wants done, applies what it chose, lets it propose and read.
    fn drain(&mut self, id: ReplicaId) {
        loop {
            while let Some(effect) = self.core(id).poll_effect() {
                self.carry_out(id, effect);
            }
            if !self.apply(id) {
                break;
            }
        }
        let now = self.now_of(id);
        if self.core(id).needs_opening() {
            let ballot = self.core(id).leading().expect("it opens");
            self.proposals += 1;
            let stamp = Timestamp(self.proposals);
            self.core(id).propose(now, Entry::noop(ballot, stamp));
            self.drain(id);
        }
        if self.load > 0 && self.random.range(0, 1000) < self.load && self.core(id).can_propose() {
            self.propose(id);
        }
        self.read(id);
    }

    fn carry_out(&mut self, id: ReplicaId, effect: Effect) {
        let now_ns = self.now_ns;
        match effect {
            Effect::Persist { seq, record } => {
                let node = self.node(id);
                node.disk.records.push(record);
                let position = u64::try_from(node.disk.records.len() - node.disk.before);
                assert_eq!(Ok(seq.0), position);
            }
            Effect::Send { to, message } => self.send(id, to, message),
            Effect::ReadLog {
                from,
                upto,
                bytes_max,
            } => {
                let at_ns = now_ns + self.random.range(1, MS);
                // Small chunks, so that reads come in several.
                let bytes_max =
                    bytes_max.min(usize::try_from(self.random.range(0, 4000)).expect("few"));
                let node = self.node(id);
                assert!(node.log_read.is_none(), "one read at a time");
                node.log_read = Some((at_ns, from, upto, bytes_max));
            }
            Effect::BecameLeader { ballot } => {
                let other = self.leaders.insert(ballot, id);
                assert!(other.is_none(), "{ballot} led twice");
            }
            Effect::Deposed { ballot } => {
                assert_eq!(self.leaders.get(&ballot), Some(&id));
                self.node(id).read = None;
            }
            Effect::ReleaseLog { below } => {
                let disk = &mut self.node(id).disk;
                assert!(below <= disk.checkpoint_before.next());
                disk.released = disk.released.max(below);
            }
            Effect::WantSnapshot { from } => {
                let at_ns = now_ns + self.random.range(1, 50 * MS);
                let node = self.node(id);
                node.install = node.install.or(Some((at_ns, from)));
            }
            Effect::Rejoined => {
                let node = self.node(id);
                assert!(node.rejoins, "said once");
                node.rejoins = false;
                self.rejoined += 1;
            }
            Effect::Stop {
                reason: StopReason::CopiesLost { .. },
            } if self.rots_anywhere => self.stops += 1,
            Effect::Stop { reason } => panic!("{id} stopped: {reason:?}"),
        }
        self.begin_flush(id);
    }

    fn begin_flush(&mut self, id: ReplicaId) {
        let stalls = self.random.range(0, 1000) < self.faults.stall;
        let flush_ns = if stalls {
            self.random.range(1, 1000 * MS)
        } else {
            self.random.range(1, self.faults.flush_ns_max)
        };
        let end_ns = self.now_ns + flush_ns;
        let disk = &mut self.node(id).disk;
        if disk.flush.is_none() && disk.synced < disk.records.len() {
            disk.flush = Some((end_ns, disk.records.len()));
        }
    }

    fn send(&mut self, from: ReplicaId, to: ReplicaId, message: Message) {
        if self.cut.contains(&(from, to)) || self.random.range(0, 1000) < self.faults.loss {
            return;
        }
        let copies = 1 + u64::from(self.random.range(0, 1000) < self.faults.duplicate);
        for _ in 0..copies {
            self.sent += 1;
            let at_ns = self.now_ns + self.random.range(1, self.faults.delay_ns_max);
            self.network
                .insert((at_ns, self.sent), (from, to, message.clone()));
        }
    }

    /// Applies; the observer compares. True if something was applied.
    fn apply(&mut self, id: ReplicaId) -> bool {
        let mut applied = false;
        while let Some((slot, entry)) = self.core(id).next_chosen() {
            applied = true;
            let first = self.chosen.entry(slot).or_insert_with(|| entry.clone());
            assert_eq!(first.words(), entry.words(), "slot {slot} decided twice");
            if self.core(id).serving().is_some() {
                self.acknowledged = self.acknowledged.max(slot);
            }
            if self.random.range(0, 1000) < self.faults.checkpoint {
                self.checkpoints += 1;
                let disk = &mut self.node(id).disk;
                disk.checkpoint_before = disk.checkpoint;
                disk.checkpoint = slot;
                self.core(id).on_checkpoint(slot, 1, 0, 0);
            }
        }
        // Flushes that were answered before apply leave the queue of the next round of effects.
        self.begin_flush(id);
        applied
    }

    /// The checkpoint of another replica has arrived, if that has one that helps: start from it.
    fn install(&mut self, id: ReplicaId, from: ReplicaId) {
        let checkpoint = self.node(from).disk.checkpoint;
        let node = self.node(id);
        node.install = None;
        if checkpoint <= node.core.as_ref().expect("runs").applied_upto() {
            return;
        }
        self.installs += 1;
        let node = self.node(id);
        let disk = &mut node.disk;
        (disk.checkpoint, disk.checkpoint_before) = (checkpoint, checkpoint);
        disk.released = checkpoint.next();
        // In order: everything is flushed first.
        disk.flush_began = disk.synced;
        disk.synced = disk.records.len();
        self.crash(id, 0);
        self.start(id);
    }

    /// Keeps one quorum read going at each leader, and checks that it is fresh.
    fn read(&mut self, id: ReplicaId) {
        let acknowledged = self.acknowledged;
        let now = self.now_of(id);
        let node = self.node(id);
        let core = node.core.as_mut().expect("runs");
        if let Some((round, ballot, floor)) = node.read
            && core.confirmed_round() >= round
            && core.serving() == Some(ballot)
        {
            node.read = None;
            node.reads_served += 1;
            assert!(
                core.applied_upto() >= floor,
                "a quorum read missed an acknowledged slot"
            );
        }
        if node.read.is_none()
            && let Some(ballot) = core.leading()
            && now.mono_ns.is_multiple_of(7)
        {
            let round = core.start_read_round(now);
            node.read = Some((round, ballot, acknowledged));
            while let Some(effect) = self.core(id).poll_effect() {
                self.carry_out(id, effect);
            }
        }
    }

    /// What holds at every moment of true time, whoever looks.
    fn observe(&self) {
        for node in &self.nodes {
            let Some(core) = &node.core else { continue };
            if !core.lease_valid(node.now(self.now_ns)) {
                continue;
            }
            assert!(
                core.applied_upto() >= self.acknowledged,
                "{} would read by lease and misses an acknowledged slot",
                node.id
            );
            for other in self.nodes.iter().filter(|other| other.id != node.id) {
                let Some(other_core) = &other.core else {
                    continue;
                };
                assert!(
                    !other_core.lease_valid(other.now(self.now_ns)),
                    "two leases at once"
                );
                assert!(
                    other_core.leading() < core.leading(),
                    "a newer leader beside a valid lease"
                );
            }
        }
    }
}
