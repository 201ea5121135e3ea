//! The history of one account through the store: its rows, newest first, from one position back.
//!
//! Every row of history names the row before it on each of its accounts, so a walk reads two blocks per
//! row, the row's and its context's, however much history lies between. Which block is said, and its
//! bytes are fed.

use quorate_protocol::checkpoint::rows::{ContextRow, HistoryRow};
use quorate_protocol::ids::AccountId;
use quorate_protocol::ledger::history::{ChainQuestion, HistoryPosition, Record};
use quorate_storage::store::{BlockRef, BlockRun, RowAt, Store};
use zerocopy::FromBytes;

use crate::question::Wanted;

/// A walk on its way.
#[derive(Debug)]
pub struct ChainWalk {
    account: AccountId,
    rows_max: usize,
    /// Where the next row lies; none: the chain is at its end.
    next: HistoryPosition,
    /// A row whose context is being read.
    row: Option<(HistoryRow, RowAt)>,
    rows: Vec<(HistoryPosition, Record)>,
    ended: bool,
}

impl ChainWalk {
    /// Begins; reads nothing.
    #[must_use]
    pub fn new(chain: ChainQuestion) -> Self {
        Self {
            account: chain.account,
            rows_max: chain.rows_max,
            next: chain.from,
            row: None,
            rows: Vec::new(),
            ended: false,
        }
    }

    /// What to read next. Asked again without feeding, it says the same. A position that the store does not
    /// hold ends the walk: the row was dropped, or is not there yet. So does a row that is none of the
    /// account's: whoever asked may have the position from anywhere, and where rows of an earlier ownership begin is said by the
    /// shard that the account came back from. The block is as it was written, so no repair would help.
    #[must_use]
    pub fn wanted(&self, store: &Store) -> Wanted {
        let place = match &self.row {
            Some((_, context)) => store.has(context.place.file).then_some(context.place),
            None if self.ended || self.rows.len() == self.rows_max => None,
            None => store.locate_history(self.next.0).map(|row| row.place),
        };
        match place {
            Some(first) => Wanted::Blocks(BlockRun { first, blocks: 1 }),
            None => Wanted::Nothing,
        }
    }

    /// Takes the block that was wanted.
    ///
    /// # Errors
    /// The block that is not what was written, and why. Fed again with it repaired, it goes on.
    pub fn feed(&mut self, store: &Store, bytes: &[u8]) -> Result<(), (BlockRef, String)> {
        match self.row {
            Some((row, context)) => self.feed_context(store, &row, &context, bytes),
            None => self.feed_row(store, bytes),
        }
    }

    /// The rows so far, newest first, and where the next one lies.
    #[must_use]
    pub fn finish(self) -> (Vec<(HistoryPosition, Record)>, HistoryPosition) {
        (self.rows, self.next)
    }

    fn feed_row(&mut self, store: &Store, bytes: &[u8]) -> Result<(), (BlockRef, String)> {
        let Some(at) = store.locate_history(self.next.0) else {
            return Ok(());
        };
        let wrong = |problem: String| (at.place, problem);
        let found = store
            .row(&at, bytes)
            .map_err(|error| wrong(error.to_string()))?;
        let row = HistoryRow::read_from_bytes(found).expect("the section's rows have this size");
        let (number, context) = (at.place.file.number, row.context);
        let context = store
            .locate_context(number, context)
            .ok_or_else(|| wrong(format!("a row names context {context}, which is not there")))?;
        self.row = Some((row, context));
        Ok(())
    }

    fn feed_context(
        &mut self,
        store: &Store,
        row: &HistoryRow,
        context: &RowAt,
        bytes: &[u8],
    ) -> Result<(), (BlockRef, String)> {
        if !store.has(context.place.file) {
            // Dropped while it was read, with all that is older.
            self.row = None;
            return Ok(());
        }
        let wrong = |problem: String| (context.place, problem);
        let found = store
            .row(context, bytes)
            .map_err(|error| wrong(error.to_string()))?;
        let found =
            ContextRow::read_from_bytes(found).map_err(|_| wrong("not a context".to_owned()))?;
        let record = row
            .record(&found)
            .ok_or_else(|| wrong(format!("a row with result code {}", row.result)))?;
        self.row = None;
        if !record.touches(self.account) {
            self.ended = true;
            return Ok(());
        }
        let before = record.before(self.account);
        // Nothing else keeps a chain that was written wrong from going round for ever.
        if before >= self.next {
            let (account, position, before) = (self.account, self.next.0, before.0);
            return Err(wrong(format!(
                "the row before position {position} of account {account} is said to be at {before}"
            )));
        }
        self.rows.push((self.next, record));
        self.next = before;
        Ok(())
    }
}
