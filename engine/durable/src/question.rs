//! A question of the core about transfer ids and accounts, or about an account's history, as reads of the store.
//!
//! Ids of transfers come first, in lanes: one after the other in each, and as many at once as there are lanes
//! for who reads at depth. Which blocks to read is said, and their bytes are fed. Rows of a file that is
//! dropped meanwhile are passed over. Ids that no file can hold, by its range of ids, cost no read. Then the accounts' blocks, which may be read in any order, and several
//! at once.

use std::collections::VecDeque;

use quorate_protocol::checkpoint::rows::{ContextRow, HistoryRow};
use quorate_protocol::ids::AccountId;
use quorate_protocol::input::Input;
use quorate_protocol::ledger::history::{ChainQuestion, RecordName};
use quorate_storage::store::{AccountIndex, BlockRef, BlockRun, Lookup, LookupStep, RowAt, Store};
use zerocopy::FromBytes;

use crate::accounts::AccountReads;
use crate::chain::ChainWalk;

/// What is to be read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// These blocks, given to [`Question::feed`].
    Blocks(BlockRun),
    /// Every block of [`Question::account_blocks`], each given to [`Question::feed_account`].
    Accounts,
    /// Nothing: [`Question::answer`] has it all.
    Nothing,
}

/// A question on its way.
#[derive(Debug)]
pub struct Question {
    number: u64,
    about: About,
}

#[derive(Debug)]
enum About {
    Names(Names),
    Chain(ChainWalk),
}

/// Look-ups of transfer ids.
#[derive(Debug)]
struct Names {
    /// Not begun.
    names: VecDeque<RecordName>,
    lanes: Vec<Lane>,
    rows: Vec<(HistoryRow, ContextRow)>,
    ids: Vec<AccountId>,
    accounts: Option<AccountReads>,
}

/// One look-up at a time.
#[derive(Debug, Default)]
struct Lane {
    lookup: Option<Lookup>,
    /// A row whose context is being read.
    row: Option<(HistoryRow, RowAt)>,
}

/// Look-ups at once: where a disk gives most reads.
const LANES: usize = 32;

impl Question {
    /// Begins a question about transfer ids (`Output::Load`); reads nothing.
    #[must_use]
    pub fn new(number: u64, names: Vec<RecordName>, accounts: Vec<AccountId>) -> Self {
        let names = Names {
            names: names.into(),
            lanes: (0..LANES).map(|_| Lane::default()).collect(),
            rows: Vec::new(),
            ids: accounts,
            accounts: None,
        };
        Self {
            number,
            about: About::Names(names),
        }
    }

    /// Begins a question about an account's history (`Output::LoadChain`); reads nothing.
    #[must_use]
    pub fn chain(number: u64, chain: ChainQuestion) -> Self {
        Self {
            number,
            about: About::Chain(ChainWalk::new(chain)),
        }
    }

    /// What to read next. Asked again without feeding, it says the same.
    pub fn wanted(&mut self, store: &Store, index: &AccountIndex) -> Wanted {
        match &mut self.about {
            About::Names(names) => names.wanted(store, index),
            About::Chain(walk) => walk.wanted(store),
        }
    }

    /// Takes the blocks that were wanted.
    ///
    /// # Errors
    /// The block that is not what was written, and why. Fed again with it repaired, it goes on.
    pub fn feed(&mut self, store: &Store, bytes: &[u8]) -> Result<(), (BlockRef, String)> {
        match &mut self.about {
            About::Names(names) => names.feed(store, bytes),
            About::Chain(walk) => walk.feed(store, bytes),
        }
    }

    /// What all lanes want to read next, each given to [`Question::feed_lane`]. Asked again without feeding, it
    /// says the same.
    pub fn wanted_at_once(&mut self, store: &Store) -> Vec<(usize, BlockRun)> {
        match &mut self.about {
            About::Names(names) => (0..LANES)
                .filter_map(|lane| Some((lane, names.lane_wanted(lane, store)?)))
                .collect(),
            About::Chain(walk) => match walk.wanted(store) {
                Wanted::Blocks(run) => vec![(0, run)],
                Wanted::Accounts | Wanted::Nothing => Vec::new(),
            },
        }
    }

    /// Takes the blocks that a lane wanted.
    ///
    /// # Errors
    /// As for [`Question::feed`].
    pub fn feed_lane(
        &mut self,
        lane: usize,
        store: &Store,
        bytes: &[u8],
    ) -> Result<(), (BlockRef, String)> {
        match &mut self.about {
            About::Names(names) => names.feed_lane(lane, store, bytes),
            About::Chain(walk) => walk.feed(store, bytes),
        }
    }

    /// The blocks with accounts that were not fed yet.
    pub fn account_blocks(&self) -> impl Iterator<Item = BlockRef> {
        let reads = match &self.about {
            About::Names(names) => names.accounts.as_ref(),
            About::Chain(_) => None,
        };
        reads.into_iter().flat_map(AccountReads::blocks)
    }

    /// Takes the bytes of one of them.
    ///
    /// # Errors
    /// Why these are not what was written; the block is still wanted.
    pub fn feed_account(
        &mut self,
        store: &Store,
        place: BlockRef,
        bytes: &[u8],
    ) -> Result<(), String> {
        match &mut self.about {
            About::Names(Names {
                accounts: Some(reads),
                ..
            }) => reads.feed(store, place, bytes),
            About::Names(_) | About::Chain(_) => Ok(()),
        }
    }

    /// A file was dropped that a block was to be read from: its rows are elsewhere now.
    pub fn look_again(&mut self) {
        if let About::Names(names) = &mut self.about {
            names.accounts = None;
        }
    }

    /// The answer, once nothing is wanted.
    #[must_use]
    pub fn answer(self) -> Input {
        let question = self.number;
        match self.about {
            About::Names(names) => Input::Loaded {
                question,
                rows: names.rows,
                accounts: names
                    .accounts
                    .map(AccountReads::into_rows)
                    .unwrap_or_default(),
            },
            About::Chain(walk) => Input::ChainLoaded {
                question,
                rows: walk.finish().0,
            },
        }
    }
}

impl Names {
    fn wanted(&mut self, store: &Store, index: &AccountIndex) -> Wanted {
        if let Some(run) = (0..LANES).find_map(|lane| self.lane_wanted(lane, store)) {
            return Wanted::Blocks(run);
        }
        let ids = &self.ids;
        let reads = || AccountReads::new(store, index, ids);
        let reads = self.accounts.get_or_insert_with(reads);
        match reads.blocks().next() {
            Some(_) => Wanted::Accounts,
            None => Wanted::Nothing,
        }
    }

    /// Feeds the lane that [`Self::wanted`] spoke of: the first one with a look-up under way.
    fn feed(&mut self, store: &Store, bytes: &[u8]) -> Result<(), (BlockRef, String)> {
        let busy = |lane: &Lane| lane.lookup.is_some() || lane.row.is_some();
        match self.lanes.iter().position(busy) {
            Some(lane) => self.feed_lane(lane, store, bytes),
            None => Ok(()),
        }
    }

    fn lane_wanted(&mut self, lane: usize, store: &Store) -> Option<BlockRun> {
        let Lane { lookup, row } = &mut self.lanes[lane];
        loop {
            if let Some((_, context)) = row {
                if store.has(context.place.file) {
                    return Some(BlockRun {
                        first: context.place,
                        blocks: 1,
                    });
                }
                *row = None;
            }
            if let Some(running) = lookup {
                match running.step(store) {
                    LookupStep::Read(run) => return Some(run),
                    LookupStep::Done => *lookup = None,
                }
            }
            let name = self.names.pop_front()?;
            *lookup = Some(Lookup::new(name.fingerprint(), name.id.0));
        }
    }

    fn feed_lane(
        &mut self,
        lane: usize,
        store: &Store,
        bytes: &[u8],
    ) -> Result<(), (BlockRef, String)> {
        let Lane { lookup, row } = &mut self.lanes[lane];
        if let Some((found, context)) = row {
            if !store.has(context.place.file) {
                *row = None;
                return Ok(());
            }
            let wrong = |problem: String| (context.place, problem);
            let shared = store
                .row(context, bytes)
                .map_err(|error| wrong(error.to_string()))?;
            let shared = ContextRow::read_from_bytes(shared)
                .map_err(|_| wrong("not a context".to_owned()))?;
            self.rows.push((*found, shared));
            *row = None;
            return Ok(());
        }
        let Some(lookup) = lookup else {
            return Ok(());
        };
        let candidate = lookup
            .feed(store, bytes)
            .map_err(|(block, error)| (block, error.to_string()))?;
        let Some(candidate) = candidate else {
            return Ok(());
        };
        let found =
            HistoryRow::read_from_bytes(candidate.row).expect("the section's rows have this size");
        let row_block = store
            .locate_history(candidate.position)
            .expect("it was just read")
            .place;
        // A row that was dropped here would count as an id that was never used.
        let context = store.locate_context(candidate.number, found.context);
        let context = context.ok_or_else(|| {
            let problem = format!("a row names context {}, which is not there", found.context);
            (row_block, problem)
        })?;
        *row = Some((found, context));
        Ok(())
    }
}
