//! One block that is not what was written, from a peer.
//!
//! Whom it is asked of, and what answers count, is in [`quorate_durable::repair`]. Here it is waited for; a block
//! that verifies for its place is written over the damaged one and synced.
//!
//! Blocks are repaired one at a time, whoever needs them. Where nobody can give one it is for the caller to
//! say what that means; nothing else is taken from a peer here.

use std::time::Duration;

use futures_lite::future;
use glommio::timer::sleep;
use quorate_durable::repair::{Answer, Repair, Repaired, is_the_block};
use quorate_protocol::ids::{ReplicaAddress, ReplicaId};
use quorate_protocol::snapshot::Message;
use quorate_storage::BLOCK_BYTES;
use quorate_storage::store::BlockRef;

use super::{Shared, between_shells};
use crate::fatal::{Fatal, end_process};

/// How long a peer is waited for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// The questions for a block, and what the peer said that was asked last.
pub(super) struct Asked {
    questions: Repair,
    answer: Option<Answer>,
}

/// Who met a block that is not what was written. Several can wait for the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reader {
    Question,
    Page,
    Mover,
}

impl Shared {
    /// Repairs a block that somebody needs. False if it cannot be had: that has been reported then.
    pub(super) async fn mend(&self, reader: Reader, place: BlockRef, problem: &str) -> bool {
        let repaired = match self.repair(place).await {
            Ok(repaired) => repaired,
            Err(fault) => end_process(&fault),
        };
        let mut found_whole = self.found_whole.borrow_mut();
        let is_mended = found_whole.may_read_again(reader, place, repaired);
        drop(found_whole);
        if !is_mended {
            self.damaged(place, problem);
        }
        is_mended
    }

    /// The reader got what it wanted.
    pub(super) fn note_taken(&self, reader: Reader) {
        self.found_whole.borrow_mut().note_taken(&reader);
    }

    /// Repairs a block from whichever peer has it.
    pub(super) async fn repair(&self, place: BlockRef) -> Result<Repaired, Fatal> {
        let turn = self.repairs.acquire_permit(1).await;
        let _turn = turn.expect("it is never closed");
        if let Some(found) = self.look_again(place).await {
            return Ok(found);
        }
        let group = self.group.iter().map(|peer| peer.replica).collect();
        *self.asked_for.borrow_mut() = Some(Asked {
            questions: Repair::new(place, group),
            answer: None,
        });
        let repaired = self.ask_all(place).await;
        *self.asked_for.borrow_mut() = None;
        repaired
    }

    async fn ask_all(&self, place: BlockRef) -> Result<Repaired, Fatal> {
        while let Some(question) = self.next_question() {
            let (peer, answer) = self.ask(question).await;
            let Some(Answer::Block(block)) = answer else {
                continue;
            };
            if !self.keeper.borrow().store().has(place.file) {
                return Ok(Repaired::Dropped);
            }
            let is_it = is_the_block(self.keeper.borrow().store(), place, &block);
            if is_it {
                return self.write_over(place, &block, peer).await;
            }
            tracing::warn!(%peer, file = %place.file, block = place.block, "damaged there as well");
        }
        Ok(Repaired::Not)
    }

    /// A replica of the group has answered.
    pub(super) fn take_answer(&self, from: ReplicaAddress, message: &Message) {
        let mut open = self.asked_for.borrow_mut();
        let Some(open) = open.as_mut().filter(|_| self.group.contains(&from)) else {
            return;
        };
        match open.questions.answer(from.replica, message) {
            Answer::Other => return,
            answer @ (Answer::Nothing | Answer::Block(_)) => open.answer = Some(answer),
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

    fn next_question(&self) -> Option<(ReplicaId, Message)> {
        let mut open = self.asked_for.borrow_mut();
        let open = open.as_mut()?;
        open.answer = None;
        open.questions.next_question()
    }

    /// What the peer says, if it does in time.
    async fn ask(&self, (to, question): (ReplicaId, Message)) -> (ReplicaAddress, Option<Answer>) {
        let of = |peer: &&ReplicaAddress| peer.replica == to;
        let peer = *self.group.iter().find(of).expect("one of the group");
        self.peers.send(peer, &between_shells(question));
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
        let mut open = self.asked_for.borrow_mut();
        (peer, open.as_mut().and_then(|open| open.answer.take()))
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
