//! Which way a request goes, and each transfer of it: answered at once, into the log as a local
//! command, across shards, or waiting for an account.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use crate::client::{
    CutAnswer, InDoubtRow, MapPlace, MoveAnswer, RecordedTransfer, ReplyBody, Request, RequestBody,
    TransferAnswer,
};
use crate::ids::{AccountId, ConnectionId, DocumentKey, MoveId, RequestId, ShardId, TransferId};
use crate::ledger::apply::Places;
use crate::ledger::history::Record;
use crate::ledger::rules;
use crate::ledger::{Account, ResultCode, ResultRow, Transfer};
use crate::limits::{
    BATCH_MAX, BLOCKED_NS_MAX, CHANGES_MAX, CLIENT_AHEAD_NS_MAX, DOCUMENT_BYTES_MAX,
    LOOKUP_CREDITS_MAX, LOOKUP_MAX, MOVE_ACCOUNTS_MAX, OBSERVED_MAX, REQUEST_DEADLINE_NS, ROWS_MAX,
    request_deadline_ns_max,
};
use crate::planted::{Bug, planted};
use crate::replica::Replica;
use crate::replica::requests::{Pending, ReadPermit, RequestKey, Requests, Waiter};
use crate::replica::waiting::Item;
use crate::table::LOOK_AHEAD;
use crate::time::{MS, Timestamp};
use crate::txn::coordinator::Join;
use crate::words::Rows;

impl Replica {
    pub(super) fn on_request(&mut self, connection: ConnectionId, request: Request) {
        // Too far ahead is not merged; the request itself is still good.
        let _ = self
            .clock
            .merge(self.now, request.seen, CLIENT_AHEAD_NS_MAX);
        let id = request.id;
        let Some(body) = self.on_any_replica(connection, id, request.body) else {
            return;
        };
        if self.consensus.serving().is_none() {
            let reply = self.not_leader();
            self.reply(connection, id, reply);
            return;
        }
        if self.requests.is_full(self.config.admission.requests_max) {
            self.reply(connection, id, ReplyBody::Busy);
            return;
        }
        let asked = match request.deadline_ms {
            0 => REQUEST_DEADLINE_NS,
            ms => (u64::from(ms) * MS).min(request_deadline_ns_max(self.config.keep_ns)),
        };
        let at = Place {
            connection,
            id,
            deadline_ns: self.now.mono_ns + asked,
        };
        if let Err(reply) = self.on_leader(at, body) {
            self.reply(connection, id, reply);
        }
    }

    /// Questions about this very replica; gives back what only a leader answers.
    fn on_any_replica(
        &mut self,
        connection: ConnectionId,
        id: RequestId,
        body: RequestBody,
    ) -> Option<RequestBody> {
        let reply = match body {
            RequestBody::Status => ReplyBody::Status(self.status()),
            RequestBody::InDoubt => ReplyBody::InDoubt(self.in_doubt_rows()),
            RequestBody::CutDigest { at } => ReplyBody::Cut(match self.ledger.cuts().digest(at) {
                Some((slot, digest)) => CutAnswer::Digest { slot, digest },
                None => CutAnswer::NotKnown,
            }),
            body => return Some(body),
        };
        self.reply(connection, id, reply);
        None
    }

    /// Opens the request, or says at once why not.
    fn on_leader(&mut self, at: Place, body: RequestBody) -> Result<(), ReplyBody> {
        match body {
            RequestBody::CreateAccounts(rows) => self.create_accounts(at, &rows),
            RequestBody::CreateTransfers(rows) => self.create_transfers(at, &rows),
            RequestBody::LookupAccounts(ids) => {
                check_count("accounts", ids.len(), LOOKUP_MAX)?;
                let answers = alloc::vec![None; ids.len()];
                self.open_read(
                    at,
                    Pending::Accounts {
                        ids,
                        answers,
                        read: ReadPermit::default(),
                    },
                );
                Ok(())
            }
            RequestBody::LookupTransfers(ids) => {
                check_count("transfers", ids.len(), LOOKUP_MAX / 2)?;
                self.open_read(
                    at,
                    Pending::Transfers {
                        ids,
                        read: ReadPermit::default(),
                    },
                );
                Ok(())
            }
            RequestBody::AccountHistory(query) => self.open_history(at, query),
            RequestBody::ListAccounts { after, limit } => {
                let limit = usize::try_from(limit).unwrap_or(ROWS_MAX).min(ROWS_MAX);
                let read = ReadPermit::default();
                self.open_read(at, Pending::List { after, limit, read });
                Ok(())
            }
            RequestBody::MoveAccounts {
                id,
                target,
                accounts,
            } => self.open_move(at, id, target, &accounts),
            RequestBody::PutDocument {
                key,
                expected,
                bytes,
            } => self.put_document(at, key, expected, bytes),
            RequestBody::GetDocument { key } => {
                let read = ReadPermit::default();
                self.open_read(at, Pending::Document { key, read });
                Ok(())
            }
            RequestBody::ListDocuments => {
                let read = ReadPermit::default();
                self.open_read(at, Pending::Documents { read });
                Ok(())
            }
            RequestBody::CutRegister { at: cut } => self.open_cut_register(at, cut),
            RequestBody::CutSums { at: cut } => self.open_cut_sums(at, cut),
            RequestBody::Observe { from, limit } => {
                let page = (from, limit.min(OBSERVED_MAX));
                let clock = self.clock.last();
                self.telemetry.ask((at.connection, at.id), clock, page);
                Ok(())
            }
            RequestBody::ObserveOperations { from, limit } => {
                let limit = limit.min(OBSERVED_MAX);
                let (rows, next) = self.ledger.operations(from, limit);
                let rows = Rows::from_slice(&rows);
                Err(ReplyBody::Operations { rows, next })
            }
            RequestBody::BeginWindow => {
                self.telemetry.tick(self.now, 0);
                Err(ReplyBody::Done)
            }
            RequestBody::ObserveReset => {
                self.telemetry.begin_anew(self.now);
                Err(ReplyBody::Done)
            }
            RequestBody::MapChanges { place, limit } => Err(self.map_changes(place, limit)),
            RequestBody::TransferLeadership { to } => {
                let done = self.consensus.transfer_leadership(self.now, to);
                Err(if done {
                    ReplyBody::Done
                } else {
                    ReplyBody::Busy
                })
            }
            RequestBody::Status | RequestBody::InDoubt | RequestBody::CutDigest { .. } => {
                unreachable!("answered by any replica")
            }
        }
    }

    fn map_changes(&self, place: MapPlace, limit: u32) -> ReplyBody {
        let limit = usize::try_from(limit).unwrap_or(CHANGES_MAX);
        let behind = (place.epoch, place.account);
        let (rows, is_end) = self.ledger.map_changes(behind, limit.clamp(1, CHANGES_MAX));
        let next = match rows.last() {
            Some(last) => MapPlace {
                epoch: last.epoch,
                account: last.account,
            },
            None => place,
        };
        ReplyBody::MapChanges {
            rows: Rows::from_slice(&rows),
            next,
            has_more: !is_end,
        }
    }

    fn create_accounts(&mut self, at: Place, rows: &[Account]) -> Result<(), ReplyBody> {
        check_count("accounts", rows.len(), BATCH_MAX)?;
        if self.is_overloaded() {
            return Err(ReplyBody::Busy);
        }
        let key = self.open(at, Requests::results(rows.len()));
        for (waiter, account) in waiters(key).zip(rows) {
            match rules::check_account(account) {
                Err(code) => self.settle(waiter, ResultRow::unlogged(code)),
                Ok(()) => self
                    .proposals
                    .push_account(*account, waiter, self.now.mono_ns),
            }
        }
        Ok(())
    }

    fn create_transfers(&mut self, at: Place, rows: &[Transfer]) -> Result<(), ReplyBody> {
        check_count("transfers", rows.len(), BATCH_MAX)?;
        if self.is_overloaded() {
            return Err(ReplyBody::Busy);
        }
        let key = self.open(at, Requests::results(rows.len()));
        let mut waiters = waiters(key);
        for rows in rows.chunks(LOOK_AHEAD) {
            let places = self.ledger.places_of_each(rows);
            for ((transfer, places), waiter) in rows.iter().zip(places).zip(&mut waiters) {
                match rules::check_transfer(transfer) {
                    Err(code) => self.settle(waiter, ResultRow::unlogged(code)),
                    Ok(()) => self.admit_found(transfer, places, waiter, None),
                }
            }
        }
        Ok(())
    }

    /// Whether nothing new is begun: more commands wait for a slot than are taken in, or for too long, or
    /// there is no room to log them. Decisions are not asked: what is in doubt elsewhere holds money.
    pub(crate) fn is_overloaded(&self) -> bool {
        if self.is_disk_full && !planted(Bug::AdmitsOnFullDisk) {
            return true;
        }
        let bytes_max = self.config.admission.proposal_bytes_max;
        self.proposals.is_full(bytes_max, self.now.mono_ns)
    }

    /// Finds the way of a well-formed transfer. `looked_up`: the ownership epoch under which all
    /// previous owners have denied knowing the id.
    pub(crate) fn admit(&mut self, transfer: &Transfer, waiter: Waiter, looked_up: Option<u32>) {
        let places = self.ledger.places_of(transfer);
        self.admit_found(transfer, places, waiter, looked_up);
    }

    /// The same for one whose accounts were looked for in memory already.
    fn admit_found(
        &mut self,
        transfer: &Transfer,
        places: Places,
        waiter: Waiter,
        looked_up: Option<u32>,
    ) {
        if self.requests.get(waiter.request).is_none() {
            return;
        }
        let mut transfer = Transfer {
            debit_epoch: 0,
            ..*transfer
        };
        if let Some(row) = self.ledger.known_as_used(&transfer) {
            return self.settle(waiter, row);
        }
        match self.coordinator.join(&transfer, waiter) {
            Join::Alone => {}
            Join::Joined => return,
            Join::Full => return self.settle(waiter, ResultRow::unlogged(ResultCode::Busy)),
        }
        let (debit, credit) = (transfer.debit_account_id, transfer.credit_account_id);
        if let Some(account) = [debit, credit].into_iter().find(|&id| self.is_blocked(id)) {
            return self.wait(account, Item::Transfer(transfer, waiter));
        }
        if let Some(epoch) = self.ledger.epoch_at(places.debit, debit) {
            transfer.debit_epoch = epoch;
            if looked_up != Some(transfer.debit_epoch) && self.needs_look_up(&transfer) {
                return self.look_up(&transfer, waiter);
            }
        } else if let Some(shard) = self.ledger.elsewhere(debit) {
            return self.settle(waiter, ResultRow::moved(shard));
        }
        let is_here = places.credit.is_some() || self.ledger.is_unloaded(credit);
        let elsewhere = if is_here {
            None
        } else {
            self.ledger.elsewhere(credit)
        };
        match elsewhere {
            Some(_) if places.debit.is_none() && self.ledger.is_unloaded(debit) => {
                self.park_for_debit(transfer, waiter, looked_up);
            }
            Some(shard) => {
                let target = self.coordinator.location(credit).unwrap_or(shard);
                let target = if target == self.config.address.shard {
                    shard
                } else {
                    target
                };
                self.start_cross(&transfer, places.debit, waiter, target);
            }
            None => self
                .proposals
                .push_transfer(transfer, waiter, self.now.mono_ns),
        }
    }

    /// Whether operations on the account have to wait: it is being moved away or in.
    pub(crate) fn is_blocked(&self, account: AccountId) -> bool {
        self.migrations.is_frozen(account) || self.ledger.is_staged(account)
    }

    /// Queues a command for an account, to its request's deadline.
    pub(crate) fn wait(&mut self, account: AccountId, item: Item) {
        let deadline_ns = match &item {
            Item::Transfer(_, waiter) => match self.requests.get(waiter.request) {
                Some(open) => open.deadline_ns,
                None => return,
            },
            // A freeze waits for the account's own debits, which may wait for a frozen account at
            // another shard: waiting without end on both sides would be a deadlock.
            Item::Prepare(_) if self.is_blocked(account) => self.now.mono_ns + BLOCKED_NS_MAX,
            Item::Prepare(_) => self.now.mono_ns + REQUEST_DEADLINE_NS,
        };
        if !self.waiting.push(account, deadline_ns, item) {
            self.give_up_item(item, ResultCode::Busy);
        }
    }

    fn give_up_item(&mut self, item: Item, code: ResultCode) {
        match item {
            Item::Transfer(_, waiter) => self.settle(waiter, ResultRow::unlogged(code)),
            Item::Prepare(row) => self.vote_contended(&row),
        }
    }

    pub(super) fn expire_waiting(&mut self) {
        for item in self.waiting.expired(self.now.mono_ns) {
            self.give_up_item(item, ResultCode::Contended);
        }
    }

    /// Tries the waiters of all woken accounts again.
    pub(super) fn wake(&mut self) {
        if self.consensus.serving().is_none() {
            return;
        }
        while let Some(account) = self.woken.pop_first() {
            for item in self.waiting.take(account, self.now.mono_ns) {
                match item {
                    Item::Transfer(transfer, waiter) => self.admit(&transfer, waiter, None),
                    Item::Prepare(row) => self.admit_prepare(&row),
                }
            }
        }
    }

    pub(crate) fn settle(&mut self, waiter: Waiter, row: ResultRow) {
        if let Some((open, body)) = self.requests.settle(waiter, row) {
            self.latencies
                .record(self.now.mono_ns.saturating_sub(open.opened_ns));
            self.reply(open.connection, open.id, body);
        }
    }

    pub(crate) fn open(&mut self, at: Place, pending: Pending) -> RequestKey {
        self.requests.open(
            at.connection,
            at.id,
            self.now.mono_ns,
            at.deadline_ns,
            pending,
        )
    }

    pub(super) fn open_read(&mut self, at: Place, pending: Pending) {
        let key = self.open(at, pending);
        self.begin_read(key);
    }

    fn open_move(
        &mut self,
        at: Place,
        id: MoveId,
        target: ShardId,
        accounts: &[AccountId],
    ) -> Result<(), ReplyBody> {
        check_count("accounts", accounts.len(), MOVE_ACCOUNTS_MAX)?;
        // One that has committed and has not arrived yet is still to be answered, with how long that took.
        let is_running = self.migrations.is_running(id);
        if let Some(record) = self.ledger.move_record(id).filter(|_| !is_running) {
            // Another move under a used id would be answered with that one's success.
            if !record.is_of(target, accounts) {
                return Err(ReplyBody::Move(MoveAnswer::Refused));
            }
            return Err(ReplyBody::Move(MoveAnswer::Moved {
                accounts: record.accounts,
                commit_ts: record.commit_ts,
                freeze_ns: 0,
            }));
        }
        self.check_move(id, target, accounts)?;
        let key = self.open(at, Pending::Move { id });
        self.start_move(id, target, accounts, key);
        Ok(())
    }

    fn put_document(
        &mut self,
        at: Place,
        key: DocumentKey,
        expected: u64,
        bytes: Vec<u8>,
    ) -> Result<(), ReplyBody> {
        let bytes_max = DOCUMENT_BYTES_MAX.min(self.config.entry_bytes_max / 2);
        if bytes.len() > bytes_max {
            let length = bytes.len();
            return Err(ReplyBody::BadRequest(format!(
                "a document of {length} bytes, at most {bytes_max}"
            )));
        }
        if self.is_overloaded() {
            return Err(ReplyBody::Busy);
        }
        let request = self.open(at, Pending::PutDocument);
        self.proposals.push_document(request, key, expected, bytes);
        Ok(())
    }

    fn open_cut_register(&mut self, at: Place, cut: Timestamp) -> Result<(), ReplyBody> {
        if self.ledger.cuts().is_registered(cut) {
            return Err(ReplyBody::Cut(CutAnswer::Registered));
        }
        if self.clock.last() >= cut || self.now.wall_ns >= cut.0 {
            return Err(ReplyBody::Cut(CutAnswer::Refused));
        }
        let key = self.open(at, Pending::CutRegister { at: cut });
        self.register_cut(key, cut);
        Ok(())
    }

    fn open_cut_sums(&mut self, at: Place, cut: Timestamp) -> Result<(), ReplyBody> {
        if !self.ledger.cuts().is_registered(cut) {
            return Err(ReplyBody::Cut(CutAnswer::NotKnown));
        }
        let key = self.open(
            at,
            Pending::CutSums {
                at: cut,
                proposed: false,
            },
        );
        self.cut_requests.insert(key);
        Ok(())
    }

    fn in_doubt_rows(&self) -> Vec<InDoubtRow> {
        let mut in_doubt: Vec<_> = self.ledger.in_doubt().iter().collect();
        in_doubt.sort_unstable_by_key(|prepared| prepared.txn());
        let transfers = in_doubt.into_iter().map(|prepared| InDoubtRow {
            id: prepared.transfer.id.0,
            is_move: false,
            coordinator: prepared.coordinator,
            attempt: prepared.attempt,
            prepare_ts: prepared.prepare_ts,
            slot: prepared.slot,
        });
        let moves = self.ledger.staged().iter().map(|(txn, staged)| InDoubtRow {
            id: txn.id,
            is_move: true,
            coordinator: txn.coordinator,
            attempt: txn.attempt,
            prepare_ts: staged.prepare_ts,
            slot: staged.slot,
        });
        moves.chain(transfers).take(ROWS_MAX / 2).collect()
    }

    /// What this shard recorded for ids, on either side.
    pub(super) fn transfer_answers(&self, ids: &[TransferId]) -> ReplyBody {
        let history = self.ledger.history();
        let mut credits_left = LOOKUP_CREDITS_MAX;
        let mut answers = Vec::with_capacity(ids.len());
        for &id in ids {
            let credits = history.credits(self.config.shards, id);
            let credits: Vec<RecordedTransfer> = credits.map(Record::answer).collect();
            let Some(left) = credits_left.checked_sub(credits.len()) else {
                return ReplyBody::BadRequest(format!(
                    "more than {LOOKUP_CREDITS_MAX} credits under these {} ids, ask for fewer",
                    ids.len()
                ));
            };
            credits_left = left;
            answers.push(TransferAnswer {
                id,
                debit: history.debit(id).if_loaded().map(Record::answer),
                credits,
            });
        }
        ReplyBody::Transfers(answers)
    }
}

/// Where a request comes from and until when it is open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub connection: ConnectionId,
    pub id: RequestId,
    pub deadline_ns: u64,
}

fn waiters(request: RequestKey) -> impl Iterator<Item = Waiter> {
    (0..).map(move |row| Waiter { request, row })
}

fn check_count(what: &str, count: usize, limit: usize) -> Result<(), ReplyBody> {
    match count {
        0 => Err(ReplyBody::BadRequest(["no ", what].concat().to_string())),
        n if n > limit => Err(ReplyBody::BadRequest(format!(
            "{n} {what}, at most {limit} per request"
        ))),
        _ => Ok(()),
    }
}
