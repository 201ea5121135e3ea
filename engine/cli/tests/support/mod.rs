//! A replica's directory with a log and a store in it, as a server would leave them: written by the core,
//! `durable` and `storage` themselves, for a group of one.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use quorate_config::{ClusterConfig, GenerateOptions};
use quorate_durable::keeper::{Keeper, Step};
use quorate_durable::log::to_wal;
use quorate_protocol::client::{Request, RequestBody};
use quorate_protocol::config::Recovered;
use quorate_protocol::ids::{
    AccountId, ClusterId, ConnectionId, PersistSeq, ReplicaAddress, ReplicaId, RequestId, ShardId,
    TransferId,
};
use quorate_protocol::input::Input;
use quorate_protocol::ledger::{Account, AccountFlags, Transfer};
use quorate_protocol::output::Output;
use quorate_protocol::replica::Replica;
use quorate_protocol::shard::map::Placement;
use quorate_protocol::time::{MS, Now, Timestamp};
use quorate_protocol::words::{Rows, Words};
use quorate_storage::BLOCK_BYTES;
use quorate_storage::store::{AccountIndex, Binding, Operation, Read, Unreadable, open};
use quorate_storage::superblock::{FILE_NAME, Genesis, Identity, Superblock};
use quorate_storage::wal::{self, Options, Record, SegmentNumber, Wal, recover};

pub const REPLICA: ReplicaAddress = ReplicaAddress {
    shard: ShardId(1),
    replica: ReplicaId(1),
};
pub const CLUSTER: u64 = 7;
pub const ACCOUNTS: u128 = 20;
const SEGMENT_BYTES: u64 = 64 << 10;
const WALL_NS: u64 = 1_700_000_000_000_000_000;

/// A cluster of one replica, stopped.
pub struct Stopped {
    root: tempfile::TempDir,
    /// The replica's.
    pub directory: PathBuf,
    pub topology: PathBuf,
    /// By account: what each transfer moved, in order, debits negative.
    pub effects: Vec<(u128, u128, u128)>,
}

impl Stopped {
    /// Writes a log of some segments and at least two checkpoints. `closed`: it was stopped in order.
    pub fn write(closed: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let config = ClusterConfig::generate(&GenerateOptions {
            cluster_id: ClusterId(CLUSTER),
            shards: 1,
            replicas: 1,
            nodes: 1,
            directory: root.path().to_owned(),
            base_port: 7000,
            placement: Placement::Hash,
            host_cores: 1,
        })
        .unwrap();
        let topology = root.path().join("cluster.toml");
        fs::write(&topology, config.to_toml()).unwrap();
        let directory = config.data_dir_of(REPLICA);
        fs::create_dir_all(&directory).unwrap();
        let mut machine = Machine::start(&directory, &config);
        let effects = machine.work();
        machine.close(closed);
        Self {
            root,
            directory,
            topology,
            effects,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Names of the directory's files that begin like this.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let entries = fs::read_dir(&self.directory).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with(prefix))
            .collect();
        names.sort();
        names
    }

    /// Flips a byte.
    pub fn damage(&self, name: &str, at: u64) {
        let path = self.path(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[!byte[0]], at).unwrap();
    }

    /// Every file's bytes, to see that nothing was written.
    pub fn snapshot(&self) -> Vec<(String, Vec<u8>)> {
        let names = self.names("").into_iter();
        names
            .map(|name| (name.clone(), fs::read(self.path(&name)).unwrap()))
            .collect()
    }

    /// Somewhere for further files.
    pub fn root(&self) -> &Path {
        self.root.path()
    }
}

/// The replica with its disk.
struct Machine {
    directory: PathBuf,
    replica: Replica,
    wal: Wal<Words>,
    keeper: Keeper,
    seq: PersistSeq,
    inbox: VecDeque<Input>,
    now_ns: u64,
    checkpoints: u32,
}

impl Machine {
    fn start(directory: &Path, config: &ClusterConfig) -> Self {
        let identity = Identity {
            cluster: CLUSTER,
            shard: 1,
            replica: 1,
            segment_bytes: SEGMENT_BYTES,
            created_ns: WALL_NS,
        };
        fs::write(directory.join("lock"), [b'\n'; 4096]).unwrap();
        let zeros = vec![0; usize::try_from(SEGMENT_BYTES).unwrap()];
        fs::write(directory.join(SegmentNumber::FIRST.file_name()), &zeros).unwrap();
        let superblock = Superblock {
            identity,
            genesis: Genesis::of(&config.genesis().to_string()),
        };
        fs::write(directory.join(FILE_NAME), superblock.encode()).unwrap();
        let recovery = recover(&[(SegmentNumber::FIRST, &zeros)], &identity).unwrap();
        let binding = Binding {
            cluster: CLUSTER,
            shard: 1,
        };
        let mut disk = Disk(directory.to_owned());
        let opened = open(&[], &mut disk, binding).unwrap();
        let mut replica = config.replica_config(REPLICA, 1);
        replica.checkpoint_weight = Some(40_000);
        let mut machine = Self {
            directory: directory.to_owned(),
            replica: Replica::new(replica, Recovered::default(), now(0)),
            wal: Wal::resume(recovery, Options::default()),
            keeper: Keeper::new(opened.store, AccountIndex::new()),
            seq: PersistSeq(0),
            inbox: VecDeque::new(),
            now_ns: 0,
            checkpoints: 0,
        };
        machine.drain();
        machine
    }

    /// Creates accounts and pays from one to the next until enough is written.
    fn work(&mut self) -> Vec<(u128, u128, u128)> {
        let account = |id| Account::new(AccountId(id), 1, 1, AccountFlags::default());
        let accounts: Vec<Account> = (1..=ACCOUNTS).map(account).collect();
        for _ in 0..2_000 {
            self.settle();
            if self.replica.serving().is_some() {
                break;
            }
        }
        self.request(RequestBody::CreateAccounts(Rows::from_slice(&accounts)));
        let mut effects = Vec::new();
        for round in 0..120_u128 {
            let rows: Vec<Transfer> = (0..8)
                .map(|row| {
                    let number = round * 8 + row + 1;
                    let debit = 1 + number % ACCOUNTS;
                    let credit = 1 + (number * 7 + 3) % ACCOUNTS;
                    (number, debit, credit)
                })
                .filter(|(_, debit, credit)| debit != credit)
                .map(|(number, debit, credit)| {
                    effects.push((debit, credit, number));
                    Transfer::new(
                        TransferId(number),
                        AccountId(debit),
                        AccountId(credit),
                        number,
                        1,
                        1,
                    )
                })
                .collect();
            self.request(RequestBody::CreateTransfers(Rows::from_slice(&rows)));
        }
        // The rest of a checkpoint under way.
        self.settle();
        assert!(self.checkpoints >= 2, "{} checkpoints", self.checkpoints);
        effects
    }

    fn request(&mut self, body: RequestBody) {
        let request = Request {
            id: RequestId(1),
            deadline_ms: 60_000,
            seen: Timestamp::ZERO,
            body,
        };
        self.step(Input::Client {
            connection: ConnectionId(1),
            request,
        });
        self.settle();
    }

    fn step(&mut self, input: Input) {
        self.now_ns += MS / 10;
        self.replica.step(now(self.now_ns), input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.replica.poll_output() {
            match output {
                Output::Persist { seq, record } => {
                    self.seq = seq;
                    self.wal.append(seq.0, to_wal(record));
                }
                Output::Checkpoint(part) => {
                    let mut disk = Disk(self.directory.clone());
                    self.keeper.take(part, &mut disk).unwrap();
                }
                Output::Reply { .. } | Output::ReleaseLog { .. } | Output::Count(_) => {}
                other => panic!("{other:?}"),
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        loop {
            while let Some(operation) = self.wal.next_operation() {
                let path = |segment: SegmentNumber| self.directory.join(segment.file_name());
                match operation {
                    wal::Operation::Prepare { segment } => {
                        let zeros = vec![0; usize::try_from(SEGMENT_BYTES).unwrap()];
                        fs::write(path(segment), zeros).unwrap();
                    }
                    wal::Operation::Recycle { from, to } => {
                        fs::rename(path(from), path(to)).unwrap();
                    }
                }
                self.wal.finish_operation(operation);
            }
            let Some(mut flush) = self.wal.start_flush() else {
                break;
            };
            let mut bytes = vec![0; flush.length()];
            flush.encode(&mut bytes);
            let path = self.directory.join(flush.segment().file_name());
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&bytes, flush.offset()).unwrap();
            let upto = PersistSeq(self.wal.finish_flush(flush));
            self.inbox.push_back(Input::Durable { upto });
        }
    }

    fn settle(&mut self) {
        loop {
            if let Some(operation) = self.keeper.next_operation() {
                self.carry_out(&operation);
                self.keeper.finish_operation(operation);
                continue;
            }
            match self.keeper.step() {
                Step::Told(input) => {
                    self.checkpoints += u32::from(matches!(input, Input::CheckpointDurable { .. }));
                    self.inbox.push_back(input);
                }
                Step::Worked => continue,
                Step::Read(run) => {
                    let file = File::open(self.directory.join(run.first.file.file_name()));
                    let mut bytes = vec![0; run.blocks as usize * BLOCK_BYTES as usize];
                    let read = file.unwrap().read_exact_at(&mut bytes, run.first.offset());
                    read.unwrap();
                    self.keeper.feed(&bytes).unwrap();
                    continue;
                }
                Step::Waits => {}
            }
            match self.inbox.pop_front() {
                Some(input) => self.step(input),
                None if self.replica.deadline_ns() <= self.now_ns => self.step(Input::Tick),
                None => break,
            }
        }
        self.now_ns += MS;
    }

    fn carry_out(&self, operation: &Operation) {
        let path = |name: &str| self.directory.join(name);
        match operation {
            Operation::Create { file } => {
                File::create(path(&file.file_name())).unwrap();
            }
            Operation::Write { file, bytes, .. } => {
                let file = OpenOptions::new()
                    .append(true)
                    .open(path(&file.file_name()));
                file.unwrap().write_all(bytes).unwrap();
            }
            Operation::Publish { generation, bytes } => {
                fs::write(path(generation.file_name()), bytes).unwrap();
            }
            Operation::Retract { generation } => {
                fs::remove_file(path(generation.file_name())).unwrap();
            }
            Operation::Remove { file } => {
                let _ = fs::remove_file(path(&file.file_name()));
            }
            Operation::Sync { .. } | Operation::SyncDirectory => {}
        }
    }

    fn close(mut self, closed: bool) {
        if closed {
            self.wal.append(self.seq.0 + 1, Record::Clean);
            self.flush();
        }
    }
}

struct Disk(PathBuf);

impl Read for Disk {
    fn read(&mut self, name: &str, offset: u64, out: &mut [u8]) -> Result<(), Unreadable> {
        let file = File::open(self.0.join(name)).map_err(|_| Unreadable)?;
        file.read_exact_at(out, offset).map_err(|_| Unreadable)
    }
}

fn now(now_ns: u64) -> Now {
    Now {
        mono_ns: now_ns,
        wall_ns: WALL_NS + now_ns,
    }
}
