//! Rows that run together: a bounded number of workers, each with one request under way.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quorate_client::{BlockingClient, ClientOptions};
use quorate_config::ClusterConfig;
use quorate_config::scenario::{Row, Step};
use quorate_protocol::client::AccountAnswer;
use quorate_protocol::ids::{AccountId, TransferId};
use quorate_protocol::ledger::{Account, ResultCode, ResultRow, Transfer};

use super::bank::{CODE, LEDGER};
use crate::failure::Failure;
use crate::local::interruption;
use crate::print::result_name;

/// Requests of a set under way at once.
pub const AT_ONCE_MAX: usize = 64;

/// What became of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub row: Row,
    /// Of a transfer.
    pub id: Option<TransferId>,
    pub verdict: Verdict,
    /// From sending to the answer, or to giving up at the deadline.
    pub latency: Duration,
}

/// How a row was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The money has moved.
    Committed(&'static str),
    /// It has not, and will not.
    Rejected(String),
    /// No result by the deadline.
    Unknown,
    /// What an account holds.
    Balance(String),
    NotFound,
}

impl Verdict {
    /// The name of the result.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Committed(name) => name,
            Self::Rejected(name) => name,
            Self::Unknown => ResultCode::Unknown.name(),
            Self::Balance(_) => ResultCode::Ok.name(),
            Self::NotFound => "not_found",
        }
    }

    /// Of a read that was answered.
    #[must_use]
    pub fn balance(&self) -> Option<&str> {
        match self {
            Self::Balance(balance) => Some(balance),
            Self::Committed(_) | Self::Rejected(_) | Self::Unknown | Self::NotFound => None,
        }
    }
}

/// The workers of a set. They keep their connections from group to group.
pub struct Crew<'a> {
    clients: Vec<BlockingClient>,
    interrupted: &'a AtomicBool,
}

impl<'a> Crew<'a> {
    /// As many workers as there is work for.
    #[must_use]
    pub fn new(
        config: &ClusterConfig,
        deadline: Duration,
        rows: usize,
        interrupted: &'a AtomicBool,
    ) -> Self {
        let options = ClientOptions {
            deadline,
            ..ClientOptions::default()
        };
        let workers = rows.min(AT_ONCE_MAX);
        let clients = (0..workers)
            .map(|_| BlockingClient::connect(config, options))
            .collect();
        Self {
            clients,
            interrupted,
        }
    }

    /// Runs the rows, and gives their replies in the order of the rows.
    ///
    /// # Errors
    /// The command was told to end. Every row that was begun has ended by then.
    pub fn run(&mut self, rows: &[Row]) -> Result<Vec<Reply>, Failure> {
        let (next, interrupted) = (AtomicUsize::new(0), self.interrupted);
        let mut replies: Vec<Reply> = thread::scope(|scope| {
            let workers: Vec<_> = self
                .clients
                .iter_mut()
                .take(rows.len())
                .map(|client| scope.spawn(|| work(client, rows, &next, interrupted)))
                .collect();
            let done = workers.into_iter().map(|worker| worker.join());
            done.flat_map(|done| done.unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        if interrupted.load(Ordering::Relaxed) {
            return Err(interruption());
        }
        replies.sort_by_key(|reply| reply.row.line);
        assert_eq!(replies.len(), rows.len(), "one reply per row");
        Ok(replies)
    }
}

/// Takes one row after the other, until none is left.
fn work(
    client: &mut BlockingClient,
    rows: &[Row],
    next: &AtomicUsize,
    interrupted: &AtomicBool,
) -> Vec<Reply> {
    let mut replies = Vec::new();
    while !interrupted.load(Ordering::Relaxed) {
        let Some(&row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) else {
            break;
        };
        replies.push(ask(client, row));
    }
    replies
}

fn ask(client: &mut BlockingClient, row: Row) -> Reply {
    let begun = Instant::now();
    let (id, verdict) = match row.step {
        Step::Transfer {
            debit,
            credit,
            amount,
        } => {
            let id = client.new_transfer_id();
            let transfer = Transfer::new(id, debit, credit, amount, LEDGER, CODE);
            (Some(id), pay(client, &transfer))
        }
        Step::Balance { account } => (None, read(client, account)),
        Step::Fail { .. } | Step::Recover { .. } => {
            unreachable!("control rows are phases of their own")
        }
    };
    Reply {
        row,
        id,
        verdict,
        latency: begun.elapsed(),
    }
}

fn pay(client: &mut BlockingClient, transfer: &Transfer) -> Verdict {
    match client.create_transfers(&[*transfer]) {
        Ok(rows) => rows.first().map_or(Verdict::Unknown, verdict_of),
        Err(_) => Verdict::Unknown,
    }
}

/// The client goes on until the deadline with what a shard puts off: these codes are the last word of a row that got no
/// result. Which of them it was depends on the moment at which time was up, so all are told as no answer.
fn verdict_of(row: &ResultRow) -> Verdict {
    match row.result() {
        Some(code) if code.is_success() => Verdict::Committed(code.name()),
        Some(
            ResultCode::Unknown
            | ResultCode::NotLeader
            | ResultCode::Contended
            | ResultCode::Busy
            | ResultCode::Moved,
        ) => Verdict::Unknown,
        _ => Verdict::Rejected(result_name(row)),
    }
}

fn read(client: &mut BlockingClient, account: AccountId) -> Verdict {
    let answers = client.lookup_accounts(&[account]).unwrap_or_default();
    match answers.first() {
        Some(AccountAnswer::Found(account)) => Verdict::Balance(balance(account)),
        Some(AccountAnswer::NotFound) => Verdict::NotFound,
        Some(AccountAnswer::Moved(_) | AccountAnswer::Contended) | None => Verdict::Unknown,
    }
}

/// Posted credits less posted debits.
#[must_use]
pub fn balance(account: &Account) -> String {
    let (debits, credits) = (account.debits_posted, account.credits_posted);
    match credits >= debits {
        true => (credits - debits).to_string(),
        false => format!("-{}", debits - credits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::ledger::AccountFlags;
    use quorate_protocol::time::Timestamp;

    #[test]
    fn balances_may_be_below_zero_and_use_all_bits() {
        let mut account = Account::new(AccountId(1), LEDGER, CODE, AccountFlags::default());
        assert_eq!(balance(&account), "0");
        account.credits_posted = u128::MAX;
        assert_eq!(balance(&account), u128::MAX.to_string());
        account.credits_posted = 3;
        account.debits_posted = 10;
        assert_eq!(balance(&account), "-7");
    }

    #[test]
    fn what_was_put_off_until_the_deadline_is_unknown_and_other_codes_keep_their_names() {
        let verdict = |code| verdict_of(&ResultRow::logged(code, Timestamp(1)));
        assert_eq!(verdict(ResultCode::Ok), Verdict::Committed("ok"));
        assert_eq!(verdict(ResultCode::Exists).name(), "exists");
        let put_off = [
            ResultCode::Unknown,
            ResultCode::NotLeader,
            ResultCode::Contended,
            ResultCode::Busy,
            ResultCode::Moved,
        ];
        for code in put_off {
            assert_eq!(verdict(code), Verdict::Unknown);
        }
        let refused = verdict(ResultCode::ExceedsCredits);
        assert_eq!(refused, Verdict::Rejected("exceeds_credits".to_owned()));
        assert_eq!(refused.balance(), None);
    }
}
