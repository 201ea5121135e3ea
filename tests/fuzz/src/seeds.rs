//! The inputs that fuzzing starts from: what the real encoders write, and a few things that nobody would.

use std::path::Path;
use std::rc::Rc;

use quorate_config::{ClusterConfig, GenerateOptions};
use quorate_protocol::ids::ClusterId;
use quorate_protocol::shard::map::Placement;
use quorate_storage::wal::{Operation, Record, SegmentNumber, Wal, recover};
use quorate_wire::WIRE_VERSION;

use crate::log::{Files, OPTIONS, SEGMENT_BYTES, identity, pack};

/// Name and bytes of each input of a target.
pub type Seeds = Vec<(String, Vec<u8>)>;

/// The inputs of the target of this name.
///
/// # Panics
/// If there is no such target.
#[must_use]
pub fn of(target: &str) -> Seeds {
    match target {
        "frame" => frames(),
        "log" => logs(),
        "config" => configs(),
        "scenario" => scenarios(),
        _ => panic!("no target {target}"),
    }
}

fn named(name: &str, bytes: impl AsRef<[u8]>) -> (String, Vec<u8>) {
    (name.to_owned(), bytes.as_ref().to_vec())
}

/// Every message as the encoder writes it, and streams of them that go wrong.
fn frames() -> Seeds {
    let path = format!("../../engine/wire/tests/golden/v{WIRE_VERSION}.txt");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let golden = std::fs::read_to_string(&path).expect("the golden frames of this wire version");
    let mut seeds: Seeds = golden
        .lines()
        .map(|line| {
            let (name, hex) = line.split_once(' ').expect("name and bytes");
            named(name, unhex(hex))
        })
        .collect();
    let first = seeds[0].1.clone();
    let stream: Vec<u8> = seeds.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    let edited = |at: usize, bytes: &[u8]| {
        let mut frame = first.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    seeds.extend([
        named("nasty_empty", []),
        named("nasty_all_cut", &stream[..stream.len() - 5]),
        named("nasty_header_alone", &first[..48]),
        named("nasty_length_0", edited(8, &[0; 4])),
        named("nasty_length_max", edited(8, &1_052_672_u32.to_le_bytes())),
        named("nasty_length_beyond", edited(8, &u32::MAX.to_le_bytes())),
        named("nasty_kind_0", edited(6, &[0, 0])),
        named(
            "nasty_http",
            b"GET / HTTP/1.1\r\nHost: quorate\r\nAccept: */*\r\n\r\n",
        ),
        named("all", stream),
    ]);
    seeds
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().as_chunks::<2>().0.iter();
    digits
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("hexadecimal is ASCII");
            u8::from_str_radix(pair, 16).expect("hexadecimal")
        })
        .collect()
}

/// A log that is written as the runtime writes it.
struct Writer {
    life: u8,
    files: Files,
    log: Wal<Rc<[u8]>>,
    seq: u64,
    slot: u64,
}

impl Writer {
    fn format(life: u8) -> Self {
        let files = Files::from([(SegmentNumber::FIRST, vec![0; SEGMENT_BYTES])]);
        let first = [(
            SegmentNumber::FIRST,
            files[&SegmentNumber::FIRST].as_slice(),
        )];
        let recovery = recover(&first, &identity(life)).expect("a formatted log");
        Self {
            life,
            log: Wal::resume(recovery, OPTIONS),
            files,
            seq: 0,
            slot: 0,
        }
    }

    fn accepted(&mut self, bytes: usize) -> Record<Rc<[u8]>> {
        self.slot += 1;
        Record::Accepted {
            ballot: 257,
            slot: self.slot,
            payload: vec![0xA5; bytes].into(),
        }
    }

    /// One flush.
    fn flush(mut self, records: &[usize], others: &[Record<Rc<[u8]>>]) -> Self {
        let accepted: Vec<_> = records.iter().map(|bytes| self.accepted(*bytes)).collect();
        for record in accepted.into_iter().chain(others.iter().cloned()) {
            self.seq += 1;
            self.log.append(self.seq, record);
        }
        while self.log.pending() {
            while let Some(operation) = self.log.next_operation() {
                match operation {
                    Operation::Prepare { segment } => {
                        self.files.insert(segment, vec![0; SEGMENT_BYTES]);
                    }
                    Operation::Recycle { from, to } => {
                        let file = self.files.remove(&from).expect("free");
                        self.files.insert(to, file);
                    }
                }
                self.log.finish_operation(operation);
            }
            let mut flush = self.log.start_flush().expect("segments are ready");
            let file = self.files.get_mut(&flush.segment()).expect("prepared");
            let start = usize::try_from(flush.offset()).expect("small");
            let length = flush.length();
            flush.encode(&mut file[start..start + length]);
            self.log.finish_flush(flush);
        }
        self
    }

    /// Short entries, each flushed alone, and what lies below is released.
    fn flushes(mut self, count: usize, release: bool) -> Self {
        for _ in 0..count {
            if release {
                self.log.release_below(self.slot);
            }
            self = self.flush(&[40], &[]);
        }
        self
    }

    fn packed(&self, name: &str) -> (String, Vec<u8>) {
        named(name, pack(self.life, &self.files))
    }

    /// With `bytes` written over what is there.
    fn damaged(&self, name: &str, segment: u64, at: usize, bytes: &[u8]) -> (String, Vec<u8>) {
        let mut files = self.files.clone();
        let file = files.get_mut(&SegmentNumber(segment)).expect("it is there");
        file[at..at + bytes.len()].copy_from_slice(bytes);
        named(name, pack(self.life, &files))
    }
}

fn logs() -> Seeds {
    let promise = [Record::Promise { ballot: 257 }];
    let chosen = [Record::Chosen { upto: 2 }];
    let mixed = |life| {
        Writer::format(life)
            .flush(&[], &promise)
            .flush(&[40, 300, 7], &chosen)
            .flush(&[1000], &[])
    };
    let full = || mixed(4).flush(&[4000, 100], &[]).flush(&[3000], &promise);
    let recycled = Writer::format(5).flushes(5, true);
    let mut missing = full().files;
    missing.remove(&SegmentNumber(2));
    vec![
        Writer::format(0).packed("formatted"),
        Writer::format(1).flush(&[], &promise).packed("promise"),
        mixed(2).packed("mixed"),
        mixed(3).flush(&[], &[Record::Clean]).packed("stopped"),
        full().packed("segments"),
        recycled.packed("recycled"),
        recycled.flushes(2, false).packed("recycled_and_used"),
        full().damaged("nasty_torn_head", 3, 4096, &[0; 512]),
        full().damaged("nasty_rotten_payload", 1, 8192 + 200, b"rot"),
        full().damaged("nasty_rotten_segment_header", 2, 20, b"rot"),
        full().damaged("nasty_hole", 1, 8192, &[0; 512]),
        named("nasty_missing_segment", pack(4, &missing)),
        named("nasty_nothing", []),
    ]
}

fn configs() -> Seeds {
    let generated = |shards, replicas, nodes, placement| {
        let options = GenerateOptions {
            cluster_id: ClusterId(7),
            shards,
            replicas,
            nodes,
            directory: "/d".into(),
            base_port: 4000,
            placement,
            host_cores: 2,
        };
        let config = ClusterConfig::generate(&options);
        config.expect("these options fit each other").to_toml()
    };
    let range = Placement::Range {
        accounts_per_shard: 3000,
    };
    let small = generated(1, 1, 1, Placement::Hash);
    let layout = small.replace("layout =", "# layout =")
        + "\n[timing]\nheartbeat = \"20ms\"\n\n[limits]\nconnections = 64\nidle_timeout = \"1d\"\n";
    let replaced = |from: &str, to: &str| {
        assert!(small.contains(from), "{small}");
        small.replace(from, to)
    };
    vec![
        named("one", &small),
        named("three_by_three", generated(3, 3, 3, Placement::Hash)),
        named("nine_nodes", generated(3, 3, 9, range)),
        named("tables", layout),
        named("nasty_empty", ""),
        named("nasty_unknown_key", format!("clusterid = 7\n{small}")),
        named("nasty_twice", format!("shards = 1\n{small}")),
        named("nasty_zero", replaced("shards = 1", "shards = 0")),
        named(
            "nasty_huge",
            replaced("shards = 1", "shards = 99999999999999999999"),
        ),
        named("nasty_type", replaced("shards = 1", "shards = [1]")),
        named(
            "nasty_keep",
            replaced("keep = \"all\"", "keep = \"500000000000y\""),
        ),
        named(
            "nasty_years",
            replaced("keep = \"all\"", "keep = \"1000y\""),
        ),
        named(
            "nasty_open_string",
            replaced("keep = \"all\"", "keep = \"all"),
        ),
        named("nasty_not_toml", "cluster: 7\n- shards\n"),
    ]
}

fn scenarios() -> Seeds {
    const HEADER: &str = "Set Number,Transactions,Live Nodes\n";
    let with = |rows: &str| format!("{HEADER}{rows}");
    vec![
        named(
            "sets",
            with(
                "1,\"(21, 700, 2)\",\"[n1, n2, n4, n5, n7, n8]\"\n,\"(100, 501, 8)\",\n,F(n5),\n\
                 ,\"(702, 1301, 2)\",\n,R(n5),\n,(1301),\n2,(1),[n9]\n,\"(9000, 1, 10)\",\n",
            ),
        ),
        named(
            "line_ends",
            with("1,(1),[n1]\n\n,(2),\n").replace('\n', "\r\n"),
        ),
        named("byte_order_mark", format!("\u{feff}{}", with("7,(1),[n1]"))),
        named("nasty_empty", ""),
        named("nasty_header_alone", HEADER),
        named("nasty_header", "a,b\n1,(1),[n1]\n"),
        named("nasty_unquoted", with("1,(1, 2, 3),[n1, n2]\n")),
        named("nasty_open_quote", with("1,\"(1, 2, 3),[n1]\n,(2),\n")),
        named("nasty_no_set", with(",(1),\n")),
        named(
            "nasty_huge",
            with("1,\"(1, 2, 340282366920938463463374607431768211456)\",[n1]\n"),
        ),
        named("nasty_sign", with("1,\"(1, 2, +3)\",[n1]\n")),
        named("nasty_same_set", with("1,(1),[n1]\n1,(1),[n1]\n")),
        named(
            "nasty_bytes",
            [HEADER.as_bytes(), b"1,(\xff\xfe),[n1]\n"].concat(),
        ),
        named(
            "nasty_quoted_line_end",
            with("1,\"(1,\n 2, 3)\",[n1]\n,(5),\n"),
        ),
    ]
}
