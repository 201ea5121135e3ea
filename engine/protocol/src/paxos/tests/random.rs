//! Random worlds: every seed draws its faults, suffers them for a while, then heals and must make
//! progress. `PAXOS_SEEDS=from..end` runs others than the default; a failure names its seed.

extern crate std;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::string::String;

use super::world::{Faults, World};
use crate::ids::{ReplicaId, Slot};
use crate::limits::{TIMING, Timing};
use crate::prng::Prng;
use crate::time::{MS, SECOND};

/// Nothing to spare: elections may begin the moment a lease has ended.
const TIGHT: Timing = Timing {
    election_min_ns: TIMING.lease_ns,
    election_max_ns: 2 * TIMING.lease_ns,
    ..TIMING
};
/// Two clocks that differ by this much drift apart by `drift_ns` in one lease, all but a little.
const DRIFT_PPM: u64 = 24_000;
const _: () = assert!(2 * DRIFT_PPM * TIGHT.lease_ns / 1_000_000 <= TIGHT.drift_ns);

/// What the seeds together must have seen, so that a quiet world cannot pass for a safe one.
#[derive(Debug, Default)]
struct Sights {
    slots: u64,
    leaders: usize,
    crashes: u64,
    reads: u64,
    transfers: u64,
    lease_lost_to_pause: u64,
    power_failures: u64,
    restarts_within_lease: u64,
    rot: u64,
    rot_healed: u64,
    checkpoints: u64,
    installs: u64,
    fallbacks: u64,
    disks_lost: u64,
    rejoined: u64,
}

#[test]
fn random_worlds_agree_stay_durable_keep_leases_exclusive_and_recover() {
    let (from, end) = seeds();
    let mut sights = Sights::default();
    for seed in from..end {
        let result = catch_unwind(AssertUnwindSafe(|| run(seed, &mut sights)));
        if let Err(panic) = result {
            std::eprintln!("failed with PAXOS_SEEDS={seed}..{}", seed + 1);
            resume_unwind(panic);
        }
    }
    std::println!("{} seeds: {sights:?}", end - from);
    if end - from >= 100 {
        let seeds = end - from;
        assert!(sights.slots > 100 * seeds);
        assert!(sights.leaders as u64 > 3 * seeds);
        assert!(sights.crashes > 2 * seeds);
        assert!(sights.reads > 10 * seeds);
        assert!(sights.transfers > seeds / 10);
        assert!(sights.lease_lost_to_pause > seeds / 10);
        assert!(sights.power_failures > seeds / 2);
        assert!(sights.restarts_within_lease > seeds / 4);
        assert!(sights.rot > seeds / 2);
        assert!(sights.rot_healed > seeds / 8);
        assert!(sights.checkpoints > 10 * seeds);
        assert!(sights.installs > seeds / 20);
        assert!(sights.fallbacks > seeds / 10);
        assert!(sights.disks_lost > seeds / 4);
        assert!(sights.rejoined > sights.disks_lost / 2);
    }
}

fn seeds() -> (u64, u64) {
    let range: String = std::env::var("PAXOS_SEEDS").unwrap_or_else(|_| "0..600".into());
    let (from, end) = range.split_once("..").expect("PAXOS_SEEDS=from..end");
    (
        from.parse().expect("a number"),
        end.parse().expect("a number"),
    )
}

/// Records rot at several replicas at once, more than can be brought back. Replicas may stop, never
/// contradict each other or what was acknowledged.
#[test]
fn replicas_whose_records_rot_everywhere_stop_rather_than_decide_twice() {
    let (from, end) = seeds();
    let mut sights = Sights::default();
    let (mut stops, mut slots) = (0, 0);
    for seed in from..end {
        let result = catch_unwind(AssertUnwindSafe(|| rot_everywhere(seed, &mut sights)));
        match result {
            Ok(world) => {
                stops += world.stops;
                slots += world.chosen.len();
            }
            Err(panic) => {
                std::eprintln!("failed with PAXOS_SEEDS={seed}..{}", seed + 1);
                resume_unwind(panic);
            }
        }
    }
    std::println!(
        "{} seeds: {stops} stops, {slots} slots, {sights:?}",
        end - from
    );
    if end - from >= 100 {
        assert!(stops > (end - from) / 20);
        assert!(sights.rot > end - from);
    }
}

fn rot_everywhere(seed: u64, sights: &mut Sights) -> World {
    let mut chance = Prng::new(seed ^ 0xdead_5eed);
    let (mut world, period_ns) = drawn_world(seed, &mut chance);
    world.rots_anywhere = true;
    // They would cover what rots.
    world.faults.checkpoint = 0;
    while world.now_ns < 8 * SECOND {
        world.run(chance.range(1, period_ns));
        match chance.range(0, 3) {
            0 => trouble(&mut world, &mut chance, sights),
            1 => {
                let id = any(&world, &mut chance);
                rot(&mut world, id, &mut chance, sights);
            }
            _ => {
                for id in
                    (1..=world.nodes.len()).map(|id| ReplicaId(u8::try_from(id).expect("few")))
                {
                    if chance.range(0, 2) == 0 {
                        rot(&mut world, id, &mut chance, sights);
                    }
                }
            }
        }
    }
    world
}

fn run(seed: u64, sights: &mut Sights) {
    let mut chance = Prng::new(seed ^ 0x5eed);
    let (mut world, period_ns) = drawn_world(seed, &mut chance);
    let until_ns = 8 * SECOND;
    while world.now_ns < until_ns {
        world.run(chance.range(1, period_ns));
        trouble(&mut world, &mut chance, sights);
    }
    heal(&mut world, sights);
}

/// A world with the faults that its seed draws, and how long nothing changes in it at most.
fn drawn_world(seed: u64, chance: &mut Prng) -> (World, u64) {
    let pick = |chance: &mut Prng, choices: &[u64]| {
        let drawn = chance.range(0, choices.len() as u64);
        choices[usize::try_from(drawn).expect("few")]
    };
    let faults = Faults {
        loss: pick(chance, &[0, 10, 100, 300]),
        duplicate: pick(chance, &[0, 50, 300]),
        delay_ns_max: pick(chance, &[MS, 10 * MS, 100 * MS]),
        flush_ns_max: pick(chance, &[MS, 5 * MS, 50 * MS]),
        stall: pick(chance, &[0, 0, 5]),
        drift_ppm: pick(chance, &[1, DRIFT_PPM]),
        checkpoint: pick(chance, &[0, 2, 30, 200]),
    };
    let replicas = u8::try_from(pick(chance, &[3, 3, 3, 5, 1])).expect("few");
    let mut world = World::with_timing(seed, replicas, faults, TIGHT);
    world.load = pick(chance, &[20, 200, 800]);
    let period_ns = pick(chance, &[300 * MS, SECOND, 3 * SECOND]);
    (world, period_ns)
}

fn any(world: &World, chance: &mut Prng) -> ReplicaId {
    let number = chance.range(1, world.nodes.len() as u64 + 1);
    ReplicaId(u8::try_from(number).expect("few"))
}

fn trouble(world: &mut World, chance: &mut Prng, sights: &mut Sights) {
    // Leaders are in trouble more often than others.
    let id = match world.serving() {
        Some(leader) if chance.range(0, 2) == 0 => leader,
        Some(_) | None => any(world, chance),
    };
    match chance.range(0, 14) {
        0..=2 => crash(world, id, chance, sights),
        3 => world.isolate(id),
        4 => {
            let other = any(world, chance);
            if other != id {
                world.cut.insert((id, other));
            }
        }
        5 | 6 => world.cut.clear(),
        7 => {
            if world.node(id).core.is_some() {
                let leads = world.core(id).serving().is_some();
                world.node(id).paused_until_ns = world.now_ns + chance.range(1, 2 * SECOND);
                sights.lease_lost_to_pause += u64::from(leads);
            }
        }
        8 => {
            let to = any(world, chance);
            let leader = world.serving().unwrap_or(id);
            sights.transfers += u64::from(world.transfer(leader, to));
        }
        9 => power_failure(world, chance, sights),
        10 | 11 => rot(world, id, chance, sights),
        12 => lose_disk(world, id, chance, sights),
        _ => restart_within_lease(world, chance, sights),
    }
}

fn crash(world: &mut World, id: ReplicaId, chance: &mut Prng, sights: &mut Sights) {
    if world.node(id).core.is_none() {
        return;
    }
    sights.crashes += 1;
    let kept = chance.range(0, 4);
    world.crash(id, usize::try_from(kept).expect("few"));
    let down_ns = match chance.range(0, 3) {
        0 => chance.range(1, 10 * MS),
        _ => chance.range(1, 2 * SECOND),
    };
    world.restart_at(id, world.now_ns + down_ns);
}

/// A few durable records of one replica become unreadable; mostly it restarts and finds out, or it
/// finds out when it reads them for somebody.
fn rot(world: &mut World, id: ReplicaId, chance: &mut Prng, sights: &mut Sights) {
    if world.nodes.len() == 1 {
        return;
    }
    for _ in 0..chance.range(1, 6) {
        sights.rot += u64::from(world.rot(id));
    }
    if chance.range(0, 4) > 0 {
        crash(world, id, chance, sights);
    }
}

/// One replica comes back with an empty disk, unless another has lost something, too.
fn lose_disk(world: &mut World, id: ReplicaId, chance: &mut Prng, sights: &mut Sights) {
    let others_whole = world.is_whole_without(id);
    if world.nodes.len() == 1 || world.node(id).core.is_none() || !others_whole {
        return;
    }
    sights.disks_lost += 1;
    world.lose_disk(id);
    let down_ns = chance.range(1, SECOND);
    world.restart_at(id, world.now_ns + down_ns);
}

/// Several replicas at one moment: what was acknowledged early is lost at all of them.
fn power_failure(world: &mut World, chance: &mut Prng, sights: &mut Sights) {
    sights.power_failures += 1;
    for id in (1..=world.nodes.len()).map(|id| ReplicaId(u8::try_from(id).expect("few"))) {
        if chance.range(0, 3) > 0 {
            crash(world, id, chance, sights);
        }
    }
}

/// One follower loses the leader and wants to elect; another, whose answer carries the lease,
/// restarts in a moment and, perhaps, does not hear the leader again. It has to allow for a promise
/// that it does not remember.
fn restart_within_lease(world: &mut World, chance: &mut Prng, sights: &mut Sights) {
    let Some(leader) = world.serving() else {
        return;
    };
    let lonely = any(world, chance);
    if lonely == leader {
        return;
    }
    world.cut.insert((leader, lonely));
    world.cut.insert((lonely, leader));
    world.run(chance.range(SECOND, 2 * SECOND));
    for id in (1..=world.nodes.len()).map(|id| ReplicaId(u8::try_from(id).expect("few"))) {
        if id != leader && id != lonely && world.node(id).core.is_some() {
            sights.restarts_within_lease += 1;
            world.crash(id, 0);
            world.restart_at(id, world.now_ns + MS);
            if chance.range(0, 2) == 0 {
                world.cut.insert((leader, id));
            }
        }
    }
    world.run(chance.range(1, SECOND));
}

/// All faults end; within a bound the group serves, everybody learns everything, and what was
/// acknowledged is there.
fn heal(world: &mut World, sights: &mut Sights) {
    world.cut.clear();
    world.faults = Faults {
        drift_ppm: world.faults.drift_ppm,
        checkpoint: world.faults.checkpoint,
        ..Faults::none()
    };
    for id in (1..=world.nodes.len()).map(|id| ReplicaId(u8::try_from(id).expect("few"))) {
        world.node(id).paused_until_ns = 0;
        if world.node(id).core.is_none() {
            world.restart_at(id, world.now_ns);
        }
    }
    world.load = 0;
    let before = world
        .chosen
        .last_key_value()
        .map_or(Slot::ZERO, |(&slot, _)| slot);
    world.run_until(8 * SECOND, "one leader serves", |world| {
        world.serving().is_some()
    });
    world.run_until(6 * SECOND, "everybody has applied everything", |world| {
        let last = world.chosen.last_key_value().map(|(&slot, _)| slot);
        world.nodes.iter().all(|node| {
            node.core.as_ref().is_some_and(|core| {
                Some(core.applied_upto()) == last && core.leader() == world.serving()
            })
        })
    });
    let last = world
        .chosen
        .last_key_value()
        .map_or(Slot::ZERO, |(&slot, _)| slot);
    assert!(
        last > before || before > Slot::ZERO,
        "nothing was ever chosen"
    );
    world.run_until(20 * SECOND, "everybody votes", |world| {
        world.nodes.iter().all(|node| !node.rejoins)
    });
    world.run_until(4 * SECOND, "a leader has room", |world| {
        world
            .serving()
            .is_some_and(|leader| world.can_propose(leader))
    });
    let leader = world.serving().expect("just seen");
    let slot = world.propose(leader).expect("it has room");
    world.run_until(SECOND, "a new proposal is chosen everywhere", |world| {
        world.nodes.iter().all(|node| {
            node.core
                .as_ref()
                .is_some_and(|core| core.applied_upto() >= slot)
        })
    });
    sights.slots += slot.0;
    sights.checkpoints += world.checkpoints;
    sights.installs += world.installs;
    sights.fallbacks += world.fallbacks;
    sights.rejoined += world.rejoined;
    sights.rot_healed += u64::from(world.has_rotted() && !world.is_harmed());
    sights.leaders += world.leaders.len();
    sights.reads += world
        .nodes
        .iter()
        .map(|node| node.reads_served)
        .sum::<u64>();
}
