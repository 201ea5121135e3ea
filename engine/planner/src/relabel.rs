//! Names parts after the shards that they overlap most.
//!
//! A partitioner's part numbers mean nothing. Before they become shards, the assignment problem
//! "which part is which shard" is solved for the most accounts that can stay where they are.

use pathfinding::prelude::{Matrix, kuhn_munkres};

/// Renames `parts` (0-based, below `count`) so that as many vertices as possible keep their
/// `current` part. Which vertices lie together does not change.
///
/// # Panics
/// If the two lists differ in length, or a part is not below `count`.
pub fn relabel(parts: &mut [u32], current: &[u32], count: u32) {
    assert_eq!(parts.len(), current.len());
    let side = count as usize;
    let mut overlap = Matrix::new(side, side, 0_i64);
    for (&part, &shard) in parts.iter().zip(current) {
        overlap[(part as usize, shard as usize)] += 1;
    }
    let (_, names) = kuhn_munkres(&overlap);
    let names: Vec<u32> = names
        .into_iter()
        .map(|name| u32::try_from(name).expect("below count"))
        .collect();
    for part in parts {
        *part = names[*part as usize];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stay(a: &[u32], b: &[u32]) -> usize {
        a.iter().zip(b).filter(|(a, b)| a == b).count()
    }

    fn permutations(k: u32) -> Vec<Vec<u32>> {
        if k == 0 {
            return vec![vec![]];
        }
        let smaller = permutations(k - 1);
        let insert = |p: &Vec<u32>, at: usize| {
            let mut p = p.clone();
            p.insert(at, k - 1);
            p
        };
        (smaller.iter())
            .flat_map(|p| (0..k as usize).map(move |at| insert(p, at)))
            .collect()
    }

    proptest! {
        /// Against a dumb twin that tries every renaming: never fewer accounts stay than by the
        /// best one (so never fewer than without relabelling), and groups stay together.
        #[test]
        fn no_renaming_keeps_more_accounts_in_place(
            (k, pairs) in (1_u32..=5).prop_flat_map(|k| (Just(k), prop::collection::vec((0..k, 0..k), 0..40)))
        ) {
            let (parts, current): (Vec<u32>, Vec<u32>) = pairs.into_iter().unzip();
            let mut named = parts.clone();
            relabel(&mut named, &current, k);
            let renamed = |p: &Vec<u32>| parts.iter().map(|&x| p[x as usize]).collect::<Vec<_>>();
            let best = permutations(k).iter().map(|p| stay(&renamed(p), &current)).max().unwrap();
            prop_assert_eq!(stay(&named, &current), best);
            for i in 0..parts.len() {
                for j in 0..i {
                    prop_assert_eq!(parts[i] == parts[j], named[i] == named[j]);
                }
            }
        }
    }
}
