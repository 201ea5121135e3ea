//! The fault budget: which harm a seed may do to disks, so that every failure to recover is a bug.
//!
//! **Rule.** In each shard of three replicas or more at most one replica, the *victim*, is ever harmed
//! in its storage (rot, a misdirected or stale write, the loss of the disk). A shard of one replica has
//! no victim. All other faults destroy nothing that was synced, and end: crashes of any machines, also
//! of all at once, errors that disks report, full and slow disks, pauses, partitions.
//!
//! **What follows.** Let a shard have `n` replicas, a quorum of `q = n / 2 + 1`.
//! - *Every acknowledged record has a good copy.* An acknowledged record was durable at `q >= 2`
//!   replicas; the victim is one of them at most, and the others keep what they synced.
//! - *A majority can return.* The `n - 1 >= q` replicas that are no victims start again from any
//!   crash, because their logs hold no damage but tears.
//! - *No quorum forgets.* Two quorums share a replica. If they share only the victim, it must still
//!   know what it accepted, or know that it does not know. Damage in the middle of its log is of the
//!   second kind: recovery finds it. Damage in its newest flush looks like a tear, and nothing can
//!   tell the two apart. So the budget counts a victim as *lost* if its process ends while its
//!   newest flush is damaged, that is before a later flush was written whole and proves what was
//!   there; and a lost replica is not started as if nothing had been. One without its disk starts with
//!   an empty one as a non-voter, and is lost until its core says that it votes again; then it is like
//!   one that was never harmed, and may be harmed again.
//!
//! [`Health`] keeps the account for one replica.

use quorate_storage::wal::SegmentNumber;

use crate::random::Stream;

/// The victim of each shard, as the number of a replica; 0 = none.
#[must_use]
pub fn draw_victims(stream: &mut Stream, shards: u32, replicas: u8) -> Vec<u8> {
    (0..shards)
        .map(|_| {
            // Drawn in any case: the number of replicas does not move other draws.
            let harmed = stream.chance(600_000);
            let victim = 1 + stream.below(u64::from(replicas));
            let victim = u8::try_from(victim).expect("a few replicas");
            if harmed && replicas >= 3 { victim } else { 0 }
        })
        .collect()
}

/// What the storage of one replica went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Something synced was damaged.
    is_harmed: bool,
    /// Damage that no later flush proves yet.
    is_unproven: bool,
    /// The process ended in that state, or the disk is gone.
    is_lost: bool,
    /// Where the newest flush that is durable begins: everything before is proven by it.
    newest: Option<(SegmentNumber, u64)>,
}

impl Health {
    /// Whether any damage was done.
    #[must_use]
    pub fn is_harmed(&self) -> bool {
        self.is_harmed
    }

    /// Whether the replica may have forgotten what it acknowledged, with no way to notice.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Where the newest flush begins that is known to be durable.
    #[must_use]
    pub fn newest(&self) -> Option<(SegmentNumber, u64)> {
        self.newest
    }

    /// A flush is durable; `whole` if it landed where it belongs.
    pub fn flushed(&mut self, segment: SegmentNumber, offset: u64, whole: bool) {
        if whole {
            self.is_unproven = false;
            self.newest = Some((segment, offset));
        } else {
            self.is_harmed = true;
            self.is_unproven = true;
        }
    }

    /// Bytes that end at this place are damaged, in a process that runs or in one that is down.
    pub fn harmed_before(&mut self, segment: SegmentNumber, end: u64, runs: bool) {
        self.is_harmed = true;
        let proven = self.newest.is_some_and(|newest| (segment, end) <= newest);
        self.is_unproven |= !proven;
        if !runs {
            self.stopped();
        }
    }

    /// The superblock, or everything, is damaged: recovery cannot but notice.
    pub fn harmed_elsewhere(&mut self) {
        self.is_harmed = true;
    }

    /// Nothing is left.
    pub fn disk_lost(&mut self) {
        *self = Self {
            is_harmed: true,
            is_lost: true,
            ..Self::default()
        };
    }

    /// It has what it may be asked for.
    pub fn rejoined(&mut self) {
        self.is_lost = false;
    }

    /// The process ends, in whatever way.
    pub fn stopped(&mut self) {
        self.is_lost |= self.is_unproven;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Parameters;

    const ONE: SegmentNumber = SegmentNumber(1);
    const TWO: SegmentNumber = SegmentNumber(2);

    #[test]
    fn at_most_one_victim_per_shard_and_none_where_a_replica_is_alone() {
        let mut victims = 0;
        for seed in 0..500 {
            let drawn = Parameters::draw(seed);
            assert_eq!(drawn.victims.len(), drawn.shard_count());
            for victim in drawn.victims {
                assert!(victim <= drawn.replicas);
                assert!(victim == 0 || drawn.replicas >= 3);
                victims += usize::from(victim > 0);
            }
        }
        assert!(victims > 500);
    }

    #[test]
    fn damage_counts_as_a_loss_until_a_later_flush_proves_what_was_there() {
        let mut health = Health::default();
        health.flushed(ONE, 4096, true);
        health.flushed(ONE, 8192, false);
        let mut stopped = health;
        stopped.stopped();
        assert!(stopped.is_lost());

        health.flushed(ONE, 12288, true);
        health.stopped();
        assert!(!health.is_lost() && health.is_harmed());
    }

    #[test]
    fn rot_before_the_newest_flush_is_no_loss_and_rot_in_it_is_one() {
        for (segment, end, lost) in [(ONE, 8192, false), (TWO, 4096, false), (TWO, 4097, true)] {
            let mut health = Health::default();
            health.flushed(TWO, 4096, true);
            health.harmed_before(segment, end, true);
            health.stopped();
            assert_eq!(health.is_lost(), lost, "{segment} {end}");
        }
        let mut fresh = Health::default();
        fresh.harmed_before(ONE, 1, true);
        fresh.stopped();
        assert!(fresh.is_lost());
    }

    /// Seed 6030: it counted only when the process ended, which it had done before.
    #[test]
    fn rot_in_the_newest_flush_of_a_process_that_is_down_is_a_loss() {
        for (end, lost) in [(4096, false), (8192, true)] {
            let mut health = Health::default();
            health.flushed(ONE, 4096, true);
            health.stopped();
            health.harmed_before(ONE, end, false);
            assert_eq!(health.is_lost(), lost, "{end}");
        }
    }
}
