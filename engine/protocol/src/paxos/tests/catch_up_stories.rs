//! Holes, serving the log, replay.

use alloc::vec;
use alloc::vec::Vec;

use super::hand::{
    B, C, Hand, accept, ballot, entry, heartbeat, logged, persisted, prepare, promise, sent,
};
use crate::client::Role;
use crate::config::Recovered;
use crate::entry::{Entry, EntryBuilder};
use crate::ids::{Ballot, PersistSeq, Slot};
use crate::ledger::Transfer;
use crate::limits::{BATCH_MAX, LOG_TAIL_BYTES_MAX, TIMING, WINDOW_MAX};
use crate::output::{Record, StopReason};
use crate::paxos::Effect;
use crate::paxos::log::{Held, Log};
use crate::paxos::message::{LoggedEntry, Message};
use crate::time::Timestamp;

fn catch_up(from: u64, upto: u64) -> Message {
    Message::CatchUp {
        from: Slot(from),
        upto: Slot(upto),
    }
}

fn entries(entries: Vec<LoggedEntry>, chosen_upto: u64) -> Message {
    Message::Entries {
        entries,
        chosen_upto: Slot(chosen_upto),
        log_start: Slot(1),
        report: None,
    }
}

fn asked(effects: &[Effect]) -> Vec<Message> {
    let is_question = |message: &Message| matches!(message, Message::CatchUp { .. });
    sent(effects).into_iter().filter(is_question).collect()
}

/// The `Accept` of slot 1 was lost and nothing more is proposed: the next heartbeat uncovers it.
#[test]
fn a_hole_is_asked_for_at_the_first_heartbeat_and_once() {
    let mut hand = Hand::new(3, Recovered::default());
    let leader = ballot(1, B);
    hand.say(B, accept(leader, 2, 0, &entry(leader, 2)));
    assert_eq!(asked(&hand.say(B, heartbeat(leader, 2))), [catch_up(1, 2)]);
    assert_eq!(
        asked(&hand.say(B, heartbeat(leader, 2))),
        [],
        "one question at a time"
    );
    hand.say(B, entries(vec![logged(1, leader, &entry(leader, 1))], 2));
    hand.say(B, heartbeat(leader, 2));
    assert_eq!(hand.applied().len(), 2);
}

#[test]
fn the_next_range_is_asked_for_when_one_has_come_and_a_silent_peer_is_replaced() {
    let mut hand = Hand::new(3, Recovered::default());
    let leader = ballot(1, B);
    let value = entry(leader, 1);
    hand.say(B, heartbeat(leader, 5));
    let next = hand.say(
        B,
        entries(
            vec![logged(1, leader, &value), logged(2, leader, &value)],
            5,
        ),
    );
    assert_eq!(asked(&next), [catch_up(3, 5)]);
    // C is known to have some of it as well.
    hand.say(C, entries(Vec::new(), 4));
    let watermark = hand.time_out();
    assert_eq!(asked(&watermark), [], "B still has time to answer");
    let timed_out = hand.time_out();
    assert!(timed_out.contains(&Effect::Send {
        to: C,
        message: catch_up(3, 4)
    }));
    let moved = hand.say(
        C,
        entries(
            vec![logged(3, leader, &value), logged(4, leader, &value)],
            4,
        ),
    );
    assert!(moved.contains(&Effect::Send {
        to: B,
        message: catch_up(5, 5)
    }));
}

#[test]
fn entries_with_gaps_or_of_slots_known_already_are_harmless() {
    let mut hand = Hand::new(3, Recovered::default());
    let value = |stamp| entry(ballot(1, B), stamp);
    let leader = ballot(1, B);
    hand.say(B, entries(vec![logged(2, leader, &value(2))], 2));
    assert_eq!(hand.core.chosen_upto(), Slot(0));
    let both = entries(
        vec![logged(1, leader, &value(1)), logged(3, leader, &value(3))],
        3,
    );
    hand.say(B, both.clone());
    assert_eq!(hand.core.chosen_upto(), Slot(1));
    assert_eq!(persisted(&hand.say(B, both)), [], "idempotent");
}

#[test]
fn a_peer_that_shows_another_chosen_entry_stops_the_replica() {
    let mut hand = Hand::new(3, Recovered::default());
    let leader = ballot(1, B);
    hand.say(B, entries(vec![logged(1, leader, &entry(leader, 1))], 1));
    let stopped = hand.say(C, entries(vec![logged(1, leader, &entry(leader, 2))], 1));
    let reason = StopReason::Diverged { slot: Slot(1) };
    assert_eq!(
        stopped.last(),
        Some(&Effect::Stop { reason }),
        "nothing follows"
    );
    assert_eq!(hand.core.role(), Role::Stopped);
    assert_eq!(
        hand.say(B, prepare(ballot(9, B))),
        [],
        "it is silent from then on"
    );
    assert_eq!(hand.core.deadline_ns(), u64::MAX);
}

#[test]
fn any_replica_serves_what_it_knows_from_memory_and_older_slots_from_its_log() {
    let leader = ballot(1, B);
    let values = [1, 2, 3].map(|stamp| entry(leader, stamp));
    let recovered = Recovered {
        promised: leader,
        chosen_upto: Slot(2),
        tail: vec![logged(3, leader, &values[2])],
        lost: Vec::new(),
        ..Recovered::default()
    };
    let mut hand = Hand::new(3, recovered);
    let replay = hand.drain();
    assert!(matches!(
        replay[..],
        [Effect::ReadLog {
            from: Slot(1),
            upto: Slot(2),
            ..
        }]
    ));
    hand.say(B, heartbeat(leader, 3));
    assert_eq!(
        hand.core.chosen_upto(),
        Slot(3),
        "it votes and learns while it replays"
    );
    assert_eq!(
        sent(&hand.say(C, catch_up(3, 9))),
        [entries(vec![logged(3, leader, &values[2])], 3)]
    );
    // One read is open: the request waits, the newest of each peer.
    assert_eq!(hand.say(C, catch_up(1, 1)), []);
    assert_eq!(hand.say(C, catch_up(1, 9)), []);
    let both = vec![logged(1, leader, &values[0]), logged(2, leader, &values[1])];
    hand.core
        .on_log_read(hand.now(), Slot(1), both.clone(), None);
    let next = hand.drain();
    assert!(matches!(
        next[..],
        [Effect::ReadLog {
            from: Slot(1),
            upto: Slot(2),
            ..
        }]
    ));
    hand.core
        .on_log_read(hand.now(), Slot(1), both.clone(), None);
    assert_eq!(sent(&hand.drain()), [entries(both, 3)]);
    assert_eq!(hand.applied().len(), 3);
}

#[test]
fn a_log_that_lost_a_durable_slot_stops_the_replica() {
    let recovered = Recovered {
        chosen_upto: Slot(2),
        ..Recovered::default()
    };
    let mut hand = Hand::new(3, recovered);
    hand.drain();
    hand.core.on_log_read(hand.now(), Slot(1), Vec::new(), None);
    assert_eq!(
        hand.drain(),
        [Effect::Stop {
            reason: StopReason::LogLost { slot: Slot(1) }
        }]
    );
}

/// The read for C was still waiting for its turn at the disk when a second checkpoint released the slot: it
/// found nothing, and the replica, which needs the slot no longer, took that for a loss and stopped.
#[test]
fn a_slot_that_is_released_while_it_is_read_for_a_peer_is_no_loss() {
    let leader = ballot(1, B);
    let all = [1, 2, 3].map(|slot| logged(slot, leader, &entry(leader, slot)));
    let recovered = Recovered {
        promised: leader,
        chosen_upto: Slot(3),
        ..Recovered::default()
    };
    let mut hand = Hand::new(3, recovered);
    hand.drain();
    hand.core
        .on_log_read(hand.now(), Slot(1), all.to_vec(), None);
    assert_eq!(hand.applied().len(), 3);
    let read = hand.say(C, catch_up(1, 3));
    assert!(matches!(read[..], [Effect::ReadLog { from: Slot(1), .. }]));
    hand.core.on_checkpoint(Slot(1), 1, 0);
    hand.core.on_checkpoint(Slot(2), 1, 0);
    assert!(
        hand.drain()
            .contains(&Effect::ReleaseLog { below: Slot(2) })
    );
    hand.core.on_log_read(hand.now(), Slot(1), Vec::new(), None);
    let answer = Message::Entries {
        entries: Vec::new(),
        chosen_upto: Slot(3),
        log_start: Slot(2),
        report: None,
    };
    assert_eq!(sent(&hand.drain()), [answer]);
}

/// A young ledger takes a checkpoint every second under load. With the log released behind the last but one, a replica that
/// had been away for two seconds would have needed a whole checkpoint.
#[test]
fn the_log_keeps_entries_of_some_weight_however_many_checkpoints_cover_them() {
    let leader = ballot(1, B);
    let all = [1, 2, 3, 4, 5, 6].map(|slot| logged(slot, leader, &entry(leader, slot)));
    let recovered = Recovered {
        promised: leader,
        chosen_upto: Slot(6),
        ..Recovered::default()
    };
    let mut hand = Hand::new(3, recovered);
    hand.drain();
    hand.core
        .on_log_read(hand.now(), Slot(1), all.to_vec(), None);
    assert_eq!(hand.applied().len(), 6);
    // Each checkpoint covers another slot, of weight 10 but for the last one's 100; 20 are to stay.
    let mut released = |slot, weight| {
        hand.core.on_checkpoint(Slot(slot), weight, 20);
        let effects = hand.drain();
        let below = effects.iter().find_map(|effect| match effect {
            Effect::ReleaseLog { below } => Some(below.0),
            _ => None,
        });
        below.expect("told each time")
    };
    let below = [(1, 10), (2, 10), (3, 10), (4, 10)].map(|(slot, weight)| released(slot, weight));
    assert_eq!(
        below,
        [1, 1, 2, 3],
        "two slots behind the newest checkpoint"
    );
    assert_eq!(released(5, 100), 5, "the last one alone weighs more");
}

/// The tail above the watermark may never have been chosen.
#[test]
fn recovery_applies_nothing_above_the_watermark_until_the_group_says_so() {
    let leader = ballot(1, B);
    let recovered = Recovered {
        promised: leader,
        chosen_upto: Slot(0),
        tail: vec![logged(1, leader, &entry(leader, 1))],
        lost: Vec::new(),
        ..Recovered::default()
    };
    let mut hand = Hand::new(3, recovered);
    assert_eq!(hand.applied(), []);
    hand.say(C, heartbeat(ballot(2, C), 1));
    assert_eq!(
        hand.applied(),
        [],
        "another leader may have chosen another entry"
    );
    hand.say(C, entries(vec![logged(1, leader, &entry(leader, 1))], 1));
    assert_eq!(hand.applied().len(), 1);
}

#[test]
fn a_replaying_replica_does_not_campaign() {
    let recovered = Recovered {
        chosen_upto: Slot(1),
        ..Recovered::default()
    };
    let mut hand = Hand::new(3, recovered);
    hand.drain();
    for _ in 0..4 {
        assert_eq!(hand.time_out(), []);
    }
    assert_eq!(hand.core.role(), Role::Recovering);
    let value = entry(ballot(1, B), 1);
    hand.core.on_log_read(
        hand.now(),
        Slot(1),
        vec![logged(1, ballot(1, B), &value)],
        None,
    );
    hand.applied();
    assert_eq!(sent(&hand.time_out()).len(), 2, "now it asks");
}

/// What recovery finds above the watermark has to fit one promise.
#[test]
fn a_long_run_of_fetched_entries_moves_the_watermark_along() {
    let mut hand = Hand::new(3, Recovered::default());
    let leader = ballot(1, B);
    let run = (1..=300).map(|slot| logged(slot, leader, &entry(leader, slot)));
    let fetched = persisted(&hand.say(B, entries(run.collect(), 300)));
    let mut watermark = 0;
    let mut chosen_records = 0;
    for record in &fetched {
        match record {
            Record::Chosen { upto } => {
                watermark = upto.0;
                chosen_records += 1;
            }
            Record::Accepted { slot, .. } => assert!(slot.0 <= watermark + WINDOW_MAX),
            Record::Promise { .. } => {}
        }
    }
    assert!(chosen_records < 20, "and not with every entry");
}

#[test]
fn a_laggard_is_not_voted_for_by_a_replica_that_could_lead() {
    let mut hand = Hand::new(3, Recovered::default());
    let leader = ballot(1, B);
    let run = (1..=100).map(|slot| logged(slot, leader, &entry(leader, slot)));
    hand.say(B, entries(run.collect(), 100));
    let granted = |hand: &mut Hand, chosen_upto| {
        let reply = hand.say(
            C,
            Message::PreVote {
                ballot: ballot(5, C),
                chosen_upto: Slot(chosen_upto),
                transfer_of: Ballot::ZERO,
            },
        );
        match sent(&reply)[..] {
            [Message::PreVoteReply { granted, .. }] => granted,
            _ => panic!("{reply:?}"),
        }
    };
    assert!(!granted(&mut hand, 100 - WINDOW_MAX - 1));
    assert!(granted(&mut hand, 100 - WINDOW_MAX));
}

#[test]
fn a_promise_reports_only_what_is_not_known_to_be_chosen() {
    let mut hand = Hand::new(3, Recovered::default());
    let leader = ballot(1, B);
    for slot in 1..=4 {
        hand.say(B, accept(leader, slot, 0, &entry(leader, slot)));
    }
    hand.say(B, heartbeat(leader, 2));
    hand.durable();
    hand.now_ns += TIMING.election_min_ns;
    let candidate = ballot(2, C);
    hand.say(C, prepare(candidate));
    let parts = [3, 4].map(|slot| Some(logged(slot, leader, &entry(leader, slot))));
    let [third, fourth] = parts;
    assert_eq!(
        sent(&hand.durable()),
        [
            promise(candidate, 2, (0, 2), third),
            promise(candidate, 2, (1, 2), fourth)
        ]
    );
}

fn large(stamp: u64) -> Entry {
    let mut builder = EntryBuilder::new();
    let transfer: Transfer =
        zerocopy::FromBytes::read_from_bytes(&[0; 128][..]).expect("all bytes are valid");
    builder.transfers(&vec![transfer; BATCH_MAX]);
    builder.finish(ballot(1, B), Timestamp(stamp), 0)
}

#[test]
fn applied_and_durable_entries_leave_memory_at_the_bound_and_nothing_else_does() {
    let mut log = Log::new(Recovered::default(), LOG_TAIL_BYTES_MAX);
    let entry = large(1);
    let fitting = LOG_TAIL_BYTES_MAX / entry.bytes();
    let count = u64::try_from(fitting).expect("64") + 8;
    for slot in 1..=count {
        log.put(
            Slot(slot),
            Held {
                accepted: ballot(1, B),
                entry: entry.clone(),
                seq: PersistSeq(slot),
            },
        );
        log.choose_next();
    }
    assert!(log.is_full(), "apply lags: nothing more is taken in");
    log.trim(PersistSeq(count));
    assert_eq!(log.start(), Slot(1), "nothing is applied");
    for _ in 1..=count {
        log.apply_next();
    }
    log.trim(PersistSeq(2));
    assert_eq!(log.start(), Slot(3), "slot 3 is not durable");
    log.trim(PersistSeq(count));
    assert!(
        log.start() > Slot(8) && log.start() <= Slot(11),
        "{:?}",
        log.start()
    );
    assert!(!log.is_full());
    log.check();
}

#[test]
fn one_answer_holds_at_most_a_frame_of_entries_and_at_least_one() {
    let mut hand = Hand::new(3, Recovered::default());
    let leader = ballot(1, B);
    let run = (1..=3).map(|slot| logged(slot, leader, &large(slot)));
    hand.say(B, entries(run.collect(), 3));
    let answer = sent(&hand.say(C, catch_up(1, 3)));
    let [Message::Entries { entries, .. }] = &answer[..] else {
        panic!("{answer:?}");
    };
    assert_eq!(entries.len(), 1);
}
