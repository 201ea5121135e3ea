//! What a transfer costs the disk: write amplification per batch size, and what flushing copies.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use quorate_storage::superblock::Identity;
use quorate_storage::wal::{Options, SegmentNumber, Wal, recover};

use support::{IDENTITY, Payload, accepted, begin};

/// Bytes flushed per byte of payload, of `flushes` flushes of one record each.
fn amplification(payload_bytes: usize, flushes: u64) -> f64 {
    let identity = Identity {
        segment_bytes: 64 << 20,
        ..IDENTITY
    };
    let blank = vec![0; 64 << 20];
    let recovery = recover(&[(SegmentNumber::FIRST, &blank)], &identity).unwrap();
    let mut log: Wal<Payload> = Wal::resume(recovery, Options::default());
    for slot in 1..=flushes {
        log.append(slot, accepted(1, slot, payload_bytes));
        let (flush, _) = begin(&mut log).unwrap();
        log.finish_flush(flush);
    }
    let counters = log.counters();
    assert_eq!(counters.payload_bytes, flushes * payload_bytes as u64);
    assert_eq!((counters.flushes, counters.records), (flushes, flushes));
    counters.flushed_bytes as f64 / counters.payload_bytes as f64
}

/// 128 bytes a transfer, 48 bytes an entry's headers. A lone transfer costs a whole block; a full
/// batch costs itself.
#[test]
fn a_full_batch_is_written_once() {
    let batch = |transfers: usize| amplification(48 + transfers * 128, 32);
    assert!((23.0..24.5).contains(&batch(1)), "{}", batch(1));
    assert!(batch(100) < 1.30, "{}", batch(100));
    assert!(batch(8_190) < 1.005, "{}", batch(8_190));
}

#[test]
fn what_waits_goes_out_in_one_flush_up_to_its_limit() {
    let mut disk = support::Disk::formatted();
    let (_, mut log) = disk.open();
    for slot in 1..=40 {
        log.append(slot, accepted(1, slot, 1_000));
    }
    let waiting = log.pending_bytes();
    assert_eq!(waiting, 40 * 1_104);
    let (flush, bytes) = begin(&mut log).unwrap();
    // Behind the segment's header, 25 frames of 1,104 bytes fit into 32 KiB.
    assert_eq!((flush.upto(), bytes.len()), (25, 32 << 10));
    assert!(log.start_flush().is_none(), "one flush at a time");
    assert_eq!(log.pending_bytes(), 15 * 1_104);
    log.finish_flush(flush);
    let (flush, bytes) = begin(&mut log).unwrap();
    assert_eq!((flush.offset(), flush.upto()), (32 << 10, 40));
    assert_eq!(bytes.len(), 5 * 4096);
    log.finish_flush(flush);
    assert!(!log.pending());
}

#[test]
fn a_flush_waits_for_its_segment_and_for_nothing_else() {
    let mut disk = support::Disk::formatted();
    let (_, mut log) = disk.open();
    log.append(1, accepted(1, 1, 50_000));
    log.append(2, accepted(1, 2, 50_000));
    let (flush, _) = begin(&mut log).unwrap();
    log.finish_flush(flush);
    // The second record needs the next segment, which is not there.
    assert!(log.start_flush().is_none());
    let operation = log.next_operation().unwrap();
    assert!(log.next_operation().is_none(), "one operation at a time");
    assert!(log.start_flush().is_none());
    log.finish_operation(operation);
    let (flush, _) = begin(&mut log).unwrap();
    assert_eq!((flush.segment(), flush.offset()), (SegmentNumber(2), 0));
    // The one after it is prepared while this flush is open.
    assert!(log.next_operation().is_some());
    assert_eq!(log.finish_flush(flush), 2);
}

#[test]
#[should_panic(expected = "payload")]
fn a_record_that_no_segment_can_hold_is_refused() {
    let mut disk = support::Disk::formatted();
    let (_, mut log) = disk.open();
    let largest = log.payload_bytes_max();
    log.append(1, accepted(1, 1, largest));
    log.append(2, accepted(1, 2, largest + 1));
}
