//! One checkpoint that is being written: three files that fill, and when they may be published.
//!
//! | step | operations | why in this order |
//! | --- | --- | --- |
//! | 0 | `Retract` | only over a newer manifest that could not be used; see [`Operation::Retract`] |
//! | 1 | per file: `Create`, `Write` .., `Sync` | a file's blocks are durable before anything names it |
//! | 2 | `SyncDirectory` | so are the files' names |
//! | 3 | `Publish` | the manifest names them: from here on this checkpoint is the newest |
//! | 4 | `Remove` .. | of what neither generation on disk lists any more |
//!
//! Files fill while rows are pushed, so step 1 runs beside the pushing. After the last row, rows of older
//! accounts files are moved ([`super::compaction`]), and the indexes are built, in bounded steps. A file that
//! got no row is not written; the side tables' always is.

use std::collections::BTreeMap;

use super::block::{ACCOUNT_ROW_BYTES, CONTEXT_BYTES, HISTORY_ROW_BYTES, ID_BYTES, Section};
use super::buckets::{BucketSort, entry};
use super::chunks::Chunks;
use super::compaction::Compaction;
use super::filter::Filter;
use super::footer::{Footer, ROWS_MAX};
use super::name::{Binding, FileId, FileKind, Generation};
use super::operation::Operation;
use super::places::Place;
use super::writer::{FileWriter, Keyed};
use crate::planted::{Bug, planted};

/// Flag of an index entry: the account left the shard; the row number is that of its id.
pub(crate) const ENTRY_GONE: u32 = 1 << 31;
/// Flag of an index entry: other ids may have the same fingerprint.
pub(crate) const ENTRY_SHARED: u32 = 1 << 30;

const _: () = assert!(ROWS_MAX <= ENTRY_SHARED as u64);

/// A checkpoint between its begin and its publishing.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) number: u64,
    pub(crate) slot: u64,
    /// Kept for the manifest.
    pub(crate) mark: Vec<u8>,
    pub(crate) history_from: u64,
    /// Rows of each accounts file that are not the newest any more.
    pub(crate) superseded: BTreeMap<u64, u64>,
    accounts: Output,
    history: Output,
    side: Output,
    account_first: Place,
    own_rows_max: u32,
    account_rows_max: u32,
    /// Rows of the checkpoint itself; those that are moved come behind them.
    own_rows: u32,
    /// Where each moved row lay, in their order: until this is published they are read from there.
    moved_from: Chunks<Place>,
    /// What the accounts' index section will hold.
    entries: Chunks<(u64, u32)>,
    /// What is to be moved of older accounts files, once all is pushed.
    compaction: Compaction,
    /// Who left: in the file these come behind the rows that are moved.
    gone: Chunks<Gone>,
    sort: BucketSort,
    keyed: Keyed,
    stage: Stage,
    /// A manifest that must go before any of its files is written anew.
    retract: Option<Generation>,
    /// The files' names are durable.
    named: bool,
}

/// What a checkpoint begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begin {
    pub(crate) binding: Binding,
    pub(crate) number: u64,
    pub(crate) slot: u64,
    pub(crate) account_first: Place,
    /// Without those that are moved.
    pub(crate) own_rows_max: u32,
    /// With them.
    pub(crate) account_rows_max: u32,
    pub(crate) history_base: u64,
    pub(crate) retract: Option<Generation>,
}

/// What a checkpoint leaves in memory.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) footers: Vec<Footer>,
    /// Where the history file's buckets begin, and its filter.
    pub(crate) found: (Vec<u32>, Filter),
}

/// An account that left.
#[derive(Clone, Copy, Debug)]
struct Gone {
    id: [u8; ID_BYTES],
    fingerprint: u64,
    shared: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Push,
    /// Only rows of older files come.
    Move,
    /// From this account on.
    Gone(usize),
    /// From this entry on.
    Index(usize),
    Sort,
    Built,
}

/// A file of the checkpoint.
#[derive(Debug)]
struct Output {
    writer: FileWriter,
    created: bool,
    /// Once it is complete; `None` for ever if it got no row.
    footer: Option<Footer>,
    synced: bool,
}

impl Checkpoint {
    pub(crate) fn new(begin: Begin) -> Self {
        let number = begin.number;
        let output = |kind| Output {
            writer: FileWriter::new(FileId { kind, number }, begin.binding),
            created: false,
            footer: None,
            synced: false,
        };
        Self {
            number,
            slot: begin.slot,
            mark: Vec::new(),
            history_from: 0,
            superseded: BTreeMap::new(),
            accounts: output(FileKind::Accounts),
            history: output(FileKind::History),
            side: output(FileKind::Side),
            account_first: begin.account_first,
            own_rows_max: begin.own_rows_max,
            account_rows_max: begin.account_rows_max,
            own_rows: 0,
            moved_from: Chunks::default(),
            entries: Chunks::default(),
            compaction: Compaction::default(),
            gone: Chunks::default(),
            sort: BucketSort::default(),
            keyed: Keyed {
                base: begin.history_base,
                key_min: u128::MAX,
                key_max: 0,
            },
            stage: Stage::Push,
            retract: begin.retract,
            named: false,
        }
    }

    pub(crate) fn account(
        &mut self,
        row: &[u8; ACCOUNT_ROW_BYTES],
        fingerprint: u64,
        shared: bool,
    ) -> Place {
        assert_eq!(self.stage, Stage::Push);
        assert_eq!(self.gone.len(), 0, "accounts come before those that left");
        assert!(
            self.own_rows < self.own_rows_max,
            "more accounts than announced"
        );
        self.own_rows += 1;
        self.push_account(row, fingerprint, shared)
    }

    /// A row of an older file, from this place.
    pub(crate) fn moved(
        &mut self,
        row: &[u8; ACCOUNT_ROW_BYTES],
        fingerprint: u64,
        shared: bool,
        from: Place,
    ) -> Place {
        assert_eq!(self.stage, Stage::Move);
        self.moved_from.push(from);
        self.push_account(row, fingerprint, shared)
    }

    /// Where a moved row of this checkpoint lay until now; `None` if the place is no such row's.
    pub(crate) fn moved_from(&self, place: Place) -> Option<Place> {
        let row = place.0.checked_sub(self.account_first.0)?;
        let moved = usize::try_from(row.checked_sub(self.own_rows)?).ok()?;
        (moved < self.moved_from.len()).then(|| self.moved_from.at(moved))
    }

    fn push_account(
        &mut self,
        row: &[u8; ACCOUNT_ROW_BYTES],
        fingerprint: u64,
        shared: bool,
    ) -> Place {
        let number = row_number(self.account_rows());
        assert!(number < self.account_rows_max, "more places than set aside");
        self.accounts.writer.push(Section::AccountRows, row);
        self.entries
            .push((fingerprint, number | shared_flag(shared)));
        Place(self.account_first.0 + number)
    }

    pub(crate) fn gone(&mut self, id: &[u8; ID_BYTES], fingerprint: u64, shared: bool) {
        assert_eq!(self.stage, Stage::Push);
        self.gone.push(Gone {
            id: *id,
            fingerprint,
            shared,
        });
    }

    pub(crate) fn history(
        &mut self,
        row: &[u8; HISTORY_ROW_BYTES],
        fingerprint: u64,
        key: u128,
    ) -> u64 {
        assert_eq!(self.stage, Stage::Push);
        let position = self.keyed.base + self.history_rows();
        self.sort.push(fingerprint);
        self.history.writer.push(Section::HistoryRows, row);
        self.keyed.key_min = self.keyed.key_min.min(key);
        self.keyed.key_max = self.keyed.key_max.max(key);
        position
    }

    pub(crate) fn context(&mut self, context: &[u8; CONTEXT_BYTES]) -> u32 {
        assert_eq!(self.stage, Stage::Push);
        assert!(self.history_rows() > 0, "a context without a row");
        let number = row_number(self.history.writer.rows(Section::Contexts));
        self.history.writer.push(Section::Contexts, context);
        number
    }

    pub(crate) fn side(&mut self, bytes: &[u8]) {
        assert_eq!(self.stage, Stage::Push);
        self.side.writer.push_bytes(Section::Side, bytes);
    }

    pub(crate) fn finish(&mut self, mark: &[u8], history_from: u64, compaction: Compaction) {
        assert_eq!(self.stage, Stage::Push);
        self.mark = mark.to_vec();
        self.history_from = history_from;
        self.compaction = compaction;
        self.stage = Stage::Move;
    }

    /// What is being moved; `None` before and after.
    pub(crate) fn compaction(&self) -> Option<&Compaction> {
        (self.stage == Stage::Move).then_some(&self.compaction)
    }

    pub(crate) fn compaction_mut(&mut self) -> &mut Compaction {
        assert_eq!(self.stage, Stage::Move);
        &mut self.compaction
    }

    /// How many of a file's row blocks hold no live row, if this checkpoint swept it.
    pub(crate) fn swept_of(&self, number: u64) -> Option<u32> {
        self.compaction.swept_of(number)
    }

    /// Works on at most about `rows_max` rows. False if there was nothing to do: rows are to be moved, or only writing is
    /// left. True, the last time, from the step that leaves something to be written.
    pub(crate) fn step(&mut self, rows_max: usize) -> bool {
        match self.stage {
            Stage::Push | Stage::Built => return false,
            Stage::Move if self.compaction.next_run().is_some() => return false,
            Stage::Move => self.stage = Stage::Gone(0),
            Stage::Gone(from) => self.write_gone(from, rows_max),
            Stage::Index(from) => {
                let end = self.entries.len().min(from + rows_max);
                for index in from..end {
                    let (fingerprint, code) = self.entries.at(index);
                    let entry = entry(fingerprint, code);
                    self.accounts.writer.push(Section::AccountIndex, &entry);
                    self.entries.release_upto(index);
                }
                self.stage = Stage::Index(end);
                if end == self.entries.len() {
                    self.stage = Stage::Sort;
                    if end > 0 {
                        self.accounts.finish(Keyed::default());
                    }
                }
            }
            Stage::Sort => {
                let more =
                    self.history_rows() > 0 && self.sort.step(&mut self.history.writer, rows_max);
                if !more {
                    if self.history_rows() > 0 {
                        self.history.finish(self.keyed);
                    }
                    self.side.finish(Keyed::default());
                    self.stage = Stage::Built;
                }
            }
        }
        self.stage != Stage::Built || !planted(Bug::LastStepWaits)
    }

    fn write_gone(&mut self, from: usize, rows_max: usize) {
        let end = self.gone.len().min(from + rows_max);
        for index in from..end {
            let gone = self.gone.at(index);
            let number = row_number(self.accounts.writer.rows(Section::Gone));
            self.accounts.writer.push(Section::Gone, &gone.id);
            let code = number | ENTRY_GONE | shared_flag(gone.shared);
            self.entries.push((gone.fingerprint, code));
            self.gone.release_upto(index);
        }
        self.stage = match end == self.gone.len() {
            true => Stage::Index(0),
            false => Stage::Gone(end),
        };
    }

    pub(crate) fn account_rows(&self) -> u64 {
        self.accounts.writer.rows(Section::AccountRows)
    }

    pub(crate) fn history_rows(&self) -> u64 {
        self.history.writer.rows(Section::HistoryRows)
    }

    pub(crate) fn history_next(&self) -> u64 {
        self.keyed.base + self.history_rows()
    }

    pub(crate) fn ready_bytes(&self) -> usize {
        let outputs = self.outputs().into_iter();
        outputs.map(|output| output.writer.ready_bytes()).sum()
    }

    /// Whether every file and its name is durable: the manifest may be published.
    pub(crate) fn is_written(&self) -> bool {
        self.named
    }

    /// The files that were written.
    pub(crate) fn footers(&self) -> impl Iterator<Item = &Footer> {
        let outputs = self.outputs().into_iter();
        outputs.filter_map(|output| output.footer.as_ref())
    }

    pub(crate) fn next_operation(&mut self) -> Option<Operation> {
        if let Some(generation) = self.retract {
            return Some(Operation::Retract { generation });
        }
        for output in [&mut self.accounts, &mut self.history, &mut self.side] {
            if let Some(operation) = output.next_operation() {
                return Some(operation);
            }
        }
        // Only now that every file is synced.
        (self.stage == Stage::Built && !self.named).then_some(Operation::SyncDirectory)
    }

    pub(crate) fn finish_operation(&mut self, operation: Operation) {
        match operation {
            Operation::Create { file } => self.output(file).created = true,
            Operation::Write { file, bytes, .. } => self.output(file).writer.give_back(bytes),
            Operation::Sync { file } => self.output(file).synced = true,
            Operation::SyncDirectory => self.named = true,
            Operation::Retract { .. } => self.retract = None,
            Operation::Publish { .. } | Operation::Remove { .. } => {
                unreachable!("these are the store's")
            }
        }
    }

    pub(crate) fn into_finished(self) -> Finished {
        assert!(self.named);
        let found = match self.history.footer {
            Some(_) => self.sort.into_parts(),
            None => Default::default(),
        };
        let outputs = [self.accounts, self.history, self.side];
        Finished {
            footers: outputs
                .into_iter()
                .filter_map(|output| output.footer)
                .collect(),
            found,
        }
    }

    fn outputs(&self) -> [&Output; 3] {
        [&self.accounts, &self.history, &self.side]
    }

    fn output(&mut self, file: FileId) -> &mut Output {
        let output = match file.kind {
            FileKind::Accounts => &mut self.accounts,
            FileKind::History => &mut self.history,
            FileKind::Side => &mut self.side,
        };
        assert_eq!(output.writer.file(), file);
        output
    }
}

impl Output {
    fn finish(&mut self, keyed: Keyed) {
        self.footer = Some(self.writer.finish(keyed));
    }

    fn next_operation(&mut self) -> Option<Operation> {
        let file = self.writer.file();
        if self.writer.ready_bytes() > 0 && !self.created {
            return Some(Operation::Create { file });
        }
        if let Some((offset, bytes)) = self.writer.take() {
            return Some(Operation::Write {
                file,
                offset,
                bytes,
            });
        }
        let is_due = self.footer.is_some() && !self.synced && !planted(Bug::CheckpointNotSynced);
        is_due.then_some(Operation::Sync { file })
    }
}

fn row_number(rows: u64) -> u32 {
    assert!(rows < ROWS_MAX, "{rows} rows");
    u32::try_from(rows).expect("below 2^30")
}

fn shared_flag(shared: bool) -> u32 {
    if shared { ENTRY_SHARED } else { 0 }
}
