//! Transfer ids: ULIDs, 48 bits of milliseconds above 80 random bits (github.com/ulid/spec).
//!
//! Ids of one generator rise strictly, whatever the clock does. Ids of two generators differ
//! because every generator draws its bits from a seed of its own, taken from the operating system;
//! the seed of a workload never reaches them, or a second run would repeat the first one's ids and
//! be answered `exists`.

use std::hash::{BuildHasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_protocol::ids::{MoveId, TransferId};
use quorate_protocol::shard::map::splitmix64;

const RANDOM_BITS: u32 = 80;

/// Makes ids.
#[derive(Clone, Debug)]
pub struct UlidGenerator {
    last: u128,
    seed: [u64; 2],
    draws: u64,
}

impl UlidGenerator {
    /// A generator whose ids meet no other generator's.
    #[must_use]
    pub fn new() -> Self {
        Self::with_seed([os_random(), os_random()])
    }

    /// A generator of a fixed seed, for tests only: two of them make the same ids.
    #[must_use]
    pub fn with_seed(seed: [u64; 2]) -> Self {
        Self {
            last: 0,
            seed,
            draws: 0,
        }
    }

    /// A new id of the time `unix_ms`, or of the last id's time if that is not earlier.
    pub fn next_at(&mut self, unix_ms: u64) -> u128 {
        let fresh = u128::from(unix_ms) << RANDOM_BITS | self.random_bits();
        self.last = if fresh >> RANDOM_BITS > self.last >> RANDOM_BITS {
            fresh
        } else {
            // The carry out of the random bits goes into the time: still rising, still unique.
            self.last
                .checked_add(1)
                .expect("48 bits of ms last to 10889")
        };
        self.last
    }

    /// A new transfer id of now.
    pub fn next_transfer_id(&mut self) -> TransferId {
        TransferId(self.next_at(unix_ms()))
    }

    /// A new move id of now.
    pub fn next_move_id(&mut self) -> MoveId {
        MoveId(self.next_at(unix_ms()))
    }

    fn random_bits(&mut self) -> u128 {
        self.draws += 1;
        let high = splitmix64(self.seed[0] ^ splitmix64(self.draws));
        let low = splitmix64(self.seed[1] ^ splitmix64(self.draws));
        (u128::from(high) << 64 | u128::from(low)) >> (128 - RANDOM_BITS)
    }
}

impl Default for UlidGenerator {
    fn default() -> Self {
        Self::new()
    }
}

/// 64 bits that differ from call to call and from process to process: std seeds the keys of every
/// `RandomState` from the operating system.
pub(crate) fn os_random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Milliseconds since 1970; 0 for a clock before that.
fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_while_the_clock_stands_still_or_goes_back() {
        let mut ids = UlidGenerator::with_seed([1, 2]);
        let mut last = 0;
        for ms in [5, 5, 5, 4, 0, 6, 6, 3, 7] {
            let id = ids.next_at(ms);
            assert!(id > last);
            assert!(id >> RANDOM_BITS >= u128::from(ms));
            last = id;
        }
        assert_eq!(last >> RANDOM_BITS, 7);
    }

    #[test]
    fn the_carry_of_a_full_random_part_keeps_the_order() {
        let mut ids = UlidGenerator::with_seed([1, 2]);
        ids.last = (5 << RANDOM_BITS) | ((1 << RANDOM_BITS) - 1);
        assert_eq!(ids.next_at(5), 6 << RANDOM_BITS);
        assert_eq!(ids.next_at(6), (6 << RANDOM_BITS) + 1);
    }

    #[test]
    fn two_runs_share_no_id() {
        let (mut first, mut second) = (UlidGenerator::new(), UlidGenerator::new());
        assert_ne!(first.seed, second.seed);
        assert_ne!(first.next_at(9), second.next_at(9));
    }

    #[test]
    fn the_time_of_an_id_is_now() {
        let before = unix_ms();
        let id = UlidGenerator::new().next_transfer_id();
        let ms = u64::try_from(id.0 >> RANDOM_BITS).unwrap();
        assert!((before..=unix_ms()).contains(&ms));
    }
}
