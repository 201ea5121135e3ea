//! A power cut at any moment of two consecutive checkpoints, with unsynced writes and names kept, lost or
//! half of each: what is opened is the last checkpoint that was published or the one before, whole, never
//! a mixture; garbage is gone; and the store goes on from there.

#![allow(clippy::unwrap_used, reason = "tests")]

mod store_support;

use quorate_storage::store::{OpenRow, Operation};

use store_support::{
    Changes, Disk, FATES, Fate, Image, Node, assert_holds, assert_no_garbage, compacting_story,
    story, written,
};

/// A power cut: before operation `cut` of the two checkpoints, or in the middle of it.
#[derive(Clone, Copy, Debug)]
struct Cut {
    operation: usize,
    partly: bool,
    writes: Fate,
    names: Fate,
}

struct Crashed {
    disk: Disk,
    /// Checkpoints published for certain.
    published: usize,
    /// One more may be.
    publishing: bool,
    /// The cut came before the story's end.
    cut: bool,
}

/// Runs checkpoints until the cut.
fn run(node: &mut Node, mut disk: Disk, images: &[Image], story: &[Changes], cut: Cut) -> Crashed {
    let (mut published, mut performed) = (0, 0);
    for (index, changes) in story.iter().enumerate() {
        node.push(&disk, &images[index], changes);
        while let Some(operation) = node.store.next_operation() {
            if performed == cut.operation {
                let publishing = cut.partly && matches!(operation, Operation::Publish { .. });
                if cut.partly {
                    disk.perform_partly(&operation);
                }
                disk.power_cut(cut.writes, cut.names);
                return Crashed {
                    disk,
                    published,
                    publishing,
                    cut: true,
                };
            }
            performed += 1;
            disk.perform(&operation);
            published += usize::from(node.store.finish_operation(operation).is_some());
        }
    }
    disk.power_cut(cut.writes, cut.names);
    Crashed {
        disk,
        published,
        publishing: false,
        cut: false,
    }
}

/// Cuts checkpoints `from` and `from + 1` of the story in every one of these ways.
fn cut_everywhere(story: &[Changes], from: usize, ways: &[(bool, Fate, Fate)]) -> usize {
    let mut base = Disk::default();
    let (_, images) = written(&mut base, &story[..from]);
    let (images, two) = (
        images_after(&images[from], &story[from..]),
        &story[from..from + 2],
    );
    let mut cuts = 0;
    for operation in 0.. {
        let mut reached = false;
        for &(partly, writes, names) in ways {
            let mut disk = base.clone();
            let (mut node, _) = disk.start();
            let cut = Cut {
                operation,
                partly,
                writes,
                names,
            };
            let mut crashed = run(&mut node, disk, &images, two, cut);
            reached |= crashed.cut;
            let (mut node, _) = crashed.disk.start();
            let found = usize::try_from(node.store.manifest().number).unwrap() - from;
            let highest = crashed.published + usize::from(crashed.publishing);
            assert!(
                (crashed.published..=highest).contains(&found),
                "{cut:?}: {found}"
            );
            assert_holds(&node, &mut crashed.disk, &images[found]);
            assert_no_garbage(&mut crashed.disk);

            // It goes on, over whatever the crash left.
            let next = node.checkpoint(&mut crashed.disk, &images[found], &story[from + found]);
            assert_holds(&node, &mut crashed.disk, &next);
            assert_no_garbage(&mut crashed.disk);
            cuts += 1;
        }
        if !reached {
            break;
        }
    }
    cuts
}

fn images_after(first: &Image, story: &[Changes]) -> Vec<Image> {
    let mut images = vec![first.clone()];
    for changes in story {
        let next = images.last().unwrap().after(changes);
        images.push(next);
    }
    images
}

fn ways() -> impl Iterator<Item = (bool, Fate, Fate)> {
    [false, true].into_iter().flat_map(|partly| {
        FATES
            .into_iter()
            .flat_map(move |writes| FATES.into_iter().map(move |names| (partly, writes, names)))
    })
}

#[test]
fn a_power_cut_leaves_one_checkpoint_or_the_one_before_and_never_a_mixture() {
    for from in 0..story().len() - 2 {
        let cuts = cut_everywhere(&story(), from, &ways().collect::<Vec<_>>());
        assert!(cuts > 15 * 18, "{cuts} cuts");
    }
}

/// The first one moves rows: the files that it moves them from stay whole until the second one is published.
#[test]
fn a_power_cut_while_rows_are_moved_loses_none() {
    // Large files: writes and names fare alike here.
    let alike = ways().filter(|(_, writes, names)| writes == names);
    let cuts = cut_everywhere(&compacting_story(), 3, &alike.collect::<Vec<_>>());
    assert!(cuts > 15 * 6, "{cuts} cuts");
}

/// Checkpoint 4's manifest is there, one of its files is not: checkpoint 3 is used, and 4 is written anew.
/// A crash between the two must not make the old manifest look complete while blocks are missing.
#[test]
fn a_manifest_that_could_not_be_used_never_comes_back_over_files_that_are_being_rewritten() {
    let story = story();
    let mut base = Disk::default();
    let (_, images) = written(&mut base, &story[..5]);
    base.remove("side-0000000000000005");
    let mut uses = [0; 2];
    for operation in 0..60 {
        for (partly, writes, names) in ways() {
            let mut disk = base.clone();
            let (mut node, row) = disk.start();
            assert_eq!(
                (row, node.store.manifest().number),
                (OpenRow::NewestIncomplete, 4)
            );
            assert_holds(&node, &mut disk, &images[4]);
            let cut = Cut {
                operation,
                partly,
                writes,
                names,
            };
            let mut crashed = run(&mut node, disk, &images[4..], &story[4..5], cut);
            let (node, _) = crashed.disk.start();
            let found = usize::try_from(node.store.manifest().number).unwrap() - 4;
            let highest = crashed.published + usize::from(crashed.publishing);
            assert!(
                (crashed.published..=highest).contains(&found),
                "{cut:?}: {found}"
            );
            assert_holds(&node, &mut crashed.disk, &images[4 + found]);
            uses[found] += 1;
        }
    }
    assert!(uses[0] > 100 && uses[1] > 100, "{uses:?}");
}

#[test]
fn the_log_is_needed_from_the_older_generation_on() {
    let mut disk = Disk::default();
    let (node, images) = written(&mut disk, &story());
    let last = images.len() - 1;
    assert_eq!(node.store.log_needed_from(), images[last - 1].slot);
    let (node, _) = disk.start();
    assert_eq!(node.store.log_needed_from(), images[last - 1].slot);
}

#[test]
fn replicas_that_are_told_the_same_write_the_same_bytes() {
    let (mut one, mut two) = (Disk::default(), Disk::default());
    let (_, images) = written(&mut one, &story());
    // The other one restarts behind every checkpoint.
    for (image, changes) in images.iter().zip(&story()) {
        let (mut node, _) = two.start();
        node.checkpoint(&mut two, image, changes);
    }
    assert_eq!(one.names(), two.names());
    for name in one.names() {
        assert!(one.bytes(&name) == two.bytes(&name), "{name}");
    }
}
