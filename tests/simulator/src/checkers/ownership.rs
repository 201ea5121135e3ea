//! Ownership: every account has exactly one owner at every cut, and it is where the moves that were
//! acknowledged left it.
//!
//! At a timestamp an account is owned by the shard to which the last move at or below it brought it.
//! So it has one owner at every timestamp if its moves form one chain: the first leaves its home, each
//! next one leaves where the last one led, later and under the next ownership epoch, and the last one led
//! to who lists it now. The sums of accounts over the cuts that the engine itself took are compared
//! in [`super::cuts`].

use std::collections::BTreeMap;

use quorate_protocol::ids::{AccountId, ShardId};
use quorate_protocol::ledger::CodeKind;
use quorate_protocol::time::Timestamp;

use super::model::Departure;
use super::replays::Replays;
use super::{FinalState, Violation};
use crate::history::History;

/// Counts owners.
pub fn check(
    history: &History,
    state: &FinalState,
    replays: &Replays,
    violations: &mut Vec<Violation>,
) {
    let mut report = |text| {
        violations.push(Violation {
            checker: "ownership",
            text,
        });
    };
    let mut owners: BTreeMap<AccountId, Vec<ShardId>> = BTreeMap::new();
    for (shard, account) in &state.accounts {
        owners.entry(account.id).or_default().push(*shard);
    }
    for (account, shards) in &owners {
        if shards.len() > 1 {
            report(format!("account {account} is owned by shards {shards:?}"));
        }
        let sent = history
            .creations
            .iter()
            .any(|creation| creation.started_ns.is_some() && creation.account.id == *account);
        if !sent {
            report(format!("account {account} exists, nobody created it"));
        }
    }
    for creation in &history.creations {
        let acknowledged = creation
            .answer
            .is_some_and(|answer| answer.code.kind() == CodeKind::Success);
        if acknowledged && !owners.contains_key(&creation.account.id) {
            report(format!(
                "account {} was created and has no owner",
                creation.account.id
            ));
        }
    }
    check_last_moves(history, state, &mut report);
    check_chains(&owners, state, replays, &mut report);
}

/// The ownership epoch under which an account left, and the shard that let it go.
type Leaving<'a> = (u32, ShardId, &'a Departure);

/// The moves of each account form one chain from its home to its owner.
fn check_chains(
    owners: &BTreeMap<AccountId, Vec<ShardId>>,
    state: &FinalState,
    replays: &Replays,
    report: &mut impl FnMut(String),
) {
    let mut moves: BTreeMap<AccountId, Vec<Leaving<'_>>> = BTreeMap::new();
    for (&shard, replay) in &replays.shards {
        for departure in &replay.departures {
            for left in &departure.accounts {
                let epoch = left.account.ownership_epoch;
                let of_account = moves.entry(left.account.id).or_default();
                of_account.push((epoch, shard, departure));
            }
        }
    }
    for (&account, owners) in owners {
        let mut place = state.rules.home(account);
        let mut since = Timestamp::ZERO;
        let mut departures = moves.remove(&account).unwrap_or_default();
        departures.sort_by_key(|(epoch, ..)| *epoch);
        for ((epoch, shard, departure), expected) in departures.into_iter().zip(0..) {
            if epoch != expected || shard != place || departure.commit_ts <= since {
                report(format!(
                    "account {account} was at shard {place} since {} under epoch {expected}, and left \
                     shard {shard} at {} under epoch {epoch}",
                    since.0, departure.commit_ts.0
                ));
            }
            (place, since) = (departure.target, departure.commit_ts);
        }
        if owners[..] != [place] {
            report(format!(
                "account {account} was brought to shard {place}, it is owned by shards {owners:?}"
            ));
        }
    }
}

/// The number of moves that an account has seen is part of its record; each acknowledged move counts.
fn check_last_moves(history: &History, state: &FinalState, report: &mut impl FnMut(String)) {
    let mut moves: BTreeMap<AccountId, (u32, u32)> = BTreeMap::new();
    for one in &history.moves {
        for account in &one.accounts {
            let (least, most) = moves.entry(*account).or_default();
            *least += u32::from(one.moved == Some(true));
            *most += u32::from(one.started_ns.is_some() && one.moved != Some(false));
        }
    }
    for (_, account) in &state.accounts {
        let (least, most) = moves.get(&account.id).copied().unwrap_or_default();
        if !(least..=most).contains(&account.ownership_epoch) {
            report(format!(
                "account {} has moved {} times; {least} moves were acknowledged, {most} may have \
                 happened",
                account.id, account.ownership_epoch
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Scene, rejects};
    use super::*;
    use crate::history::MoveUse;
    use quorate_protocol::ids::MoveId;

    fn found(scene: &Scene) -> Vec<Violation> {
        let mut violations = Vec::new();
        check(
            &scene.history,
            &scene.state,
            &scene.replays(),
            &mut violations,
        );
        violations
    }

    fn with_move(moved: Option<bool>, epoch: u32) -> Scene {
        let mut scene = Scene::valid();
        scene.history.moves.push(MoveUse {
            id: MoveId(1),
            source: ShardId(1),
            target: ShardId(2),
            accounts: vec![AccountId(1)],
            started_ns: Some(1),
            moved,
            answered_ns: None,
        });
        scene.account(1).ownership_epoch = epoch;
        scene
    }

    #[test]
    fn a_true_history_passes() {
        assert_eq!(found(&Scene::valid()), []);
        for (moved, epoch) in [(Some(true), 1), (Some(false), 0), (None, 0), (None, 1)] {
            assert_eq!(found(&with_move(moved, epoch)), []);
        }
    }

    #[test]
    fn an_account_with_two_owners_is_found() {
        let mut scene = Scene::valid();
        let (_, account) = scene.state.accounts[0];
        scene.state.accounts.push((ShardId(2), account));
        rejects(&found(&scene), "is owned by");
    }

    #[test]
    fn an_account_without_owner_is_found() {
        let mut scene = Scene::valid();
        scene.state.accounts.remove(0);
        rejects(&found(&scene), "has no owner");
    }

    #[test]
    fn an_account_that_nobody_created_is_found() {
        let mut scene = Scene::valid();
        scene.history.creations.remove(0);
        rejects(&found(&scene), "nobody created");
    }

    #[test]
    fn moves_that_were_lost_repeated_or_invented_are_found() {
        for (moved, epoch) in [(Some(true), 0), (Some(true), 2), (Some(false), 1)] {
            rejects(&found(&with_move(moved, epoch)), "has moved");
        }
    }
}
