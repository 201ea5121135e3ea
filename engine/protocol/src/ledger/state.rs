//! The replicated state of one shard: everything that the log's entries have made of it.
//!
//! Changed only by [`Ledger::apply`], so it is equal on all replicas at the same slot; the exceptions
//! are the fields called `volatile`, which a leader uses for admission and which no apply reads.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use zerocopy::IntoBytes;

use crate::checkpoint::image::Image;
use crate::client::OperationsRow;
use crate::config::{IdRule, ReplicaConfig};
use crate::ids::{AccountId, Ballot, MoveId, ShardId, Slot, TransferId};
use crate::ledger::cold::Cold;
use crate::ledger::cut::Cuts;
use crate::ledger::dirty::Dirty;
use crate::ledger::history::retention::Retention;
use crate::ledger::history::{History, HistoryPosition};
use crate::ledger::rules::Reserved;
use crate::ledger::scan::Scan;
pub use crate::ledger::stubs::Stub;
use crate::ledger::stubs::Stubs;
use crate::ledger::{Account, Transfer};
use crate::limits::ACCOUNT_WEIGHT;
use crate::planted::{Bug, planted};
use crate::shard::catalog::Catalog;
use crate::shard::map::Placement;
use crate::table::{Keyed, Records, hash128, scattered};
use crate::time::Timestamp;
use crate::txn::record::{Attempt, MoveHead, MovedAccountRow, PreviousOwnerRow, Subject, TxnId};

/// An account that this shard owns.
#[derive(Clone, Copy, Debug)]
pub struct OwnedAccount {
    pub account: Account,
    /// Rises with every change, a reservation or a recorded id included. A move is refused unless
    /// it still is what was sent.
    pub version: u64,
    /// The highest transfer id recorded here with this account as debit account.
    pub id_max: u128,
    pub reserved: Reserved,
    /// Prepared, undecided transactions on it.
    pub open: u32,
    /// The newest row of the history that moved money on it here.
    pub last: HistoryPosition,
    /// Volatile: cross-shard debits that this leader has in progress, and their sum.
    pub attempts: u32,
    pub held: u128,
    /// Which interval between checkpoints it last changed in; see `dirty`.
    pub(crate) interval: u32,
    /// It is as the last checkpoint wrote it.
    pub(crate) is_written: bool,
    /// Volatile: used since the search for accounts to forget last came by.
    pub(crate) was_used: bool,
    /// The store holds a row of it, or will with the checkpoint under way.
    pub(crate) is_stored: bool,
    /// Volatile: the last scan that has passed it; see `scan`.
    pub(crate) scanned: u32,
    /// Volatile: postings on it since it came into memory, halved with each interval up to `interval`. Counted here, where the
    /// row is at hand when money moves.
    pub(crate) operations: u32,
}

const _: () = assert!(size_of::<OwnedAccount>() == 240);

impl Keyed for OwnedAccount {
    type Key = AccountId;
    const WHAT: &str = "account";

    fn key(&self) -> AccountId {
        self.account.id
    }

    fn hash(id: &AccountId) -> u64 {
        scattered(id)
    }
}

impl OwnedAccount {
    /// An account as it is created or arrives.
    #[must_use]
    pub fn new(account: Account) -> Self {
        Self {
            account,
            version: 1,
            id_max: 0,
            reserved: Reserved::default(),
            open: 0,
            last: HistoryPosition::NONE,
            attempts: 0,
            held: 0,
            interval: 0,
            is_written: false,
            was_used: true,
            is_stored: false,
            scanned: 0,
            operations: 0,
        }
    }

    /// Money was posted on it.
    pub(crate) fn note_operation(&mut self) {
        self.operations = self.operations.saturating_add(1);
    }

    /// The first change in this interval comes.
    pub(crate) fn enter(&mut self, interval: u32) {
        self.operations = self.operations(interval);
        self.interval = interval;
    }

    /// Postings on it, as they count in this interval.
    fn operations(&self, interval: u32) -> u32 {
        let halvings = interval.saturating_sub(self.interval);
        self.operations.checked_shr(halvings).unwrap_or(0)
    }

    /// A transfer id was recorded with this account as debit account.
    pub(crate) fn note_recorded(&mut self, id: TransferId) {
        self.id_max = self.id_max.max(id.0);
        self.version += 1;
    }
}

/// A credit that is prepared here and undecided.
#[derive(Clone, Copy, Debug)]
pub struct Prepared {
    pub coordinator: ShardId,
    pub attempt: Attempt,
    pub transfer: Transfer,
    pub prepare_ts: Timestamp,
    pub slot: Slot,
    /// Where the credit account is in memory; `None` only while a checkpoint is read. It stays there: one with an open
    /// reservation neither moves nor is forgotten.
    pub(crate) place: Option<u32>,
    /// Volatile: the ballot under which this leader has proposed its end.
    pub(crate) resolving: Ballot,
}

impl Prepared {
    /// Its transaction.
    #[must_use]
    pub fn txn(&self) -> TxnId {
        TxnId::of_transfer(self.coordinator, self.transfer.id, self.attempt)
    }
}

impl Keyed for Prepared {
    type Key = TxnId;
    const WHAT: &str = "transfer in doubt";

    fn key(&self) -> TxnId {
        self.txn()
    }

    fn hash(txn: &TxnId) -> u64 {
        txn.hash()
    }
}

/// A batch of accounts that has arrived and is invisible until its move is decided.
#[derive(Clone, Debug)]
pub struct Staged {
    pub head: MoveHead,
    pub accounts: Vec<MovedAccountRow>,
    pub owners: Vec<PreviousOwnerRow>,
    pub prepare_ts: Timestamp,
    pub slot: Slot,
    /// Volatile: the ballot under which this leader has proposed its end.
    pub(crate) resolving: Ballot,
}

/// A move that took effect, at its source or at its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveRecord {
    pub attempt: Attempt,
    pub source: ShardId,
    pub target: ShardId,
    pub accounts: u32,
    /// Wrapping sum of a 128-bit hash of their ids.
    pub accounts_hash: u128,
    pub commit_ts: Timestamp,
}

impl MoveRecord {
    /// Whether it moved these accounts, in any order, to `target` (up to hash collision).
    #[must_use]
    pub fn is_of(&self, target: ShardId, accounts: &[AccountId]) -> bool {
        self.target == target
            && usize::try_from(self.accounts).is_ok_and(|count| count == accounts.len())
            && self.accounts_hash == hash_of_ids(accounts.iter().copied())
    }
}

/// Wrapping sum of a 128-bit hash of ids: equal for equal sets, whatever their order.
pub(crate) fn hash_of_ids(ids: impl Iterator<Item = AccountId>) -> u128 {
    ids.fold(0, |sum, id| sum.wrapping_add(hash128(id.as_bytes())))
}

/// The state.
#[derive(Debug)]
pub struct Ledger {
    pub(crate) shard: ShardId,
    pub(crate) shards: u32,
    pub(crate) placement: Placement,
    pub(crate) ids: IdRule,
    pub(crate) records: Records<OwnedAccount>,
    /// The accounts that are not in `records`.
    pub(crate) cold: Cold,
    pub(crate) stubs: Stubs,
    pub(crate) owners: BTreeMap<AccountId, Vec<PreviousOwnerRow>>,
    /// No row of `owners` has a higher `id_max`. A bound to look at before the rows: derived, and no part of the state.
    owners_id_max: u128,
    pub(crate) history: History,
    /// `None`: history is kept for ever.
    pub(crate) retention: Option<Retention>,
    pub(crate) in_doubt: Records<Prepared>,
    pub(crate) staged: BTreeMap<TxnId, Staged>,
    pub(crate) staged_accounts: BTreeMap<AccountId, TxnId>,
    /// Keyed with the source that decided them: the same id may be in use at two sources.
    pub(crate) moves: BTreeMap<(ShardId, MoveId), MoveRecord>,
    /// The highest transfer id recorded as failed because its debit account did not exist. An
    /// account created later starts with it as `id_max`.
    pub(crate) missing_id_max: u128,
    pub(crate) highest_origin: Ballot,
    pub(crate) last_timestamp: Timestamp,
    pub(crate) applied: Slot,
    pub(crate) cuts: Cuts,
    pub(crate) catalog: Catalog,
    /// What has changed since the last checkpoint.
    pub(crate) dirty: Dirty,
    /// Bytes that the last checkpoint wrote, or writes, beside history.
    pub(crate) last_rewritten_bytes: u64,
    /// Accounts being summed as of a slot.
    pub(crate) scan: Scan,
    /// The checkpoint under way.
    pub(crate) image: Option<Image>,
    /// The checkpoints so far.
    pub(crate) checkpoint: u64,
    /// What the entries since the last checkpoint weigh.
    pub(crate) weight: u64,
}

impl Ledger {
    /// The empty state of a shard.
    ///
    /// # Panics
    /// If history is to be kept for a time and ids do not tell theirs.
    #[must_use]
    pub fn new(config: &ReplicaConfig) -> Self {
        let tell_time = config.ids == IdRule::Ulid;
        assert!(tell_time || config.keep_ns.is_none(), "ids without a time");
        Self {
            shard: config.address.shard,
            shards: config.shards,
            placement: config.placement,
            ids: config.ids,
            records: Records::default(),
            cold: Cold::default(),
            stubs: Stubs::default(),
            owners: BTreeMap::new(),
            owners_id_max: 0,
            history: History::default(),
            retention: config.keep_ns.map(Retention::new),
            in_doubt: Records::default(),
            staged: BTreeMap::new(),
            staged_accounts: BTreeMap::new(),
            moves: BTreeMap::new(),
            missing_id_max: 0,
            highest_origin: Ballot::ZERO,
            last_timestamp: Timestamp::ZERO,
            applied: Slot::ZERO,
            cuts: Cuts::default(),
            catalog: Catalog::default(),
            dirty: Dirty::default(),
            last_rewritten_bytes: 0,
            scan: Scan::default(),
            image: None,
            checkpoint: 0,
            weight: 0,
        }
    }

    /// The account, if this shard owns it and it is in memory; see [`Self::presence`].
    #[must_use]
    pub fn account(&self, id: AccountId) -> Option<&OwnedAccount> {
        self.place_of(id).map(|place| self.records.at(place))
    }

    /// For the volatile fields only.
    pub(crate) fn account_volatile(&mut self, id: AccountId) -> Option<&mut OwnedAccount> {
        let place = self.place_of(id)?;
        Some(self.records.at_mut(place))
    }

    /// The same for one that was at `place` when it was looked for last.
    pub(crate) fn account_volatile_near(
        &mut self,
        place: u32,
        id: AccountId,
    ) -> Option<&mut OwnedAccount> {
        let owned = self.records.get(place);
        let is_there = owned.is_some_and(|owned| owned.account.id == id);
        let place = if is_there { place } else { self.place_of(id)? };
        Some(self.records.at_mut(place))
    }

    /// Of a transaction that is open here: under which ballot its end was proposed. Volatile. `place`: of one that is a
    /// transfer, where it is in doubt.
    pub(crate) fn resolving(&mut self, txn: TxnId, place: Option<u32>) -> Option<&mut Ballot> {
        match txn.subject {
            Subject::Transfer => Some(&mut self.in_doubt.at_mut(place?).resolving),
            Subject::Move => self.staged.get_mut(&txn).map(|open| &mut open.resolving),
        }
    }

    /// Where an account that is not here should be looked for: its stub, else its default home if
    /// that is another shard. `None`: its existence is decided here, and it does not exist.
    #[must_use]
    pub fn elsewhere(&self, id: AccountId) -> Option<ShardId> {
        if let Some(stub) = self.stubs.get(id) {
            return Some(stub.shard);
        }
        let home = self.placement.home(id, self.shards);
        (home != self.shard).then_some(home)
    }

    /// Whether the account has arrived here by a move that is not decided.
    #[must_use]
    pub fn is_staged(&self, id: AccountId) -> bool {
        self.staged_accounts.contains_key(&id)
    }

    /// The shards that owned an account of this shard before.
    #[must_use]
    pub fn previous_owners(&self, id: AccountId) -> &[PreviousOwnerRow] {
        self.owners.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The same if one of them may know a transfer of this id. Ids that rise with time are above all that a previous owner ever saw, and
    /// then no row is looked for.
    #[must_use]
    pub(crate) fn previous_owners_that_may_know(
        &self,
        account: AccountId,
        transfer: TransferId,
    ) -> &[PreviousOwnerRow] {
        match transfer.0 > self.owners_id_max {
            true => &[],
            false => self.previous_owners(account),
        }
    }

    /// Sets the previous owners of an account that arrives, or is restored.
    pub(crate) fn set_previous_owners(&mut self, id: AccountId, rows: Vec<PreviousOwnerRow>) {
        let highest = rows.iter().map(|row| row.id_max).max();
        self.owners_id_max = self.owners_id_max.max(highest.unwrap_or(0));
        self.owners.insert(id, rows);
    }

    /// What the entries since the last checkpoint weigh.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// Bytes that the next checkpoint writes again, or the last one did, whichever are more: rows of accounts, and the side
    /// tables.
    #[must_use]
    pub(crate) fn rewritten_bytes(&self) -> u64 {
        let changed = u64::try_from(self.dirty.changed.len()).expect("a usize fits 64 bits");
        changed
            .saturating_mul(ACCOUNT_WEIGHT)
            .max(self.last_rewritten_bytes)
    }

    /// The number of the newest checkpoint, one under way included; 0 = there was none.
    #[must_use]
    pub fn checkpoint(&self) -> u64 {
        self.checkpoint
    }

    /// Whether a checkpoint is under way.
    #[must_use]
    pub fn is_checkpoint_open(&self) -> bool {
        self.image.is_some()
    }

    /// Used transfer ids.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Credits that are prepared and undecided.
    #[must_use]
    pub fn in_doubt(&self) -> &Records<Prepared> {
        &self.in_doubt
    }

    /// Arrived batches that are undecided.
    #[must_use]
    pub fn staged(&self) -> &BTreeMap<TxnId, Staged> {
        &self.staged
    }

    /// The move away from here with this id, if it took effect.
    #[must_use]
    pub fn move_record(&self, id: MoveId) -> Option<&MoveRecord> {
        self.moves.get(&(self.shard, id))
    }

    /// Number of owned accounts.
    #[must_use]
    pub fn accounts(&self) -> u64 {
        self.cold.owned
    }

    /// How often accounts in memory were used, of those in up to `limit` places from one on that were at all; and where the
    /// next page begins, 0: there is none.
    #[must_use]
    pub fn operations(&self, from: u32, limit: u32) -> (Vec<OperationsRow>, u32) {
        let end = from.saturating_add(limit).min(self.records.end());
        let rows = (from..end).filter_map(|place| {
            let owned = self.records.get(place)?;
            let operations = owned.operations(self.dirty.interval);
            (operations > 0).then_some(OperationsRow {
                account: owned.account.id,
                operations: operations.into(),
                reserved: 0,
            })
        });
        let next = if end < self.records.end() { end } else { 0 };
        (rows.collect(), next)
    }

    /// Ids of owned accounts in memory above `after`, ascending, at most `limit`. A scan.
    #[must_use]
    pub fn list(&self, after: AccountId, limit: usize) -> Vec<AccountId> {
        let mut ids: Vec<AccountId> = self
            .records
            .iter()
            .map(|owned| owned.account.id)
            .filter(|id| *id > after)
            .collect();
        if limit < ids.len() {
            ids.select_nth_unstable(limit);
            ids.truncate(limit);
        }
        ids.sort_unstable();
        ids
    }

    /// The last applied slot.
    #[must_use]
    pub fn applied(&self) -> Slot {
        self.applied
    }

    /// The timestamp of the last entry that had effect.
    #[must_use]
    pub fn last_timestamp(&self) -> Timestamp {
        self.last_timestamp
    }

    /// The documents of the operator's tools.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The consistent cuts that are followed.
    #[must_use]
    pub fn cuts(&self) -> &Cuts {
        &self.cuts
    }

    /// Digest of the whole replicated state, independent of the order of its tables. Accounts count by
    /// what was summed when they were written; only those that have changed since are looked at.
    ///
    /// Not in it: what is volatile, the configuration, and the indexes that are made from what is
    /// (`staged_accounts`, those of `records` and of the history). The applied slot goes with it wherever
    /// digests are compared.
    #[must_use]
    pub fn digest(&self) -> u128 {
        let unwritten = self.unwritten_accounts().map(digest_of_account);
        let accounts = unwritten.fold(self.dirty.written.digest, u128::wrapping_add);
        accounts.wrapping_add(self.digest_beside_accounts())
    }

    /// Digest of everything but the account records.
    pub(crate) fn digest_beside_accounts(&self) -> u128 {
        let mut sum = self.history.digest().wrapping_add(self.cuts.state_digest());
        sum = sum.wrapping_add(self.catalog.digest());
        let mut add = |part: u128| sum = sum.wrapping_add(part);
        add(hash_parts(8, &[self.stubs.epoch().into()]));
        for (id, stub) in self.stubs.iter() {
            let parts = [
                id.0,
                stub.shard.0.into(),
                stub.ownership_epoch.into(),
                stub.changed.into(),
            ];
            add(hash_parts(1, &parts));
        }
        for owner in self.owners.values().flatten() {
            add(hash128(owner.as_bytes()).rotate_left(5));
        }
        for prepared in self.in_doubt.iter() {
            let transfer = hash128(prepared.transfer.as_bytes());
            let since = [prepared.prepare_ts.0.into(), prepared.slot.0.into()];
            add(digest_of_txn(
                2,
                &prepared.txn(),
                &[transfer, since[0], since[1]],
            ));
        }
        for (txn, staged) in &self.staged {
            let parts = [
                hash128(staged.head.as_bytes()),
                hash128(staged.accounts.as_bytes()),
                hash128(staged.owners.as_bytes()),
                staged.prepare_ts.0.into(),
                staged.slot.0.into(),
            ];
            add(digest_of_txn(3, txn, &parts));
        }
        for ((source, id), record) in &self.moves {
            add(digest_of_move(*source, *id, record));
        }
        if let Some(retention) = &self.retention {
            add(retention.digest());
        }
        let last = [
            self.missing_id_max,
            self.highest_origin.0.into(),
            u128::from(self.history.len()) << 64 | u128::from(self.last_timestamp.0),
        ];
        sum.wrapping_add(hash_parts(5, &last))
    }

    pub(crate) fn add_account(&mut self, mut owned: OwnedAccount) {
        let id = owned.account.id;
        owned.is_stored = self.dirty.left_a_row(id);
        owned.scanned = self.scan.number;
        let place = self.records.insert(owned);
        self.cold.owned += 1;
        self.change(place);
    }

    pub(crate) fn remove_account(&mut self, id: AccountId) -> Option<OwnedAccount> {
        let place = self.place_of(id)?;
        self.scan.count(self.records.at_mut(place));
        let owned = self.records.remove(place);
        self.cold.owned -= 1;
        self.dirty.removed(&owned, self.image.as_mut());
        Some(owned)
    }

    /// The account at a place, to change it. Every change of replicated state goes through here: a
    /// checkpoint would otherwise miss it, or write what is newer than its slot, and a scan count what is newer.
    pub(crate) fn change(&mut self, place: u32) -> &mut OwnedAccount {
        let owned = self.records.at_mut(place);
        owned.was_used = true;
        if !planted(Bug::ScanCountsLate) {
            self.scan.count(owned);
        }
        if owned.interval != self.dirty.interval {
            self.dirty.changes(owned, self.image.as_mut());
        }
        owned
    }

    pub(crate) fn place_of(&self, id: AccountId) -> Option<u32> {
        self.records.find(&id)
    }

    /// Remembers that a transfer id was recorded for a debit account, or for a missing one.
    pub(crate) fn note_recorded(&mut self, debit_account: Option<u32>, id: TransferId) {
        match debit_account {
            Some(place) => self.change(place).note_recorded(id),
            None => self.missing_id_max = self.missing_id_max.max(id.0),
        }
    }
}

pub(crate) fn digest_of_account(owned: &OwnedAccount) -> u128 {
    let parts = [
        hash128(owned.account.as_bytes()),
        u128::from(owned.version) << 64 | u128::from(owned.last.0),
        owned.id_max,
        owned.open.into(),
        owned.reserved.debits,
        owned.reserved.credits,
    ];
    hash_parts(6, &parts)
}

fn digest_of_txn(kind: u128, txn: &TxnId, parts: &[u128]) -> u128 {
    let name = [
        txn.id,
        txn.coordinator.0.into(),
        txn.attempt.ballot.0.into(),
        txn.attempt.counter.into(),
    ];
    hash_parts(kind, &[hash128(name.as_bytes()), hash128(parts.as_bytes())])
}

fn digest_of_move(source: ShardId, id: MoveId, record: &MoveRecord) -> u128 {
    let MoveRecord {
        attempt,
        source: of,
        target,
        accounts,
        accounts_hash,
        commit_ts,
    } = *record;
    let parts = [
        id.0,
        source.0.into(),
        of.0.into(),
        target.0.into(),
        attempt.ballot.0.into(),
        attempt.counter.into(),
        accounts.into(),
        accounts_hash,
        commit_ts.0.into(),
    ];
    hash_parts(4, &parts)
}

fn hash_parts(kind: u128, parts: &[u128]) -> u128 {
    hash128(parts.as_bytes()).rotate_left(u32::try_from(kind).expect("a small number") * 11)
}
