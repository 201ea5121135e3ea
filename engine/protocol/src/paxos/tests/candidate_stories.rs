//! One replica as candidate.

use alloc::vec;

use super::hand::{
    B, C, Hand, OWN, accept, ballot, entry, heartbeat, logged, persisted, prepare, promise, sent,
};
use crate::client::Role;
use crate::config::Recovered;
use crate::entry::Entry;
use crate::ids::{Ballot, Slot};
use crate::limits::TIMING;
use crate::output::Record;
use crate::paxos::Effect;
use crate::paxos::message::{Message, SlotRecord, SlotReport};
use crate::time::Timestamp;

/// The values that a new leader proposes, in slot order.
fn proposed(effects: &[Effect]) -> vec::Vec<(Slot, Entry)> {
    persisted(effects)
        .into_iter()
        .filter_map(|record| match record {
            Record::Accepted { slot, entry, .. } => Some((slot, entry)),
            Record::Promise { .. } | Record::Chosen { .. } => None,
        })
        .collect()
}

#[test]
fn a_pre_vote_binds_nobody_and_the_own_ballot_is_durable_before_the_first_prepare() {
    let mut hand = Hand::new(3, Recovered::default());
    let asked = hand.time_out();
    assert_eq!((sent(&asked).len(), persisted(&asked)), (2, vec![]));
    assert_eq!(hand.core.ballot(), Ballot::ZERO);
    let granted = hand.say(
        B,
        Message::PreVoteReply {
            ballot: ballot(1, OWN),
            granted: true,
            promised: Ballot::ZERO,
        },
    );
    assert_eq!(
        persisted(&granted),
        [Record::Promise {
            ballot: ballot(1, OWN)
        }]
    );
    assert_eq!(
        sent(&granted),
        [],
        "nobody hears of it before it is durable"
    );
    let prepare = Message::Prepare {
        ballot: ballot(1, OWN),
        from: Slot(1),
        transfer_of: Ballot::ZERO,
    };
    assert_eq!(sent(&hand.durable()), [prepare.clone(), prepare]);
}

#[test]
fn a_refused_pre_vote_leaves_promises_alone_and_the_next_attempt_goes_higher() {
    let mut hand = Hand::new(3, Recovered::default());
    hand.time_out();
    for from in [B, C] {
        hand.say(
            from,
            Message::PreVoteReply {
                ballot: ballot(1, OWN),
                granted: false,
                promised: ballot(6, C),
            },
        );
    }
    assert_eq!(hand.core.ballot(), Ballot::ZERO);
    let again = hand.time_out();
    assert!(matches!(
        sent(&again)[0],
        Message::PreVote { ballot: asked, .. } if asked == ballot(7, OWN)
    ));
}

#[test]
fn a_restarted_candidate_never_uses_its_ballot_again() {
    let recovered = Recovered {
        promised: ballot(4, OWN),
        ..Recovered::default()
    };
    let mut hand = Hand::new(3, recovered);
    assert_eq!(hand.campaign(), ballot(5, OWN));
    // A promise to the ballot of the earlier life counts for nothing.
    hand.say(B, promise(ballot(4, OWN), 0, (0, 1), None));
    assert_eq!(hand.core.leading(), None);
    hand.say(B, promise(ballot(5, OWN), 0, (0, 1), None));
    assert_eq!(hand.core.leading(), Some(ballot(5, OWN)));
}

#[test]
fn the_highest_ballot_wins_per_slot_and_holes_get_a_noop_that_fences_nothing() {
    let (low, high) = (ballot(1, B), ballot(2, C));
    let (own, theirs, last) = (entry(low, 1), entry(high, 2), entry(low, 3));
    let recovered = Recovered {
        promised: high,
        chosen_upto: Slot(0),
        tail: vec![logged(1, low, &own), logged(2, low, &own)],
        lost: vec![],
        ..Recovered::default()
    };
    let mut hand = Hand::new(3, recovered);
    let mine = hand.campaign();
    hand.say(B, promise(mine, 0, (0, 3), Some(logged(1, high, &theirs))));
    hand.say(
        B,
        promise(mine, 0, (1, 3), Some(logged(2, Ballot::ZERO, &theirs))),
    );
    let led = hand.say(B, promise(mine, 0, (2, 3), Some(logged(4, low, &last))));
    let hole = Entry::noop(Ballot::ZERO, Timestamp::ZERO);
    assert_eq!(
        proposed(&led),
        [
            (Slot(1), theirs),
            (Slot(2), own),
            (Slot(3), hole),
            (Slot(4), last)
        ]
    );
    assert!(led.contains(&Effect::BecameLeader { ballot: mine }));
}

#[test]
fn doubled_parts_and_parts_for_an_older_ballot_do_not_make_a_promise_whole() {
    let mut hand = Hand::new(3, Recovered::default());
    let old = hand.campaign();
    let value = entry(ballot(1, B), 1);
    let part = |ballot, part| {
        promise(
            ballot,
            0,
            (part, 2),
            Some(logged(u64::from(part) + 1, Ballot::ZERO, &value)),
        )
    };
    hand.say(B, part(old, 0));
    hand.say(B, part(old, 0));
    assert_eq!(hand.core.leading(), None, "the same part twice");
    let new = loop {
        // The attempt runs out; the next one asks again.
        if let Some(Message::PreVote { ballot, .. }) = sent(&hand.time_out()).first() {
            break *ballot;
        }
    };
    assert!(new > old);
    hand.say(
        C,
        Message::PreVoteReply {
            ballot: new,
            granted: true,
            promised: Ballot::ZERO,
        },
    );
    hand.durable();
    hand.say(B, part(new, 0));
    hand.say(B, part(old, 1));
    assert_eq!(hand.core.leading(), None, "a part for the attempt before");
    hand.say(B, part(new, 1));
    assert_eq!(hand.core.leading(), Some(new));
}

/// Asked twice, an acceptor answers with parts 6,7,8 the first time, with 7,8 above a higher
/// `chosen_upto` the second. One part of each must not pass for a whole.
#[test]
fn parts_of_two_answers_of_one_acceptor_are_not_mixed() {
    let mut hand = Hand::new(3, Recovered::default());
    let mine = hand.campaign();
    let value = entry(ballot(1, B), 1);
    let at = |slot| Some(logged(slot, Ballot::ZERO, &value));
    hand.say(B, promise(mine, 0, (0, 2), at(1)));
    hand.say(B, promise(mine, 1, (1, 2), at(3)));
    assert_eq!(hand.core.leading(), None);
    hand.say(B, promise(mine, 0, (1, 2), at(2)));
    assert_eq!(hand.core.leading(), None, "the older answer is superseded");
    let fetch = hand.say(B, promise(mine, 1, (0, 2), at(2)));
    assert_eq!(hand.core.leading(), None, "slot 1 is chosen: fetched first");
    assert_eq!(
        sent(&fetch),
        [Message::CatchUp {
            from: Slot(1),
            upto: Slot(1)
        }]
    );
    hand.say(
        B,
        Message::Entries {
            entries: vec![logged(1, Ballot::ZERO, &value)],
            chosen_upto: Slot(1),
            log_start: Slot(1),
            report: None,
        },
    );
    assert_eq!(hand.core.leading(), Some(mine));
}

/// B held slots 1 and 2 and answered; the part about slot 1 was lost on its way. It started again and
/// found its record of slot 1 rotten. Its second answer, held records first, gave slot 2 the number
/// that slot 1 had had: two parts of two, both about slot 2, and slot 1 passed for empty, chosen or not.
#[test]
fn a_record_that_rots_between_two_answers_does_not_pass_for_absent() {
    let recovered = Recovered {
        promised: ballot(1, B),
        ..Recovered::default()
    };
    let mut hand = Hand::new(3, recovered);
    let mine = hand.campaign();
    let value = entry(ballot(1, B), 1);
    let held = |slot| Some(logged(slot, ballot(1, B), &value));
    hand.say(B, promise(mine, 0, (1, 2), held(2)));
    hand.say(B, promise(mine, 0, (0, 2), held(2)));
    assert_eq!(hand.core.leading(), None, "two parts about one slot");
    let Message::Promise {
        ballot: of,
        chosen_upto,
        log_start,
        parts,
        ..
    } = promise(mine, 0, (0, 2), None)
    else {
        unreachable!("promise makes promises");
    };
    let rotten = SlotReport {
        slot: Slot(1),
        record: SlotRecord::Lost {
            accepted: ballot(1, B),
        },
    };
    hand.say(
        B,
        Message::Promise {
            ballot: of,
            chosen_upto,
            log_start,
            part: 0,
            parts,
            report: Some(rotten),
        },
    );
    assert_eq!(hand.core.leading(), None, "C may hold what B lost");
    let proposals = hand.say(C, promise(mine, 0, (0, 1), held(1)));
    assert_eq!(hand.core.leading(), Some(mine));
    assert_eq!(proposed(&proposals)[0], (Slot(1), value.clone()));
}

#[test]
fn what_an_acceptor_knows_to_be_chosen_is_fetched_never_decided_again() {
    let mut hand = Hand::new(3, Recovered::default());
    let mine = hand.campaign();
    let asked = hand.say(B, promise(mine, 3, (0, 1), None));
    assert_eq!(hand.core.role(), Role::Candidate);
    assert_eq!(
        sent(&asked),
        [Message::CatchUp {
            from: Slot(1),
            upto: Slot(3)
        }]
    );
    assert_eq!(proposed(&asked), []);
    let chosen = [1, 2, 3].map(|stamp| entry(ballot(1, C), stamp));
    let entries = |from: u64, upto: u64| Message::Entries {
        entries: (from..=upto)
            .map(|slot| {
                logged(
                    slot,
                    ballot(1, C),
                    &chosen[usize::try_from(slot).expect("few") - 1],
                )
            })
            .collect(),
        chosen_upto: Slot(3),
        log_start: Slot(1),
        report: None,
    };
    hand.say(B, entries(1, 2));
    assert_eq!(hand.core.role(), Role::Candidate, "one is missing");
    let led = hand.say(B, entries(3, 3));
    assert_eq!(hand.core.leading(), Some(mine));
    assert!(
        sent(&led)
            .iter()
            .all(|message| !matches!(message, Message::Accept { .. }))
    );
    assert_eq!(hand.applied().len(), 3);
}

#[test]
fn a_candidate_yields_to_a_leader_of_a_higher_ballot_and_refuses_a_lower_one() {
    let mut hand = Hand::new(3, Recovered::default());
    let mine = hand.campaign();
    let lower = hand.say(B, heartbeat(ballot(1, B).min(mine), 0));
    let higher = ballot(mine.round() + 1, B);
    if ballot(1, B) < mine {
        assert!(matches!(sent(&lower)[0], Message::Reject { .. }));
    }
    hand.say(B, accept(higher, 1, 0, &entry(higher, 1)));
    assert_eq!(
        (hand.core.role(), hand.core.leader()),
        (Role::Follower, Some(B))
    );
    hand.say(C, promise(mine, 0, (0, 1), None));
    assert_eq!(hand.core.leading(), None, "the attempt is over");
}

#[test]
fn a_candidate_promises_a_higher_ballot_and_timeouts_are_drawn_anew() {
    let mut hand = Hand::new(3, Recovered::default());
    let mine = hand.campaign();
    let higher = ballot(mine.round() + 1, C);
    let asked = hand.say(C, prepare(higher));
    assert_eq!(persisted(&asked), [Record::Promise { ballot: higher }]);
    assert_eq!(hand.core.role(), Role::Follower);
    let mut waits = alloc::collections::BTreeSet::new();
    for _ in 0..8 {
        let wait_ns = hand.core.deadline_ns() - hand.now_ns;
        assert!((TIMING.election_min_ns..TIMING.election_max_ns).contains(&wait_ns));
        waits.insert(wait_ns);
        hand.time_out();
    }
    assert!(waits.len() > 4);
}

#[test]
fn one_replica_alone_leads_once_its_ballot_is_durable_and_replays_first() {
    let value = entry(ballot(1, OWN), 1);
    let recovered = Recovered {
        promised: ballot(1, OWN),
        chosen_upto: Slot(2),
        tail: vec![logged(3, ballot(1, OWN), &value)],
        lost: vec![],
        ..Recovered::default()
    };
    let mut hand = Hand::just_started(1, recovered);
    assert!(hand.drain().contains(&Effect::ReadLog {
        from: Slot(1),
        upto: Slot(2),
        bytes_max: 8 << 20
    }));
    assert_eq!(hand.core.role(), Role::Recovering);
    assert_eq!(hand.core.next_chosen(), None);
    hand.core.on_log_read(
        hand.now(),
        Slot(1),
        vec![
            logged(1, ballot(1, OWN), &value),
            logged(2, ballot(1, OWN), &value),
        ],
        None,
    );
    assert_eq!(hand.applied().len(), 2);
    assert!(
        hand.core.deadline_ns() <= hand.now_ns,
        "it campaigns at once"
    );
    let promised = hand.time_out();
    assert_eq!(persisted(&promised).len(), 1);
    assert_eq!(hand.core.leading(), None, "not durable yet");
    hand.durable();
    assert_eq!(hand.core.leading(), Some(ballot(2, OWN)));
    assert!(hand.core.needs_opening() && !hand.core.can_propose());
    hand.propose(9);
    assert_eq!(hand.applied(), []);
    hand.durable();
    assert_eq!(hand.applied().len(), 2, "the tail and the opening");
    assert_eq!(hand.core.serving(), Some(ballot(2, OWN)));
    assert!(hand.core.lease_valid(hand.now()));
    let round = hand.core.start_read_round(hand.now());
    assert!(hand.core.confirmed_round() >= round);
}
