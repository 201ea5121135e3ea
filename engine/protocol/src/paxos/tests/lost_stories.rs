//! Records that were durable and cannot be read any more: reported as such, never as absent; brought
//! back from peers; or the replica stops and names the slot.

use alloc::vec;
use alloc::vec::Vec;

use super::hand::{
    B, C, Hand, OWN, accept, ballot, entry, heartbeat, logged, persisted, prepare, promise, sent,
};
use crate::client::Role;
use crate::config::{LostRecord, Recovered};
use crate::entry::Entry;
use crate::ids::{Ballot, ReplicaId, Slot};
use crate::limits::WINDOW_MAX;
use crate::output::{Record, StopReason};
use crate::paxos::Effect;
use crate::paxos::message::{LoggedEntry, Message, SlotRecord, SlotReport};

fn lost(slot: u64, accepted: Ballot) -> LostRecord {
    LostRecord {
        slot: Slot(slot),
        accepted,
    }
}

fn report_lost(slot: u64, accepted: Ballot) -> SlotReport {
    SlotReport {
        slot: Slot(slot),
        record: SlotRecord::Lost { accepted },
    }
}

fn report_nothing(slot: u64) -> SlotReport {
    SlotReport {
        slot: Slot(slot),
        record: SlotRecord::Nothing,
    }
}

fn entries(entries: Vec<LoggedEntry>, chosen_upto: u64) -> Message {
    answer(entries, chosen_upto, None)
}

fn reported(report: SlotReport, chosen_upto: u64) -> Message {
    answer(Vec::new(), chosen_upto, Some(report))
}

fn answer(entries: Vec<LoggedEntry>, chosen_upto: u64, report: Option<SlotReport>) -> Message {
    Message::Entries {
        entries,
        chosen_upto: Slot(chosen_upto),
        log_start: Slot(1),
        report,
    }
}

fn catch_up(from: u64, upto: u64) -> Message {
    Message::CatchUp {
        from: Slot(from),
        upto: Slot(upto),
    }
}

fn questions(effects: &[Effect]) -> Vec<(ReplicaId, Message)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { to, message } if matches!(message, Message::CatchUp { .. }) => {
                Some((*to, message.clone()))
            }
            _ => None,
        })
        .collect()
}

fn proposed(effects: &[Effect]) -> Vec<(u64, Entry)> {
    let mut found: Vec<(u64, Entry)> = sent(effects)
        .into_iter()
        .filter_map(|message| match message {
            Message::Accept { slot, entry, .. } => Some((slot.0, entry)),
            _ => None,
        })
        .collect();
    found.dedup();
    found
}

fn stopped(effects: &[Effect]) -> Option<StopReason> {
    effects.iter().find_map(|effect| match effect {
        Effect::Stop { reason } => Some(reason.clone()),
        _ => None,
    })
}

/// The record of slot 1 under 1.2 was acknowledged and rotted above the watermark.
fn with_lost_tail() -> Recovered {
    Recovered {
        promised: ballot(1, B),
        chosen_upto: Slot(0),
        tail: vec![],
        lost: vec![lost(1, ballot(1, B))],
        ..Recovered::default()
    }
}

/// Slots 1 to 3 are chosen; the record of slot 2 rotted.
fn with_lost_middle() -> Recovered {
    Recovered {
        promised: ballot(1, B),
        chosen_upto: Slot(3),
        tail: vec![],
        lost: vec![lost(2, ballot(1, B))],
        ..Recovered::default()
    }
}

#[test]
fn a_promise_reports_a_lost_record_as_lost_not_as_absent() {
    let mut hand = Hand::new(3, with_lost_tail());
    let asked = ballot(2, C);
    hand.say(C, prepare(asked));
    let promised = sent(&hand.durable());
    let expected = Message::Promise {
        ballot: asked,
        chosen_upto: Slot(0),
        log_start: Slot(1),
        part: 0,
        parts: 1,
        report: Some(report_lost(1, ballot(1, B))),
    };
    assert_eq!(promised, [expected]);
}

/// The old leader still leads and sends its proposal again: the vote is the same as before.
#[test]
fn a_later_acceptance_brings_the_record_back() {
    let mut hand = Hand::new(3, with_lost_tail());
    let leader = ballot(1, B);
    let value = entry(leader, 1);
    hand.say(B, accept(leader, 1, 0, &value));
    let out = hand.durable();
    assert!(sent(&out).contains(&Message::Accepted {
        ballot: leader,
        slot: Slot(1)
    }));
    hand.now_ns += crate::limits::TIMING.election_max_ns;
    hand.say(C, prepare(ballot(2, C)));
    let promised = sent(&hand.durable());
    let report = Some(logged(1, leader, &value).into());
    assert!(
        matches!(&promised[..], [Message::Promise { report: found, .. }] if *found == report),
        "{promised:?}"
    );
}

#[test]
fn a_lost_ballot_is_a_promise() {
    let recovered = Recovered {
        promised: Ballot::ZERO,
        ..with_lost_tail()
    };
    let hand = Hand::new(3, recovered);
    assert_eq!(hand.core.ballot(), ballot(1, B));
}

/// A candidate whose acceptor lost a record needs the third member: the two that lack it may be the
/// minority.
#[test]
fn a_candidate_waits_for_another_promise_where_only_a_lost_record_has_the_highest_ballot() {
    let mut hand = Hand::new(
        3,
        Recovered {
            promised: ballot(1, B),
            ..Recovered::default()
        },
    );
    let mine = hand.campaign();
    let under = ballot(1, B);
    let only_lost = Message::Promise {
        ballot: mine,
        chosen_upto: Slot(0),
        log_start: Slot(1),
        part: 0,
        parts: 1,
        report: Some(report_lost(1, under)),
    };
    hand.say(B, only_lost);
    assert_eq!(hand.core.leading(), None, "C may hold the other vote");
    let value = entry(under, 1);
    let led = hand.say(C, promise(mine, 0, (0, 1), Some(logged(1, under, &value))));
    assert_eq!(hand.core.leading(), Some(mine));
    assert_eq!(proposed(&led), [(1, value)]);
}

#[test]
fn a_record_that_only_its_loser_had_was_never_chosen() {
    let mut hand = Hand::new(3, with_lost_tail());
    let mine = hand.campaign();
    hand.say(B, promise(mine, 0, (0, 1), None));
    assert_eq!(hand.core.leading(), None);
    let led = hand.say(C, promise(mine, 0, (0, 1), None));
    assert_eq!(hand.core.leading(), Some(mine));
    let noop = proposed(&led);
    assert_eq!(noop.len(), 1);
    assert_eq!((noop[0].0, noop[0].1.origin()), (1, Ballot::ZERO));
}

#[test]
fn a_candidate_stops_and_names_the_slot_if_a_quorum_of_copies_is_lost() {
    let mut hand = Hand::new(3, with_lost_tail());
    let mine = hand.campaign();
    let lost_too = Message::Promise {
        ballot: mine,
        chosen_upto: Slot(0),
        log_start: Slot(1),
        part: 0,
        parts: 1,
        report: Some(report_lost(1, ballot(1, B))),
    };
    assert_eq!(stopped(&hand.say(B, lost_too)), None);
    let out = hand.say(C, promise(mine, 0, (0, 1), None));
    assert_eq!(
        stopped(&out),
        Some(StopReason::CopiesLost { slot: Slot(1) })
    );
    assert_eq!(hand.core.role(), Role::Stopped);
}

#[test]
fn a_group_of_one_with_a_lost_record_stops_and_names_the_slot() {
    for recovered in [with_lost_tail(), with_lost_middle()] {
        let slot = recovered.lost[0].slot;
        let recovered = Recovered {
            promised: ballot(1, OWN),
            lost: vec![lost(slot.0, ballot(1, OWN))],
            ..recovered
        };
        let mut hand = Hand::new(1, recovered);
        let mut out = hand.drain();
        out.extend(hand.time_out());
        out.extend(hand.durable());
        assert_eq!(stopped(&out), Some(StopReason::CopiesLost { slot }));
    }
}

#[test]
fn a_chosen_slot_that_is_lost_is_fetched_and_written_before_anything_above_is_applied() {
    let mut hand = Hand::just_started(3, with_lost_middle());
    let under = ballot(1, B);
    let values = [1, 2, 3].map(|stamp| entry(under, stamp));
    let out = hand.drain();
    assert!(out.contains(&Effect::ReadLog {
        from: Slot(1),
        upto: Slot(1),
        bytes_max: 8 << 20
    }));
    assert_eq!(questions(&out), [(B, catch_up(2, 2))]);
    hand.core.on_log_read(
        hand.now(),
        Slot(1),
        vec![logged(1, under, &values[0])],
        None,
    );
    assert_eq!(hand.applied().len(), 1);
    assert_eq!(hand.core.role(), Role::Recovering);

    let fetched = hand.say(B, entries(vec![logged(2, under, &values[1])], 3));
    assert_eq!(
        persisted(&fetched),
        [Record::Accepted {
            ballot: under,
            slot: Slot(2),
            entry: values[1].clone()
        }]
    );
    assert_eq!(hand.applied(), [], "it is read back once it is durable");
    assert!(hand.durable().contains(&Effect::ReadLog {
        from: Slot(2),
        upto: Slot(3),
        bytes_max: 8 << 20
    }));
    let rest = vec![logged(2, under, &values[1]), logged(3, under, &values[2])];
    hand.core.on_log_read(hand.now(), Slot(2), rest, None);
    assert_eq!(hand.applied().len(), 2);
    assert_eq!(hand.core.role(), Role::Follower);
}

/// All restarted; B holds the entry but does not know that it is chosen, which only we knew. Its
/// record under the lost ballot is proof enough.
#[test]
fn an_entry_is_taken_from_a_peer_that_does_not_know_that_it_is_chosen() {
    let mut hand = Hand::just_started(3, with_lost_middle());
    assert_eq!(questions(&hand.drain()), [(B, catch_up(2, 2))]);
    let value = entry(ballot(1, B), 2);
    let report = logged(2, ballot(1, B), &value).into();
    let out = hand.say(B, reported(report, 0));
    assert!(matches!(
        &persisted(&out)[..],
        [Record::Accepted { slot: Slot(2), entry, .. }] if *entry == value
    ));
}

#[test]
fn a_record_below_the_lost_ballot_proves_nothing_until_everybody_has_reported() {
    let recovered = Recovered {
        promised: ballot(3, B),
        lost: vec![lost(2, ballot(3, B))],
        ..with_lost_middle()
    };
    let mut hand = Hand::just_started(3, recovered);
    hand.drain();
    let stale = entry(ballot(1, C), 9);
    let report = logged(2, ballot(1, C), &stale).into();
    let out = hand.say(B, reported(report, 1));
    assert_eq!(persisted(&out), []);
    assert_eq!(questions(&out), [(C, catch_up(2, 2))], "the next is asked");
    let value = entry(ballot(2, B), 2);
    let report = logged(2, ballot(3, B), &value).into();
    let out = hand.say(C, reported(report, 1));
    assert!(matches!(
        &persisted(&out)[..],
        [Record::Accepted { slot: Slot(2), entry, .. }] if *entry == value
    ));
}

#[test]
fn a_chosen_slot_that_every_copy_of_is_lost_stops_the_replica() {
    let mut hand = Hand::just_started(3, with_lost_middle());
    hand.drain();
    let lost_too = report_lost(2, ballot(1, B));
    let out = hand.say(B, reported(lost_too, 3));
    assert_eq!(stopped(&out), None);
    let out = hand.say(C, reported(report_nothing(2), 1));
    assert_eq!(
        stopped(&out),
        Some(StopReason::CopiesLost { slot: Slot(2) })
    );
}

/// Peers that cannot help now may be able to later; they are not asked in a tight loop.
#[test]
fn peers_that_do_not_answer_are_asked_in_turn_by_the_clock() {
    let mut hand = Hand::just_started(3, with_lost_middle());
    assert_eq!(questions(&hand.drain()), [(B, catch_up(2, 2))]);
    let mut turns = Vec::new();
    while turns.len() < 3 {
        turns.extend(questions(&hand.time_out()));
    }
    let expected = [C, B, C].map(|peer| (peer, catch_up(2, 2)));
    assert_eq!(turns, expected);
}

#[test]
fn a_lost_slot_is_reported_to_who_asks_for_it_and_what_lies_before_is_served() {
    let mut hand = Hand::new(3, with_lost_middle());
    let under = ballot(1, B);
    hand.drain();
    let value = entry(under, 1);
    hand.core
        .on_log_read(hand.now(), Slot(1), vec![logged(1, under, &value)], None);
    hand.applied();
    hand.drain();
    let out = hand.say(C, catch_up(2, 3));
    assert_eq!(sent(&out), [reported(report_lost(2, under), 3)]);
    let out = hand.say(C, catch_up(1, 3));
    assert!(out.contains(&Effect::ReadLog {
        from: Slot(1),
        upto: Slot(1),
        bytes_max: 8 << 20
    }));
}

#[test]
fn a_peer_that_does_not_know_the_slot_as_chosen_reports_what_it_has() {
    let mut hand = Hand::new(3, Recovered::default());
    let leader = ballot(1, B);
    let value = entry(leader, 2);
    hand.say(B, accept(leader, 2, 0, &value));
    let report = logged(2, leader, &value).into();
    assert_eq!(sent(&hand.say(C, catch_up(2, 2))), [reported(report, 0)]);
    assert_eq!(
        sent(&hand.say(C, catch_up(5, 9))),
        [reported(report_nothing(5), 0)]
    );
}

/// A leader reads an old entry for a follower and finds it rotten: it says so, fetches it from the
/// other and goes on leading.
#[test]
fn a_record_that_rots_at_run_time_is_reported_and_fetched_back() {
    let under = ballot(1, B);
    let recovered = Recovered {
        promised: under,
        chosen_upto: Slot(2),
        ..Recovered::default()
    };
    let mut hand = Hand::new(3, recovered);
    let values = [1, 2].map(|stamp| entry(under, stamp));
    let both = vec![logged(1, under, &values[0]), logged(2, under, &values[1])];
    hand.drain();
    hand.core.on_log_read(hand.now(), Slot(1), both, None);
    hand.applied();
    let mine = hand.campaign();
    hand.say(C, promise(mine, 2, (0, 1), None));
    assert_eq!(hand.core.leading(), Some(mine));

    hand.say(C, catch_up(1, 2));
    let read = vec![logged(1, under, &values[0])];
    hand.core
        .on_log_read(hand.now(), Slot(1), read, Some(lost(2, under)));
    let out = hand.drain();
    assert!(
        sent(&out).contains(&entries(vec![logged(1, under, &values[0])], 2)),
        "what is whole is served"
    );
    let asked = questions(&out);
    assert_eq!(asked.len(), 1);
    let out = hand.say(C, catch_up(2, 2));
    assert!(sent(&out).contains(&reported(report_lost(2, under), 2)));

    hand.say(asked[0].0, entries(vec![logged(2, under, &values[1])], 2));
    hand.durable();
    let out = hand.say(C, catch_up(2, 2));
    assert!(
        matches!(out[..], [Effect::ReadLog { from: Slot(2), .. }]),
        "{out:?}"
    );
    assert_eq!(hand.core.leading(), Some(mine));
}

/// A candidate meets a promise whose acceptor knows slot 1 as chosen and lost it. It neither decides
/// the slot again nor waits for ever: its own record is the entry.
#[test]
fn a_candidate_learns_a_chosen_slot_that_its_acceptor_lost_from_its_own_record() {
    let under = ballot(1, B);
    let value = entry(under, 1);
    let recovered = Recovered {
        promised: under,
        chosen_upto: Slot(0),
        tail: vec![logged(1, under, &value)],
        lost: vec![],
        ..Recovered::default()
    };
    let mut hand = Hand::new(3, recovered);
    let mine = hand.campaign();
    let asked = hand.say(B, promise(mine, 1, (0, 1), None));
    assert_eq!(questions(&asked), [(B, catch_up(1, 1))]);
    hand.say(B, reported(report_lost(1, under), 1));
    assert_eq!(hand.core.chosen_upto(), Slot(1));
    assert_eq!(hand.core.leading(), Some(mine));
    assert_eq!(hand.applied(), [(Slot(1), value)]);
}

#[test]
fn a_lost_slot_that_nobody_can_have_accepted_stops_the_replica_at_its_start() {
    let slot = WINDOW_MAX + 1;
    let recovered = Recovered {
        lost: vec![lost(slot, ballot(1, B))],
        ..Recovered::default()
    };
    let mut hand = Hand::new(3, recovered);
    assert_eq!(
        stopped(&hand.drain()),
        Some(StopReason::LogLost { slot: Slot(slot) })
    );
}

/// B lost the record that we lack and says so; C, who has it, gives it to B and dies for good. B has
/// to be asked again: nobody else can give it, and without it we apply nothing any more, however well
/// B leads.
#[test]
fn who_reported_is_asked_again_while_another_does_not_answer() {
    let under = ballot(1, B);
    let mut hand = Hand::new(3, Recovered::default());
    assert_eq!(
        questions(&hand.say(B, heartbeat(under, 1))),
        [(B, catch_up(1, 1))]
    );
    let asked = hand.say(B, reported(report_lost(1, under), 1));
    assert_eq!(questions(&asked), [(C, catch_up(1, 1))]);
    let mut turns = Vec::new();
    while turns.len() < 4 {
        turns.extend(questions(&hand.time_out()));
        hand.say(B, heartbeat(under, 1));
    }
    assert!(turns.contains(&(B, catch_up(1, 1))), "{turns:?}");
    let value = entry(under, 1);
    hand.say(B, entries(vec![logged(1, under, &value)], 1));
    assert_eq!(hand.applied(), [(Slot(1), value)]);
}

/// Reports about another slot than the one wanted, and questions whose range is empty, do nothing.
#[test]
fn stray_reports_and_questions_are_harmless() {
    let mut hand = Hand::new(3, with_lost_middle());
    hand.drain();
    let value = entry(ballot(9, C), 9);
    hand.say(C, reported(logged(3, ballot(1, B), &value).into(), 3));
    hand.say(C, reported(logged(7, ballot(1, B), &value).into(), 3));
    assert_eq!(sent(&hand.say(C, catch_up(3, 1))), []);
    assert_eq!(hand.core.chosen_upto(), Slot(3));
    hand.say(B, heartbeat(ballot(1, B), 3));
    assert_eq!(hand.core.stopped(), None);
}
