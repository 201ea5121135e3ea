//! The account index against a dumb twin: a set of pairs.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use quorate_storage::store::{AccountIndex, Place};

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, u32),
    Replace(usize, u32),
    Remove(usize),
}

/// Few fingerprints, in few parts: entries share fingerprints, runs wrap around, parts grow and
/// shrink.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fingerprint = prop_oneof![
        4 => (0..3_u64, 0..40_u64).prop_map(|(part, low)| part << 52 | low << 46),
        1 => (0..4_u64).prop_map(|low| u64::MAX - low),
        1 => any::<u64>(),
    ];
    let step = prop_oneof![
        5 => (fingerprint, 0..2_000_u32).prop_map(|(at, place)| Step::Insert(at, place)),
        2 => (any::<usize>(), 0..2_000_u32).prop_map(|(entry, place)| Step::Replace(entry, place)),
        3 => any::<usize>().prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 1..600)
}

fn agree(index: &AccountIndex, twin: &BTreeSet<(u64, u32)>) {
    assert_eq!(index.len(), twin.len());
    let fingerprints: BTreeSet<u64> = twin.iter().map(|(at, _)| *at).collect();
    for fingerprint in fingerprints.into_iter().chain([7, 1 << 63]) {
        let mut found: Vec<u32> = index.candidates(fingerprint).map(|place| place.0).collect();
        found.sort_unstable();
        let range = (fingerprint, 0)..=(fingerprint, u32::MAX);
        let expected: Vec<u32> = twin.range(range).map(|(_, place)| *place).collect();
        assert_eq!(found, expected);
    }
}

proptest! {
    #[test]
    fn the_index_agrees_with_a_dumb_twin(steps in steps()) {
        let (mut index, mut twin) = (AccountIndex::new(), BTreeSet::new());
        let nth = |twin: &BTreeSet<(u64, u32)>, entry: usize| {
            twin.iter().nth(entry % twin.len().max(1)).copied()
        };
        for step in steps {
            match step {
                Step::Insert(at, place) => {
                    if twin.insert((at, place)) {
                        index.insert(at, Place(place));
                    }
                }
                Step::Replace(entry, new) => {
                    if let Some((at, old)) = nth(&twin, entry)
                        && !twin.contains(&(at, new))
                    {
                        index.replace(at, Place(old), Place(new));
                        twin.remove(&(at, old));
                        twin.insert((at, new));
                    }
                }
                Step::Remove(entry) => {
                    if let Some((at, place)) = nth(&twin, entry) {
                        index.remove(at, Place(place));
                        twin.remove(&(at, place));
                    }
                }
            }
        }
        agree(&index, &twin);
    }
}
