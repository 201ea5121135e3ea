//! What a cluster knows of its traffic, and who owns what: what plans are made of and judged by.
//!
//! | question | answer | ends with |
//! | --- | --- | --- |
//! | `Observe { from, limit }` | `Pairs`, a page of the leader's table, and its windows | `next` of 0 |
//! | `ObserveOperations { from, limit }` | `Operations`, a page of the accounts in memory | `next` of 0 |
//! | `ListAccounts { after, limit }` | `AccountList`, ascending above `after` | an empty page |
//! | `BeginWindow`, `ObserveReset` | `Done` | |
//!
//! The leaders are asked one after the other while they serve, so the answers are of different
//! instants: [`Owners`] says what that means for accounts that move meanwhile. Nothing is judged
//! here; planning and scoring are left to the callers.

use std::collections::BTreeMap;

use quorate_protocol::client::{OperationsRow, PairRow, ReplyBody, RequestBody, TelemetryWindow};
use quorate_protocol::ids::{AccountId, ShardId};
use quorate_protocol::limits::{OBSERVED_MAX, ROWS_MAX};
use thiserror::Error;

use crate::blocking::BlockingClient;
use crate::error::{ClientError, Target};
use crate::session::Outcome;

/// Rows of one page: as many as a reply may have.
const PAGE_ROWS: u32 = 16_384;
const _: () = assert!(PAGE_ROWS as usize == ROWS_MAX);

/// Asks the leader of a shard.
pub trait AskShard {
    /// One request and its reply.
    ///
    /// # Errors
    /// There is no answer.
    fn ask(&mut self, shard: ShardId, body: RequestBody) -> Result<ReplyBody, ClientError>;
}

impl AskShard for BlockingClient {
    fn ask(&mut self, shard: ShardId, body: RequestBody) -> Result<ReplyBody, ClientError> {
        self.shard_request(shard, body)
    }
}

/// Why it cannot be said what a cluster counted, or who owns what.
#[derive(Debug, Error)]
pub enum ObserveError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("shard {shard} gave a page that begins at {next} behind the one at {from}")]
    Backwards {
        shard: ShardId,
        from: u32,
        next: u32,
    },
    #[error("shard {shard} listed account {account} after {after}")]
    OutOfOrder {
        shard: ShardId,
        account: AccountId,
        after: AccountId,
    },
    #[error("account {account} is owned by shard {first} and by shard {second}")]
    TwoOwners {
        account: AccountId,
        first: ShardId,
        second: ShardId,
    },
}

/// What all leaders counted since the last reset, or since they lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub pairs: Vec<PairRow>,
    /// Of each shard, the present one first.
    pub windows: Vec<(ShardId, Vec<TelemetryWindow>)>,
}

impl Counted {
    /// All windows of all shards, summed up; `began` is that of the first one.
    #[must_use]
    pub fn sum(&self) -> TelemetryWindow {
        sum(self.windows.iter().flat_map(|(_, windows)| windows))
    }
}

/// Several windows as one; `began` is the earliest.
#[must_use]
pub fn sum<'a>(windows: impl IntoIterator<Item = &'a TelemetryWindow>) -> TelemetryWindow {
    let windows = windows.into_iter().copied();
    let summed = windows.reduce(|a, b| TelemetryWindow {
        began: a.began.min(b.began),
        local: a.local + b.local,
        cross: a.cross + b.cross,
        dropped: a.dropped + b.dropped,
    });
    summed.unwrap_or_default()
}

/// Who listed which account.
///
/// An account that moves from a shard that was asked to one that was not is listed by both, one
/// that moves the other way by none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    newest: BTreeMap<AccountId, ShardId>,
    /// The first account that two shards listed, with both.
    twice: Option<(AccountId, ShardId, ShardId)>,
}

impl Owners {
    /// The shard that listed each account last: its owner also while accounts move. Such accounts
    /// may be missing; a plan leaves them where they are.
    #[must_use]
    pub fn newest(self) -> BTreeMap<AccountId, ShardId> {
        self.newest
    }

    /// The only owner of each account, for callers who know that nothing moves.
    ///
    /// # Errors
    /// Two shards listed the same account.
    pub fn unique(self) -> Result<BTreeMap<AccountId, ShardId>, ObserveError> {
        match self.twice {
            None => Ok(self.newest),
            Some((account, first, second)) => Err(ObserveError::TwoOwners {
                account,
                first,
                second,
            }),
        }
    }
}

/// Lets all shards forget what they counted.
///
/// # Errors
/// A shard does not answer.
pub fn reset(
    cluster: &mut impl AskShard,
    shards: impl IntoIterator<Item = ShardId>,
) -> Result<(), ObserveError> {
    tell(cluster, shards, "observe_reset", &RequestBody::ObserveReset)
}

/// Lets all shards count what comes from now on in a window of its own.
///
/// # Errors
/// A shard does not answer.
pub fn begin_window(
    cluster: &mut impl AskShard,
    shards: impl IntoIterator<Item = ShardId>,
) -> Result<(), ObserveError> {
    tell(cluster, shards, "begin_window", &RequestBody::BeginWindow)
}

fn tell(
    cluster: &mut impl AskShard,
    shards: impl IntoIterator<Item = ShardId>,
    name: &'static str,
    body: &RequestBody,
) -> Result<(), ObserveError> {
    for shard in shards {
        match cluster.ask(shard, body.clone())? {
            ReplyBody::Done => {}
            other => return Err(unexpected(shard, name, other)),
        }
    }
    Ok(())
}

/// Reads what all shards counted.
///
/// # Errors
/// A shard does not answer, or its table does not end.
pub fn counted(
    cluster: &mut impl AskShard,
    shards: impl IntoIterator<Item = ShardId>,
) -> Result<Counted, ObserveError> {
    let mut counted = Counted::default();
    for shard in shards {
        add_pairs(cluster, shard, &mut counted)?;
    }
    Ok(counted)
}

fn add_pairs(
    cluster: &mut impl AskShard,
    shard: ShardId,
    counted: &mut Counted,
) -> Result<(), ObserveError> {
    let mut from = 0_u32;
    loop {
        let limit = OBSERVED_MAX;
        let reply = cluster.ask(shard, RequestBody::Observe { from, limit })?;
        let ReplyBody::Pairs {
            rows,
            next,
            windows,
        } = reply
        else {
            return Err(unexpected(shard, "observe", reply));
        };
        counted.pairs.extend_from_slice(&rows);
        if next == 0 {
            counted.windows.push((shard, windows));
            return Ok(());
        }
        from = behind(shard, from, next)?;
    }
}

/// The windows of every shard, the present one first.
///
/// # Errors
/// A shard does not answer.
pub fn windows(
    cluster: &mut impl AskShard,
    shards: impl IntoIterator<Item = ShardId>,
) -> Result<Vec<(ShardId, Vec<TelemetryWindow>)>, ObserveError> {
    let mut of_all = Vec::new();
    for shard in shards {
        let (from, limit) = (0, 0);
        match cluster.ask(shard, RequestBody::Observe { from, limit })? {
            ReplyBody::Pairs { windows, .. } => of_all.push((shard, windows)),
            other => return Err(unexpected(shard, "observe", other)),
        }
    }
    Ok(of_all)
}

/// How often each account in memory was used, of those that were, at the shard that owns it.
///
/// # Errors
/// A shard does not answer, or its list does not end.
pub fn operations(
    cluster: &mut impl AskShard,
    shards: impl IntoIterator<Item = ShardId>,
) -> Result<Vec<(ShardId, OperationsRow)>, ObserveError> {
    let mut used = Vec::new();
    for shard in shards {
        let mut from = 0_u32;
        loop {
            let limit = OBSERVED_MAX;
            let reply = cluster.ask(shard, RequestBody::ObserveOperations { from, limit })?;
            let ReplyBody::Operations { rows, next } = reply else {
                return Err(unexpected(shard, "observe_operations", reply));
            };
            used.extend(rows.iter().map(|&row| (shard, row)));
            if next == 0 {
                break;
            }
            from = behind(shard, from, next)?;
        }
    }
    Ok(used)
}

/// A page must begin behind the one before, or reading would never end.
fn behind(shard: ShardId, from: u32, next: u32) -> Result<u32, ObserveError> {
    match next > from {
        true => Ok(next),
        false => Err(ObserveError::Backwards { shard, from, next }),
    }
}

/// Lists every account with the shard that owns it.
///
/// # Errors
/// A shard does not answer, or lists out of order.
pub fn owners(
    cluster: &mut impl AskShard,
    shards: impl IntoIterator<Item = ShardId>,
) -> Result<Owners, ObserveError> {
    let mut owners = Owners::default();
    for shard in shards {
        let mut after = AccountId(0);
        loop {
            let limit = PAGE_ROWS;
            let reply = cluster.ask(shard, RequestBody::ListAccounts { after, limit })?;
            let ReplyBody::AccountList(ids) = reply else {
                return Err(unexpected(shard, "list_accounts", reply));
            };
            let Some(&last) = ids.last() else { break };
            if last <= after {
                return Err(ObserveError::OutOfOrder {
                    shard,
                    account: last,
                    after,
                });
            }
            for &account in ids.iter() {
                if let Some(first) = owners.newest.insert(account, shard) {
                    owners.twice.get_or_insert((account, first, shard));
                }
            }
            after = last;
        }
    }
    Ok(owners)
}

fn unexpected(shard: ShardId, request: &'static str, reply: ReplyBody) -> ObserveError {
    let target = Target::Shard(shard);
    ClientError::of(target, request, Outcome::Reply(reply), std::iter::empty()).into()
}

#[cfg(test)]
mod tests {
    use quorate_protocol::client::WINDOWS;
    use quorate_protocol::time::Timestamp;
    use quorate_protocol::words::Rows;

    use super::*;

    const SHARDS: [ShardId; 2] = [ShardId(1), ShardId(2)];

    /// Two shards that answer in pages, shard s owning the ids that are s modulo 2.
    struct Pages {
        accounts: u128,
        pairs: u32,
        /// This one is listed by both.
        moving: Option<u128>,
        resets: Vec<ShardId>,
    }

    impl Pages {
        fn new(accounts: u128, pairs: u32) -> Self {
            Self {
                accounts,
                pairs,
                moving: None,
                resets: Vec::new(),
            }
        }
    }

    impl AskShard for Pages {
        fn ask(&mut self, shard: ShardId, body: RequestBody) -> Result<ReplyBody, ClientError> {
            Ok(match body {
                RequestBody::ListAccounts { after, limit } => {
                    let own =
                        |id: &u128| self.moving == Some(*id) || id % 2 == u128::from(shard.0 % 2);
                    let ids = (after.0 + 1..=self.accounts).filter(own);
                    let page: Vec<AccountId> = ids.take(limit as usize).map(AccountId).collect();
                    ReplyBody::AccountList(Rows::from_slice(&page))
                }
                RequestBody::Observe { from, limit } => {
                    let row = |n: u32| PairRow {
                        a: AccountId(u128::from(n)),
                        b: AccountId(u128::from(n + 1)),
                        counts: [1; WINDOWS],
                        reserved: 0,
                    };
                    // The server may give less than it is asked for, and places may be free.
                    let end = self.pairs.min(from + limit / 2);
                    let page: Vec<PairRow> = (from..end).filter(|n| n % 4 > 0).map(row).collect();
                    let window = TelemetryWindow {
                        began: Timestamp(u64::from(shard.0)),
                        local: 7,
                        cross: 3,
                        dropped: 5,
                    };
                    ReplyBody::Pairs {
                        rows: Rows::from_slice(&page),
                        next: if end < self.pairs { end } else { 0 },
                        windows: vec![window; 2],
                    }
                }
                RequestBody::ObserveOperations { from, limit } => {
                    let row = |n: u32| OperationsRow {
                        account: AccountId(u128::from(n)),
                        operations: 2,
                        reserved: 0,
                    };
                    let end = self.pairs.min(from + limit);
                    let page: Vec<OperationsRow> = (from..end).map(row).collect();
                    ReplyBody::Operations {
                        rows: Rows::from_slice(&page),
                        next: if end < self.pairs { end } else { 0 },
                    }
                }
                RequestBody::BeginWindow | RequestBody::ObserveReset => {
                    self.resets.push(shard);
                    ReplyBody::Done
                }
                _ => ReplyBody::BadRequest("not asked here".to_owned()),
            })
        }
    }

    /// Answers everything alike.
    struct Same(ReplyBody);

    impl AskShard for Same {
        fn ask(&mut self, _: ShardId, _: RequestBody) -> Result<ReplyBody, ClientError> {
            Ok(self.0.clone())
        }
    }

    #[test]
    fn all_pages_are_read_once() {
        let mut pages = Pages::new(70_001, 40_000);
        let owners = owners(&mut pages, SHARDS).unwrap().unique().unwrap();
        assert_eq!(owners.len(), 70_001);
        assert_eq!(owners[&AccountId(3)], ShardId(1));
        assert_eq!(owners[&AccountId(70_000)], ShardId(2));
        let counted = counted(&mut pages, SHARDS).unwrap();
        assert_eq!(counted.pairs.len(), 60_000);
        // Each reply has the windows of its shard; every shard counts once, however many pages it has.
        let sum = counted.sum();
        assert_eq!((sum.dropped, sum.local, sum.cross), (20, 28, 12));
        assert_eq!(sum.began, Timestamp(1));
        assert_eq!(operations(&mut pages, SHARDS).unwrap().len(), 80_000);
        reset(&mut pages, SHARDS).unwrap();
        begin_window(&mut pages, SHARDS).unwrap();
        assert_eq!(pages.resets, [SHARDS, SHARDS].concat());
    }

    #[test]
    fn an_account_that_two_shards_list_is_an_error_only_where_nothing_moves() {
        let mut pages = Pages::new(10, 0);
        pages.moving = Some(1);
        let owners = owners(&mut pages, SHARDS).unwrap();
        let error = owners.clone().unique().unwrap_err();
        assert_eq!(
            error.to_string(),
            "account 1 is owned by shard 1 and by shard 2"
        );
        // Shard 2 was asked later.
        assert_eq!(owners.newest()[&AccountId(1)], ShardId(2));
    }

    #[test]
    fn a_page_that_does_not_go_on_is_an_error_not_an_endless_loop() {
        let mut same = Same(ReplyBody::Operations {
            rows: Rows::empty(),
            next: 7,
        });
        let error = operations(&mut same, SHARDS).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("begins at 7 behind the one at 7")
        );
    }

    #[test]
    fn a_list_out_of_order_is_an_error_not_an_endless_loop() {
        let list = Rows::from_slice(&[AccountId(7)]);
        let mut same = Same(ReplyBody::AccountList(list));
        let error = owners(&mut same, SHARDS).unwrap_err();
        assert_eq!(error.to_string(), "shard 1 listed account 7 after 7");
    }

    #[test]
    fn an_answer_to_another_question_names_question_and_answer() {
        let mut same = Same(ReplyBody::Busy);
        for (error, question) in [
            (counted(&mut same, SHARDS).unwrap_err(), "observe"),
            (owners(&mut same, SHARDS).unwrap_err(), "list_accounts"),
            (reset(&mut same, SHARDS).unwrap_err(), "observe_reset"),
        ] {
            let expected = format!("shard 1 answered busy to {question}");
            assert_eq!(error.to_string(), expected);
        }
        let mut refusing = Same(ReplyBody::BadRequest("too old".to_owned()));
        let error = counted(&mut refusing, SHARDS).unwrap_err();
        assert!(error.to_string().contains("too old"), "{error}");
    }
}
