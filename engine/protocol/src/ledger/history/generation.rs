//! The rows recorded between two checkpoints, with the ids they are found under.

use alloc::vec::Vec;

use crate::ids::{ShardId, TransferId};
use crate::ledger::history::record::{HistoryPosition, Record};
use crate::limits::COORDINATORS_MAX;
use crate::table::{Keyed, Records, neighbours};

impl Keyed for Record {
    /// The shard that decided the transfer, zero for this one, and its id.
    type Key = (ShardId, TransferId);
    const WHAT: &str = "transfer, by who decided it,";

    fn key(&self) -> Self::Key {
        (self.coordinator, self.id)
    }

    /// A client's ids count up, from a new beginning every millisecond, and its rows come one behind the other.
    fn hash((coordinator, id): &Self::Key) -> u64 {
        neighbours(id.0, coordinator)
    }
}

/// Intervals take about as many rows as the one before; after a rush the memory for it is given back.
const ROOM_PER_ROW: usize = 4;
/// Rows whose memory is never worth giving back.
const ROOM_LEAST: usize = 1 << 14;

/// Rows of one interval between checkpoints, in the order in which they were recorded.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    /// Position of the first row.
    first: u64,
    records: Records<Record>,
    ids_max: IdsMax,
}

/// The highest id of each coordinator: nothing above needs to be looked up, and most new ids are above. Those of one
/// coordinator mostly come in their order, those of several do not.
/// Should there be more coordinators than can be, the highest of all is that of each of the others.
#[derive(Debug, Default)]
struct IdsMax {
    by_coordinator: Vec<u128>,
    highest: u128,
}

impl IdsMax {
    fn of(&self, coordinator: ShardId) -> u128 {
        match place(coordinator) {
            Some(place) => self.by_coordinator.get(place).copied().unwrap_or(0),
            None => self.highest,
        }
    }

    fn note(&mut self, coordinator: ShardId, id: TransferId) {
        self.highest = self.highest.max(id.0);
        let Some(place) = place(coordinator) else {
            return;
        };
        if place >= self.by_coordinator.len() {
            self.by_coordinator.resize(place + 1, 0);
        }
        self.by_coordinator[place] = self.by_coordinator[place].max(id.0);
    }
}

fn place(coordinator: ShardId) -> Option<usize> {
    let place = usize::try_from(coordinator.0).ok()?;
    (place < COORDINATORS_MAX).then_some(place)
}

impl Generation {
    /// An empty one whose first row will lie at `first`.
    pub fn at(first: u64) -> Self {
        Self {
            first,
            ..Self::default()
        }
    }

    /// An empty one in the memory of one that is not needed any more, unless that has far more room than what
    /// came `lately` took.
    pub fn reusing(mut self, first: u64, lately: usize) -> Self {
        if self.records.room() > lately.saturating_mul(ROOM_PER_ROW).max(ROOM_LEAST) {
            return Self::at(first);
        }
        self.records.clear();
        Self {
            first,
            records: self.records,
            ids_max: IdsMax::default(),
        }
    }

    /// The row of an id that `coordinator` decided (zero: this shard).
    pub fn get(&self, coordinator: ShardId, id: TransferId) -> Option<&Record> {
        if id.0 > self.ids_max.of(coordinator) {
            return None;
        }
        let place = self.records.find(&(coordinator, id))?;
        Some(self.records.at(place))
    }

    /// The row at a position of the whole history.
    pub fn at_position(&self, position: HistoryPosition) -> Option<&Record> {
        let index = u32::try_from(position.0.checked_sub(self.first)?).ok()?;
        (index < self.records.end()).then(|| self.records.at(index))
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If the id has one: the caller has checked, and a second one would be money from nothing.
    pub fn push(&mut self, record: Record) -> HistoryPosition {
        let position = self.end();
        self.ids_max.note(record.coordinator, record.id);
        self.records.insert(record);
        HistoryPosition(position)
    }

    /// Rows from the `from`th on, in order.
    pub fn rows_from(&self, from: u32) -> impl Iterator<Item = &Record> {
        (from..self.records.end()).map(|index| self.records.at(index))
    }

    /// Position of the first row.
    pub fn first(&self) -> HistoryPosition {
        HistoryPosition(self.first)
    }

    /// The oldest and the newest row, if there is one.
    pub fn first_and_last(&self) -> Option<(&Record, &Record)> {
        let last = self.records.end().checked_sub(1)?;
        Some((self.records.at(0), self.records.at(last)))
    }

    /// The position that the next row gets.
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.records.end())
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// The highest id in it, whoever decided it.
    pub fn id_max(&self) -> u128 {
        self.ids_max.highest
    }
}
