//! A client on the wire: batches jobs into requests, follows redirects, retries with the same ids,
//! loses patience, and forgets what it was told to forget.
//!
//! It is not the client library of the engine: the two must be able to disagree. What it was told
//! goes into the [`History`].

use std::collections::{BTreeMap, BTreeSet};

use quorate_protocol::client::{
    AccountAnswer, CutAnswer, HistoryAnswer, MapPlace, MoveAnswer, Reply, ReplyBody, Request,
    TransferAnswer,
};
use quorate_protocol::ids::{
    AccountId, ConnectionId, ReplicaAddress, ReplicaId, RequestId, ShardId,
};
use quorate_protocol::ledger::{Account, CodeKind, ResultCode, ResultRow};
use quorate_protocol::shard::map::Placement;
use quorate_protocol::time::{MS, Timestamp};
use quorate_protocol::txn::record::RouteRow;

use crate::counters::Counters;
use crate::documents;
use crate::history::{Answer, History, ReadAnswer, ReadUse};
use crate::job::{Job, Want, request_body};
use crate::random::Stream;

/// Rows that an auditing request carries at most.
const AUDIT_ROWS_MAX: usize = 256;

/// Names of this module's counters.
pub const FAULT_NAMES: [&str; 5] = [
    "client_abandoned",
    "client_ahead_of_shard",
    "client_answered_busy",
    "client_retried",
    "client_took_no_for_an_answer",
];

/// What a client wants from the world.
#[derive(Debug)]
pub enum ClientEffect {
    Send {
        to: ReplicaAddress,
        connection: ConnectionId,
        request: Request,
    },
    /// The client closes a connection.
    Close {
        to: ReplicaAddress,
        connection: ConnectionId,
    },
}

/// What an audit found.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    pub listed: Vec<(ShardId, AccountId)>,
    pub accounts: Vec<(ShardId, Account)>,
    pub records: Vec<(ShardId, TransferAnswer)>,
    /// What shards said of where accounts went.
    pub told: Vec<(ShardId, RouteRow)>,
    pub problems: Vec<String>,
}

/// What a client needs to know of its cluster.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    pub number: u64,
    pub shards: u32,
    pub replicas: u8,
    pub placement: Placement,
    pub patience_ns: u64,
    pub abandon_ppm: u32,
    pub give_up_ppm: u32,
    pub wander_ppm: u32,
    pub batch_max: usize,
}

struct OpenRequest {
    connection: ConnectionId,
    target: ReplicaAddress,
    jobs: Vec<Job>,
    sent_ns: u64,
    give_up_ns: u64,
}

/// One client.
pub struct Client {
    settings: ClientSettings,
    stream: Stream,
    /// Where accounts were seen last, if not at home.
    locations: BTreeMap<AccountId, ShardId>,
    leaders: BTreeMap<ShardId, ReplicaId>,
    connections: BTreeMap<ReplicaAddress, ConnectionId>,
    connections_made: u64,
    requests_made: u64,
    seen: Timestamp,
    waiting: Vec<Job>,
    open: BTreeMap<RequestId, OpenRequest>,
    /// Cuts that some shard refused, or that were let go.
    cuts_failed: BTreeSet<usize>,
    pub cuts_registered: BTreeMap<usize, usize>,
    /// Final answers to moves that did not go through.
    pub move_answers: BTreeMap<usize, MoveAnswer>,
    pub audit: Audit,
    /// What it did that an engine has to bear, by name.
    pub faults: Counters,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.settings.number)
    }
}

impl Client {
    /// A client without connections.
    #[must_use]
    pub fn new(settings: ClientSettings, stream: Stream) -> Self {
        Self {
            settings,
            stream,
            locations: BTreeMap::new(),
            leaders: BTreeMap::new(),
            connections: BTreeMap::new(),
            connections_made: 0,
            requests_made: 0,
            seen: Timestamp::ZERO,
            waiting: Vec::new(),
            open: BTreeMap::new(),
            cuts_failed: BTreeSet::new(),
            cuts_registered: BTreeMap::new(),
            move_answers: BTreeMap::new(),
            audit: Audit::default(),
            faults: Counters::with_names(&FAULT_NAMES),
        }
    }

    /// Where the client believes an account to live.
    #[must_use]
    pub fn location(&self, account: AccountId) -> ShardId {
        let home = || self.settings.placement.home(account, self.settings.shards);
        self.locations.get(&account).copied().unwrap_or_else(home)
    }

    /// The highest timestamp that it was shown.
    #[must_use]
    pub fn seen(&self) -> Timestamp {
        self.seen
    }

    /// It has heard from somebody who leads a shard.
    pub fn hear_of_leader(&mut self, leader: ReplicaAddress) {
        self.leaders.insert(leader.shard, leader.replica);
    }

    /// Takes a job.
    pub fn submit(&mut self, job: Job) {
        self.waiting.push(job);
    }

    /// Jobs that are not finished.
    #[must_use]
    pub fn jobs_open(&self) -> usize {
        let sent: usize = self.open.values().map(|request| request.jobs.len()).sum();
        sent + self.waiting.len()
    }

    /// The jobs themselves, for reports.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        let sent = self.open.values().flat_map(|request| &request.jobs);
        sent.chain(&self.waiting)
    }

    /// Whether a cut can still succeed.
    #[must_use]
    pub fn cut_alive(&self, cut: usize) -> bool {
        !self.cuts_failed.contains(&cut)
    }

    /// When it wants to be woken next.
    #[must_use]
    pub fn deadline_ns(&self) -> Option<u64> {
        let due = self.waiting.iter().map(|job| job.due_ns);
        let patience = self.open.values().map(|request| request.give_up_ns);
        due.chain(patience).min()
    }

    /// Gives up on late requests and sends what is due.
    pub fn wake(&mut self, now_ns: u64, history: &mut History) -> Vec<ClientEffect> {
        let mut effects = Vec::new();
        let late: Vec<RequestId> = self
            .open
            .iter()
            .filter(|(_, request)| request.give_up_ns <= now_ns)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            let request = self.open.remove(&id).expect("listed above");
            self.try_another(request.target);
            self.close(request.target, request.connection, &mut effects);
            self.retry_unsure(request.jobs, now_ns);
        }
        self.send_due(now_ns, history, &mut effects);
        effects
    }

    /// Its process dies and another one begins, which knows nothing: neither where accounts live, nor
    /// who leads, nor what was asked. Numbers of connections and requests go on, so that nothing that
    /// comes late is taken for an answer.
    pub fn die(&mut self) -> Vec<ClientEffect> {
        self.open.clear();
        self.waiting.clear();
        self.locations.clear();
        self.leaders.clear();
        self.cuts_registered.clear();
        self.move_answers.clear();
        self.seen = Timestamp::ZERO;
        std::mem::take(&mut self.connections)
            .into_iter()
            .map(|(to, connection)| ClientEffect::Close { to, connection })
            .collect()
    }

    /// Takes a reply. Replies to requests that it gave up on are ignored.
    pub fn receive(&mut self, now_ns: u64, reply: Reply, history: &mut History) {
        self.seen = self.seen.max(reply.clock);
        let Some(request) = self.open.remove(&reply.id) else {
            return;
        };
        match reply.body {
            ReplyBody::Results(rows) if rows.len() == request.jobs.len() => {
                let rows = request.jobs.into_iter().zip(rows.iter());
                let again = rows.filter_map(|(job, row)| self.result(now_ns, job, row, history));
                let again = again.collect();
                self.retry_all(again, now_ns);
            }
            ReplyBody::Accounts(answers) if answers.len() == request.jobs.len() => {
                for (job, answer) in request.jobs.into_iter().zip(answers) {
                    self.account(now_ns, request.sent_ns, job, answer, history);
                }
            }
            ReplyBody::Transfers(answers) if answers.len() == request.jobs.len() => {
                let shard = request.target.shard;
                let answers = answers.into_iter().map(|answer| (shard, answer));
                self.audit.records.extend(answers);
            }
            ReplyBody::History(answer) => self.history_page(now_ns, request, answer, history),
            // Its clock is behind that of whoever asked: nothing was done, and nothing is.
            ReplyBody::BadRequest(text) if is_ahead(&request.jobs, &text) => {
                self.faults.add("client_ahead_of_shard");
            }
            ReplyBody::AccountList(ids) => self.listed(request.target.shard, &ids),
            ReplyBody::MapChanges {
                rows,
                next,
                has_more,
            } => self.map_changes(&request, &rows, next, has_more),
            ReplyBody::Move(answer) => self.moved(now_ns, request.jobs, answer, history),
            ReplyBody::Cut(answer) => self.cut(now_ns, request, answer, history),
            body @ (ReplyBody::PutDocument(_) | ReplyBody::Document(_)) => {
                self.document(now_ns, &request.jobs, body, history);
            }
            ReplyBody::Done => {}
            ReplyBody::NotLeader { leader, .. } => {
                match leader {
                    Some(leader) if leader != request.target.replica => {
                        self.leaders.insert(request.target.shard, leader);
                    }
                    Some(_) | None => self.try_another(request.target),
                }
                self.retry_all(request.jobs, now_ns);
            }
            ReplyBody::Busy => {
                // A transfer of leadership that is not possible is answered in the same way.
                if !matches!(request.jobs[0].want, Want::Lead(_)) {
                    self.faults.add("client_answered_busy");
                }
                self.retry_all(request.jobs, now_ns);
            }
            ReplyBody::Unknown => self.retry_unsure(request.jobs, now_ns),
            body @ (ReplyBody::Results(_)
            | ReplyBody::Accounts(_)
            | ReplyBody::Transfers(_)
            | ReplyBody::Status(_)
            | ReplyBody::InDoubt(_)
            | ReplyBody::Pairs { .. }
            | ReplyBody::Operations { .. }
            | ReplyBody::Documents(_)
            | ReplyBody::BadRequest(_)) => {
                let problem = format!("{:?} was answered {body:?}", request.jobs);
                self.audit.problems.push(problem);
            }
        }
    }

    /// A connection turned out to be dead: its requests go out again on a new one.
    pub fn reset(&mut self, target: ReplicaAddress, connection: ConnectionId) {
        if self.connections.get(&target) == Some(&connection) {
            self.connections.remove(&target);
            self.give_up_all(connection);
        }
    }

    /// Takes the answer to one row; gives the job back if it has to be tried again.
    fn result(
        &mut self,
        now_ns: u64,
        mut job: Job,
        row: &ResultRow,
        history: &mut History,
    ) -> Option<Job> {
        let Some(code) = row.result() else {
            let problem = format!("{job:?}: unknown code {}", row.code);
            self.audit.problems.push(problem);
            return None;
        };
        let is_final = code.kind() != CodeKind::Unlogged || code == ResultCode::IdFromTheFuture;
        if !is_final {
            job.is_unsure |= code == ResultCode::Unknown;
            if self.takes_no(&job, code) {
                self.faults.add("client_took_no_for_an_answer");
                if let Want::Transfer(number) = job.want {
                    history.transfers[number].denied = true;
                }
                return None;
            }
            if code == ResultCode::Moved {
                job.shard = row.shard;
                if let Want::Transfer(number) = job.want {
                    let account = history.transfers[number].transfer.debit_account_id;
                    self.locations.insert(account, row.shard);
                }
            }
            return Some(job);
        }
        let answer = Some(Answer {
            at_ns: now_ns,
            code,
            timestamp: row.timestamp,
        });
        match job.want {
            Want::Create(number) => history.creations[number].answer = answer,
            Want::Transfer(number) => history.transfers[number].answer = answer,
            _ => self
                .audit
                .problems
                .push(format!("{job:?} was answered {code:?}")),
        }
        None
    }

    /// Whether the client leaves it at an answer that nothing was done: only if all answers were such.
    fn takes_no(&mut self, job: &Job, code: ResultCode) -> bool {
        let ppm = self.settings.give_up_ppm;
        ppm > 0
            && matches!(code, ResultCode::Busy | ResultCode::Contended)
            && matches!(job.want, Want::Transfer(_))
            && !job.is_unsure
            && self.stream.chance(ppm)
    }

    fn account(
        &mut self,
        now_ns: u64,
        sent_ns: u64,
        mut job: Job,
        answer: AccountAnswer,
        history: &mut History,
    ) {
        let found = match answer {
            AccountAnswer::Found(account) => Some(account),
            AccountAnswer::NotFound => None,
            AccountAnswer::Moved(shard) => {
                job.shard = shard;
                match job.want {
                    Want::Read(number) => {
                        self.locations.insert(history.reads[number].account, shard);
                        self.retry(job, now_ns);
                    }
                    _ => self
                        .audit
                        .problems
                        .push(format!("{job:?}: listed, but moved to {shard}")),
                }
                return;
            }
            AccountAnswer::Contended => return self.retry(job, now_ns),
        };
        match (job.want, found) {
            (Want::Read(number), account) => {
                history.reads[number].started_ns = sent_ns;
                history.reads[number].answer = Some(ReadAnswer {
                    at_ns: now_ns,
                    account,
                });
            }
            (Want::Inspect(_), Some(account)) => self.audit.accounts.push((job.shard, account)),
            (_, found) => self
                .audit
                .problems
                .push(format!("{job:?} was answered {found:?}")),
        }
    }

    fn history_page(
        &mut self,
        now_ns: u64,
        request: OpenRequest,
        answer: HistoryAnswer,
        history: &mut History,
    ) {
        let shard = request.target.shard;
        let [
            Job {
                want: Want::History(number),
                ..
            },
        ] = request.jobs[..]
        else {
            let problem = format!("{:?} was answered {answer:?}", request.jobs);
            return self.audit.problems.push(problem);
        };
        let one = &mut history.histories[number];
        match answer {
            HistoryAnswer::Page(mut page) => {
                if let Some(head) = page.head.take() {
                    // It is a read of the account as well.
                    history.reads.push(ReadUse {
                        account: one.account,
                        started_ns: request.sent_ns,
                        answer: Some(ReadAnswer {
                            at_ns: now_ns,
                            account: Some(head.account),
                        }),
                    });
                    one.begin(shard, *head);
                }
                one.take(shard, page);
            }
            HistoryAnswer::Moved(to) if one.head.is_none() => {
                self.locations.insert(one.account, to);
                let mut jobs = request.jobs;
                jobs[0].shard = to;
                return self.retry_all(jobs, now_ns);
            }
            HistoryAnswer::NotFound if one.head.is_none() => return,
            answer @ (HistoryAnswer::NotFound | HistoryAnswer::Moved(_)) => {
                let problem = format!("{:?}: a page of {shard} is {answer:?}", request.jobs);
                return self.audit.problems.push(problem);
            }
        }
        if let Some((shard, _)) = one.next()
            && one.pages_left > 0
        {
            self.submit(Job::new(Want::History(number), shard));
        }
    }

    fn listed(&mut self, shard: ShardId, ids: &[AccountId]) {
        self.audit.listed.extend(ids.iter().map(|id| (shard, *id)));
        if let Some(last) = ids.last() {
            self.submit(Job::new(Want::List(*last), shard));
        }
    }

    /// Pages follow each other: no change is told twice in a row of them, and none before an earlier one.
    fn map_changes(
        &mut self,
        request: &OpenRequest,
        rows: &[RouteRow],
        next: MapPlace,
        has_more: bool,
    ) {
        let Want::Changes(place) = request.jobs[0].want else {
            return;
        };
        let shard = request.target.shard;
        let mut reached = place;
        let mut rises = true;
        for row in rows {
            let at = MapPlace {
                epoch: row.epoch,
                account: row.account,
            };
            rises &= at > reached;
            reached = at;
        }
        if !rises || next != reached || has_more && rows.is_empty() {
            let problem = format!("shard {shard} told {rows:?} behind {place:?}, next is {next:?}");
            self.audit.problems.push(problem);
        }
        self.audit.told.extend(rows.iter().map(|row| (shard, *row)));
        if has_more {
            self.submit(Job::new(Want::Changes(next), shard));
        }
    }

    fn moved(&mut self, now_ns: u64, jobs: Vec<Job>, answer: MoveAnswer, history: &mut History) {
        let [job] = &jobs[..] else { return };
        let Want::Move(number) = job.want else {
            return;
        };
        let one = &mut history.moves[number];
        match answer {
            MoveAnswer::Moved { .. } => {
                one.moved = Some(true);
                one.answered_ns = Some(now_ns);
                for account in &one.accounts {
                    self.locations.insert(*account, one.target);
                }
            }
            MoveAnswer::Contended => return self.retry_all(jobs, now_ns),
            // Shard 0 means that this shard does not know where the account is.
            MoveAnswer::NotOwned { account, shard } => {
                if shard == ShardId(0) {
                    self.locations.remove(&account);
                } else {
                    self.locations.insert(account, shard);
                }
            }
            MoveAnswer::Refused => {}
        }
        self.move_answers.insert(number, answer);
    }

    fn document(&mut self, now_ns: u64, jobs: &[Job], body: ReplyBody, history: &mut History) {
        if let [job] = jobs
            && let Want::Document(number) = job.want
            && let Some(answer) = documents::answer(&history.documents[number].want, body.clone())
        {
            let one = &mut history.documents[number];
            one.is_unsure = job.is_unsure;
            one.answer = Some((now_ns, answer));
            return;
        }
        let problem = format!("{jobs:?} was answered {body:?}");
        self.audit.problems.push(problem);
    }

    fn cut(&mut self, now_ns: u64, request: OpenRequest, answer: CutAnswer, history: &mut History) {
        let shard = request.target.shard;
        match (request.jobs[0].want, answer) {
            (Want::CutRegister(cut), CutAnswer::Registered) => {
                *self.cuts_registered.entry(cut).or_default() += 1;
            }
            (Want::CutSums(cut), CutAnswer::Sums(sums)) => {
                history.cuts[cut].sums.push((shard, sums));
                history.cuts[cut].answered_ns = Some(now_ns);
            }
            (Want::CutSums(_), CutAnswer::NotKnown) => self.retry_all(request.jobs, now_ns),
            (Want::CutRegister(cut) | Want::CutSums(cut), _) => {
                self.cuts_failed.insert(cut);
            }
            (_, answer) => {
                let problem = format!("{:?} was answered {answer:?}", request.jobs);
                self.audit.problems.push(problem);
            }
        }
    }

    fn send_due(&mut self, now_ns: u64, history: &mut History, effects: &mut Vec<ClientEffect>) {
        let mut groups: BTreeMap<_, Vec<Job>> = BTreeMap::new();
        for job in std::mem::take(&mut self.waiting) {
            if job.due_ns > now_ns {
                self.waiting.push(job);
            } else {
                let key = (job.want.class(), job.shard);
                groups.entry(key).or_default().push(job);
            }
        }
        for ((_, shard), jobs) in groups {
            let audits = matches!(jobs[0].want, Want::Inspect(_) | Want::Records(_));
            let batch = if audits {
                AUDIT_ROWS_MAX
            } else {
                self.settings.batch_max
            };
            for chunk in jobs.chunks(batch) {
                self.send(now_ns, shard, chunk, history, effects);
            }
        }
    }

    fn send(
        &mut self,
        now_ns: u64,
        shard: ShardId,
        jobs: &[Job],
        history: &mut History,
        effects: &mut Vec<ClientEffect>,
    ) {
        if self.settings.wander_ppm > 0 && self.stream.chance(self.settings.wander_ppm) {
            let replica = 1 + self.stream.below(u64::from(self.settings.replicas));
            let replica = u8::try_from(replica).expect("a few replicas");
            self.leaders.insert(shard, ReplicaId(replica));
        }
        let replica = *self.leaders.entry(shard).or_insert(ReplicaId(1));
        let target = ReplicaAddress { shard, replica };
        let connection = self.connect(target);
        self.requests_made += 1;
        let id = RequestId(self.requests_made);
        mark_started(jobs, now_ns, history);
        effects.push(ClientEffect::Send {
            to: target,
            connection,
            request: Request {
                id,
                deadline_ms: u32::try_from(self.settings.patience_ns / MS).unwrap_or(u32::MAX),
                seen: self.seen,
                body: request_body(jobs, history),
            },
        });
        let fresh = jobs.iter().all(|job| job.tries == 0);
        let may_abandon = fresh && matches!(jobs[0].want, Want::Transfer(_));
        if may_abandon && self.stream.chance(self.settings.abandon_ppm) {
            self.faults.add("client_abandoned");
            for job in jobs {
                if let Want::Transfer(number) = job.want {
                    history.transfers[number].abandoned = true;
                }
            }
            if self.stream.chance(500_000) {
                self.close(target, connection, effects);
            }
            return;
        }
        let open = OpenRequest {
            connection,
            target,
            jobs: jobs.to_vec(),
            sent_ns: now_ns,
            give_up_ns: now_ns + self.settings.patience_ns,
        };
        self.open.insert(id, open);
    }

    fn connect(&mut self, target: ReplicaAddress) -> ConnectionId {
        if let Some(connection) = self.connections.get(&target) {
            return *connection;
        }
        self.connections_made += 1;
        let connection = ConnectionId(self.settings.number << 32 | self.connections_made);
        self.connections.insert(target, connection);
        connection
    }

    /// Closes a connection if it is still in use. Requests on it are answered by nobody any more.
    fn close(
        &mut self,
        target: ReplicaAddress,
        connection: ConnectionId,
        effects: &mut Vec<ClientEffect>,
    ) {
        if self.connections.get(&target) != Some(&connection) {
            return;
        }
        self.connections.remove(&target);
        effects.push(ClientEffect::Close {
            to: target,
            connection,
        });
        self.give_up_all(connection);
    }

    fn give_up_all(&mut self, connection: ConnectionId) {
        for request in self.open.values_mut() {
            if request.connection == connection {
                request.give_up_ns = 0;
            }
        }
    }

    fn try_another(&mut self, target: ReplicaAddress) {
        let leader = self.leaders.entry(target.shard).or_insert(target.replica);
        if *leader == target.replica {
            *leader = ReplicaId(target.replica.0 % self.settings.replicas + 1);
        }
    }

    /// Nobody said what became of these.
    fn retry_unsure(&mut self, mut jobs: Vec<Job>, now_ns: u64) {
        for job in &mut jobs {
            job.is_unsure = true;
        }
        self.retry_all(jobs, now_ns);
    }

    /// Jobs that failed together are tried again together.
    fn retry_all(&mut self, jobs: Vec<Job>, now_ns: u64) {
        let tries = jobs.iter().map(|job| job.tries).max().unwrap_or(0);
        let most = (10 * MS) << tries.min(4);
        let due_ns = now_ns + MS + self.stream.below(most);
        for mut job in jobs {
            self.faults.add("client_retried");
            job.tries += 1;
            job.due_ns = due_ns;
            if job.want.tries_max().is_none_or(|max| job.tries < max) {
                self.waiting.push(job);
            } else if let Want::CutRegister(cut) | Want::CutSums(cut) = job.want {
                self.cuts_failed.insert(cut);
            }
        }
    }

    fn retry(&mut self, job: Job, now_ns: u64) {
        self.retry_all(vec![job], now_ns);
    }
}

/// Whether a history was asked for as of a time that the shard has not reached.
fn is_ahead(jobs: &[Job], text: &str) -> bool {
    matches!(jobs[0].want, Want::History(_)) && text.contains("ahead of the shard's clock")
}

fn mark_started(jobs: &[Job], now_ns: u64, history: &mut History) {
    for job in jobs {
        let started = match job.want {
            Want::Create(number) => &mut history.creations[number].started_ns,
            Want::Transfer(number) => &mut history.transfers[number].started_ns,
            Want::Move(number) => &mut history.moves[number].started_ns,
            Want::Document(number) => &mut history.documents[number].started_ns,
            Want::Read(_)
            | Want::History(_)
            | Want::Lead(_)
            | Want::CutRegister(_)
            | Want::CutSums(_)
            | Want::List(_)
            | Want::Changes(_)
            | Want::Inspect(_)
            | Want::Records(_) => continue,
        };
        started.get_or_insert(now_ns);
    }
}
