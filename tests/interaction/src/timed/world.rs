//! The driver: what is due next, done one step at a time.
//!
//! A step is one delivery, one flush, one message of a client or of the tool; ticks, timers and
//! restarts happen as well but are not counted, and neither are heartbeats, which carry nothing that
//! a scenario is about. A crash takes the process, its unflushed records and, as the [`Fate`] says,
//! its messages in flight.

use std::collections::{BTreeMap, BTreeSet};

use quorate_protocol::client::{Reply, ReplyBody, Request, RequestBody};
use quorate_protocol::ids::{AccountId, ConnectionId, PersistSeq, ReplicaAddress, ShardId, Slot};
use quorate_protocol::message::{PeerBody, PeerMessage};
use quorate_protocol::paxos::message::Message;
use quorate_protocol::time::MS;

use super::asker::Asker;
use super::payer::Payer;
use super::tool::{Plan, Tool};
use crate::cluster::{Cluster, Event, Letter, Shape};
use crate::disk::Unflushed;

const LATENCY_NS: u64 = MS;
const FLUSH_NS: u64 = 2 * MS;
/// Connections of successive lives of the tool start here; payers count from 0.
const TOOL_CONNECTIONS: u64 = 1 << 32;
/// Connections of successive askers start here.
const ASKER_CONNECTIONS: u64 = 1 << 33;

/// What is lost with a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    pub unflushed: Unflushed,
    /// Its messages in flight still arrive.
    pub sent_arrives: bool,
    pub restart_after_ns: u64,
}

/// A replica that its own group does not hear and that does not hear its group, while clients and
/// other shards reach it: a leader goes on believing that it leads, for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// What is sent meanwhile, or was just being sent, arrives when the cut ends.
    pub held: bool,
    pub for_ns: u64,
}

#[derive(Debug)]
enum Post {
    Request {
        connection: ConnectionId,
        to: ReplicaAddress,
        request: Request,
    },
    Reply {
        connection: ConnectionId,
        reply: Reply,
    },
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Deliver {
        number: u64,
        to: ReplicaAddress,
    },
    Flush {
        at: ReplicaAddress,
        upto: PersistSeq,
    },
    Post {
        number: u64,
    },
    Tick {
        at: ReplicaAddress,
    },
    WakePayer {
        index: usize,
    },
    WakeTool,
    WakeAsker,
    Restart {
        at: ReplicaAddress,
    },
}

/// Which accounts a shard owns, by the most advanced of its replicas so far.
#[derive(Debug, Default)]
struct Owned {
    applied: Slot,
    accounts: BTreeSet<AccountId>,
}

/// A cluster in time, with its clients and the tool.
#[derive(Debug)]
pub struct Timed {
    pub cluster: Cluster,
    posts: BTreeMap<u64, (u64, Post)>,
    posted: u64,
    flushes: BTreeMap<ReplicaAddress, (u64, PersistSeq)>,
    restarts: BTreeMap<ReplicaAddress, u64>,
    /// Until when, and whether messages are held rather than lost.
    cuts: BTreeMap<ReplicaAddress, (u64, bool)>,
    payers: Vec<Payer>,
    tool: Option<Tool>,
    tool_lives: u32,
    asker: Option<Asker>,
    asker_lives: u64,
    steps: u64,
    watched: Vec<AccountId>,
    owned: BTreeMap<ShardId, Owned>,
}

impl Timed {
    /// A cluster that has just started, without clients.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self {
            cluster: Cluster::new(shape),
            posts: BTreeMap::new(),
            posted: 0,
            flushes: BTreeMap::new(),
            restarts: BTreeMap::new(),
            cuts: BTreeMap::new(),
            payers: Vec::new(),
            tool: None,
            tool_lives: 0,
            asker: None,
            asker_lives: 0,
            steps: 0,
            watched: Vec::new(),
            owned: BTreeMap::new(),
        }
    }

    /// Counted steps so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The clients, in the order of their adding.
    #[must_use]
    pub fn payers(&self) -> &[Payer] {
        &self.payers
    }

    /// Adds a client.
    pub fn add_payer(&mut self, payer: Payer) {
        self.payers.push(payer);
    }

    /// From now on no two shards may own one of these at once.
    pub fn watch(&mut self, accounts: &[AccountId]) {
        self.watched = accounts.to_vec();
    }

    /// Starts a tool that knows nothing of those before it.
    pub fn start_tool(&mut self, plan: Plan, start_ns: u64) {
        self.tool_lives += 1;
        let replicas = self.cluster.shape().replicas;
        self.tool = Some(Tool::new(plan, self.tool_lives, replicas, start_ns));
    }

    /// Whether a move of the tool is under way.
    #[must_use]
    pub fn tool_has_asked(&self) -> bool {
        self.tool.as_ref().is_some_and(Tool::has_asked)
    }

    /// Whether the tool knows that its plan is carried out.
    #[must_use]
    pub fn tool_is_done(&self) -> bool {
        self.tool.as_ref().is_some_and(Tool::is_done)
    }

    /// Asks the leader of a shard, and lets everything go on until it has answered.
    ///
    /// # Panics
    /// If there is no answer within `patience_ns`.
    pub fn ask(&mut self, shard: ShardId, body: RequestBody, patience_ns: u64) -> ReplyBody {
        let (now_ns, replicas) = (self.cluster.now_ns(), self.cluster.shape().replicas);
        self.asker_lives += 1;
        self.asker = Some(Asker::new(body, shard, replicas, now_ns));
        loop {
            let answer = self.asker.as_ref().and_then(Asker::answer).cloned();
            if let Some(answer) = answer {
                self.asker = None;
                return answer;
            }
            assert!(self.step(now_ns + patience_ns), "no answer of {shard}");
        }
    }

    /// Whether every client knows the end of its order.
    #[must_use]
    pub fn payers_are_done(&self) -> bool {
        self.payers.iter().all(|payer| payer.outcome().is_some())
    }

    /// Whether every replica runs and hears its group.
    #[must_use]
    pub fn is_healed(&self) -> bool {
        let now_ns = self.cluster.now_ns();
        self.restarts.is_empty() && self.cuts.values().all(|&(until_ns, _)| until_ns < now_ns)
    }

    /// Cuts a replica off from its group; the cut ends by itself.
    pub fn cut(&mut self, at: ReplicaAddress, cut: Cut) {
        let until_ns = self.cluster.now_ns() + cut.for_ns;
        self.cuts.insert(at, (until_ns, cut.held));
    }

    /// Ends a process; it comes back by itself.
    pub fn crash(&mut self, at: ReplicaAddress, fate: Fate) {
        self.cluster.crash(at, fate.unflushed);
        self.flushes.remove(&at);
        if !fate.sent_arrives {
            let sent = self.cluster.in_flight().iter().filter(|l| l.from == at);
            let sent: Vec<u64> = sent.map(|letter| letter.number).collect();
            for number in sent {
                self.cluster.drop_letter(number);
            }
        }
        let restart_ns = self.cluster.now_ns() + fate.restart_after_ns;
        self.restarts.insert(at, restart_ns);
    }

    /// Does what is due next, unless that lies behind `end_ns`: then time goes there and it is false.
    pub fn step(&mut self, end_ns: u64) -> bool {
        let Some((due_ns, step)) = self.next() else {
            self.cluster.set_now_ns(end_ns);
            return false;
        };
        if due_ns > end_ns {
            self.cluster.set_now_ns(end_ns);
            return false;
        }
        self.cluster.set_now_ns(due_ns.max(self.cluster.now_ns()));
        self.perform(step);
        true
    }

    /// Runs until a time.
    pub fn run_until(&mut self, end_ns: u64) {
        while self.step(end_ns) {}
    }

    fn next(&self) -> Option<(u64, Step)> {
        let letters = self.cluster.in_flight().iter().map(|letter| {
            let (number, to) = (letter.number, letter.to);
            (self.due_ns(letter), Step::Deliver { number, to })
        });
        let flushes = self.flushes.iter();
        let flush = flushes.map(|(&at, &(due, upto))| (due, Step::Flush { at, upto }));
        let posts = self.posts.iter();
        let post = posts.map(|(&number, &(due, _))| (due, Step::Post { number }));
        let tick = self.cluster.next_tick();
        let tick = tick.map(|(due, at)| (due, Step::Tick { at }));
        let payers = self.payers.iter().enumerate();
        let wake =
            payers.filter_map(|(index, payer)| Some((payer.wake_ns()?, Step::WakePayer { index })));
        let tool = self.tool.as_ref().and_then(Tool::wake_ns);
        let asker = self.asker.as_ref().and_then(Asker::wake_ns);
        let restarts = self.restarts.iter();
        let restart = restarts.map(|(&at, &due)| (due, Step::Restart { at }));
        letters
            .min()
            .into_iter()
            .chain(flush.min())
            .chain(post.min())
            .chain(tick)
            .chain(wake.min())
            .chain(tool.map(|due| (due, Step::WakeTool)))
            .chain(asker.map(|due| (due, Step::WakeAsker)))
            .chain(restart.min())
            .min()
    }

    fn due_ns(&self, letter: &Letter) -> u64 {
        let due_ns = letter.sent_ns + LATENCY_NS;
        match self.cut_off(letter) {
            Some((until_ns, true)) => due_ns.max(until_ns),
            Some((_, false)) | None => due_ns,
        }
    }

    /// The cut that is in a message's way now.
    fn cut_off(&self, letter: &Letter) -> Option<(u64, bool)> {
        let inside = letter.from.shard == letter.to.shard;
        let now_ns = self.cluster.now_ns();
        [letter.from, letter.to]
            .iter()
            .filter_map(|at| self.cuts.get(at).copied())
            .find(|&(until_ns, _)| inside && now_ns < until_ns)
    }

    fn perform(&mut self, step: Step) {
        match step {
            Step::Deliver { number, to } => {
                let mut letters = self.cluster.in_flight().iter();
                let letter = letters.find(|letter| letter.number == number);
                let letter = letter.expect("it was just seen");
                self.steps += u64::from(!is_heartbeat(&letter.message));
                if self.cut_off(letter).is_some() {
                    return self.cluster.drop_letter(number);
                }
                self.cluster.deliver(number);
                if self.cluster.replica(to).is_some() {
                    self.after(to);
                }
            }
            Step::Flush { at, upto } => {
                self.steps += 1;
                self.flushes.remove(&at);
                self.cluster.flush(at, upto);
                self.after(at);
            }
            Step::Post { number } => {
                self.steps += 1;
                let (_, post) = self.posts.remove(&number).expect("it was just seen");
                self.arrive(post);
            }
            Step::Tick { at } => {
                self.cluster.tick(at);
                self.after(at);
            }
            Step::WakePayer { index } => {
                let now_ns = self.cluster.now_ns();
                let (to, request) = self.payers[index].wake(now_ns);
                let connection = ConnectionId(u64::try_from(index).expect("few clients"));
                self.post(Post::Request {
                    connection,
                    to,
                    request,
                });
            }
            Step::WakeTool => {
                let now_ns = self.cluster.now_ns();
                let tool = self.tool.as_mut().expect("it was just seen");
                let (to, request) = tool.wake(now_ns);
                let connection = self.tool_connection();
                self.post(Post::Request {
                    connection,
                    to,
                    request,
                });
            }
            Step::WakeAsker => {
                let now_ns = self.cluster.now_ns();
                let asker = self.asker.as_mut().expect("it was just seen");
                let (to, request) = asker.wake(now_ns);
                let connection = self.asker_connection();
                self.post(Post::Request {
                    connection,
                    to,
                    request,
                });
            }
            Step::Restart { at } => {
                self.restarts.remove(&at);
                self.cluster.start(at);
                self.after(at);
            }
        }
    }

    fn arrive(&mut self, post: Post) {
        let now_ns = self.cluster.now_ns();
        match post {
            Post::Request {
                connection,
                to,
                request,
            } => {
                if self.cluster.replica(to).is_some() {
                    self.cluster.ask(to, connection, request);
                    self.after(to);
                }
            }
            Post::Reply { connection, reply } if connection.0 < TOOL_CONNECTIONS => {
                let index = usize::try_from(connection.0).expect("few clients");
                self.payers[index].hear(now_ns, reply);
            }
            Post::Reply { connection, reply } if connection.0 >= ASKER_CONNECTIONS => {
                if connection == self.asker_connection()
                    && let Some(asker) = &mut self.asker
                {
                    asker.hear(now_ns, reply);
                }
            }
            Post::Reply { connection, reply } => {
                // A reply to an earlier life of the tool finds nobody.
                if connection == self.tool_connection()
                    && let Some(tool) = &mut self.tool
                {
                    tool.hear(now_ns, reply);
                }
            }
        }
    }

    /// Takes up what a step of a replica led to.
    fn after(&mut self, at: ReplicaAddress) {
        for event in self.cluster.take_events() {
            match event {
                Event::Replied {
                    connection, reply, ..
                } => self.post(Post::Reply { connection, reply }),
                Event::Stopped { at, reason } => panic!("{at} stopped: {reason:?}"),
                Event::Sent(_)
                | Event::Logged { .. }
                | Event::Flushed { .. }
                | Event::ReadBack { .. } => {}
            }
        }
        if let Some(upto) = self.cluster.last_appended(at)
            && !self.flushes.contains_key(&at)
        {
            let due_ns = self.cluster.now_ns() + FLUSH_NS;
            self.flushes.insert(at, (due_ns, upto));
        }
        self.check_owners(at);
    }

    fn post(&mut self, post: Post) {
        self.posted += 1;
        let due_ns = self.cluster.now_ns() + LATENCY_NS;
        self.posts.insert(self.posted, (due_ns, post));
    }

    fn tool_connection(&self) -> ConnectionId {
        ConnectionId(TOOL_CONNECTIONS + u64::from(self.tool_lives))
    }

    fn asker_connection(&self) -> ConnectionId {
        ConnectionId(ASKER_CONNECTIONS + self.asker_lives)
    }

    /// By the most advanced replica of each shard, nothing is owned twice, at any step.
    fn check_owners(&mut self, at: ReplicaAddress) {
        let ledger = self.cluster.replica(at).expect("it has stepped").ledger();
        let known = self.owned.entry(at.shard).or_default();
        if self.watched.is_empty() || ledger.applied() <= known.applied {
            return;
        }
        known.applied = ledger.applied();
        let here = |id: &&AccountId| ledger.account(**id).is_some();
        known.accounts = self.watched.iter().filter(here).copied().collect();
        for account in &self.watched {
            let owners = self.owned.iter();
            let owners = owners.filter(|(_, owned)| owned.accounts.contains(account));
            let owners: Vec<ShardId> = owners.map(|(shard, _)| *shard).collect();
            assert!(
                owners.len() <= 1,
                "account {account} is owned by {owners:?}"
            );
        }
    }
}

fn is_heartbeat(message: &PeerMessage) -> bool {
    matches!(
        message.body,
        PeerBody::Paxos(Message::Heartbeat { .. } | Message::HeartbeatReply { .. })
    )
}
