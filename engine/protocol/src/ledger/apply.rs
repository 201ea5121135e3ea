//! What an entry does to the state: the only place where money moves.
//!
//! The results come in the order of the commands; a leader hands them to whoever waits, a follower
//! drops them. Nothing here knows who leads.

use alloc::vec::Vec;

use crate::checkpoint;
use crate::entry::{Entry, Section};
use crate::ids::{AccountId, Ballot, MoveId, Slot};
use crate::ledger::history::{HistoryPosition, Record};
use crate::ledger::rules::{self, Leg};
use crate::ledger::state::{Ledger, OwnedAccount};
use crate::ledger::{Account, AccountFlags, ResultCode, ResultRow, Transfer};
use crate::limits::ID_AHEAD_MS_MAX;
use crate::planted::{Bug, planted};
use crate::shard::catalog::PutAnswer;
use crate::table::LOOK_AHEAD;
use crate::time::{MS, Timestamp};
use crate::txn::record::{Attempt, TxnRow};

/// How a transfer command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferOutcome {
    /// Both sides are posted. `is_system`: one of them is a system account's.
    Posted {
        timestamp: Timestamp,
        is_system: bool,
    },
    /// The answer to give; nothing was posted.
    Final(ResultRow),
    /// No effect: open reservations of this account decide; propose again when they have resolved.
    Deferred(AccountId),
    /// No effect: an account is not here any more, or not under the same ownership; admit again.
    Reroute,
}

/// Where the accounts of a transfer are in memory; `None`: they are not there. True until an account comes or goes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Places {
    pub debit: Option<u32>,
    pub credit: Option<u32>,
}

/// How a `Commit` record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// Posted; the participant posts too. `is_system`: the debit account is a system account.
    Committed {
        timestamp: Timestamp,
        is_system: bool,
    },
    /// Decided with this answer and recorded (now, or under another attempt); the participant drops
    /// its reservation.
    Final(ResultRow),
    /// `Evaluate` only: the debit leg is allowed, so the participant has to be asked.
    NeedsPrepare,
    /// No effect: open reservations of the debit account decide.
    Contended,
    /// No effect: the debit account is not here any more, or not under the same ownership.
    Reroute,
    /// No effect: the attempt is of another leader's ballot.
    Fenced,
}

/// What an entry did, for whoever waits for it. Reused from entry to entry.
#[derive(Debug, Default)]
pub struct Applied {
    /// The fence held the whole entry back.
    pub fenced: bool,
    pub accounts: Vec<ResultRow>,
    pub transfers: Vec<TransferOutcome>,
    /// Votes on what was prepared, moves included.
    pub votes: Vec<TxnRow>,
    pub commits: Vec<CommitOutcome>,
    /// Accounts on which something ended that others may wait for.
    pub touched: Vec<AccountId>,
    /// Moves away from here: whether they took effect, and when.
    pub moves: Vec<(MoveId, Attempt, Option<Timestamp>)>,
    pub cuts: Vec<Timestamp>,
    pub documents: Vec<PutAnswer>,
}

impl Applied {
    /// Forgets the last entry's results.
    pub fn clear(&mut self) {
        self.fenced = false;
        self.accounts.clear();
        self.transfers.clear();
        self.votes.clear();
        self.commits.clear();
        self.touched.clear();
        self.moves.clear();
        self.cuts.clear();
        self.documents.clear();
    }
}

/// Where an entry stands: what its effects are stamped with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub slot: Slot,
    pub timestamp: Timestamp,
    pub origin: Ballot,
}

impl Ledger {
    /// Applies the entry of the next slot.
    ///
    /// # Panics
    /// If slots are skipped.
    pub fn apply(&mut self, slot: Slot, entry: &Entry, applied: &mut Applied) {
        assert_eq!(slot, self.applied.next(), "slots are applied in order");
        self.applied = slot;
        self.weight += checkpoint::weight_of(entry);
        applied.clear();
        // An entry's own timestamp is above everything its leader knew of. A later leader can still
        // find an older, higher one in a slot below (it was never shown to this entry's leader), so
        // the effect's timestamp is what rises from slot to slot, equally on every replica.
        let timestamp = entry
            .timestamp()
            .max(Timestamp(self.last_timestamp.0.saturating_add(1)));
        let at = At {
            slot,
            timestamp,
            origin: entry.origin(),
        };
        // The ballot fence: no replica can have applied this entry before the later leader's first
        // one, so it must have no effect on any. Hole-filling no-ops have origin zero and raise
        // nothing.
        let unfenced = planted(Bug::SkipFence) || planted(Bug::FenceOnlyCommit);
        if at.origin < self.highest_origin && !unfenced {
            applied.fenced = true;
            return;
        }
        if at.origin == Ballot::ZERO {
            assert!(entry.is_noop(), "only no-ops have no origin");
            return;
        }
        self.highest_origin = self.highest_origin.max(at.origin);
        self.last_timestamp = at.timestamp;
        for section in entry.sections() {
            self.apply_section(at, section, applied);
        }
    }

    fn apply_section(&mut self, at: At, section: Section<'_>, applied: &mut Applied) {
        match section {
            Section::CreateAccounts(rows) => {
                for account in rows {
                    let row = self.create_account(at, account);
                    applied.accounts.push(row);
                }
            }
            Section::Transfers(rows) => {
                for rows in rows.chunks(LOOK_AHEAD) {
                    let places = self.places_of_each(rows);
                    for (transfer, places) in rows.iter().zip(places) {
                        let outcome = self.transfer(at, transfer, places);
                        applied.transfers.push(outcome);
                    }
                }
            }
            Section::Prepare(rows) => {
                for rows in rows.chunks(LOOK_AHEAD) {
                    let credits = rows.iter().map(|row| row.transfer.credit_account_id);
                    let places = self.records.places(credits);
                    for (row, place) in rows.iter().zip(places) {
                        let vote = self.prepare(at, row, place);
                        applied.votes.push(vote);
                    }
                }
            }
            Section::Commit(rows) => {
                for rows in rows.chunks(LOOK_AHEAD) {
                    let debits = rows.iter().map(|row| row.transfer.debit_account_id);
                    let places = self.records.places(debits);
                    for (row, place) in rows.iter().zip(places) {
                        let outcome = self.commit(at, row, place);
                        applied.commits.push(outcome);
                        applied.touched.push(row.transfer.debit_account_id);
                    }
                }
            }
            Section::Resolve(rows) => {
                for rows in rows.chunks(LOOK_AHEAD) {
                    self.resolve(at, rows, applied);
                }
            }
            Section::PrepareMove(parts) => {
                let vote = self.prepare_move(at, parts);
                applied.votes.push(vote);
            }
            Section::CommitMove { head, accounts } => {
                let outcome = self.commit_move(at, head, accounts);
                applied.moves.push((head.id, head.attempt, outcome));
            }
            Section::Acknowledged(rows) => {
                for row in rows {
                    self.acknowledge(row);
                }
            }
            Section::Forward(rows) => self.forward(rows),
            Section::DropStubs(rows) => self.drop_stubs(rows),
            Section::PutDocument(write) => {
                let answer = self.catalog.put(write.head, write.bytes);
                applied.documents.push(answer);
            }
            Section::CutRegister { at: cut } => {
                if at.timestamp < cut {
                    self.cuts.register(cut);
                }
                applied.cuts.push(cut);
            }
            Section::CutPass { at: cut } => {
                if at.timestamp > cut {
                    self.pass_cut(cut, at.slot);
                }
                applied.cuts.push(cut);
            }
        }
    }

    /// The log of an account's default home alone decides its creation.
    fn create_account(&mut self, at: At, account: &Account) -> ResultRow {
        if let Some(owned) = self.account(account.id) {
            let code = rules::compare_account(&owned.account, account);
            return ResultRow::logged(code, owned.account.timestamp);
        }
        let elsewhere = self.elsewhere(account.id);
        if let Some(shard) = elsewhere.filter(|_| !planted(Bug::CreationAtTwoShards)) {
            return ResultRow::moved(shard);
        }
        let created = Account {
            timestamp: at.timestamp,
            ..*account
        };
        let mut owned = OwnedAccount::new(created);
        owned.id_max = self.missing_id_max;
        self.add_account(owned);
        self.cuts.on_create(at.timestamp, account.id);
        ResultRow::logged(ResultCode::Ok, at.timestamp)
    }

    /// The places of each transfer's accounts, of at most [`LOOK_AHEAD`] transfers. Found all at once, so that what is
    /// not in the processor's caches is waited for at the same time; transfers neither bring accounts nor take them.
    pub(crate) fn places_of_each(&self, transfers: &[Transfer]) -> [Places; LOOK_AHEAD] {
        assert!(transfers.len() <= LOOK_AHEAD);
        let mut places = [Places::default(); LOOK_AHEAD];
        for (places, transfer) in places.iter_mut().zip(transfers) {
            *places = self.places_of(transfer);
        }
        places
    }

    /// The places of a transfer's accounts.
    pub(crate) fn places_of(&self, transfer: &Transfer) -> Places {
        Places {
            debit: self.place_of(transfer.debit_account_id),
            credit: self.place_of(transfer.credit_account_id),
        }
    }

    pub(crate) fn is_system(&self, place: u32) -> bool {
        let flags = self.records.at(place).account.flags;
        flags.contains(AccountFlags::SYSTEM)
    }

    fn transfer(&mut self, at: At, transfer: &Transfer, places: Places) -> TransferOutcome {
        use TransferOutcome::{Deferred, Final, Posted, Reroute};
        if self.is_from_the_future(at, transfer) {
            return Final(ResultRow::unlogged(ResultCode::IdFromTheFuture));
        }
        let used = self.used(transfer);
        if let Some(row) = used.filter(|_| !planted(Bug::ForgetDedupe)) {
            return Final(row);
        }
        if self.is_too_old(at, transfer) {
            return Final(ResultRow::unlogged(ResultCode::IdTooOld));
        }
        let credit = places.credit;
        if credit.is_none() && self.elsewhere(transfer.credit_account_id).is_some() {
            return Reroute;
        }
        let debit = match self.debit_leg(transfer, places.debit) {
            DebitLeg::Allowed(place) => place,
            DebitLeg::Refused(place, code) => {
                return Final(self.record_refusal(at, transfer, place, code, Attempt::default()));
            }
            DebitLeg::Undecided => return Deferred(transfer.debit_account_id),
            DebitLeg::NotHere => return Reroute,
        };
        let Some(credit) = credit else {
            let code = ResultCode::CreditAccountNotFound;
            return Final(self.record_refusal(at, transfer, Some(debit), code, Attempt::default()));
        };
        let owned = self.records.at(credit);
        match rules::check_credit(&owned.account, owned.reserved, transfer) {
            Leg::Allowed => {}
            Leg::Refused(code) => {
                let debit = Some(debit);
                return Final(self.record_refusal(at, transfer, debit, code, Attempt::default()));
            }
            Leg::Undecided => return Deferred(transfer.credit_account_id),
        }
        let is_system = [debit, credit]
            .into_iter()
            .any(|place| self.is_system(place));
        self.post_local(at, debit, credit, transfer);
        Posted {
            timestamp: at.timestamp,
            is_system,
        }
    }

    /// The answer to an id that was used before, for apply: the store has been asked.
    pub(crate) fn used(&self, transfer: &Transfer) -> Option<ResultRow> {
        let record = self.history.debit(transfer.id).loaded()?;
        Some(Self::answer_again(record, transfer))
    }

    /// The same for admission: `None` also if the store would have to be asked. Apply decides.
    pub(crate) fn known_as_used(&self, transfer: &Transfer) -> Option<ResultRow> {
        let record = self.history.debit(transfer.id).if_loaded()?;
        Some(Self::answer_again(record, transfer))
    }

    fn answer_again(record: &Record, transfer: &Transfer) -> ResultRow {
        let code = rules::compare_transfer(&record.transfer(), record.result, transfer);
        let mut row = ResultRow::logged(code, record.commit_ts);
        if record.attempt != Attempt::default() {
            row.flags |= ResultRow::CROSS_SHARD;
        }
        row
    }

    pub(crate) fn is_from_the_future(&self, at: At, transfer: &Transfer) -> bool {
        self.ids == crate::config::IdRule::Ulid
            && rules::ulid_ms(transfer.id) > at.timestamp.0 / MS + ID_AHEAD_MS_MAX
    }

    /// Whether a transfer must not run any more, if its id is not known as used: it may have been. Final for
    /// the id: time rises.
    pub(crate) fn is_too_old(&self, at: At, transfer: &Transfer) -> bool {
        let retention = self.retention.as_ref();
        retention.is_some_and(|retention| retention.is_too_old(transfer.id, at.timestamp))
    }

    /// The debit leg, `place` being that of the debit account.
    pub(crate) fn debit_leg(&self, transfer: &Transfer, place: Option<u32>) -> DebitLeg {
        let Some(place) = place else {
            let gone = self.elsewhere(transfer.debit_account_id).is_some();
            let code = ResultCode::DebitAccountNotFound;
            return if gone {
                DebitLeg::NotHere
            } else {
                DebitLeg::Refused(None, code)
            };
        };
        let owned = self.records.at(place);
        if owned.account.ownership_epoch != transfer.debit_epoch {
            return DebitLeg::NotHere;
        }
        match rules::check_debit(&owned.account, owned.reserved, transfer) {
            Leg::Allowed => DebitLeg::Allowed(place),
            Leg::Refused(code) => DebitLeg::Refused(Some(place), code),
            Leg::Undecided if planted(Bug::RefusalUnderCredit) => {
                DebitLeg::Refused(Some(place), ResultCode::ExceedsCredits)
            }
            Leg::Undecided => DebitLeg::Undecided,
        }
    }

    pub(crate) fn record_refusal(
        &mut self,
        at: At,
        transfer: &Transfer,
        debit: Option<u32>,
        code: ResultCode,
        attempt: Attempt,
    ) -> ResultRow {
        self.history
            .record(Record::decided(transfer, code, at, attempt));
        if !planted(Bug::RefusedIdsStay) {
            self.note_recorded(debit, transfer.id);
        }
        ResultRow::logged(code, at.timestamp)
    }

    /// Posts both legs of a local transfer and records it.
    fn post_local(&mut self, at: At, debit: u32, credit: u32, transfer: &Transfer) {
        let mut record = Record::decided(transfer, ResultCode::Ok, at, Attempt::default());
        record.debit_before = self.records.at(debit).last;
        record.credit_before = self.records.at(credit).last;
        let position = self.history.record(record);
        self.debit(at, debit, transfer, position);
        self.credit(credit, transfer, at.timestamp, position);
    }

    /// Posts the debit leg of a cross-shard transfer and records the decision.
    pub(crate) fn post_debit(&mut self, at: At, place: u32, transfer: &Transfer, attempt: Attempt) {
        let mut record = Record::decided(transfer, ResultCode::Ok, at, attempt);
        record.debit_before = self.records.at(place).last;
        let position = self.history.record(record);
        self.debit(at, place, transfer, position);
    }

    /// Posts the credit leg of a cross-shard transfer and records it. It counts for cuts at `counted`.
    pub(crate) fn post_credit(
        &mut self,
        place: u32,
        transfer: &Transfer,
        counted: Timestamp,
        mut record: Record,
    ) {
        record.credit_before = self.records.at(place).last;
        let position = self.history.record(record);
        if !planted(Bug::ApplyOnPrepare) {
            self.credit(place, transfer, counted, position);
        }
        if planted(Bug::CreditTwice) {
            self.credit(place, transfer, counted, position);
        }
    }

    fn debit(&mut self, at: At, place: u32, transfer: &Transfer, position: HistoryPosition) {
        let owned = self.change(place);
        owned.account.debits_posted = owned
            .account
            .debits_posted
            .checked_add(transfer.amount)
            .expect("the debit leg was checked");
        owned.last = position;
        owned.note_operation();
        owned.note_recorded(transfer.id);
        self.cuts
            .on_debit(at.timestamp, transfer.ledger, transfer.amount);
    }

    pub(crate) fn credit(
        &mut self,
        place: u32,
        transfer: &Transfer,
        commit_ts: Timestamp,
        position: HistoryPosition,
    ) {
        let owned = self.change(place);
        owned.account.credits_posted = owned
            .account
            .credits_posted
            .checked_add(transfer.amount)
            .expect("the credit leg was checked, or its headroom reserved");
        owned.version += 1;
        owned.note_operation();
        owned.last = position;
        self.cuts
            .on_credit(commit_ts, transfer.ledger, transfer.amount);
    }
}

/// What the debit leg says; the places are those of the debit account.
pub(crate) enum DebitLeg {
    Allowed(u32),
    /// `None`: there is no such account, and its home is here.
    Refused(Option<u32>, ResultCode),
    Undecided,
    /// At another shard, or under another ownership than the leader saw.
    NotHere,
}
