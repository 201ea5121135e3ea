//! One replica: the pure function from inputs to outputs.
//!
//! A step takes one input, lets consensus react, applies whatever became chosen, hands the results to
//! those who wait, and proposes what has gathered. A follower puts off what is beyond a step's share to a tick that is due at
//! once, so that what was begun goes first. State falls in two: the ledger, which only applied
//! entries change and which is equal on all replicas at the same slot, and what a leader keeps for
//! its clients and its transactions, which is volatile and dropped when leadership ends.
//!
//! | part | file |
//! | --- | --- |
//! | open client requests | `requests` |
//! | commands on their way into the log | `proposals` |
//! | commands that wait for an account | `waiting` |
//! | which way a request or transfer goes | `admission` |
//! | results of an entry to those who wait | `distribute` |
//! | linearizable reads and consistent cuts | `reads` |
//! | pages of an account's history | `history` |
//! | messages to other shards | `peers` |
//! | two-phase commit | `txn::coordinator`, `txn::participant`, `txn::look_up` |
//! | moves of accounts | `shard::migration` |
//! | checkpoints beside traffic | `checkpoints` |
//! | questions to the store | `loads` |

mod admission;
mod ahead;
mod checkpoints;
mod distribute;
mod history;
mod latency;
pub(crate) mod loads;
pub(crate) mod peers;
pub(crate) mod proposals;
mod queue_age;
mod reads;
pub(crate) mod requests;
pub(crate) mod waiting;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::checkpoint::restore::RestoredLedger;
use crate::client::{Reply, ReplyBody, Role, Status};
use crate::config::{Recovered, ReplicaConfig};
use crate::entry::Entry;
use crate::ids::{AccountId, Ballot, ConnectionId, ReplicaAddress, ReplicaId, RequestId, Slot};
use crate::input::Input;
use crate::ledger::ResultCode;
use crate::ledger::apply::Applied;
use crate::ledger::state::Ledger;
use crate::limits::{CLOCK_AHEAD_NS_MAX, GROUP_AHEAD_NS_MAX, PIPELINE_MAX, SCAN_PAUSE_NS};
use crate::message::{PeerBody, PeerMessage};
use crate::output::Output;
use crate::paxos::{Consensus, Effect};
use crate::planted::{Bug, planted};
use crate::replica::ahead::Ahead;
use crate::replica::checkpoints::Checkpoints;
use crate::replica::latency::Latencies;
use crate::replica::loads::Loads;
use crate::replica::peers::Route;
use crate::replica::proposals::{Proposals, Proposed};
use crate::replica::requests::{Pending, RequestKey, Requests};
use crate::replica::waiting::Waiting;
use crate::shard::forwarding::Forwarding;
use crate::shard::migration::Migrations;
use crate::shard::telemetry::Telemetry;
use crate::time::{HybridClock, MS, Now};
use crate::txn::coordinator::Coordinator;
use crate::txn::look_up::LookUps;
use crate::txn::participant::Participant;

/// How often a serving leader looks after its timers.
const HOUSEKEEPING_NS: u64 = 20 * MS;

/// A replica of one shard.
#[derive(Debug)]
pub struct Replica {
    pub(crate) config: ReplicaConfig,
    pub(crate) now: Now,
    pub(crate) clock: HybridClock,
    pub(crate) ahead: Ahead,
    pub(crate) consensus: Consensus,
    pub(crate) ledger: Ledger,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) applied: Applied,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) loads: Loads,
    pub(crate) routes: Vec<Route>,

    // Volatile state of a leader.
    /// The ballot under which the opening no-op was proposed.
    pub(crate) leading: Option<Ballot>,
    pub(crate) requests: Requests,
    pub(crate) proposals: Proposals,
    pub(crate) in_flight: VecDeque<Proposed>,
    /// Of [`Proposals::enqueued`]: how many are applied.
    pub(crate) commands_applied: u64,
    pub(crate) waiting: Waiting,
    /// Reads that are not answered.
    pub(crate) reads: BTreeSet<RequestKey>,
    /// Accounts with a read barrier.
    pub(crate) barriers: BTreeMap<AccountId, BTreeSet<RequestKey>>,
    pub(crate) cut_requests: BTreeSet<RequestKey>,
    pub(crate) coordinator: Coordinator,
    pub(crate) participant: Participant,
    pub(crate) look_ups: LookUps,
    pub(crate) migrations: Migrations,
    pub(crate) forwarding: Forwarding,
    pub(crate) telemetry: Telemetry,
    pub(crate) latencies: Latencies,
    /// Accounts whose waiters are to be tried again at the end of the step.
    pub(crate) woken: BTreeSet<AccountId>,
    pub(crate) housekeeping_ns: u64,
    /// What is chosen goes beyond the share of a step: the next tick applies it, and is due.
    is_apply_put_off: bool,
    /// When the scan under way goes on.
    scan_at_ns: u64,
    pub(crate) in_doubt_scan_ns: u64,

    /// What the shell said last.
    pub(crate) is_disk_full: bool,
    /// There is room for more log than is always kept.
    is_room_ample: bool,
}

impl Replica {
    /// Starts from what the log holds. It asks for the chosen entries itself (`Output::ReadLog`).
    #[must_use]
    pub fn new(config: ReplicaConfig, recovered: Recovered, now: Now) -> Self {
        assert_eq!(recovered.checkpoint, Slot::ZERO, "see `restored`");
        let ledger = Ledger::new(&config);
        Self::with_ledger(config, recovered, ledger, now)
    }

    /// Starts from a checkpoint and what the log holds above it.
    ///
    /// # Panics
    /// If `recovered` is about another checkpoint.
    #[must_use]
    pub fn restored(
        config: ReplicaConfig,
        recovered: Recovered,
        checkpoint: RestoredLedger,
        now: Now,
    ) -> Self {
        assert_eq!(recovered.checkpoint, checkpoint.slot());
        Self::with_ledger(config, recovered, checkpoint.0, now)
    }

    fn with_ledger(config: ReplicaConfig, recovered: Recovered, ledger: Ledger, now: Now) -> Self {
        let mut clock = HybridClock::default();
        for logged in &recovered.tail {
            clock.observe(logged.entry.timestamp());
        }
        clock.observe(ledger.last_timestamp());
        // The usual spread of leaders; a wrong guess costs one redirect.
        let first_guess = |shard: u32| (shard - 1) % u32::from(config.replicas) + 1;
        let routes = (1..=config.shards)
            .map(|shard| ReplicaId(u8::try_from(first_guess(shard)).expect("at most replicas")))
            .map(Route::new)
            .collect();
        let mut replica = Self {
            consensus: Consensus::new(&config, recovered, now),
            ledger,
            config,
            now,
            clock,
            ahead: Ahead::default(),
            outputs: VecDeque::new(),
            applied: Applied::default(),
            checkpoints: Checkpoints::default(),
            loads: Loads::default(),
            routes,
            leading: None,
            requests: Requests::default(),
            proposals: Proposals::default(),
            in_flight: VecDeque::new(),
            commands_applied: 0,
            waiting: Waiting::default(),
            reads: BTreeSet::new(),
            barriers: BTreeMap::new(),
            cut_requests: BTreeSet::new(),
            coordinator: Coordinator::default(),
            participant: Participant::default(),
            look_ups: LookUps::default(),
            migrations: Migrations::default(),
            forwarding: Forwarding::default(),
            telemetry: Telemetry::begin(now),
            latencies: Latencies::default(),
            woken: BTreeSet::new(),
            housekeeping_ns: 0,
            is_apply_put_off: false,
            scan_at_ns: 0,
            in_doubt_scan_ns: 0,
            is_disk_full: false,
            is_room_ample: false,
        };
        // What it wants at once may be to stop, and then nothing else would ever make it step.
        replica.drain_consensus();
        replica
    }

    /// Takes one input; drain [`Self::poll_output`] before the next.
    pub fn step(&mut self, now: Now, input: Input) {
        self.now = now;
        let is_tick = matches!(input, Input::Tick);
        match input {
            Input::Tick => self.consensus.on_tick(now),
            Input::Durable { upto } => self.consensus.on_durable(now, upto),
            Input::LogRead {
                from,
                entries,
                lost,
            } => self.consensus.on_log_read(now, from, entries, lost),
            Input::Peer { from, message } => self.on_peer(from, message),
            Input::Client {
                connection,
                request,
            } => self.on_request(connection, request),
            Input::Loaded {
                question,
                rows,
                accounts,
            } => self.on_loaded(question, &rows, &accounts),
            Input::Listed { ids } => self.on_listed(ids),
            Input::ChainLoaded { question, rows } => self.on_chain_loaded(question, &rows),
            Input::CheckpointRoom => self.on_checkpoint_room(),
            Input::CheckpointDurable { number } => self.on_checkpoint_durable(number),
            Input::DiskFull { is_full } => self.is_disk_full = is_full,
            Input::RoomForLog { is_ample } => self.is_room_ample = is_ample,
            Input::Disconnected { connection } => {
                for key in self.requests.of_connection(connection) {
                    self.requests.close(key);
                    self.reads.remove(&key);
                }
            }
        }
        self.advance(is_tick);
    }

    /// The next effect, if any.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        output.or_else(|| self.telemetry.poll().map(Output::Count))
    }

    /// Whether the next `Input::Tick` is there to apply an entry: it is due, and whatever came before it may go first.
    #[must_use]
    pub fn is_apply_put_off(&self) -> bool {
        self.is_apply_put_off
    }

    /// When to send the next `Input::Tick`: monotonic nanoseconds. One in the past means now.
    #[must_use]
    pub fn deadline_ns(&self) -> u64 {
        if self.is_apply_put_off {
            return 0;
        }
        let own = match self.leading {
            Some(_) => self.housekeeping_ns,
            None => u64::MAX,
        };
        let scan = match self.ledger.is_scanning() {
            true => self.scan_at_ns,
            false => u64::MAX,
        };
        own.min(scan).min(self.consensus.deadline_ns())
    }

    /// What users see of it.
    #[must_use]
    pub fn status(&self) -> Status {
        let (committed_local, committed_cross) = self.telemetry.committed();
        Status {
            shard: self.config.address.shard,
            replica: self.config.address.replica,
            role: self.consensus.role(),
            ballot: self.consensus.ballot(),
            leader: self.consensus.leader(),
            serving: self.consensus.serving().is_some(),
            chosen_upto: self.consensus.chosen_upto(),
            applied_upto: self.ledger.applied(),
            epoch: self.ledger.map_epoch(),
            accounts: self.ledger.accounts(),
            transfers: self.ledger.cuts().transfers(),
            in_doubt: count(self.ledger.in_doubt().len() + self.ledger.staged().len()),
            committed_local,
            committed_cross,
            latency: self.latencies.last(),
            reason: self.reason(),
        }
    }

    fn reason(&self) -> String {
        match self.is_disk_full {
            true => "the disk is full: no new work is taken until there is room".to_string(),
            false => self.ahead.reason(self.now),
        }
    }

    /// Applied slot and digest of the whole replicated state at it. A scan, for checks.
    #[must_use]
    pub fn digest(&self) -> (Slot, u128) {
        (self.ledger.applied(), self.ledger.digest())
    }

    /// The replicated state, for checks.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The ballot under which this replica serves.
    #[must_use]
    pub fn serving(&self) -> Option<Ballot> {
        self.consensus.serving()
    }

    /// The highest ballot that this replica has promised.
    #[must_use]
    pub fn ballot(&self) -> Ballot {
        self.consensus.ballot()
    }

    /// The role in its group.
    #[must_use]
    pub fn role(&self) -> Role {
        self.consensus.role()
    }

    fn on_peer(&mut self, from: ReplicaAddress, message: PeerMessage) {
        // A message from a clock too far ahead is refused whole: merging it would let one broken
        // host drag every timestamp with it.
        let ahead_ns_max = if from.shard == self.config.address.shard {
            GROUP_AHEAD_NS_MAX
        } else {
            CLOCK_AHEAD_NS_MAX
        };
        if !self.clock.merge(self.now, message.clock, ahead_ns_max) {
            self.ahead.note(self.now, from, message.clock);
            return;
        }
        match message.body {
            PeerBody::Paxos(message) => {
                if from.shard == self.config.address.shard {
                    self.consensus.on_message(self.now, from.replica, message);
                }
            }
            PeerBody::Txn(message) => {
                if from.shard != self.config.address.shard {
                    self.on_txn(from, message);
                }
            }
            PeerBody::Snapshot(_) => {}
        }
    }

    /// Lets everything that the input made possible happen.
    fn advance(&mut self, is_tick: bool) {
        self.follow_leadership();
        self.open_leadership();
        self.apply_chosen(is_tick);
        self.go_on_with_checkpoint();
        self.follow_leadership();
        self.count_for_cut();
        if self.leading.is_some() {
            if self.now.mono_ns >= self.housekeeping_ns {
                self.housekeeping_ns = self.now.mono_ns + HOUSEKEEPING_NS;
                self.housekeeping();
            }
            self.drive_reads();
            self.drive_freezes();
            self.wake();
            self.ask_for_admissions();
            self.propose();
        }
        self.drain_consensus();
        self.flush_routes();
    }

    /// Sums a few more accounts for the cut that was passed last, if it is time.
    fn count_for_cut(&mut self) {
        if !self.ledger.is_scanning() || self.now.mono_ns < self.scan_at_ns {
            return;
        }
        self.scan_at_ns = self.now.mono_ns + SCAN_PAUSE_NS;
        if self.ledger.count_on(self.config.scan_places) && self.leading.is_some() {
            self.drive_cuts();
        }
    }

    /// Applies what is chosen, as far as this step goes. A large entry takes as long as a flush, and for a follower's nobody
    /// waits; the group does for the flush that the step has begun, and for what the inputs behind it ask for.
    fn apply_chosen(&mut self, is_tick: bool) {
        let mut applied = core::mem::take(&mut self.applied);
        let is_awaited = self.leading.is_some() || self.consensus.is_replaying();
        // Behind by more than a pipeline it has to keep pace with what it acknowledges.
        let behind = self.consensus.chosen_upto().0 - self.consensus.applied_upto().0;
        let mut share = ApplyShare {
            takes_any: is_tick || behind > PIPELINE_MAX,
            bytes_left: match is_awaited {
                true => usize::MAX,
                false => self.config.apply_bytes,
            },
        };
        self.is_apply_put_off = false;
        loop {
            // In this order: what a checkpoint freezes may have to be asked for from then on.
            self.begin_checkpoint_if_due();
            if self.checkpoint_holds_apply() || self.is_apply_loading() {
                break;
            }
            let next = self.consensus.peek_chosen().map(Entry::bytes);
            if next.is_some_and(|bytes| !share.takes(bytes)) {
                self.is_apply_put_off = true;
                break;
            }
            if self.load_holds_apply() {
                break;
            }
            let Some((slot, entry)) = self.consensus.next_chosen() else {
                break;
            };
            self.ledger.apply(slot, &entry, &mut applied);
            // A start has loaded the accounts of the whole replay: they stay until it is over. That is no more than the
            // dead process held: what has changed since a checkpoint is in memory until the next.
            if !self.consensus.is_replaying() {
                let in_memory_max = self.config.accounts_in_memory_max;
                self.ledger.forget_accounts(in_memory_max);
            }
            self.clock.observe(self.ledger.last_timestamp());
            if self.leading.is_some() {
                self.distribute(slot, &entry, &applied);
            }
        }
        self.applied = applied;
    }

    /// Takes up or drops what belongs to leadership.
    fn follow_leadership(&mut self) {
        let leading = self.consensus.leading();
        if leading == self.leading {
            return;
        }
        if self.leading.is_some() {
            self.drop_leadership();
        }
        self.leading = leading;
        let Some(ballot) = leading else { return };
        self.coordinator.begin(ballot);
        self.telemetry.begin_anew(self.now);
        self.housekeeping_ns = self.now.mono_ns;
        self.in_doubt_scan_ns = self.now.mono_ns;
    }

    /// Proposes a new leader's first own entry as soon as the inherited ones leave room. It must be
    /// stamped above all of them.
    fn open_leadership(&mut self) {
        let Some(ballot) = self.leading else { return };
        if !self.consensus.needs_opening() {
            return;
        }
        for entry in self.consensus.inherited() {
            self.clock.observe(entry.timestamp());
        }
        let timestamp = self.clock.stamp(self.now);
        self.consensus
            .propose(self.now, Entry::noop(ballot, timestamp));
    }

    /// Answers everyone who waits: what was proposed may still take effect.
    fn drop_leadership(&mut self) {
        for key in self.requests.all() {
            let Some(open) = self.requests.close(key) else {
                continue;
            };
            let denies = planted(Bug::DeposedDenies);
            let code = if denies {
                ResultCode::Contended
            } else {
                ResultCode::Unknown
            };
            // Every other request without rows may be sent again as it is.
            let is_write = matches!(open.pending, Pending::PutDocument);
            let body = match open.pending.cut_short(code) {
                ReplyBody::Unknown if !is_write => self.not_leader(),
                other => other,
            };
            self.reply(open.connection, open.id, body);
        }
        for debit in self.coordinator.clear() {
            if let Some(owned) = self.ledger.account_volatile(debit) {
                (owned.attempts, owned.held) = (0, 0);
            }
        }
        self.participant = Participant::default();
        self.proposals = Proposals::default();
        self.in_flight.clear();
        self.commands_applied = 0;
        self.waiting.clear();
        self.drop_admissions();
        self.reads.clear();
        self.barriers.clear();
        self.cut_requests.clear();
        self.look_ups.clear();
        self.migrations = Migrations::default();
        self.forwarding = Forwarding::default();
        self.telemetry.begin_anew(self.now);
        self.latencies = Latencies::default();
        self.woken.clear();
        for route in &mut self.routes {
            *route = Route::new(route.leader);
        }
    }

    /// Proposes what has gathered: an idle leader at once, a busy one when its flush returns or an
    /// entry is full. Not while as many entries as a pipeline has wait to be applied: what is chosen
    /// may have to wait for the store.
    fn propose(&mut self) {
        let Some(ballot) = self.consensus.serving() else {
            return;
        };
        while !self.proposals.is_empty()
            && self.consensus.can_propose()
            && count(self.in_flight.len()) < PIPELINE_MAX
        {
            let bytes_max = self.config.entry_bytes_max;
            if self.consensus.own_flush_open() && !self.proposals.fills_entry(bytes_max) {
                return;
            }
            let (builder, mut proposed) = self.proposals.take(bytes_max, &self.requests);
            if builder.is_empty() {
                // Only rows that nobody waits for any more. Who waits for the end of all commands
                // waits for those before them.
                match self.in_flight.back_mut() {
                    Some(last) => last.commands_end = proposed.commands_end,
                    None => self.commands_applied = proposed.commands_end,
                }
                continue;
            }
            let timestamp = self.clock.stamp(self.now);
            proposed.slot = self.consensus.propose(
                self.now,
                builder.finish(ballot, timestamp, self.ledger.map_epoch()),
            );
            self.in_flight.push_back(proposed);
        }
    }

    /// Timers of a leader.
    fn housekeeping(&mut self) {
        if self.consensus.serving().is_some() {
            self.expire_waiting();
            self.drive_attempts();
            self.drive_look_ups();
            self.drive_migrations();
            self.drive_forwarding();
            self.drive_cuts();
            self.telemetry
                .tick(self.now, self.config.telemetry_window_ns);
            self.latencies.tick(self.now.mono_ns);
            let changed = self.routes.iter().any(|route| route.changed);
            if changed || self.now.mono_ns >= self.in_doubt_scan_ns {
                self.in_doubt_scan_ns =
                    self.now.mono_ns + self.config.timing.in_doubt_query_after_ns;
                self.query_in_doubt();
                self.acknowledge_resolved();
            }
            for route in &mut self.routes {
                route.changed = false;
            }
        }
        while let Some(key) = self.requests.expired(self.now.mono_ns) {
            let open = self.requests.close(key).expect("it is the first deadline");
            self.reads.remove(&key);
            // The worst of all latencies: who paces himself by them must not take an outage for rest.
            if matches!(open.pending, Pending::Results { .. }) {
                let taken_ns = self.now.mono_ns.saturating_sub(open.opened_ns);
                self.latencies.record(taken_ns);
            }
            self.reply(
                open.connection,
                open.id,
                open.pending.cut_short(ResultCode::Unknown),
            );
        }
        self.drop_idle_barriers();
    }

    fn drain_consensus(&mut self) {
        while let Some(effect) = self.consensus.poll_effect() {
            let output = match effect {
                Effect::Persist { seq, record } => Output::Persist { seq, record },
                Effect::ReadLog {
                    from,
                    upto,
                    bytes_max,
                } => Output::ReadLog {
                    from,
                    upto,
                    bytes_max,
                },
                Effect::ReleaseLog { below } => Output::ReleaseLog { below },
                Effect::WantSnapshot { from } => Output::FetchSnapshot {
                    from: ReplicaAddress {
                        replica: from,
                        ..self.config.address
                    },
                },
                Effect::Rejoined => Output::Rejoined,
                Effect::Stop { reason } => Output::Stop { reason },
                // Followed by comparing ballots, at the beginning and the end of the apply.
                Effect::BecameLeader { .. } | Effect::Deposed { .. } => continue,
                Effect::Send { to, message } => {
                    let to = ReplicaAddress {
                        replica: to,
                        ..self.config.address
                    };
                    self.send(to, PeerBody::Paxos(message));
                    continue;
                }
            };
            self.outputs.push_back(output);
        }
    }

    pub(crate) fn reply(&mut self, connection: ConnectionId, id: RequestId, body: ReplyBody) {
        let reply = Reply {
            id,
            clock: self.clock.last(),
            body,
        };
        self.outputs.push_back(Output::Reply { connection, reply });
    }

    pub(crate) fn not_leader(&self) -> ReplyBody {
        ReplyBody::NotLeader {
            ballot: self.consensus.ballot(),
            leader: self.consensus.leader(),
        }
    }
}

/// What one step may apply.
struct ApplyShare {
    /// One entry, however large.
    takes_any: bool,
    bytes_left: usize,
}

impl ApplyShare {
    fn takes(&mut self, bytes: usize) -> bool {
        let takes = core::mem::take(&mut self.takes_any) || bytes <= self.bytes_left;
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        takes
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).expect("a count fits 64 bits")
}
