//! The transport for programs with threads: one call at a time, standard library sockets.
//!
//! A call drives a [`Session`] to its end over one connection per replica; parts of a batch for
//! different shards are in flight at once. Connections are made when they are needed and kept.
//! For many calls at once use several clients, or the glommio transport.

mod connection;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quorate_config::ClusterConfig;
use quorate_protocol::client::{
    AccountAnswer, MoveAnswer, RecordedTransfer, ReplyBody, RequestBody, Status, TransferAnswer,
};
use quorate_protocol::ids::{AccountId, MoveId, ReplicaAddress, ShardId, TransferId};
use quorate_protocol::ledger::{Account, ResultRow, Transfer};
use quorate_protocol::time::{MS, Timestamp};
use quorate_protocol::words::Rows;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::connection::Connection;
use crate::error::{ClientError, DialError, Target};
use crate::handshake::Greeting;
use crate::reshard::{MoveReply, MoveSender};
use crate::session::{Cause, OPS_MAX, Outcome, Router, Session, Work};
use crate::topology::Topology;
use crate::ulid::{UlidGenerator, os_random};

/// Ids per `LookupTransfers`: an answer holds up to two whole records of each.
const TRANSFER_LOOKUP_MAX: usize = 1024;
const _: () = assert!(TRANSFER_LOOKUP_MAX * 512 <= quorate_protocol::limits::FRAME_PAYLOAD_MAX);

/// Bounds of a client's waiting.
#[derive(Clone, Copy, Debug)]
pub struct ClientOptions {
    /// Each call ends by then; cut to [`ClusterConfig::request_deadline_max`].
    pub deadline: Duration,
    /// For a connection, and again for its handshake.
    pub connect_timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            deadline: Duration::from_nanos(quorate_protocol::limits::REQUEST_DEADLINE_NS),
            connect_timeout: Duration::from_millis(500),
        }
    }
}

/// What all shards know of a transfer id.
#[derive(Clone, Debug, PartialEq)]
pub struct TransferRecord {
    pub id: TransferId,
    /// Shards that decided it as the debit side; more than one is a violation.
    pub debits: Vec<(ShardId, RecordedTransfer)>,
    /// Shards that posted it as the credit side.
    pub credits: Vec<(ShardId, RecordedTransfer)>,
}

/// A client of one cluster.
#[derive(Debug)]
pub struct BlockingClient {
    greeting: Greeting,
    addresses: BTreeMap<ReplicaAddress, SocketAddr>,
    /// Taken while a session runs.
    router: Option<Router>,
    connections: BTreeMap<ReplicaAddress, Connection>,
    /// Why the newest attempt to connect failed.
    dial_errors: BTreeMap<ReplicaAddress, DialError>,
    options: ClientOptions,
    /// Beyond it a retry could be told that its id is too old.
    deadline_max: Duration,
    ids: UlidGenerator,
    start: Instant,
}

impl BlockingClient {
    /// A client of the configured cluster. Connects when a call needs it: what cannot be reached is
    /// that call's error.
    #[must_use]
    pub fn connect(config: &ClusterConfig, options: ClientOptions) -> Self {
        Self {
            greeting: Greeting::of(config),
            addresses: config
                .all_replicas()
                .map(|replica| (replica, config.address_of(replica)))
                .collect(),
            router: Some(Router::new(Topology::of(config), os_random())),
            connections: BTreeMap::new(),
            dial_errors: BTreeMap::new(),
            options,
            deadline_max: config.request_deadline_max(),
            ids: UlidGenerator::new(),
            start: Instant::now(),
        }
    }

    /// Changes how long each of the following calls may take; cut to [`ClusterConfig::request_deadline_max`].
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.options.deadline = deadline;
    }

    /// A new transfer id.
    pub fn new_transfer_id(&mut self) -> TransferId {
        self.ids.next_transfer_id()
    }

    /// Where the account lives as far as the answers so far tell.
    #[must_use]
    pub fn shard_of(&self, account: AccountId) -> ShardId {
        self.router().shard_of(account)
    }

    /// The highest timestamp in any answer so far.
    #[must_use]
    pub fn seen(&self) -> Timestamp {
        self.router().seen()
    }

    /// Creates accounts; one result per account, in their order.
    pub fn create_accounts(&mut self, accounts: &[Account]) -> Result<Vec<ResultRow>, ClientError> {
        let work = Work::CreateAccounts(Rows::from_slice(accounts));
        self.results(work, "create_accounts")
    }

    /// Carries out transfers; one result per transfer, in their order. A transfer whose result is
    /// unknown may be sent again under its id.
    pub fn create_transfers(
        &mut self,
        transfers: &[Transfer],
    ) -> Result<Vec<ResultRow>, ClientError> {
        let work = Work::CreateTransfers(Rows::from_slice(transfers));
        self.results(work, "create_transfers")
    }

    /// Reads accounts wherever they are; one answer per id, in their order.
    pub fn lookup_accounts(
        &mut self,
        ids: &[AccountId],
    ) -> Result<Vec<AccountAnswer>, ClientError> {
        let work = Work::LookupAccounts(Rows::from_slice(ids));
        match self.run_one(work) {
            Outcome::Accounts(answers) => Ok(answers),
            other => Err(self.error(Target::Cluster, "lookup_accounts", other)),
        }
    }

    /// Asks every shard for every id; one record per id, in their order.
    pub fn lookup_transfers(
        &mut self,
        ids: &[TransferId],
    ) -> Result<Vec<TransferRecord>, ClientError> {
        let mut records = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(TRANSFER_LOOKUP_MAX) {
            let shards: Vec<ShardId> = self.router().topology().shard_ids().collect();
            let rows = Rows::from_slice(chunk);
            let works = shards
                .iter()
                .map(|&shard| Work::Shard(shard, RequestBody::LookupTransfers(rows.clone())))
                .collect();
            let mut found: Vec<TransferRecord> = chunk.iter().map(|&id| nothing_of(id)).collect();
            for (shard, outcome) in shards.into_iter().zip(self.run(works)) {
                match outcome {
                    Outcome::Reply(ReplyBody::Transfers(answers))
                        if answers
                            .iter()
                            .map(|answer| answer.id)
                            .eq(chunk.iter().copied()) =>
                    {
                        merge(&mut found, shard, &answers);
                    }
                    other => {
                        let target = Target::Shard(shard);
                        return Err(self.error(target, "lookup_transfers", other));
                    }
                }
            }
            records.append(&mut found);
        }
        Ok(records)
    }

    /// What every replica says of itself, or why it does not.
    pub fn status(&mut self) -> Vec<(ReplicaAddress, Result<Status, ClientError>)> {
        let replicas: Vec<ReplicaAddress> = self.addresses.keys().copied().collect();
        let works = replicas
            .iter()
            .map(|&replica| Work::Replica(replica, RequestBody::Status))
            .collect();
        let outcomes = self.run(works);
        replicas
            .into_iter()
            .zip(outcomes)
            .map(|(replica, outcome)| match outcome {
                Outcome::Reply(ReplyBody::Status(status)) => (replica, Ok(status)),
                other => (
                    replica,
                    Err(self.error(Target::Replica(replica), "status", other)),
                ),
            })
            .collect()
    }

    /// Asks the leader of a shard, again and again until the deadline: only for requests that may be
    /// carried out twice.
    ///
    /// # Panics
    /// If the cluster does not have the shard.
    pub fn shard_request(
        &mut self,
        shard: ShardId,
        body: RequestBody,
    ) -> Result<ReplyBody, ClientError> {
        match self.run_one(Work::Shard(shard, body)) {
            Outcome::Reply(reply) => Ok(reply),
            other => Err(self.error(Target::Shard(shard), "a request", other)),
        }
    }

    /// Asks exactly this replica, once; any reply is returned.
    ///
    /// # Panics
    /// If the cluster does not have the replica.
    pub fn replica_request(
        &mut self,
        replica: ReplicaAddress,
        body: RequestBody,
    ) -> Result<ReplyBody, ClientError> {
        match self.run_one(Work::Replica(replica, body)) {
            Outcome::Reply(reply) => Ok(reply),
            other => Err(self.error(Target::Replica(replica), "a request", other)),
        }
    }

    /// Why replicas could not be reached at the newest attempt, for people; empty if all were.
    #[must_use]
    pub fn connection_failures(&self) -> Vec<String> {
        self.dial_errors
            .iter()
            .map(|(replica, error)| format!("{replica}: {error}"))
            .collect()
    }

    pub(crate) fn topology(&self) -> &Topology {
        self.router().topology()
    }

    /// The same by a moment that the caller chose.
    pub(crate) fn run_until(&mut self, works: Vec<Work>, end: Instant) -> Vec<Outcome> {
        let left = end.saturating_duration_since(Instant::now());
        self.run_for(works, left)
    }

    /// Several pieces of work at once; their outcomes in the same order.
    fn run(&mut self, works: Vec<Work>) -> Vec<Outcome> {
        self.run_for(works, self.options.deadline.min(self.deadline_max))
    }

    fn run_for(&mut self, works: Vec<Work>, patience: Duration) -> Vec<Outcome> {
        assert!(works.len() <= OPS_MAX);
        let mut session = Session::new(self.router.take().expect("one call at a time"));
        self.drop_closed();
        let deadline_ns = self
            .now_ns()
            .saturating_add(u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX));
        let ids: Vec<_> = works
            .into_iter()
            .map(|work| session.submit(work, deadline_ns))
            .collect();
        let mut outcomes = BTreeMap::new();
        loop {
            session.tick(self.now_ns());
            self.send_all(&mut session);
            while let Some((id, outcome)) = session.poll_done() {
                outcomes.insert(id, outcome);
            }
            if session.is_idle() {
                break;
            }
            self.wait_and_receive(&mut session);
        }
        self.router = Some(session.into_router());
        ids.iter()
            .map(|id| outcomes.remove(id).expect("all work has ended"))
            .collect()
    }

    fn run_one(&mut self, work: Work) -> Outcome {
        self.run(vec![work]).pop().expect("one outcome per work")
    }

    fn results(
        &mut self,
        work: Work,
        request: &'static str,
    ) -> Result<Vec<ResultRow>, ClientError> {
        match self.run_one(work) {
            Outcome::Results(completed) => Ok(completed.rows),
            other => Err(self.error(Target::Cluster, request, other)),
        }
    }

    pub(crate) fn router(&self) -> &Router {
        self.router.as_ref().expect("no session runs between calls")
    }

    /// Nanoseconds of this client's own clock.
    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).expect("a run lasts less than 584 years")
    }

    /// Connections that the other side closed while no call was running would look like lost
    /// requests.
    fn drop_closed(&mut self) {
        self.connections
            .retain(|_, connection| connection.receive(|_| {}).is_ok());
    }

    fn send_all(&mut self, session: &mut Session) {
        let mut touched = Vec::new();
        while let Some(outgoing) = session.poll_send(self.now_ns()) {
            let to = outgoing.to;
            if !self.connections.contains_key(&to) {
                match self.dial(to) {
                    Ok(connection) => {
                        self.dial_errors.remove(&to);
                        self.connections.insert(to, connection);
                    }
                    Err(error) => {
                        match error.is_final() {
                            true => session.on_refused(to, &error.to_string()),
                            false => session.on_dial_failed(to, self.now_ns()),
                        }
                        self.dial_errors.insert(to, error);
                        continue;
                    }
                }
            }
            let connection = self.connections.get_mut(&to).expect("dialled above");
            match connection.queue(&outgoing.request) {
                Ok(()) => touched.push(to),
                Err(error) => {
                    session.on_unsendable(outgoing.request.id, error.to_string());
                }
            }
        }
        for to in touched {
            if let Some(connection) = self.connections.get_mut(&to)
                && connection.flush().is_err()
            {
                self.disconnect(session, to);
            }
        }
    }

    fn dial(&self, to: ReplicaAddress) -> Result<Connection, DialError> {
        let address = self.addresses[&to];
        let timeout = self.options.connect_timeout;
        Connection::dial(&self.greeting, to, address, timeout)
    }

    fn disconnect(&mut self, session: &mut Session, replica: ReplicaAddress) {
        self.connections.remove(&replica);
        session.on_disconnected(replica, self.now_ns());
    }

    /// Waits until a socket is ready or the session wants a tick, and takes what has come.
    fn wait_and_receive(&mut self, session: &mut Session) {
        let wait_ns = session.next_wakeup_ns().saturating_sub(self.now_ns());
        // Rounded up: a wake-up just before the time would spin.
        let timeout = Timespec {
            tv_sec: i64::try_from(wait_ns.div_ceil(MS) / 1000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(wait_ns.div_ceil(MS) % 1000 * MS).expect("below a second"),
        };
        let mut sockets: Vec<PollFd<'_>> = self
            .connections
            .values()
            .map(|connection| {
                let mut wanted = PollFlags::IN;
                wanted.set(PollFlags::OUT, connection.wants_write());
                PollFd::from_borrowed_fd(connection.descriptor(), wanted)
            })
            .collect();
        // An error is an interruption by a signal; then nothing is ready yet.
        if poll(&mut sockets, Some(&timeout)).is_err() {
            return;
        }
        let ready: Vec<ReplicaAddress> = self
            .connections
            .keys()
            .zip(&sockets)
            .filter(|(_, socket)| !socket.revents().is_empty())
            .map(|(&replica, _)| replica)
            .collect();
        for replica in ready {
            let now_ns = self.now_ns();
            let connection = self.connections.get_mut(&replica).expect("it was polled");
            let received = connection.receive(|reply| session.on_reply(replica, reply, now_ns));
            if received.and_then(|()| connection.flush()).is_err() {
                self.disconnect(session, replica);
            }
        }
    }

    pub(crate) fn error(
        &self,
        target: Target,
        request: &'static str,
        outcome: Outcome,
    ) -> ClientError {
        let failures = self
            .dial_errors
            .iter()
            .filter(|&(&replica, _)| target.includes(replica))
            .map(|(_, error)| error);
        ClientError::of(target, request, outcome, failures)
    }
}

fn nothing_of(id: TransferId) -> TransferRecord {
    TransferRecord {
        id,
        debits: Vec::new(),
        credits: Vec::new(),
    }
}

fn merge(records: &mut [TransferRecord], shard: ShardId, answers: &[TransferAnswer]) {
    for (record, answer) in records.iter_mut().zip(answers) {
        record
            .debits
            .extend(answer.debit.map(|found| (shard, found)));
        record
            .credits
            .extend(answer.credits.iter().map(|&found| (shard, found)));
    }
}

impl MoveSender for BlockingClient {
    fn move_accounts(
        &mut self,
        source: ShardId,
        id: MoveId,
        target: ShardId,
        accounts: &[AccountId],
    ) -> MoveReply {
        let body = RequestBody::MoveAccounts {
            id,
            target,
            accounts: Rows::from_slice(accounts),
        };
        match self.shard_request(source, body) {
            Ok(ReplyBody::Move(answer)) => MoveReply::Answer(answer),
            // The shape of the request was refused: no other sending will be taken.
            Ok(ReplyBody::BadRequest(_)) | Err(ClientError::BadRequest { .. }) => {
                MoveReply::Answer(MoveAnswer::Refused)
            }
            Ok(_)
            | Err(ClientError::NoAnswer {
                cause: Cause::Busy, ..
            }) => MoveReply::Busy,
            Err(_) => MoveReply::NoAnswer,
        }
    }

    fn new_move_id(&mut self) -> MoveId {
        self.ids.next_move_id()
    }
}
