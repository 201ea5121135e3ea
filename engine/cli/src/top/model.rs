//! What is known of the cluster, out of what polls have found. Pure: no clock, no socket, no screen.
//!
//! Rates come from counters of two polls, and only where both are the same leader's of the same ballot: a new leader counts
//! from zero. What nobody has told is `None`, and the screen says `n/a`. Of a replica that is silent the
//! moment of its last answer is kept and nothing else: old positions would look like new ones.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use quorate_client::reshard::record::{self, Record};
use quorate_config::ClusterConfig;
use quorate_protocol::client::{Role, Status};
use quorate_protocol::ids::{Ballot, ClusterId, NodeId, ReplicaAddress, ReplicaId, ShardId};

use super::sample::{Answer, CoreTicks, Sample};
use super::series::Series;

/// Events kept; more fit no screen.
const EVENTS_MAX: usize = 200;

/// The whole cluster, as of the newest poll.
#[derive(Clone, Debug)]
pub struct Model {
    pub cluster: ClusterId,
    pub interval: Duration,
    /// Time of the screen: ages are counted from here.
    pub now: Duration,
    /// When the newest poll was complete.
    pub polled: Option<Duration>,
    /// In the order of their ids.
    pub nodes: Vec<Node>,
    /// In the order of the topology.
    pub replicas: Vec<Replica>,
    pub shards: Vec<Shard>,
    pub throughput: Series,
    pub p99_us: Series,
    /// In thousandths.
    pub cross_share: Series,
    pub in_doubt: Series,
    pub plan: Plan,
    /// What was told of a plan for the last time: no plan, or its number and status.
    plan_told: Option<Option<(u64, record::Status)>>,
    pub cores: Vec<Core>,
    /// Newest first.
    pub events: VecDeque<Event>,
}

/// One process.
#[derive(Clone, Debug)]
pub struct Node {
    pub id: NodeId,
    /// It listens on a loopback address, so that its CPUs are those of this host.
    pub is_local: bool,
    /// Whether one of its replicas answered; `None` before the first poll.
    pub up: Option<bool>,
    /// When one of them did for the last time.
    pub answered: Option<Duration>,
}

/// One replica.
#[derive(Clone, Debug)]
pub struct Replica {
    pub address: ReplicaAddress,
    pub node: NodeId,
    /// What it said in the newest poll.
    pub status: Option<Status>,
    /// Why it said nothing.
    pub silence: String,
    pub answered: Option<Duration>,
}

/// One shard, as its leader tells.
#[derive(Clone, Debug)]
pub struct Shard {
    pub id: ShardId,
    /// Who leads now: of several that say so the one with the highest ballot.
    pub leader: Option<Leader>,
    /// Who led for the last time.
    led: Option<(ReplicaId, Ballot)>,
    /// Times that another replica than before was found leading.
    pub leader_changes: u32,
    /// Times that another ballot than before was found leading.
    pub ballot_changes: u32,
    counters: Option<Counters>,
    /// Between the last two polls.
    pub rate: Option<Rate>,
    /// Since when each poll has found something in doubt.
    pub in_doubt_since: Option<Duration>,
}

/// What the leader says.
#[derive(Clone, Copy, Debug)]
pub struct Leader {
    pub replica: ReplicaId,
    pub node: NodeId,
    pub ballot: Ballot,
    pub serving: bool,
    /// Of the last second; `None` if it answered no request.
    pub p99_us: Option<u64>,
    pub in_doubt: u64,
    pub accounts: u64,
    pub transfers: u64,
}

/// Committed under one leader, and when it said so.
#[derive(Clone, Copy, Debug)]
struct Counters {
    at: Duration,
    leader: (ReplicaId, Ballot),
    local: u64,
    cross: u64,
}

/// Committed transfers between two polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u64,
    pub local: u64,
    pub cross: u64,
}

/// The throughput of all shards of which it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    pub per_second: u64,
    pub shards: usize,
}

/// Moves of accounts.
#[derive(Clone, Debug)]
pub enum Plan {
    /// Nobody told, and why.
    Unknown(String),
    None,
    /// The plan of now, or the last one.
    Known(Box<Record>),
}

/// One CPU of this host that carries replicas.
#[derive(Clone, Debug)]
pub struct Core {
    pub core: usize,
    pub replicas: Vec<ReplicaAddress>,
    ticks: Option<CoreTicks>,
    /// In thousandths, between the last two polls.
    pub busy: Option<u64>,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Event {
    pub at: Duration,
    pub grade: Grade,
    pub text: String,
}

/// What an event means for those who are on duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    Good,
    Notable,
    Bad,
}

impl Model {
    /// Of this cluster, of which nothing is known yet.
    #[must_use]
    pub fn new(config: &ClusterConfig, interval: Duration) -> Self {
        let nodes = config.nodes().map(|node| Node {
            id: node.id,
            is_local: node.address.is_loopback(),
            up: None,
            answered: None,
        });
        let replicas = config.all_replicas().map(|address| Replica {
            address,
            node: config.node_of(address).id,
            status: None,
            silence: String::new(),
            answered: None,
        });
        Self {
            cluster: config.cluster_id,
            interval,
            now: Duration::ZERO,
            polled: None,
            nodes: nodes.collect(),
            replicas: replicas.collect(),
            shards: config.shard_ids().map(Shard::new).collect(),
            throughput: Series::default(),
            p99_us: Series::default(),
            cross_share: Series::default(),
            in_doubt: Series::default(),
            plan: Plan::Unknown("not asked yet".to_owned()),
            plan_told: None,
            cores: local_cores(config),
            events: VecDeque::new(),
        }
    }

    /// Lets the time of the screen go on.
    pub fn tick(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// Takes in what a poll has found.
    ///
    /// # Panics
    /// If the poll was of another cluster.
    pub fn absorb(&mut self, sample: Sample) {
        assert_eq!(sample.answers.len(), self.replicas.len(), "one topology");
        let at = sample.at;
        self.tick(at);
        let epoch_before = self.epoch();
        let answered: Vec<Duration> = sample.answers.iter().map(|answer| answer.at).collect();
        for (index, answer) in sample.answers.into_iter().enumerate() {
            self.absorb_answer(index, answer);
        }
        for index in 0..self.shards.len() {
            self.absorb_shard(index, at, &answered);
        }
        // Behind the shards, so that the cause stands above what came of it.
        self.absorb_nodes(at);
        if let (Some(before), Some(epoch)) = (epoch_before, self.epoch())
            && before != epoch
        {
            self.note(at, Grade::Notable, format!("the map is at epoch {epoch}"));
        }
        self.absorb_plan(at, sample.plan);
        for core in &mut self.cores {
            core.absorb(&sample.cores);
        }
        self.throughput
            .push(at, self.total().map(|total| total.per_second));
        self.p99_us.push(at, self.worst_p99().map(|(us, _)| us));
        self.cross_share.push(at, self.cross_share_now());
        self.in_doubt.push(at, self.in_doubt_now());
        self.polled = Some(at);
    }

    /// Nodes of which a replica answered.
    #[must_use]
    pub fn nodes_up(&self) -> Option<usize> {
        self.polled?;
        Some(self.nodes.iter().filter(|it| it.up == Some(true)).count())
    }

    /// Shards with a leader that serves.
    #[must_use]
    pub fn shards_serving(&self) -> Option<usize> {
        self.polled?;
        Some(self.shards.iter().filter(|it| it.serves()).count())
    }

    /// The throughput of the shards of which it is known; `None` if it is of none.
    #[must_use]
    pub fn total(&self) -> Option<Total> {
        let rates: Vec<Rate> = self.shards.iter().filter_map(|it| it.rate).collect();
        (!rates.is_empty()).then(|| Total {
            per_second: rates.iter().map(|rate| rate.per_second).sum(),
            shards: rates.len(),
        })
    }

    /// The highest p99 of a leader in the last second, and whose it is.
    #[must_use]
    pub fn worst_p99(&self) -> Option<(u64, ShardId)> {
        let of = |shard: &Shard| Some((shard.leader?.p99_us?, shard.id));
        self.shards.iter().filter_map(of).max_by_key(|&(us, _)| us)
    }

    /// Of what was committed between the last two polls, in thousandths; `None` if nothing was.
    #[must_use]
    pub fn cross_share_now(&self) -> Option<u64> {
        let rates = || self.shards.iter().filter_map(|it| it.rate);
        let cross: u64 = rates().map(|rate| rate.cross).sum();
        per_mille(cross, cross + rates().map(|rate| rate.local).sum::<u64>())
    }

    /// As far as leaders tell; `None` if a shard has none.
    #[must_use]
    pub fn in_doubt_now(&self) -> Option<u64> {
        let each = self.shards.iter().map(|it| Some(it.leader?.in_doubt));
        each.sum()
    }

    /// Accounts of all shards; `None` if one has no leader.
    #[must_use]
    pub fn accounts(&self) -> Option<u64> {
        let each = self.shards.iter().map(|it| Some(it.leader?.accounts));
        each.sum()
    }

    /// The sum of the shards' epochs, each as of its furthest replica; `None` if a shard is silent.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        let of = |shard: &Shard| {
            let statuses = self.statuses_of(shard.id);
            statuses.map(|(_, status)| u64::from(status.epoch)).max()
        };
        self.shards.iter().map(of).sum()
    }

    /// Entries that the replica knows to be chosen and has not applied, and those that its leader knows and it does not.
    #[must_use]
    pub fn lag(&self, replica: &Replica) -> (Option<u64>, Option<u64>) {
        let Some(status) = &replica.status else {
            return (None, None);
        };
        let to_apply = status.chosen_upto.0.saturating_sub(status.applied_upto.0);
        let leader = self.shard(replica.address.shard).and_then(|it| it.leader);
        let chosen = leader.and_then(|leader| {
            let mut statuses = self.statuses_of(replica.address.shard);
            let (_, status) = statuses.find(|(it, _)| it.address.replica == leader.replica)?;
            Some(status.chosen_upto.0)
        });
        let behind = chosen.map(|chosen| chosen.saturating_sub(status.chosen_upto.0));
        (Some(to_apply), behind)
    }

    /// Whether any replica answered the newest poll.
    #[must_use]
    pub fn anybody_answers(&self) -> bool {
        self.replicas.iter().any(|it| it.status.is_some())
    }

    fn shard(&self, id: ShardId) -> Option<&Shard> {
        self.shards.iter().find(|it| it.id == id)
    }

    fn statuses_of(&self, shard: ShardId) -> impl Iterator<Item = (&Replica, &Status)> {
        let members = self.replicas.iter();
        let members = members.filter(move |it| it.address.shard == shard);
        members.filter_map(|it| Some((it, it.status.as_ref()?)))
    }

    fn absorb_answer(&mut self, index: usize, answer: Answer) {
        let replica = &mut self.replicas[index];
        let is_stopped = |status: &Option<Status>| {
            let status = status.as_ref();
            status.is_some_and(|status| status.role == Role::Stopped)
        };
        let was_stopped = is_stopped(&replica.status);
        match answer.status {
            Ok(status) => {
                replica.status = Some(status);
                replica.silence.clear();
                replica.answered = Some(answer.at);
            }
            Err(silence) => {
                replica.status = None;
                replica.silence = silence;
            }
        }
        if let Some(status) = &replica.status
            && status.role == Role::Stopped
            && !was_stopped
        {
            let text = format!("{} is out of service: {}", replica.address, status.reason);
            self.note(answer.at, Grade::Bad, text);
        }
    }

    fn absorb_nodes(&mut self, at: Duration) {
        let mut events = Vec::new();
        for node in &mut self.nodes {
            let mut hosted = self.replicas.iter().filter(|it| it.node == node.id);
            let answered = hosted.clone().filter_map(|it| it.answered).max();
            let is_up = hosted.clone().any(|it| it.status.is_some());
            match (node.up, is_up) {
                (None | Some(true), false) => {
                    let why = hosted.next().map_or("", |it| &it.silence);
                    events.push((Grade::Bad, format!("node {} is down: {why}", node.id)));
                }
                (Some(false), true) => {
                    let silent = node.answered.map(|last| at.saturating_sub(last));
                    let silent = silent.map_or_else(String::new, |silent| {
                        format!(" after {}", super::format::age(silent))
                    });
                    let text = format!("node {} is up again{silent}", node.id);
                    events.push((Grade::Good, text));
                }
                (None | Some(true), true) | (Some(false), false) => {}
            }
            node.up = Some(is_up);
            node.answered = answered;
        }
        for (grade, text) in events {
            self.note(at, grade, text);
        }
    }

    fn absorb_shard(&mut self, index: usize, at: Duration, answered: &[Duration]) {
        let id = self.shards[index].id;
        let leaders = self.replicas.iter().zip(answered);
        let leaders = leaders.filter_map(|(it, &then)| {
            let status = it.status.as_ref().filter(|_| it.address.shard == id)?;
            (status.role == Role::Leader).then_some((it.node, status, then))
        });
        let leading = leaders.max_by_key(|(_, status, _)| status.ballot);
        let is_first_poll = self.polled.is_none();
        let shard = &mut self.shards[index];
        let event = match leading {
            None => shard.lose_leader(is_first_poll),
            Some((node, status, then)) => shard.follow(node, status, then, at),
        };
        if let Some((grade, text)) = event {
            self.note(at, grade, text);
        }
    }

    fn absorb_plan(&mut self, at: Duration, plan: Result<Option<Record>, String>) {
        if let Ok(known) = &plan {
            let now = known.as_ref().map(|it| (it.number, it.status));
            let before = self.plan_told.replace(now);
            if let Some(record) = known
                && is_news(before, record)
            {
                let (grade, text) = plan_event(record);
                self.note(at, grade, text);
            }
        }
        self.plan = match plan {
            Ok(Some(record)) => Plan::Known(Box::new(record)),
            Ok(None) => Plan::None,
            Err(reason) => Plan::Unknown(reason),
        };
    }

    fn note(&mut self, at: Duration, grade: Grade, text: String) {
        self.events.push_front(Event { at, grade, text });
        self.events.truncate(EVENTS_MAX);
    }
}

impl Shard {
    fn new(id: ShardId) -> Self {
        Self {
            id,
            leader: None,
            led: None,
            leader_changes: 0,
            ballot_changes: 0,
            counters: None,
            rate: None,
            in_doubt_since: None,
        }
    }

    /// Whether it has a leader that serves.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.leader.is_some_and(|leader| leader.serving)
    }

    /// Nobody leads. Counters stay: if the same leader answers again under the same ballot, it has gone on counting.
    fn lose_leader(&mut self, is_first_poll: bool) -> Option<(Grade, String)> {
        let had = self.leader.take();
        self.rate = None;
        self.in_doubt_since = None;
        (had.is_some() || is_first_poll)
            .then(|| (Grade::Bad, format!("shard {} has no leader", self.id)))
    }

    /// Takes in what a leader said `then`, and tells what is new about that.
    fn follow(
        &mut self,
        node: NodeId,
        status: &Status,
        then: Duration,
        at: Duration,
    ) -> Option<(Grade, String)> {
        let had = self.leader;
        let counters = Counters {
            at: then,
            leader: (status.replica, status.ballot),
            local: status.committed_local,
            cross: status.committed_cross,
        };
        self.rate = self.counters.and_then(|before| counters.since(&before));
        self.counters = Some(counters);
        self.in_doubt_since = match status.in_doubt {
            0 => None,
            1.. => self.in_doubt_since.or(Some(at)),
        };
        self.leader = Some(Leader {
            replica: status.replica,
            node,
            ballot: status.ballot,
            serving: status.serving,
            p99_us: (status.latency.requests > 0).then(|| status.latency.p99_us.into()),
            in_doubt: status.in_doubt,
            accounts: status.accounts,
            transfers: status.transfers,
        });
        let now = (status.replica, status.ballot);
        let before = self.led.replace(now)?;
        let (id, ballot) = (self.id, status.ballot);
        let leads = format!("shard {id}: r{} on node {node} leads", status.replica);
        self.ballot_changes += u32::from(before.1 != ballot);
        if before.0 != status.replica {
            self.leader_changes += 1;
            let text = format!("{leads} with ballot {ballot}, r{} before", before.0);
            return Some((Grade::Notable, text));
        }
        if before.1 != ballot {
            let text = format!("{leads} again, with ballot {ballot} after {}", before.1);
            return Some((Grade::Notable, text));
        }
        had.is_none()
            .then(|| (Grade::Good, format!("{leads} as before")))
    }
}

impl Counters {
    /// What was committed since; `None` if the counters are of another leader, or do not follow on each other.
    fn since(&self, before: &Self) -> Option<Rate> {
        if self.leader != before.leader {
            return None;
        }
        let local = self.local.checked_sub(before.local)?;
        let cross = self.cross.checked_sub(before.cross)?;
        let elapsed = self.at.checked_sub(before.at)?.as_nanos();
        let committed = u128::from(local) + u128::from(cross);
        let per_second = (committed * 1_000_000_000 + elapsed / 2).checked_div(elapsed)?;
        Some(Rate {
            per_second: u64::try_from(per_second).ok()?,
            local,
            cross,
        })
    }
}

impl Core {
    fn absorb(&mut self, ticks: &[CoreTicks]) {
        let now = ticks.iter().find(|it| it.core == self.core).copied();
        self.busy = now.zip(self.ticks).and_then(|(now, before)| {
            let busy = now.busy.checked_sub(before.busy)?;
            per_mille(busy, now.total.checked_sub(before.total)?)
        });
        self.ticks = now;
    }
}

/// What had ended before this program began is no news.
fn is_news(before: Option<Option<(u64, record::Status)>>, record: &Record) -> bool {
    match before {
        None => !record.status.has_ended(),
        Some(before) => before != Some((record.number, record.status)),
    }
}

fn plan_event(record: &Record) -> (Grade, String) {
    let (number, status) = (record.number, record.status.name());
    match (&record.reason, record.status) {
        (Some(reason), _) => (Grade::Bad, format!("plan {number} is {status}: {reason}")),
        (None, record::Status::Done) => (Grade::Good, format!("plan {number} is {status}")),
        (None, _) => (Grade::Notable, format!("plan {number} is {status}")),
    }
}

/// `None` if there is no whole to be a part of.
fn per_mille(part: u64, whole: u64) -> Option<u64> {
    (part * 1_000).checked_div(whole)
}

/// CPUs of this host with the replicas that they carry.
fn local_cores(config: &ClusterConfig) -> Vec<Core> {
    let mut cores = BTreeMap::<usize, Vec<ReplicaAddress>>::new();
    let is_local = |replica: &ReplicaAddress| config.node_of(*replica).address.is_loopback();
    for replica in config.all_replicas().filter(is_local) {
        cores
            .entry(config.core_of(replica))
            .or_default()
            .push(replica);
    }
    let cores = cores.into_iter().map(|(core, replicas)| Core {
        core,
        replicas,
        ticks: None,
        busy: None,
    });
    cores.collect()
}
