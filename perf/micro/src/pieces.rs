//! The pieces, by name. Each is made once and then run as often as is wanted.

use std::hint::black_box;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, bail};
use quorate_protocol::client::{Request, RequestBody};
use quorate_protocol::ids::{AccountId, ClusterId, RequestId, TransferId};
use quorate_protocol::ledger::Transfer;
use quorate_protocol::limits::{BATCH_MAX, TELEMETRY_PAIRS_MAX};
use quorate_protocol::shard::pair_table::PairTable;
use quorate_protocol::shard::telemetry::Telemetry;
use quorate_protocol::time::Timestamp;
use quorate_protocol::words::Rows;
use quorate_storage::store::{AccountIndex, Place};
use quorate_wire::{FrameReader, encode_request};

use crate::history::{BUCKET_ROWS, History};
use crate::world::World;

/// What there is, and what one run of it does. A piece is called by its kind and its batch, such as `local-8190`.
pub const KINDS: [(&str, &str); 11] = [
    (
        "local",
        "one replica: a request of N transfers, admitted, logged, applied, answered",
    ),
    ("group", "the same by a leader and two followers"),
    (
        "cross",
        "two shards of one replica: N transfers from one to the other",
    ),
    ("across", "the same by leaders with two followers each"),
    ("encode", "a request of N transfers into a frame"),
    ("decode", "a frame of N transfers into a request"),
    ("crc", "the checksum of N transfers"),
    (
        "find",
        "N places of accounts in the store's index of a million",
    ),
    (
        "history",
        "N times 256 history rows into a checkpoint of the store, with their index",
    ),
    (
        "note",
        "what telemetry of N transfers takes of a leader: noted, and put into the queue of another thread",
    ),
    (
        "fold",
        "what it takes of that thread: N known pairs counted in a full table",
    ),
];

/// A piece that is ready to run.
pub struct Piece {
    run: Box<dyn FnMut()>,
    /// Transfers, look-ups or history rows per run.
    pub batch: usize,
}

impl Piece {
    /// Runs it once.
    pub fn run(&mut self) {
        (self.run)();
    }
}

/// Makes a piece ready.
///
/// # Errors
/// If there is none of this name.
pub fn piece(name: &str) -> anyhow::Result<Piece> {
    let (kind, batch) = name.split_once('-').context("KIND-BATCH")?;
    let batch: usize = batch.parse()?;
    if batch == 0 || batch > BATCH_MAX {
        bail!("a batch of 1 to {BATCH_MAX}");
    }
    let run: Box<dyn FnMut()> = match kind {
        "local" => transfers(World::new(1, 1), batch, false),
        "group" => transfers(World::new(1, 3), batch, false),
        "cross" => transfers(World::new(2, 1), batch, true),
        "across" => transfers(World::new(2, 3), batch, true),
        "encode" => {
            let request = request(batch);
            let mut frame = Vec::new();
            Box::new(move || {
                frame.clear();
                encode_request(CLUSTER, black_box(&request), &mut frame).expect("it fits");
                black_box(&frame);
            })
        }
        "decode" => {
            let mut frame = Vec::new();
            encode_request(CLUSTER, &request(batch), &mut frame)?;
            let mut reader = FrameReader::new(CLUSTER);
            Box::new(move || {
                let mut left = frame.as_slice();
                let decoded = loop {
                    if let Some(decoded) = reader.next_frame().expect("whole") {
                        break decoded;
                    }
                    let space = reader.space();
                    let bytes = left.len().min(space.len());
                    space[..bytes].copy_from_slice(&left[..bytes]);
                    left = &left[bytes..];
                    reader.advance(bytes);
                };
                black_box(decoded);
            })
        }
        "crc" => {
            let bytes = vec![7; batch * size_of::<Transfer>()];
            Box::new(move || {
                black_box(crc32fast::hash(black_box(&bytes)));
            })
        }
        "find" => find(batch),
        "history" => return Ok(history(batch)),
        "note" => note(batch),
        "fold" => fold(batch),
        _ => bail!("no piece {name}"),
    };
    Ok(Piece { run, batch })
}

const CLUSTER: ClusterId = ClusterId(1);

fn transfers(mut world: World, batch: usize, is_cross: bool) -> Box<dyn FnMut()> {
    Box::new(move || world.transfer(batch, is_cross))
}

fn request(batch: usize) -> Request {
    let transfers: Vec<Transfer> = (1..=batch as u128)
        .map(|id| Transfer::new(TransferId(id), AccountId(id), AccountId(id + 1), 1, 1, 1))
        .collect();
    Request {
        id: RequestId(1),
        deadline_ms: 0,
        seen: Timestamp::ZERO,
        body: RequestBody::CreateTransfers(Rows::from_slice(&transfers)),
    }
}

fn find(batch: usize) -> Box<dyn FnMut()> {
    const ACCOUNTS: u32 = 1_000_000;
    let fingerprint = |at: u32| (u64::from(at) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut index = AccountIndex::with_room_for(ACCOUNTS as usize);
    for at in 0..ACCOUNTS {
        index.insert(fingerprint(at), Place(at));
    }
    let mut next = 0_u32;
    Box::new(move || {
        for _ in 0..batch {
            next = (next + 7_919) % ACCOUNTS;
            black_box(index.candidates(black_box(fingerprint(next))).next());
        }
    })
}

fn history(buckets: usize) -> Piece {
    let rows = buckets * BUCKET_ROWS;
    let run = move || {
        let mut history = History::new();
        history.take(rows as u64);
        history.build();
    };
    Piece {
        run: Box::new(run),
        batch: rows,
    }
}

/// Pairs of accounts, as a generator draws them.
struct Drawn(u64);

impl Drawn {
    const PAIRS: u64 = TELEMETRY_PAIRS_MAX as u64;

    fn pair(number: u64) -> (AccountId, AccountId) {
        let id = u128::from(2 * number);
        (AccountId(id + 2), AccountId(id + 1))
    }

    fn next(&mut self) -> (AccountId, AccountId) {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        Self::pair((mixed ^ mixed >> 27) % Self::PAIRS)
    }
}

/// With the queue of the runtime's size. The thread only takes: did it count, the queue would be full most of the time, as no
/// leader commits as fast as this loop.
fn note(batch: usize) -> Box<dyn FnMut()> {
    let (queue, countings) = mpsc::sync_channel(64);
    thread::spawn(move || countings.iter().for_each(drop));
    let (mut telemetry, mut drawn) = (Telemetry::default(), Drawn(1));
    Box::new(move || {
        for _ in 0..batch {
            let (debit, credit) = drawn.next();
            telemetry.note(debit, credit);
        }
        while let Some(counting) = telemetry.poll() {
            black_box(queue.try_send(counting).is_err());
        }
    })
}

fn fold(batch: usize) -> Box<dyn FnMut()> {
    let mut telemetry = Telemetry::default();
    let mut table = PairTable::default();
    let mut count = move |(debit, credit)| {
        telemetry.note(debit, credit);
        while let Some(counting) = telemetry.poll() {
            table.take(counting);
        }
    };
    (0..Drawn::PAIRS).map(Drawn::pair).for_each(&mut count);
    let mut drawn = Drawn(1);
    Box::new(move || {
        for _ in 0..batch {
            count(drawn.next());
        }
    })
}
