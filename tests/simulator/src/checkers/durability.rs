//! Durability: what a client was told stays true.
//!
//! An acknowledged transfer is recorded with the fields and the timestamp that were acknowledged; a
//! refusal that was called final is recorded as that refusal.

use quorate_protocol::ledger::{CodeKind, ResultCode, Transfer};

use super::Violation;
use super::records::Records;
use crate::history::{Answer, History, TransferUse};

/// Compares every answer with the records.
pub fn check(history: &History, records: &Records, violations: &mut Vec<Violation>) {
    for transfer_use in &history.transfers {
        let Some(answer) = transfer_use.answer else {
            continue;
        };
        if let Err(text) = check_use(transfer_use, answer, records) {
            violations.push(Violation {
                checker: "durability",
                text: format!(
                    "transfer {} was answered {} at {} ns: {text}",
                    transfer_use.transfer.id,
                    answer.code.name(),
                    answer.at_ns
                ),
            });
        }
    }
}

fn check_use(transfer_use: &TransferUse, answer: Answer, records: &Records) -> Result<(), String> {
    let transfer = &transfer_use.transfer;
    let recorded = records.decision(transfer.id);
    let expected = match answer.code.kind() {
        CodeKind::Success => ResultCode::Ok,
        CodeKind::Recorded => answer.code,
        CodeKind::Malformed | CodeKind::Used | CodeKind::Expired | CodeKind::Unlogged => {
            return Ok(());
        }
    };
    let recorded = recorded.ok_or("no shard has a record of it")?;
    if recorded.code != expected as u16 {
        return Err(format!("recorded code is {}", recorded.code));
    }
    if !same_fields(&recorded.transfer, transfer) {
        return Err(format!(
            "recorded fields {:?} are not the ones sent: {transfer:?}",
            recorded.transfer
        ));
    }
    if recorded.commit_ts != answer.timestamp {
        return Err(format!(
            "recorded timestamp is {}, answered {}",
            recorded.commit_ts.0, answer.timestamp.0
        ));
    }
    Ok(())
}

/// Whether all fields that a client sets are equal.
#[must_use]
pub fn same_fields(a: &Transfer, b: &Transfer) -> bool {
    let fields = |t: &Transfer| {
        (
            (t.id, t.debit_account_id, t.credit_account_id, t.amount),
            (t.user_data, t.ledger, t.code, t.flags),
        )
    };
    fields(a) == fields(b)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Scene, rejects};
    use super::*;

    fn found(scene: &Scene) -> Vec<Violation> {
        let mut violations = Vec::new();
        check(&scene.history, &Records::new(&scene.state), &mut violations);
        violations
    }

    #[test]
    fn a_true_history_passes() {
        assert_eq!(found(&Scene::valid()), []);
    }

    #[test]
    fn an_acknowledged_transfer_that_is_gone_is_found() {
        let mut scene = Scene::valid();
        scene.state.records.retain(|(_, answer)| answer.id.0 != 1);
        rejects(&found(&scene), "no shard has a record");
    }

    #[test]
    fn an_acknowledged_transfer_that_was_refused_after_all_is_found() {
        let mut scene = Scene::valid();
        scene.debit(1).code = ResultCode::ExceedsCredits as u16;
        rejects(&found(&scene), "recorded code");
    }

    #[test]
    fn a_refusal_that_turned_into_a_payment_is_found() {
        let mut scene = Scene::valid();
        scene.debit(4).code = ResultCode::Ok as u16;
        rejects(&found(&scene), "recorded code");
    }

    #[test]
    fn changed_fields_and_timestamps_are_found() {
        let mut scene = Scene::valid();
        scene.debit(2).transfer.amount += 1;
        rejects(&found(&scene), "fields");
        let mut scene = Scene::valid();
        scene.debit(2).commit_ts.0 += 1;
        rejects(&found(&scene), "timestamp");
    }
}
