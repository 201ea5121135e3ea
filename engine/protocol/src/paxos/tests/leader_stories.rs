//! One replica as leader.

use alloc::vec;

use super::hand::{B, C, Hand, accept, ballot, entry, heartbeat, logged, persisted, prepare, sent};
use crate::client::Role;
use crate::ids::{Ballot, ReplicaId, Slot};
use crate::limits::{ACCEPT_RESEND_NS, PIPELINE_MAX, TIMING};
use crate::output::Record;
use crate::paxos::Effect;
use crate::paxos::message::Message;
use crate::time::MS;

fn accepted(ballot: Ballot, slot: u64) -> Message {
    Message::Accepted {
        ballot,
        slot: Slot(slot),
    }
}

/// Leads, has opened in slot 1, serves, and holds a lease from B's answer.
fn serving() -> (Hand, Ballot) {
    let (mut hand, mine) = Hand::leader(3);
    hand.propose(1);
    hand.say(B, accepted(mine, 1));
    hand.durable();
    assert_eq!(hand.applied().len(), 1);
    assert_eq!(hand.core.serving(), Some(mine));
    answer(&mut hand, B, mine);
    assert!(hand.core.lease_valid(hand.now()));
    (hand, mine)
}

/// `from` answers the last heartbeat and knows everything.
fn answer(hand: &mut Hand, from: ReplicaId, ballot: Ballot) -> vec::Vec<Effect> {
    let chosen_upto = hand.core.chosen_upto();
    let round = hand.core.round_last;
    hand.say(
        from,
        Message::HeartbeatReply {
            ballot,
            round,
            chosen_upto,
        },
    )
}

#[test]
fn the_own_vote_counts_only_when_durable_and_a_vote_counts_once() {
    let (mut hand, mine) = Hand::leader(5);
    hand.propose(1);
    hand.say(B, accepted(mine, 1));
    hand.say(B, accepted(mine, 1));
    assert_eq!(hand.core.chosen_upto(), Slot(0));
    hand.say(C, accepted(mine, 1));
    assert_eq!(
        hand.core.chosen_upto(),
        Slot(0),
        "two of five, and not durable here"
    );
    assert!(hand.core.own_flush_open());
    hand.durable();
    assert_eq!(hand.core.chosen_upto(), Slot(1));
    assert!(!hand.core.own_flush_open());
}

/// A leader with a slow disk applies what its followers decided; its watermark is still written
/// behind the entries that it covers.
#[test]
fn followers_decide_without_the_leaders_disk_and_the_watermark_keeps_its_order() {
    let (mut hand, mine) = Hand::leader(3);
    let opening = hand.propose(1);
    let first = hand.drain();
    assert!(matches!(
        persisted(&first)[..],
        [Record::Accepted { slot: Slot(1), .. }]
    ));
    hand.say(B, accepted(mine, 1));
    assert_eq!(hand.core.chosen_upto(), Slot(0), "one vote of three");
    hand.say(C, accepted(mine, 1));
    assert_eq!(hand.applied(), [opening]);
    hand.propose(2);
    let second = hand.drain();
    assert!(matches!(
        persisted(&second)[..],
        [
            Record::Chosen { upto: Slot(1) },
            Record::Accepted { slot: Slot(2), .. }
        ]
    ));
    hand.durable();
    assert_eq!(
        hand.core.chosen_upto(),
        Slot(1),
        "an own vote alone decides nothing"
    );
}

#[test]
fn votes_of_another_ballot_do_not_count() {
    let (mut hand, mine) = Hand::leader(3);
    hand.propose(1);
    hand.durable();
    let older = ballot(mine.round() - 1, mine.replica());
    if older.round() > 0 {
        hand.say(B, accepted(older, 1));
    }
    hand.say(B, accepted(ballot(mine.round() + 1, mine.replica()), 1));
    assert_eq!(hand.core.chosen_upto(), Slot(0));
}

#[test]
fn the_pipeline_is_bounded_and_waits_for_the_opening() {
    let (mut hand, mine) = Hand::leader(3);
    assert!(hand.core.needs_opening() && !hand.core.can_propose());
    let mut slot = 0;
    while hand.core.can_propose() || hand.core.needs_opening() {
        slot = hand.propose(slot + 1).0.0;
    }
    assert_eq!(slot, PIPELINE_MAX);
    hand.durable();
    hand.say(B, accepted(mine, 2));
    assert!(!hand.core.can_propose(), "slot 1 is open");
    hand.say(B, accepted(mine, 1));
    assert_eq!(hand.core.chosen_upto(), Slot(2));
    assert!(hand.core.can_propose());
}

#[test]
fn an_accept_without_an_answer_goes_out_again_to_those_who_have_not_voted() {
    let (mut hand, mine) = Hand::leader(5);
    let (_, value) = hand.propose(1);
    hand.drain();
    hand.say(B, accepted(mine, 1));
    hand.now_ns += ACCEPT_RESEND_NS;
    let again: vec::Vec<_> = hand
        .time_out()
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Send {
                to,
                message: message @ Message::Accept { .. },
            } => Some((to, message)),
            _ => None,
        })
        .collect();
    let message = accept(mine, 1, 0, &value);
    assert_eq!(
        again,
        [C, ReplicaId(4), ReplicaId(5)].map(|to| (to, message.clone()))
    );
}

#[test]
fn a_leader_serves_only_after_its_own_opening_is_applied() {
    let (mut hand, mine) = Hand::leader(3);
    answer(&mut hand, B, mine);
    assert_eq!(hand.core.leading(), Some(mine));
    assert!(
        !hand.core.lease_valid(hand.now()),
        "leads but does not serve"
    );
    hand.propose(1);
    hand.say(B, accepted(mine, 1));
    hand.durable();
    assert_eq!(hand.core.serving(), None, "chosen but not applied");
    hand.applied();
    assert_eq!(hand.core.serving(), Some(mine));
}

/// The lease is asked for when the value is read: a leader that slept through its end has none,
/// before any message tells it so.
#[test]
fn a_leader_that_was_paused_wakes_up_without_a_lease_and_steps_down() {
    let (mut hand, mine) = serving();
    hand.now_ns += TIMING.lease_ns - TIMING.drift_ns;
    assert!(!hand.core.lease_valid(hand.now()));
    hand.now_ns += TIMING.election_max_ns;
    let woke = hand.time_out();
    assert!(woke.contains(&Effect::Deposed { ballot: mine }));
    assert_eq!(hand.core.role(), Role::Follower);
}

#[test]
fn an_isolated_leader_steps_down_after_an_election_timeout() {
    let (mut hand, mine) = serving();
    let alone_ns = hand.now_ns;
    while hand.core.leading() == Some(mine) {
        assert!(hand.now_ns <= alone_ns + TIMING.election_max_ns);
        hand.time_out();
    }
    assert!(
        hand.now_ns >= alone_ns + TIMING.lease_ns,
        "not before its lease has ended"
    );
}

#[test]
fn a_leader_with_a_lease_ignores_candidates_and_without_one_yields() {
    let (mut hand, mine) = serving();
    let candidate = ballot(mine.round() + 5, C);
    assert_eq!(hand.say(C, prepare(candidate)), []);
    assert_eq!(hand.core.leading(), Some(mine));
    hand.now_ns += TIMING.lease_ns;
    let asked = hand.say(C, prepare(candidate));
    assert!(asked.contains(&Effect::Deposed { ballot: mine }));
    assert_eq!(hand.core.ballot(), candidate);
}

#[test]
fn a_refusal_or_a_higher_leader_deposes() {
    let (mut hand, mine) = serving();
    let higher = ballot(mine.round() + 1, C);
    let refused = hand.say(
        B,
        Message::Reject {
            ballot: mine,
            promised: higher,
        },
    );
    assert!(refused.contains(&Effect::Deposed { ballot: mine }));

    let (mut hand, mine) = serving();
    let heard = hand.say(C, heartbeat(higher, 0));
    assert!(heard.contains(&Effect::Deposed { ballot: mine }));
    assert_eq!(hand.core.leader(), Some(C));
    assert!(!hand.core.lease_valid(hand.now()));
}

/// A leader learns that another entry was chosen where it had proposed its own. Followers hold its
/// proposal under its ballot: one more heartbeat claiming that slot would prove the wrong entry.
#[test]
fn a_leader_whose_proposal_lost_its_slot_never_speaks_again_under_its_ballot() {
    let (mut hand, mine) = serving();
    hand.propose(2);
    hand.drain();
    let other = entry(ballot(mine.round() + 1, C), 7);
    let learned = hand.say(
        C,
        Message::Entries {
            entries: vec![logged(2, ballot(mine.round() + 1, C), &other)],
            chosen_upto: Slot(2),
            log_start: Slot(1),
            report: None,
        },
    );
    assert!(learned.contains(&Effect::Deposed { ballot: mine }));
    assert_eq!(hand.core.leading(), None);
    assert_eq!(hand.applied(), [(Slot(2), other)]);
    for _ in 0..3 {
        for message in sent(&hand.time_out()) {
            assert!(
                !matches!(message, Message::Heartbeat { .. } | Message::Accept { .. }),
                "{message:?}"
            );
        }
    }
}

#[test]
fn a_read_round_is_confirmed_by_answers_to_it_not_to_an_earlier_one() {
    let (mut hand, mine) = serving();
    let before = hand.core.round_last;
    let round = hand.core.start_read_round(hand.now());
    hand.drain();
    let reply = |round| Message::HeartbeatReply {
        ballot: mine,
        round,
        chosen_upto: Slot(1),
    };
    hand.say(C, reply(before));
    assert!(hand.core.confirmed_round() < round);
    hand.say(C, reply(round));
    assert!(hand.core.confirmed_round() >= round);
}

fn lead_now(effects: &[Effect]) -> usize {
    let asks = |message: &Message| matches!(message, Message::LeadNow { .. });
    sent(effects).iter().filter(|message| asks(message)).count()
}

#[test]
fn leadership_goes_only_to_a_successor_that_has_everything_and_ends_the_lease() {
    let (mut hand, mine) = serving();
    hand.propose(2);
    hand.drain();
    assert!(
        !hand.core.transfer_leadership(hand.now(), C),
        "C was never heard"
    );
    assert!(hand.core.transfer_leadership(hand.now(), B));
    assert!(!hand.core.can_propose(), "proposals rest");
    assert_eq!(lead_now(&hand.drain()), 0);
    hand.durable();
    let chosen = hand.say(C, accepted(mine, 2));
    assert_eq!(lead_now(&chosen), 0, "B has not shown that it has slot 2");
    assert!(hand.core.lease_valid(hand.now()));
    let shown = answer(&mut hand, B, mine);
    assert_eq!(lead_now(&shown), 1);
    assert!(!hand.core.lease_valid(hand.now()));
}

/// The successor is down. Work goes on under the same ballot, but `LeadNow` may still arrive: no
/// lease read ever again under it.
#[test]
fn after_a_failed_transfer_proposals_resume_and_the_lease_does_not() {
    let (mut hand, mine) = serving();
    hand.core.transfer_leadership(hand.now(), B);
    hand.drain();
    assert_eq!(lead_now(&answer(&mut hand, B, mine)), 1);
    let sent_ns = hand.now_ns;
    while hand.now_ns < sent_ns + TIMING.election_max_ns {
        hand.now_ns = (hand.now_ns + 10 * MS).min(sent_ns + TIMING.election_max_ns);
        hand.core.on_tick(hand.now());
        hand.drain();
        answer(&mut hand, C, mine);
        assert!(!hand.core.lease_valid(hand.now()));
    }
    assert_eq!(hand.core.serving(), Some(mine));
    assert!(hand.core.can_propose());
    let round = hand.core.start_read_round(hand.now());
    hand.drain();
    answer(&mut hand, C, mine);
    assert!(hand.core.confirmed_round() >= round, "reads go by rounds");
    assert!(!hand.core.lease_valid(hand.now()));
}
