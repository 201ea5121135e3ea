//! A replica whose disk was lost: it binds itself to nothing before it votes again, and votes again
//! only where no vote of its former life can be missing.

use alloc::vec;
use alloc::vec::Vec;

use super::hand::{
    B, C, Hand, accept, ballot, entry, heartbeat, logged, persisted, prepare, promise, sent,
};
use super::world::{Faults, World};
use crate::client::Role;
use crate::config::{LostRecord, Recovered};
use crate::ids::{Ballot, ReplicaId, Slot};
use crate::limits::TIMING;
use crate::output::Record;
use crate::paxos::Effect;
use crate::paxos::message::{LoggedEntry, Message, SlotRecord, SlotReport};
use crate::time::{MS, SECOND};

const A: ReplicaId = ReplicaId(1);

fn without_disk() -> Recovered {
    Recovered {
        rejoins: true,
        ..Recovered::default()
    }
}

/// Replica 1 of three without its disk, and the nonce of its question.
fn asking() -> (Hand, u64) {
    let mut hand = Hand::new(3, without_disk());
    let asked = hand.time_out();
    let nonce = nonce_of(&asked);
    (hand, nonce)
}

/// The same, told that the others have promised these ballots.
fn told(by_b: Ballot, by_c: Ballot) -> Hand {
    let (mut hand, nonce) = asking();
    hand.say(B, reply(nonce, by_b));
    hand.say(C, reply(nonce, by_c));
    hand
}

fn nonce_of(effects: &[Effect]) -> u64 {
    let found = sent(effects).into_iter().find_map(|message| match message {
        Message::Rejoin { nonce, .. } => Some(nonce),
        _ => None,
    });
    found.expect("it asks")
}

fn reply(nonce: u64, promised: Ballot) -> Message {
    Message::RejoinReply { nonce, promised }
}

fn entries(entries: Vec<LoggedEntry>, chosen_upto: u64) -> Message {
    Message::Entries {
        entries,
        chosen_upto: Slot(chosen_upto),
        log_start: Slot(1),
        report: None,
    }
}

fn votes_again(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::Rejoined))
}

#[test]
fn who_lost_its_disk_binds_itself_to_nothing() {
    let leader = ballot(3, B);
    for mut hand in [asking().0, told(leader, leader)] {
        assert_eq!(hand.core.role(), Role::Recovering);
        hand.say(B, accept(leader, 1, 0, &entry(leader, 1)));
        let questions = [
            accept(leader, 1, 0, &entry(leader, 1)),
            heartbeat(leader, 0),
            prepare(ballot(9, B)),
            Message::PreVote {
                ballot: ballot(9, B),
                chosen_upto: Slot(5),
                transfer_of: leader,
            },
            Message::LeadNow { ballot: leader },
            Message::Rejoin {
                nonce: 1,
                floor: Ballot::ZERO,
            },
            Message::CatchUp {
                from: Slot(1),
                upto: Slot(1),
            },
        ];
        for question in questions {
            let mut out = hand.say(B, question.clone());
            out.extend(hand.durable());
            assert_eq!(sent(&out), [], "{question:?}");
            assert_eq!(persisted(&out), [], "{question:?}");
        }
        // It asks for ever, and asks for nothing else.
        for _ in 0..50 {
            for message in sent(&hand.time_out()) {
                assert!(matches!(message, Message::Rejoin { .. }), "{message:?}");
            }
        }
    }
}

/// The answer to an earlier life may be from before the loss, and the promise that it does not know of
/// may be the one that was lost.
#[test]
fn an_answer_to_an_earlier_life_does_not_count() {
    let (mut hand, nonce) = asking();
    hand.say(B, reply(nonce, ballot(3, B)));
    hand.say(C, reply(nonce ^ 1, ballot(1, B)));
    let again = hand.time_out();
    let asked: Vec<ReplicaId> = again
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { to, .. } => Some(*to),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [C], "only C has not answered");
    hand.say(C, reply(nonce, ballot(4, C)));
    assert_eq!(hand.core.ballot(), ballot(4, C));
    // The floor is fixed: a later answer does not move it.
    hand.say(C, reply(nonce, ballot(8, C)));
    assert_eq!(hand.core.ballot(), ballot(4, C));
}

/// A deposed leader still speaks, of a ballot below the one under which this replica voted. What is
/// learnt then, and recorded under that ballot, would lose against what a third member accepted between
/// the two once the watermark is lost.
#[test]
fn nothing_is_learnt_before_the_floor_is_known_nor_recorded_below_it() {
    let (deposed, between, floor) = (ballot(1, B), ballot(2, C), ballot(3, B));
    let (mut hand, nonce) = asking();
    let chosen = entry(floor, 7);
    hand.say(B, heartbeat(deposed, 1));
    let early = hand.say(B, entries(vec![logged(1, floor, &chosen)], 1));
    assert_eq!((sent(&early), persisted(&early)), (vec![], vec![]));
    assert_eq!(hand.core.chosen_upto(), Slot(0));

    hand.say(B, reply(nonce, floor));
    let asks = hand.say(C, reply(nonce, between));
    assert!(matches!(sent(&asks)[..], [Message::CatchUp { .. }]));
    let learnt = hand.say(B, entries(vec![logged(1, floor, &chosen)], 1));
    let record = Record::Accepted {
        ballot: floor,
        slot: Slot(1),
        entry: chosen,
    };
    assert_eq!(persisted(&learnt), [record]);
    // Not even a deposed leader is contradicted: it is no voter.
    assert_eq!(sent(&hand.say(B, heartbeat(deposed, 1))), []);
}

#[test]
fn it_votes_again_once_a_later_leaders_entry_is_chosen_and_its_own_promise_durable() {
    let (floor, later) = (ballot(3, B), ballot(4, C));
    let mut hand = told(floor, floor);
    let values = [entry(floor, 1), entry(floor, 2), entry(later, 3)];
    let logged = |slot: u64| logged(slot, later, &values[usize::try_from(slot).unwrap() - 1]);
    hand.say(C, heartbeat(later, 3));
    hand.say(C, entries(vec![logged(1), logged(2)], 3));
    hand.applied();
    hand.time_out();
    hand.durable();
    assert_eq!(hand.core.role(), Role::Recovering, "all under the floor");

    hand.say(C, entries(vec![logged(3)], 3));
    hand.applied();
    // At once, not at the next timer.
    assert_eq!(hand.core.deadline_ns(), 0);
    let promised = hand.time_out();
    assert!(!votes_again(&promised));
    assert_eq!(
        sent(&hand.say(C, accept(later, 4, 3, &entry(later, 4)))),
        []
    );
    let out = hand.durable();
    assert!(votes_again(&out));
    assert_eq!(hand.core.role(), Role::Follower);

    hand.say(C, accept(later, 4, 3, &entry(later, 4)));
    let vote = Message::Accepted {
        ballot: later,
        slot: Slot(4),
    };
    assert_eq!(sent(&hand.durable()), [vote]);
    // It may have promised a lease in its former life, or to whom it heard as a non-voter: it waits.
    hand.say(B, prepare(ballot(9, B)));
    assert_eq!(sent(&hand.durable()), []);
    hand.now_ns += TIMING.lease_ns + TIMING.election_max_ns;
    hand.say(B, prepare(ballot(9, B)));
    assert!(matches!(
        sent(&hand.durable())[..],
        [Message::Promise { .. }]
    ));
}

/// What it promised as a non-voter is not what it promises as a voter: the entry may be learnt from
/// somebody else than its leader.
#[test]
fn its_promise_is_at_least_the_ballot_that_lets_it_vote() {
    let (floor, later) = (ballot(3, B), ballot(5, C));
    let mut hand = told(floor, floor);
    hand.say(B, heartbeat(floor, 1));
    hand.say(B, entries(vec![logged(1, floor, &entry(later, 1))], 1));
    hand.applied();
    let out = hand.time_out();
    let record = Record::Promise { ballot: later };
    assert_eq!(persisted(&out).first(), Some(&record));
    assert_eq!(hand.core.ballot(), later);
    assert!(votes_again(&hand.durable()));
}

/// The slot is chosen, C's copy is lost, B holds what was outvoted. That this replica holds nothing says
/// nothing: the vote that is missing may be its own.
#[test]
fn what_it_does_not_hold_is_no_report() {
    let (outvoted, floor) = (ballot(2, B), ballot(3, C));
    let mut hand = told(floor, floor);
    hand.say(C, heartbeat(floor, 1));
    let report = |record| Message::Entries {
        entries: Vec::new(),
        chosen_upto: Slot(0),
        log_start: Slot(1),
        report: Some(SlotReport {
            slot: Slot(1),
            record,
        }),
    };
    hand.say(C, report(SlotRecord::Lost { accepted: floor }));
    hand.say(
        B,
        report(SlotRecord::Accepted {
            accepted: outvoted,
            entry: entry(outvoted, 1),
        }),
    );
    assert_eq!(hand.applied(), []);
    // And to whoever asks, it gives none.
    let lost = LostRecord {
        slot: Slot(1),
        accepted: floor,
    };
    let mut hand = Hand::new(
        3,
        Recovered {
            promised: floor,
            chosen_upto: Slot(1),
            lost: vec![lost],
            rejoins: true,
            ..Recovered::default()
        },
    );
    let ask = Message::CatchUp {
        from: Slot(1),
        upto: Slot(1),
    };
    assert_eq!(sent(&hand.say(B, ask)), []);
}

/// A leader whose ballot is not above the floor hands over, to a member that is well; not to who asks.
#[test]
fn a_leader_of_an_old_ballot_hands_over_to_another_member() {
    let (mut hand, own) = Hand::leader(3);
    let (slot, _) = hand.propose(1);
    hand.say(B, Message::Accepted { ballot: own, slot });
    hand.durable();
    hand.applied();
    let answer = |round, chosen_upto| Message::HeartbeatReply {
        ballot: own,
        round,
        chosen_upto,
    };
    let ask = |floor| Message::Rejoin { nonce: 5, floor };
    let told = sent(&hand.say(C, ask(Ballot::ZERO)));
    let promised = Message::RejoinReply {
        nonce: 5,
        promised: own,
    };
    assert_eq!(told, [promised]);

    hand.say(C, answer(1, slot));
    assert_eq!(sent(&hand.say(C, ask(own))), [], "nobody to hand over to");
    hand.say(B, answer(1, slot));
    assert_eq!(sent(&hand.say(C, ask(ballot(0, A)))), []);
    let rounds = sent(&hand.say(C, ask(own)));
    let Some(Message::Heartbeat { round, .. }) = rounds.first() else {
        panic!("no last round in {rounds:?}");
    };
    let out = hand.say(B, answer(*round, slot));
    assert!(out.contains(&Effect::Send {
        to: B,
        message: Message::LeadNow { ballot: own },
    }));
}

/// Whoever is elected next is elected above the floor, even if the member that promised it is away.
#[test]
fn the_next_ballot_lies_above_a_floor_that_was_heard() {
    let mut hand = Hand::new(3, Recovered::default());
    let floor = ballot(40, C);
    hand.say(C, Message::Rejoin { nonce: 5, floor });
    assert!(hand.campaign() > floor);
}

fn group(seed: u64, replicas: u8) -> World {
    let mut world = World::new(seed, replicas, Faults::none());
    world.run_until(3 * SECOND, "A serves", |world| world.serving() == Some(A));
    world.load = 200;
    world.run(SECOND);
    world
}

fn votes(world: &World, id: ReplicaId) -> bool {
    !world.nodes[usize::from(id.0) - 1].rejoins
}

/// Leader or follower, of three or five: it is a voter again within seconds and without a pause of the
/// shard; then the others can do without one member more.
#[test]
fn a_replica_without_its_disk_is_a_voter_again_while_the_group_serves() {
    for (seed, replicas, lost) in [(1, 3, 2), (2, 3, 3), (3, 3, 1), (4, 5, 1), (5, 5, 4)] {
        let mut world = group(seed, replicas);
        let lost = ReplicaId(lost);
        world.lose_disk(lost);
        world.start(lost);
        let (began_ns, before) = (world.now_ns, world.acknowledged);
        world.run_until(5 * SECOND, "it votes", |world| votes(world, lost));
        assert!(world.now_ns - began_ns < 3 * SECOND);
        assert!(world.acknowledged > before, "the group served on");
        let members = (1..=replicas).map(ReplicaId);
        let spared = members.filter(|&member| member != lost);
        for member in spared.take(usize::from(replicas) / 2) {
            world.crash(member, 0);
        }
        let before = world.acknowledged;
        world.run_until(8 * SECOND, "it is part of the quorum", |world| {
            world.acknowledged.0 > before.0 + 10
        });
    }
}

/// The leader's ballot is the floor, and there is nobody to hand over to: it waits.
#[test]
fn under_the_leader_of_an_old_ballot_it_does_not_vote() {
    let mut world = group(6, 3);
    world.crash(B, 0);
    world.lose_disk(C);
    world.start(C);
    world.run(5 * SECOND);
    assert!(!votes(&world, C), "B has not answered");
    world.start(B);
    world.run_until(8 * SECOND, "it votes", |world| votes(world, C));
    assert!(world.leaders.len() > 1, "another leader was needed");
}

#[test]
fn two_of_three_without_disks_never_vote() {
    let mut world = group(7, 3);
    let before = world.acknowledged;
    for lost in [B, C] {
        world.lose_disk(lost);
        world.start(lost);
    }
    world.run(60 * SECOND);
    assert!(!votes(&world, B) && !votes(&world, C));
    assert!(world.acknowledged.0 <= before.0 + 5);
    assert_eq!(world.serving(), None);
}

#[test]
fn killed_at_any_moment_of_it_it_starts_again() {
    for seed in 0..30 {
        let mut world = group(seed, 3);
        let lost = ReplicaId(u8::try_from(seed % 3).unwrap() + 1);
        world.lose_disk(lost);
        for life in 0..4 {
            world.start(lost);
            world.run((1 + seed * 37 % 50) * (life + 1) * 10 * MS);
            world.crash(lost, usize::try_from(seed % 3).unwrap());
        }
        world.start(lost);
        world.run_until(10 * SECOND, "it votes", |world| votes(world, lost));
    }
}

/// C accepts slot `s` and its answer is on its way to the leader A; B has not heard of it. C loses its
/// disk, asks, learns all that anybody knows to be chosen. Now its old answer arrives: `s` is chosen and
/// acknowledged, and A is cut off. If C voted, B and C would elect B without `s`.
#[test]
fn a_vote_that_is_still_on_its_way_is_not_voted_away() {
    let mut world = group(8, 3);
    world.load = 0;
    world.run(100 * MS);
    world.cut.insert((A, B));
    let slot = world.propose(A).expect("it leads");
    let is_vote = |from: ReplicaId, message: &Message| {
        from == C && matches!(message, Message::Accepted { slot: voted, .. } if *voted == slot)
    };
    let mut vote = None;
    while vote.is_none() {
        world.run(MS / 20);
        let network = world.network.iter();
        let mut found = network.filter(|(_, (from, _, message))| is_vote(*from, message));
        vote = found.next().map(|(&at, _)| at);
    }
    let vote = world.network.remove(&vote.unwrap()).unwrap();
    assert!(world.acknowledged < slot);
    world.lose_disk(C);
    world.start(C);
    world.run(20 * MS);
    assert_eq!(world.core(C).applied_upto(), Slot(slot.0 - 1));
    world.network.insert((world.now_ns, u64::MAX), vote);
    world.isolate(A);
    world.run(MS);
    assert_eq!(world.acknowledged, slot);

    world.run(10 * SECOND);
    assert_eq!(world.serving(), None, "nobody can lead without A");
    world.cut.clear();
    world.run_until(10 * SECOND, "C votes", |world| votes(world, C));
    assert!(world.core(C).applied_upto() > slot);
}

/// Its candidate's answer arrives late: it is nobody's answer any more.
#[test]
fn answers_to_its_former_life_are_nobodys() {
    let mut hand = told(ballot(3, B), ballot(3, B));
    let former = ballot(2, A);
    let late = [
        promise(former, 0, (0, 1), None),
        Message::PreVoteReply {
            ballot: former,
            granted: true,
            promised: Ballot::ZERO,
        },
        Message::Accepted {
            ballot: former,
            slot: Slot(1),
        },
        Message::HeartbeatReply {
            ballot: former,
            round: 3,
            chosen_upto: Slot(9),
        },
    ];
    for message in late {
        assert_eq!(sent(&hand.say(B, message)), []);
    }
    assert_eq!(hand.core.role(), Role::Recovering);
}
