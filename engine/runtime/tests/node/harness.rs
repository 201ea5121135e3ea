//! A small cluster on this host, and a client that speaks frames over a blocking socket.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use quorate_access::{Dialler, HandshakeError, Key, Next};
use quorate_config::{ClusterConfig, GenerateOptions};
use quorate_protocol::client::{
    AccountAnswer, Reply, ReplyBody, Request, RequestBody, Role, Status,
};
use quorate_protocol::ids::{
    AccountId, ClusterId, NodeId, ReplicaAddress, ReplicaId, RequestId, ShardId, TransferId,
};
use quorate_protocol::ledger::{Account, AccountFlags, Transfer};
use quorate_protocol::shard::map::Placement;
use quorate_protocol::time::Timestamp;
use quorate_protocol::words::Rows;
use quorate_runtime::{NodeOptions, RunningNode};
use quorate_wire::{Frame, FrameReader, Hello, NONCE_BYTES, Origin, encode_hello, encode_request};

/// Longest time that anything here may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const CLUSTER: ClusterId = ClusterId(4711);

/// A directory on the disk of the build, which takes direct IO.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The configuration of a cluster on free ports.
pub fn config(directory: &Path, shards: u32, replicas: u8, nodes: u32) -> ClusterConfig {
    let options = GenerateOptions {
        cluster_id: CLUSTER,
        shards,
        replicas,
        nodes,
        directory: directory.to_owned(),
        base_port: free_ports(nodes),
        placement: Placement::Hash,
        host_cores: 1,
    };
    let mut text = ClusterConfig::generate(&options).unwrap().to_toml();
    text = text.replace("segment_bytes = 67108864", "segment_bytes = 4194304");
    text = text.replace("ids = \"ulid\"", "ids = \"any\"");
    text = text.replace("share_cores = false", "share_cores = true");
    ClusterConfig::parse(&text, "test").unwrap()
}

/// The same cluster, one line of its file changed.
pub fn changed(config: &ClusterConfig, from: &str, to: &str) -> ClusterConfig {
    let text = config.to_toml();
    assert!(text.contains(from), "{from} is not in {text}");
    ClusterConfig::parse(&text.replacen(from, to, 1), "test").unwrap()
}

/// A base port whose neighbourhood is free now. Tests of this process never get the same one.
pub fn free_ports(nodes: u32) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(20_000 + std::process::id() % 97 * 100).unwrap();
    loop {
        let used = NEXT.fetch_add(u16::try_from(nodes).unwrap() * 100, Ordering::Relaxed);
        let base = start + used;
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (0..u16::try_from(nodes).unwrap())
            .all(|node| (0..8).all(|n| free(base + node * 100 + n)))
        {
            return base;
        }
    }
}

pub fn start(config: &ClusterConfig, node: u32) -> RunningNode {
    try_start(config, node).unwrap()
}

pub fn try_start(config: &ClusterConfig, node: u32) -> Result<RunningNode, quorate_runtime::Fatal> {
    let options = NodeOptions {
        seed: Some(u64::from(node)),
        ..NodeOptions::default()
    };
    RunningNode::start(config, NodeId(node), &options)
}

pub fn replica(shard: u32, replica: u8) -> ReplicaAddress {
    ReplicaAddress {
        shard: ShardId(shard),
        replica: ReplicaId(replica),
    }
}

/// A client connection.
pub struct Client {
    stream: TcpStream,
    reader: FrameReader,
    genesis: String,
    last_id: u64,
}

impl Client {
    /// Connects and shakes hands.
    pub fn connect(config: &ClusterConfig, to: ReplicaAddress) -> Self {
        let mut client = Self::dial(config, to);
        client.send_hello(Origin::Client { id: 1 }, to);
        let Frame::HelloAck(ack) = client.receive().unwrap() else {
            panic!("no hello ack");
        };
        assert_eq!(ack.replica, to);
        client
    }

    /// Connects and says nothing.
    pub fn dial(config: &ClusterConfig, to: ReplicaAddress) -> Self {
        let stream = TcpStream::connect(config.address_of(to)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            reader: FrameReader::new(CLUSTER),
            genesis: config.genesis().to_string(),
            last_id: 0,
        }
    }

    pub fn send_hello(&mut self, origin: Origin, target: ReplicaAddress) {
        let mut bytes = Vec::new();
        let hello = Hello {
            origin,
            target,
            genesis: self.genesis.clone(),
            nonce: [0; NONCE_BYTES],
        };
        encode_hello(CLUSTER, &hello, &mut bytes).unwrap();
        self.send_bytes(&bytes);
    }

    /// Shakes hands under a key, and tells what was sent: hello and proof.
    pub fn shake_hands(
        &mut self,
        key: &Key,
        origin: Origin,
        target: ReplicaAddress,
    ) -> Result<[Vec<u8>; 2], HandshakeError> {
        let genesis = self.genesis.clone();
        let mut dialler = Dialler::new(CLUSTER, Some(key), origin, target, genesis)?;
        self.send_bytes(dialler.hello());
        let mut sent = Vec::new();
        loop {
            let frame = self.receive().unwrap();
            match dialler.next(frame)? {
                Next::Send(bytes) => {
                    self.send_bytes(&bytes);
                    sent = bytes;
                }
                Next::Established => return Ok([dialler.hello().to_vec(), sent]),
            }
        }
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next frame; an error if the connection ends.
    pub fn receive(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = self.reader.next_frame().map_err(io::Error::other)? {
                return Ok(frame);
            }
            let bytes = self.stream.read(self.reader.space())?;
            if bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.reader.advance(bytes);
        }
    }

    /// A whole request frame with a new id.
    pub fn encode(&mut self, body: RequestBody) -> Vec<u8> {
        self.last_id += 1;
        let request = Request {
            id: RequestId(self.last_id),
            deadline_ms: 0,
            seen: Timestamp::ZERO,
            body,
        };
        let mut bytes = Vec::new();
        encode_request(CLUSTER, &request, &mut bytes).unwrap();
        bytes
    }

    pub fn receive_reply(&mut self) -> io::Result<Reply> {
        match self.receive()? {
            Frame::Reply(reply) => Ok(reply),
            frame => panic!("{frame:?} is no reply"),
        }
    }

    /// One request and its reply.
    pub fn ask(&mut self, body: RequestBody) -> ReplyBody {
        let bytes = self.encode(body);
        self.send_bytes(&bytes);
        let reply = self.receive_reply().unwrap();
        assert_eq!(reply.id, RequestId(self.last_id));
        reply.body
    }

    pub fn status(&mut self) -> Status {
        match self.ask(RequestBody::Status) {
            ReplyBody::Status(status) => status,
            body => panic!("{body:?} is no status"),
        }
    }

    /// Result codes of new accounts.
    pub fn create_accounts(&mut self, ids: impl IntoIterator<Item = u128>) -> Vec<u16> {
        let account = |id| Account::new(AccountId(id), 1, 1, AccountFlags::default());
        let accounts: Vec<Account> = ids.into_iter().map(account).collect();
        self.results(RequestBody::CreateAccounts(Rows::from_slice(&accounts)))
    }

    /// Result code of one transfer.
    pub fn transfer(&mut self, id: u128, debit: u128, credit: u128, amount: u128) -> u16 {
        let body = transfer_request(id, debit, credit, amount);
        self.results(body)[0]
    }

    fn results(&mut self, body: RequestBody) -> Vec<u16> {
        match self.ask(body) {
            ReplyBody::Results(rows) => rows.iter().map(|row| row.code).collect(),
            body => panic!("{body:?} are no results"),
        }
    }

    /// Debits and credits posted.
    pub fn balance(&mut self, account: u128) -> (u128, u128) {
        let ids = Rows::from_slice(&[AccountId(account)]);
        match self.ask(RequestBody::LookupAccounts(ids)) {
            ReplyBody::Accounts(answers) => match answers[..] {
                [AccountAnswer::Found(account)] => (account.debits_posted, account.credits_posted),
                ref answers => panic!("{answers:?}"),
            },
            body => panic!("{body:?} are no accounts"),
        }
    }
}

pub fn transfer_request(id: u128, debit: u128, credit: u128, amount: u128) -> RequestBody {
    let (debit, credit) = (AccountId(debit), AccountId(credit));
    let transfer = Transfer::new(TransferId(id), debit, credit, amount, 1, 1);
    RequestBody::CreateTransfers(Rows::from_slice(&[transfer]))
}

/// Waits for a leader of `shard` that serves, among the replicas that run, and connects to it.
pub fn leader(config: &ClusterConfig, among: &[ReplicaAddress]) -> (ReplicaAddress, Client) {
    let started = Instant::now();
    loop {
        for &address in among {
            let mut client = Client::connect(config, address);
            let status = client.status();
            if status.role == Role::Leader && status.serving {
                return (address, client);
            }
        }
        assert!(started.elapsed() < PATIENCE, "no leader among {among:?}");
        // Asking again at once would take the core that the election needs.
        std::thread::sleep(Duration::from_millis(20));
    }
}
