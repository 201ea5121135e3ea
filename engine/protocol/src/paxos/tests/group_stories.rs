//! Stories of a whole group, without random faults.

use alloc::vec;

use zerocopy::FromBytes;

use super::world::{Faults, World};
use crate::client::Role;
use crate::entry::{Entry, EntryBuilder};
use crate::ids::{Ballot, ReplicaId, Slot};
use crate::ledger::Transfer;
use crate::limits::{BATCH_MAX, PIPELINE_MAX, TIMING, WINDOW_MAX};
use crate::time::{MS, SECOND, Timestamp};

const A: ReplicaId = ReplicaId(1);
const B: ReplicaId = ReplicaId(2);
const C: ReplicaId = ReplicaId(3);

/// Three replicas, quiet network, somebody serves.
fn group(seed: u64) -> (World, ReplicaId) {
    let mut world = World::new(seed, 3, Faults::none());
    world.run_until(3 * SECOND, "somebody serves", |world| {
        world.serving().is_some()
    });
    let leader = world.serving().expect("just seen");
    (world, leader)
}

fn others(leader: ReplicaId) -> [ReplicaId; 2] {
    match leader {
        A => [B, C],
        B => [A, C],
        _ => [A, B],
    }
}

fn all_applied(world: &World, slot: Slot) -> bool {
    world.nodes.iter().all(|node| {
        node.core
            .as_ref()
            .is_some_and(|core| core.applied_upto() >= slot)
    })
}

#[test]
fn the_preferred_leader_leads_first() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3, Faults::none());
        world.run_until(SECOND, "somebody serves", |world| world.serving().is_some());
        assert_eq!(world.serving(), Some(A));
        assert_eq!(world.leaders.len(), 1, "one election");
    }
}

#[test]
fn the_preferred_leader_takes_over_after_it_was_well_for_a_while() {
    let (mut world, _) = group(1);
    world.crash(A, 0);
    world.run_until(3 * SECOND, "another serves", |world| {
        world.serving().is_some()
    });
    world.start(A);
    let back_ns = world.now_ns;
    world.run_until(4 * SECOND, "the preferred leads again", |world| {
        world.serving() == Some(A)
    });
    assert!(world.now_ns >= back_ns + 2 * SECOND);
}

#[test]
fn a_crashed_leader_is_replaced_and_nothing_chosen_is_lost() {
    for seed in 0..20 {
        let (mut world, leader) = group(seed);
        world.load = 500;
        world.run(300 * MS);
        world.crash(leader, 0);
        let crashed_ns = world.now_ns;
        let acknowledged = world.acknowledged;
        world.run_until(3 * SECOND, "another serves", |world| {
            world.serving().is_some()
        });
        // One timeout, perhaps a split vote and another, and the opening.
        assert!(world.now_ns < crashed_ns + 2 * TIMING.election_max_ns + 100 * MS);
        let next = world.serving().expect("just seen");
        assert!(world.core(next).applied_upto() >= acknowledged);
        assert!(acknowledged > Slot(10));
    }
}

/// Handing over takes a few round trips, not an election timeout, and both followers keep the
/// stickiness that the transfer waives.
#[test]
fn a_transfer_is_quick_and_the_successor_serves_under_a_new_ballot() {
    let (mut world, leader) = group(3);
    let [next, _] = others(leader);
    world.run(200 * MS);
    let old = world.core(leader).ballot();
    assert!(world.transfer(leader, next));
    world.run_until(100 * MS, "the successor serves", |world| {
        world.serving() == Some(next)
    });
    assert!(world.core(next).ballot() > old);
    assert_eq!(world.core(leader).role(), Role::Follower);
    assert_eq!(world.leaders.len(), 2);
}

#[test]
fn a_transfer_to_a_replica_that_is_down_is_given_up_and_the_lease_kept() {
    let (mut world, leader) = group(4);
    let [next, _] = others(leader);
    world.run(200 * MS);
    world.crash(next, 0);
    assert!(world.transfer(leader, next), "it answered lately");
    assert!(world.propose(leader).is_none(), "proposals rest meanwhile");
    world.run(TIMING.election_max_ns + MS);
    let slot = world.propose(leader).expect("proposals go on");
    world.run(100 * MS);
    assert!(world.core(leader).applied_upto() >= slot);
    let now = world.now_of(leader);
    assert!(
        world.core(leader).lease_valid(now),
        "nobody was told to lead"
    );
    assert!(
        !world.transfer(leader, next),
        "it has been silent for too long"
    );
}

#[test]
fn an_isolated_leader_stops_serving_before_another_does_and_follows_when_healed() {
    for seed in 0..20 {
        let (mut world, old) = group(seed);
        world.run(200 * MS);
        world.isolate(old);
        world.run_until(3 * SECOND, "the others elect", |world| {
            world.nodes.iter().any(|node| {
                node.id != old
                    && node
                        .core
                        .as_ref()
                        .is_some_and(|core| core.serving().is_some())
            })
        });
        let now = world.now_of(old);
        assert!(!world.core(old).lease_valid(now));
        world.run_until(2 * SECOND, "check-quorum", |world| {
            world.nodes[usize::from(old.0) - 1]
                .core
                .as_ref()
                .is_some_and(|core| core.leading().is_none())
        });
        let leader = world.serving().expect("one of the two");
        world.cut.clear();
        let slot = world.propose(leader).expect("room");
        world.run_until(SECOND, "the old leader follows", |world| {
            all_applied(world, slot)
        });
        assert_eq!(world.core(old).leader(), Some(leader));
    }
}

/// Pre-vote: an outsider that timed out alone comes back without having raised its promise, and the
/// leader stays.
#[test]
fn a_healed_outsider_disturbs_nobody() {
    let (mut world, leader) = group(5);
    let [outsider, _] = others(leader);
    let ballot = world.core(leader).ballot();
    world.isolate(outsider);
    world.run(5 * SECOND);
    assert_eq!(world.core(outsider).role(), Role::Candidate);
    world.cut.clear();
    world.run(300 * MS);
    assert_eq!(world.core(outsider).leader(), Some(leader));
    assert_eq!(world.core(outsider).ballot(), ballot);
    assert_eq!(world.serving(), Some(leader));
    assert_eq!(world.leaders.len(), 1);
}

#[test]
fn duelling_candidates_converge() {
    for seed in 0..50 {
        let faults = Faults {
            // Slow enough that rounds of two candidates overlap.
            delay_ns_max: 100 * MS,
            ..Faults::none()
        };
        let mut world = World::new(seed, 5, faults);
        // Nobody is preferred: all wait for a timeout of the same range.
        world.crash(A, 0);
        world.run_until(10 * SECOND, "somebody serves", |world| {
            world.serving().is_some()
        });
    }
}

/// Nothing more is proposed: only heartbeats can tell the follower what it missed.
#[test]
fn a_hole_at_an_idle_leader_is_filled_within_a_heartbeat() {
    let (mut world, leader) = group(6);
    let [deaf, _] = others(leader);
    world.run(200 * MS);
    world.cut.insert((leader, deaf));
    let slot = world.propose(leader).expect("room");
    world.cut.clear();
    world.run_until(
        TIMING.heartbeat_ns + 10 * MS,
        "the hole is filled",
        |world| all_applied(world, slot),
    );
}

#[test]
fn a_candidate_that_dies_comes_back_above_the_ballot_that_it_had_promised_to_itself() {
    for seed in 0..20 {
        let slow = Faults {
            delay_ns_max: 40 * MS,
            ..Faults::none()
        };
        let mut world = World::new(seed, 3, slow);
        world.run_until(3 * SECOND, "a candidate", |world| {
            campaigning(world).is_some()
        });
        let candidate = campaigning(&world).expect("just seen");
        let ballot = world.core(candidate).ballot();
        world.crash(candidate, usize::MAX);
        world.start(candidate);
        assert_eq!(
            world.core(candidate).ballot(),
            ballot,
            "what was promised stays"
        );
        world.run_until(6 * SECOND, "the group serves", |world| {
            world.serving().is_some()
        });
        assert!(!world.leaders.contains_key(&ballot));
    }
}

/// A replica that has promised its own ballot and does not lead yet.
fn campaigning(world: &World) -> Option<ReplicaId> {
    let candidate = world.nodes.iter().find(|node| {
        node.core
            .as_ref()
            .is_some_and(|core| core.ballot().replica() == node.id && core.leading().is_none())
    });
    candidate.map(|node| node.id)
}

#[test]
fn everything_restarts_and_the_log_is_replayed_and_completed() {
    for seed in 0..20 {
        let (mut world, _) = group(seed);
        world.load = 800;
        world.run(500 * MS);
        let acknowledged = world.acknowledged;
        for id in [A, B, C] {
            world.crash(id, 0);
        }
        for id in [A, B, C] {
            world.start(id);
        }
        world.load = 0;
        world.run_until(4 * SECOND, "the group serves again", |world| {
            world.serving().is_some()
        });
        let leader = world.serving().expect("just seen");
        let slot = world.core(leader).applied_upto();
        assert!(slot > acknowledged);
        world.run_until(SECOND, "all replayed", |world| all_applied(world, slot));
    }
}

fn transfers(count: usize, origin: Ballot, stamp: Timestamp) -> Entry {
    let mut builder = EntryBuilder::new();
    let transfer: Transfer = FromBytes::read_from_bytes(&[0; 128]).expect("all bytes are valid");
    builder.transfers(&vec![transfer; count]);
    builder.finish(origin, stamp, 0)
}

/// A message holds three.
fn third_of_a_batch(origin: Ballot, stamp: Timestamp) -> Entry {
    transfers(BATCH_MAX / 3, origin, stamp)
}

/// A message holds one.
fn full_batch(origin: Ballot, stamp: Timestamp) -> Entry {
    transfers(BATCH_MAX, origin, stamp)
}

fn chosen_upto(world: &World, id: ReplicaId) -> u64 {
    let core = &world.nodes[usize::from(id.0) - 1].core;
    core.as_ref().expect("runs").chosen_upto().0
}

/// Asked for a message at a time, a leader with eight entries in flight was faster than whoever had been away,
/// whose group did without it until its load fell.
#[test]
fn a_replica_that_was_away_is_back_while_its_group_goes_on_as_fast_as_it_can() {
    let (mut world, leader) = group(7);
    let [away, _] = others(leader);
    world.faults.delay_ns_max = 40 * MS;
    world.entry = third_of_a_batch;
    world.load = 1000;
    world.crash(away, 0);
    world.run(2 * SECOND);
    let (behind, began_ns) = (world.acknowledged.0, world.now_ns);
    assert!(behind > 3 * WINDOW_MAX, "{behind} slots");
    world.start(away);
    world.run_until(5 * SECOND, "it is back", |world| {
        chosen_upto(world, away) + 2 * PIPELINE_MAX >= chosen_upto(world, leader)
    });
    // It was not the load that fell.
    let before = behind as f64 / 2.0;
    let since = (world.acknowledged.0 - behind) as f64 * SECOND as f64;
    let since = since / (world.now_ns - began_ns) as f64;
    assert!(
        since > 0.8 * before,
        "{since} entries a second, {before} before"
    );
}

/// While the last of the gap was on its way, proposals were accepted above it; from 33 full batches on nothing was
/// asked for any more, and the group had lost a member for good (see `catch_up_stories`).
#[test]
fn with_full_batches_it_is_back_too_and_is_needed_for_the_quorum_then() {
    for seed in 0..4 {
        let (mut world, leader) = group(seed);
        let [away, other] = others(leader);
        world.faults.delay_ns_max = 40 * MS;
        world.entry = full_batch;
        world.load = 1000;
        world.crash(away, 0);
        world.run(SECOND);
        world.start(away);
        world.run_until(5 * SECOND, "it is back", |world| {
            chosen_upto(world, away) + 2 * PIPELINE_MAX >= chosen_upto(world, leader)
        });
        world.run(SECOND);
        world.crash(other, 0);
        let before = world.acknowledged;
        world.run(SECOND);
        assert!(world.acknowledged.0 > before.0 + WINDOW_MAX, "seed {seed}");
        world.load = 0;
        world.run(SECOND);
        assert_eq!(chosen_upto(&world, away), chosen_upto(&world, leader));
    }
}
