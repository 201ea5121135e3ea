//! The store itself: what is published and what is being written. What can be read of it is in
//! [`super::rows`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use thiserror::Error;

use super::block::{ACCOUNT_ROW_BYTES, CONTEXT_BYTES, HISTORY_ROW_BYTES, ID_BYTES, Section};
use super::checkpoint::{Begin, Checkpoint};
use super::compaction::{self, Compaction, Kept};
use super::filter::FILTER_BYTES_MAX;
use super::footer::{Footer, ROWS_MAX};
use super::history::{HistoryFile, HistoryFiles};
use super::manifest::{FILES_MAX, Listed, MARK_BYTES_MAX, Manifest};
use super::name::{Binding, FileId, FileKind, Generation, NUMBER_MAX};
use super::operation::{Open, Operation};
use super::places::{Place, Places};
use crate::planted::{Bug, planted};

/// Files that one checkpoint writes at most.
const CHECKPOINT_FILES_MAX: usize = 3;

/// A checkpoint is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    pub number: u64,
    /// The last slot whose effects are in it.
    pub slot: u64,
}

/// What was written since the store was opened, for write amplification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Published.
    pub checkpoints: u64,
    /// Those that were moved included.
    pub account_rows: u64,
    pub history_rows: u64,
    /// Account rows that were moved, and the blocks that were read for it.
    pub rows_moved: u64,
    pub blocks_swept: u64,
    /// Checkpoints that were not begun.
    pub refused: u64,
    /// Bytes of data files, headers, indexes and padding included.
    pub file_bytes: u64,
    pub manifest_bytes: u64,
    pub files_removed: u64,
}

/// Why a checkpoint is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BeginError {
    /// Let go of history ([`Finish::history_from`]).
    #[error("{files} files, {FILES_MAX} with those of a checkpoint are the most")]
    Files { files: usize },
    /// Of one checkpoint, or of all files together.
    #[error("no room for {rows} account rows")]
    Rows { rows: u64 },
}

/// What the end of a checkpoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finish<'a> {
    /// Kept in the manifest; at most [`MARK_BYTES_MAX`] bytes. The same on every replica.
    pub mark: &'a [u8],
    /// History rows below this position are not needed any more; files that hold nothing else are
    /// dropped. 0 keeps all. The same on every replica.
    pub history_from: u64,
}

/// The manifest beside the one in use.
#[derive(Clone, Debug)]
pub(crate) struct Older {
    pub(crate) manifest: Manifest,
    /// All of its files are as it says: the next start may have to use it.
    pub(crate) complete: bool,
}

/// The store of one replica.
#[derive(Debug)]
pub struct Store {
    pub(crate) binding: Binding,
    /// Of the last published checkpoint.
    pub(crate) current: Manifest,
    /// The other generation's, if it can be read.
    pub(crate) other: Option<Older>,
    /// A manifest that may be newer and could not be used: the files written next may have the names of
    /// its own, so it goes first.
    pub(crate) unusable: Option<Generation>,
    /// Of the files that `current` lists.
    pub(crate) footers: BTreeMap<FileId, Footer>,
    pub(crate) history: HistoryFiles,
    pub(crate) places: Places,
    /// Data files that exist, whoever lists them.
    pub(crate) on_disk: BTreeSet<FileId>,
    pub(crate) running: Option<Checkpoint>,
    pub(crate) slack_blocks: u64,
    /// What is being published, or would be next.
    pub(crate) publishing: Option<Manifest>,
    pub(crate) removals: VecDeque<FileId>,
    pub(crate) operation_open: Option<Open>,
    pub(crate) counters: Counters,
}

impl Store {
    /// The manifest of the last published checkpoint; its number is 0 if there is none.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.current
    }

    /// The log is needed from the slot behind this one on: the older generation may be the one that the
    /// next start can use.
    #[must_use]
    pub fn log_needed_from(&self) -> u64 {
        let older = self.other.as_ref().filter(|other| other.complete);
        older.map_or(self.current.slot, |older| {
            older.manifest.slot.min(self.current.slot)
        })
    }

    /// The manifests that can be read, the newest one first. Files that only the second lists may be missing.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        let other = self.other.as_ref().map(|older| &older.manifest);
        [&self.current]
            .into_iter()
            .chain(other)
            .filter(|manifest| manifest.number > 0)
    }

    /// The manifests all of whose files are as they say.
    pub fn whole_manifests(&self) -> impl Iterator<Item = &Manifest> {
        let other = self.other.as_ref().filter(|older| older.complete);
        [&self.current]
            .into_iter()
            .chain(other.map(|older| &older.manifest))
    }

    /// A manifest that may be newer and cannot be used: it has to be retracted before anything is written.
    #[must_use]
    pub fn unusable(&self) -> Option<Generation> {
        self.unusable
    }

    /// Whose store it is.
    #[must_use]
    pub fn binding(&self) -> Binding {
        self.binding
    }

    /// What was written since the store was opened.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Begins the next checkpoint, of everything up to `slot`, and returns its number. For its accounts
    /// `account_rows_max` places are set aside, and as many as it may move rows ([`Store::moving`]).
    ///
    /// # Errors
    /// If there is no room for another one. Nothing has changed, but for [`Counters::refused`].
    ///
    /// # Panics
    /// If one is running, or the slot is below the last one's.
    pub fn begin(&mut self, slot: u64, account_rows_max: u32) -> Result<u64, BeginError> {
        assert!(self.running.is_none(), "one checkpoint at a time");
        assert!(slot >= self.current.slot);
        let number = self.current.number + 1;
        assert!(number < NUMBER_MAX);
        let room = self.room(number, account_rows_max);
        let (account_first, rows_max) = room.inspect_err(|_| self.counters.refused += 1)?;
        self.running = Some(Checkpoint::new(Begin {
            binding: self.binding,
            number,
            slot,
            account_first,
            own_rows_max: account_rows_max,
            account_rows_max: rows_max,
            history_base: self.current.history_next,
            retract: self.unusable,
        }));
        Ok(number)
    }

    /// Places for the account rows of a checkpoint, moved ones included, and how many.
    fn room(&mut self, number: u64, own_rows_max: u32) -> Result<(Place, u32), BeginError> {
        let files = self.current.files.len();
        if files + CHECKPOINT_FILES_MAX > FILES_MAX {
            return Err(BeginError::Files { files });
        }
        let live = self.account_files().map(|file| file.live).sum();
        let own = u64::from(own_rows_max);
        let rows = own + compaction::moves_max(own, live);
        let full = BeginError::Rows { rows };
        if rows > ROWS_MAX {
            return Err(full);
        }
        let rows = u32::try_from(rows).expect("at most 2^30");
        let first = self.places.assign(number, rows).ok_or(full)?;
        Ok((first, rows))
    }

    /// Lets so many blocks be wasted before rows are moved, instead of the usual 16: for small stores that are
    /// to be compacted all the same. The same on every replica.
    pub fn allow_waste(&mut self, blocks: u64) {
        self.slack_blocks = blocks;
    }

    /// Whether a checkpoint was begun and is not yet published.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// An account as of the checkpoint; each account once. `superseded` is where its newest row lay until
    /// now. `shared` says that another id with this fingerprint has a row in the store or was pushed in
    /// this checkpoint (true is always safe, and costs a read at the next start). The row can be read from its
    /// place once the checkpoint is published.
    ///
    /// # Panics
    /// If no checkpoint takes rows, an account was already said to be gone, more come than were announced,
    /// or `superseded` is no published row's place.
    pub fn account(
        &mut self,
        row: &[u8; ACCOUNT_ROW_BYTES],
        fingerprint: u64,
        shared: bool,
        superseded: Option<Place>,
    ) -> Place {
        if let Some(place) = superseded {
            self.supersede(place);
        }
        self.running_mut().account(row, fingerprint, shared)
    }

    /// An account that has a row in the store left the shard. After all accounts of the checkpoint;
    /// `superseded` and `shared` as for [`Store::account`].
    ///
    /// # Panics
    /// If no checkpoint takes rows, or `superseded` is no published row's place.
    pub fn gone(&mut self, id: &[u8; ID_BYTES], fingerprint: u64, shared: bool, superseded: Place) {
        self.supersede(superseded);
        self.running_mut().gone(id, fingerprint, shared);
    }

    /// The next thing that took effect. Returns its position.
    ///
    /// # Panics
    /// If no checkpoint takes rows, a context was already pushed, or there are
    /// [`super::HISTORY_ROWS_MAX`] rows.
    pub fn history(&mut self, row: &[u8; HISTORY_ROW_BYTES], fingerprint: u64, key: u128) -> u64 {
        self.running_mut().history(row, fingerprint, key)
    }

    /// What some of the checkpoint's history rows share; after all of these. Returns its number among the
    /// contexts of the file, from 0.
    ///
    /// # Panics
    /// If no checkpoint takes rows, or there is no history row.
    pub fn context(&mut self, context: &[u8; CONTEXT_BYTES]) -> u32 {
        self.running_mut().context(context)
    }

    /// Further bytes of the side tables.
    ///
    /// # Panics
    /// If no checkpoint takes rows.
    pub fn side(&mut self, bytes: &[u8]) {
        self.running_mut().side(bytes);
    }

    /// All of the checkpoint is pushed, and it is decided what it moves ([`Store::moving`]). What is left to do
    /// then is done by [`Store::step`].
    ///
    /// # Panics
    /// If no checkpoint takes rows, or the mark is too long.
    pub fn finish(&mut self, finish: Finish<'_>) {
        assert!(finish.mark.len() <= MARK_BYTES_MAX);
        let kept = self.kept_accounts();
        let slack_blocks = self.slack_blocks;
        let running = self.running_mut();
        let compaction = Compaction::choose(&kept, running.account_rows(), slack_blocks);
        running.finish(finish.mark, finish.history_from, compaction);
    }

    /// Builds the indexes of a finished checkpoint, at most about `rows_max` rows of work per call (8,192
    /// take some 100 us). False if there was nothing to do: rows are to be moved, or only operations are left.
    ///
    /// # Panics
    /// If `rows_max` is 0: it would never end.
    pub fn step(&mut self, rows_max: usize) -> bool {
        assert!(rows_max > 0);
        let running = self.running.as_mut();
        running.is_some_and(|running| running.step(rows_max))
    }

    /// Bytes that [`Store::next_operation`] will write, without those of the open operation. While these are too
    /// many the caller neither pushes nor steps. Extents that are being filled, one per file, are not among them:
    /// nothing but pushing and stepping ever makes them ready.
    #[must_use]
    pub fn ready_bytes(&self) -> usize {
        self.running.as_ref().map_or(0, Checkpoint::ready_bytes)
    }

    /// The next file operation to carry out, if one is due and none is open.
    pub fn next_operation(&mut self) -> Option<Operation> {
        if self.operation_open.is_some() {
            return None;
        }
        let operation = self.due()?;
        self.operation_open = Some(Open::of(&operation));
        Some(operation)
    }

    /// The operation is done; its bytes come back for reuse. Says so if that published the checkpoint.
    ///
    /// # Panics
    /// If it is not the open one.
    pub fn finish_operation(&mut self, operation: Operation) -> Option<Published> {
        assert_eq!(self.operation_open.take(), Some(Open::of(&operation)));
        match operation {
            Operation::Publish { bytes, .. } => {
                self.counters.manifest_bytes += bytes.len() as u64;
                return Some(self.adopt());
            }
            Operation::Remove { file } => {
                self.on_disk.remove(&file);
                self.counters.files_removed += 1;
                return None;
            }
            Operation::Create { file } => {
                self.on_disk.insert(file);
            }
            Operation::Write { ref bytes, .. } => {
                self.counters.file_bytes += bytes.len() as u64;
            }
            Operation::Retract { .. } => {
                self.unusable = None;
                self.other = None;
            }
            Operation::Sync { .. } | Operation::SyncDirectory => {}
        }
        self.running_mut().finish_operation(operation);
        None
    }

    fn running_mut(&mut self) -> &mut Checkpoint {
        self.running.as_mut().expect("a checkpoint is running")
    }

    pub(crate) fn supersede(&mut self, place: Place) {
        let (number, _) = self.places.locate(place).expect("a row has this place");
        let running = self.running.as_mut().expect("a checkpoint is running");
        assert!(number < running.number, "an account comes once");
        *running.superseded.entry(number).or_default() += 1;
    }

    fn due(&mut self) -> Option<Operation> {
        if let Some(file) = self.removals.pop_front() {
            return Some(Operation::Remove { file });
        }
        let running = self.running.as_mut()?;
        if let Some(operation) = running.next_operation() {
            return Some(operation);
        }
        if !running.is_written() {
            return None;
        }
        let manifest = self.next_manifest();
        let operation = Operation::Publish {
            generation: Generation::of(manifest.number),
            bytes: manifest.encode(),
        };
        self.publishing = Some(manifest);
        Some(operation)
    }

    /// What the running checkpoint publishes.
    fn next_manifest(&self) -> Manifest {
        let running = self.running.as_ref().expect("a checkpoint is running");
        let mut files = self.carried_accounts();
        files.extend(self.current.files_of(FileKind::History).filter(|listed| {
            let footer = &self.footers[&listed.file];
            footer.base + footer.rows(Section::HistoryRows) > running.history_from
        }));
        files.extend(running.footers().map(|footer| Listed {
            file: footer.file,
            blocks: footer.blocks,
            content: footer.content,
            live: footer.rows(Section::AccountRows),
            swept: 0,
        }));
        files.sort_by_key(|listed| listed.file);
        Manifest {
            binding: self.binding,
            number: running.number,
            slot: running.slot,
            history_next: running.history_next(),
            mark: running.mark.clone(),
            files,
        }
    }

    /// The accounts files that are still needed, as the manifest says it.
    fn carried_accounts(&self) -> Vec<Listed> {
        let listed = |kept: Kept| {
            let file = FileId {
                kind: FileKind::Accounts,
                number: kept.number,
            };
            let before = self.current.find(file).expect("it was listed");
            Listed {
                live: kept.live,
                swept: kept.swept,
                ..*before
            }
        };
        self.kept_accounts().into_iter().map(listed).collect()
    }

    /// The checkpoint is published: what it says is what the store is.
    fn adopt(&mut self) -> Published {
        let running = self.running.take().expect("a checkpoint is running");
        let manifest = self.publishing.take().expect("a manifest was given out");
        let rows = u32::try_from(running.account_rows()).expect("at most as announced");
        self.places.shorten(running.number, rows);
        self.counters.checkpoints += 1;
        self.counters.account_rows += running.account_rows();
        self.counters.history_rows += running.history_rows();
        let published = Published {
            number: running.number,
            slot: running.slot,
        };

        let older = std::mem::replace(&mut self.current, manifest);
        for listed in &older.files {
            if !self.current.lists(listed.file) {
                self.forget(listed.file);
            }
        }
        let finished = running.into_finished();
        let mut found = Some(finished.found);
        for footer in finished.footers {
            if footer.file.kind == FileKind::History {
                let found = found.take().expect("one history file");
                let file = HistoryFile::written(footer.clone(), found);
                self.history.insert(file);
                self.history.bound_filters(FILTER_BYTES_MAX);
            }
            self.footers.insert(footer.file, footer);
        }
        let current = &self.current;
        let is_early = planted(Bug::FilesRemovedEarly);
        let obsolete =
            |file: &&FileId| !current.lists(**file) && (is_early || !older.lists(**file));
        self.removals = self.on_disk.iter().filter(obsolete).copied().collect();
        // Number 0 stands for no manifest at all.
        self.other = (older.number > 0).then_some(Older {
            manifest: older,
            complete: true,
        });
        published
    }

    fn forget(&mut self, file: FileId) {
        self.footers.remove(&file);
        match file.kind {
            FileKind::Accounts => self.places.free(file.number),
            FileKind::History => self.history.remove(file.number),
            FileKind::Side => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Read, Unreadable, open};

    struct Nothing;

    impl Read for Nothing {
        fn read(&mut self, _: &str, _: u64, _: &mut [u8]) -> Result<(), Unreadable> {
            Err(Unreadable)
        }
    }

    fn store() -> Store {
        let binding = Binding {
            cluster: 7,
            shard: 2,
        };
        open(&[], &mut Nothing, binding).unwrap().store
    }

    /// Nothing changes, and nothing is lost: what is in the store stays, the log is kept.
    #[test]
    fn a_checkpoint_without_room_is_not_begun() {
        let mut store = store();
        let listed = |number| Listed {
            file: FileId {
                kind: FileKind::Side,
                number,
            },
            blocks: 1,
            content: 0,
            live: 0,
            swept: 0,
        };
        let files = FILES_MAX as u64 - 2;
        store.current.files = (1..=files).map(listed).collect();
        let error = store.begin(5, 10).unwrap_err();
        assert_eq!(
            error.to_string(),
            "65534 files, 65536 with those of a checkpoint are the most"
        );
        assert!(!store.is_running() && store.next_operation().is_none());
        assert_eq!(store.counters().refused, 1);
        store.current.files.pop();
        let error = store.begin(5, u32::MAX).unwrap_err();
        assert!(matches!(error, BeginError::Rows { .. }), "{error}");
        assert_eq!(store.begin(5, 10), Ok(1));
        assert_eq!(store.counters().refused, 2);
    }
}
