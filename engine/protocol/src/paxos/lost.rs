//! Records that this replica once made durable and cannot read any more.
//!
//! A lost record is not an absent one: the replica accepted something for its slot, under a ballot
//! that is known. It is reported as lost in promises and to whoever asks for the slot, and it stays
//! lost until a newer record for the slot is durable: a later acceptance, or the chosen entry fetched
//! from a peer. Storage finds such a newer record at the next start and calls the loss replaced.
//!
//! | slot | what brings the record back |
//! | --- | --- |
//! | chosen | `catch_up` asks the peers for it, before anything above it is applied or served |
//! | above `chosen_upto` | the next leader's proposal, or learning that it is chosen |

use alloc::collections::BTreeMap;
use core::ops::RangeBounds;

use crate::config::LostRecord;
use crate::ids::{Ballot, PersistSeq, Slot};

#[derive(Clone, Copy, Debug)]
struct Loss {
    accepted: Ballot,
    /// The newer record, which is not durable yet.
    replaced_by: Option<PersistSeq>,
}

/// The lost records of one replica, by slot.
#[derive(Debug, Default)]
pub(super) struct LostRecords {
    losses: BTreeMap<Slot, Loss>,
}

impl LostRecords {
    /// A record of `accepted` turned out to be lost.
    pub(super) fn add(&mut self, lost: LostRecord) {
        let known = self.losses.get(&lost.slot).map(|loss| loss.accepted);
        let loss = Loss {
            accepted: lost.accepted.max(known.unwrap_or(Ballot::ZERO)),
            replaced_by: None,
        };
        self.losses.insert(lost.slot, loss);
    }

    /// The ballot of the lost record of `slot`, unless a newer one has been issued.
    pub(super) fn accepted(&self, slot: Slot) -> Option<Ballot> {
        let loss = self.losses.get(&slot)?;
        loss.replaced_by.is_none().then_some(loss.accepted)
    }

    /// Lost records without a newer one, ascending.
    pub(super) fn within(
        &self,
        slots: impl RangeBounds<Slot>,
    ) -> impl Iterator<Item = (Slot, Ballot)> {
        self.losses
            .range(slots)
            .filter(|(_, loss)| loss.replaced_by.is_none())
            .map(|(&slot, loss)| (slot, loss.accepted))
    }

    /// The first slot from `from` on that cannot be read from the log: nothing newer is durable.
    pub(super) fn first_unreadable(&self, from: Slot) -> Option<Slot> {
        self.losses.range(from..).next().map(|(&slot, _)| slot)
    }

    /// A record for `slot` under `ballot` was issued.
    pub(super) fn replace(&mut self, slot: Slot, ballot: Ballot, seq: PersistSeq) {
        if let Some(loss) = self.losses.get_mut(&slot) {
            assert!(loss.accepted <= ballot, "accepted ballots never fall");
            loss.replaced_by = Some(seq);
        }
    }

    /// A checkpoint covers the slots up to `upto`: what was in their records is known. Returns the
    /// highest of them that cannot be read.
    pub(super) fn forget_upto(&mut self, upto: Slot) -> Option<Slot> {
        let kept = self.losses.split_off(&upto.next());
        let forgotten = core::mem::replace(&mut self.losses, kept);
        forgotten.last_key_value().map(|(&slot, _)| slot)
    }

    /// Everything up to `durable` is on stable storage: what was replaced is lost no longer.
    pub(super) fn on_durable(&mut self, durable: PersistSeq) {
        self.losses
            .retain(|_, loss| loss.replaced_by.is_none_or(|seq| seq > durable));
    }
}
