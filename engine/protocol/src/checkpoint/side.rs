//! Every table beside accounts and history, as bytes, and back.
//!
//! ```text
//! version u32
//! applied u64, last_timestamp u64, highest_origin u64, missing_id_max u128
//! history: next position u64, highest stored id u128, digest u128
//! accounts u64                                  owned at the slot
//! map epoch u32
//! stubs, owners, in doubt, staged, moves        count u32, then the rows, each in the order of its key
//! cuts                                          see `Cuts::encode`
//! documents                                     see `Catalog::encode`
//! retention, only if history is kept for a time dropped up to: position u64, slot u64; see `Retention::encode`
//! rewritten bytes u64                           see `Ledger::rewritten_bytes`
//! sums over the accounts as they were written    see `Cuts::encode`, a tally; known once all are given
//! ```
//!
//! The bytes come from a checked file, and are still not believed: a decoder returns reasons.

use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::restore::RestoreError;
use crate::ids::{AccountId, Ballot, MoveId, ShardId, Slot};
use crate::ledger::Transfer;
use crate::ledger::cut::Tally;
use crate::ledger::history::{Dropped, History, HistoryPosition};
use crate::ledger::state::{Ledger, MoveRecord, Prepared, Staged, Stub};
use crate::ledger::stubs::Stubs;
use crate::limits::ACCOUNT_WEIGHT;
use crate::shard::catalog::Catalog;
use crate::time::Timestamp;
use crate::txn::record::{Attempt, MoveHead, MovedAccountRow, PreviousOwnerRow, Subject, TxnId};

/// Version of these bytes.
const VERSION: u32 = 6;

/// Appends little-endian values.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    pub fn put<T: IntoBytes + Immutable>(&mut self, value: &T) {
        self.0.extend_from_slice(value.as_bytes());
    }

    pub fn count(&mut self, count: usize) {
        self.put(&u32::try_from(count).expect("tables have fewer than 2^32 rows"));
    }

    pub fn rows<T: IntoBytes + Immutable>(&mut self, rows: &[T]) {
        self.count(rows.len());
        self.0.extend_from_slice(rows.as_bytes());
    }

    #[cfg(test)]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn txn(&mut self, txn: &TxnId) {
        self.put(&txn.coordinator);
        self.put(&u32::from(txn.subject as u16));
        self.put(&txn.id);
        self.put(&txn.attempt);
    }
}

/// Takes values off the front.
#[derive(Debug)]
pub(crate) struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    #[cfg(test)]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Decoder<'_> {
    pub fn take<T: FromBytes + KnownLayout + Immutable>(
        &mut self,
        what: &'static str,
    ) -> Result<T, RestoreError> {
        let (value, rest) = T::read_from_prefix(self.0).map_err(|_| RestoreError::Side { what })?;
        self.0 = rest;
        Ok(value)
    }

    /// A count of rows of at least `bytes` each, which must all be there.
    pub fn count(&mut self, what: &'static str, bytes: usize) -> Result<usize, RestoreError> {
        let count: u32 = self.take(what)?;
        let count = usize::try_from(count).map_err(|_| RestoreError::Side { what })?;
        if count > self.0.len() / bytes {
            return Err(RestoreError::Side { what });
        }
        Ok(count)
    }

    pub fn rows<T: FromBytes + KnownLayout + Immutable>(
        &mut self,
        what: &'static str,
    ) -> Result<Vec<T>, RestoreError> {
        let count = self.count(what, size_of::<T>())?;
        (0..count).map(|_| self.take(what)).collect()
    }

    fn txn(&mut self, subject: Subject, what: &'static str) -> Result<TxnId, RestoreError> {
        let coordinator = self.take(what)?;
        let number: u32 = self.take(what)?;
        if number != u32::from(subject as u16) {
            return Err(RestoreError::Side { what });
        }
        Ok(TxnId {
            coordinator,
            subject,
            id: self.take(what)?,
            attempt: self.take(what)?,
        })
    }
}

/// The tables of a ledger, as far as they are known when its checkpoint begins.
pub(crate) struct Side {
    pub bytes: Vec<u8>,
    /// What the checkpoint writes beside history.
    pub rewritten_bytes: u64,
}

/// The tables of a ledger whose history is frozen for a checkpoint with rows of so many `accounts`; [`close`] adds the rest.
pub(crate) fn encode(ledger: &Ledger, accounts: usize) -> Side {
    let mut out = Encoder::default();
    out.put(&VERSION);
    out.put(&ledger.applied);
    out.put(&ledger.last_timestamp);
    out.put(&ledger.highest_origin);
    out.put(&ledger.missing_id_max);
    out.put(&ledger.history.next_position().0);
    out.put(&ledger.history.stored_id_max());
    out.put(&ledger.history.digest());
    out.put(&ledger.accounts());
    out.put(&ledger.stubs.epoch());
    out.count(ledger.stubs.len());
    for (id, stub) in ledger.stubs.iter() {
        out.put(&id);
        out.put(&stub.shard);
        out.put(&stub.ownership_epoch);
        out.put(&stub.changed);
    }
    out.count(ledger.owners.len());
    for (id, owners) in &ledger.owners {
        out.put(id);
        out.rows(owners);
    }
    out.count(ledger.in_doubt.len());
    // A table's order is that in which transactions came and went, and a replica that was started lately knows no more
    // than what is there. All replicas write the same bytes.
    let mut in_doubt: Vec<&Prepared> = ledger.in_doubt.iter().collect();
    in_doubt.sort_unstable_by_key(|prepared| prepared.txn());
    for prepared in in_doubt {
        out.txn(&prepared.txn());
        out.put(&prepared.transfer);
        out.put(&prepared.prepare_ts);
        out.put(&prepared.slot);
    }
    out.count(ledger.staged.len());
    for (txn, staged) in &ledger.staged {
        out.txn(txn);
        out.put(&staged.head);
        out.rows(&staged.accounts);
        out.rows(&staged.owners);
        out.put(&staged.prepare_ts);
        out.put(&staged.slot);
    }
    out.count(ledger.moves.len());
    for ((source, id), record) in &ledger.moves {
        let MoveRecord {
            attempt,
            source: of,
            target,
            accounts,
            accounts_hash,
            commit_ts,
        } = record;
        out.put(source);
        out.put(id);
        out.put(attempt);
        out.put(of);
        out.put(target);
        out.put(accounts);
        out.put(accounts_hash);
        out.put(commit_ts);
    }
    ledger.cuts.encode(&mut out);
    ledger.catalog.encode(&mut out);
    if let Some(retention) = &ledger.retention {
        let dropped = ledger.history.dropped();
        out.put(&dropped.from.0);
        out.put(&dropped.slot);
        retention.encode(&mut out);
    }
    let count = |count: usize| u64::try_from(count).expect("a usize fits 64 bits");
    let rewritten_bytes = count(accounts) * ACCOUNT_WEIGHT + count(out.0.len());
    out.put(&rewritten_bytes);
    Side {
        bytes: out.0,
        rewritten_bytes,
    }
}

/// Adds what is known once every account of the checkpoint is given.
pub(crate) fn close(side: &mut Vec<u8>, accounts: &Tally) {
    let mut out = Encoder(core::mem::take(side));
    accounts.encode(&mut out);
    *side = out.0;
}

/// Fills a ledger without accounts: all that it owns are only in the store.
pub(crate) fn decode(ledger: &mut Ledger, bytes: &[u8]) -> Result<(), RestoreError> {
    let mut from = Decoder(bytes);
    let version: u32 = from.take("version")?;
    if version != VERSION {
        return Err(RestoreError::SideVersion {
            found: version,
            supported: VERSION,
        });
    }
    ledger.applied = from.take("applied slot")?;
    ledger.last_timestamp = from.take("last timestamp")?;
    ledger.highest_origin = from.take::<Ballot>("highest origin")?;
    ledger.missing_id_max = from.take("missing id")?;
    let next = HistoryPosition(from.take("next position")?);
    let id_max = from.take("highest id")?;
    ledger.history = History::restored(next, id_max, from.take("digest of history")?);
    ledger.cold.owned = from.take("accounts")?;
    ledger.stubs = Stubs::restored(from.take("map epoch")?);
    for _ in 0..from.count("stubs", 28)? {
        let id: AccountId = from.take("stub")?;
        let stub = Stub {
            shard: from.take("stub")?,
            ownership_epoch: from.take("stub")?,
            changed: from.take("stub")?,
        };
        if stub.changed > ledger.stubs.epoch() {
            return Err(RestoreError::Side { what: "stub" });
        }
        ledger.stubs.restore(id, stub);
    }
    for _ in 0..from.count("previous owners", 20)? {
        let id: AccountId = from.take("previous owner")?;
        let owners: Vec<PreviousOwnerRow> = from.rows("previous owner")?;
        ledger.set_previous_owners(id, owners);
    }
    decode_transactions(ledger, &mut from)?;
    for _ in 0..from.count("moves", 72)? {
        let key: (ShardId, MoveId) = (from.take("move")?, from.take("move")?);
        let record = MoveRecord {
            attempt: from.take::<Attempt>("move")?,
            source: from.take("move")?,
            target: from.take("move")?,
            accounts: from.take("move")?,
            accounts_hash: from.take("move")?,
            commit_ts: from.take("move")?,
        };
        ledger.moves.insert(key, record);
    }
    ledger.cuts.decode(&mut from)?;
    ledger.catalog = Catalog::decode(&mut from)?;
    if let Some(retention) = &mut ledger.retention {
        let dropped = Dropped {
            from: HistoryPosition(from.take("dropped rows")?),
            slot: from.take("dropped rows")?,
        };
        if dropped.from > next {
            let what = "dropped rows";
            return Err(RestoreError::Side { what });
        }
        ledger.history.let_go(dropped);
        retention.decode(&mut from)?;
    }
    ledger.last_rewritten_bytes = from.take("rewritten bytes")?;
    ledger.dirty.written.tally = Tally::decode(&mut from)?;
    if from.0.is_empty() {
        Ok(())
    } else {
        Err(RestoreError::Side {
            what: "bytes behind the end",
        })
    }
}

fn decode_transactions(ledger: &mut Ledger, from: &mut Decoder<'_>) -> Result<(), RestoreError> {
    for _ in 0..from.count("transfers in doubt", 184)? {
        let txn = from.txn(Subject::Transfer, "transfer in doubt")?;
        let prepared = Prepared {
            coordinator: txn.coordinator,
            attempt: txn.attempt,
            transfer: from.take::<Transfer>("transfer in doubt")?,
            prepare_ts: from.take::<Timestamp>("transfer in doubt")?,
            slot: from.take::<Slot>("transfer in doubt")?,
            place: None,
            resolving: Ballot::ZERO,
        };
        if prepared.txn() != txn || ledger.in_doubt.put(prepared).is_some() {
            let what = "transfer in doubt";
            return Err(RestoreError::Side { what });
        }
    }
    for _ in 0..from.count("staged moves", 112)? {
        let txn = from.txn(Subject::Move, "staged move")?;
        let staged = Staged {
            head: from.take::<MoveHead>("staged move")?,
            accounts: from.rows::<MovedAccountRow>("staged move")?,
            owners: from.rows("staged move")?,
            prepare_ts: from.take("staged move")?,
            slot: from.take("staged move")?,
            resolving: Ballot::ZERO,
        };
        for row in &staged.accounts {
            ledger.staged_accounts.insert(row.account.id, txn);
        }
        ledger.staged.insert(txn, staged);
    }
    Ok(())
}
