//! Is every acknowledged transfer there, once? Asked of every shard, by id.
//!
//! The shard of the debit account decides a transfer and records it for ever, also when the account
//! has moved on; so an id that two shards record as committed on the debit side was executed twice.

use std::collections::BTreeMap;

use serde::Serialize;

use quorate_protocol::client::TransferAnswer;
use quorate_protocol::ids::{ShardId, TransferId};
use quorate_protocol::ledger::ResultCode;

/// Ids per look-up. An answer holds up to two whole records of an id, so this many fit one frame
/// with room to spare.
pub const IDS_MAX: usize = 1_024;
const _: () = assert!(IDS_MAX * 512 <= quorate_protocol::limits::FRAME_PAYLOAD_MAX);

/// The result of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// Different ids in the files.
    pub acked: u64,
    /// Committed at exactly one shard.
    pub present: u64,
    /// Committed nowhere.
    pub missing: Vec<String>,
    /// Committed at two shards or more.
    pub duplicated: Vec<String>,
}

impl AuditReport {
    /// Whether nothing was lost or done twice.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.duplicated.is_empty()
    }
}

/// Asks every shard of `shards` for every id. `lookup` answers for one shard.
///
/// # Errors
/// Those of `lookup`, and an answer that leaves an id out.
pub fn audit(
    ids: &[TransferId],
    shards: u32,
    mut lookup: impl FnMut(ShardId, &[TransferId]) -> anyhow::Result<Vec<TransferAnswer>>,
) -> anyhow::Result<AuditReport> {
    let mut report = AuditReport {
        acked: u64::try_from(ids.len()).expect("a slice's length fits"),
        ..AuditReport::default()
    };
    for part in ids.chunks(IDS_MAX) {
        let mut committed: BTreeMap<TransferId, u32> = part.iter().map(|&id| (id, 0)).collect();
        for shard in (1..=shards).map(ShardId) {
            let answers = lookup(shard, part)?;
            anyhow::ensure!(
                answers.len() == part.len(),
                "shard {shard} answered {} of {} look-ups",
                answers.len(),
                part.len()
            );
            for answer in answers.iter().filter(|answer| is_committed(answer)) {
                if let Some(times) = committed.get_mut(&answer.id) {
                    *times += 1;
                }
            }
        }
        for (id, times) in committed {
            match times {
                0 => report.missing.push(id.to_string()),
                1 => report.present += 1,
                _ => report.duplicated.push(id.to_string()),
            }
        }
    }
    Ok(report)
}

/// Recorded as decided here, with success.
fn is_committed(answer: &TransferAnswer) -> bool {
    let code = answer
        .debit
        .and_then(|recorded| ResultCode::from_u16(recorded.code));
    code.is_some_and(ResultCode::is_success)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::client::RecordedTransfer;
    use quorate_protocol::ids::{AccountId, Slot};
    use quorate_protocol::ledger::Transfer;
    use quorate_protocol::time::Timestamp;
    use quorate_protocol::txn::record::Attempt;

    fn recorded(id: TransferId, code: ResultCode) -> RecordedTransfer {
        RecordedTransfer {
            transfer: Transfer::new(id, AccountId(1), AccountId(2), 1, 1, 1),
            code: code as u16,
            slot: Slot(1),
            commit_ts: Timestamp(1),
            attempt: Attempt::default(),
        }
    }

    /// Ids 1..=2000: odd ones decided by shard 1, even ones by shard 2, each posted at the other.
    fn honest(shard: ShardId, ids: &[TransferId]) -> Vec<TransferAnswer> {
        let answer = |&id: &TransferId| {
            let decides = id.0 % 2 == u128::from(shard.0 % 2);
            let record = recorded(id, ResultCode::Ok);
            TransferAnswer {
                id,
                debit: decides.then_some(record),
                credit: (!decides).then_some(record),
            }
        };
        ids.iter().map(answer).collect()
    }

    fn ids() -> Vec<TransferId> {
        (1..=2_000).map(TransferId).collect()
    }

    #[test]
    fn a_transfer_posted_on_both_sides_is_present_once() {
        let report = audit(&ids(), 2, |shard, part| Ok(honest(shard, part))).unwrap();
        assert_eq!((report.acked, report.present), (2_000, 2_000));
        assert!(report.is_clean());
    }

    #[test]
    fn a_lost_a_refused_and_a_doubled_transfer_are_found() {
        let report = audit(&ids(), 2, |shard, part| {
            let mut answers = honest(shard, part);
            for answer in &mut answers {
                match answer.id.0 {
                    // Lost: only the credit side is left.
                    7 => answer.debit = None,
                    // Acknowledged, and recorded as refused.
                    1_501 => {
                        let refused = recorded(answer.id, ResultCode::ExceedsCredits);
                        answer.debit = answer.debit.map(|_| refused);
                    }
                    // Decided twice.
                    1_600 => answer.debit = Some(recorded(answer.id, ResultCode::Ok)),
                    _ => {}
                }
            }
            Ok(answers)
        })
        .unwrap();
        assert_eq!(report.missing, ["7", "1501"]);
        assert_eq!(report.duplicated, ["1600"]);
        assert_eq!(report.present, 1_997);
        assert!(!report.is_clean());
    }

    #[test]
    fn a_shard_that_leaves_ids_out_is_no_proof_of_anything() {
        let result = audit(&ids(), 2, |shard, part| Ok(honest(shard, &part[1..])));
        assert!(result.is_err());
    }
}
