//! The core's records as records of the log, and what recovery found as the core wants to know it.

use quorate_protocol::config::LostRecord;
use quorate_protocol::entry::Entry;
use quorate_protocol::ids::{AccountId, Ballot, Slot};
use quorate_protocol::output::Record;
use quorate_protocol::words::Words;
use quorate_storage::wal;

/// As the log stores it; copies no bytes.
#[must_use]
pub fn to_wal(record: Record) -> wal::Record<Words> {
    match record {
        Record::Promise { ballot } => wal::Record::Promise { ballot: ballot.0 },
        Record::Accepted {
            ballot,
            slot,
            entry,
        } => wal::Record::Accepted {
            ballot: ballot.0,
            slot: slot.0,
            payload: entry.words().clone(),
        },
        Record::Chosen { upto } => wal::Record::Chosen { upto: upto.0 },
    }
}

/// The entry that an accepted record carries.
///
/// # Errors
/// Why the bytes are none.
pub fn entry_of(payload: &[u8]) -> Result<Entry, String> {
    let words = Words::from_bytes(payload).ok_or("payload is not whole words")?;
    Entry::from_words(words).map_err(|error| error.to_string())
}

/// The accounts that some entries touch, ascending, each once.
#[derive(Debug, Default)]
pub struct Touched {
    accounts: Vec<AccountId>,
    /// So many were left when duplicates were removed.
    apart: usize,
}

/// As many wait at least before duplicates are looked for.
const DUPLICATES_MIN: usize = 1 << 20;

impl Touched {
    /// Memory is for twice the different accounts, however often they occur.
    pub fn add(&mut self, entry: &Entry) {
        entry.for_each_account(|id| self.accounts.push(id));
        if self.accounts.len() > DUPLICATES_MIN.max(2 * self.apart) {
            self.remove_duplicates();
        }
    }

    #[must_use]
    pub fn into_accounts(mut self) -> Vec<AccountId> {
        self.remove_duplicates();
        self.accounts
    }

    fn remove_duplicates(&mut self) {
        self.accounts.sort_unstable();
        self.accounts.dedup();
        self.apart = self.accounts.len();
    }
}

/// Records that recovery has named as lost.
#[must_use]
pub fn lost_records(records: &[wal::LostRecord]) -> Vec<LostRecord> {
    let named = records.iter().map(|record| LostRecord {
        slot: Slot(record.slot),
        accepted: Ballot(record.ballot),
    });
    named.collect()
}

/// The first slot from which on, without a gap, the log holds or names every record up to `checkpoint`;
/// zero if it does not hold that one.
#[must_use]
pub fn log_start(index: &wal::Index, lost: &[LostRecord], checkpoint: Slot) -> Slot {
    let is_lost = |slot| lost.iter().any(|record| record.slot.0 == slot);
    let held = |slot: &u64| index.locate(*slot).is_some() || is_lost(*slot);
    let run = (1..=checkpoint.0).rev().take_while(held);
    Slot(run.last().unwrap_or(0))
}
