//! Recovery of the log from segments that hold anything.

use std::collections::BTreeMap;
use std::rc::Rc;

use quorate_storage::superblock::{Identity, Seal};
use quorate_storage::wal::frame::HEADER_BYTES;
use quorate_storage::wal::recovery::DAMAGE_LISTED_MAX;
use quorate_storage::wal::{
    Options, Record, Recovery, Repair, SLOT_JUMP_MAX, SegmentNumber, Wal, recover,
};

use crate::Verdict;

const BLOCK: usize = 4096;
/// As in the exhaustive worlds: a header block and two more.
pub const SEGMENT_BYTES: usize = 3 * BLOCK;
const SEGMENTS_MAX: u8 = 5;

/// Whose log it is. Each seed has a life of its own: a block of another one can come into it, and is
/// told apart by its seal. Two histories under one seal are nothing that a disk can make of one.
#[must_use]
pub fn identity(life: u8) -> Identity {
    Identity {
        cluster: 7,
        shard: 2,
        replica: 3,
        segment_bytes: SEGMENT_BYTES as u64,
        created_ns: 1_700_000_000_000_000_000 + u64::from(life),
    }
}
/// How the log goes on.
pub const OPTIONS: Options = Options {
    flush_bytes_max: 32 << 10,
    segments_ahead: 1,
};
/// Frames and flushes are numbered far below; a log that was shown higher ones could not go on.
const NUMBER_MAX: u64 = 1 << 55;

/// The files of a log.
pub type Files = BTreeMap<SegmentNumber, Vec<u8>>;

/// Looks at the segments as they are, with every checksum put right, and with the chain put right, too.
pub fn run(bytes: &[u8]) -> Verdict {
    let Some((life, bytes)) = bytes.split_first() else {
        return Verdict::Refused;
    };
    let identity = identity(*life);
    let plain = unpack(bytes);
    ends(seal(&plain, Chain::AsItIs, identity.seal()), &identity);
    ends(seal(&plain, Chain::Mended, identity.seal()), &identity);
    // A missing file and a tear at once may be reported one after the other, start by start.
    if plain
        .keys()
        .zip(plain.keys().skip(1))
        .any(|(one, next)| one.next() != *next)
    {
        ends(plain, &identity);
        return Verdict::Refused;
    }
    recovers(plain, &identity)
}

/// Records that no log would write, under right checksums: nothing panics and nothing is unbounded, and
/// repairs come to an end.
fn ends(mut files: Files, identity: &Identity) {
    // Each repair that writes leaves fewer frames.
    for _ in 0..=files.len() * SEGMENT_BYTES / HEADER_BYTES {
        let Ok(recovery) = read(&files, identity) else {
            return;
        };
        bounded(&files, &recovery);
        if !repair(&mut files, &recovery) {
            return;
        }
    }
    panic!("repaired over and over");
}

/// Segments out of an input, behind its first byte, which is the life: pieces of `segment, block, length (2 bytes), bytes`, each written to the
/// start of a block. A segment that no piece names is missing; what no piece covers is zero.
#[must_use]
pub fn unpack(mut bytes: &[u8]) -> Files {
    let mut files = Files::new();
    while let [segment, block, low, high, rest @ ..] = bytes {
        let number = SegmentNumber(1 + u64::from(segment % SEGMENTS_MAX));
        let start = usize::from(block % 3) * BLOCK;
        let wanted = usize::from(u16::from_le_bytes([*low, *high]));
        let length = wanted.min(rest.len()).min(SEGMENT_BYTES - start);
        let file = files
            .entry(number)
            .or_insert_with(|| vec![0; SEGMENT_BYTES]);
        file[start..start + length].copy_from_slice(&rest[..length]);
        bytes = &rest[length..];
    }
    files
}

/// The input that unpacks to these segments.
///
/// # Panics
/// If there are more or other segments than an input can name.
#[must_use]
pub fn pack(life: u8, files: &Files) -> Vec<u8> {
    let mut out = vec![life];
    for (number, bytes) in files {
        let segment = u8::try_from(number.0 - 1).expect("a low segment");
        assert!(segment < SEGMENTS_MAX && bytes.len() == SEGMENT_BYTES);
        out.extend([segment, 0, 0, 0]);
        for (block, bytes) in (0_u8..).zip(bytes.chunks(BLOCK)) {
            let end = bytes
                .iter()
                .rposition(|&byte| byte != 0)
                .map_or(0, |at| at + 1);
            if end > 0 {
                out.extend([segment, block]);
                out.extend(u16::try_from(end).expect("a block").to_le_bytes());
                out.extend(&bytes[..end]);
            }
        }
    }
    out
}

fn recovers(mut files: Files, identity: &Identity) -> Verdict {
    let recovery = match read(&files, identity) {
        Ok(recovery) => recovery,
        Err(reason) => {
            assert!(!reason.is_empty());
            return Verdict::Refused;
        }
    };
    bounded(&files, &recovery);
    repair(&mut files, &recovery);
    let again = read(&files, identity).expect("a repaired log opens");
    same(&recovery, &again);
    assert!(!repair(&mut files, &again), "repaired once");
    if again.end.chain.number < NUMBER_MAX && again.end.flush < NUMBER_MAX {
        goes_on(files, again, identity);
    }
    match recovery.frames {
        0 => Verdict::Refused,
        _ => Verdict::Taken,
    }
}

/// Carries out what a recovery asks for; tells whether anything was written.
fn repair(files: &mut Files, recovery: &Recovery) -> bool {
    let mut wrote = false;
    for repair in &recovery.repairs {
        if let Repair::Write {
            segment,
            offset,
            bytes,
        } = repair
        {
            let at = usize::try_from(*offset).expect("small");
            let file = files.get_mut(segment).expect("repairs name files");
            file[at..at + bytes.len()].copy_from_slice(bytes);
            wrote = true;
        }
    }
    wrote
}

/// Nothing is larger than what it was read from.
fn bounded(files: &Files, recovery: &Recovery) {
    assert!(recovery.damage.len() <= DAMAGE_LISTED_MAX);
    let room = files.len() * SEGMENT_BYTES;
    assert!(recovery.frames <= (room / HEADER_BYTES) as u64);
    let slots: Vec<u64> = recovery.index.iter().map(|(slot, _)| slot).collect();
    assert!(slots.len() as u64 <= recovery.frames);
    assert!(
        slots
            .windows(2)
            .all(|pair| pair[1] - pair[0] <= SLOT_JUMP_MAX + 1)
    );
    for (_, location) in recovery.index.iter() {
        let end = location.offset as usize + location.length as usize;
        assert!(files.contains_key(&location.segment) && end <= SEGMENT_BYTES);
    }
    for repair in &recovery.repairs {
        if let Repair::Write {
            segment,
            offset,
            bytes,
        } = repair
        {
            let start = usize::try_from(*offset).expect("small");
            assert!(start.is_multiple_of(BLOCK) && bytes.len().is_multiple_of(BLOCK));
            assert!(!bytes.is_empty() && start + bytes.len() <= SEGMENT_BYTES);
            assert!(*segment >= recovery.end.segment, "behind the end");
        }
    }
    assert!(files.contains_key(&recovery.end.segment));
    assert!(recovery.end.offset as usize <= SEGMENT_BYTES);
}

/// The repaired log reads as the log before did; damage does not heal by that.
fn same(one: &Recovery, two: &Recovery) {
    assert_eq!(one.end.chain, two.end.chain);
    assert_eq!(
        (one.end.segment, one.end.offset),
        (two.end.segment, two.end.offset)
    );
    assert_eq!(
        (one.promised, one.chosen_upto),
        (two.promised, two.chosen_upto)
    );
    assert!(one.index.iter().eq(two.index.iter()));
    assert_eq!(one.damage, two.damage);
    assert_eq!(one.damage_unlisted, two.damage_unlisted);
}

/// A record that is appended behind it is found behind it, and nothing else changes.
fn goes_on(mut files: Files, recovery: Recovery, identity: &Identity) {
    let (number, damage) = (recovery.end.chain.number, recovery.damage.clone());
    let upto = recovery.chosen_upto;
    let index = recovery.index.clone();
    let mut log: Wal<Rc<[u8]>> = Wal::resume(recovery, OPTIONS);
    log.append(1, Record::Chosen { upto });
    let mut flush = loop {
        match (log.start_flush(), log.next_operation()) {
            (Some(flush), _) => break flush,
            (None, Some(operation)) => {
                perform(&mut files, operation);
                log.finish_operation(operation);
            }
            (None, None) => panic!("the log is stuck"),
        }
    };
    let file = files.get_mut(&flush.segment()).expect("it was prepared");
    let start = usize::try_from(flush.offset()).expect("small");
    let length = flush.length();
    flush.encode(&mut file[start..start + length]);
    assert_eq!(log.finish_flush(flush), 1);
    let after = read(&files, identity).expect("the log opens");
    assert_eq!(after.end.chain.number, number + 1);
    assert_eq!(after.damage, damage, "nothing new");
    assert!(after.index.iter().eq(index.iter()));
}

fn perform(files: &mut Files, operation: quorate_storage::wal::Operation) {
    use quorate_storage::wal::Operation;

    match operation {
        Operation::Prepare { segment } => {
            files.insert(segment, vec![0; SEGMENT_BYTES]);
        }
        Operation::Recycle { from, to } => {
            let file = files.remove(&from).expect("free files are there");
            files.insert(to, file);
        }
    }
}

fn read(files: &Files, identity: &Identity) -> Result<Recovery, String> {
    let files: Vec<(SegmentNumber, &[u8])> = files
        .iter()
        .map(|(number, bytes)| (*number, bytes.as_slice()))
        .collect();
    recover(&files, identity).map_err(|error| error.to_string())
}

/// What [`seal`] does to the fields that repeat the frame before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    AsItIs,
    Mended,
}

/// Puts right every checksum of what looks like a segment's header or a frame, by the byte tables of
/// `docs/reference/storage-format.md`.
#[must_use]
pub fn seal(files: &Files, chain: Chain, seal: Seal) -> Files {
    let mut out = files.clone();
    // Kind, ballot and slot of the frame before, and its checksum.
    let mut before: Option<([u8; 17], [u8; 4])> = None;
    for bytes in out.values_mut() {
        if bytes.starts_with(b"QSEG") {
            let crc = crc32fast::hash(&bytes[..124]);
            bytes[124..128].copy_from_slice(&crc.to_le_bytes());
        }
        let mut at = BLOCK;
        while at + HEADER_BYTES <= bytes.len() {
            if !bytes[at..].starts_with(b"QFRM") {
                at += 16;
                continue;
            }
            let place = u32::try_from(at).expect("small").to_le_bytes();
            bytes[at + 12..at + 16].copy_from_slice(&place);
            if let (Chain::Mended, Some((name, crc))) = (chain, before) {
                bytes[at + 6] = name[0];
                bytes[at + 56..at + 72].copy_from_slice(&name[1..]);
                bytes[at + 80..at + 84].copy_from_slice(&crc);
            }
            at += stamp(&mut bytes[at..], seal, &mut before);
        }
    }
    out
}

/// Stamps the frame at the front and returns its length. A length that leads out of the segment stays
/// wrong: then only the header is stamped.
fn stamp(bytes: &mut [u8], seal: Seal, before: &mut Option<([u8; 17], [u8; 4])>) -> usize {
    let payload = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize;
    let whole = HEADER_BYTES.saturating_add(payload);
    let end = if whole <= bytes.len() {
        whole
    } else {
        HEADER_BYTES
    };
    seal.stamp(&mut bytes[..end]);
    let mut name = [bytes[5]; 17];
    name[1..].copy_from_slice(&bytes[40..56]);
    let crc = bytes[92..96].try_into().expect("4 bytes");
    *before = Some((name, crc));
    end.next_multiple_of(16)
}
