//! A cluster of threads that speaks the wire protocol and keeps one ledger for all its replicas.
//!
//! It has no consensus and loses nothing: the tests tell it which replica leads and how it
//! misbehaves.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use quorate_config::{ClusterConfig, GenerateOptions};
use quorate_protocol::client::{
    AccountAnswer, CutAnswer, CutSums, LedgerSums, RecordedTransfer, Reply, ReplyBody, Request,
    RequestBody, RequestLatency, Role, Status, TransferAnswer,
};
use quorate_protocol::ids::{AccountId, Ballot, ClusterId, ReplicaAddress, ReplicaId, ShardId};
use quorate_protocol::ids::{Slot, TransferId};
use quorate_protocol::ledger::{Account, ResultCode, ResultRow, Total, Transfer};
use quorate_protocol::shard::map::Placement;
use quorate_protocol::time::Timestamp;
use quorate_protocol::txn::record::Attempt;
use quorate_protocol::words::Rows;
use quorate_wire::{
    Frame, FrameReader, HelloAck, Refusal, Refused, encode_hello_ack, encode_refused, encode_reply,
};

pub const SHARDS: u32 = 3;
pub const REPLICAS: u8 = 3;
pub const ACCOUNTS_PER_SHARD: u64 = 100;
const CLOCK: Timestamp = Timestamp(1_000);

/// How a replica misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Accepts connections and closes them at once.
    Down,
    /// Reads and never answers requests.
    Silent,
    /// Executes the next batch of transfers, closes instead of answering, and hands over to this one.
    DieAfterTransfers(ReplicaId),
}

#[derive(Default)]
pub struct State {
    pub leaders: BTreeMap<ShardId, ReplicaId>,
    pub faults: BTreeMap<ReplicaAddress, Fault>,
    pub owners: BTreeMap<AccountId, ShardId>,
    pub transfers: BTreeMap<TransferId, Transfer>,
    /// Added to the digest of these replicas.
    pub diverged: BTreeSet<ReplicaAddress>,
    /// Cuts that are still to be refused.
    pub refuse_cuts: u32,
    streams: Vec<(ReplicaAddress, TcpStream)>,
    stopped: bool,
}

pub struct FakeCluster {
    pub config: ClusterConfig,
    state: Arc<Mutex<State>>,
    listeners: Vec<JoinHandle<()>>,
}

pub fn at(shard: u32, replica: u8) -> ReplicaAddress {
    ReplicaAddress {
        shard: ShardId(shard),
        replica: ReplicaId(replica),
    }
}

/// The same topology under another identity.
pub fn config(cluster: u64, base_port: u16) -> ClusterConfig {
    let options = GenerateOptions {
        cluster_id: ClusterId(cluster),
        shards: SHARDS,
        replicas: REPLICAS,
        nodes: 3,
        directory: PathBuf::from("/nowhere"),
        base_port,
        placement: Placement::Range {
            accounts_per_shard: ACCOUNTS_PER_SHARD,
        },
        host_cores: 1,
    };
    ClusterConfig::generate(&options).unwrap()
}

impl FakeCluster {
    pub fn start() -> Self {
        let (config, listeners) = bind();
        let state = Arc::new(Mutex::new(State {
            leaders: config
                .shard_ids()
                .map(|shard| (shard, config.preferred_leader(shard)))
                .collect(),
            ..State::default()
        }));
        let listeners = listeners
            .into_iter()
            .map(|(address, listener)| {
                let (state, cluster) = (Arc::clone(&state), config.cluster_id);
                thread::spawn(move || accept(&listener, address, cluster, &state))
            })
            .collect();
        Self {
            config,
            state,
            listeners,
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Ends every connection of a replica, or of all.
    pub fn cut_connections(&self, replica: Option<ReplicaAddress>) {
        for (of, stream) in &self.state().streams {
            if replica.is_none_or(|replica| replica == *of) {
                // A stream that the other side has closed already cannot be shut down.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        self.state().stopped = true;
        self.cut_connections(None);
        for replica in self.config.all_replicas() {
            // Wakes the listener up to see that it is over.
            let _ = TcpStream::connect(self.config.address_of(replica));
        }
        for listener in self.listeners.drain(..) {
            listener.join().unwrap();
        }
    }
}

/// Takes the first range of ports where every replica can listen.
fn bind() -> (ClusterConfig, Vec<(ReplicaAddress, TcpListener)>) {
    let offset = u16::try_from(std::process::id() % 40).unwrap() * 500;
    for base_port in (20_000 + offset..60_000).step_by(400) {
        let config = config(u64::from(base_port), base_port);
        let listeners: Result<Vec<_>, _> = config
            .all_replicas()
            .map(|replica| {
                TcpListener::bind(config.address_of(replica)).map(|listener| (replica, listener))
            })
            .collect();
        if let Ok(listeners) = listeners {
            return (config, listeners);
        }
    }
    panic!("no free ports");
}

fn accept(
    listener: &TcpListener,
    address: ReplicaAddress,
    cluster: ClusterId,
    state: &Arc<Mutex<State>>,
) {
    let mut connections = Vec::new();
    loop {
        let (stream, _) = listener.accept().unwrap();
        let mut locked = state.lock().unwrap();
        if locked.stopped {
            break;
        }
        if locked.faults.get(&address) == Some(&Fault::Down) {
            continue;
        }
        locked.streams.push((address, stream.try_clone().unwrap()));
        drop(locked);
        let state = Arc::clone(state);
        connections.push(thread::spawn(move || {
            // Any error is the end of the connection.
            let _ = serve(stream, address, cluster, &state);
        }));
    }
    for connection in connections {
        connection.join().unwrap();
    }
}

fn serve(
    mut stream: TcpStream,
    address: ReplicaAddress,
    cluster: ClusterId,
    state: &Mutex<State>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = FrameReader::new(cluster);
    loop {
        let mut out = Vec::new();
        loop {
            match reader.next_frame() {
                Ok(Some(Frame::Hello(hello))) if hello.target == address => {
                    let ack = HelloAck { replica: address };
                    encode_hello_ack(cluster, &ack, &mut out).unwrap();
                }
                Ok(Some(Frame::Request(request))) => {
                    let mut state = state.lock().unwrap();
                    match state.answer(address, &request) {
                        Some(body) => {
                            let reply = Reply {
                                id: request.id,
                                clock: CLOCK,
                                body,
                            };
                            encode_reply(cluster, &reply, &mut out).unwrap();
                        }
                        None if state.faults.get(&address) == Some(&Fault::Silent) => {}
                        None => return stream.shutdown(Shutdown::Both),
                    }
                }
                Ok(None) => break,
                Ok(Some(other)) => return refuse(stream, cluster, format!("{other:?}")),
                Err(error) => return refuse(stream, cluster, error.to_string()),
            }
        }
        stream.write_all(&out)?;
        match stream.read(reader.space())? {
            0 => return Ok(()),
            bytes => reader.advance(bytes),
        }
    }
}

fn refuse(mut stream: TcpStream, cluster: ClusterId, reason: String) -> std::io::Result<()> {
    let refused = Refused {
        refusal: Refusal::Malformed,
        reason,
    };
    let mut out = Vec::new();
    encode_refused(cluster, &refused, &mut out).unwrap();
    stream.write_all(&out)?;
    stream.shutdown(Shutdown::Both)
}

impl State {
    /// `None`: no answer.
    fn answer(&mut self, own: ReplicaAddress, request: &Request) -> Option<ReplyBody> {
        let fault = self.faults.get(&own).copied();
        if fault == Some(Fault::Silent) {
            return None;
        }
        let leader = self.leaders[&own.shard];
        match &request.body {
            RequestBody::Status => return Some(ReplyBody::Status(status(own, leader))),
            RequestBody::CutDigest { .. } => {
                let digest = 77 + u128::from(self.diverged.contains(&own));
                let slot = Slot(5);
                return Some(ReplyBody::Cut(CutAnswer::Digest { slot, digest }));
            }
            _ if leader != own.replica => {
                return Some(ReplyBody::NotLeader {
                    ballot: Ballot::new(2, leader),
                    leader: Some(leader),
                });
            }
            _ => {}
        }
        let body = self.lead(own.shard, &request.body);
        if let (Some(Fault::DieAfterTransfers(next)), RequestBody::CreateTransfers(_)) =
            (fault, &request.body)
        {
            self.faults.insert(own, Fault::Down);
            self.leaders.insert(own.shard, next);
            return None;
        }
        Some(body)
    }

    fn lead(&mut self, shard: ShardId, body: &RequestBody) -> ReplyBody {
        match body {
            RequestBody::CreateAccounts(rows) => self.create_accounts(shard, rows),
            RequestBody::CreateTransfers(rows) => {
                let rows: Vec<ResultRow> =
                    rows.iter().map(|row| self.transfer(shard, row)).collect();
                ReplyBody::Results(Rows::from_slice(&rows))
            }
            RequestBody::LookupAccounts(ids) => {
                ReplyBody::Accounts(ids.iter().map(|id| self.account(shard, *id)).collect())
            }
            RequestBody::LookupTransfers(ids) => {
                ReplyBody::Transfers(ids.iter().map(|id| self.recorded(shard, *id)).collect())
            }
            RequestBody::CutRegister { .. } if self.refuse_cuts > 0 => {
                self.refuse_cuts -= 1;
                ReplyBody::Cut(CutAnswer::Refused)
            }
            RequestBody::CutRegister { .. } => ReplyBody::Cut(CutAnswer::Registered),
            RequestBody::CutSums { at } => ReplyBody::Cut(CutAnswer::Sums(self.sums(shard, *at))),
            other => ReplyBody::BadRequest(format!("the fake does not know {other:?}")),
        }
    }

    fn create_accounts(&mut self, shard: ShardId, rows: &[Account]) -> ReplyBody {
        let rows: Vec<ResultRow> = rows
            .iter()
            .map(|row| match self.owners.insert(row.id, shard) {
                None => ResultRow::logged(ResultCode::Ok, CLOCK),
                Some(_) => ResultRow::logged(ResultCode::Exists, CLOCK),
            })
            .collect();
        ReplyBody::Results(Rows::from_slice(&rows))
    }

    fn transfer(&mut self, shard: ShardId, row: &Transfer) -> ResultRow {
        match self.owners.get(&row.debit_account_id) {
            None => return ResultRow::logged(ResultCode::DebitAccountNotFound, CLOCK),
            Some(&owner) if owner != shard => return ResultRow::moved(owner),
            Some(_) => {}
        }
        let code = match self.transfers.insert(row.id, *row) {
            None => ResultCode::Ok,
            Some(_) => ResultCode::Exists,
        };
        let mut result = ResultRow::logged(code, CLOCK);
        if self.owners.get(&row.credit_account_id) != Some(&shard) {
            result.flags = ResultRow::CROSS_SHARD;
        }
        result
    }

    fn account(&self, shard: ShardId, id: AccountId) -> AccountAnswer {
        match self.owners.get(&id) {
            None => AccountAnswer::NotFound,
            Some(&owner) if owner != shard => AccountAnswer::Moved(owner),
            Some(_) => AccountAnswer::Found(Account::new(id, 1, 1, Default::default())),
        }
    }

    fn recorded(&self, shard: ShardId, id: TransferId) -> TransferAnswer {
        let side = |account: fn(&Transfer) -> AccountId| {
            let transfer = self.transfers.get(&id)?;
            (self.owners.get(&account(transfer)) == Some(&shard)).then_some(RecordedTransfer {
                transfer: *transfer,
                code: ResultCode::Ok as u16,
                slot: Slot(1),
                commit_ts: CLOCK,
                attempt: Attempt::default(),
            })
        };
        TransferAnswer {
            id,
            debit: side(|transfer| transfer.debit_account_id),
            credits: side(|transfer| transfer.credit_account_id)
                .into_iter()
                .collect(),
        }
    }

    fn sums(&self, shard: ShardId, at: Timestamp) -> CutSums {
        let owned = self.owners.values().filter(|owner| **owner == shard);
        let owned = u64::try_from(owned.count()).unwrap();
        let sum = |account: fn(&Transfer) -> AccountId| {
            let transfers = self.transfers.values();
            let here = transfers.filter(|row| self.owners.get(&account(row)) == Some(&shard));
            Total::from(here.map(|row| row.amount).sum::<u128>())
        };
        CutSums {
            at,
            ledgers: vec![LedgerSums {
                ledger: 1,
                debits_posted: sum(|row| row.debit_account_id),
                credits_posted: sum(|row| row.credit_account_id),
                transferred: sum(|row| row.debit_account_id),
            }],
            owned,
            owned_hash: u128::from(owned),
            created: owned,
            created_hash: u128::from(owned),
            transfers: 0,
            in_doubt: 0,
        }
    }
}

fn status(own: ReplicaAddress, leader: ReplicaId) -> Status {
    let leads = leader == own.replica;
    Status {
        shard: own.shard,
        replica: own.replica,
        role: if leads { Role::Leader } else { Role::Follower },
        ballot: Ballot::new(2, leader),
        leader: Some(leader),
        serving: leads,
        chosen_upto: Slot(5),
        applied_upto: Slot(5),
        epoch: 1,
        accounts: 0,
        transfers: 0,
        in_doubt: 0,
        committed_local: 0,
        committed_cross: 0,
        latency: RequestLatency::default(),
        reason: String::new(),
    }
}
