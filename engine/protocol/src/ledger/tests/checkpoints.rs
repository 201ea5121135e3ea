//! A checkpoint is the state at its slot, whatever happens while it is written; what is restored from
//! its rows is that state, and goes on like it.

use alloc::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::checkpoint::restore::{Restore, RestoreError};
use crate::checkpoint::rows::{AccountRow, ContextRow, HistoryRow, Mark};
use crate::ids::Slot;
use crate::ledger::cut::Tally;
use crate::ledger::history::{HistoryPosition, Known, Record, RecordName};
use crate::ledger::state::digest_of_account;
use crate::output::CheckpointPart;
use crate::prng::Prng;
use crate::txn::record::PreviousOwnerRow;

/// A store that keeps the rows as they come.
#[derive(Clone, Default)]
pub(super) struct Store {
    /// Rows and ids of accounts that have left, per checkpoint.
    accounts: Vec<(Vec<AccountRow>, Vec<AccountId>)>,
    /// Accounts with a row.
    stored: BTreeSet<AccountId>,
    history: Vec<(Vec<HistoryRow>, Vec<ContextRow>)>,
    /// Rows that were dropped before the first of them.
    dropped: u64,
    side: Vec<u8>,
    number: u64,
    pub mark: Option<Mark>,
}

impl Store {
    pub fn take(&mut self, part: CheckpointPart) {
        match part {
            CheckpointPart::Begin { number, .. } => {
                self.number = number;
                self.accounts.push((Vec::new(), Vec::new()));
                self.history.push((Vec::new(), Vec::new()));
                self.side.clear();
                self.mark = None;
            }
            CheckpointPart::Accounts(rows) => {
                for (row, is_stored) in rows {
                    let is_new = self.stored.insert(row.account.id);
                    assert_eq!(is_stored, !is_new, "account {}", row.account.id);
                    self.accounts.last_mut().expect("begun").0.push(row);
                }
            }
            CheckpointPart::Gone(ids) => {
                for id in ids {
                    assert!(self.stored.remove(&id), "account {id} has no row");
                    self.accounts.last_mut().expect("begun").1.push(id);
                }
            }
            CheckpointPart::History(rows) => {
                let rows = rows.into_iter().map(|(row, _)| row);
                self.history.last_mut().expect("begun").0.extend(rows);
            }
            CheckpointPart::Contexts(rows) => {
                self.history.last_mut().expect("begun").1.extend(rows);
            }
            CheckpointPart::Side(bytes) => self.side.extend(bytes),
            CheckpointPart::End(mark) => self.mark = Some(mark),
        }
    }

    /// Drops the whole intervals that the newest checkpoint lets go of; gives their rows.
    pub fn drop_rows(&mut self) -> Vec<Record> {
        let from = self.mark.expect("a whole checkpoint").history_from;
        let mut gone = Vec::new();
        while let Some((rows, contexts)) = self.history.first()
            && self.dropped + u64::try_from(rows.len()).expect("a few") < from
        {
            let records = rows
                .iter()
                .map(|row| row.record(&contexts[index(row.context.into())]));
            gone.extend(records.map(|record| record.expect("a known result")));
            self.dropped += u64::try_from(rows.len()).expect("a few");
            self.history.remove(0);
        }
        gone
    }

    pub fn rows(&self) -> impl Iterator<Item = (HistoryRow, ContextRow)> {
        self.history.iter().flat_map(|(rows, contexts)| {
            rows.iter()
                .map(|row| (*row, contexts[index(row.context.into())]))
        })
    }

    pub fn answer(&self, names: &[RecordName]) -> Vec<(HistoryRow, ContextRow)> {
        let wanted: Vec<u64> = names.iter().map(RecordName::fingerprint).collect();
        self.rows()
            .filter(|(row, context)| {
                let record = row.record(context).expect("a known result");
                wanted.contains(&record.name().fingerprint())
            })
            .collect()
    }

    /// Of each account that has not left.
    fn newest(&self) -> BTreeMap<AccountId, AccountRow> {
        let mut newest = BTreeMap::new();
        for (rows, gone) in &self.accounts {
            newest.extend(rows.iter().map(|row| (row.account.id, *row)));
            for id in gone {
                newest.remove(id);
            }
        }
        newest
    }

    fn account_rows(&self, ids: &[AccountId]) -> Vec<AccountRow> {
        let newest = self.newest();
        ids.iter()
            .filter_map(|id| newest.get(id))
            .copied()
            .collect()
    }

    /// With every account in memory, or with those that have to be.
    fn restore(&self, shard: u32, whole: bool) -> Result<Ledger, RestoreError> {
        self.restore_as(&World::config(shard), whole)
    }

    pub fn restore_as(&self, config: &ReplicaConfig, whole: bool) -> Result<Ledger, RestoreError> {
        let mark = self.mark.expect("a whole checkpoint");
        let mut restore = Restore::tables(config, self.number, &mark, &self.side)?;
        let newest = self.newest();
        if whole {
            newest.values().for_each(|row| restore.account(row));
        } else {
            let wanted = self.account_rows(&restore.wanted());
            wanted.iter().for_each(|row| restore.account(row));
        }
        let rows = newest.len().try_into().expect("a few");
        Ok(restore.finish(rows)?.0)
    }
}

impl Ledger {
    /// The digest as it was before it was kept: a scan over all accounts.
    fn digest_by_scan(&self) -> u128 {
        let accounts = self.records.iter().map(digest_of_account);
        accounts
            .fold(0, u128::wrapping_add)
            .wrapping_add(self.digest_beside_accounts())
    }
}

/// Shard 1 under everything that can happen to a ledger, with the store beside it.
struct Drill {
    world: World,
    /// Never writes a checkpoint, never forgets.
    twin: Ledger,
    /// Accounts that stay in memory.
    in_memory_max: usize,
    random: Prng,
    entries: Vec<Entry>,
    store: Store,
    ids: u128,
    open: Vec<TxnId>,
    away: BTreeMap<AccountId, u32>,
    moves: u128,
}

impl Drill {
    fn new(seed: u64) -> Self {
        let mut drill = Self {
            world: World::new(1),
            twin: World::new(1).ledger,
            in_memory_max: index(seed % 4) * 4,
            random: Prng::new(seed),
            entries: Vec::new(),
            store: Store::default(),
            ids: 0,
            open: Vec::new(),
            away: BTreeMap::new(),
            moves: 0,
        };
        drill.apply(|entry| {
            let flags = AccountFlags::default();
            entry.create_accounts(&[Account::new(AccountId(9), 1, 1, flags)]);
        });
        drill
    }

    fn apply(&mut self, fill: impl FnOnce(&mut EntryBuilder)) {
        self.world.clock += 10;
        let mut builder = EntryBuilder::new();
        fill(&mut builder);
        let entry = builder.finish(self.world.origin, Timestamp(self.world.clock), 0);
        self.entries.push(entry.clone());
        feed(
            &mut self.world.ledger,
            &self.store,
            &entry,
            &mut self.world.applied,
        );
        self.world.ledger.forget_accounts(self.in_memory_max);
        let slot = self.twin.applied().next();
        self.twin.apply(slot, &entry, &mut Applied::default());
    }

    /// Mostly new ids, sometimes one that may be used, in memory or in the store.
    fn id(&mut self) -> TransferId {
        if self.random.range(0, 5) == 0 && self.ids > 0 {
            let last = u64::try_from(self.ids).expect("few");
            return TransferId(self.random.range(1, last + 1).into());
        }
        self.ids += 1;
        TransferId(self.ids)
    }

    fn account(&mut self) -> u128 {
        self.random.range(1, 11).into()
    }

    fn one(&mut self) {
        let id = self.id();
        let (debit, credit) = (self.account(), self.account());
        let amount = self.random.range(1, 30).into();
        match self.random.range(0, 10) {
            0 => self.apply(|entry| {
                entry.create_accounts(&[Account::new(AccountId(debit), 1, 1, LIMITED)]);
            }),
            1 => self.prepare(id, credit, amount),
            2 => self.resolve(),
            3 => self.send_away(AccountId(debit)),
            4 => self.bring_back(),
            5 => self.commit(id, debit, amount),
            6 => {
                let at = Timestamp(self.world.clock + 40);
                self.apply(|entry| entry.cut_register(at));
            }
            // The test's own scan would be ended by that of a cut.
            7 if self.world.ledger.is_scanning() => self.apply(|_| {}),
            7 => {
                let at = Timestamp(self.world.clock.saturating_sub(30));
                self.apply(|entry| entry.cut_pass(at));
            }
            _ if debit != credit && debit != 9 => {
                let rows = [
                    transfer(id.0, debit, credit, amount),
                    transfer(id.0 + 7_000, 9, debit, 20),
                ];
                self.apply(|entry| entry.transfers(&rows));
            }
            _ => self.apply(|_| {}),
        }
    }

    fn prepare(&mut self, id: TransferId, credit: u128, amount: u128) {
        let row = PrepareRow {
            transfer: transfer(id.0, 11, credit, amount),
            attempt: attempt(1),
            coordinator: ShardId(2),
            reserved: [0; 12],
        };
        self.apply(|entry| entry.prepare(&[row]));
        self.open.push(row.txn());
    }

    fn resolve(&mut self) {
        if let Some(txn) = self.open.pop() {
            let verdict =
                [Verdict::Commit, Verdict::Abort][usize::from(self.random.range(0, 4) == 0)];
            let row = TxnRow {
                timestamp: Timestamp(self.world.clock - 5),
                ..TxnRow::new(txn, verdict)
            };
            self.apply(|entry| entry.resolve(&[row]));
        }
    }

    fn commit(&mut self, id: TransferId, debit: u128, amount: u128) {
        let row = CommitRow {
            transfer: transfer(id.0, debit, 15, amount),
            attempt: attempt(u64::try_from(id.0).expect("small ids")),
            participant: ShardId(2),
            kind: CommitKind::Prepared.to_u16(),
            code: 0,
            reserved: [0; 8],
        };
        self.apply(|entry| entry.commit(&[row]));
    }

    fn head(&mut self, source: u32, target: u32) -> MoveHead {
        self.moves += 1;
        MoveHead {
            id: MoveId(self.moves),
            attempt: attempt(1),
            source: ShardId(source),
            target: ShardId(target),
            accounts: 1,
            owners: 0,
        }
    }

    fn send_away(&mut self, account: AccountId) {
        let Some(owned) = self.twin.account(account).copied() else {
            return;
        };
        if account == AccountId(9) {
            return;
        }
        let head = self.head(1, 2);
        let version = MoveVersionRow {
            account,
            version: owned.version,
            ownership_epoch: owned.account.ownership_epoch,
            reserved: 0,
        };
        self.apply(|entry| entry.commit_move(&head, &[version]));
        if self.twin.account(account).is_none() {
            self.away.insert(account, owned.account.ownership_epoch + 1);
        }
    }

    fn bring_back(&mut self) {
        let Some((account, ownership_epoch)) = self.away.pop_first() else {
            return;
        };
        let head = MoveHead {
            owners: 1,
            ..self.head(2, 1)
        };
        let row = MovedAccountRow {
            account: Account {
                ownership_epoch,
                ..Account::new(account, 1, 1, LIMITED)
            },
            id_max: 3,
            version: 7,
            last: HistoryPosition::NONE,
        };
        let owner = PreviousOwnerRow {
            account,
            id_max: 5,
            commit_ts: Timestamp(5),
            shard: ShardId(1),
            ownership_epoch: ownership_epoch - 1,
            last: HistoryPosition::NONE,
            reserved: 0,
        };
        let parts = MoveSection {
            head: &head,
            accounts: &[row],
            owners: &[owner],
        };
        self.apply(|entry| entry.prepare_move(parts));
        let decided = TxnRow {
            timestamp: Timestamp(self.world.clock),
            ..TxnRow::new(head.txn(), Verdict::Commit)
        };
        self.apply(|entry| entry.resolve(&[decided]));
    }
}

/// Applies an entry as a replica does: what memory does not know is asked of the store first.
pub(super) fn feed(ledger: &mut Ledger, store: &Store, entry: &Entry, applied: &mut Applied) {
    let missing = ledger.missing(entry);
    ledger.learn(&missing.names, &store.answer(&missing.names));
    ledger.learn_accounts(&missing.accounts, &store.account_rows(&missing.accounts));
    assert!(ledger.missing(entry).is_empty());
    ledger.apply(ledger.applied().next(), entry, applied);
}

#[test]
fn a_checkpoint_is_the_state_at_its_slot_whatever_happens_while_it_is_written() {
    let mut asked = 0;
    let mut cold = 0;
    let mut owners = 0;
    for seed in 0..60 {
        let mut drill = Drill::new(seed);
        for _ in 0..6 {
            for _ in 0..drill.random.range(1, 80) {
                drill.one();
            }
            let expected = drill.twin.digest_by_scan();
            let slot = drill.world.ledger.applied();
            drill.world.ledger.begin_checkpoint();
            // The store of the last checkpoint answers until this one is whole.
            let mut next = drill.store.clone();
            while let Some(part) = drill.world.ledger.next_part() {
                next.take(part);
                for _ in 0..drill.random.range(0, 4) {
                    drill.one();
                    let ledger = &drill.world.ledger;
                    assert_eq!(ledger.digest(), drill.twin.digest_by_scan(), "seed {seed}");
                    assert_eq!(ledger.accounts(), drill.twin.accounts());
                    cold += ledger.cold_accounts();
                }
            }
            assert_eq!(drill.world.ledger.end_checkpoint(), slot);
            drill.store = next;
            let mark = drill.store.mark.expect("whole");
            assert_eq!((mark.slot, mark.digest()), (slot, expected), "seed {seed}");
            asked += check_restored(&drill, slot, true);
            asked += check_restored(&drill, slot, false);
            owners += check_previous_owners(&drill.twin);
        }
    }
    assert!(owners > 100, "{owners} previous owners");
    assert!(cold > 500, "{cold} accounts were only in the store");
    assert!(asked > 500, "{asked} ids were looked up in a store");
}

/// A scan looks at a few places behind each entry; accounts change, come, leave, are written and forgotten before it
/// has come by, and what it finds is as if nothing had happened.
#[test]
fn a_scan_finds_the_accounts_as_they_were_when_it_began() {
    let (mut scans, mut entries, mut whole) = (0, 0, 0);
    for seed in 0..60 {
        let mut drill = Drill::new(seed);
        let mut next: Option<Store> = None;
        let mut expected: Option<(u128, Tally)> = None;
        for number in 0..600 {
            drill.one();
            if expected.is_none() {
                drill.world.ledger.count_on(usize::MAX);
            }
            if drill.random.range(0, 3) == 0 {
                match next.take() {
                    None => {
                        drill.world.ledger.begin_checkpoint();
                        next = Some(drill.store.clone());
                    }
                    Some(mut store) => match drill.world.ledger.next_part() {
                        Some(part) => {
                            store.take(part);
                            next = Some(store);
                        }
                        None => {
                            drill.world.ledger.end_checkpoint();
                            drill.store = store;
                            whole += 1;
                        }
                    },
                }
            }
            if expected.is_none() && drill.random.range(0, 8) == 0 {
                let beside = drill.world.ledger.digest_beside_accounts();
                let ledger = &mut drill.world.ledger;
                ledger.begin_scan(Timestamp(number), beside, Tally::default());
                let mut tally = Tally::default();
                let accounts = drill.twin.records.iter();
                accounts.for_each(|owned| tally.add_account(&owned.account));
                expected = Some((drill.twin.digest_by_scan(), tally));
            }
            let places = index(drill.random.range(0, 3));
            entries += u32::from(drill.world.ledger.is_scanning());
            if let Some(found) = drill.world.ledger.scan_on(places) {
                let (digest, tally) = expected.take().expect("it was begun");
                assert_eq!(found.digest, digest, "seed {seed}");
                assert!(found.accounts.agrees(&tally), "seed {seed}");
                scans += 1;
            }
        }
    }
    assert!(
        scans > 1000 && entries > 8 * scans,
        "{scans} scans over {entries} entries"
    );
    assert!(whole > 300, "{whole} checkpoints");
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("a short run")
}

/// Restores, replays what came later, and compares with the ledger that went on.
fn check_restored(drill: &Drill, slot: Slot, whole: bool) -> usize {
    let mut ledger = drill.store.restore(1, whole).expect("it was just written");
    assert_eq!(ledger.applied(), slot);
    if whole {
        assert_eq!(ledger.digest(), ledger.digest_by_scan());
    }
    let mut applied = Applied::default();
    let mut asked = 0;
    for entry in drill.entries.iter().skip(index(slot.0)) {
        asked += ledger.missing(entry).names.len();
        feed(&mut ledger, &drill.store, entry, &mut applied);
        ledger.forget_accounts(drill.in_memory_max);
    }
    let live = &drill.twin;
    assert_eq!(check_previous_owners(&ledger), check_previous_owners(live));
    assert_eq!(ledger.digest(), live.digest());
    assert_eq!(ledger.accounts(), live.accounts());
    for id in (1..=10).map(AccountId) {
        if ledger.is_unloaded(id) {
            ledger.learn_accounts(&[id], &drill.store.account_rows(&[id]));
        }
        let states = [&ledger, live].map(|l| {
            l.account(id)
                .map(|o| (o.account, o.version, o.last, o.open))
        });
        assert_eq!(states[0], states[1]);
    }
    asked
}

/// An id that a previous owner may know is never taken for one above all of them. Returns how many there are.
fn check_previous_owners(ledger: &Ledger) -> usize {
    for (&account, rows) in &ledger.owners {
        for row in rows {
            for id in [0, row.id_max] {
                let found = ledger.previous_owners_that_may_know(account, TransferId(id));
                assert_eq!(found, rows, "{account} {id}");
            }
        }
        let none = ledger.previous_owners_that_may_know(account, TransferId(u128::MAX));
        assert_eq!(none, []);
    }
    ledger.owners.values().map(Vec::len).sum()
}

/// The rows of an account, newest first, give its balances.
#[test]
fn the_chain_of_an_account_s_rows_adds_up_to_its_balances() {
    for seed in 100..130 {
        let mut drill = Drill::new(seed);
        drill.in_memory_max = usize::MAX;
        for round in 0..5 {
            for _ in 0..60 {
                drill.one();
            }
            drill.world.ledger.begin_checkpoint();
            while let Some(part) = drill.world.ledger.next_part() {
                drill.store.take(part);
            }
            drill.world.ledger.end_checkpoint();
            let rows: Vec<_> = drill.store.rows().collect();
            let ledger = &drill.world.ledger;
            for owned in ledger
                .records
                .iter()
                .filter(|o| o.account.ownership_epoch == 0)
            {
                let id = owned.account.id;
                let (mut debits, mut credits, mut at) = (0, 0, owned.last);
                while at != HistoryPosition::NONE {
                    let (row, context) = rows[index(at.0) - 1];
                    let record = row.record(&context).expect("a known result");
                    assert_eq!(record.result, ResultCode::Ok);
                    let paid = record.debit_account_id == id && record.coordinator == ShardId(0);
                    *(if paid { &mut debits } else { &mut credits }) += record.amount;
                    assert!(record.before(id) < at);
                    at = record.before(id);
                }
                let account = &owned.account;
                assert_eq!(
                    (debits, credits),
                    (account.debits_posted, account.credits_posted),
                    "seed {seed}, round {round}, account {id}"
                );
            }
        }
    }
}

/// A missing, added or altered row is found by the digest, altered side tables by their hash.
#[test]
fn a_checkpoint_that_is_not_whole_is_refused() {
    let mut drill = Drill::new(7);
    for _ in 0..200 {
        drill.one();
    }
    drill.world.ledger.begin_checkpoint();
    while let Some(part) = drill.world.ledger.next_part() {
        drill.store.take(part);
    }
    assert!(drill.store.restore(1, true).is_ok());
    let refused = |change: &dyn Fn(&mut Store)| {
        let mut store = drill.store.clone();
        change(&mut store);
        store.restore(1, true).is_err()
    };
    assert!(refused(&|store| {
        store.accounts[0].0.pop();
    }));
    assert!(refused(&|store| store.accounts[0].0[0].version += 1));
    assert!(refused(&|store| {
        let extra = Account::new(AccountId(999), 1, 1, LIMITED);
        store.accounts[0].0.push(AccountRow {
            account: extra,
            id_max: 0,
            version: 1,
            last: 0,
        });
    }));
    assert!(refused(&|store| store
        .mark
        .as_mut()
        .expect("whole")
        .slot
        .0 += 1));
    for at in 0..drill.store.side.len() {
        assert!(refused(&|store| store.side[at] ^= 0x40), "byte {at}");
        assert!(refused(&|store| store.side.truncate(at)), "cut at {at}");
    }
}

/// What was not asked of the store is not "unused".
#[test]
fn an_id_that_may_be_stored_is_not_taken_for_unused() {
    let mut world = World::new(1);
    world.create_funded(1, 100);
    world.create(2, LIMITED);
    assert_eq!(world.transfer(50, 1, 2, 5), ResultCode::Ok);
    for _ in 0..2 {
        world.ledger.begin_checkpoint();
        while world.ledger.next_part().is_some() {}
        world.ledger.end_checkpoint();
    }
    let history = world.ledger.history();
    assert_eq!(history.debit(TransferId(50)), Known::NotLoaded);
    assert_eq!(history.debit(TransferId(49)), Known::NotLoaded);
    assert_eq!(history.debit(TransferId(9_000)), Known::Unused);
    let mut entry = EntryBuilder::new();
    entry.transfers(&[transfer(49, 1, 2, 5), transfer(9_000, 1, 2, 5)]);
    let entry = entry.finish(world.origin, Timestamp(1), 0);
    let name = RecordName {
        coordinator: ShardId(0),
        id: TransferId(49),
    };
    assert_eq!(world.ledger.missing(&entry).names, [name]);
    world.ledger.learn(&[name], &[]);
    assert!(world.ledger.missing(&entry).is_empty());
}
