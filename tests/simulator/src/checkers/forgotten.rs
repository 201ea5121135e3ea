//! What a cluster may have forgotten, taken from its logs.
//!
//! If ids are kept for a time only, a shard need not know of uses from before. Every other checker would
//! then miss records that nobody promised to keep. So what may be forgotten, and is, is given back as the
//! model has it from the log: what clients were told is still held against it, and so are the balances. A
//! record that must be kept is not given back, and its absence is found like any other.

use quorate_protocol::client::{RecordedTransfer, TransferAnswer};
use quorate_protocol::ids::{ShardId, Slot, TransferId};
use quorate_protocol::ledger::{ResultCode, Transfer};
use quorate_protocol::time::Timestamp;
use quorate_protocol::txn::record::Attempt;

use super::FinalState;
use super::model::{Decision, Posting, Replay};
use super::replays::Replays;

/// Adds what was rightly forgotten to what the shards say they know.
#[must_use]
pub fn give_back(state: &FinalState, replays: &Replays) -> FinalState {
    let mut state = state.clone();
    if state.rules.keep_ns.is_none() {
        return state;
    }
    for (shard, answer) in &mut state.records {
        if let Some(replay) = replays.shard(*shard) {
            complete(answer, replay);
        }
    }
    state
}

fn complete(answer: &mut TransferAnswer, replay: &Replay) {
    let id = answer.id;
    if answer.debit.is_none()
        && let Some(decision) = replay.decisions.get(&id)
        && is_forgotten(decision, replay)
    {
        answer.debit = Some(decided(decision));
    }
    // In the order in which a shard gives them. What nobody posted stays, to be found.
    let mut credits = Vec::new();
    for posting in (1..=replay.rules.shards).filter_map(|shard| {
        let key = (ShardId(shard), id);
        replay.postings.get(&key)
    }) {
        let is_it = |kept: &&RecordedTransfer| {
            (kept.attempt, kept.commit_ts) == (posting.attempt, posting.commit_ts)
        };
        match answer.credits.iter().find(is_it) {
            Some(kept) => credits.push(*kept),
            // It took effect when it was applied, at or after its commit.
            None if may_go(id, posting.commit_ts, replay) => credits.push(posted(posting)),
            None => {}
        }
    }
    if credits.len() > answer.credits.len() {
        answer.credits = credits;
    }
}

fn may_go(id: TransferId, used: Timestamp, replay: &Replay) -> bool {
    replay
        .rules
        .may_be_forgotten(id, used, replay.last_timestamp)
}

/// A commit across shards has to be kept until its participant has said, in this log, that nothing from
/// before it is in doubt.
fn is_forgotten(decision: &Decision, replay: &Replay) -> bool {
    let is_acknowledged = match decision.across {
        Some((shard, _)) if decision.result == ResultCode::Ok => {
            let upto = replay.acknowledged.get(&shard);
            upto.is_some_and(|upto| *upto >= decision.commit_ts)
        }
        Some(_) | None => true,
    };
    is_acknowledged && may_go(decision.transfer.id, decision.commit_ts, replay)
}

fn recorded(transfer: &Transfer, result: ResultCode, commit_ts: Timestamp) -> RecordedTransfer {
    RecordedTransfer {
        transfer: Transfer {
            timestamp: commit_ts,
            debit_epoch: 0,
            ..*transfer
        },
        code: result as u16,
        slot: Slot::ZERO,
        commit_ts,
        attempt: Attempt::default(),
    }
}

fn decided(decision: &Decision) -> RecordedTransfer {
    RecordedTransfer {
        slot: decision.slot,
        attempt: decision.attempt,
        ..recorded(&decision.transfer, decision.result, decision.commit_ts)
    }
}

fn posted(posting: &Posting) -> RecordedTransfer {
    RecordedTransfer {
        slot: posting.slot,
        attempt: posting.attempt,
        ..recorded(&posting.transfer, ResultCode::Ok, posting.commit_ts)
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::config::IdRule;
    use quorate_protocol::ids::AccountId;
    use quorate_protocol::txn::record::CommitKind;

    use super::super::model::rules::Rules;
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A shard that keeps ids for a second, ten seconds after the beginning of time.
    fn replay() -> Replay {
        let mut replay = Replay::default();
        replay.shard = ShardId(1);
        replay.rules = Rules {
            shards: 2,
            ids: IdRule::Ulid,
            keep_ns: Some(SECOND),
            ..Rules::default()
        };
        replay.last_timestamp = Timestamp(10 * SECOND);
        replay
    }

    fn given_back(replay: &Replay, id: TransferId) -> (bool, usize) {
        let mut answer = TransferAnswer {
            id,
            debit: None,
            credits: Vec::new(),
        };
        complete(&mut answer, replay);
        (answer.debit.is_some(), answer.credits.len())
    }

    #[test]
    fn only_what_may_be_forgotten_is_given_back() {
        let across = Some((ShardId(2), CommitKind::Prepared));
        let cases = [
            (1_000, 2 * SECOND, None, true),
            // Its time has not come: by when it was used, or by its own.
            (1_000, 9 * SECOND + SECOND / 2, None, false),
            (9_500, 2 * SECOND, None, false),
            // Its participant has not said that it knows.
            (1_000, 2 * SECOND, across, false),
        ];
        for (id_ms, used, across, is_given) in cases {
            let id = TransferId(id_ms << 80 | 7);
            let transfer = Transfer::new(id, AccountId(1), AccountId(2), 1, 1, 1);
            let decision = Decision {
                transfer,
                result: ResultCode::Ok,
                slot: Slot(1),
                commit_ts: Timestamp(used),
                attempt: Attempt::default(),
                across,
            };
            let mut replay = replay();
            replay.decisions.insert(id, decision);
            assert_eq!(given_back(&replay, id), (is_given, 0), "{id_ms} {used}");
            if across.is_some() {
                let said = |upto| [(ShardId(2), Timestamp(upto))].into();
                replay.acknowledged = said(used - 1);
                assert_eq!(given_back(&replay, id), (false, 0));
                replay.acknowledged = said(used);
                assert_eq!(given_back(&replay, id), (true, 0));
            }
        }
    }

    #[test]
    fn a_credit_is_given_back_by_its_coordinator() {
        let id = TransferId(1_000 << 80 | 7);
        let transfer = Transfer::new(id, AccountId(1), AccountId(2), 1, 1, 1);
        let mut replay = replay();
        for (shard, seconds) in [(1, 2), (2, 3), (3, 4)] {
            let posting = Posting {
                transfer,
                slot: Slot(shard.into()),
                commit_ts: Timestamp(seconds * SECOND),
                attempt: Attempt::default(),
            };
            replay.postings.insert((ShardId(shard), id), posting);
        }
        // There are two shards.
        assert_eq!(given_back(&replay, id), (false, 2));
    }
}
