//! What a replica is told when it is made, beside its log.

use alloc::vec::Vec;
use core::fmt;

use crate::ids::{Ballot, ClusterId, ReplicaAddress, ReplicaId, Slot};
use crate::limits::{CHECKPOINT_WEIGHT, PROPOSAL_BYTES_MAX, REQUESTS_MAX, Timing};
use crate::paxos::message::LoggedEntry;
use crate::planted::{Bug, planted};
use crate::shard::map::Placement;
use crate::time::{MS, SECOND};

/// Identity and settings of one replica.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    pub cluster: ClusterId,
    pub address: ReplicaAddress,
    /// Shards of the cluster.
    pub shards: u32,
    /// Replicas of every shard; 1, 3 or 5.
    pub replicas: u8,
    pub placement: Placement,
    pub reads: Reads,
    pub ids: IdRule,
    /// How long used transfer ids and the history are kept; `None`: for ever. Only with ULIDs.
    pub keep_ns: Option<u64>,
    /// Takes over gracefully where it can.
    pub preferred_leader: ReplicaId,
    pub timing: Timing,
    /// Bytes of one entry of this leader's; at most `ENTRY_BYTES_MAX`, and small enough for a
    /// segment of the log.
    pub entry_bytes_max: usize,
    pub admission: Admission,
    /// Bytes of applied entries that stay in memory for followers; at most `LOG_TAIL_BYTES_MAX`. Whoever is
    /// further behind is served from the log, or takes a checkpoint.
    pub tail_bytes_max: usize,
    /// What the entries between two checkpoints weigh, the same on every replica of the cluster. `None`:
    /// the shell has no store, and there are none.
    pub checkpoint_weight: Option<u64>,
    /// Accounts that stay in memory though the store has them as they are. Those that have changed since the
    /// last checkpoint come on top. Nothing that a replica computes depends on it.
    pub accounts_in_memory_max: usize,
    /// Accounts that one step looks at while all of them are summed for a cut.
    pub scan_places: usize,
    /// Bytes of entries that a follower's step applies beside what else it does; an entry beyond that waits for a tick.
    pub apply_bytes: usize,
    /// How long a window of the leader's telemetry lasts.
    pub telemetry_window_ns: u64,
    /// Seed of the only generator (election timeouts); logged by the shell.
    pub seed: u64,
}

impl ReplicaConfig {
    /// Votes that decide.
    #[must_use]
    pub fn quorum(&self) -> usize {
        if planted(Bug::QuorumOfHalf) {
            return usize::from(self.replicas).div_ceil(2).max(2) - 1;
        }
        usize::from(self.replicas) / 2 + 1
    }

    /// What must be the same in every life of every replica.
    #[must_use]
    pub fn genesis(&self) -> Genesis {
        Genesis {
            shards: self.shards,
            replicas: self.replicas,
            placement: self.placement,
            ids: self.ids,
            lease_ns: self.timing.lease_ns,
            checkpoint_weight: self.checkpoint_weight,
            keep_ns: self.keep_ns,
        }
    }

    /// The other members of the group.
    pub fn peers(&self) -> impl Iterator<Item = ReplicaId> + use<> {
        let own = self.address.replica;
        (1..=self.replicas)
            .map(ReplicaId)
            .filter(move |&replica| replica != own)
    }
}

/// The settings that all replicas must share in all their lives: those that decide, together with the log,
/// what a replica computes (the same log under others is another ledger), and the lease. Fixed when the
/// cluster is initialised. So they are bound to every data
/// directory and told in every handshake, as the text that `Display` gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Genesis {
    pub shards: u32,
    pub replicas: u8,
    pub placement: Placement,
    pub ids: IdRule,
    /// A leader reads alone for as long as followers wait before they elect another one: both sides must
    /// mean the same time.
    pub lease_ns: u64,
    /// Replicas that write their checkpoints at other slots cannot give each other files, nor compare them.
    pub checkpoint_weight: Option<u64>,
    /// Which ids are too old.
    pub keep_ns: Option<u64>,
}

/// Longest text of a [`Genesis`] in bytes.
pub const GENESIS_BYTES_MAX: usize = 192;

/// One line, in the words of the configuration. It is compared byte by byte with what earlier versions
/// wrote: a new setting is named only where it is not its default.
impl fmt::Display for Genesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shards = {}, replicas = {}", self.shards, self.replicas)?;
        match self.placement {
            Placement::Hash => write!(f, ", placement = hash")?,
            Placement::Range { accounts_per_shard } => write!(
                f,
                ", placement = range, accounts_per_shard = {accounts_per_shard}"
            )?,
        }
        match self.ids {
            IdRule::Ulid => write!(f, ", ids = ulid")?,
            IdRule::Any => write!(f, ", ids = any")?,
        }
        match (self.lease_ns / MS, self.lease_ns % MS) {
            (whole, 0) => write!(f, ", lease = {whole}ms")?,
            _ => write!(f, ", lease = {}ns", self.lease_ns)?,
        }
        match self.checkpoint_weight {
            Some(CHECKPOINT_WEIGHT) => {}
            Some(weight) => write!(f, ", checkpoint_bytes = {weight}")?,
            None => write!(f, ", no checkpoints")?,
        }
        match self
            .keep_ns
            .map(|keep_ns| (keep_ns / SECOND, keep_ns % SECOND))
        {
            None => Ok(()),
            Some((whole, 0)) => write!(f, ", keep = {whole}s"),
            Some((whole, rest)) => write!(f, ", keep = {whole}s {rest}ns"),
        }
    }
}

/// How much a leader takes in before it answers `busy`. A shell may lower it, not raise it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Open requests.
    pub requests_max: usize,
    /// Bytes of commands that wait for a slot.
    pub proposal_bytes_max: usize,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            requests_max: REQUESTS_MAX,
            proposal_bytes_max: PROPOSAL_BYTES_MAX,
        }
    }
}

/// How linearizable reads are confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// By the leader's lease.
    Lease,
    /// By one heartbeat round per batch of reads.
    Quorum,
}

/// Which transfer ids are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdRule {
    /// ULIDs: the upper 48 bits are milliseconds since 1970.
    Ulid,
    /// Any id but 0 and the maximum.
    Any,
}

/// What recovery of the write-ahead log found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The slot of the checkpoint that the state begins with; 0 = there is none.
    pub checkpoint: Slot,
    /// The log holds every slot from here up to the checkpoint's; 0 if it does not hold that one.
    pub log_start: Slot,
    /// The highest ballot in any promise or accepted record.
    pub promised: Ballot,
    /// The durable watermark: all slots up to here are chosen and in the log.
    pub chosen_upto: Slot,
    /// The newest accepted entry of every slot above `chosen_upto`, ascending, gaps allowed.
    pub tail: Vec<LoggedEntry>,
    /// The slots, on both sides of `chosen_upto`, whose newest record was durable and cannot be read
    /// any more, each once. None of them is in `tail`.
    pub lost: Vec<LostRecord>,
    /// The disk before this one is gone, and what the replica had promised and accepted with it: it is
    /// no voter before `Output::Rejoined`. Not in a group of one.
    pub rejoins: bool,
}

/// An accepted record that is lost, but for its name: under which ballot something was accepted for
/// the slot is known, what it was is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostRecord {
    pub slot: Slot,
    /// The ballot of the lost record, or a higher one if that is not known for sure.
    pub accepted: Ballot,
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::limits::KEEP_NS_MAX;

    #[test]
    fn the_text_of_a_genesis_is_pinned_and_bounded() {
        let genesis = Genesis {
            shards: 3,
            replicas: 3,
            placement: Placement::Hash,
            ids: IdRule::Ulid,
            lease_ns: 400 * MS,
            checkpoint_weight: Some(CHECKPOINT_WEIGHT),
            keep_ns: None,
        };
        assert_eq!(
            genesis.to_string(),
            "shards = 3, replicas = 3, placement = hash, ids = ulid, lease = 400ms"
        );
        // As long as a configuration file can make it.
        let longest = Genesis {
            shards: 90,
            replicas: 5,
            placement: Placement::Range {
                accounts_per_shard: u64::MAX,
            },
            ids: IdRule::Ulid,
            lease_ns: u64::MAX,
            checkpoint_weight: Some(64 << 30),
            keep_ns: Some(KEEP_NS_MAX),
        };
        assert!(longest.to_string().len() <= GENESIS_BYTES_MAX);
        let often = Genesis {
            checkpoint_weight: Some(1 << 20),
            ..genesis
        };
        assert!(often.to_string().ends_with(", checkpoint_bytes = 1048576"));
        let month = Genesis {
            keep_ns: Some(30 * 86_400 * SECOND),
            ..genesis
        };
        assert_eq!(
            month.to_string(),
            "shards = 3, replicas = 3, placement = hash, ids = ulid, lease = 400ms, keep = 2592000s"
        );
    }
}
