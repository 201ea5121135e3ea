//! How a seed's parameters are drawn ("swarm").
//!
//! Each seed switches some faults off and turns others up, so that two faults that rarely meet at
//! average rates do meet in some seeds (Groce et al., "Swarm testing", 2012). Every group of
//! parameters has a stream of its own: a new draw at the end of a group leaves the other groups of
//! old seeds as they were.

use quorate_protocol::config::{IdRule, Reads};
use quorate_protocol::limits::{
    ACCOUNTS_IN_MEMORY_MAX, APPLY_BYTES, LOG_TAIL_BYTES_MAX, PROPOSAL_BYTES_MAX, REQUESTS_MAX,
    SCAN_PLACES, TIMING,
};
use quorate_protocol::shard::map::Placement;
use quorate_protocol::time::{MS, SECOND};

use crate::budget::draw_victims;
use crate::network::NetworkSettings;
use crate::parameters::{DiskSettings, Durations, Intervals, Parameters, WorkloadSettings};
use crate::random::{Concern, Stream};

/// The shape of most seeds, and what the promised rate of seeds is measured at: 3 shards of 3.
const SHAPE_DEFAULT: (u32, u8) = (3, 3);
/// Longer than any run.
const HOUR: u64 = 3_600 * SECOND;

/// A group of parameters. The numbers choose the streams: never renumber.
#[derive(Clone, Copy)]
enum Group {
    Shape = 1,
    Network = 2,
    Disk = 3,
    Intervals = 4,
    Durations = 5,
    Workload = 6,
    Clocks = 7,
    Budget = 8,
    Store = 9,
    Documents = 10,
}

impl Parameters {
    /// The parameters of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let stream = |group: Group| Stream::new(seed, Concern::Parameters, group as u64);
        let shape = &mut stream(Group::Shape);
        let (shards, replicas) = if shape.chance(800_000) {
            SHAPE_DEFAULT
        } else {
            (shape.pick(&[1, 2, 3, 4]), shape.pick(&[1, 3, 3, 5]))
        };
        let clients = 4 + shape.index(6);
        let duration_ns = shape.between(10, 30) * SECOND;
        let mut workload =
            draw_workload(&mut stream(Group::Workload), clients, duration_ns, shards);
        let documents = &mut stream(Group::Documents);
        if documents.chance(300_000) {
            workload.document_ns = duration_ns / documents.pick(&[10, 100, 1_000]);
        }
        let placement = if shape.chance(500_000) {
            Placement::Hash
        } else {
            let accounts_per_shard = workload.accounts.div_ceil(u64::from(shards));
            Placement::Range { accounts_per_shard }
        };
        let colocated = shape.chance(400_000);
        let reads = shape.pick(&[Reads::Lease, Reads::Quorum]);
        let ids = shape.pick(&[IdRule::Ulid, IdRule::Any]);
        let clocks = &mut stream(Group::Clocks);
        let store = draw_store(&mut stream(Group::Store), duration_ns);
        Self {
            seed,
            shards,
            replicas,
            colocated,
            clients,
            placement,
            reads,
            ids,
            // Without checkpoints nothing is dropped, but what is too old is.
            keep_ns: store.keep_ns.filter(|_| ids == IdRule::Ulid),
            timing: TIMING,
            network: NetworkSettings {
                chunk_ppm: store.chunk_ppm,
                ..draw_network(&mut stream(Group::Network))
            },
            disk: draw_disk(&mut stream(Group::Disk)),
            intervals: Intervals {
                left_behind_ns: store.left_behind_ns,
                store_rot_ns: store.store_rot_ns,
                ..draw_intervals(&mut stream(Group::Intervals), duration_ns)
            },
            durations: draw_durations(&mut stream(Group::Durations)),
            victims: draw_victims(&mut stream(Group::Budget), shards, replicas),
            // Two clocks may differ by twice this; the lease allows for `drift_ns` per `lease_ns`.
            clock_drift_ppm: clocks.pick(&[0, 100, 5_000, 20_000]),
            clock_offset_ns: clocks.pick(&[0, MS, 100 * MS, 4 * SECOND]),
            duration_ns,
            digest_every: shape.pick(&[4, 16, 64]),
            tail_bytes_max: store.tail_bytes_max,
            checkpoint_weight: store.checkpoint_weight,
            accounts_in_memory_max: store.accounts_in_memory_max,
            scan_places: store.scan_places,
            apply_bytes: store.apply_bytes,
            rebuild_trouble_ppm: store.rebuild_trouble_ppm,
            keeps_blocks: store.keeps_blocks,
            waste_blocks: store.waste_blocks,
            scrub_ns: store.scrub_ns,
            workload,
        }
    }
}

fn draw_network(stream: &mut Stream) -> NetworkSettings {
    NetworkSettings {
        loss_ppm: stream.pick(&[0, 0, 1_000, 10_000, 50_000]),
        duplicate_ppm: stream.pick(&[0, 0, 1_000, 50_000]),
        corrupt_ppm: stream.pick(&[0, 0, 1_000, 10_000]),
        reorder_ppm: stream.pick(&[0, 100_000, 1_000_000]),
        delay_min_ns: stream.pick(&[10_000, 30_000, 200_000]),
        delay_mean_ns: stream.pick(&[10_000, 100_000, MS, 5 * MS]),
        slow_ppm: stream.pick(&[0, 0, 1_000, 20_000]),
        slow_ns: stream.pick(&[50 * MS, 500 * MS, 5 * SECOND]),
        rival_ppm: stream.pick(&[0, 0, 0, 300_000]),
        late_copy_ppm: stream.pick(&[0, 300_000]),
        late_move_ppm: stream.pick(&[0, 500_000]),
        chunk_ppm: 0,
    }
}

fn draw_disk(stream: &mut Stream) -> DiskSettings {
    DiskSettings {
        sector_bytes: stream.pick(&[512, 4096]),
        segment_bytes: stream.pick(&[64, 64, 128, 1024]) << 10,
        flush_min_ns: stream.pick(&[20_000, 200_000, MS]),
        flush_mean_ns: stream.pick(&[20_000, 200_000, 2 * MS]),
        stall_ppm: stream.pick(&[0, 0, 1_000, 10_000]),
        stall_ns: stream.pick(&[50 * MS, 400 * MS, 2 * SECOND]),
        slow_replica: stream.pick(&[0, 0, 0, 1, 2]),
    }
}

fn draw_intervals(stream: &mut Stream, duration_ns: u64) -> Intervals {
    // A third of the seeds lacks each kind; the others see it from once to dozens of times.
    let mut interval = |most: u64| {
        let never = stream.chance(330_000);
        let mean = duration_ns / stream.between(1, most);
        if never { 0 } else { mean }
    };
    Intervals {
        power_loss_ns: interval(20),
        kill_ns: interval(20),
        blackout_ns: interval(3),
        partition_ns: interval(8),
        pause_ns: interval(10),
        clock_jump_ns: interval(10),
        write_error_ns: interval(6),
        sync_error_ns: interval(6),
        read_error_ns: interval(6),
        disk_full_ns: interval(3),
        operator_death_ns: interval(12),
        bit_rot_ns: interval(8),
        misdirected_ns: interval(8),
        stale_ns: interval(8),
        disk_lost_ns: if interval(3) == 0 { 0 } else { duration_ns * 4 },
        usurper_ns: interval(20),
        relay_ns: interval(12),
        left_behind_ns: 0,
        store_rot_ns: 0,
    }
}

/// What the store of checkpoints is about. The group came late: its values go where they belong.
struct StoreSettings {
    checkpoint_weight: Option<u64>,
    tail_bytes_max: usize,
    left_behind_ns: u64,
    chunk_ppm: u32,
    rebuild_trouble_ppm: u32,
    keeps_blocks: bool,
    waste_blocks: u64,
    accounts_in_memory_max: usize,
    scan_places: usize,
    apply_bytes: usize,
    keep_ns: Option<u64>,
    store_rot_ns: u64,
    scrub_ns: u64,
}

fn draw_store(stream: &mut Stream, duration_ns: u64) -> StoreSettings {
    StoreSettings {
        // The entries of a run weigh 1 to 4 million per shard.
        checkpoint_weight: stream.pick(&[
            None,
            Some(30_000),
            Some(100_000),
            Some(100_000),
            Some(300_000),
            Some(900_000),
        ]),
        // With nothing in memory whoever is behind is served from the log, or not at all.
        tail_bytes_max: stream.pick(&[0, 0, 64 << 10, LOG_TAIL_BYTES_MAX]),
        left_behind_ns: stream.pick(&[0, duration_ns, duration_ns / 3]),
        // With the last one hardly any repair gets through.
        chunk_ppm: stream.pick(&[0, 100_000, 500_000, 950_000]),
        rebuild_trouble_ppm: stream.pick(&[0, 300_000, 600_000]),
        keeps_blocks: stream.chance(500_000),
        // A run has some dozens of accounts.
        accounts_in_memory_max: stream.pick(&[0, 8, 32, ACCOUNTS_IN_MEMORY_MAX]),
        scan_places: stream.pick(&[1, 3, 16, SCAN_PLACES]),
        // A run takes 10 to 30 s, and a retry some seconds.
        keep_ns: stream.pick(&[None, Some(SECOND), Some(3 * SECOND), Some(8 * SECOND)]),
        store_rot_ns: stream.pick(&[0, duration_ns / 4, duration_ns / 20]),
        scrub_ns: stream.pick(&[SECOND, 5 * SECOND, HOUR]),
        // With none old files hardly ever stay beside new ones; the last one is more than a run writes.
        waste_blocks: stream.pick(&[0, 0, 16, 1 << 20]),
        // No entry at once, small ones, some, all that there are.
        apply_bytes: stream.pick(&[0, 600, 4_000, APPLY_BYTES]),
    }
}

fn draw_durations(stream: &mut Stream) -> Durations {
    Durations {
        down_ns: stream.pick(&[100 * MS, SECOND, 3 * SECOND]),
        partition_ns: stream.pick(&[300 * MS, 2 * SECOND, 6 * SECOND]),
        pause_ns: stream.pick(&[300 * MS, 2 * SECOND, 5 * SECOND]),
        disk_full_ns: stream.pick(&[200 * MS, 2 * SECOND, 5 * SECOND]),
    }
}

fn draw_workload(
    stream: &mut Stream,
    clients: usize,
    duration_ns: u64,
    shards: u32,
) -> WorkloadSettings {
    let transfers = stream.between(2_100, 4_000);
    let batch_max: u64 = stream.pick(&[1, 4, 16, 64]);
    let operations = transfers / batch_max.div_ceil(2) + 1;
    let clients = u64::try_from(clients).expect("a few");
    let mut rate = |means: &[u64]| {
        let mean = stream.pick(means);
        stream.pick(&[0, mean, mean])
    };
    let moves_and_cuts = [duration_ns / 40, duration_ns / 10, duration_ns / 3];
    let move_ns = if shards > 1 { rate(&moves_and_cuts) } else { 0 };
    let cut_ns = rate(&moves_and_cuts);
    let lead_ns = rate(&moves_and_cuts);
    WorkloadSettings {
        accounts: stream.pick(&[6, 20, 60, 200]),
        ledgers: stream.pick(&[1, 1, 2]),
        transfers,
        batch_max,
        // One that is stuck at a shard without a majority must not keep its client from the others.
        open_max: stream.pick(&[3, 12]),
        // A third of the time would do: crashes and retries take the rest.
        think_ns: duration_ns * clients / (operations * 3),
        read_ppm: stream.pick(&[0, 100_000, 400_000]),
        reader: stream.chance(500_000),
        cross_ppm: stream.pick(&[0, 200_000, 600_000, 1_000_000]),
        reuse_ppm: stream.pick(&[0, 20_000, 150_000]),
        reuse_changed_ppm: stream.pick(&[0, 300_000]),
        malformed_ppm: stream.pick(&[0, 10_000]),
        stranger_ppm: stream.pick(&[0, 10_000]),
        abandon_ppm: stream.pick(&[0, 20_000, 200_000]),
        limited_ppm: stream.pick(&[0, 500_000, 900_000]),
        skew: stream.pick(&[1, 2, 6]),
        amount_max: stream.pick(&[3, 100, 1_000_000]),
        patience_ns: stream.pick(&[300 * MS, SECOND, 2 * SECOND]),
        move_ns,
        move_accounts_max: stream.pick(&[1, 3, 10]),
        plan_batches_max: stream.pick(&[1, 4, 12]),
        lead_ns,
        cut_ns,
        document_ns: 0,
        admitted_requests_max: stream.pick(&[REQUESTS_MAX, REQUESTS_MAX, 16, 4]),
        admitted_bytes_max: stream.pick(&[PROPOSAL_BYTES_MAX, PROPOSAL_BYTES_MAX, 4 << 10]),
        wander_ppm: stream.pick(&[0, 300_000]),
        reuse_late_ppm: stream.pick(&[0, 700_000]),
        give_up_ppm: stream.pick(&[0, 300_000]),
        reuse_moved_ppm: stream.pick(&[0, 600_000]),
        move_back_ppm: stream.pick(&[0, 500_000]),
        astray_ppm: stream.pick(&[0, 500_000]),
        history_ppm: stream.pick(&[0, 50_000, 200_000]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_and_each_one_is_the_same_for_ever() {
        let texts: std::collections::BTreeSet<String> = (0..50)
            .map(|seed| Parameters::draw(seed).to_json().to_string())
            .collect();
        assert_eq!(texts.len(), 50);
        assert_eq!(Parameters::draw(7).to_json(), Parameters::draw(7).to_json());
    }

    #[test]
    fn clock_drift_stays_within_what_the_lease_allows_for() {
        for seed in 0..200 {
            let parameters = Parameters::draw(seed);
            let apart_ppm = u64::from(parameters.clock_drift_ppm) * 2;
            let timing = parameters.timing;
            assert!(timing.lease_ns * apart_ppm / 1_000_000 <= timing.drift_ns);
        }
    }

    #[test]
    fn most_seeds_have_the_default_size_and_some_have_every_other() {
        let shapes: Vec<(u32, u8)> = (0..1_000)
            .map(Parameters::draw)
            .map(|drawn| (drawn.shards, drawn.replicas))
            .collect();
        let count = |shape| shapes.iter().filter(|&&drawn| drawn == shape).count();
        assert!(count(SHAPE_DEFAULT) > 750);
        for shards in 1..=4 {
            for replicas in [1, 3, 5] {
                assert!(count((shards, replicas)) > 0, "{shards} x {replicas}");
            }
        }
        assert!((0..1_000).all(|seed| Parameters::draw(seed).workload.transfers >= 2_000));
    }
}
