//! What one seed is about: every size, rate and probability of a run, drawn from the seed ("swarm").
//!
//! Each seed switches some faults off and turns others up, so that two faults that rarely meet at
//! average rates do meet in some seeds (Groce et al., "Swarm testing", 2012).

use quorate_protocol::config::{IdRule, Reads};
use quorate_protocol::limits::{TIMING, Timing};
use quorate_protocol::shard::map::Placement;
use quorate_protocol::time::{MS, SECOND};
use serde::Serialize;
use serde_json::{Value, json};

use crate::network::NetworkSettings;
use crate::random::{Concern, Stream};

/// Mean time between events of a kind; 0 = never.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Intervals {
    /// A machine loses power: unsynced writes are at risk.
    pub power_loss_ns: u64,
    /// A process dies: what it wrote stays.
    pub kill_ns: u64,
    /// All machines lose power at once.
    pub blackout_ns: u64,
    pub partition_ns: u64,
    pub pause_ns: u64,
    pub clock_jump_ns: u64,
}

/// Longest durations of the same.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Durations {
    pub down_ns: u64,
    pub partition_ns: u64,
    pub pause_ns: u64,
}

/// What disks do.
#[derive(Clone, Debug, Serialize)]
pub struct DiskSettings {
    pub sector_bytes: usize,
    pub segment_bytes: u64,
    pub flush_min_ns: u64,
    /// Mean of the exponential part of a flush.
    pub flush_mean_ns: u64,
    /// A flush that stalls, up to `stall_ns`.
    pub stall_ppm: u32,
    pub stall_ns: u64,
    /// In every shard, the replica of this number has a disk that is many times slower; 0 = none.
    pub slow_replica: u8,
}

/// What clients do; shares in parts per million of their operations.
#[derive(Clone, Debug, Serialize)]
pub struct WorkloadSettings {
    pub accounts: u64,
    pub ledgers: u32,
    /// Transfers after which clients stop.
    pub transfers: u64,
    pub batch_max: u64,
    /// Operations that one client has open at once.
    pub open_max: usize,
    /// Mean pause of a client between operations.
    pub think_ns: u64,
    pub read_ppm: u32,
    /// The first client does nothing but read, and often.
    pub reader: bool,
    /// Transfers between accounts whose default homes differ, if there is more than one shard.
    pub cross_ppm: u32,
    /// Transfers that reuse an id on purpose.
    pub reuse_ppm: u32,
    /// Of those: with another field changed.
    pub reuse_changed_ppm: u32,
    /// Transfers with a field that no ledger takes.
    pub malformed_ppm: u32,
    /// Transfers that name an account which does not exist (yet).
    pub stranger_ppm: u32,
    /// Operations that the client forgets as soon as they are sent.
    pub abandon_ppm: u32,
    /// Accounts that may not be overdrawn.
    pub limited_ppm: u32,
    /// Popular accounts: the lower index of this many draws is taken.
    pub skew: u32,
    pub amount_max: u64,
    /// How long a client waits for a reply before it tries another replica; every second and third
    /// client is more patient by a factor of 2 and 4.
    pub patience_ns: u64,
    /// Mean time between account moves, leadership transfers and consistent cuts; 0 = never.
    pub move_ns: u64,
    pub move_accounts_max: u64,
    pub lead_ns: u64,
    pub cut_ns: u64,
}

/// Everything that a seed draws before its run starts.
#[derive(Clone, Debug)]
pub struct Parameters {
    pub seed: u64,
    pub shards: u32,
    pub replicas: u8,
    /// Whether a node hosts one replica of every shard, or each replica has a node of its own.
    pub colocated: bool,
    pub clients: usize,
    pub placement: Placement,
    pub reads: Reads,
    pub ids: IdRule,
    pub timing: Timing,
    pub network: NetworkSettings,
    pub disk: DiskSettings,
    pub workload: WorkloadSettings,
    pub intervals: Intervals,
    pub durations: Durations,
    pub clock_drift_ppm: u32,
    pub clock_offset_ns: u64,
    /// Faults go on for this long.
    pub duration_ns: u64,
    /// Applied slots between two comparisons of digests.
    pub digest_every: u64,
}

impl Parameters {
    /// The parameters of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let stream = &mut Stream::new(seed, Concern::Parameters, 0);
        let shards = stream.pick(&[1, 2, 2, 3, 3, 3, 3, 4]);
        let replicas = stream.pick(&[1, 3, 3, 3, 3, 3, 3, 5]);
        let clients = 2 + stream.index(7);
        let duration_ns = stream.between(8, 30) * SECOND;
        let workload = draw_workload(stream, clients, duration_ns, shards);
        let placement = if stream.chance(500_000) {
            Placement::Hash
        } else {
            let accounts_per_shard = workload.accounts.div_ceil(u64::from(shards));
            Placement::Range { accounts_per_shard }
        };
        Self {
            seed,
            shards,
            replicas,
            colocated: stream.chance(400_000),
            clients,
            placement,
            reads: stream.pick(&[Reads::Lease, Reads::Quorum]),
            ids: stream.pick(&[IdRule::Ulid, IdRule::Any]),
            timing: TIMING,
            network: draw_network(stream),
            disk: draw_disk(stream),
            intervals: draw_intervals(stream, duration_ns),
            durations: Durations {
                down_ns: stream.pick(&[100 * MS, SECOND, 3 * SECOND]),
                partition_ns: stream.pick(&[300 * MS, 2 * SECOND, 6 * SECOND]),
                pause_ns: stream.pick(&[300 * MS, 2 * SECOND, 5 * SECOND]),
            },
            // Two clocks may differ by twice this; the lease allows for `drift_ns` per `lease_ns`.
            clock_drift_ppm: stream.pick(&[0, 100, 5_000, 20_000]),
            clock_offset_ns: stream.pick(&[0, MS, 100 * MS, 4 * SECOND]),
            duration_ns,
            digest_every: stream.pick(&[4, 16, 64]),
            workload,
        }
    }

    /// Nodes of the cluster.
    #[must_use]
    pub fn nodes(&self) -> usize {
        let replicas = usize::from(self.replicas);
        if self.colocated {
            replicas
        } else {
            replicas * self.shard_count()
        }
    }

    /// The number of shards as a length.
    #[must_use]
    pub fn shard_count(&self) -> usize {
        usize::try_from(self.shards).expect("at most 4")
    }

    /// All of them, for people and machines.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "seed": self.seed,
            "shards": self.shards,
            "replicas": self.replicas,
            "colocated": self.colocated,
            "clients": self.clients,
            "placement": format!("{:?}", self.placement),
            "reads": format!("{:?}", self.reads),
            "ids": format!("{:?}", self.ids),
            "network": self.network,
            "disk": self.disk,
            "workload": self.workload,
            "intervals": self.intervals,
            "durations": self.durations,
            "clock_drift_ppm": self.clock_drift_ppm,
            "clock_offset_ns": self.clock_offset_ns,
            "duration_ns": self.duration_ns,
            "digest_every": self.digest_every,
        })
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
    }
}

fn draw_workload(
    stream: &mut Stream,
    clients: usize,
    duration_ns: u64,
    shards: u32,
) -> WorkloadSettings {
    let transfers = stream.between(1_500, 4_000);
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
        open_max: stream.pick(&[1, 4]),
        // Half of the time would do: crashes and retries take the rest.
        think_ns: duration_ns * clients / (operations * 2),
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
        patience_ns: stream.pick(&[300 * MS, SECOND, 4 * SECOND]),
        move_ns,
        move_accounts_max: stream.pick(&[1, 3, 10]),
        lead_ns,
        cut_ns,
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
}
