//! Liveness: once everything is healed, every request ends and nothing stays open.
//!
//! The bounds of simulated time are kept by the phases of the run ([`crate::phases`]): a run that does not
//! come to rest within them is a violation there. What is left for the end: every operation that a client
//! waited for has a final answer, and no shard's log ends with a reservation, a staged account or a
//! departed account that never arrived.
//!
//! Not asked for: moves, cuts and changes of leadership. Their client lets them go after some tries.

use super::Violation;
use super::replays::Replays;
use crate::history::History;

/// Looks for what never ended.
pub fn check(history: &History, replays: &Replays, violations: &mut Vec<Violation>) {
    let mut report = |text| {
        violations.push(Violation {
            checker: "liveness",
            text,
        });
    };
    for transfer_use in &history.transfers {
        let let_go = transfer_use.abandoned || transfer_use.denied;
        let waited = transfer_use.started_ns.is_some() && !let_go;
        if waited && transfer_use.answer.is_none() {
            let id = transfer_use.transfer.id;
            report(format!("transfer {id} was sent and never answered"));
        }
    }
    for creation in &history.creations {
        if creation.started_ns.is_some() && creation.answer.is_none() {
            let id = creation.account.id;
            report(format!("the creation of account {id} was never answered"));
        }
    }
    for (number, read) in history.reads.iter().enumerate() {
        if read.answer.is_none() {
            let id = read.account;
            report(format!("read {number} of account {id} was never answered"));
        }
    }
    for (shard, replay) in &replays.shards {
        for (txn, prepared) in &replay.in_doubt {
            report(format!(
                "transfer {} of shard {} stays prepared at shard {shard} since slot {}",
                txn.id, txn.coordinator, prepared.slot
            ));
        }
        for (txn, (batch, slot)) in &replay.staged {
            report(format!(
                "move {} of shard {} stays staged at shard {shard} since slot {slot}, with {} accounts",
                txn.id,
                txn.coordinator,
                batch.accounts.len()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Scene, rejects};
    use super::*;

    fn found(scene: &Scene) -> Vec<Violation> {
        let mut violations = Vec::new();
        check(&scene.history, &scene.replays(), &mut violations);
        violations
    }

    #[test]
    fn a_true_history_passes() {
        assert_eq!(found(&Scene::valid()), []);
    }

    #[test]
    fn a_request_without_an_answer_is_found_unless_its_client_gave_up() {
        let mut scene = Scene::valid();
        scene.history.transfers[0].answer = None;
        rejects(&found(&scene), "transfer 1 was sent");
        scene.history.transfers[0].abandoned = true;
        assert_eq!(found(&scene), []);
        scene.history.transfers[0].abandoned = false;
        scene.history.transfers[0].denied = true;
        assert_eq!(found(&scene), []);
        scene.history.reads[0].answer = None;
        rejects(&found(&scene), "read 0");
        let mut scene = Scene::valid();
        scene.history.creations[1].answer = None;
        rejects(&found(&scene), "creation of account 2");
    }

    #[test]
    fn a_reservation_that_stays_is_found() {
        let mut scene = Scene::valid();
        scene.entry(2, 3).commands.clear();
        rejects(&found(&scene), "transfer 3 of shard 1 stays prepared");
        let mut scene = Scene::valid();
        scene.entry(2, 6).commands.clear();
        rejects(&found(&scene), "stays staged");
    }
}
