//! Answers: each result code says something that must be true.
//!
//! Malformed requests get the code that the first wrong field calls for; an answer about an id that was
//! used before is the one that its record calls for, with the record's timestamp; an id is told "ok" or its
//! refusal once, every later use is told that it was used. Whether a recorded result itself is right is for
//! [`super::replay`]; whether it came in time for [`super::order`].
//!
//! "Not now" (busy, contended, moved, unknown) is not judged here: clients ask again, and the last word
//! counts. Where it was the last word, [`super::denials`] takes it at that.

use std::collections::BTreeMap;

use quorate_protocol::ids::TransferId;
use quorate_protocol::ledger::{CodeKind, ResultCode, Transfer};

use super::Violation;
use super::model::rules;
use super::records::Records;
use crate::history::{Answer, History};

/// Judges every answer of a transfer.
pub fn check(history: &History, records: &Records, violations: &mut Vec<Violation>) {
    let mut report = |id, text: String| {
        violations.push(Violation {
            checker: "answers",
            text: format!("transfer {id}: {text}"),
        });
    };
    let mut decided: BTreeMap<TransferId, u64> = BTreeMap::new();
    for transfer_use in &history.transfers {
        let Some(answer) = transfer_use.answer else {
            continue;
        };
        let id = transfer_use.transfer.id;
        if let Err(text) = check_answer(&transfer_use.transfer, answer, records) {
            let (told, at_ns) = (answer.code.name(), answer.at_ns);
            report(id, format!("answered {told} at {at_ns} ns: {text}"));
        }
        let decides = answer.code == ResultCode::Ok || answer.code.kind() == CodeKind::Recorded;
        if decides && let Some(earlier_ns) = decided.insert(id, answer.at_ns) {
            let (told, at_ns) = (answer.code.name(), answer.at_ns);
            report(
                id,
                format!("answered {told} at {at_ns} ns, it had its result at {earlier_ns} ns"),
            );
        }
    }
}

fn check_answer(transfer: &Transfer, answer: Answer, records: &Records) -> Result<(), String> {
    let expected = rules::malformed(transfer);
    let is_malformed = answer.code.kind() == CodeKind::Malformed;
    if expected.is_some() || is_malformed {
        return if expected == Some(answer.code) {
            Ok(())
        } else {
            Err(format!("the request calls for {expected:?}"))
        };
    }
    let is_about_use = answer.code.kind() == CodeKind::Used || answer.code == ResultCode::Exists;
    if !is_about_use {
        return Ok(());
    }
    let recorded = records.decision(transfer.id).ok_or("nothing is recorded")?;
    let result = ResultCode::from_u16(recorded.code).ok_or("recorded is an unknown code")?;
    let due = rules::used_again(&recorded.transfer, result, transfer);
    if due != answer.code {
        return Err(format!("recorded is {recorded:?}: {}", due.name()));
    }
    if answer.timestamp != recorded.commit_ts {
        return Err(format!(
            "with timestamp {}, recorded is {}",
            answer.timestamp.0, recorded.commit_ts.0
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Scene, rejects};
    use super::*;

    fn found(scene: &Scene) -> Vec<Violation> {
        let mut violations = Vec::new();
        let records = Records::new(&scene.state);
        check(&scene.history, &records, &mut violations);
        violations
    }

    #[test]
    fn a_true_history_passes() {
        assert_eq!(found(&Scene::valid()), []);
    }

    #[test]
    fn a_wrong_code_for_a_malformed_request_is_found() {
        let mut scene = Scene::valid();
        scene.answer(6).code = ResultCode::LedgerMustNotBeZero;
        rejects(&found(&scene), "calls for");
        let mut scene = Scene::valid();
        scene.answer(1).code = ResultCode::AmountMustNotBeZero;
        rejects(&found(&scene), "calls for");
    }

    #[test]
    fn a_difference_that_is_none_is_found() {
        let mut scene = Scene::valid();
        scene.answer(1).code = ResultCode::ExistsWithDifferentAmount;
        rejects(&found(&scene), "recorded is");
        let mut scene = Scene::valid();
        scene.answer(1).code = ResultCode::IdAlreadyFailed;
        rejects(&found(&scene), "recorded is");
    }

    #[test]
    fn a_second_first_answer_is_found() {
        let mut scene = Scene::valid();
        let again = scene.history.transfers[0].clone();
        scene.history.transfers.push(again);
        rejects(&found(&scene), "it had its result");
        let last = scene.history.transfers.len() - 1;
        let answer = scene.history.transfers[last].answer.as_mut().unwrap();
        answer.code = ResultCode::Exists;
        assert_eq!(found(&scene), []);
        let answer = scene.history.transfers[last].answer.as_mut().unwrap();
        answer.timestamp.0 += 1;
        rejects(&found(&scene), "with timestamp");
    }
}
