//! Denials: who is told "nothing was done" can rely on it.
//!
//! `busy` and `contended` consume nothing and do nothing, now or later; a leader that cannot know whether
//! what it proposed takes effect has to say `unknown`. Some clients take the word for it and do not ask
//! again: then no shard may have a record of the id, neither of money that moved nor of a refusal.
//!
//! An id is judged only if each of its uses was denied: another use may have had its effect.

use std::collections::BTreeMap;

use quorate_protocol::ids::TransferId;

use super::Violation;
use super::records::Records;
use crate::history::History;

/// Looks for effects of what was denied.
pub fn check(history: &History, records: &Records, violations: &mut Vec<Violation>) {
    let mut denied: BTreeMap<TransferId, bool> = BTreeMap::new();
    for transfer_use in &history.transfers {
        if transfer_use.started_ns.is_some() {
            *denied.entry(transfer_use.transfer.id).or_insert(true) &= transfer_use.denied;
        }
    }
    for id in denied.iter().filter(|(_, all)| **all).map(|(id, _)| *id) {
        let Some(found) = records.by_id.get(&id) else {
            continue;
        };
        if let Some((shard, record)) = found.debits.iter().chain(&found.credits).next() {
            violations.push(Violation {
                checker: "denials",
                text: format!("transfer {id} was denied, shard {shard} has recorded {record:?}"),
            });
        }
    }
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
    fn an_effect_of_what_was_denied_is_found() {
        for id in [5, 8] {
            let mut scene = Scene::valid();
            scene.transfer_use(id).denied = true;
            rejects(&found(&scene), &format!("transfer {id} was denied"));
        }
    }

    #[test]
    fn another_use_of_the_id_may_have_its_effect() {
        let mut scene = Scene::valid();
        let mut again = scene.transfer_use(5).clone();
        again.denied = true;
        scene.history.transfers.push(again);
        assert_eq!(found(&scene), []);
    }
}
