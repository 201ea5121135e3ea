//! Moves with a crash at each step: for every step of a move and every victim, that victim dies
//! there, comes back, and everything must end as if nobody had died.
//!
//! A scenario is first run undisturbed; that is its happy path, and its steps are numbered (each
//! message delivery, each flush, each message of a client or of the tool; heartbeats are not
//! counted). Point k lies right after step k and right before step k+1. Then, for every point, every
//! victim and every blow, a fresh cluster runs to the point, the blow falls, and time goes on until
//! all is quiet. See `scenario` for what moves and pays, `verdict` for what must hold then.
//!
//! The same is done to transfers without a move: every crash window of two-phase commit on both sides.
//!
//! A blow is a crash, with or without the loss of what was not flushed and of what was just sent,
//! with a restart before or after another replica has taken over; or the leader is not dead but cut
//! off from its group, and goes on believing that it leads. Whole shards die too: only then does it
//! do harm if something was promised before it was durable.

#![forbid(unsafe_code)]

mod scenario;
mod verdict;

use quorate_interaction::disk::Unflushed;
use quorate_interaction::timed::world::{Cut, Fate, Timed};
use quorate_protocol::ids::{AccountId, ReplicaAddress, ShardId};
use quorate_protocol::time::{MS, SECOND};

use scenario::{Overlap, Scenario};

/// From the crash to the end of everything, restarts after 3 s included.
const BOUND_NS: u64 = 20 * SECOND;
/// A process that returns while its shard still waits for it.
const SOON_NS: u64 = 20 * MS;
/// A process that returns long after another replica has taken over.
const LATE_NS: u64 = 3 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    SourceLeader,
    TargetLeader,
    BothLeaders,
    /// Of a shard that only has a transfer under way with a moved account.
    ThirdLeader,
    /// Every replica at once: only what is durable is left of the shard.
    SourceShard,
    TargetShard,
    Tool,
}

const VICTIMS: [Victim; 7] = [
    Victim::SourceLeader,
    Victim::TargetLeader,
    Victim::BothLeaders,
    Victim::ThirdLeader,
    Victim::SourceShard,
    Victim::TargetShard,
    Victim::Tool,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Crash(Fate),
    Cut(Cut),
    /// Of the tool, which has no disk: a new one starts the plan from its beginning.
    Forget,
}

impl Victim {
    /// Who falls.
    fn addresses(self, scenario: &Scenario, timed: &Timed) -> Vec<ReplicaAddress> {
        let (source, target) = (scenario.plan.source, scenario.plan.target);
        let leader = |shard| {
            let leader = timed.cluster.leader(shard);
            leader.expect("nothing has happened to it yet")
        };
        let all = |shard| timed.cluster.running(shard).map(|(at, _)| at).collect();
        match self {
            Self::SourceLeader => vec![leader(source)],
            Self::TargetLeader => vec![leader(target)],
            Self::BothLeaders => vec![leader(source), leader(target)],
            Self::ThirdLeader => vec![leader(ShardId(3))],
            Self::SourceShard => all(source),
            Self::TargetShard => all(target),
            Self::Tool => Vec::new(),
        }
    }

    fn exists(self, scenario: &Scenario) -> bool {
        match self {
            Self::ThirdLeader => scenario.shape.shards >= 3,
            // A group of one is its leader.
            Self::SourceShard | Self::TargetShard => scenario.shape.replicas > 1,
            Self::Tool => scenario.overlap != Overlap::NoMove,
            Self::SourceLeader | Self::TargetLeader | Self::BothLeaders => true,
        }
    }

    fn blows(self, scenario: &Scenario) -> Vec<Blow> {
        if self == Self::Tool {
            return vec![Blow::Forget];
        }
        let mut blows = Vec::new();
        for unflushed in [Unflushed::Lost, Unflushed::Kept] {
            for sent_arrives in [true, false] {
                for restart_after_ns in [SOON_NS, LATE_NS] {
                    blows.push(Blow::Crash(Fate {
                        unflushed,
                        sent_arrives,
                        restart_after_ns,
                    }));
                }
            }
        }
        // A group of one has nobody to be cut off from.
        let whole = matches!(self, Self::SourceShard | Self::TargetShard);
        if scenario.shape.replicas > 1 && !whole {
            for held in [true, false] {
                let for_ns = LATE_NS;
                blows.push(Blow::Cut(Cut { held, for_ns }));
            }
        }
        blows
    }
}

/// Runs the whole scenario. `pairs_min` keeps the search from shrinking unnoticed.
fn crash_everywhere(scenario: &Scenario, pairs_min: u64) {
    let steps = happy_path(scenario);
    let (mut pairs, mut runs) = (0, 0);
    let victims = VICTIMS.into_iter().filter(|victim| victim.exists(scenario));
    let victims: Vec<Victim> = victims.collect();
    for point in 0..=steps {
        for &victim in &victims {
            pairs += 1;
            for blow in victim.blows(scenario) {
                runs += 1;
                let name = scenario.name;
                let told = format!("{name}: point {point} of {steps}, {victim:?}, {blow:?}");
                strike(scenario, point, victim, blow, &told);
            }
        }
    }
    println!(
        "{}: {steps} steps, {pairs} pairs of step and victim, {runs} runs",
        scenario.name
    );
    assert!(
        pairs >= pairs_min,
        "{}: only {pairs} pairs of step and victim, at least {pairs_min} were there once",
        scenario.name
    );
}

/// The number of steps from the start of the scenario to its end without any crash. Also shows that
/// the scenario is about what it says: its transfer is under way while the move is.
fn happy_path(scenario: &Scenario) -> u64 {
    let mut timed = scenario.begin();
    let first = timed.steps();
    let end_ns = timed.cluster.now_ns() + BOUND_NS;
    let mut overlapped = false;
    while verdict::quiet(&timed).is_err() {
        assert!(timed.step(end_ns), "{}: no end in sight", scenario.name);
        overlapped |= overlaps(scenario, &timed);
    }
    assert!(overlapped, "{}: the move met nothing", scenario.name);
    let steps = timed.steps() - first;
    verdict::settle_and_check(scenario, &mut timed, BOUND_NS, scenario.name);
    steps
}

fn overlaps(scenario: &Scenario, timed: &Timed) -> bool {
    if scenario.overlap == Overlap::NoMove {
        // The debit that depends on a credit under way is asked for while it is.
        let target = timed.cluster.leader(scenario.plan.target);
        let replica = target.and_then(|at| timed.cluster.replica(at));
        let owned = replica.and_then(|replica| replica.ledger().account(AccountId(11)));
        let dependent = &timed.payers()[scenario.first_payer() + 3];
        return dependent.has_asked() && owned.is_some_and(|owned| owned.open > 0);
    }
    if !timed.tool_has_asked() {
        return false;
    }
    let source = scenario.plan.source;
    let leader = timed.cluster.leader(source);
    let Some(replica) = leader.and_then(|at| timed.cluster.replica(at)) else {
        return false;
    };
    scenario.plan.accounts.iter().any(|&account| {
        let owned = replica.ledger().account(account);
        owned.is_some_and(|owned| match scenario.overlap {
            Overlap::LocalDebit => timed.payers()[scenario.first_payer()].outcome().is_none(),
            Overlap::CrossDebit => owned.attempts > 0,
            Overlap::Reservation => owned.open > 0,
            Overlap::NoMove => unreachable!("handled above"),
        })
    })
}

fn strike(scenario: &Scenario, point: u64, victim: Victim, blow: Blow, told: &str) {
    let mut timed = scenario.begin();
    let last = timed.steps() + point;
    while timed.steps() < last {
        assert!(timed.step(u64::MAX), "{told}: the course is not the same");
    }
    let victims = victim.addresses(scenario, &timed);
    match blow {
        Blow::Crash(fate) => victims.into_iter().for_each(|at| timed.crash(at, fate)),
        Blow::Cut(cut) => victims.into_iter().for_each(|at| timed.cut(at, cut)),
        Blow::Forget => {
            let start_ns = timed.cluster.now_ns() + SOON_NS;
            timed.start_tool(scenario.plan.clone(), start_ns);
        }
    }
    verdict::settle_and_check(scenario, &mut timed, BOUND_NS, told);
}

#[test]
fn with_a_local_transfer_under_way_on_three_replicas() {
    crash_everywhere(&scenario::local_debit(3), 370);
}

#[test]
fn with_a_local_transfer_under_way_on_one_replica() {
    crash_everywhere(&scenario::local_debit(1), 80);
}

#[test]
fn with_a_cross_shard_debit_under_way_on_three_replicas() {
    crash_everywhere(&scenario::cross_debit(3), 600);
}

#[test]
fn with_a_cross_shard_debit_under_way_on_one_replica() {
    crash_everywhere(&scenario::cross_debit(1), 125);
}

#[test]
fn with_a_reservation_of_the_targets_open_on_three_replicas() {
    crash_everywhere(&scenario::reservation_of_target(3), 410);
}

#[test]
fn with_a_reservation_of_the_targets_open_on_one_replica() {
    crash_everywhere(&scenario::reservation_of_target(1), 75);
}

#[test]
fn with_a_reservation_of_a_third_shards_open_on_three_replicas() {
    crash_everywhere(&scenario::reservation_of_third(3), 620);
}

#[test]
fn with_a_reservation_of_a_third_shards_open_on_one_replica() {
    crash_everywhere(&scenario::reservation_of_third(1), 130);
}

#[test]
fn without_a_move_on_three_replicas() {
    crash_everywhere(&scenario::transfers(3), 380);
}

#[test]
fn without_a_move_on_one_replica() {
    crash_everywhere(&scenario::transfers(1), 60);
}
