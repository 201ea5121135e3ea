//! What one seed is about: every size, rate and probability of a run.
//!
//! [`Parameters::draw`] (in [`crate::swarm`]) draws them from the seed; this file says what they are.

use quorate_protocol::config::{IdRule, Reads};
use quorate_protocol::limits::Timing;
use quorate_protocol::shard::map::Placement;
use serde::Serialize;
use serde_json::{Value, json};

use crate::network::NetworkSettings;

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
    /// A disk reports an error of a write, of a sync, of a read.
    pub write_error_ns: u64,
    pub sync_error_ns: u64,
    pub read_error_ns: u64,
    /// A disk has no room for another segment.
    pub disk_full_ns: u64,
    /// The tool that moves accounts dies, and a new one starts its plan from the beginning.
    pub operator_death_ns: u64,
    /// Harm to the storage of a victim: rot, a write that lands elsewhere or not at all, a lost disk.
    pub bit_rot_ns: u64,
    pub misdirected_ns: u64,
    pub stale_ns: u64,
    pub disk_lost_ns: u64,
    /// A follower loses its leader and seeks the vote of one that still hears it.
    pub usurper_ns: u64,
    /// A leader is cut off from its group, and its successor as soon as it has had something chosen.
    pub relay_ns: u64,
    /// A node is down for long.
    pub left_behind_ns: u64,
    /// Harm to the files of a victim's store.
    pub store_rot_ns: u64,
}

/// Longest durations of the same.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Durations {
    pub down_ns: u64,
    pub partition_ns: u64,
    pub pause_ns: u64,
    pub disk_full_ns: u64,
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
    /// Transfers after which clients stop; the faults go on until then.
    pub transfers: u64,
    pub batch_max: u64,
    /// Operations that one client has open at once.
    pub open_max: usize,
    /// Mean pause of a client between operations.
    pub think_ns: u64,
    pub read_ppm: u32,
    /// Histories of accounts, before it is drawn whether it is a read.
    pub history_ppm: u32,
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
    /// Batches of one plan of the move tool.
    pub plan_batches_max: u64,
    pub lead_ns: u64,
    pub cut_ns: u64,
    /// Mean time between uses of documents; 0 = never.
    pub document_ns: u64,
    /// What a leader takes in before it answers `busy`: in some seeds less than the clients send.
    pub admitted_requests_max: usize,
    pub admitted_bytes_max: usize,
    /// Requests that the last client sends to whichever replica, not to the leader that it knows.
    pub wander_ppm: u32,
    /// Reused ids that are taken from the latest transfers.
    pub reuse_late_ppm: u32,
    /// Transfers that were answered that nothing was done, and whose client leaves it at that.
    pub give_up_ppm: u32,
    /// Reused ids that are taken from transfers of accounts that have just moved.
    pub reuse_moved_ppm: u32,
    /// Plans of the move tool that bring back what the one before has moved.
    pub move_back_ppm: u32,
    /// Plans before which a replica of the source is left behind, to be asked about ids afterwards.
    pub astray_ppm: u32,
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
    /// How long ids and history are kept; `None`: for ever.
    pub keep_ns: Option<u64>,
    pub timing: Timing,
    pub network: NetworkSettings,
    pub disk: DiskSettings,
    pub workload: WorkloadSettings,
    pub intervals: Intervals,
    pub durations: Durations,
    /// The replica of each shard whose storage may be harmed, 0 = none; see [`crate::budget`].
    pub victims: Vec<u8>,
    pub clock_drift_ppm: u32,
    pub clock_offset_ns: u64,
    /// Faults go on for about this long.
    pub duration_ns: u64,
    /// Applied entries that a replica keeps in memory.
    pub tail_bytes_max: usize,
    /// What the entries between two checkpoints weigh; `None`: there are none.
    pub checkpoint_weight: Option<u64>,
    /// Accounts that stay in memory though the store has them.
    pub accounts_in_memory_max: usize,
    /// Accounts that one step looks at while all of them are summed for a cut.
    pub scan_places: usize,
    /// Bytes of entries that a follower's step applies beside what else it does.
    pub apply_bytes: usize,
    /// Rebuilds, in parts per million, that do not get through at once: no room, or a crash.
    pub rebuild_trouble_ppm: u32,
    /// No block of a store is read twice in one life of a process.
    pub keeps_blocks: bool,
    /// Blocks of a store that compaction leaves wasted.
    pub waste_blocks: u64,
    /// Pause of a scrubber between two rounds over the store.
    pub scrub_ns: u64,
    /// Applied slots between two comparisons of digests.
    pub digest_every: u64,
}

impl Parameters {
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
            "victims": self.victims,
            "clock_drift_ppm": self.clock_drift_ppm,
            "clock_offset_ns": self.clock_offset_ns,
            "duration_ns": self.duration_ns,
            "tail_bytes_max": self.tail_bytes_max,
            "checkpoint_weight": self.checkpoint_weight,
            "rebuild_trouble_ppm": self.rebuild_trouble_ppm,
            "keeps_blocks": self.keeps_blocks,
            "waste_blocks": self.waste_blocks,
            "accounts_in_memory_max": self.accounts_in_memory_max,
            "scan_places": self.scan_places,
            "apply_bytes": self.apply_bytes,
            "scrub_ns": self.scrub_ns,
            "digest_every": self.digest_every,
        })
    }
}
