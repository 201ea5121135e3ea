//! One replica as acceptor and follower.

use alloc::vec;

use super::hand::{
    B, C, Hand, accept, ballot, entry, heartbeat, logged, persisted, prepare, promise, sent,
};
use crate::config::Recovered;
use crate::ids::{Ballot, ReplicaId, Slot};
use crate::limits::{TIMING, WINDOW_MAX};
use crate::output::Record;
use crate::paxos::message::Message;
use crate::time::MS;

#[test]
fn a_promise_and_an_acceptance_leave_only_when_durable() {
    let mut hand = Hand::new(3, Recovered::default());
    let asked = hand.say(B, prepare(ballot(5, B)));
    assert_eq!(
        persisted(&asked),
        [Record::Promise {
            ballot: ballot(5, B)
        }]
    );
    assert_eq!(sent(&asked), [], "not durable yet");
    assert_eq!(
        sent(&hand.durable()),
        [promise(ballot(5, B), 0, (0, 1), None)]
    );

    let value = entry(ballot(5, B), 1);
    let accepted = hand.say(B, accept(ballot(5, B), 1, 0, &value));
    assert_eq!(sent(&accepted), []);
    // Asked again before the flush: still nothing, and no second record.
    let again = hand.say(B, accept(ballot(5, B), 1, 0, &value));
    assert_eq!((sent(&again).len(), persisted(&again).len()), (0, 0));
    let vote = Message::Accepted {
        ballot: ballot(5, B),
        slot: Slot(1),
    };
    assert_eq!(sent(&hand.durable()), [vote.clone(), vote]);
}

#[test]
fn a_late_accept_of_a_deposed_leader_is_refused() {
    let mut hand = Hand::new(3, Recovered::default());
    let old = ballot(1, B);
    hand.say(B, accept(old, 1, 0, &entry(old, 1)));
    hand.durable();
    hand.now_ns += TIMING.election_min_ns;
    hand.say(C, prepare(ballot(2, C)));
    hand.durable();

    let late = hand.say(B, accept(old, 2, 1, &entry(old, 2)));
    assert_eq!(
        sent(&late),
        [Message::Reject {
            ballot: old,
            promised: ballot(2, C)
        }]
    );
    assert_eq!(persisted(&late), []);
    assert_eq!(
        hand.core.chosen_upto(),
        Slot(0),
        "nor does it prove anything"
    );
    assert!(hand.core.log_entry(Slot(2)).is_none());
}

#[test]
fn a_follower_of_a_live_leader_ignores_candidates_until_the_minimum_timeout() {
    let mut hand = Hand::new(3, Recovered::default());
    hand.say(B, heartbeat(ballot(1, B), 0));
    let pre_vote = |round| Message::PreVote {
        ballot: ballot(round, C),
        chosen_upto: Slot(0),
        transfer_of: Ballot::ZERO,
    };
    let granted = |hand: &mut Hand, message| match sent(&hand.say(C, message)).as_slice() {
        [Message::PreVoteReply { granted, .. }] => *granted,
        other => panic!("{other:?}"),
    };
    hand.now_ns += TIMING.election_min_ns - 1;
    assert!(!granted(&mut hand, pre_vote(9)));
    assert_eq!(hand.say(C, prepare(ballot(9, C))), []);
    assert_eq!(hand.core.leader(), Some(B));
    hand.now_ns += 1;
    assert!(granted(&mut hand, pre_vote(9)));
    assert_eq!(persisted(&hand.say(C, prepare(ballot(9, C)))).len(), 1);
    assert_eq!(hand.core.leader(), None);
}

#[test]
fn only_a_transfer_of_the_followed_leader_waives_stickiness() {
    let with = |transfer_of| {
        let mut hand = Hand::new(3, Recovered::default());
        hand.say(B, heartbeat(ballot(4, B), 0));
        let asked = hand.say(
            C,
            Message::Prepare {
                ballot: ballot(5, C),
                from: Slot(1),
                transfer_of,
            },
        );
        persisted(&asked).len()
    };
    assert_eq!(
        with(ballot(3, B)),
        0,
        "an older leadership of the same replica"
    );
    assert_eq!(with(Ballot::ZERO), 0);
    assert_eq!(with(ballot(4, B)), 1);
}

#[test]
fn a_replica_that_just_started_neither_votes_nor_campaigns_for_one_lease() {
    let mut hand = Hand::just_started(3, Recovered::default());
    let start_ns = hand.now_ns;
    assert!(hand.core.deadline_ns() >= start_ns + TIMING.lease_ns);
    hand.now_ns = start_ns + TIMING.lease_ns - 1;
    assert_eq!(hand.say(C, prepare(ballot(1, C))), []);
    assert_eq!(
        hand.say(
            C,
            Message::LeadNow {
                ballot: ballot(1, C)
            }
        ),
        [],
        "not even when handed over to"
    );
    // It accepts, though: a leader that can choose was elected by others.
    let value = entry(ballot(1, B), 1);
    assert_eq!(
        persisted(&hand.say(B, accept(ballot(2, B), 1, 0, &value))).len(),
        1
    );
}

#[test]
fn chosen_upto_proves_only_entries_accepted_under_the_senders_ballot() {
    let mut hand = Hand::new(3, Recovered::default());
    let (old, new) = (ballot(1, B), ballot(2, C));
    let (stale, own) = (entry(old, 1), entry(new, 2));
    hand.say(B, accept(old, 1, 0, &stale));
    hand.say(C, accept(new, 2, 0, &own));
    hand.durable();

    let heard = hand.say(C, heartbeat(new, 2));
    assert_eq!(
        hand.core.chosen_upto(),
        Slot(0),
        "slot 1 may hold something else"
    );
    // What is held of slot 2 is the leader's own: only slot 1 is missing.
    assert!(sent(&heard).contains(&Message::CatchUp {
        from: Slot(1),
        upto: Slot(1)
    }));
    let other = entry(new, 7);
    hand.say(
        C,
        Message::Entries {
            entries: vec![logged(1, new, &other)],
            chosen_upto: Slot(2),
            log_start: Slot(1),
            report: None,
        },
    );
    assert_eq!(hand.core.chosen_upto(), Slot(1));
    hand.say(C, heartbeat(new, 2));
    assert_eq!(hand.applied(), [(Slot(1), other), (Slot(2), own)]);
}

#[test]
fn slots_beyond_the_window_are_dropped_without_a_vote() {
    let mut hand = Hand::new(3, Recovered::default());
    let leader = ballot(1, B);
    let far = hand.say(B, accept(leader, WINDOW_MAX + 1, 0, &entry(leader, 1)));
    assert_eq!(persisted(&far), []);
    let near = hand.say(B, accept(leader, WINDOW_MAX, 0, &entry(leader, 1)));
    assert_eq!(persisted(&near).len(), 1);
    let votes = sent(&hand.durable());
    assert_eq!(
        votes,
        [Message::Accepted {
            ballot: leader,
            slot: Slot(WINDOW_MAX)
        }]
    );
}

/// Slot 1 is chosen with one value and fetched; the deposed leader of the very ballot under which
/// it was recorded here had proposed another. A vote would let that leader count a quorum.
#[test]
fn a_fetched_entry_is_never_a_vote_for_what_a_deposed_leader_proposed() {
    let mut hand = Hand::new(3, Recovered::default());
    let old = ballot(1, B);
    hand.say(B, heartbeat(old, 0));
    let chosen = entry(ballot(2, C), 1);
    hand.say(
        C,
        Message::Entries {
            entries: vec![logged(1, ballot(2, C), &chosen)],
            chosen_upto: Slot(1),
            log_start: Slot(1),
            report: None,
        },
    );
    hand.durable();
    assert_eq!(hand.core.chosen_upto(), Slot(1));
    let late = hand.say(B, accept(old, 1, 0, &entry(old, 9)));
    assert_eq!((sent(&late), persisted(&late)), (vec![], vec![]));
    assert_eq!(hand.core.log_entry(Slot(1)), Some(&chosen));
}

#[test]
fn a_fetched_entry_never_lowers_the_accepted_ballot() {
    let mut hand = Hand::new(3, Recovered::default());
    let high = ballot(9, B);
    hand.say(B, accept(high, 1, 0, &entry(high, 1)));
    let chosen = entry(ballot(1, C), 2);
    let fetched = hand.say(
        C,
        Message::Entries {
            entries: vec![logged(1, ballot(1, C), &chosen)],
            chosen_upto: Slot(1),
            log_start: Slot(1),
            report: None,
        },
    );
    assert_eq!(
        persisted(&fetched),
        [Record::Accepted {
            ballot: high,
            slot: Slot(1),
            entry: chosen
        }]
    );
}

#[test]
fn a_restart_with_a_promise_above_all_acceptances_keeps_the_promise() {
    let old = ballot(3, B);
    let recovered = Recovered {
        promised: ballot(8, C),
        chosen_upto: Slot(0),
        tail: vec![logged(1, old, &entry(old, 1))],
        lost: vec![],
        ..Recovered::default()
    };
    let mut hand = Hand::new(3, recovered);
    let refused = hand.say(B, accept(old, 2, 1, &entry(old, 2)));
    assert!(matches!(
        sent(&refused).as_slice(),
        [Message::Reject { promised, .. }] if *promised == ballot(8, C)
    ));
    // And the candidate that it promised to is told again what was accepted, without a new record.
    let again = hand.say(C, prepare(ballot(8, C)));
    assert_eq!(persisted(&again), []);
    assert_eq!(
        sent(&again),
        [promise(
            ballot(8, C),
            0,
            (0, 1),
            Some(logged(1, old, &entry(old, 1)))
        )]
    );
}

/// A heartbeat raises the promise in memory only; a late `Prepare` of the same ballot must not take
/// that for a durable promise.
#[test]
fn a_promise_known_only_in_memory_is_logged_before_it_is_given() {
    let mut hand = Hand::new(3, Recovered::default());
    hand.say(B, heartbeat(ballot(5, B), 0));
    hand.now_ns += TIMING.election_min_ns;
    let asked = hand.say(B, prepare(ballot(5, B)));
    assert_eq!(persisted(&asked).len(), 1);
    assert_eq!(sent(&asked), []);
}

#[test]
fn the_watermark_follows_the_entries_that_it_covers_and_is_written_while_idle() {
    let mut hand = Hand::new(3, Recovered::default());
    let leader = ballot(1, B);
    hand.say(B, accept(leader, 1, 0, &entry(leader, 1)));
    let second = hand.say(B, accept(leader, 2, 1, &entry(leader, 2)));
    let records = persisted(&second);
    assert!(matches!(records[0], Record::Accepted { slot: Slot(2), .. }));
    assert_eq!(records.len(), 1, "slot 1 was learned with this message");
    let third = hand.say(B, accept(leader, 3, 2, &entry(leader, 3)));
    assert_eq!(persisted(&third)[0], Record::Chosen { upto: Slot(1) });
    let idle = hand.time_out();
    assert_eq!(persisted(&idle), [Record::Chosen { upto: Slot(2) }]);
    assert!(hand.core.deadline_ns() > hand.now_ns + MS);
}

#[test]
fn what_no_member_can_have_sent_is_ignored() {
    let mut hand = Hand::new(3, Recovered::default());
    let value = entry(ballot(1, B), 1);
    let stranger = ReplicaId(4);
    for (from, message) in [
        (stranger, heartbeat(ballot(1, stranger), 0)),
        (C, accept(ballot(1, B), 1, 0, &value)),
        (C, accept(Ballot::ZERO, 1, 0, &value)),
        (B, accept(ballot(1, B), 0, 0, &value)),
        (B, accept(ballot(1, B), u64::MAX, 0, &value)),
        (B, heartbeat(ballot((1 << 56) - 1, B), 0)),
        (B, heartbeat(ballot(1, B), u64::MAX)),
        (
            B,
            Message::Accepted {
                ballot: ballot(1, B),
                slot: Slot(1),
            },
        ),
        (
            B,
            Message::CatchUp {
                from: Slot(0),
                upto: Slot(u64::MAX),
            },
        ),
        (ReplicaId(1), heartbeat(ballot(1, ReplicaId(1)), 0)),
    ] {
        assert_eq!(hand.say(from, message.clone()), [], "{message:?}");
        assert_eq!(hand.core.ballot(), Ballot::ZERO, "{message:?}");
    }
}
