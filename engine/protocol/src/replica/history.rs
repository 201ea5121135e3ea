//! Pages of an account's history: from the newest row here back along its chain, in memory and in the store.
//!
//! | step | when | what |
//! | --- | --- | --- |
//! | begin | a linearizable read may be answered | the account, its former owners and its newest row, at one instant |
//! | walk | at once, and whenever the store has answered | rows, newest first, up to the bounds of a page |
//!
//! Only the beginning needs the instant: rows below the newest one never change. It is one at which nothing
//! is open on the account, as for every read, and at which an entry stamped above `passed` has been applied
//! here. Then a balance that counts all effects up to that time is final. Proof: what comes later locally is
//! stamped above, and what is prepared later is committed above, because the vote brings the coordinator
//! this shard's time.
//!
//! Rows take effect in the order of their entries' timestamps, and commit at or before these. So behind the
//! first row that took effect before the range all rows lie before the range.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use crate::client::{
    FormerOwner, HistoryAnswer, HistoryEntry, HistoryHead, HistoryPage, HistoryQuery, HistoryStart,
    ReplyBody,
};
use crate::entry::Entry;
use crate::ledger::history::{ChainQuestion, HistoryPosition, Record};
use crate::limits::{CHAIN_ROWS_MAX, HISTORY_ROWS_MAX, HISTORY_WALK_MAX};
use crate::planted::{Bug, planted};
use crate::replica::Replica;
use crate::replica::admission::Place;
use crate::replica::proposals::Proposed;
use crate::replica::requests::{Pending, ReadPermit, RequestKey};
use crate::time::Timestamp;

/// A page on its way.
#[derive(Debug)]
pub(crate) struct HistoryRead {
    query: HistoryQuery,
    pub permit: ReadPermit,
    /// `None` until it has begun.
    walk: Option<Walk>,
}

/// A walk along the chain.
#[derive(Debug)]
struct Walk {
    head: Option<Box<HistoryHead>>,
    rows: Vec<HistoryEntry>,
    /// Rows looked at.
    looked_at: usize,
    /// Of the next row; none: there are no more in the range.
    next: HistoryPosition,
    dropped: bool,
}

/// What a walk needs.
enum Step {
    Done,
    /// The row at its position.
    Row,
}

impl Walk {
    fn begin(next: HistoryPosition, head: Option<Box<HistoryHead>>) -> Self {
        Self {
            head,
            rows: Vec::new(),
            looked_at: 0,
            next,
            dropped: false,
        }
    }

    fn step(&self, limit: usize) -> Step {
        let is_full = self.rows.len() >= limit || self.looked_at >= HISTORY_WALK_MAX;
        match self.next == HistoryPosition::NONE || self.dropped || is_full {
            true => Step::Done,
            false => Step::Row,
        }
    }

    /// Takes the row at its position.
    fn take(&mut self, query: &HistoryQuery, record: &Record) {
        let position = self.next;
        if !record.touches(query.account) {
            // A client chose the position; a chain leads to no such row.
            return self.end();
        }
        let is_before = match planted(Bug::HistoryIgnoresInversion) {
            true => record.commit_ts < query.ts_first,
            false => record.applied_ts < query.ts_first,
        };
        if is_before {
            return self.end();
        }
        self.looked_at += 1;
        if (query.ts_first..=query.ts_last).contains(&record.commit_ts) {
            self.rows.push(record.entry(position));
        }
        self.next = record.before(query.account);
        assert!(self.next < position, "a chain leads back");
    }

    fn end(&mut self) {
        self.next = HistoryPosition::NONE;
    }
}

impl HistoryRead {
    fn new(query: HistoryQuery) -> Self {
        Self {
            query,
            permit: ReadPermit::default(),
            walk: None,
        }
    }

    /// Rows that it may keep.
    pub fn limit(&self) -> usize {
        usize::try_from(self.query.limit)
            .map_or(HISTORY_ROWS_MAX, |limit| limit.min(HISTORY_ROWS_MAX))
    }

    /// The page as far as it goes; `None` if it has not begun.
    pub fn into_page(self) -> Option<HistoryAnswer> {
        let walk = self.walk?;
        Some(HistoryAnswer::Page(HistoryPage {
            head: walk.head,
            rows: walk.rows,
            next: walk.next.0,
            dropped: walk.dropped,
        }))
    }
}

/// Where a page begins.
enum Begin {
    At(HistoryPosition, Option<Box<HistoryHead>>),
    Refuse(ReplyBody),
    /// The store is asked for the account, transactions are open on it, or time has not passed.
    Later,
}

impl Replica {
    pub(super) fn open_history(&mut self, at: Place, query: HistoryQuery) -> Result<(), ReplyBody> {
        if query.limit == 0 {
            return Err(ReplyBody::BadRequest("no rows".to_string()));
        }
        match query.start {
            HistoryStart::Newest { passed } => {
                let clock = self.clock.last().0.max(self.now.wall_ns);
                if passed.0 > clock {
                    let passed = passed.0;
                    return Err(ReplyBody::BadRequest(format!(
                        "time {passed} is ahead of the shard's clock, which is at {clock}"
                    )));
                }
                // The next entry is stamped above it, even if the wall clock goes back.
                self.clock.observe(passed);
            }
            HistoryStart::Position(_) => {}
        }
        self.open_read(at, Pending::History(Box::new(HistoryRead::new(query))));
        Ok(())
    }

    /// Begins or goes on as far as memory allows; the read may be answered now.
    pub(super) fn drive_history(&mut self, key: RequestKey) {
        let Some(read) = self.history_read(key) else {
            return;
        };
        if read.walk.is_none() {
            let query = read.query;
            match self.begin_history(key, &query) {
                Begin::Later => return,
                Begin::Refuse(answer) => return self.end_history(key, answer),
                Begin::At(position, head) => {
                    if let Some(read) = self.history_read(key) {
                        read.walk = Some(Walk::begin(position, head));
                    }
                }
            }
        }
        self.walk_history(key);
    }

    /// The store has answered.
    pub(super) fn on_history_rows(&mut self, key: RequestKey, rows: &[(HistoryPosition, Record)]) {
        let Some(HistoryRead {
            query,
            walk: Some(walk),
            ..
        }) = self.history_read(key)
        else {
            return;
        };
        walk.dropped = rows.is_empty();
        for (position, record) in rows {
            if walk.next == *position {
                walk.take(query, record);
            }
        }
        if planted(Bug::HistoryStoredSkips) && rows.len() > 1 {
            walk.rows.pop();
        }
        self.walk_history(key);
    }

    fn begin_history(&mut self, key: RequestKey, query: &HistoryQuery) -> Begin {
        let id = query.account;
        let passed = match query.start {
            HistoryStart::Position(position) => {
                // Asked before the read may be answered, a leader that was replaced would refuse the newest rows.
                let end = self.ledger.history().next_position().0;
                if !(1..end).contains(&position) {
                    return Begin::Refuse(ReplyBody::BadRequest(format!(
                        "no row at position {position}, the next one gets {end}"
                    )));
                }
                return Begin::At(HistoryPosition(position), None);
            }
            HistoryStart::Newest { passed } => passed,
        };
        if self.load_holds_accounts(key, &[id]) {
            return Begin::Later;
        }
        let Some(owned) = self.ledger.account(id) else {
            if self.ledger.is_staged(id) {
                self.barriers.entry(id).or_default().insert(key);
                return Begin::Later;
            }
            return Begin::Refuse(ReplyBody::History(match self.ledger.elsewhere(id) {
                Some(shard) => HistoryAnswer::Moved(shard),
                None => HistoryAnswer::NotFound,
            }));
        };
        let (account, last, is_open) = (owned.account, owned.last, owned.open > 0);
        if !self.has_passed(passed) {
            return Begin::Later;
        }
        if is_open {
            self.barriers.entry(id).or_default().insert(key);
            return Begin::Later;
        }
        if let Some(readers) = self.barriers.get_mut(&id) {
            readers.remove(&key);
        }
        let own = self.config.address.shard;
        let owners = self.ledger.previous_owners(id).iter();
        // The rows of an earlier ownership of this shard are in its own chain.
        let owners = owners
            .filter(|owner| owner.shard != own)
            .map(|owner| FormerOwner {
                shard: owner.shard,
                left: owner.commit_ts,
                last: owner.last.0,
            });
        let owners = owners.collect();
        Begin::At(last, Some(Box::new(HistoryHead { account, owners })))
    }

    /// Whether an entry stamped at or above `at` is applied. If nothing is on its way that would be, an empty
    /// one is sent.
    fn has_passed(&mut self, at: Timestamp) -> bool {
        if self.ledger.last_timestamp() >= at || planted(Bug::HistoryBeforePassed) {
            return true;
        }
        if self.in_flight.is_empty()
            && self.proposals.is_empty()
            && self.consensus.can_propose()
            && let Some(ballot) = self.consensus.serving()
        {
            let timestamp = self.clock.stamp(self.now);
            let entry = Entry::noop(ballot, timestamp);
            let slot = self.consensus.propose(self.now, entry);
            let commands_end = self.commands_applied;
            self.in_flight
                .push_back(Proposed::empty(slot, commands_end));
        }
        false
    }

    fn walk_history(&mut self, key: RequestKey) {
        let Some(open) = self.requests.get_mut(key) else {
            return;
        };
        let Pending::History(read) = &mut open.pending else {
            return;
        };
        let (query, limit) = (read.query, read.limit());
        let Some(walk) = &mut read.walk else { return };
        while let Step::Row = walk.step(limit) {
            if walk.next < self.ledger.history().dropped().from {
                walk.dropped = true;
                continue;
            }
            let Some(record) = self.ledger.history().at(walk.next) else {
                let wanted = (limit - walk.rows.len()).min(HISTORY_WALK_MAX - walk.looked_at);
                let chain = ChainQuestion {
                    account: query.account,
                    from: walk.next,
                    rows_max: wanted.min(CHAIN_ROWS_MAX),
                };
                return self.load_chain(key, chain);
            };
            walk.take(&query, record);
        }
        if planted(Bug::HistoryPageSkips)
            && let Some(record) = self.ledger.history().at(walk.next)
        {
            walk.next = record.before(query.account);
        }
        self.reads.remove(&key);
        if let Some(open) = self.requests.close(key)
            && let Pending::History(read) = open.pending
            && let Some(answer) = read.into_page()
        {
            self.reply(open.connection, open.id, ReplyBody::History(answer));
        }
    }

    fn end_history(&mut self, key: RequestKey, answer: ReplyBody) {
        self.reads.remove(&key);
        if let Some(open) = self.requests.close(key) {
            self.reply(open.connection, open.id, answer);
        }
    }

    fn history_read(&mut self, key: RequestKey) -> Option<&mut HistoryRead> {
        match &mut self.requests.get_mut(key)?.pending {
            Pending::History(read) => Some(read),
            Pending::Results { .. }
            | Pending::Accounts { .. }
            | Pending::Transfers { .. }
            | Pending::List { .. }
            | Pending::Move { .. }
            | Pending::PutDocument
            | Pending::Document { .. }
            | Pending::Documents { .. }
            | Pending::CutRegister { .. }
            | Pending::CutSums { .. } => None,
        }
    }
}
