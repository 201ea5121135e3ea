//! Reads what nobody reads, so that rot is found while a peer can still repair it.
//!
//! All blocks of the published files, round after round, one small read at a time with a pause behind it. A
//! block that cannot be repaired now is left for the next round: the replica goes on until it is needed.

use std::time::{Duration, Instant};

use glommio::timer::sleep;
use quorate_storage::BLOCK_BYTES;
use quorate_storage::store::{BlockRef, BlockRun, FileId};

use super::Shared;
use super::repair::Repaired;
use crate::fatal::end_process;

/// Before the first round: peers are connected to, and the log is replayed.
const FIRST_AFTER: Duration = Duration::from_secs(2);
/// From the beginning of a round to that of the next, at least.
const ROUND_TIME_MIN: Duration = Duration::from_secs(600);
/// Blocks of one read: what comes behind it waits for some 50 us.
const BLOCKS_AT_ONCE: u32 = 16;
/// Bytes per second at most: 100 GiB take some four hours.
const BYTES_PER_SECOND: u64 = 8 << 20;
/// Behind each read.
const PAUSE: Duration = Duration::from_micros(
    BLOCKS_AT_ONCE as u64 * BLOCK_BYTES as u64 * 1_000_000 / BYTES_PER_SECOND,
);

/// One round, in blocks.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    read: u64,
    damaged: u64,
    repaired: u64,
}

impl Shared {
    pub(super) async fn scrub_for_ever(&self) {
        sleep(FIRST_AFTER).await;
        loop {
            let started = Instant::now();
            let Round {
                read,
                damaged,
                repaired,
            } = self.scrub().await;
            tracing::info!(blocks = read, damaged, repaired, "store scrubbed");
            let rest = ROUND_TIME_MIN.saturating_sub(started.elapsed());
            sleep(rest.max(FIRST_AFTER)).await;
        }
    }

    async fn scrub(&self) -> Round {
        let mut round = Round::default();
        // As of now: what is published meanwhile comes in the next round.
        let files: Vec<(FileId, u32)> = self.keeper.borrow().store().files().collect();
        for (file, blocks) in files {
            let mut next = 0;
            while next < blocks && self.keeper.borrow().store().has(file) {
                let run = BlockRun {
                    first: BlockRef { file, block: next },
                    blocks: (blocks - next).min(BLOCKS_AT_ONCE),
                };
                self.scrub_run(run, &mut round).await;
                next += run.blocks;
                sleep(PAUSE).await;
            }
        }
        round
    }

    async fn scrub_run(&self, run: BlockRun, round: &mut Round) {
        let BlockRef { file, block } = run.first;
        let read = self.read(run).await.ok().flatten();
        for index in 0..run.blocks {
            let place = BlockRef {
                file,
                block: block + index,
            };
            let at = index as usize * BLOCK_BYTES as usize;
            let bytes = read
                .as_deref()
                .map(|read| &read[at..at + BLOCK_BYTES as usize]);
            round.read += 1;
            if !bytes.is_some_and(|bytes| self.is_whole(place, bytes)) {
                self.scrub_damaged(place, round).await;
            }
        }
    }

    async fn scrub_damaged(&self, place: BlockRef, round: &mut Round) {
        match self.repair(place).await {
            Ok(Repaired::Written) => {
                round.damaged += 1;
                round.repaired += 1;
            }
            Ok(Repaired::Whole | Repaired::Dropped) => {}
            Ok(Repaired::Not) => {
                round.damaged += 1;
                tracing::warn!(
                    file = %place.file,
                    block = place.block,
                    "damaged, and no peer gives it: left for the next round"
                );
            }
            Err(fault) => end_process(&fault),
        }
    }
}
