//! Is every acknowledged transfer there, whole and once? Asked of every shard, by id.
//!
//! The shard of the debit account decides a transfer and records it for ever, also when the account
//! has moved on; so an id that two shards record as committed on the debit side was executed twice.
//! A decision with an attempt was made across shards: exactly one shard must then have posted the
//! credit, with the same fields, attempt and timestamp. A local one has no such record.
//!
//! A transfer is acknowledged when it is decided; its credit follows as soon as the other shard hears
//! of the decision. So an id whose credit is not there is asked for again before it counts as missing.

use serde::Serialize;

use quorate_client::TransferRecord;
use quorate_protocol::client::RecordedTransfer;
use quorate_protocol::ids::TransferId;
use quorate_protocol::ledger::ResultCode;
use quorate_protocol::txn::record::Attempt;

/// Ids asked for in one call.
const IDS_PER_CALL: usize = 8_192;

/// The result of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// Different ids in the files.
    pub acked: u64,
    /// Committed at exactly one shard, and credited exactly once with the same fields.
    pub present: u64,
    /// Committed nowhere, or credited nowhere.
    pub missing: Vec<String>,
    /// Not found, and older than transfers are kept.
    pub too_old: u64,
    /// Committed at two shards or more, or credited more than once.
    pub duplicated: Vec<String>,
    /// Committed once and credited once, but not the same transfer.
    pub mismatched: Vec<String>,
}

impl AuditReport {
    /// Whether nothing was lost, done twice or changed on the way.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.duplicated.is_empty() && self.mismatched.is_empty()
    }
}

/// What the shards know of one id, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Present,
    /// No shard decided it with success: that was so when it was acknowledged, or never.
    NotCommitted,
    /// Decided across shards, and not posted on the credit side (yet).
    NotCredited,
    Duplicated,
    Mismatched,
}

/// Judges what all shards know of every id; `lookup` asks them. `wait` is called before ids without
/// their credit are asked for again, and says whether to: it bounds the time. What is not found `is_too_old` if the
/// cluster need not keep it any more.
///
/// # Errors
/// Those of `lookup`, and an answer to other ids than were asked for.
pub fn audit(
    ids: &[TransferId],
    mut lookup: impl FnMut(&[TransferId]) -> anyhow::Result<Vec<TransferRecord>>,
    mut wait: impl FnMut() -> bool,
    is_too_old: impl Fn(TransferId) -> bool,
) -> anyhow::Result<AuditReport> {
    let mut report = AuditReport {
        acked: u64::try_from(ids.len()).expect("a slice's length fits"),
        ..AuditReport::default()
    };
    let mut open = ids.to_vec();
    while !open.is_empty() {
        let mut not_credited = Vec::new();
        for part in open.chunks(IDS_PER_CALL) {
            let records = lookup(part)?;
            let answered = records.iter().map(|record| record.id);
            anyhow::ensure!(
                answered.eq(part.iter().copied()),
                "the look-up answered other ids than were asked for"
            );
            for record in &records {
                let id = record.id.to_string();
                match judge(record) {
                    Finding::Present => report.present += 1,
                    Finding::NotCommitted if is_too_old(record.id) => report.too_old += 1,
                    Finding::NotCommitted => report.missing.push(id),
                    Finding::NotCredited => not_credited.push(record.id),
                    Finding::Duplicated => report.duplicated.push(id),
                    Finding::Mismatched => report.mismatched.push(id),
                }
            }
        }
        open = not_credited;
        if !open.is_empty() && !wait() {
            for id in open.drain(..) {
                match is_too_old(id) {
                    true => report.too_old += 1,
                    false => report.missing.push(id.to_string()),
                }
            }
        }
    }
    Ok(report)
}

fn judge(record: &TransferRecord) -> Finding {
    let is_success = |(_, side): &&(_, RecordedTransfer)| {
        ResultCode::from_u16(side.code).is_some_and(ResultCode::is_success)
    };
    let mut committed = record.debits.iter().filter(is_success);
    let Some((_, debit)) = committed.next() else {
        return Finding::NotCommitted;
    };
    if committed.next().is_some() {
        return Finding::Duplicated;
    }
    let is_cross = debit.attempt != Attempt::default();
    match (is_cross, record.credits.as_slice()) {
        (false, []) => Finding::Present,
        // Posted here in one step with the debit, and by another shard on top of it.
        (false, _) => Finding::Duplicated,
        (true, []) => Finding::NotCredited,
        (true, [(_, credit)]) if is_same(debit, credit) => Finding::Present,
        (true, [_]) => Finding::Mismatched,
        (true, _) => Finding::Duplicated,
    }
}

/// Slots are each shard's own; all else belongs to the transfer.
fn is_same(debit: &RecordedTransfer, credit: &RecordedTransfer) -> bool {
    RecordedTransfer {
        slot: debit.slot,
        ..*credit
    } == *debit
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::ids::{AccountId, Ballot, ReplicaId, ShardId, Slot};
    use quorate_protocol::ledger::Transfer;
    use quorate_protocol::time::Timestamp;

    fn recorded(id: TransferId, slot: u64) -> RecordedTransfer {
        RecordedTransfer {
            transfer: Transfer::new(id, AccountId(1), AccountId(2), 5, 1, 1),
            code: ResultCode::Ok as u16,
            slot: Slot(slot),
            commit_ts: Timestamp(1),
            attempt: Attempt {
                ballot: Ballot::new(1, ReplicaId(1)),
                counter: 1,
            },
        }
    }

    /// Decided by shard 1 and posted at shard 2; ids that divide by 10 are local.
    fn honest(ids: &[TransferId]) -> Vec<TransferRecord> {
        let answer = |&id: &TransferId| {
            let (mut debit, credit) = (recorded(id, 4), recorded(id, 9));
            let mut credits = vec![(ShardId(2), credit)];
            if id.0.is_multiple_of(10) {
                debit.attempt = Attempt::default();
                credits.clear();
            }
            TransferRecord {
                id,
                debits: vec![(ShardId(1), debit)],
                credits,
            }
        };
        ids.iter().map(answer).collect()
    }

    fn ids() -> Vec<TransferId> {
        (1..=20_000).map(TransferId).collect()
    }

    /// The report if one id is not what it should be, however often it is asked for.
    fn with(id: u128, edit: impl Fn(&mut TransferRecord)) -> AuditReport {
        let mut waits = 3;
        let look_up = |part: &[TransferId]| {
            let mut records = honest(part);
            records.iter_mut().filter(|r| r.id.0 == id).for_each(&edit);
            Ok(records)
        };
        let wait = || {
            waits -= 1;
            waits > 0
        };
        let report = audit(&ids(), look_up, wait, |_| false).unwrap();
        assert_eq!(report.present, 19_999);
        assert!(!report.is_clean());
        report
    }

    #[test]
    fn a_transfer_posted_on_both_sides_is_present_once() {
        let report = audit(
            &ids(),
            |part| Ok(honest(part)),
            || panic!("nothing is open"),
            |_| false,
        );
        let report = report.unwrap();
        assert_eq!((report.acked, report.present), (20_000, 20_000));
        assert!(report.is_clean());
    }

    #[test]
    fn a_lost_and_a_refused_transfer_are_missing() {
        // Only the credit side is left.
        assert_eq!(with(7, |record| record.debits.clear()).missing, ["7"]);
        let refuse = |record: &mut TransferRecord| {
            record.debits[0].1.code = ResultCode::ExceedsCredits as u16;
        };
        assert_eq!(with(1_501, refuse).missing, ["1501"]);
    }

    #[test]
    fn what_is_not_kept_any_more_is_not_missing_but_nothing_else_is_excused() {
        let look_up = |part: &[TransferId]| {
            let mut records = honest(part);
            for record in records.iter_mut().filter(|record| record.id.0 <= 20) {
                record.debits.clear();
                record.credits.clear();
            }
            Ok(records)
        };
        let report = audit(&ids(), look_up, || false, |id| id.0 <= 15).unwrap();
        assert_eq!((report.too_old, report.missing.len()), (15, 5));
        assert_eq!(report.present, 19_980);
    }

    /// The audit once looked at debits alone: money that left and never arrived counted as present.
    #[test]
    fn a_cross_shard_transfer_without_its_credit_is_missing() {
        let report = with(16_001, |record| record.credits.clear());
        assert_eq!(report.missing, ["16001"]);
    }

    #[test]
    fn what_was_decided_or_credited_twice_is_duplicated() {
        let again = |record: &mut TransferRecord| {
            record.debits.push((ShardId(2), recorded(record.id, 5)));
        };
        assert_eq!(with(16_000, again).duplicated, ["16000"]);
        let credit_again = |record: &mut TransferRecord| {
            record.credits.push((ShardId(3), recorded(record.id, 6)));
        };
        assert_eq!(with(16_001, credit_again).duplicated, ["16001"]);
        // A local transfer whose credit another shard posted too.
        assert_eq!(with(16_010, credit_again).duplicated, ["16010"]);
    }

    #[test]
    fn a_credit_of_another_transfer_is_no_credit_of_this_one() {
        let edits: [fn(&mut RecordedTransfer); 4] = [
            |credit| credit.transfer.amount += 1,
            |credit| credit.transfer.credit_account_id = AccountId(3),
            |credit| credit.attempt.counter += 1,
            |credit| credit.commit_ts = Timestamp(2),
        ];
        for edit in edits {
            let report = with(16_001, |record| edit(&mut record.credits[0].1));
            assert_eq!(report.mismatched, ["16001"]);
        }
    }

    /// The acknowledgement does not wait for the other shard to hear of the decision.
    #[test]
    fn a_credit_that_is_on_its_way_is_waited_for() {
        let (mut calls, mut waits) = (0, 0);
        let look_up = |part: &[TransferId]| {
            calls += 1;
            let mut records = honest(part);
            if calls < 3 {
                records[0].credits.clear();
            }
            Ok(records)
        };
        let wait = || {
            waits += 1;
            true
        };
        let report = audit(&[TransferId(11), TransferId(12)], look_up, wait, |_| false).unwrap();
        assert!(report.is_clean());
        assert_eq!((report.present, waits, calls), (2, 2, 3));
    }

    #[test]
    fn an_answer_that_leaves_ids_out_is_no_proof_of_anything() {
        let short = |part: &[TransferId]| Ok(honest(&part[1..]));
        assert!(audit(&ids(), short, || false, |_| true).is_err());
    }
}
