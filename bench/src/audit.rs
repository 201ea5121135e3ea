//! Is every acknowledged transfer there, once? Asked of every shard, by id.
//!
//! The shard of the debit account decides a transfer and records it for ever, also when the account
//! has moved on; so an id that two shards record as committed on the debit side was executed twice.

use serde::Serialize;

use quorate_client::TransferRecord;
use quorate_protocol::ids::TransferId;
use quorate_protocol::ledger::ResultCode;

/// Ids asked for in one call.
const IDS_PER_CALL: usize = 8_192;

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

/// Judges what all shards know of every id; `lookup` asks them.
///
/// # Errors
/// Those of `lookup`, and an answer to other ids than were asked for.
pub fn audit(
    ids: &[TransferId],
    mut lookup: impl FnMut(&[TransferId]) -> anyhow::Result<Vec<TransferRecord>>,
) -> anyhow::Result<AuditReport> {
    let mut report = AuditReport {
        acked: u64::try_from(ids.len()).expect("a slice's length fits"),
        ..AuditReport::default()
    };
    for part in ids.chunks(IDS_PER_CALL) {
        let records = lookup(part)?;
        anyhow::ensure!(
            records
                .iter()
                .map(|record| record.id)
                .eq(part.iter().copied()),
            "the look-up answered other ids than were asked for"
        );
        for record in &records {
            match times_committed(record) {
                0 => report.missing.push(record.id.to_string()),
                1 => report.present += 1,
                _ => report.duplicated.push(record.id.to_string()),
            }
        }
    }
    Ok(report)
}

/// Shards that decided the transfer, with success.
fn times_committed(record: &TransferRecord) -> usize {
    let codes = record
        .debits
        .iter()
        .map(|(_, debit)| ResultCode::from_u16(debit.code));
    codes.flatten().filter(|code| code.is_success()).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::client::RecordedTransfer;
    use quorate_protocol::ids::{AccountId, ShardId, Slot};
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

    /// Decided by one shard and posted at the other.
    fn honest(ids: &[TransferId]) -> Vec<TransferRecord> {
        let answer = |&id: &TransferId| TransferRecord {
            id,
            debits: vec![(ShardId(1), recorded(id, ResultCode::Ok))],
            credits: vec![(ShardId(2), recorded(id, ResultCode::Ok))],
        };
        ids.iter().map(answer).collect()
    }

    fn ids() -> Vec<TransferId> {
        (1..=20_000).map(TransferId).collect()
    }

    #[test]
    fn a_transfer_posted_on_both_sides_is_present_once() {
        let report = audit(&ids(), |part| Ok(honest(part))).unwrap();
        assert_eq!((report.acked, report.present), (20_000, 20_000));
        assert!(report.is_clean());
    }

    #[test]
    fn a_lost_a_refused_and_a_doubled_transfer_are_found() {
        let report = audit(&ids(), |part| {
            let mut records = honest(part);
            for record in &mut records {
                match record.id.0 {
                    // Lost: only the credit side is left.
                    7 => record.debits.clear(),
                    // Acknowledged, and recorded as refused.
                    1_501 => record.debits[0].1.code = ResultCode::ExceedsCredits as u16,
                    // Decided twice.
                    16_000 => {
                        let again = recorded(record.id, ResultCode::Ok);
                        record.debits.push((ShardId(2), again));
                    }
                    _ => {}
                }
            }
            Ok(records)
        })
        .unwrap();
        assert_eq!(report.missing, ["7", "1501"]);
        assert_eq!(report.duplicated, ["16000"]);
        assert_eq!(report.present, 19_997);
        assert!(!report.is_clean());
    }

    #[test]
    fn an_answer_that_leaves_ids_out_is_no_proof_of_anything() {
        assert!(audit(&ids(), |part| Ok(honest(&part[1..]))).is_err());
    }
}
