//! Compaction: which accounts files a checkpoint rewrites, and how far.
//!
//! A row is dead once a newer row of its account is published, or the account left. A file goes when none
//! of its rows is live, which may be never: one account that no longer changes keeps a whole file. So a
//! checkpoint *moves* live rows of old files, its victims, behind its own rows; what is left of a victim is
//! dead, and it drops out of the manifest like any other file.
//!
//! # Invariants
//!
//! 1. **A function of the log.** Victims are chosen by what the manifest says (blocks, live rows, blocks
//!    swept) less what the checkpoint itself supersedes, and swept block by block until a budget ends. How
//!    fast blocks were read, what was in memory, or how often the process started has no part in it. So
//!    replicas go on writing the same bytes.
//! 2. **No row lost, none invented.** A row is moved if the index points at exactly its place, and the
//!    index then points at the new one. A victim that was swept to its end has no live row left: asserted
//!    against the count of the manifest. A block that is not as it was written stops the sweep, and names
//!    itself; nothing of it was moved, and it is asked for again.
//! 3. **Readable at all times.** The index points at the new place of a moved row at once; until that is
//!    published, [`Store::locate_account`] says where the row lay before, which is still there.
//! 4. **Published or not there.** Moved rows are rows of the new file, in place order behind the
//!    checkpoint's own. A crash before the manifest leaves the victims as they were; the next start does the
//!    same again. The victims' files stay until two later manifests do without them.
//! 5. **Bounded.** [`MOVE_BLOCKS_MAX`] blocks are taken at once, and a shell may have read ahead; a checkpoint moves and reads at most
//!    what its budget says, and a victim that is larger goes on at the next one from `swept` on.
//!
//! # Which, and how many
//!
//! `needed` is what live rows would fill without any gap, 172 bytes each; what a file has beyond is *waste*.
//! A file *hides* if it says that accounts left and an older file stays: sweeping it gains nothing, it has to
//! stay as long as the older one, or rows of accounts that left would be found again.
//!
//! | phase | when | victims | rows moved at most |
//! | --- | --- | --- | --- |
//! | oldest | more than 4,096 files | every file, oldest first | 4,096 + live rows / 4,096 |
//! | oldest | files that hide waste more than a third of `needed`, and slack | every file, oldest first | 4,096 + twice the own rows |
//! | wasteful | all files waste more than half of `needed`, and slack | of those that do not hide and have over 1.6 times their `needed`, the fewest that bring it back to half; the emptiest first | 4,096 + the own rows |
//!
//! In any phase four rows are read per row that may be moved.
//!
//! *Space.* A checkpoint of `n` rows makes at most `n` rows dead. Once files are half empty on average, the
//! emptiest of them has at least as many dead rows as live ones, and moving `n` rows frees `n` or more,
//! whatever is updated. So what does not hide stays below twice `needed`, and one victim that is under way: in
//! the worst case a file that held nearly all rows, 2.5 times and the 4,096 rows in sum. Files that hide are
//! freed in the order of their age, up to twice as fast as they come.
//!
//! *Files.* Rows that are live when there are 4,096 files are all moved, or dead, 4,096 checkpoints later,
//! and with them every file of then is gone: there are never many more than 8,192
//! (`there_are_never_many_more_than_twice_as_many_files_as_make_a_crowd`).
//!
//! *Cost.* Per row that is moved: its victim's share of blocks read (a block per 11 rows or fewer), a
//! look-up in the index per row read, one copy, 172 bytes written. No sync and no file of its own. Measured
//! (`tests/store_compaction.rs`, 100,000 accounts, 400 checkpoints of 3,000): 1.43 rows written per own row
//! if few accounts change most, 2.13 if a tenth gets nine of ten updates, 1.75 if all are alike, 2.63 if some
//! leave in every checkpoint; the disk has 1.5 to 1.6 times the live rows, two generations included.
//!
//! # What can fail
//!
//! | failure | what comes of it |
//! | --- | --- |
//! | crash at any moment | the checkpoint is not there; the next one begins with the same choice |
//! | a victim's block is damaged or unreadable | nothing of the read is moved, the block is named; it is asked for again until it is repaired; the store stays at the checkpoint before |
//! | index and manifest contradict each other | a bug: the process ends before anything is published |
//! | no room for another checkpoint | it is not begun, counted in [`super::Counters::refused`]; what is there stays, and the log is kept |

use std::collections::{BTreeMap, VecDeque};

use super::block::{
    ACCOUNT_ROW_BYTES, BlockError, BlockRef, ENTRY_BYTES, ID_BYTES, PAYLOAD_BYTES, Section,
};
use super::damage::Damage;
use super::index::AccountIndex;
use super::lookup::BlockRun;
use super::name::{FileId, FileKind};
use super::state::Store;
use crate::BLOCK_BYTES;
use crate::planted::{Bug, planted};

/// Blocks that one read of a victim asks for at most: some 100 us of work.
pub const MOVE_BLOCKS_MAX: u32 = 16;

/// Rows that may be moved however few the checkpoint has of its own: 700 KB.
const LEAST_ROWS: u64 = 4096;
/// Rows read per row that may be moved.
const SCAN_FACTOR: u64 = 4;
/// Blocks that may be wasted in any case: the last ones of sections, footers. 64 KiB.
pub(crate) const SLACK_BLOCKS: u64 = 16;
/// Above this the oldest files are moved whatever they hold.
const FILES_CROWDED: usize = 4096;

const MOVED_BYTES: u64 = (ACCOUNT_ROW_BYTES + ENTRY_BYTES) as u64;

/// Blocks that so many live rows and their index entries fill.
fn needed(live: u64) -> u64 {
    (live * MOVED_BYTES).div_ceil(PAYLOAD_BYTES as u64)
}

/// Rows that a checkpoint moves at most, if it has so many rows of its own and the store so many live ones.
pub(crate) fn moves_max(own_rows: u64, live: u64) -> u64 {
    let oldest = 2 * (LEAST_ROWS + own_rows) + live / FILES_CROWDED as u64;
    let wasteful = LEAST_ROWS + own_rows;
    // The last block of each phase is moved whole.
    oldest + wasteful + 2 * Section::AccountRows.rows_per_block() as u64
}

/// An accounts file that stays if nothing of it is moved, with what the checkpoint supersedes taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) number: u64,
    pub(crate) blocks: u64,
    /// Of its rows; these come first.
    pub(crate) row_blocks: u32,
    /// Of these the first ones hold no live row.
    pub(crate) swept: u32,
    pub(crate) live: u64,
    /// It says that accounts left, and an older file is kept.
    pub(crate) hides: bool,
}

impl Kept {
    fn waste(&self) -> u64 {
        self.blocks.saturating_sub(needed(self.live))
    }

    fn is_wasteful(&self) -> bool {
        self.blocks * 5 > 8 * needed(self.live)
    }
}

/// The files with the fewest live rows per block that together waste so much, if they can.
fn most_wasteful(kept: &[Kept], blocks: u64) -> impl Iterator<Item = u64> {
    let mut wasteful: Vec<&Kept> = kept
        .iter()
        .filter(|file| file.is_wasteful() && !file.hides)
        .collect();
    // Stable: of two alike the older one comes first.
    wasteful.sort_by(|a, b| (a.live * b.blocks).cmp(&(b.live * a.blocks)));
    let mut freed = 0;
    let enough = wasteful.into_iter().take_while(move |file| {
        let goes_on = freed < blocks;
        freed += file.waste();
        goes_on
    });
    enough.map(|file| file.number)
}

/// The blocks to read next: of which victim, from which row block on, how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) number: u64,
    pub(crate) first: u32,
    pub(crate) blocks: u32,
}

/// What one checkpoint moves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compaction {
    phases: VecDeque<Phase>,
    victims: BTreeMap<u64, Victim>,
}

#[derive(Clone, Debug)]
struct Phase {
    victims: VecDeque<u64>,
    moves_left: u64,
    scans_left: u64,
}

#[derive(Clone, Copy, Debug)]
struct Victim {
    row_blocks: u32,
    swept: u32,
    /// Not moved yet.
    live: u64,
}

impl Phase {
    fn new(victims: impl Iterator<Item = u64>, moves: u64) -> Self {
        Self {
            victims: victims.collect(),
            moves_left: moves,
            scans_left: moves.saturating_mul(SCAN_FACTOR),
        }
    }

    fn has_ended(&self) -> bool {
        self.victims.is_empty() || self.moves_left == 0 || self.scans_left == 0
    }
}

impl Compaction {
    /// Chooses. `kept` ascends by number; `own_rows` are those of the checkpoint; so many blocks may be wasted
    /// in any case.
    pub(crate) fn choose(kept: &[Kept], own_rows: u64, slack_blocks: u64) -> Self {
        let sum = |of: fn(&Kept) -> u64| kept.iter().map(of).sum::<u64>();
        let live = sum(|file| file.live);
        let mut phases = VecDeque::new();

        let mut oldest = 0;
        if kept.len() > FILES_CROWDED {
            oldest += LEAST_ROWS + live / FILES_CROWDED as u64;
        }
        let hidden = sum(|file| if file.hides { file.waste() } else { 0 });
        if hidden > needed(live) / 3 + slack_blocks {
            oldest += LEAST_ROWS + 2 * own_rows;
        }
        if oldest > 0 {
            phases.push_back(Phase::new(kept.iter().map(|file| file.number), oldest));
        }
        let too_much = sum(Kept::waste).saturating_sub(needed(live) / 2 + slack_blocks);
        if too_much > 0 {
            let wasteful = most_wasteful(kept, too_much);
            phases.push_back(Phase::new(wasteful, LEAST_ROWS + own_rows));
        }

        let victim = |file: &Kept| Victim {
            row_blocks: file.row_blocks,
            swept: file.swept,
            live: file.live,
        };
        let mut compaction = Self {
            phases,
            victims: kept
                .iter()
                .map(|file| (file.number, victim(file)))
                .collect(),
        };
        compaction.pass_over();
        compaction
    }

    /// What to read next; `None`: nothing is left to move.
    pub(crate) fn next_run(&self) -> Option<Run> {
        let number = *self.phases.front()?.victims.front()?;
        let victim = self.victims[&number];
        Some(Run {
            number,
            first: victim.swept,
            blocks: (victim.row_blocks - victim.swept).min(MOVE_BLOCKS_MAX),
        })
    }

    /// The next block of the run was read; so many of its rows were live, and are moved. False: the rest of
    /// the run is not wanted.
    ///
    /// # Panics
    /// If more are moved than were live, or a victim at its end has live rows left: index and manifest
    /// contradict each other.
    pub(crate) fn swept(&mut self, rows: u64, moved: u64) -> bool {
        let phase = self.phases.front_mut().expect("a run was asked for");
        let number = *phase.victims.front().expect("a run was asked for");
        let victim = self.victims.get_mut(&number).expect("it was chosen");
        victim.swept += 1;
        let live = victim.live.checked_sub(moved);
        victim.live = live.expect("no more rows are live than the manifest says");
        let ends = victim.swept == victim.row_blocks;
        assert!(!ends || victim.live == 0, "accounts {number:016x} ends");
        phase.moves_left = phase.moves_left.saturating_sub(moved);
        phase.scans_left = phase.scans_left.saturating_sub(rows);
        self.pass_over();
        self.next_run().is_some_and(|run| run.number == number)
    }

    /// How many of a file's row blocks are known to hold no live row, if it was a victim.
    pub(crate) fn swept_of(&self, number: u64) -> Option<u32> {
        self.victims.get(&number).map(|victim| victim.swept)
    }

    /// Leaves victims without live rows, and phases that have ended.
    fn pass_over(&mut self) {
        while let Some(phase) = self.phases.front_mut() {
            while let Some(number) = phase.victims.front()
                && self.victims[number].live == 0
            {
                phase.victims.pop_front();
            }
            if !phase.has_ended() {
                return;
            }
            self.phases.pop_front();
        }
    }
}

impl Store {
    /// Blocks of account rows that the finished checkpoint wants, given to [`Store::move_rows`]. Asked again
    /// without feeding, it says the same. `None`: there is nothing (more) to move; go on with
    /// [`Store::step`]. While too many bytes wait to be written the caller does not ask.
    #[must_use]
    pub fn moving(&self) -> Option<BlockRun> {
        let run = self.running.as_ref()?.compaction()?.next_run()?;
        let extent = self.footers[&accounts(run.number)].section(Section::AccountRows);
        let place = BlockRef {
            file: accounts(run.number),
            block: extent.first + run.first,
        };
        Some(BlockRun {
            first: place,
            blocks: run.blocks,
        })
    }

    /// Takes the blocks that [`Store::moving`] asked for, and moves their live rows: those that the index
    /// points at. It points at their new places then. `fingerprint` is an id's.
    ///
    /// # Errors
    /// The block that is not what was written. Nothing was moved: repair the block, and feed it again.
    ///
    /// # Panics
    /// If nothing was asked for, or the index is not the one of this store: a row would be lost.
    pub fn move_rows(
        &mut self,
        index: &mut AccountIndex,
        bytes: &[u8],
        fingerprint: impl Fn(&[u8; ID_BYTES]) -> u64,
    ) -> Result<(), Damage> {
        let run = self.moving().expect("blocks were asked for");
        let damaged = |place, error| Damage::Block { place, error };
        if bytes.len() != run.blocks as usize * BLOCK_BYTES as usize {
            let found = bytes.len();
            return Err(damaged(run.first, BlockError::Length { found }));
        }
        let mut blocks = Vec::with_capacity(run.blocks as usize);
        for (block, bytes) in (run.first.block..).zip(bytes.chunks(BLOCK_BYTES as usize)) {
            let place = BlockRef { block, ..run.first };
            let rows = self.block(place, bytes);
            blocks.push(rows.map_err(|error| damaged(place, error))?);
        }
        let number = run.first.file.number;
        let per_block = Section::AccountRows.rows_per_block() as u64;
        let first = u64::from(self.moving_from()) * per_block;
        let mut row_number = u32::try_from(first).expect("a section has at most 2^30 rows");
        for rows in blocks {
            let (rows, _) = rows.as_chunks::<ACCOUNT_ROW_BYTES>();
            let mut moved = 0;
            for row in rows {
                let old = self.places.place(number, row_number);
                let old = old.expect("a row of a published file");
                row_number += 1;
                let id = row.first_chunk().expect("a row begins with its id");
                let fingerprint = fingerprint(id);
                let (mut is_live, mut shared) = (false, false);
                for place in index.candidates(fingerprint) {
                    match place == old {
                        true => is_live = true,
                        false => shared = true,
                    }
                }
                if !is_live {
                    continue;
                }
                self.supersede(old);
                let running = self.running.as_mut().expect("it was asked for");
                let new = running.moved(row, fingerprint, shared, old);
                index.replace(fingerprint, old, new);
                moved += 1;
            }
            self.counters.rows_moved += moved;
            self.counters.blocks_swept += 1;
            let running = self.running.as_mut().expect("it was asked for");
            let compaction = running.compaction_mut();
            if !compaction.swept(rows.len() as u64, moved) {
                break;
            }
        }
        Ok(())
    }

    fn moving_from(&self) -> u32 {
        let running = self.running.as_ref().expect("a checkpoint is running");
        let run = running.compaction().and_then(Compaction::next_run);
        run.expect("blocks were asked for").first
    }

    /// The accounts files that stay if nothing is moved, oldest first: those with a live row; and those that
    /// say of an account that it left, as long as an older file may hold a row of it.
    pub(crate) fn kept_accounts(&self) -> Vec<Kept> {
        let running = self.running.as_ref().expect("a checkpoint is running");
        let mut kept: Vec<Kept> = Vec::new();
        for listed in self.current.files_of(FileKind::Accounts) {
            let number = listed.file.number;
            let superseded = running.superseded.get(&number);
            let live = listed.live.checked_sub(*superseded.unwrap_or(&0));
            let footer = &self.footers[&listed.file];
            let hides = !kept.is_empty() && footer.rows(Section::Gone) > 0;
            let hides = hides && !planted(Bug::GoneForgotten);
            let file = Kept {
                number,
                blocks: u64::from(listed.blocks),
                row_blocks: footer.section(Section::AccountRows).blocks,
                swept: running.swept_of(number).unwrap_or(listed.swept),
                live: live.expect("a row is superseded once"),
                hides,
            };
            if file.live > 0 || hides {
                kept.push(file);
            }
        }
        kept
    }
}

fn accounts(number: u64) -> FileId {
    FileId {
        kind: FileKind::Accounts,
        number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows lie in blocks of 25, entries of 338.
    fn file(number: u64, rows: u64, live: u64) -> Kept {
        let row_blocks = rows.div_ceil(25);
        Kept {
            number,
            blocks: row_blocks + rows.div_ceil(338) + 1,
            row_blocks: u32::try_from(row_blocks).unwrap(),
            swept: 0,
            live,
            hides: false,
        }
    }

    /// What is moved if the live rows lie at the end of each file; the files that are left.
    fn moved(kept: &[Kept], own: u64) -> (u64, Vec<Kept>) {
        let mut compaction = Compaction::choose(kept, own, SLACK_BLOCKS);
        let (mut left, mut sum) = (kept.to_vec(), 0);
        while let Some(run) = compaction.next_run() {
            assert!((1..=MOVE_BLOCKS_MAX).contains(&run.blocks));
            let at = left.iter().position(|file| file.number == run.number);
            let file = &mut left[at.unwrap()];
            assert_eq!(run.first, file.swept);
            for _ in 0..run.blocks {
                file.swept += 1;
                let behind = u64::from(file.row_blocks - file.swept) * 25;
                let moved = file.live.saturating_sub(behind);
                file.live -= moved;
                sum += moved;
                if !compaction.swept(25, moved) {
                    break;
                }
            }
        }
        assert!(sum <= moves_max(own, kept.iter().map(|file| file.live).sum()));
        left.retain(|file| file.live > 0 || file.hides);
        (sum, left)
    }

    #[test]
    fn nothing_is_moved_while_little_is_wasted() {
        let full: Vec<Kept> = (1..=50).map(|number| file(number, 1_000, 900)).collect();
        assert_eq!(moved(&full, 1_000), (0, full.clone()));
        // A small store may waste its slack.
        let small: Vec<Kept> = (1..=5).map(|number| file(number, 1, 1)).collect();
        assert_eq!(moved(&small, 1), (0, small.clone()));
    }

    #[test]
    fn the_most_wasteful_files_go_first_and_no_more_than_need_be() {
        let mut files: Vec<Kept> = (1..=20).map(|number| file(number, 1_000, 590)).collect();
        (files[7].live, files[12].live) = (20, 10);
        let (rows, left) = moved(&files, 1_000);
        // The two of which least is left, and some of the oldest of those that are alike.
        assert!(
            left.iter()
                .all(|file| file.number != 8 && file.number != 13)
        );
        assert!((30..4_000).contains(&rows), "{rows}");
        assert!(left.iter().any(|file| file.live == 590));
    }

    #[test]
    fn a_file_that_hides_is_no_victim_until_such_files_waste_too_much() {
        let mut files = vec![file(1, 20_000, 20_000)];
        for number in 2..8 {
            let hides = file(number, 1_000, 0);
            files.push(Kept {
                hides: true,
                ..hides
            });
        }
        assert_eq!(moved(&files, 1_000).0, 0);
        for number in 8..20 {
            let hides = file(number, 1_000, 0);
            files.push(Kept {
                hides: true,
                ..hides
            });
        }
        // The oldest one, which the others wait for, though all of it is live.
        let (rows, left) = moved(&files, 1_000);
        assert!(rows >= LEAST_ROWS + 2_000, "{rows}");
        assert!(left[0].number == 1 && left[0].swept > 0);
    }

    /// Small checkpoints that make nothing dead: only the number of files ever calls for compaction.
    #[test]
    fn there_are_never_many_more_than_twice_as_many_files_as_make_a_crowd() {
        let (mut kept, mut highest, mut written) = (Vec::new(), 0, 0);
        let checkpoints = 14_000;
        for number in 1..=checkpoints {
            let (rows, left) = moved(&kept, 50);
            kept = left;
            kept.push(file(number, 50 + rows, 50 + rows));
            written += 50 + rows;
            highest = highest.max(kept.len());
        }
        let each = written as f64 / (50 * checkpoints) as f64;
        println!("{highest} files at most, {each:.1} rows written per row of checkpoints of 50");
        assert!(highest <= 2 * FILES_CROWDED, "{highest}");
    }
}
