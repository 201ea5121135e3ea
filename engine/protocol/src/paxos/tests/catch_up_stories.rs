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
use crate::limits::{BATCH_MAX, LOG_TAIL_BYTES_MAX, PIPELINE_MAX, TIMING, WINDOW_MAX};
use crate::output::{Record, StopReason};
use crate::paxos::Effect;
use crate::paxos::catch_up::CATCH_UP_RETRY_NS;
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
    // Slot 2 is held as its leader proposed it: it needs no more than the slot before.
    assert_eq!(asked(&hand.say(B, heartbeat(leader, 2))), [catch_up(1, 1)]);
    assert_eq!(asked(&hand.say(B, heartbeat(leader, 2))), [], "once");
    hand.say(B, entries(vec![logged(1, leader, &entry(leader, 1))], 2));
    hand.say(B, heartbeat(leader, 2));
    assert_eq!(hand.applied().len(), 2);
}

fn run(leader: Ballot, slots: core::ops::RangeInclusive<u64>) -> Vec<LoggedEntry> {
    let logged = slots.map(|slot| logged(slot, leader, &entry(leader, slot)));
    logged.collect()
}

/// One question at a time, an entry each, was slower than a loaded group went on: whoever had been away for
/// some seconds was never back.
#[test]
fn twice_as_many_slots_are_asked_for_at_once_as_a_leader_has_in_flight() {
    let mut hand = Hand::new(3, Recovered::default());
    let leader = ballot(1, B);
    let questions = asked(&hand.say(B, heartbeat(leader, 40)));
    assert_eq!(questions, [catch_up(1, 8), catch_up(9, 16)]);
    let slots = questions.len() as u64 * PIPELINE_MAX;
    assert_eq!(slots, 2 * PIPELINE_MAX);
    // Part of an answer asks for nothing new; the whole of it does.
    assert_eq!(asked(&hand.say(B, entries(run(leader, 1..=7), 40))), []);
    let next = hand.say(B, entries(run(leader, 8..=8), 41));
    assert_eq!(asked(&next), [catch_up(17, 24)]);
    let next = hand.say(B, entries(run(leader, 9..=24), 41));
    assert_eq!(asked(&next), [catch_up(25, 32), catch_up(33, 40)]);
    let next = hand.say(B, entries(run(leader, 25..=40), 41));
    assert_eq!(asked(&next), [catch_up(41, 41)]);
}

#[test]
fn a_silent_peer_is_replaced_and_asked_again_once_the_other_has_told_all_it_knows() {
    let mut hand = Hand::new(3, Recovered::default());
    let leader = ballot(1, B);
    hand.say(B, heartbeat(leader, 20));
    hand.say(B, entries(run(leader, 1..=8), 20));
    // C is known to have some of it as well.
    hand.say(C, entries(Vec::new(), 18));
    let watermark = hand.time_out();
    assert_eq!(asked(&watermark), [], "B still has time to answer");
    let timed_out = hand.time_out();
    let to_c = |from, upto| Effect::Send {
        to: C,
        message: catch_up(from, upto),
    };
    assert!(timed_out.contains(&to_c(9, 16)) && timed_out.contains(&to_c(17, 18)));
    let moved = hand.say(C, entries(run(leader, 9..=18), 18));
    assert!(moved.contains(&Effect::Send {
        to: B,
        message: catch_up(19, 20)
    }));
}

/// What was accepted above the hole counted as a lag of apply, beyond which nothing was asked for: with 33 full
/// batches there, the hole was never filled, by no restart either.
#[test]
fn a_hole_below_a_window_of_full_batches_is_asked_for_until_it_is_filled() {
    for held in [30, 33, WINDOW_MAX - 1] {
        let mut hand = Hand::new(3, Recovered::default());
        let leader = ballot(1, B);
        hand.say(B, heartbeat(leader, 1));
        // The answer is lost; proposals go on.
        for slot in 2..2 + held {
            hand.say(B, accept(leader, slot, 1, &large(slot)));
        }
        hand.durable();
        for _ in 0..3 {
            hand.now_ns += CATCH_UP_RETRY_NS;
            hand.core.on_tick(hand.now());
            assert_eq!(asked(&hand.drain()), [catch_up(1, 1)], "{held} held");
        }
        hand.say(B, entries(vec![logged(1, leader, &large(1))], 1 + held));
        hand.say(B, heartbeat(leader, 1 + held));
        assert_eq!(hand.core.chosen_upto(), Slot(1 + held));
    }
}

/// Only heartbeat answers counted as a sign of where a follower is: after 57 entries nobody was sent anything
/// before the next one, 50 ms later.
#[test]
fn followers_that_vote_are_sent_proposals_however_rare_heartbeats_are() {
    let (mut hand, own) = Hand::leader(3);
    for peer in [B, C] {
        let reply = Message::HeartbeatReply {
            ballot: own,
            round: 1,
            chosen_upto: Slot(0),
        };
        hand.say(peer, reply);
    }
    for _ in 0..1000 {
        let (slot, _) = hand.propose(1);
        let effects = hand.drain();
        hand.durable();
        let to = effects.into_iter().filter_map(|effect| match effect {
            Effect::Send {
                to,
                message: Message::Accept { .. },
            } => Some(to),
            _ => None,
        });
        assert_eq!(to.collect::<Vec<_>>(), [B, C], "{slot}");
        for peer in [B, C] {
            hand.say(peer, Message::Accepted { ballot: own, slot });
        }
        hand.applied();
    }
    assert_eq!(hand.core.chosen_upto(), Slot(1000));
}

/// Each of two open questions was answered with nothing, and each of the answers asked two more: the messages of
/// a minute filled the memory.
#[test]
fn an_answer_without_entries_or_reason_asks_for_nothing_new() {
    let mut hand = Hand::new(3, Recovered::default());
    let leader = ballot(1, B);
    hand.say(B, heartbeat(leader, 40));
    for _ in 0..3 {
        assert_eq!(asked(&hand.say(B, entries(Vec::new(), 40))), []);
    }
    hand.time_out();
    let again = asked(&hand.time_out());
    assert_eq!(again, [catch_up(1, 8), catch_up(9, 16)]);
}

#[test]
fn entries_that_come_early_wait_for_their_turn_and_those_known_already_are_harmless() {
    let mut hand = Hand::new(3, Recovered::default());
    let leader = ballot(1, B);
    hand.say(B, entries(run(leader, 2..=2), 3));
    assert_eq!(hand.core.chosen_upto(), Slot(0));
    let both = entries([run(leader, 1..=1), run(leader, 3..=3)].concat(), 3);
    hand.say(B, both.clone());
    assert_eq!(hand.core.chosen_upto(), Slot(3));
    assert_eq!(persisted(&hand.say(B, both)), [], "idempotent");
    // Nobody asked for anything so far ahead: it is not kept.
    hand.say(B, entries(run(leader, 20..=20), 20));
    hand.say(B, entries(run(leader, 4..=19), 20));
    assert_eq!(hand.core.chosen_upto(), Slot(19));
}

/// Entries that a leader proposes are refused by a replica that is a window behind, and take the room on its
/// link that it needs to catch up.
#[test]
fn a_follower_that_is_far_behind_is_sent_no_proposals_until_it_takes_them_in() {
    let (mut hand, _) = Hand::leader(3);
    let own = hand.core.leading().expect("leads");
    let propose = |hand: &mut Hand| {
        let (slot, _) = hand.propose(1);
        let effects = hand.drain();
        hand.durable();
        hand.say(B, Message::Accepted { ballot: own, slot });
        hand.applied();
        let to = effects.into_iter().filter_map(|effect| match effect {
            Effect::Send {
                to,
                message: Message::Accept { .. },
            } => Some(to),
            _ => None,
        });
        to.collect::<Vec<_>>()
    };
    let knows = |hand: &mut Hand, from, chosen_upto| {
        let round = 1;
        hand.say(
            from,
            Message::HeartbeatReply {
                ballot: own,
                round,
                chosen_upto,
            },
        )
    };
    knows(&mut hand, C, Slot(0));
    for _ in 0..=WINDOW_MAX - PIPELINE_MAX {
        assert_eq!(propose(&mut hand), [B, C]);
    }
    assert_eq!(propose(&mut hand), [B]);
    let chosen_upto = hand.core.chosen_upto();
    // Its next question shows that it is near enough: what is in flight by then goes to it.
    let (in_flight, _) = hand.propose(1);
    hand.durable();
    let served = hand.say(C, catch_up(chosen_upto.0 - 8, chosen_upto.0));
    let owed = sent(&served)
        .into_iter()
        .filter_map(|message| match message {
            Message::Accept { slot, .. } => Some(slot),
            _ => None,
        });
    assert_eq!(owed.collect::<Vec<_>>(), [in_flight]);
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
    // One read is open: requests wait, the two newest of each peer.
    assert_eq!(hand.say(C, catch_up(2, 2)), []);
    assert_eq!(hand.say(C, catch_up(1, 2)), []);
    assert_eq!(hand.say(C, catch_up(3, 3)), []);
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
    // What is in memory comes behind what was asked for before.
    let third = vec![logged(3, leader, &values[2])];
    assert_eq!(sent(&hand.drain()), [entries(both, 3), entries(third, 3)]);
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
    hand.core.on_checkpoint(Slot(1), 1, 0, 0);
    hand.core.on_checkpoint(Slot(2), 1, 0, 0);
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
        hand.core.on_checkpoint(Slot(slot), weight, 20, 20);
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

/// With as much log as everybody keeps, a member that was away for three seconds under full batches needed a whole
/// checkpoint, which its group outgrew while it was fetched.
#[test]
fn a_leader_keeps_more_of_its_log_for_a_member_that_does_not_have_it_but_not_without_end() {
    let (mut hand, own) = Hand::leader(3);
    let knows = |hand: &mut Hand, from, upto| {
        let reply = Message::HeartbeatReply {
            ballot: own,
            round: 1,
            chosen_upto: Slot(upto),
        };
        hand.say(from, reply);
    };
    for upto in 1..=9 {
        let (slot, _) = hand.propose(1);
        hand.durable();
        hand.say(B, Message::Accepted { ballot: own, slot });
        hand.applied();
        knows(&mut hand, B, upto);
    }
    // Checkpoints of weight 10; 20 are kept for anybody, 50 for somebody.
    let released = |hand: &mut Hand, slot| {
        hand.core.on_checkpoint(Slot(slot), 10, 20, 50);
        let effects = hand.drain();
        let below = effects.iter().find_map(|effect| match effect {
            Effect::ReleaseLog { below } => Some(below.0),
            _ => None,
        });
        below.expect("told each time")
    };
    let below = [1, 2, 3, 4, 5, 6].map(|slot| released(&mut hand, slot));
    assert_eq!(
        below,
        [1, 1, 1, 1, 1, 2],
        "C was never heard, and 50 are left"
    );
    assert_eq!(released(&mut hand, 7), 3);
    knows(&mut hand, C, 4);
    assert_eq!(released(&mut hand, 8), 5, "it has all before");
    knows(&mut hand, C, 9);
    assert_eq!(released(&mut hand, 9), 8);
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
fn a_question_is_answered_in_full_with_at_most_a_frame_of_entries_in_each_message() {
    let mut hand = Hand::new(3, Recovered::default());
    let leader = ballot(1, B);
    let run = (1..=3).map(|slot| logged(slot, leader, &large(slot)));
    hand.say(B, entries(run.collect(), 3));
    let answer = sent(&hand.say(C, catch_up(1, 3)));
    let slots = answer.iter().map(|message| match message {
        Message::Entries { entries, .. } => entries.iter().map(|logged| logged.slot.0).collect(),
        other => panic!("{other:?}"),
    });
    assert_eq!(slots.collect::<Vec<Vec<u64>>>(), [[1], [2], [3]]);
}
