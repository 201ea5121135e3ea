//! Reads what nobody reads, so that rot is found while a peer can still repair it.
//!
//! All blocks of the published files, round after round, one small read at a time with a pause behind it. A
//! block that cannot be repaired now is left for the next round: the replica goes on until it is needed.

use std::time::{Duration, Instant};

use glommio::timer::sleep;
use quorate_durable::repair::Repaired;
use quorate_durable::scrub::{self, BLOCKS_AT_ONCE};
use quorate_storage::BLOCK_BYTES;
use quorate_storage::store::{BlockRef, BlockRun};

use super::Shared;
use crate::fatal::end_process;

/// Before the first round: peers are connected to, and the log is replayed.
const FIRST_AFTER: Duration = Duration::from_secs(2);
/// From the beginning of a round to that of the next, at least.
const ROUND_TIME_MIN: Duration = Duration::from_secs(600);
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
        let mut runs = scrub::Round::new(self.keeper.borrow().store());
        loop {
            let run = runs.next_run(self.keeper.borrow().store());
            let Some(run) = run else {
                return round;
            };
            self.scrub_run(run, &mut round).await;
            sleep(PAUSE).await;
        }
    }

    async fn scrub_run(&self, run: BlockRun, round: &mut Round) {
        let read = self.read(run).await.ok().flatten();
        let damaged = scrub::damaged(self.keeper.borrow().store(), run, read.as_deref());
        round.read += u64::from(run.blocks);
        for place in damaged {
            self.scrub_damaged(place, round).await;
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
