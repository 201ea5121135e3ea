//! The only source of chance in the core: a small seeded generator for election timeouts.
//!
//! SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014).
//! Not for secrets.

/// A seeded generator.
#[derive(Clone, Debug)]
pub struct Prng {
    state: u64,
}

impl Prng {
    /// The same seed gives the same draws.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `from..end`. The bias of the remainder is below 2^-30 for ranges of timeouts.
    pub fn range(&mut self, from: u64, end: u64) -> u64 {
        assert!(from < end, "empty range {from}..{end}");
        from + self.draw() % (end - from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_depend_on_the_seed_alone_and_stay_in_range() {
        let draw = |seed| {
            let mut prng = Prng::new(seed);
            [(); 8].map(|()| prng.range(500, 1000))
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(3).iter().all(|value| (500..1000).contains(value)));
    }
}
