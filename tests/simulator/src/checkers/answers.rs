//! Answers: each result code says something that must be true.
//!
//! Malformed requests get the code that the first wrong field calls for; "exists" answers name a field
//! that does differ from what is recorded; a refusal for lack of funds came at a slot at which funds
//! did lack; an account that was called unknown had not been acknowledged before.

use std::collections::BTreeMap;

use quorate_protocol::client::RecordedTransfer;
use quorate_protocol::ids::AccountId;
use quorate_protocol::ledger::{AccountFlags, CodeKind, ResultCode, Transfer};

use super::records::{Effect, Records, Side};
use super::{FinalState, Violation};
use crate::history::{Answer, History, TransferUse};

/// Judges every answer of a transfer, and every recorded refusal.
pub fn check(
    history: &History,
    state: &FinalState,
    records: &Records,
    violations: &mut Vec<Violation>,
) {
    let created = creations_acknowledged(history);
    let mut report = |id, text: String| {
        violations.push(Violation {
            checker: "answers",
            text: format!("transfer {id}: {text}"),
        });
    };
    for transfer_use in &history.transfers {
        let Some(answer) = transfer_use.answer else {
            continue;
        };
        if let Err(text) = check_answer(transfer_use, answer, records, &created) {
            let text = format!(
                "answered {} at {} ns: {text}",
                answer.code.name(),
                answer.at_ns
            );
            report(transfer_use.transfer.id, text);
        }
    }
    for (&id, of_id) in &records.by_id {
        for side in &of_id.debits {
            if let Err(text) = check_refusal(side, state, records) {
                report(id, text);
            }
        }
    }
}

fn creations_acknowledged(history: &History) -> BTreeMap<AccountId, u64> {
    let mut created: BTreeMap<AccountId, u64> = BTreeMap::new();
    for creation in &history.creations {
        if let Some(answer) = creation.answer
            && answer.code.kind() == CodeKind::Success
        {
            let at_ns = created.entry(creation.account.id).or_insert(u64::MAX);
            *at_ns = answer.at_ns.min(*at_ns);
        }
    }
    created
}

fn check_answer(
    transfer_use: &TransferUse,
    answer: Answer,
    records: &Records,
    created: &BTreeMap<AccountId, u64>,
) -> Result<(), String> {
    let transfer = &transfer_use.transfer;
    let expected = malformed(transfer);
    let is_malformed = answer.code.kind() == CodeKind::Malformed;
    if expected.is_some() || is_malformed {
        return if expected == Some(answer.code) {
            Ok(())
        } else {
            Err(format!("the request calls for {expected:?}"))
        };
    }
    let started_ns = transfer_use.started_ns.unwrap_or(0);
    let known = |account| {
        created
            .get(&account)
            .is_some_and(|&at_ns| at_ns < started_ns)
    };
    match answer.code {
        ResultCode::DebitAccountNotFound if known(transfer.debit_account_id) => {
            Err("the debit account had been created".to_owned())
        }
        ResultCode::CreditAccountNotFound if known(transfer.credit_account_id) => {
            Err("the credit account had been created".to_owned())
        }
        _ if answer.code.kind() == CodeKind::Used => {
            let recorded = records.decision(transfer.id).ok_or("nothing is recorded")?;
            check_used(answer.code, transfer, recorded)
        }
        _ => Ok(()),
    }
}

/// What the fields alone call for, in checking order.
fn malformed(transfer: &Transfer) -> Option<ResultCode> {
    let max = u128::MAX;
    let rules = [
        (transfer.flags != 0, ResultCode::ReservedFlag),
        (
            transfer.pending_id != 0 || transfer.timeout != 0,
            ResultCode::ReservedField,
        ),
        (transfer.id.0 == 0, ResultCode::IdMustNotBeZero),
        (transfer.id.0 == max, ResultCode::IdMustNotBeMax),
        (
            transfer.debit_account_id.0 == 0,
            ResultCode::DebitAccountIdMustNotBeZero,
        ),
        (
            transfer.credit_account_id.0 == 0,
            ResultCode::CreditAccountIdMustNotBeZero,
        ),
        (
            transfer.debit_account_id == transfer.credit_account_id,
            ResultCode::AccountsMustBeDifferent,
        ),
        (transfer.amount == 0, ResultCode::AmountMustNotBeZero),
        (transfer.ledger == 0, ResultCode::LedgerMustNotBeZero),
        (transfer.code == 0, ResultCode::CodeMustNotBeZero),
    ];
    rules
        .into_iter()
        .find(|(broken, _)| *broken)
        .map(|(_, code)| code)
}

fn check_used(
    code: ResultCode,
    sent: &Transfer,
    recorded: &RecordedTransfer,
) -> Result<(), String> {
    // A refusal answers every later use of its id, whatever its fields.
    let kept = &recorded.transfer;
    let failed = recorded.code != ResultCode::Ok as u16;
    let holds = match code {
        ResultCode::IdAlreadyFailed => failed,
        _ if failed => false,
        ResultCode::ExistsWithDifferentFlags => kept.flags != sent.flags,
        ResultCode::ExistsWithDifferentDebitAccountId => {
            kept.debit_account_id != sent.debit_account_id
        }
        ResultCode::ExistsWithDifferentCreditAccountId => {
            kept.credit_account_id != sent.credit_account_id
        }
        ResultCode::ExistsWithDifferentAmount => kept.amount != sent.amount,
        ResultCode::ExistsWithDifferentUserData => kept.user_data != sent.user_data,
        ResultCode::ExistsWithDifferentLedger => kept.ledger != sent.ledger,
        ResultCode::ExistsWithDifferentCode => kept.code != sent.code,
        _ => true,
    };
    if holds {
        Ok(())
    } else {
        Err(format!("recorded is {recorded:?}"))
    }
}

/// A refusal for lack of funds, at the slot that recorded it: even if all debits of that slot came
/// first and all its credits last, the account must have lacked the money, credits included that were
/// reserved then and committed later.
fn check_refusal(side: &Side, state: &FinalState, records: &Records) -> Result<(), String> {
    let (shard, record) = side;
    if record.code != ResultCode::ExceedsCredits as u16 {
        return Ok(());
    }
    let transfer = record.transfer;
    let account = state
        .accounts
        .iter()
        .find(|(_, account)| account.id == transfer.debit_account_id);
    let limit = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
    if !account.is_some_and(|(_, account)| account.flags.contains(limit)) {
        return Err("refused for lack of funds on an account without a limit".to_owned());
    }
    let Some(&at) = state.entry_times.get(&(*shard, record.slot)) else {
        return Err(format!("refused in slot {}, which nobody saw", record.slot));
    };
    let effects = records.effects_on(transfer.debit_account_id);
    let sum = |part: fn(&Effect) -> u128, last: bool| -> u128 {
        effects
            .iter()
            .filter(|effect| effect.at < at || last && effect.at == at)
            .map(part)
            .sum()
    };
    let open: u128 = effects
        .iter()
        .filter(|effect| effect.at > at && effect.reserved_at.is_some_and(|made| made < at))
        .map(|effect| effect.credit)
        .sum();
    let credits = sum(|effect| effect.credit, false) + open;
    let debits = sum(|effect| effect.debit, true);
    if credits >= debits + transfer.amount {
        return Err(format!(
            "refused {} for lack of funds, with {credits} credited and {debits} debited",
            transfer.amount
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
        check(&scene.history, &scene.state, &records, &mut violations);
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
    fn a_refusal_of_a_solvent_account_is_found() {
        let mut scene = Scene::valid();
        scene.debit(4).transfer.amount = 1;
        rejects(&found(&scene), "lack of funds");
        let mut scene = Scene::valid();
        scene.account(1).flags = AccountFlags::default();
        rejects(&found(&scene), "without a limit");
    }

    #[test]
    fn a_refusal_under_an_open_credit_is_found() {
        let mut scene = Scene::valid();
        // Transfer 7 credits account 1 across shards: prepared in slot 4, posted in slot 6.
        scene.post_late_credit(7, 5_000, (4, 6));
        rejects(&found(&scene), "lack of funds");
        let mut scene = Scene::valid();
        scene.post_late_credit(7, 5_000, (6, 6));
        assert_eq!(found(&scene), []);
    }

    #[test]
    fn an_account_that_was_there_and_is_called_unknown_is_found() {
        let mut scene = Scene::valid();
        scene.answer(1).code = ResultCode::CreditAccountNotFound;
        rejects(&found(&scene), "had been created");
    }
}
