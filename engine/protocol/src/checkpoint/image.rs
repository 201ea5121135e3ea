//! A checkpoint under way: what is still to be written, and the parts in their order.
//!
//! | stage | gives | until |
//! | --- | --- | --- |
//! | `Begin` | number and slot | at once |
//! | `Accounts` | frozen accounts, as they were at the slot | all are given |
//! | `Gone` | accounts that have left | at once |
//! | `History` | frozen rows of history | all are given |
//! | `Contexts` | their contexts | all are given |
//! | `Side` | every other table, as it was at the slot | all bytes are given |
//! | `End` | the mark with the digest | at once |
//!
//! Parts of accounts, history, contexts and side tables are bounded. Beginning is not: it encodes the side
//! tables whole, and `Gone` is one part.

use alloc::vec::Vec;

use super::rows::{AccountRow, ContextRow, HistoryRow, Mark};
use super::side;
use crate::ids::{AccountId, Ballot, Slot};
use crate::ledger::dirty::Written;
use crate::ledger::history::HistoryPosition;
use crate::ledger::state::{Ledger, OwnedAccount};
use crate::limits::{CHECKPOINT_PART_BYTES, CHECKPOINT_PART_ROWS};
use crate::output::CheckpointPart;
use crate::planted::{Bug, planted};
use crate::table::{Records, hash64};

/// What a checkpoint still has to write.
#[derive(Debug)]
pub(crate) struct Image {
    number: u64,
    slot: Slot,
    stage: Stage,
    interval: u32,
    /// Accounts that changed in the interval, and how many of them are given.
    accounts: Vec<AccountId>,
    given: usize,
    /// As they were at the slot, if they have changed since and are not given.
    kept: Records<OwnedAccount>,
    gone: Vec<AccountId>,
    history_given: u32,
    contexts: Vec<ContextRow>,
    contexts_given: usize,
    side: Vec<u8>,
    side_hash: u64,
    side_given: usize,
    /// Of the state at the slot beside accounts.
    digest: u128,
    /// Over its accounts, as far as they are given.
    written: Written,
    highest_origin: Ballot,
    history_from: HistoryPosition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begin,
    Accounts,
    Gone,
    History,
    Contexts,
    Side,
    End,
    Ended,
}

impl Image {
    /// Which interval's accounts it writes.
    pub fn interval(&self) -> u32 {
        self.interval
    }

    /// Accounts that are not given yet.
    pub fn waiting(&self) -> &[AccountId] {
        &self.accounts[self.given..]
    }

    /// An account that is not given yet is about to change or to leave, for the first time since the slot.
    pub fn keep(&mut self, owned: &OwnedAccount) {
        if !planted(Bug::ImageNotKept) {
            self.kept.insert(*owned);
        }
    }

    /// Whether every part was given.
    pub fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }
}

impl Ledger {
    /// Begins a checkpoint of the state as it is now.
    ///
    /// # Panics
    /// If one is under way.
    pub(crate) fn begin_checkpoint(&mut self) {
        assert!(self.image.is_none(), "one checkpoint at a time");
        self.checkpoint += 1;
        self.weight = 0;
        self.history.freeze();
        self.let_go_of_history();
        let interval = self.dirty.interval;
        let (accounts, gone) = self.dirty.freeze();
        let has_a_row = |(id, is_stored): (AccountId, bool)| is_stored.then_some(id);
        let gone = gone.into_iter().filter_map(has_a_row);
        let gone = gone.filter(|id| self.account(*id).is_none()).collect();
        let side = side::encode(self, accounts.len());
        self.last_rewritten_bytes = side.rewritten_bytes;
        self.image = Some(Image {
            number: self.checkpoint,
            slot: self.applied,
            stage: Stage::Begin,
            interval,
            accounts,
            given: 0,
            kept: Records::default(),
            gone,
            history_given: 0,
            contexts: Vec::new(),
            contexts_given: 0,
            side_hash: 0,
            side: side.bytes,
            side_given: 0,
            digest: self.digest_beside_accounts(),
            written: self.dirty.written.clone(),
            highest_origin: self.highest_origin,
            history_from: self.history.dropped().from,
        });
    }

    fn let_go_of_history(&mut self) {
        let Some(retention) = &mut self.retention else {
            return;
        };
        let frozen = self.history.frozen();
        if let Some(dropped) = retention.checkpoint(self.applied, self.last_timestamp, frozen) {
            self.history.let_go(dropped);
        }
    }

    /// The next part of the checkpoint under way; `None` if there is none or all is given.
    pub(crate) fn next_part(&mut self) -> Option<CheckpointPart> {
        let mut image = self.image.take()?;
        let part = self.part_of(&mut image);
        self.image = Some(image);
        part
    }

    /// The checkpoint under way is in the store.
    pub(crate) fn end_checkpoint(&mut self) -> Slot {
        let image = self.image.take().expect("a checkpoint is under way");
        assert!(image.has_ended() && image.kept.is_empty());
        image.slot
    }

    fn part_of(&mut self, image: &mut Image) -> Option<CheckpointPart> {
        loop {
            match image.stage {
                Stage::Begin => {
                    image.stage = Stage::Accounts;
                    let accounts = u32::try_from(image.accounts.len());
                    return Some(CheckpointPart::Begin {
                        number: image.number,
                        slot: image.slot,
                        accounts: accounts.expect("an interval has fewer changes"),
                    });
                }
                Stage::Accounts if image.given < image.accounts.len() => {
                    return Some(CheckpointPart::Accounts(self.account_rows(image)));
                }
                Stage::Accounts => image.stage = Stage::Gone,
                Stage::Gone => {
                    image.stage = Stage::History;
                    let gone = core::mem::take(&mut image.gone);
                    return Some(CheckpointPart::Gone(gone));
                }
                Stage::History => match self.history_rows(image) {
                    rows if rows.is_empty() => image.stage = Stage::Contexts,
                    rows => return Some(CheckpointPart::History(rows)),
                },
                Stage::Contexts => {
                    let left = &image.contexts[image.contexts_given..];
                    let rows: Vec<ContextRow> =
                        left.iter().take(CHECKPOINT_PART_ROWS).copied().collect();
                    if !rows.is_empty() {
                        image.contexts_given += rows.len();
                        return Some(CheckpointPart::Contexts(rows));
                    }
                    image.contexts = Vec::new();
                    side::close(&mut image.side, &image.written.tally);
                    image.side_hash = hash64(&image.side);
                    image.stage = Stage::Side;
                }
                Stage::Side => {
                    let left = &image.side[image.side_given..];
                    let part = left[..left.len().min(CHECKPOINT_PART_BYTES)].to_vec();
                    if !part.is_empty() {
                        image.side_given += part.len();
                        return Some(CheckpointPart::Side(part));
                    }
                    image.side = Vec::new();
                    image.stage = Stage::End;
                }
                Stage::End => {
                    image.stage = Stage::Ended;
                    let digest = image
                        .digest
                        .wrapping_add(image.written.digest)
                        .to_le_bytes();
                    let [low, high] = zerocopy::transmute!(digest);
                    return Some(CheckpointPart::End(Mark {
                        slot: image.slot,
                        highest_origin: image.highest_origin,
                        digest: [low, high],
                        side: image.side_hash,
                        history_from: image.history_from.0,
                    }));
                }
                Stage::Ended => return None,
            }
        }
    }

    /// The next accounts as they were at the slot. Who has left by then is passed over.
    fn account_rows(&mut self, image: &mut Image) -> Vec<(AccountRow, bool)> {
        let mut rows = Vec::with_capacity(CHECKPOINT_PART_ROWS);
        while let Some(&id) = image.accounts.get(image.given)
            && rows.len() < CHECKPOINT_PART_ROWS
        {
            image.given += 1;
            let place = self.place_of(id);
            if let Some(kept) = image.kept.find(&id) {
                let kept = image.kept.remove(kept);
                image.written.add(&kept);
                rows.push((AccountRow::of(&kept), kept.is_stored));
                self.dirty.writes_older(id);
                if let Some(place) = place {
                    self.records.at_mut(place).is_stored = true;
                }
                continue;
            }
            let Some(place) = place else {
                continue;
            };
            let owned = self.records.at_mut(place);
            if owned.interval != image.interval {
                continue;
            }
            image.written.add(owned);
            self.dirty.written.add(owned);
            if !planted(Bug::ScanMissesWritten) {
                self.scan.count(owned);
            }
            rows.push((AccountRow::of(owned), owned.is_stored));
            owned.is_written = true;
            owned.is_stored = true;
        }
        rows
    }

    fn history_rows(&self, image: &mut Image) -> Vec<(HistoryRow, u64)> {
        let records = self.history.frozen().rows_from(image.history_given);
        let mut rows = Vec::with_capacity(CHECKPOINT_PART_ROWS);
        for record in records.take(CHECKPOINT_PART_ROWS) {
            let context = ContextRow::of(record);
            if image.contexts.last() != Some(&context) {
                image.contexts.push(context);
            }
            let context = u32::try_from(image.contexts.len() - 1).expect("fewer than rows");
            let fingerprint = record.name().fingerprint();
            rows.push((HistoryRow::of(record, context), fingerprint));
        }
        image.history_given += u32::try_from(rows.len()).expect("a part is small");
        rows
    }
}
