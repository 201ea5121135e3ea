//! What the store holds of the history, as far as it is known in memory.
//!
//! The store answers look-ups with rows or with "no such id"; both are kept here until they may be
//! out of date, which is when a generation leaves memory for the store.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::ids::{ShardId, TransferId};
use crate::ledger::history::record::{Record, RecordName};
use crate::limits::LOADED_MAX;
use crate::planted::{Bug, planted};

/// The part of the history that is not in memory.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// The highest id in the store; 0: it holds none.
    pub id_max: u128,
    /// How often it has grown.
    pub growth: u64,
    answers: BTreeMap<(ShardId, TransferId), Option<Record>>,
}

impl Stored {
    /// What is known of an id: a row, that there is none, or nothing yet.
    pub fn get(&self, coordinator: ShardId, id: TransferId) -> Option<Option<&Record>> {
        if id.0 > self.id_max {
            return Some(None);
        }
        let known = self.answers.get(&(coordinator, id)).map(Option::as_ref);
        known.or(planted(Bug::NotLoadedIsUnused).then_some(None))
    }

    /// Takes the store's answers to one question; they are all kept until the next one's.
    pub fn learn(&mut self, answers: Vec<(RecordName, Option<Record>)>) {
        if self.answers.len() + answers.len() > LOADED_MAX {
            self.answers.clear();
        }
        let keyed = answers.into_iter();
        self.answers
            .extend(keyed.map(|(name, found)| ((name.coordinator, name.id), found)));
    }

    /// A generation with ids up to `id_max` has become part of the store: "no such id" may be wrong
    /// from now on.
    pub fn grow(&mut self, id_max: u128) {
        self.id_max = self.id_max.max(id_max);
        self.growth += 1;
        if !planted(Bug::AnswersKept) {
            self.answers.clear();
        }
    }
}
