//! The history of one account, newest first, through all shards that have owned it; and what its balances
//! were at a time.
//!
//! Each shard has the rows of the time in which it owned the account. The owner's first page tells the account
//! and its former owners at one instant; whatever happens later is in no row that is shown. Rows are
//! merged by the timestamp at which they took effect: that is their order, also from owner to owner. Their
//! commit timestamps need not fall: a cross-shard credit may take effect behind a local transfer with a later
//! one.
//!
//! A balance at a time is the balance now without the rows that committed later. It is exact and final,
//! because the owner answers only when no effect up to that time can be added any more.

use std::collections::VecDeque;

use quorate_protocol::client::{
    HistoryAnswer, HistoryEntry, HistoryHead, HistoryQuery, HistoryStart, ReplyBody, RequestBody,
};
use quorate_protocol::ids::{AccountId, ShardId};
use quorate_protocol::ledger::Account;
use quorate_protocol::limits::{HISTORY_ROWS_MAX, REDIRECTS_MAX};
use quorate_protocol::time::Timestamp;

use crate::blocking::BlockingClient;
use crate::error::{ClientError, Target};

/// Commit timestamps, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    pub first: Timestamp,
    pub last: Timestamp,
}

impl TimeRange {
    /// Always.
    pub const ALL: Self = Self {
        first: Timestamp::ZERO,
        last: Timestamp(u64::MAX),
    };
}

/// A row and the shard that has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistoryRow {
    pub shard: ShardId,
    pub entry: HistoryEntry,
}

/// Rows of an account.
#[derive(Clone, Debug, PartialEq)]
pub struct AccountHistory {
    pub account: Account,
    /// Who owns it.
    pub shard: ShardId,
    /// Newest first.
    pub rows: Vec<HistoryRow>,
    /// There may be older rows in the range.
    pub more: bool,
    /// Some shard does not keep its older rows any more.
    pub dropped: bool,
}

/// An account at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum AccountAt {
    /// As it was, but for its ownership epoch, which is today's; and who owns it today.
    Found(Account, ShardId),
    NotFound,
    /// It was created later.
    NotYet {
        created: Timestamp,
    },
    /// Rows that committed later are not kept any more.
    Dropped,
}

/// What a reader wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// This question to the leader of that shard, its answer to [`HistoryReader::answer`].
    Ask(ShardId, HistoryQuery),
    Row(HistoryRow),
    End,
}

/// Why a history cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    NotFound,
    /// It moves faster than it can be followed.
    Moved(ShardId),
    /// The page is none that was asked for.
    Malformed,
}

/// Reads a history: which page is asked of whom, and which row comes next. Without IO.
#[derive(Debug)]
pub struct HistoryReader {
    account: AccountId,
    range: TimeRange,
    /// See [`HistoryStart::Newest`].
    passed: Timestamp,
    rows_per_page: u32,
    owner: ShardId,
    redirects: u32,
    redirects_max: u32,
    head: Option<HistoryHead>,
    /// The owner's first.
    chains: Vec<Chain>,
    dropped: bool,
}

/// The rows of one shard.
#[derive(Debug)]
struct Chain {
    shard: ShardId,
    /// Only rows that took effect before this are of the past of the head.
    end: Timestamp,
    /// Where the next page begins; `None`: there is none.
    next: Option<HistoryStart>,
    /// Not shown yet.
    rows: VecDeque<HistoryEntry>,
}

impl HistoryReader {
    /// `owner` is who is believed to own the account. No row that commits at or before `passed` will be
    /// missing; zero asks for no such time.
    #[must_use]
    pub fn new(account: AccountId, range: TimeRange, passed: Timestamp, owner: ShardId) -> Self {
        Self {
            account,
            range,
            passed,
            rows_per_page: u32::try_from(HISTORY_ROWS_MAX).expect("some hundred"),
            owner,
            redirects: 0,
            redirects_max: REDIRECTS_MAX,
            head: None,
            chains: Vec::new(),
            dropped: false,
        }
    }

    /// Asks for smaller pages: no more rows are wanted.
    #[must_use]
    pub fn with_rows_per_page(mut self, rows: usize) -> Self {
        let rows = rows.clamp(1, HISTORY_ROWS_MAX);
        self.rows_per_page = u32::try_from(rows).expect("some hundred");
        self
    }

    /// Follows so many redirects to the owner.
    #[must_use]
    pub fn with_redirects(self, redirects_max: u32) -> Self {
        Self {
            redirects_max,
            ..self
        }
    }

    /// The account at the instant of its newest row, once the owner has answered.
    #[must_use]
    pub fn head(&self) -> Option<&HistoryHead> {
        self.head.as_ref()
    }

    /// Who owned it then.
    #[must_use]
    pub fn owner(&self) -> ShardId {
        self.owner
    }

    /// Whether some shard does not keep its older rows any more.
    #[must_use]
    pub fn is_dropped(&self) -> bool {
        self.dropped
    }

    /// What comes next. A question is repeated until it is answered.
    pub fn step(&mut self) -> Step {
        if self.head.is_none() {
            let passed = self.passed;
            return Step::Ask(self.owner, self.query(HistoryStart::Newest { passed }));
        }
        let newest = self.newest();
        let shown = newest.map(|(_, applied_ts)| applied_ts);
        // Who may have a row that took effect later is asked first.
        let asked = self.chains.iter().find_map(|chain| {
            let may_be_newer = shown.is_none_or(|shown| chain.end > shown);
            let next = chain
                .next
                .filter(|_| chain.rows.is_empty() && may_be_newer)?;
            Some((chain.shard, next))
        });
        if let Some((shard, next)) = asked {
            return Step::Ask(shard, self.query(next));
        }
        let row = newest.and_then(|(index, _)| {
            let chain = &mut self.chains[index];
            let shard = chain.shard;
            let entry = chain.rows.pop_front()?;
            Some(HistoryRow { shard, entry })
        });
        row.map_or(Step::End, Step::Row)
    }

    /// Takes the answer of the shard that was asked last.
    ///
    /// # Errors
    /// If the account cannot be found.
    pub fn answer(&mut self, shard: ShardId, answer: HistoryAnswer) -> Result<(), Unread> {
        let page = match answer {
            HistoryAnswer::Page(page) => page,
            HistoryAnswer::Moved(to) if self.head.is_none() => {
                if self.redirects == self.redirects_max {
                    return Err(Unread::Moved(to));
                }
                self.redirects += 1;
                self.owner = to;
                return Ok(());
            }
            HistoryAnswer::NotFound if self.head.is_none() => return Err(Unread::NotFound),
            // Pages behind the first are of rows, not of owners.
            HistoryAnswer::NotFound | HistoryAnswer::Moved(_) => return Err(Unread::Malformed),
        };
        match (page.head, &self.head) {
            (Some(head), None) => self.begin(*head),
            (None, Some(_)) => {}
            (None, None) | (Some(_), Some(_)) => return Err(Unread::Malformed),
        }
        self.dropped |= page.dropped;
        let chain = self.chain_mut(shard);
        chain.next = match (page.next, chain.next) {
            (0, _) => None,
            _ if page.dropped => None,
            // It would never end.
            (next, Some(HistoryStart::Position(asked))) if next >= asked => {
                return Err(Unread::Malformed);
            }
            (next, _) => Some(HistoryStart::Position(next)),
        };
        let end = chain.end;
        let rows = page.rows.into_iter().filter(|row| row.applied_ts < end);
        chain.rows.extend(rows);
        Ok(())
    }

    fn begin(&mut self, head: HistoryHead) {
        // The owner's own page is the one that is being taken; where it goes on is said by that.
        let chain = |shard, end, next| Chain {
            shard,
            end,
            next,
            rows: VecDeque::new(),
        };
        let former = head.owners.iter().map(|owner| {
            let next = (owner.last > 0).then_some(HistoryStart::Position(owner.last));
            chain(owner.shard, owner.left, next)
        });
        self.chains = std::iter::once(chain(self.owner, Timestamp(u64::MAX), None))
            .chain(former)
            .collect();
        self.head = Some(head);
    }

    fn query(&self, start: HistoryStart) -> HistoryQuery {
        HistoryQuery {
            account: self.account,
            start,
            ts_first: self.range.first,
            ts_last: self.range.last,
            limit: self.rows_per_page,
        }
    }

    /// The chain whose next row took effect last, and when.
    fn newest(&self) -> Option<(usize, Timestamp)> {
        let fronts = self.chains.iter().enumerate();
        let fronts =
            fronts.filter_map(|(index, chain)| Some((index, chain.rows.front()?.applied_ts)));
        fronts.max_by_key(|(_, applied_ts)| *applied_ts)
    }

    fn chain_mut(&mut self, shard: ShardId) -> &mut Chain {
        let chain = self.chains.iter_mut().find(|chain| chain.shard == shard);
        chain.expect("only shards with a chain are asked")
    }
}

/// The account without the effect of a row; `None` if the row exceeds it, or is not its own.
#[must_use]
pub fn without(account: &Account, entry: &HistoryEntry) -> Option<Account> {
    let transfer = &entry.recorded.transfer;
    let mut before = *account;
    if transfer.debit_account_id == account.id {
        before.debits_posted = before.debits_posted.checked_sub(transfer.amount)?;
    } else if transfer.credit_account_id == account.id {
        before.credits_posted = before.credits_posted.checked_sub(transfer.amount)?;
    } else {
        return None;
    }
    Some(before)
}

impl BlockingClient {
    /// The rows of an account's history with commit timestamps in `range`, newest first, at most `limit`. Each
    /// page may take the deadline. If the end of the range is in the past (`is_past`), no row of it will be added
    /// later. `None`: there is no such account.
    ///
    /// # Errors
    /// If a shard does not answer, or says that the end of the range is ahead of its clock.
    pub fn account_history(
        &mut self,
        account: AccountId,
        range: TimeRange,
        is_past: bool,
        limit: usize,
    ) -> Result<Option<AccountHistory>, ClientError> {
        let passed = match is_past {
            true => range.last,
            false => Timestamp::ZERO,
        };
        let owner = self.shard_of(account);
        let reader = HistoryReader::new(account, range, passed, owner);
        // One more tells whether there are more.
        let mut reader = reader
            .with_rows_per_page(limit.saturating_add(1))
            .with_redirects(self.router().topology().redirects_max());
        let mut rows = Vec::new();
        let mut more = false;
        while let Some(row) = self.next_row(&mut reader)? {
            more = rows.len() == limit;
            if more {
                break;
            }
            rows.push(row);
        }
        Ok(reader.head().map(|head| AccountHistory {
            account: head.account,
            shard: reader.owner(),
            rows,
            more,
            dropped: reader.is_dropped(),
        }))
    }

    /// An account with its balances of a time in the past. All that committed later is read, and each page of it
    /// may take the deadline.
    ///
    /// # Errors
    /// If a shard does not answer, says that the time is ahead of its clock, or has rows that exceed the balance.
    pub fn account_at(
        &mut self,
        account: AccountId,
        at: Timestamp,
    ) -> Result<AccountAt, ClientError> {
        let range = TimeRange {
            first: Timestamp(at.0.saturating_add(1)),
            last: Timestamp(u64::MAX),
        };
        let owner = self.shard_of(account);
        let mut reader = HistoryReader::new(account, range, at, owner)
            .with_redirects(self.router().topology().redirects_max());
        let mut before = None;
        while let Some(row) = self.next_row(&mut reader)? {
            let now = reader.head().map(|head| head.account);
            let account = before.or(now).expect("rows come behind the head");
            let exceeds = || ClientError::Unexpected {
                target: Target::Shard(row.shard),
                request: "account_history",
                reply: format!("a row at {} that exceeds the balance", row.entry.position),
            };
            before = Some(without(&account, &row.entry).ok_or_else(exceeds)?);
        }
        let Some(head) = reader.head() else {
            return Ok(AccountAt::NotFound);
        };
        let created = head.account.timestamp;
        Ok(if created > at {
            AccountAt::NotYet { created }
        } else if reader.is_dropped() {
            AccountAt::Dropped
        } else {
            AccountAt::Found(before.unwrap_or(head.account), reader.owner())
        })
    }

    /// The next row; `None` at the end, or if there is no such account.
    fn next_row(&mut self, reader: &mut HistoryReader) -> Result<Option<HistoryRow>, ClientError> {
        loop {
            let (shard, query) = match reader.step() {
                Step::Row(row) => return Ok(Some(row)),
                Step::End => return Ok(None),
                Step::Ask(shard, query) => (shard, query),
            };
            let unexpected = |reply: String| ClientError::Unexpected {
                target: Target::Shard(shard),
                request: "account_history",
                reply,
            };
            let answer = match self.shard_request(shard, RequestBody::AccountHistory(query))? {
                ReplyBody::History(answer) => answer,
                other => return Err(unexpected(other.name().to_owned())),
            };
            if let HistoryAnswer::Moved(to) = answer
                && !self.topology().has_shard(to)
            {
                return Err(unexpected(format!("moved to shard {to}")));
            }
            match reader.answer(shard, answer) {
                Ok(()) => {}
                Err(Unread::NotFound) => return Ok(None),
                Err(Unread::Moved(to)) => return Err(unexpected(format!("moved to shard {to}"))),
                Err(Unread::Malformed) => {
                    return Err(unexpected("a page that does not fit".to_owned()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::client::{FormerOwner, HistoryPage, RecordedTransfer};
    use quorate_protocol::ids::{Slot, TransferId};
    use quorate_protocol::ledger::{AccountFlags, Transfer};
    use quorate_protocol::txn::record::Attempt;

    use super::*;

    const ACCOUNT: AccountId = AccountId(7);

    /// A credit of `amount` that took effect at `applied` and committed at `commit`.
    fn entry(position: u64, applied: u64, commit: u64, amount: u128) -> HistoryEntry {
        HistoryEntry {
            position,
            recorded: RecordedTransfer {
                transfer: Transfer::new(
                    TransferId(u128::from(applied)),
                    AccountId(1),
                    ACCOUNT,
                    amount,
                    1,
                    1,
                ),
                code: 0,
                slot: Slot(position),
                commit_ts: Timestamp(commit),
                attempt: Attempt::default(),
            },
            applied_ts: Timestamp(applied),
            coordinator: ShardId(0),
        }
    }

    fn page(head: Option<HistoryHead>, rows: Vec<HistoryEntry>, next: u64) -> HistoryAnswer {
        HistoryAnswer::Page(HistoryPage {
            head: head.map(Box::new),
            rows,
            next,
            dropped: false,
        })
    }

    /// Former owners: shard, when it left, position of its newest row.
    fn head(owners: &[(u32, u64, u64)]) -> HistoryHead {
        let mut account = Account::new(ACCOUNT, 1, 1, AccountFlags::default());
        account.credits_posted = 100;
        HistoryHead {
            account,
            owners: owners
                .iter()
                .map(|(shard, left, last)| FormerOwner {
                    shard: ShardId(*shard),
                    left: Timestamp(*left),
                    last: *last,
                })
                .collect(),
        }
    }

    /// Answers as scripted and notes who was asked; the shards and times of effect of all rows.
    fn read(
        reader: &mut HistoryReader,
        script: Vec<(u32, HistoryAnswer)>,
    ) -> (Vec<u32>, Vec<(u32, u64)>) {
        let mut script = VecDeque::from(script);
        let (mut asked, mut rows) = (Vec::new(), Vec::new());
        loop {
            match reader.step() {
                Step::Ask(shard, query) => {
                    assert_eq!(reader.step(), Step::Ask(shard, query));
                    let (of, answer) = script.pop_front().unwrap();
                    assert_eq!(of, shard.0, "after {rows:?}");
                    asked.push(shard.0);
                    reader.answer(shard, answer).unwrap();
                }
                Step::Row(row) => rows.push((row.shard.0, row.entry.applied_ts.0)),
                Step::End => break,
            }
        }
        assert!(script.is_empty());
        (asked, rows)
    }

    fn reader() -> HistoryReader {
        HistoryReader::new(ACCOUNT, TimeRange::ALL, Timestamp::ZERO, ShardId(1))
    }

    /// At shard 2 first, then at 1, at 3, and back at 1.
    #[test]
    fn rows_come_in_the_order_of_their_effect_through_all_owners() {
        let script = vec![
            (
                1,
                page(
                    Some(head(&[(2, 20, 7), (3, 40, 4)])),
                    vec![entry(9, 50, 50, 1), entry(8, 45, 45, 1)],
                    5,
                ),
            ),
            (1, page(None, vec![entry(5, 25, 25, 1)], 0)),
            (
                3,
                page(None, vec![entry(4, 35, 35, 1), entry(3, 31, 33, 1)], 0),
            ),
            // It was there again after the head: such a row is of no past.
            (
                2,
                page(None, vec![entry(6, 60, 60, 1), entry(2, 11, 11, 1)], 1),
            ),
            (2, page(None, vec![entry(1, 10, 10, 1)], 0)),
        ];
        let (asked, rows) = read(&mut reader(), script);
        assert_eq!(
            rows,
            [
                (1, 50),
                (1, 45),
                (3, 35),
                (3, 31),
                (1, 25),
                (2, 11),
                (2, 10)
            ]
        );
        assert_eq!(asked, [1, 1, 3, 2, 2]);
    }

    #[test]
    fn the_owner_is_followed_and_not_for_ever() {
        let mut reader = reader();
        let moved = |shard| HistoryAnswer::Moved(ShardId(shard));
        let script = vec![(1, moved(3)), (3, page(Some(head(&[])), vec![], 0))];
        let (asked, rows) = read(&mut reader, script);
        assert_eq!((asked, rows), (vec![1, 3], vec![]));
        assert_eq!(reader.owner(), ShardId(3));

        let mut reader = self::reader();
        for _ in 0..REDIRECTS_MAX {
            assert_eq!(reader.answer(ShardId(1), moved(2)), Ok(()));
        }
        let end = reader.answer(ShardId(1), moved(2));
        assert_eq!(end, Err(Unread::Moved(ShardId(2))));
    }

    #[test]
    fn what_is_not_kept_is_said() {
        let mut reader = reader();
        let gone = HistoryAnswer::Page(HistoryPage {
            head: None,
            rows: Vec::new(),
            next: 4,
            dropped: true,
        });
        let script = vec![
            (
                1,
                // Shard 3 has no rows, and is not asked.
                page(
                    Some(head(&[(2, 20, 4), (3, 30, 0)])),
                    vec![entry(9, 50, 50, 1)],
                    0,
                ),
            ),
            (2, gone),
        ];
        read(&mut reader, script);
        assert!(reader.is_dropped());
        let end = reader.answer(ShardId(2), HistoryAnswer::NotFound);
        assert_eq!(end, Err(Unread::Malformed));
        let end = self::reader().answer(ShardId(1), HistoryAnswer::NotFound);
        assert_eq!(end, Err(Unread::NotFound));
    }

    #[test]
    fn pages_that_do_not_fit_are_refused() {
        let mut reader = reader();
        let headless = page(None, vec![], 0);
        assert_eq!(reader.answer(ShardId(1), headless), Err(Unread::Malformed));
        let first = page(Some(head(&[])), vec![entry(9, 50, 50, 1)], 5);
        assert_eq!(reader.answer(ShardId(1), first.clone()), Ok(()));
        assert_eq!(reader.answer(ShardId(1), first), Err(Unread::Malformed));
        let round = page(None, vec![], 5);
        assert_eq!(reader.answer(ShardId(1), round), Err(Unread::Malformed));
    }

    #[test]
    fn a_row_is_taken_off_its_own_side_and_never_more_than_there_is() {
        let account = head(&[]).account;
        let before = without(&account, &entry(1, 1, 1, 30)).unwrap();
        assert_eq!((before.credits_posted, before.debits_posted), (70, 0));
        assert_eq!(without(&account, &entry(1, 1, 1, 101)), None);
        let mut other = account;
        other.id = AccountId(8);
        assert_eq!(without(&other, &entry(1, 1, 1, 1)), None);
    }
}
