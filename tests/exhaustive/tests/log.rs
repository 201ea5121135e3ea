//! Every crash of every short workload of the log.

use quorate_exhaustive::disk::{Detail, Disk, Losses};
use quorate_exhaustive::log_world::{LogWorld, Worlds, crash, kill};
use quorate_exhaustive::twin::{Op, Twin};

/// Where a workload begins.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// A formatted disk.
    Fresh,
    /// The segment is full, the next one is ready: the next flush begins it.
    Full,
    /// The same, and the next one is recycled: old frames lie in it.
    Recycled,
}

impl Start {
    fn world(self) -> LogWorld {
        let mut world = LogWorld::format();
        let flushes = match self {
            Self::Fresh => 0,
            Self::Full => 2,
            Self::Recycled => 8,
        };
        for flush in 0..flushes {
            if flush == 4 {
                // Segments 1 and 2 are not needed any more: the next one's header will say so.
                world.release_below(5);
            }
            world.run(&[Op::Small], &mut |_, _| {});
        }
        world
    }
}

/// All workloads of `length` operations, in every grouping into flushes. A stop ends its flush.
fn workloads(length: u32) -> Vec<Vec<Vec<Op>>> {
    let mut all = Vec::new();
    let kinds = Op::ALL.len();
    for number in 0..kinds.pow(length) {
        let ops: Vec<Op> = (0..length)
            .map(|at| Op::ALL[number / kinds.pow(at) % kinds])
            .collect();
        for cuts in 0..1_usize << (length - 1) {
            let mut batches = vec![vec![ops[0]]];
            let mut is_new = true;
            for at in 1..ops.len() {
                let (cut, stop) = (cuts & 1 << (at - 1) != 0, ops[at - 1] == Op::Stop);
                // Behind a stop there is a new flush anyway: one of both ways is enough.
                is_new &= cut || !stop;
                if cut || stop {
                    batches.push(Vec::new());
                }
                batches.last_mut().expect("never empty").push(ops[at]);
            }
            if is_new {
                all.push(batches);
            }
        }
    }
    all
}

/// Runs all workloads; `observe` sees the last flush of each, as shorter workloads have seen the others.
fn run(start: Start, length: u32, mut observe: impl FnMut(&Disk, &Twin)) {
    for workload in workloads(length) {
        let (last, before) = workload.split_last().expect("never empty");
        let mut world = start.world();
        for batch in before {
            world.run(batch, &mut |_, _| {});
        }
        world.run(last, &mut observe);
    }
}

const fn every(sectors: usize) -> Detail {
    Detail {
        sectors,
        losses: Losses::Every,
    }
}

const fn in_turns(sectors: usize) -> Detail {
    Detail {
        sectors,
        losses: Losses::InTurns,
    }
}

fn crash_everywhere(start: Start, length: u32, detail: &[Detail]) -> Worlds {
    let mut worlds = Worlds::default();
    run(start, length, |disk, twin| {
        crash(disk, twin, detail, &mut worlds);
    });
    worlds
}

/// The numbers are what was tried when the test was written. A change of the log or of the disk may
/// change them; look why before writing down others. They must not shrink for lack of trying.
fn expect(moments: u64, crashes: u64, disks: u64, torn: u64, clean: u64) -> Worlds {
    Worlds {
        moments,
        crashes,
        disks,
        torn,
        clean,
    }
}

#[test]
fn one_operation_with_crashes_of_two_repairs_in_a_row() {
    let detail = [every(8), every(3), every(1)];
    let fresh = expect(56, 41_561, 10_522, 3_554, 33);
    assert_eq!(crash_everywhere(Start::Fresh, 1, &detail), fresh);
    assert_eq!(crash_everywhere(Start::Full, 1, &detail), fresh);
    let recycled = expect(56, 41_561, 11_054, 3_554, 33);
    assert_eq!(crash_everywhere(Start::Recycled, 1, &detail), recycled);
}

#[test]
fn two_operations_with_a_crash_of_the_repair() {
    let detail = [every(8), in_turns(2)];
    let fresh = expect(637, 126_385, 54_703, 26_029, 99);
    assert_eq!(crash_everywhere(Start::Fresh, 2, &detail), fresh);
    assert_eq!(crash_everywhere(Start::Full, 2, &detail), fresh);
    let recycled = expect(637, 126_385, 58_344, 26_029, 99);
    assert_eq!(crash_everywhere(Start::Recycled, 2, &detail), recycled);
}

#[test]
fn three_operations_on_a_fresh_log() {
    let worlds = crash_everywhere(Start::Fresh, 3, &[in_turns(8)]);
    assert_eq!(worlds, expect(9_381, 138_352, 116_008, 67_337, 1_936));
}

#[test]
fn three_operations_on_recycled_segments() {
    let worlds = crash_everywhere(Start::Recycled, 3, &[in_turns(8)]);
    assert_eq!(worlds, expect(9_381, 138_352, 116_008, 67_337, 1_936));
}

/// The end of a process alone leaves writes and names that are seen and not yet durable. The next life
/// builds upon them: whatever it acknowledges must survive the machine.
#[test]
fn the_process_ends_and_in_its_next_life_the_machine() {
    let mut worlds = Worlds::default();
    for start in [Start::Fresh, Start::Full, Start::Recycled] {
        run(start, 1, |disk, twin| {
            for op in [Op::Small, Op::Cross] {
                kill(disk, twin, op, &[in_turns(4), in_turns(1)], &mut worlds);
            }
        });
    }
    assert_eq!(worlds, expect(2_499, 47_313, 44_409, 11_334, 90));
}
