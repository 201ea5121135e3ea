//! Routes: from every shard the way leads to an account's owner, and every shard knows what its log says of where accounts went.
//!
//! A stub is followed, and where there is none the account's default home is asked: the rule that every shard and client goes
//! by. What former owners tell homes are departures that the logs have, and a stub goes only after the home's log has
//! said as much as the stub. Each shard's map epoch and the epoch of each stub's last change are the model's, since
//! clients ask by them.

use std::collections::{BTreeMap, BTreeSet};

use quorate_protocol::ids::{AccountId, ShardId};
use quorate_protocol::txn::record::RouteRow;

use super::model::Gone;
use super::replays::Replays;
use super::{FinalState, Violation};

/// What a shard holds of where its accounts went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardMap {
    pub epoch: u32,
    pub stubs: BTreeMap<AccountId, Gone>,
}

/// Compares with the logs, and follows every way.
pub fn check(state: &FinalState, replays: &Replays, violations: &mut Vec<Violation>) {
    let mut report = |text| {
        violations.push(Violation {
            checker: "routes",
            text,
        });
    };
    for (&shard, map) in &state.maps {
        let model = replays.shard(shard).map(|replay| ShardMap {
            epoch: replay.map_epoch,
            stubs: replay.gone.clone(),
        });
        check_map(shard, map, &model.unwrap_or_default(), &mut report);
    }
    check_told(state, replays, &mut report);
    check_dropped(state, replays, &mut report);
    // That there is one is for another checker to say.
    let mut owners: BTreeMap<AccountId, BTreeSet<ShardId>> = BTreeMap::new();
    for (shard, account) in &state.accounts {
        owners.entry(account.id).or_default().insert(*shard);
    }
    for (&account, owners) in &owners {
        for &from in state.maps.keys() {
            if let Err(text) = follow(state, account, from, owners) {
                report(text);
            }
        }
    }
}

fn check_map(shard: ShardId, map: &ShardMap, model: &ShardMap, report: &mut impl FnMut(String)) {
    if map.epoch != model.epoch {
        report(format!(
            "shard {shard} has map epoch {}, its log makes it {}",
            map.epoch, model.epoch
        ));
    }
    let accounts: BTreeSet<&AccountId> = map.stubs.keys().chain(model.stubs.keys()).collect();
    for account in accounts {
        let (kept, due) = (map.stubs.get(account), model.stubs.get(account));
        if kept != due {
            report(format!(
                "account {account} left shard {shard} as {kept:?}, its log makes it {due:?}"
            ));
        }
    }
}

/// What was said of an account, to its home or to a client, is how it left some shard.
fn check_told(state: &FinalState, replays: &Replays, report: &mut impl FnMut(String)) {
    let mut left: BTreeSet<(AccountId, u32, ShardId)> = BTreeSet::new();
    for replay in replays.shards.values() {
        for departure in &replay.departures {
            let accounts = departure.accounts.iter().map(|owned| &owned.account);
            left.extend(accounts.map(|it| (it.id, it.ownership_epoch + 1, departure.target)));
        }
    }
    for (shard, row) in &state.told {
        if !left.contains(&(row.account, row.ownership_epoch, row.shard)) {
            report(format!(
                "shard {shard} told that account {} went to shard {} under epoch {}, it never did",
                row.account, row.shard, row.ownership_epoch
            ));
        }
    }
    for (&shard, replay) in &replays.shards {
        for row in &replay.told {
            if !left.contains(&(row.account, row.ownership_epoch, row.shard)) {
                report(format!(
                    "shard {shard} was told that account {} went to shard {} under epoch {}, it never did",
                    row.account, row.shard, row.ownership_epoch
                ));
            }
        }
    }
}

fn check_dropped(state: &FinalState, replays: &Replays, report: &mut impl FnMut(String)) {
    for (&shard, replay) in &replays.shards {
        for (at, row) in &replay.dropped {
            let RouteRow {
                account,
                ownership_epoch,
                ..
            } = *row;
            let home = state.rules.home(account);
            let known = replays.shard(home).map(|home| &home.known);
            let known = known.and_then(|known| known.get(&account));
            let mut known = known.into_iter().flatten();
            if home == shard || !known.any(|(since, epoch)| *epoch >= ownership_epoch && since < at)
            {
                report(format!(
                    "shard {shard} forgot at {} that account {account} went under epoch {ownership_epoch}, \
                     its home {home} had not logged as much",
                    at.0
                ));
            }
        }
    }
}

fn follow(
    state: &FinalState,
    account: AccountId,
    from: ShardId,
    owners: &BTreeSet<ShardId>,
) -> Result<(), String> {
    let home = state.rules.home(account);
    let mut way = vec![from];
    loop {
        let here = way[way.len() - 1];
        if owners.contains(&here) {
            return Ok(());
        }
        let stub = state
            .maps
            .get(&here)
            .and_then(|map| map.stubs.get(&account));
        let next = stub.map_or(home, |gone| gone.to);
        if way.contains(&next) {
            return Err(format!(
                "account {account} is at {owners:?}, the way to it goes round: {way:?}, {next}"
            ));
        }
        way.push(next);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{FIRST, SECOND, Scene, rejects};
    use super::super::log::Command;
    use super::*;
    use quorate_protocol::time::Timestamp;

    fn found(scene: &Scene) -> Vec<Violation> {
        let mut violations = Vec::new();
        check(&scene.state, &scene.replays(), &mut violations);
        violations
    }

    #[test]
    fn a_true_map_passes() {
        assert_eq!(found(&Scene::valid()), []);
    }

    #[test]
    fn a_stub_that_is_missing_or_names_another_shard_is_found() {
        let mut scene = Scene::valid();
        scene.map(FIRST).stubs.clear();
        rejects(&found(&scene), "goes round");
        rejects(&found(&scene), "its log makes it");
        let mut scene = Scene::valid();
        scene
            .map(FIRST)
            .stubs
            .values_mut()
            .for_each(|gone| gone.to = FIRST);
        rejects(&found(&scene), "goes round");
    }

    #[test]
    fn a_stub_of_what_never_left_is_found() {
        let mut scene = Scene::valid();
        let gone = scene.map(FIRST).stubs[&AccountId(2)];
        scene.map(FIRST).stubs.insert(AccountId(1), gone);
        rejects(&found(&scene), "account 1 left shard 1 as");
    }

    #[test]
    fn what_was_told_and_never_happened_is_found() {
        let row = RouteRow {
            account: AccountId(2),
            shard: SECOND,
            ownership_epoch: 1,
            epoch: 1,
            reserved: 0,
        };
        let mut scene = Scene::valid();
        scene.state.told.push((FIRST, row));
        assert_eq!(found(&scene), []);
        let ownership_epoch = 2;
        let later = RouteRow {
            ownership_epoch,
            ..row
        };
        scene.state.told.push((FIRST, later));
        rejects(&found(&scene), "it never did");
        let mut scene = Scene::valid();
        let told = Command::Forward(vec![later]);
        scene.entry(1, 8).commands.push(told);
        rejects(&found(&scene), "was told that account 2");
    }

    /// Account 3 is at home at shard 2. Here it went to shard 1 and back, and shard 1 forgot that with no word to the home: the
    /// home has it again, under epoch 2, but logged that only later.
    #[test]
    fn a_stub_that_went_before_its_home_knew_is_found() {
        let row = RouteRow {
            account: AccountId(3),
            shard: SECOND,
            ownership_epoch: 2,
            epoch: 1,
            reserved: 0,
        };
        let scene = Scene::valid();
        let mut replays = scene.replays();
        let dropped = &mut replays.shards.get_mut(&FIRST).expect("a shard").dropped;
        dropped.push((Timestamp(90), row));
        let judge = |replays: &Replays| {
            let mut violations = Vec::new();
            check(&scene.state, replays, &mut violations);
            violations
        };
        rejects(&judge(&replays), "had not logged as much");
        for (since, epoch, is_known) in [(89, 1, false), (91, 2, false), (89, 2, true)] {
            let home = replays.shards.get_mut(&SECOND).expect("a shard");
            home.known
                .insert(AccountId(3), vec![(Timestamp(since), epoch)]);
            assert_eq!(judge(&replays).is_empty(), is_known, "{since} {epoch}");
        }
    }

    #[test]
    fn another_epoch_is_found() {
        let mut scene = Scene::valid();
        scene.map(FIRST).epoch += 1;
        rejects(&found(&scene), "map epoch");
        let mut scene = Scene::valid();
        scene
            .map(FIRST)
            .stubs
            .values_mut()
            .for_each(|gone| gone.changed = 0);
        rejects(&found(&scene), "account 2 left shard 1 as");
    }

    #[test]
    fn a_second_shard_needs_no_stub() {
        let scene = Scene::valid();
        assert_eq!(scene.state.maps[&SECOND], ShardMap::default());
    }
}
