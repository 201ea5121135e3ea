//! Whatever bytes arrive on a port, the sender is refused and everybody else is served.
//!
//! Frames are built here by hand from `docs/reference/wire-format.md`, with a checksum of this
//! test's own making, so the server's idea of its format is checked by a second one.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "what fails here has failed the test")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use quorate_cluster_tests::{Cluster, Load, Shape, patience, until};
use quorate_config::ClusterConfig;
use quorate_protocol::ids::{ClusterId, ReplicaAddress, ReplicaId, ShardId};
use quorate_wire::{Frame, FrameReader, Hello, NONCE_BYTES, Origin, WIRE_VERSION, encode_hello};

/// Page 1: a connection that has not said hello by then is closed.
const HANDSHAKE: Duration = Duration::from_secs(5);
const PAYLOAD_MAX: u32 = (1 << 20) + 4096;
const HELLO: u16 = 1;
const REQUEST: u16 = 5;

/// One frame, field by field.
struct RawFrame {
    magic: [u8; 4],
    version: u16,
    kind: u16,
    length: u32,
    cluster: u64,
    payload: Vec<u8>,
    crc_right: bool,
}

impl RawFrame {
    fn new(cluster: u64, kind: u16, payload: Vec<u8>) -> Self {
        Self {
            magic: *b"QRT1",
            version: WIRE_VERSION,
            kind,
            length: u32::try_from(payload.len()).unwrap(),
            cluster,
            payload,
            crc_right: true,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.magic);
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend(self.length.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.cluster.to_le_bytes());
        bytes.extend([0; 24]);
        bytes.extend(&self.payload);
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        let crc = crc32(&bytes) ^ u32::from(!self.crc_right);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// CRC-32 (ISO-HDLC), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
        })
    })
}

/// The server under test.
struct Target {
    port: u16,
    cluster: u64,
    genesis: String,
}

impl Target {
    fn of(cluster: &Cluster) -> Self {
        let config = ClusterConfig::load(cluster.file()).unwrap();
        Self {
            port: cluster.base_port(),
            cluster: config.cluster_id.0,
            genesis: config.genesis().to_string(),
        }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap()
    }

    /// A connection after a handshake that went well.
    fn connect_as_client(&self) -> TcpStream {
        let cluster = ClusterId(self.cluster);
        let hello = Hello {
            origin: Origin::Client { id: 7 },
            target: ReplicaAddress {
                shard: ShardId(1),
                replica: ReplicaId(1),
            },
            genesis: self.genesis.clone(),
            nonce: [0; NONCE_BYTES],
        };
        let mut bytes = Vec::new();
        encode_hello(cluster, &hello, &mut bytes).unwrap();
        let mut stream = self.connect();
        stream.write_all(&bytes).unwrap();
        let mut reader = FrameReader::new(cluster);
        loop {
            match reader.next_frame().unwrap() {
                Some(Frame::HelloAck(_)) => return stream,
                Some(other) => panic!("instead of an acknowledgement: {other:?}"),
                None => {
                    let bytes = stream.read(reader.space()).unwrap();
                    assert!(bytes > 0, "closed in the handshake");
                    reader.advance(bytes);
                }
            }
        }
    }

    fn hello(&self) -> RawFrame {
        let mut bytes = Vec::new();
        let hello = Hello {
            origin: Origin::Client { id: 7 },
            target: ReplicaAddress {
                shard: ShardId(1),
                replica: ReplicaId(1),
            },
            genesis: self.genesis.clone(),
            nonce: [0; NONCE_BYTES],
        };
        encode_hello(ClusterId(self.cluster), &hello, &mut bytes).unwrap();
        let length = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
        let payload = bytes[48..48 + usize::try_from(length).unwrap()].to_vec();
        let frame = RawFrame::new(self.cluster, HELLO, payload);
        assert_eq!(
            frame.bytes(),
            bytes,
            "this test and the server disagree about the format"
        );
        frame
    }
}

/// Sends and waits until the server hangs up, which must happen within the handshake's time.
fn assert_hung_up(mut stream: TcpStream, bytes: &[u8], what: &str) -> Duration {
    let start = Instant::now();
    stream.set_read_timeout(Some(patience(HANDSHAKE))).unwrap();
    // The server may have hung up before it had everything.
    let _ = stream.write_all(bytes);
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{what}: the server did not hang up: {error}"),
    }
    start.elapsed()
}

/// Bytes without structure, the same in every run.
fn garbage(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    })
    .take(bytes)
    .collect()
}

/// Every way to be wrong in the first frame: what, and the bytes.
fn wrong_first_frames(target: &Target) -> Vec<(&'static str, Vec<u8>)> {
    let hello = || target.hello();
    let with = |change: &dyn Fn(&mut RawFrame)| {
        let mut frame = hello();
        change(&mut frame);
        frame.bytes()
    };
    vec![
        ("garbage", garbage(100_000)),
        (
            "an HTTP request",
            b"GET / HTTP/1.1\r\nHost: ledger\r\n\r\n".repeat(3),
        ),
        ("length 0", with(&|frame| frame.length = 0)),
        (
            "length maximum + 1",
            with(&|frame| frame.length = PAYLOAD_MAX + 1),
        ),
        ("length 2^32 - 1", with(&|frame| frame.length = u32::MAX)),
        (
            "wrong version",
            with(&|frame| frame.version = WIRE_VERSION + 1),
        ),
        ("wrong cluster", with(&|frame| frame.cluster ^= 1)),
        ("unknown kind", with(&|frame| frame.kind = 99)),
        ("wrong checksum", with(&|frame| frame.crc_right = false)),
        (
            "corrupt payload with right checksum",
            with(&|frame| frame.payload.iter_mut().for_each(|byte| *byte = 0xff)),
        ),
        (
            "a request before the hello",
            RawFrame::new(target.cluster, REQUEST, vec![0; 64]).bytes(),
        ),
    ]
}

#[test]
fn hostile_bytes_are_refused_and_others_are_served() {
    let cluster = Cluster::start("hostile", Shape::USUAL);
    let target = Target::of(&cluster);
    let pids = pids(&cluster);
    let mut load = Load::start(
        &cluster,
        "beside",
        14,
        &["--workload", "uniform", "--clients", "4"],
    );
    load.wait_for_acks();

    for (what, bytes) in wrong_first_frames(&target) {
        assert_hung_up(target.connect(), &bytes, what);
    }
    let structure = |length: usize| RawFrame::new(target.cluster, REQUEST, garbage(length)).bytes();
    for length in [1, 16, 4096, usize::try_from(PAYLOAD_MAX).unwrap()] {
        let what = format!("{length} bytes of garbage in a well-framed request");
        assert_hung_up(target.connect_as_client(), &structure(length), &what);
    }
    // Silence inside a frame ends after the time for a handshake, not before.
    let hello = target.hello().bytes();
    let slow = assert_hung_up(target.connect(), &hello[..hello.len() / 2], "half a hello");
    assert!(slow >= HANDSHAKE / 2, "closed after {slow:?}");
    let mut announced = target.hello();
    announced.length = PAYLOAD_MAX;
    announced.payload = vec![0; 100];
    assert_hung_up(
        target.connect(),
        &announced.bytes(),
        "length maximum, then silence",
    );

    assert_refusals_are_counted(
        &cluster,
        &["magic", "length", "version", "cluster", "crc", "structure"],
    );
    let report = load.finish();
    assert_eq!(report.code, Some(0), "{}", report.run);
    assert!(report.committed() > 0);
    assert_eq!(
        report.run["unknown"], 0,
        "another client felt it: {}",
        report.run
    );
    assert_eq!(self::pids(&cluster), pids, "a node was restarted or died");
    cluster.assert_sound(Duration::from_secs(15));
}

#[test]
fn a_thousand_bad_connections_leave_room_for_a_good_one() {
    let cluster = Cluster::start("crowd", Shape::SINGLE);
    let target = Target::of(&cluster);
    // Open at the same time, each with half a hello.
    let hello = target.hello().bytes();
    let crowd: Vec<TcpStream> = (0..1000)
        .map(|_| {
            let mut stream = target.connect();
            stream.write_all(&hello[..20]).unwrap();
            stream
        })
        .collect();
    let status = cluster.json(["status"]);
    assert_eq!(status["replicas"][0]["serving"], true, "{status}");
    drop(crowd);
    cluster.assert_sound(Duration::from_secs(15));
}

fn pids(cluster: &Cluster) -> Vec<u64> {
    let nodes = cluster.json(["cluster", "ps"]);
    let nodes = nodes["nodes"].as_array().unwrap();
    nodes
        .iter()
        .map(|node| node["pid"].as_u64().expect("alive"))
        .collect()
}

/// The node's log tells the counters a little later.
fn assert_refusals_are_counted(cluster: &Cluster, causes: &[&str]) {
    until(
        Duration::from_secs(15),
        &format!("counters of {causes:?} in the log"),
        || {
            let logs = cluster
                .quorate(["cluster", "logs", "--node", "1", "-n", "1000"])
                .stdout;
            causes
                .iter()
                .all(|cause| logs.contains(&format!("{cause}=")))
                .then_some(())
        },
    );
}
