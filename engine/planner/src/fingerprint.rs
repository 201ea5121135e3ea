//! A 128-bit digest of everything that a plan depends on, to tell whether two plans had the same
//! input. Against accidents, not against somebody who looks for collisions.

use quorate_protocol::ids::AccountId;
use quorate_protocol::shard::map::splitmix64;

/// Digest in the making; the order of what is added counts.
#[derive(Clone, Debug)]
pub struct Fingerprint {
    lanes: [u64; 2],
}

impl Fingerprint {
    /// Nothing added yet. `kind` keeps equal numbers of different kinds of plan apart.
    #[must_use]
    pub fn new(kind: u64) -> Self {
        Self {
            lanes: [splitmix64(kind), splitmix64(!kind)],
        }
    }

    /// Adds a number.
    pub fn add(&mut self, word: u64) {
        let [a, b] = self.lanes;
        self.lanes = [splitmix64(a ^ word), splitmix64(b.rotate_left(32) ^ word)];
    }

    /// Adds a float by its bits.
    pub fn add_float(&mut self, number: f64) {
        self.add(number.to_bits());
    }

    /// Adds an id.
    pub fn add_account(&mut self, account: AccountId) {
        let bytes = account.0.to_le_bytes();
        for half in bytes.chunks_exact(8) {
            self.add(u64::from_le_bytes(half.try_into().expect("chunks of 8")));
        }
    }

    /// 32 hexadecimal digits.
    #[must_use]
    pub fn finish(&self) -> String {
        format!("{:016x}{:016x}", self.lanes[0], self.lanes[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_kind_count() {
        let digest = |kind, words: &[u64]| {
            let mut digest = Fingerprint::new(kind);
            words.iter().for_each(|&word| digest.add(word));
            digest.finish()
        };
        let all = [
            digest(1, &[1, 2]),
            digest(1, &[2, 1]),
            digest(2, &[1, 2]),
            digest(1, &[1, 2, 0]),
        ];
        for (i, a) in all.iter().enumerate() {
            assert_eq!(a.len(), 32);
            assert!(all[..i].iter().all(|b| a != b));
        }
    }
}
