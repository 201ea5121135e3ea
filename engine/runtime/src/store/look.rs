//! Look-ups in the store: transfer ids and accounts many at once, pages of accounts by a walk over all of
//! them.

use std::rc::Rc;

use glommio::io::ReadResult;
use quorate_durable::listing::Listing;
use quorate_durable::question::Wanted;
use quorate_net::give_way;
use quorate_protocol::input::Input;
use quorate_storage::BLOCK_BYTES;
use quorate_storage::store::{BlockRef, BlockRun, Damage};

use super::Shared;
use super::repair::Reader;
use crate::fatal::{Fatal, end_process};

/// Reads of accounts in flight: where a disk of this kind gives most (see `perf/notes`).
const READS_AT_ONCE: usize = 32;

/// Blocks that one read of accounts joins: accounts that were used together once lie together.
const RUN_BLOCKS_MAX: u32 = 64;

/// The first blocks, those that lie side by side as one run.
fn neighbours(blocks: impl Iterator<Item = BlockRef>, runs_max: usize) -> Vec<BlockRun> {
    let mut runs: Vec<BlockRun> = Vec::new();
    for first in blocks {
        if let Some(run) = runs.last_mut()
            && run.first.file == first.file
            && run.first.block + run.blocks == first.block
            && run.blocks < RUN_BLOCKS_MAX
        {
            run.blocks += 1;
        } else if runs.len() < runs_max {
            runs.push(BlockRun { first, blocks: 1 });
        } else {
            break;
        }
    }
    runs
}

/// What the blocks that were read are.
enum Fed {
    Taken,
    /// A file was dropped: other blocks are wanted now.
    Gone,
    /// This one is not what was written, and why.
    Damaged(BlockRef, String),
}

impl Shared {
    pub(super) async fn look_for_ever(&self) {
        loop {
            let wanted = {
                let (mut questions, keeper) = (self.questions.borrow_mut(), self.keeper.borrow());
                let first = questions.front_mut();
                first.map(|question| question.wanted(keeper.store(), keeper.index()))
            };
            let fed = match wanted {
                None => {
                    self.question_asked.wait().await;
                    continue;
                }
                Some(Wanted::Nothing) => {
                    let answered = self.questions.borrow_mut().pop_front();
                    if let Some(question) = answered {
                        self.inbox.push_own(question.answer());
                    }
                    give_way().await;
                    continue;
                }
                Some(Wanted::Blocks(_)) => self.feed().await,
                Some(Wanted::Accounts) => self.feed_accounts().await,
            };
            match fed {
                Ok(Fed::Taken) => self.note_taken(Reader::Question),
                Ok(Fed::Gone) => {}
                Ok(Fed::Damaged(place, problem)) => {
                    if !self.mend(Reader::Question, place, &problem).await {
                        // Nothing is answered any more: the replica is out of service.
                        self.question_asked.wait().await;
                    }
                }
                Err(fault) => end_process(&fault),
            }
        }
    }

    /// Reads what the look-ups of the question in front want, all at once.
    async fn feed(&self) -> Result<Fed, Fatal> {
        let wanted = {
            let (mut questions, keeper) = (self.questions.borrow_mut(), self.keeper.borrow());
            let question = questions.front_mut().expect("it asked for them");
            question.wanted_at_once(keeper.store())
        };
        let reads = wanted.into_iter().map(|(lane, run)| {
            let files = Rc::clone(&self.files);
            let read = async move { files.read_kept(run).await };
            (lane, run, glommio::spawn_local(read))
        });
        // All of them have begun before the first is waited for.
        let reads: Vec<_> = reads.collect();
        let mut outcome = Fed::Taken;
        for (lane, run, read) in reads {
            let read = read.await?;
            let mut questions = self.questions.borrow_mut();
            let question = questions.front_mut().expect("it asked for them");
            let keeper = self.keeper.borrow();
            let Some(read) = read else {
                let wanted = question.wanted_at_once(keeper.store());
                if wanted.contains(&(lane, run)) {
                    return Ok(Fed::Damaged(run.first, "is gone".to_owned()));
                }
                outcome = Fed::Gone;
                continue;
            };
            if let Err((place, problem)) = question.feed_lane(lane, keeper.store(), &read) {
                return Ok(Fed::Damaged(place, problem));
            }
            self.files.remember(run, read);
        }
        Ok(outcome)
    }

    /// Reads as many of the blocks with accounts as may be in flight.
    async fn feed_accounts(&self) -> Result<Fed, Fatal> {
        let runs = {
            let questions = self.questions.borrow();
            let question = questions.front().expect("it asked for them");
            neighbours(question.account_blocks(), READS_AT_ONCE)
        };
        let reads = runs.into_iter().map(|run| {
            let files = Rc::clone(&self.files);
            let read = async move {
                let bytes = run.blocks as usize * BLOCK_BYTES as usize;
                files.read(run.first.file, run.first.offset(), bytes).await
            };
            (run, glommio::spawn_local(read))
        });
        // All of them have begun before the first is waited for.
        let reads: Vec<_> = reads.collect();
        let mut outcome = Fed::Taken;
        for (run, read) in reads {
            let read = read.await?;
            let mut questions = self.questions.borrow_mut();
            let question = questions.front_mut().expect("it asked for them");
            let keeper = self.keeper.borrow();
            let Some(read) = read else {
                // Dropped since, or not as long as it was written: the same blocks would be wanted again.
                if keeper.store().has(run.first.file) {
                    return Ok(Fed::Damaged(run.first, "is gone".to_owned()));
                }
                question.look_again();
                outcome = Fed::Gone;
                continue;
            };
            for (block, bytes) in (run.first.block..).zip(read.chunks(BLOCK_BYTES as usize)) {
                let place = BlockRef { block, ..run.first };
                match question.feed_account(keeper.store(), place, bytes) {
                    Ok(()) => {}
                    // A file that was dropped since counts as gone, not as damaged.
                    Err(_) if !keeper.store().has(place.file) => {
                        question.look_again();
                        outcome = Fed::Gone;
                        break;
                    }
                    Err(problem) => return Ok(Fed::Damaged(place, problem)),
                }
            }
        }
        Ok(outcome)
    }

    pub(super) async fn list_for_ever(&self) {
        loop {
            let Some((after, limit)) = self.page.get() else {
                self.page_wanted.wait().await;
                continue;
            };
            let mut listing = Listing::new(self.keeper.borrow().store(), after, limit);
            match self.walk(&mut listing).await {
                Ok(true) => {
                    self.page.set(None);
                    let ids = listing.into_ids();
                    self.inbox.push_own(Input::Listed { ids });
                }
                Ok(false) => self.page_wanted.wait().await,
                Err(fault) => end_process(&fault),
            }
        }
    }

    /// Reads all rows for a page. False if some cannot be had.
    async fn walk(&self, listing: &mut Listing) -> Result<bool, Fatal> {
        loop {
            let wanted = listing.wanted(self.keeper.borrow().store());
            let Some(run) = wanted else {
                return Ok(true);
            };
            let read = self.read(run).await?;
            let is_fed = match self.page_rows(listing, run, read.as_deref()) {
                Fed::Taken => {
                    self.note_taken(Reader::Page);
                    true
                }
                Fed::Gone => true,
                Fed::Damaged(place, problem) => self.mend(Reader::Page, place, &problem).await,
            };
            if !is_fed {
                return Ok(false);
            }
            give_way().await;
        }
    }

    fn page_rows(&self, listing: &mut Listing, run: BlockRun, read: Option<&[u8]>) -> Fed {
        let keeper = self.keeper.borrow();
        let damage = match read {
            Some(read) => listing.feed(keeper.store(), keeper.index(), read).err(),
            // It was dropped, and is passed over.
            None if !keeper.store().has(run.first.file) => return Fed::Gone,
            None => return Fed::Damaged(run.first, "is gone".to_owned()),
        };
        match damage {
            None => Fed::Taken,
            Some(Damage::Block { place, error }) => Fed::Damaged(place, error.to_string()),
            Some(damage) => Fed::Damaged(run.first, damage.to_string()),
        }
    }

    /// What the mover met. False if it cannot be mended: that has been reported then.
    pub(super) async fn mend_damage(&self, damage: Damage) -> bool {
        if let Damage::Block { place, error } = damage {
            return self.mend(Reader::Mover, place, &error.to_string()).await;
        }
        self.report_damage(damage.to_string());
        false
    }

    pub(super) async fn read(&self, run: BlockRun) -> Result<Option<ReadResult>, Fatal> {
        let bytes = run.blocks as usize * BLOCK_BYTES as usize;
        self.files
            .read(run.first.file, run.first.offset(), bytes)
            .await
    }

    pub(super) fn damaged(&self, place: BlockRef, problem: &str) {
        self.report_damage(format!("{} block {}: {problem}", place.file, place.block));
    }
}

#[cfg(test)]
mod tests {
    use quorate_storage::store::{FileId, FileKind};

    use super::*;

    #[test]
    fn blocks_side_by_side_are_read_at_once_and_others_apart() {
        let at = |number, block| BlockRef {
            file: FileId {
                kind: FileKind::Accounts,
                number,
            },
            block,
        };
        let shape = |blocks: Vec<BlockRef>, max| -> Vec<(u64, u32, u32)> {
            let runs = neighbours(blocks.into_iter(), max).into_iter();
            runs.map(|run| (run.first.file.number, run.first.block, run.blocks))
                .collect()
        };
        let blocks = vec![at(1, 3), at(1, 4), at(1, 6), at(2, 7), at(2, 8)];
        assert_eq!(shape(blocks.clone(), 9), [(1, 3, 2), (1, 6, 1), (2, 7, 2)]);
        assert_eq!(shape(blocks, 2), [(1, 3, 2), (1, 6, 1)]);
        let long = shape((0..100).map(|block| at(1, block)).collect(), 9);
        assert_eq!(long, [(1, 0, RUN_BLOCKS_MAX), (1, 64, 36)]);
    }
}
