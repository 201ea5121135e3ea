//! What a cluster knows of its traffic, and who owns what: what plans are made of and judged by.
//!
//! | question | answer | ends with |
//! | --- | --- | --- |
//! | `Observe { from, limit }` | `Pairs`, a page of the leader's table | `total` rows, or an empty page |
//! | `ListAccounts { after, limit }` | `AccountList`, ascending above `after` | an empty page |
//! | `ObserveReset` | `Done` | |
//!
//! The leaders are asked one after the other while they serve, so the answers are of different
//! instants: [`Owners`] says what that means for accounts that move meanwhile. Nothing is judged
//! here; planning and scoring are left to the callers.

use std::collections::BTreeMap;

use quorate_protocol::client::{PairRow, ReplyBody, RequestBody};
use quorate_protocol::ids::{AccountId, ShardId};
use quorate_protocol::limits::{ROWS_MAX, TELEMETRY_PAIRS_MAX};
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
    #[error("shard {shard} counted more than the {} pairs that its table holds", TELEMETRY_PAIRS_MAX)]
    TooManyPairs { shard: ShardId },
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

/// Committed transfers of all shards since the last reset, or since their leaders lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub pairs: Vec<PairRow>,
    /// Transfers that the leaders' bounded tables could not take.
    pub dropped: u64,
    pub local: u64,
    pub cross: u64,
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
    for shard in shards {
        match cluster.ask(shard, RequestBody::ObserveReset)? {
            ReplyBody::Done => {}
            other => return Err(unexpected(shard, "observe_reset", other)),
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
        let limit = PAGE_ROWS;
        let reply = cluster.ask(shard, RequestBody::Observe { from, limit })?;
        let ReplyBody::Pairs {
            rows,
            total,
            dropped,
            local,
            cross,
        } = reply
        else {
            return Err(unexpected(shard, "observe", reply));
        };
        counted.pairs.extend_from_slice(&rows);
        let read = u32::try_from(rows.len()).expect("a page fits a frame");
        from = from.saturating_add(read);
        if rows.is_empty() || from >= total {
            counted.dropped += dropped;
            counted.local += local;
            counted.cross += cross;
            return Ok(());
        }
        if usize::try_from(from).expect("a u32 fits a usize") > TELEMETRY_PAIRS_MAX {
            return Err(ObserveError::TooManyPairs { shard });
        }
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
    use quorate_protocol::words::Rows;

    use super::*;

    const SHARDS: [ShardId; 2] = [ShardId(1), ShardId(2)];

    /// Two shards that answer in pages, shard s owning the ids that are s modulo 2.
    struct Pages {
        accounts: u128,
        pairs: u32,
        /// Rows that the tables say they have.
        total: u32,
        /// This one is listed by both.
        moving: Option<u128>,
        resets: Vec<ShardId>,
    }

    impl Pages {
        fn new(accounts: u128, pairs: u32) -> Self {
            Self {
                accounts,
                pairs,
                total: pairs,
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
                        weight: 1,
                        reserved: 0,
                    };
                    let page: Vec<PairRow> =
                        (from..self.pairs).take(limit as usize).map(row).collect();
                    ReplyBody::Pairs {
                        rows: Rows::from_slice(&page),
                        total: self.total,
                        dropped: 5,
                        local: 7,
                        cross: 3,
                    }
                }
                RequestBody::ObserveReset => {
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
        assert_eq!(counted.pairs.len(), 80_000);
        // Each reply has the sums of its shard; every shard counts once, however many pages it has.
        assert_eq!((counted.dropped, counted.local, counted.cross), (10, 14, 6));
        reset(&mut pages, SHARDS).unwrap();
        assert_eq!(pages.resets, SHARDS);
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
    fn a_table_that_shrinks_meanwhile_ends_and_one_that_never_ends_is_an_error() {
        let mut pages = Pages::new(0, 20_000);
        pages.total = 30_000;
        assert_eq!(counted(&mut pages, SHARDS).unwrap().pairs.len(), 40_000);
        let mut endless = Pages::new(0, u32::MAX);
        let error = counted(&mut endless, SHARDS).unwrap_err();
        assert!(error.to_string().contains("more than the 1048576 pairs"));
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
