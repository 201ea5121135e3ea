//! Two-phase commit and moves at apply: votes, decisions, resolutions.
//!
//! | record | log of | precondition for its effect | effect |
//! | --- | --- | --- | --- |
//! | `Prepared` | participant | leg allowed under every outcome of the open reservations | reserve headroom, in doubt |
//! | `Commit` | coordinator | id unused, attempt of this very leader's ballot, debit leg allowed | post the debit, record the id |
//! | `Resolved` | participant | in doubt | post or drop; out of doubt |
//! | `PrepareMove` | target | move unknown, accounts neither owned nor seen under as high an epoch | stage, invisible |
//! | `CommitMove` | source | versions and epochs as sent, nothing open | remove, leave stubs |
//! | `Resolved` (move) | target | staged | own the accounts, or drop them |
//! | `Forward` | home | its stub is of a lower ownership epoch | the stub names the later owner |
//! | `DropStubs` | former owner | not the home, the stub is the one that was asked about | the stub goes |

use crate::entry::MoveSection;
use crate::ids::{Ballot, MoveId, ShardId, TransferId};
use crate::ledger::apply::{Applied, At, CommitOutcome, DebitLeg};
use crate::ledger::history::{HistoryPosition, Record};
use crate::ledger::rules::{self, Leg};
use crate::ledger::state::{Ledger, MoveRecord, OwnedAccount, Prepared, Staged, hash_of_ids};
use crate::ledger::{AccountFlags, CodeKind, ResultCode, ResultRow};
use crate::limits::IN_DOUBT_MAX;
use crate::planted::{Bug, planted};
use crate::time::Timestamp;
use crate::txn::plausible::{self, Shards};
use crate::txn::record::{
    AcknowledgedRow, Attempt, CommitKind, CommitRow, MoveHead, MoveVersionRow, PrepareRow,
    PreviousOwnerRow, Subject, TxnId, TxnRow, Verdict,
};

impl PrepareRow {
    /// The transaction that the row belongs to.
    #[must_use]
    pub fn txn(&self) -> TxnId {
        TxnId::of_transfer(self.coordinator, self.transfer.id, self.attempt)
    }
}

impl MoveHead {
    /// The transaction of the move.
    #[must_use]
    pub fn txn(&self) -> TxnId {
        TxnId {
            coordinator: self.source,
            subject: Subject::Move,
            id: self.id.0,
            attempt: self.attempt,
        }
    }
}

fn no(txn: TxnId, code: ResultCode) -> TxnRow {
    TxnRow {
        code: code as u16,
        ..TxnRow::new(txn, Verdict::No)
    }
}

fn yes(txn: TxnId, prepare_ts: Timestamp) -> TxnRow {
    TxnRow {
        timestamp: prepare_ts,
        ..TxnRow::new(txn, Verdict::Yes)
    }
}

impl Ledger {
    /// The participant's vote, which is the apply result of `Prepared`.
    /// `credit`: the place of its credit account.
    pub(crate) fn prepare(&mut self, at: At, row: &PrepareRow, credit: Option<u32>) -> TxnRow {
        let txn = row.txn();
        let transfer = &row.transfer;
        let posted = self.history.credit(row.coordinator, transfer.id);
        if posted.loaded().is_some() {
            return no(txn, ResultCode::Exists);
        }
        if let Some(prepared) = self.in_doubt.of(&txn) {
            return yes(txn, prepared.prepare_ts);
        }
        if self.is_too_old(at, transfer) {
            return no(txn, ResultCode::IdTooOld);
        }
        // Nobody could ever be asked how it ended.
        if !self.shards().is_other(row.coordinator) {
            return TxnRow::new(txn, Verdict::Contended);
        }
        if self.in_doubt.len() >= IN_DOUBT_MAX || self.is_staged(transfer.credit_account_id) {
            return TxnRow::new(txn, Verdict::Contended);
        }
        let Some(place) = credit else {
            return match self.elsewhere(transfer.credit_account_id) {
                Some(shard) => TxnRow {
                    shard,
                    ..TxnRow::new(txn, Verdict::Moved)
                },
                None => no(txn, ResultCode::CreditAccountNotFound),
            };
        };
        let owned = self.records.at(place);
        match rules::check_credit(&owned.account, owned.reserved, transfer) {
            Leg::Refused(code) => no(txn, code),
            Leg::Undecided => TxnRow::new(txn, Verdict::Contended),
            Leg::Allowed => {
                let owned = self.change(place);
                owned.reserved.credits = owned
                    .reserved
                    .credits
                    .checked_add(transfer.amount)
                    .expect("the leg was checked with all open reservations");
                owned.open += 1;
                owned.version += 1;
                let prepared = Prepared {
                    coordinator: row.coordinator,
                    attempt: row.attempt,
                    transfer: *transfer,
                    prepare_ts: at.timestamp,
                    slot: at.slot,
                    place: Some(place),
                    resolving: Ballot::ZERO,
                };
                self.in_doubt.insert(prepared);
                if planted(Bug::ApplyOnPrepare) {
                    self.credit(place, transfer, at.timestamp, HistoryPosition::NONE);
                }
                yes(txn, at.timestamp)
            }
        }
    }

    /// The decision, which is the apply result of `Commit`.
    /// `debit`: the place of its debit account.
    pub(crate) fn commit(&mut self, at: At, row: &CommitRow, debit: Option<u32>) -> CommitOutcome {
        let transfer = &row.transfer;
        if let Some(used) = self.used(transfer) {
            return CommitOutcome::Final(used);
        }
        let old = planted(Bug::FenceOnlyCommit) && at.origin < self.highest_origin;
        if row.attempt.ballot != at.origin || old {
            return CommitOutcome::Fenced;
        }
        if self.is_from_the_future(at, transfer) {
            return CommitOutcome::Final(ResultRow::unlogged(ResultCode::IdFromTheFuture));
        }
        if self.is_too_old(at, transfer) {
            return CommitOutcome::Final(ResultRow::unlogged(ResultCode::IdTooOld));
        }
        let Some(kind) = CommitKind::from_u16(row.kind) else {
            return CommitOutcome::Fenced;
        };
        let place = match self.debit_leg(transfer, debit) {
            DebitLeg::Allowed(place) => place,
            DebitLeg::NotHere => return CommitOutcome::Reroute,
            DebitLeg::Refused(Some(place), _)
                if kind == CommitKind::Prepared && planted(Bug::OverdraftAtCommit) =>
            {
                place
            }
            DebitLeg::Undecided => return CommitOutcome::Contended,
            DebitLeg::Refused(place, code) => {
                let row = self.record_refusal(at, transfer, place, code, row.attempt);
                return CommitOutcome::Final(cross(row));
            }
        };
        match kind {
            CommitKind::Evaluate => CommitOutcome::NeedsPrepare,
            CommitKind::Prepared => {
                self.post_debit(at, place, transfer, row.attempt);
                if let Some(retention) = &mut self.retention {
                    retention.commits(row.participant, at.timestamp);
                }
                CommitOutcome::Committed {
                    timestamp: at.timestamp,
                    is_system: self.is_system(place),
                }
            }
            CommitKind::Refuse => {
                // A recorded success would be taken for a commit.
                let refusal = |code: &ResultCode| code.kind() == CodeKind::Recorded;
                let Some(code) = ResultCode::from_u16(row.code).filter(refusal) else {
                    return CommitOutcome::Fenced;
                };
                let row = self.record_refusal(at, transfer, Some(place), code, row.attempt);
                CommitOutcome::Final(cross(row))
            }
        }
    }

    /// Ends what was prepared, of at most [`LOOK_AHEAD`] transactions. Unconditional: flags, limits and closings that
    /// came after the reservation cannot refuse it.
    pub(crate) fn resolve(&mut self, at: At, rows: &[TxnRow], applied: &mut Applied) {
        let parsed = rows
            .iter()
            .filter_map(|row| Some((row.parse()?, row.timestamp)));
        let txns = parsed.clone().map(|((txn, _), _)| txn);
        let places = self.in_doubt.places(txns);
        for (((txn, verdict), timestamp), place) in parsed.zip(places) {
            self.resolve_one(at, (txn, place), verdict, timestamp, applied);
        }
    }

    /// With where it is in doubt, if it is about a transfer that is.
    fn resolve_one(
        &mut self,
        at: At,
        (txn, place): (TxnId, Option<u32>),
        verdict: Verdict,
        timestamp: Timestamp,
        applied: &mut Applied,
    ) {
        let commit = match verdict {
            Verdict::Commit => Some(timestamp),
            Verdict::Abort => None,
            Verdict::None
            | Verdict::Yes
            | Verdict::No
            | Verdict::Contended
            | Verdict::Moved
            | Verdict::Pending => return,
        };
        match txn.subject {
            Subject::Transfer => {
                // The same transaction may be named twice.
                let prepared = place.and_then(|place| self.in_doubt.take_at(place, &txn));
                if let Some(prepared) = prepared {
                    self.resolve_transfer(at, &prepared, commit, applied);
                }
            }
            Subject::Move => self.resolve_move(txn, commit, applied),
        }
    }

    fn resolve_transfer(
        &mut self,
        at: At,
        prepared: &Prepared,
        commit: Option<Timestamp>,
        applied: &mut Applied,
    ) {
        let (txn, transfer) = (prepared.txn(), &prepared.transfer);
        let place = prepared
            .place
            .expect("it was found when it was prepared, or restored");
        assert_eq!(
            self.records.at(place).account.id,
            transfer.credit_account_id,
            "an account with an open reservation does not move"
        );
        let owned = self.change(place);
        owned.reserved.credits = owned
            .reserved
            .credits
            .checked_sub(transfer.amount)
            .expect("it was reserved");
        owned.open = owned.open.checked_sub(1).expect("it was counted");
        owned.version += 1;
        // A coordinator commits one attempt of an id. If it claims a second one, its word counts
        // for nothing, but it must not stop this shard.
        let posted = self.history.credit(txn.coordinator, transfer.id);
        if let Some(commit_ts) = commit.filter(|_| posted.loaded().is_none()) {
            let record = Record::credited(transfer, at, txn.coordinator, txn.attempt, commit_ts);
            let arrival = planted(Bug::CutByArrival);
            let counted = if arrival { at.timestamp } else { commit_ts };
            self.post_credit(place, transfer, counted, record);
        }
        applied.touched.push(transfer.credit_account_id);
    }

    /// The target's vote on a move.
    pub(crate) fn prepare_move(&mut self, at: At, parts: MoveSection<'_>) -> TxnRow {
        let head = parts.head;
        let txn = head.txn();
        let decided = self.moves.contains_key(&(head.source, head.id));
        if decided && !planted(Bug::LateDuplicateOfMove) {
            return no(txn, ResultCode::Exists);
        }
        if let Some(staged) = self.staged.get(&txn) {
            return yes(txn, staged.prepare_ts);
        }
        if !plausible::can_arrive(&parts, self.shards(), self.history.next_position()) {
            return TxnRow::new(txn, Verdict::Contended);
        }
        for row in parts.accounts {
            let account = &row.account;
            let seen = self.stub(account.id).map_or(0, |stub| stub.ownership_epoch);
            // Nowhere else: its creation is decided here and has not happened, so it cannot arrive.
            let known = self.account(account.id).is_some() || self.elsewhere(account.id).is_none();
            let late = account.ownership_epoch < seen && !planted(Bug::LateDuplicateOfMove);
            if known || late {
                return no(txn, ResultCode::Exists);
            }
            if self.is_staged(account.id) {
                return TxnRow::new(txn, Verdict::Contended);
            }
        }
        for row in parts.accounts {
            self.staged_accounts.insert(row.account.id, txn);
        }
        let staged = Staged {
            head: *head,
            accounts: parts.accounts.to_vec(),
            owners: parts.owners.to_vec(),
            prepare_ts: at.timestamp,
            slot: at.slot,
            resolving: Ballot::ZERO,
        };
        self.staged.insert(txn, staged);
        if planted(Bug::ArrivesAtPrepare) {
            self.resolve_move(txn, Some(at.timestamp), &mut Applied::default());
        }
        yes(txn, at.timestamp)
    }

    /// The source's decision on a move: the commit timestamp, or `None` if something has touched an
    /// account since it was sent.
    pub(crate) fn commit_move(
        &mut self,
        at: At,
        head: &MoveHead,
        accounts: &[MoveVersionRow],
    ) -> Option<Timestamp> {
        let unchanged = |row: &MoveVersionRow| {
            self.account(row.account).is_some_and(|owned| {
                planted(Bug::MoveOvertakesPrepared)
                    || owned.version == row.version
                        && owned.account.ownership_epoch == row.ownership_epoch
                        && owned.open == 0
                        && !owned.account.flags.contains(AccountFlags::SYSTEM)
            })
        };
        let fenced = head.attempt.ballot != at.origin;
        let decided = self.moves.contains_key(&(self.shard, head.id));
        let plausible = plausible::can_leave(head, accounts, self.shards());
        if fenced || decided || !plausible || !accounts.iter().all(unchanged) {
            return None;
        }
        self.stubs.begin_epoch();
        for row in accounts {
            let removed = if planted(Bug::TwoOwners) {
                self.account(row.account).copied()
            } else {
                self.remove_account(row.account)
            };
            let Some(owned) = removed else {
                unreachable!("account {} was there and is named once", row.account)
            };
            self.owners.remove(&row.account);
            if !planted(Bug::StubNotKept) {
                let ownership_epoch = row.ownership_epoch + 1;
                self.stubs.put(row.account, head.target, ownership_epoch);
            }
            self.cuts.on_departure(at.timestamp, &owned.account);
        }
        let moved = accounts.iter().map(|row| row.account);
        if !planted(Bug::MoveForgotten) {
            self.record_move(head, hash_of_ids(moved), at.timestamp);
        }
        Some(at.timestamp)
    }

    fn resolve_move(&mut self, txn: TxnId, commit: Option<Timestamp>, applied: &mut Applied) {
        let Some(staged) = self.staged.remove(&txn) else {
            return;
        };
        for row in &staged.accounts {
            self.staged_accounts.remove(&row.account.id);
            applied.touched.push(row.account.id);
        }
        let Some(commit_ts) = commit else { return };
        let moved = staged.accounts.iter().map(|row| row.account.id);
        self.record_move(&staged.head, hash_of_ids(moved), commit_ts);
        for row in &staged.accounts {
            let mut account = row.account;
            let left = PreviousOwnerRow {
                account: account.id,
                id_max: row.id_max,
                commit_ts,
                shard: staged.head.source,
                ownership_epoch: account.ownership_epoch,
                last: row.last,
                reserved: 0,
            };
            account.ownership_epoch += 1;
            let carried = staged
                .owners
                .iter()
                .filter(|owner| owner.account == account.id && !planted(Bug::OwnersNotCarried));
            // It may be back: its rows of then are in the same chain.
            let own = carried.clone().find(|owner| owner.shard == self.shard);
            self.set_previous_owners(account.id, merge_owners(carried, left));
            self.stubs.remove(account.id);
            let mut owned = OwnedAccount::new(account);
            owned.version = row.version + 1;
            owned.last = own.map_or(HistoryPosition::NONE, |own| own.last);
            self.add_account(owned);
            self.cuts.on_arrival(commit_ts, &account);
        }
        applied.votes.push(arrived(txn, commit_ts));
    }

    /// What this shard, as target, tells the source once the accounts of a move are served here; `None` if they are not.
    #[must_use]
    pub(crate) fn arrived(&self, txn: TxnId) -> Option<TxnRow> {
        let record = self.moves.get(&(txn.coordinator, MoveId(txn.id)))?;
        (record.attempt == txn.attempt).then(|| arrived(txn, record.commit_ts))
    }

    fn shards(&self) -> Shards {
        Shards {
            own: self.shard,
            count: self.shards,
        }
    }

    fn record_move(&mut self, head: &MoveHead, accounts_hash: u128, commit_ts: Timestamp) {
        let record = MoveRecord {
            attempt: head.attempt,
            source: head.source,
            target: head.target,
            accounts: head.accounts,
            accounts_hash,
            commit_ts,
        };
        self.moves.insert((head.source, head.id), record);
    }

    /// A participant says what is out of doubt there.
    pub(crate) fn acknowledge(&mut self, row: &AcknowledgedRow) {
        let is_other = self.shards().is_other(row.shard);
        if let Some(retention) = self.retention.as_mut().filter(|_| is_other) {
            retention.acknowledge(row.shard, row.upto);
        }
    }

    /// Up to when nothing is in doubt here that was prepared for `coordinator`; it stays true for ever. What
    /// is prepared later is prepared above the last entry.
    #[must_use]
    pub(crate) fn resolved_upto(&self, coordinator: ShardId) -> Timestamp {
        let in_doubt = self.in_doubt.iter();
        let open = in_doubt.filter(|prepared| prepared.coordinator == coordinator);
        let first = open.map(|prepared| prepared.prepare_ts).min();
        first.map_or(self.last_timestamp, |first| Timestamp(first.0 - 1))
    }

    /// What this shard, as coordinator, has decided about an attempt; `None` if its log has no word
    /// on the id.
    #[must_use]
    pub fn decided(&self, txn: TxnId) -> Option<TxnRow> {
        let (attempt, commit_ts) = match txn.subject {
            Subject::Transfer => {
                let record = self.history.debit(TransferId(txn.id)).loaded()?;
                let won = record.result == ResultCode::Ok;
                (
                    if won {
                        record.attempt
                    } else {
                        Attempt::default()
                    },
                    record.commit_ts,
                )
            }
            Subject::Move => {
                let record = self.move_record(MoveId(txn.id))?;
                (record.attempt, record.commit_ts)
            }
        };
        // Another attempt's success means that this one never takes effect.
        Some(if attempt == txn.attempt && attempt != Attempt::default() {
            TxnRow {
                timestamp: commit_ts,
                ..TxnRow::new(txn, Verdict::Commit)
            }
        } else {
            TxnRow::new(txn, Verdict::Abort)
        })
    }
}

fn arrived(txn: TxnId, commit_ts: Timestamp) -> TxnRow {
    TxnRow {
        timestamp: commit_ts,
        ..TxnRow::new(txn, Verdict::Commit)
    }
}

fn cross(row: ResultRow) -> ResultRow {
    ResultRow {
        flags: row.flags | ResultRow::CROSS_SHARD,
        ..row
    }
}

/// One row per shard that owned the account, the latest ownership of each with the highest id of
/// all: the list cannot grow beyond the number of shards.
fn merge_owners<'a>(
    carried: impl Iterator<Item = &'a PreviousOwnerRow>,
    left: PreviousOwnerRow,
) -> alloc::vec::Vec<PreviousOwnerRow> {
    let mut merged = left;
    let mut owners = alloc::vec::Vec::new();
    for owner in carried {
        if owner.shard == left.shard {
            merged.id_max = merged.id_max.max(owner.id_max);
        } else {
            owners.push(*owner);
        }
    }
    owners.push(merged);
    owners
}
