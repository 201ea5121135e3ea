//! The transfer index: which ids were used here and how they ended.
//!
//! Two sides: ids that this shard decided (it owned the debit account), recorded once whatever the
//! result; and ids that it posted as the credit side, keyed with the coordinator that decided them,
//! because the same id may be in use at two debit accounts on two shards.
//!
//! ```text
//!   position   1 ....... | .................. | ................ | ............... end
//!              `dropped` | in the store       | `older`          | `current`
//!                        | (`stored`)         | the last checkpoint's rows are kept one interval longer:
//!                                               clients send the newest ids again, not old ones
//! ```
//!
//! An id that may be in the store and was not asked for there is [`Known::NotLoaded`]. Nobody may take
//! that for "unused": the replica asks the store first (`replica::loads`), before it applies an entry
//! and before it answers.

mod chain;
mod generation;
pub mod record;
pub(crate) mod retention;
mod stored;

use alloc::vec::Vec;

pub use chain::ChainQuestion;
pub(crate) use generation::Generation;
pub use record::{HistoryPosition, Record, RecordName};
use stored::Stored;

use crate::ids::{ShardId, Slot, TransferId};
use crate::planted::{Bug, planted};

/// What is known of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<'a> {
    Used(&'a Record),
    Unused,
    /// The store has to be asked.
    NotLoaded,
}

impl<'a> Known<'a> {
    /// The row, if the id was used.
    ///
    /// # Panics
    /// If that is not known: whoever calls this has made sure of it (`Ledger::missing`).
    #[must_use]
    pub fn loaded(self) -> Option<&'a Record> {
        match self {
            Self::Used(record) => Some(record),
            Self::Unused => None,
            Self::NotLoaded => panic!("the store was not asked about a transfer id"),
        }
    }

    /// The row, if it is known that there is one. For admission only: apply decides.
    #[must_use]
    pub fn if_loaded(self) -> Option<&'a Record> {
        match self {
            Self::Used(record) => Some(record),
            Self::Unused | Self::NotLoaded => None,
        }
    }
}

/// Rows that are let go of; see `retention`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Position of the first row that is kept; none: all are.
    pub from: HistoryPosition,
    /// Rows of entries up to this slot are gone, and none of a later one.
    pub slot: Slot,
}

/// Both sides of the index.
#[derive(Debug)]
pub struct History {
    current: Generation,
    older: Generation,
    stored: Stored,
    dropped: Dropped,
    /// Order-independent sum over all rows since ever.
    digest: u128,
}

impl Default for History {
    fn default() -> Self {
        Self {
            current: Generation::at(1),
            older: Generation::at(1),
            stored: Stored::default(),
            dropped: Dropped::default(),
            digest: 0,
        }
    }
}

impl History {
    /// The history of which all rows below `next` are in the store.
    #[must_use]
    pub(crate) fn restored(next: HistoryPosition, id_max: u128, digest: u128) -> Self {
        let mut history = Self {
            current: Generation::at(next.0),
            older: Generation::at(next.0),
            stored: Stored::default(),
            dropped: Dropped::default(),
            digest,
        };
        let is_forgotten = planted(Bug::StoredIdsForgotten);
        history.stored.grow(if is_forgotten { 0 } else { id_max });
        history
    }

    /// The use of an id that this shard decided.
    #[must_use]
    pub fn debit(&self, id: TransferId) -> Known<'_> {
        self.known(ShardId(0), id)
    }

    /// The transfer posted here as credit side under this id by `coordinator`.
    #[must_use]
    pub fn credit(&self, coordinator: ShardId, id: TransferId) -> Known<'_> {
        self.known(coordinator, id)
    }

    /// Everything posted here as credit side under this id, by the shard that decided it; what is not
    /// loaded is left out.
    pub fn credits(&self, shards: u32, id: TransferId) -> impl Iterator<Item = &Record> {
        (1..=shards).filter_map(move |shard| self.credit(ShardId(shard), id).if_loaded())
    }

    /// The row at a position, if it is in memory. All rows below those in memory are in the store, but for
    /// those that are dropped.
    #[must_use]
    pub(crate) fn at(&self, position: HistoryPosition) -> Option<&Record> {
        let recent = self.current.at_position(position);
        recent.or_else(|| self.older.at_position(position))
    }

    /// `coordinator` zero: this shard decided it.
    pub(crate) fn known(&self, coordinator: ShardId, id: TransferId) -> Known<'_> {
        let recent = self.current.get(coordinator, id);
        match recent.or_else(|| self.older.get(coordinator, id)) {
            Some(record) => Known::Used(record),
            None => match self.stored.get(coordinator, id) {
                Some(Some(record)) => Known::Used(record),
                Some(None) => Known::Unused,
                None => Known::NotLoaded,
            },
        }
    }

    /// Records a use of an id.
    ///
    /// # Panics
    /// If the id was used: the caller has checked, and using it twice would be money from nothing.
    pub(crate) fn record(&mut self, record: Record) -> HistoryPosition {
        // The newest rows are looked at when this one is added to them.
        let (coordinator, id) = (record.coordinator, record.id);
        let is_older = self.older.get(coordinator, id).is_some();
        let is_unused = !is_older && self.stored.get(coordinator, id) == Some(None);
        assert!(
            is_unused,
            "transfer {id} decided by {coordinator} recorded twice"
        );
        self.digest = self.digest.wrapping_add(record.digest());
        self.current.push(record)
    }

    /// Takes the store's answers to one question. What is dropped may still lie there.
    pub(crate) fn learn(&mut self, mut answers: Vec<(RecordName, Option<Record>)>) {
        for (_, found) in &mut answers {
            *found = found.filter(|record| record.slot > self.dropped.slot);
        }
        self.stored.learn(answers);
    }

    /// Lets rows go that no checkpoint has still to write. Right after [`Self::freeze`]: what the store answered
    /// before is forgotten.
    pub(crate) fn let_go(&mut self, dropped: Dropped) {
        assert!(self.dropped.from <= dropped.from && dropped.from <= self.older.first());
        self.dropped = dropped;
    }

    /// What is let go of.
    pub(crate) fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Whether an id may be in the store; the others need no question.
    #[must_use]
    pub(crate) fn may_be_stored(&self, id: TransferId) -> bool {
        id.0 <= self.stored.id_max
    }

    /// Changes when rows leave memory for the store: what it answered to an earlier question does not
    /// count them.
    #[must_use]
    pub(crate) fn growth(&self) -> u64 {
        self.stored.growth
    }

    /// The rows since the last checkpoint become the ones to write; those that were written by the
    /// last one leave memory.
    pub(crate) fn freeze(&mut self) {
        let (end, lately) = (self.current.end(), self.current.len());
        let frozen = core::mem::take(&mut self.current);
        let written = core::mem::replace(&mut self.older, frozen);
        self.stored.grow(written.id_max());
        self.current = written.reusing(end, lately);
    }

    /// The rows that the checkpoint under way writes.
    pub(crate) fn frozen(&self) -> &Generation {
        &self.older
    }

    /// The position that the next row gets.
    #[must_use]
    pub fn next_position(&self) -> HistoryPosition {
        HistoryPosition(self.current.end())
    }

    /// The highest id of any row that is or will be in the store with the checkpoint under way.
    pub(crate) fn stored_id_max(&self) -> u128 {
        self.stored.id_max.max(self.older.id_max())
    }

    /// Number of rows since ever.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.current.end() - 1
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Order-independent digest of all rows.
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.digest
    }
}
