//! Consistent cuts: what a cut answered is what the logs add up to at its timestamp, and the cut agrees
//! with real time.
//!
//! Each shard's sums are compared with the model's, moment by moment up to the cut: a shard that leaves
//! an effect out, counts one twice or sums an account that it does not own is found even if the totals
//! agree. A transfer that was answered before the cut was announced lies below it, one that was sent after
//! the cut was answered lies above it.
//!
//! Not compared: the hashes over account ids, whose function is the engine's own ([`super::conservation`]
//! holds them against each other).

use std::collections::BTreeMap;

use quorate_protocol::client::CutSums;
use quorate_protocol::ids::{ShardId, TransferId};
use quorate_protocol::ledger::{CodeKind, ResultCode, Total};
use quorate_protocol::time::Timestamp;

use super::Violation;
use super::durability::same_fields;
use super::model::{Decision, Replay};
use super::replays::Replays;
use crate::history::{Answer, CutUse, History};

/// Judges every cut that all shards answered.
pub fn check(history: &History, replays: &Replays, violations: &mut Vec<Violation>) {
    let mut report = |cut: &CutUse, text: String| {
        violations.push(Violation {
            checker: "cuts",
            text: format!("cut at {}: {text}", cut.at.0),
        });
    };
    for cut in &history.cuts {
        for (shard, sums) in &cut.sums {
            if let Some(replay) = replays.shard(*shard)
                && let Some(text) = compare(*shard, sums, replay)
            {
                report(cut, text);
            }
        }
    }
    if !history.cuts.is_empty() {
        check_real_time(history, replays, &mut report);
    }
}

/// When a transfer was first sent, with the fields that took effect, and first told to be done.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    started_ns: Option<u64>,
    answered_ns: Option<u64>,
}

fn check_real_time(history: &History, replays: &Replays, report: &mut impl FnMut(&CutUse, String)) {
    let mut known: BTreeMap<TransferId, (&Decision, Known)> = replays
        .decisions()
        .filter(|(_, decision)| decision.result == ResultCode::Ok)
        .map(|(_, decision)| (decision.transfer.id, (decision, Known::default())))
        .collect();
    for transfer_use in &history.transfers {
        let Some((decision, known)) = known.get_mut(&transfer_use.transfer.id) else {
            continue;
        };
        let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        if same_fields(&decision.transfer, &transfer_use.transfer) {
            known.started_ns = least(known.started_ns, transfer_use.started_ns);
        }
        let success = |answer: &Answer| answer.code.kind() == CodeKind::Success;
        let answered_ns = transfer_use.answer.filter(success).map(|a| a.at_ns);
        known.answered_ns = least(known.answered_ns, answered_ns);
    }
    for (id, (decision, known)) in known {
        let commit_ts = decision.commit_ts;
        for cut in &history.cuts {
            let before = known
                .answered_ns
                .is_some_and(|at_ns| at_ns < cut.started_ns);
            let after = cut
                .answered_ns
                .is_some_and(|at_ns| known.started_ns.is_some_and(|sent_ns| sent_ns > at_ns));
            if before && commit_ts > cut.at {
                let text = format!(
                    "transfer {id} was answered before the cut was announced, it lies above it at {}",
                    commit_ts.0
                );
                report(cut, text);
            }
            if after && commit_ts <= cut.at {
                let text = format!(
                    "transfer {id} was sent after the cut was answered, it lies below it at {}",
                    commit_ts.0
                );
                report(cut, text);
            }
        }
    }
}

/// The sums of one shard as of a cut.
#[derive(Debug, Default, PartialEq, Eq)]
struct Books {
    /// Debits, credits, and debits of transfers alone, per ledger.
    ledgers: BTreeMap<u32, (u128, u128, u128)>,
    owned: i128,
    created: i128,
    transfers: u64,
}

fn compare(shard: ShardId, sums: &CutSums, replay: &Replay) -> Option<String> {
    let mut told = Books {
        owned: sums.owned.into(),
        created: sums.created.into(),
        transfers: sums.transfers,
        ..Books::default()
    };
    for row in &sums.ledgers {
        let told_here = [row.debits_posted, row.credits_posted, row.transferred];
        // Seeds move little money: more than 128 bits is a difference below zero.
        let [Some(debits), Some(credits), Some(transferred)] = told_here.map(Total::to_u128) else {
            return Some(format!("shard {shard} answered {row:?}"));
        };
        let books = (debits, credits, transferred);
        if books != (0, 0, 0) {
            told.ledgers.insert(row.ledger, books);
        }
    }
    let model = books_at(replay, sums.at);
    (told != model).then(|| format!("shard {shard} answered {told:?}, its log makes it {model:?}"))
}

fn books_at(replay: &Replay, at: Timestamp) -> Books {
    let mut books = Books::default();
    for posted in replay.posted.iter().filter(|posted| posted.at <= at) {
        let ledger = books.ledgers.entry(posted.ledger).or_default();
        if posted.owned < 0 {
            ledger.0 = ledger.0.wrapping_sub(posted.debit);
            ledger.1 = ledger.1.wrapping_sub(posted.credit);
        } else {
            ledger.0 = ledger.0.wrapping_add(posted.debit);
            ledger.1 = ledger.1.wrapping_add(posted.credit);
        }
        if !posted.moved {
            ledger.2 += posted.debit;
            books.transfers += u64::from(posted.debit > 0);
        }
        books.owned += i128::from(posted.owned);
        books.created += i128::from(posted.created);
    }
    books.ledgers.retain(|_, sums| *sums != (0, 0, 0));
    books
}
