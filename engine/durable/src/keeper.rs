//! The store of a replica while it runs: takes the parts of a checkpoint, says what is to be carried out,
//! and tells the core how far it is.
//!
//! ```text
//! core   --- CheckpointPart --> Keeper --- Operation --> shell
//! core   <-- CheckpointRoom ---        <-- finished ----
//! core   <-- CheckpointDurable         --- Read -------> shell
//!                                      <-- feed --------
//! ```
//!
//! A part is followed by `CheckpointRoom` once little enough waits to be written, so what is in memory is
//! bounded. The index knows an account's newest row as soon as that is taken, before it can be read.
//!
//! Behind the last part rows of older files are moved into the new one: the keeper says which blocks it
//! wants, one read at a time, and goes on when it is fed. However long a read takes, the same bytes are
//! written. A block that is damaged holds up the checkpoint, not the replica: the shell repairs it and feeds it
//! again, or stops.
//!
//! A checkpoint that the store has no room for is not begun: its parts are dropped, the core never hears
//! that it is durable, and the log is kept. [`Keeper::refusal`] says so, to be shown to whoever operates it.

use quorate_protocol::checkpoint::rows::{AccountRow, ContextRow, HistoryRow, account_fingerprint};
use quorate_protocol::ids::AccountId;
use quorate_protocol::input::Input;
use quorate_protocol::output::CheckpointPart;
use quorate_storage::BLOCK_BYTES;
use quorate_storage::planted::{Bug, planted};
use quorate_storage::store::{
    AccountIndex, BeginError, BlockError, BlockRef, BlockRun, Damage, EXTENT_BYTES, Finish,
    Operation, Place, Read, Store,
};
use zerocopy::IntoBytes;

/// Bytes that may wait to be written before the next part is asked for, if nobody says otherwise
/// ([`Keeper::set_ready_bytes_max`]). Only bytes that can be written count: whoever waits for room waits for an operation.
pub const READY_BYTES_MAX: usize = 2 * EXTENT_BYTES;
/// Rows of index work in one step: some 100 us.
const STEP_ROWS: usize = 8192;

/// What the core is to be told next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    /// A part was taken; the core is told once there is room for another.
    Taking,
    /// The core knows that there is room.
    Waiting,
    /// All parts are taken; what is left is done by steps and operations.
    Finishing,
    /// It is published, and the core does not know it yet.
    Published {
        number: u64,
    },
    /// There was no room for it: a part was dropped, and the core is to give the next one, or was told so.
    Refused {
        is_told: bool,
    },
}

/// What a step came to.
#[derive(Debug)]
pub enum Step {
    /// Tell the core, and step again.
    Told(Input),
    /// It worked for a while, and may go on: step again.
    Worked,
    /// Read these blocks, without blocking, and give them to [`Keeper::feed`]. Said once, and again only if
    /// what was fed is damaged. Step again: other things may go on meanwhile.
    Read(BlockRun),
    /// Nothing is to be done before the core gives a part, an operation finishes or blocks are fed; and no operation has
    /// become due since the last step, part or feeding.
    Waits,
}

/// The store, and where the accounts' rows lie.
#[derive(Debug)]
pub struct Keeper {
    store: Store,
    index: AccountIndex,
    stage: Stage,
    ready_bytes_max: usize,
    /// Blocks were asked for and not fed yet.
    is_reading: bool,
    refusal: Option<BeginError>,
    /// Accounts of the checkpoint that takes rows, in the order of their places: until it is published
    /// these cannot be read back.
    taken: Vec<AccountId>,
    /// Place of the first of them.
    taken_first: Option<Place>,
}

impl Keeper {
    /// Goes on with a store that was opened, and the index that was loaded from it.
    #[must_use]
    pub fn new(store: Store, index: AccountIndex) -> Self {
        Self {
            store,
            index,
            stage: Stage::Idle,
            ready_bytes_max: READY_BYTES_MAX,
            is_reading: false,
            refusal: None,
            taken: Vec::new(),
            taken_first: None,
        }
    }

    /// Lets so many bytes wait to be written from now on. Whoever has time for few operations lets each of them take
    /// more.
    pub fn set_ready_bytes_max(&mut self, bytes: usize) {
        self.ready_bytes_max = bytes;
    }

    /// The store, to read from.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Where the accounts' newest rows lie, published or not.
    #[must_use]
    pub fn index(&self) -> &AccountIndex {
        &self.index
    }

    /// A damaged block is whole again on disk ([`Store::adopt_repaired`]).
    ///
    /// # Errors
    /// Why the bytes are not that block.
    pub fn adopt_repaired(&mut self, place: BlockRef, bytes: &[u8]) -> Result<(), BlockError> {
        self.store.adopt_repaired(place, bytes)
    }

    /// Why no checkpoint is taken any more, if that is so.
    #[must_use]
    pub fn refusal(&self) -> Option<BeginError> {
        self.refusal
    }

    /// Takes the next part. `disk` is read only to tell apart accounts that share a fingerprint.
    ///
    /// # Errors
    /// If such a read fails.
    ///
    /// # Panics
    /// If the parts do not come in order.
    pub fn take(&mut self, part: CheckpointPart, disk: &mut impl Read) -> Result<(), String> {
        if let Stage::Refused { is_told } = &mut self.stage {
            // Behind the last part there is none to ask for.
            *is_told = matches!(part, CheckpointPart::End(_));
            return Ok(());
        }
        match part {
            CheckpointPart::Begin {
                number,
                slot,
                accounts,
            } => {
                assert_eq!(self.stage, Stage::Idle);
                match self.store.begin(slot.0, accounts) {
                    Ok(begun) => assert_eq!(begun, number),
                    Err(error) => {
                        self.refusal = Some(error);
                        self.stage = Stage::Refused { is_told: false };
                        return Ok(());
                    }
                }
            }
            CheckpointPart::Accounts(rows) => {
                for (row, is_stored) in &rows {
                    self.account(row, *is_stored, disk)?;
                }
            }
            CheckpointPart::Gone(ids) => {
                for id in ids {
                    self.gone(id, disk)?;
                }
            }
            CheckpointPart::History(rows) => {
                for (row, fingerprint) in &rows {
                    let is_misfiled = planted(Bug::RowMisfiled) && row.result != 0;
                    let fingerprint = if is_misfiled { 0 } else { *fingerprint };
                    self.store.history(bytes_of(row), fingerprint, row.id.0);
                }
            }
            CheckpointPart::Contexts(rows) => {
                for row in &rows {
                    self.store.context(context_bytes(row));
                }
            }
            CheckpointPart::Side(bytes) => self.store.side(&bytes),
            CheckpointPart::End(mark) => {
                self.store.finish(Finish {
                    mark: mark.as_bytes(),
                    history_from: mark.history_from,
                });
                (self.taken, self.taken_first) = (Vec::new(), None);
                self.stage = Stage::Finishing;
                return Ok(());
            }
        }
        self.stage = Stage::Taking;
        Ok(())
    }

    /// Goes on without the disk, for a bounded time.
    pub fn step(&mut self) -> Step {
        let has_room = self.store.ready_bytes() <= self.ready_bytes_max;
        match self.stage {
            Stage::Taking if has_room => {
                self.stage = Stage::Waiting;
                Step::Told(Input::CheckpointRoom)
            }
            Stage::Finishing if has_room && !self.is_reading => self.finishing(),
            Stage::Published { number } => {
                self.stage = Stage::Idle;
                Step::Told(Input::CheckpointDurable { number })
            }
            Stage::Refused { is_told: false } => {
                self.stage = Stage::Refused { is_told: true };
                Step::Told(Input::CheckpointRoom)
            }
            Stage::Idle
            | Stage::Waiting
            | Stage::Taking
            | Stage::Finishing
            | Stage::Refused { is_told: true } => Step::Waits,
        }
    }

    /// Takes the blocks that [`Step::Read`] asked for.
    ///
    /// # Errors
    /// The block that is not what was written, by name. The checkpoint waits, and [`Keeper::step`] asks for the
    /// same blocks again.
    ///
    /// # Panics
    /// If no blocks were asked for.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Damage> {
        assert!(self.is_reading, "nothing was asked for");
        self.is_reading = false;
        self.store.move_rows(&mut self.index, bytes, |id| {
            account_fingerprint(AccountId(u128::from_le_bytes(*id)))
        })
    }

    /// The next operation to carry out, if one is due and none is open.
    pub fn next_operation(&mut self) -> Option<Operation> {
        self.store.next_operation()
    }

    /// The operation was carried out.
    pub fn finish_operation(&mut self, operation: Operation) {
        if let Some(published) = self.store.finish_operation(operation) {
            assert_eq!(self.stage, Stage::Finishing);
            self.stage = Stage::Published {
                number: published.number,
            };
        }
    }

    fn finishing(&mut self) -> Step {
        if let Some(run) = self.store.moving() {
            self.is_reading = true;
            return Step::Read(run);
        }
        match self.store.step(STEP_ROWS) {
            true => Step::Worked,
            false => Step::Waits,
        }
    }

    fn account(
        &mut self,
        row: &AccountRow,
        is_stored: bool,
        disk: &mut impl Read,
    ) -> Result<(), String> {
        let fingerprint = row.fingerprint();
        let id = row.account.id;
        let (old, shared) = self.place_of(id, fingerprint, is_stored, disk)?;
        let new = self
            .store
            .account(account_bytes(row), fingerprint, shared, old);
        self.taken_first.get_or_insert(new);
        self.taken.push(id);
        match old {
            Some(old) => self.index.replace(fingerprint, old, new),
            None => self.index.insert(fingerprint, new),
        }
        Ok(())
    }

    fn gone(&mut self, id: AccountId, disk: &mut impl Read) -> Result<(), String> {
        let fingerprint = account_fingerprint(id);
        let (old, shared) = self.place_of(id, fingerprint, true, disk)?;
        let old = old.ok_or_else(|| format!("account {id} left and has no row"))?;
        self.store
            .gone(&id.0.to_le_bytes(), fingerprint, shared, old);
        self.index.remove(fingerprint, old);
        Ok(())
    }

    /// Where the newest row of an account lies, and whether another account has its fingerprint.
    fn place_of(
        &self,
        id: AccountId,
        fingerprint: u64,
        is_stored: bool,
        disk: &mut impl Read,
    ) -> Result<(Option<Place>, bool), String> {
        let candidates: Vec<Place> = self.index.candidates(fingerprint).collect();
        let others = candidates.len() - usize::from(is_stored && !candidates.is_empty());
        let shared = others > 0;
        if !is_stored {
            return Ok((None, shared));
        }
        if let [only] = candidates[..] {
            return Ok((Some(only), shared));
        }
        // Two of 2^64 fingerprints were equal: the ids decide.
        for place in candidates {
            if self.id_at(place, disk)? == id {
                return Ok((Some(place), shared));
            }
        }
        Err(format!("account {id} has no row in the store"))
    }

    fn id_at(&self, place: Place, disk: &mut impl Read) -> Result<AccountId, String> {
        if let Some(first) = self.taken_first
            && let Some(row) = place.0.checked_sub(first.0)
            && let Some(id) = usize::try_from(row)
                .ok()
                .and_then(|row| self.taken.get(row))
        {
            return Ok(*id);
        }
        let at = self
            .store
            .locate_account(place)
            .ok_or("a row without a file")?;
        let mut block = vec![0; BLOCK_BYTES as usize];
        let name = at.place.file.file_name();
        disk.read(&name, at.place.offset(), &mut block)
            .map_err(|error| format!("{name}: {error}"))?;
        let row = self
            .store
            .row(&at, &block)
            .map_err(|error| format!("{name}: {error}"))?;
        let id = row.first_chunk().ok_or("a row without an id")?;
        Ok(AccountId(u128::from_le_bytes(*id)))
    }
}

fn account_bytes(row: &AccountRow) -> &[u8; size_of::<AccountRow>()] {
    zerocopy::transmute_ref!(row)
}

fn bytes_of(row: &HistoryRow) -> &[u8; size_of::<HistoryRow>()] {
    zerocopy::transmute_ref!(row)
}

fn context_bytes(row: &ContextRow) -> &[u8; size_of::<ContextRow>()] {
    zerocopy::transmute_ref!(row)
}
