//! One block that is not what was written, from a peer.
//!
//! ```text
//! this replica                          a replica of the group
//!   Ask File, the block's offset ------------>
//!   <---------------- Chunk: its first block | Gone, or nothing: the next one is asked
//!   the block is checked for its place, written over the damaged one, synced
//! ```
//!
//! All replicas of a shard write the same files, so a block that verifies for its place is the block. Blocks
//! are repaired one at a time, whoever needs them. Where nobody can give one it is for the caller to say what
//! that means; nothing else is taken from a peer here.

use std::time::Duration;

use futures_lite::future;
use glommio::timer::sleep;
use quorate_protocol::ids::ReplicaAddress;
use quorate_protocol::snapshot::{Message, Part};
use quorate_storage::BLOCK_BYTES;
use quorate_storage::store::BlockRef;

use super::{Shared, between_shells};
use crate::fatal::{Fatal, end_process};

/// How long a peer is waited for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// How often each peer is asked: one may just be connected to again, or be a checkpoint behind.
const ROUNDS: usize = 2;

/// A question to a peer, and what it said.
pub(super) struct Asked {
    of: ReplicaAddress,
    part: Part,
    offset: u64,
    /// The block, or that it has none.
    answer: Option<Option<Vec<u8>>>,
}

/// How a repair ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repaired {
    /// It is whole on disk now.
    Written,
    /// It was whole when it was read again.
    Whole,
    /// Its file was dropped: nothing in it is wanted any more.
    Dropped,
    /// Nobody could give it.
    Not,
}

impl Shared {
    /// Repairs a block that somebody needs. False if it cannot be had: that has been reported then.
    pub(super) async fn mend(&self, place: BlockRef, problem: &str) -> bool {
        let repaired = match self.repair(place).await {
            Ok(repaired) => repaired,
            Err(fault) => end_process(&fault),
        };
        let is_mended = match repaired {
            Repaired::Written | Repaired::Dropped => true,
            // What verifies and still makes no sense is no damage of a block.
            Repaired::Whole => self.found_whole.replace(Some(place)) != Some(place),
            Repaired::Not => false,
        };
        if !is_mended {
            self.damaged(place, problem);
        }
        is_mended
    }

    /// Repairs a block from whichever peer has it.
    pub(super) async fn repair(&self, place: BlockRef) -> Result<Repaired, Fatal> {
        let turn = self.repairs.acquire_permit(1).await;
        let _turn = turn.expect("it is never closed");
        if let Some(found) = self.look_again(place).await {
            return Ok(found);
        }
        for _ in 0..ROUNDS {
            for &peer in &self.group {
                let Some(block) = self.ask_for(peer, place).await else {
                    continue;
                };
                if !self.keeper.borrow().store().has(place.file) {
                    return Ok(Repaired::Dropped);
                }
                if self.is_whole(place, &block) {
                    return self.write_over(place, &block, peer).await;
                }
                tracing::warn!(%peer, file = %place.file, block = place.block, "damaged there as well");
            }
        }
        Ok(Repaired::Not)
    }

    /// A replica of the group has answered.
    pub(super) fn take_answer(&self, from: ReplicaAddress, message: &Message) {
        let mut open = self.asked_for.borrow_mut();
        let Some(open) = open.as_mut().filter(|open| open.of == from) else {
            return;
        };
        match message {
            Message::Chunk {
                part,
                offset,
                bytes,
                ..
            } if (*part, *offset) == (open.part, open.offset) => {
                let block = bytes.as_bytes().get(..BLOCK_BYTES as usize);
                open.answer = Some(block.map(<[u8]>::to_vec));
            }
            Message::Gone { part } if *part == open.part => open.answer = Some(None),
            Message::Chunk { .. } | Message::Gone { .. } | Message::Ask { .. } => return,
        }
        self.answered.set();
    }

    /// What there is to say without a peer: while this one waited another may have repaired the block.
    async fn look_again(&self, place: BlockRef) -> Option<Repaired> {
        let read = self.read_block(place).await;
        if !self.keeper.borrow().store().has(place.file) {
            return Some(Repaired::Dropped);
        }
        if !self.files.path_of(place.file).exists() {
            return Some(Repaired::Not);
        }
        let mut keeper = self.keeper.borrow_mut();
        let adopted = keeper.adopt_repaired(place, read?.as_ref());
        adopted.is_ok().then_some(Repaired::Whole)
    }

    /// The block's bytes, as far as the device gives any: writing over a bad sector may cure it.
    pub(super) async fn read_block(&self, place: BlockRef) -> Option<Vec<u8>> {
        let bytes = BLOCK_BYTES as usize;
        match self.files.read(place.file, place.offset(), bytes).await {
            Ok(read) => read.map(|read| read.to_vec()),
            Err(fault) => {
                tracing::warn!(block = place.block, "{fault}");
                None
            }
        }
    }

    pub(super) fn is_whole(&self, place: BlockRef, bytes: &[u8]) -> bool {
        let keeper = self.keeper.borrow();
        let (file, block) = (place.file, place.block);
        let checked = keeper
            .store()
            .check_block(file.kind, file.number, block, bytes);
        checked.is_ok()
    }

    async fn ask_for(&self, peer: ReplicaAddress, place: BlockRef) -> Option<Vec<u8>> {
        let part = Part::File {
            kind: place.file.kind.code(),
            number: place.file.number,
        };
        let offset = place.offset();
        *self.asked_for.borrow_mut() = Some(Asked {
            of: peer,
            part,
            offset,
            answer: None,
        });
        self.peers
            .send(peer, &between_shells(Message::Ask { part, offset }));
        let pause = async {
            sleep(ANSWER_TIME_MAX).await;
        };
        let answered = async {
            let is_open = || {
                let open = self.asked_for.borrow();
                open.as_ref().is_some_and(|open| open.answer.is_none())
            };
            while is_open() {
                self.answered.wait().await;
            }
        };
        future::or(answered, pause).await;
        self.asked_for.take()?.answer?
    }

    async fn write_over(
        &self,
        place: BlockRef,
        bytes: &[u8],
        from: ReplicaAddress,
    ) -> Result<Repaired, Fatal> {
        if self.is_closing.get() {
            return Ok(Repaired::Not);
        }
        self.is_repairing.set(true);
        let written = self
            .files
            .write_over(place.file, place.offset(), bytes)
            .await;
        self.is_repairing.set(false);
        self.written.set();
        let adopted = self.keeper.borrow_mut().adopt_repaired(place, bytes);
        if !written? || adopted.is_err() {
            return Ok(Repaired::Dropped);
        }
        tracing::info!(%from, file = %place.file, block = place.block, "block repaired");
        Ok(Repaired::Written)
    }
}
