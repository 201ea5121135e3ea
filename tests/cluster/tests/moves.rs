//! Accounts move between shards while transfers run and nodes are killed: one owner each, always.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use quorate_client::reshard::{AccountMove, Applied, ApplyOptions, apply};
use quorate_client::{BlockingClient, ClientOptions};
use quorate_cluster_tests::{Cluster, Load, Shape, full, patience};
use quorate_config::ClusterConfig;
use quorate_protocol::client::AccountAnswer;
use quorate_protocol::ids::{AccountId, ShardId};

const ACCOUNTS: u128 = 3_000;
const LOAD: [&str; 8] = [
    "--workload",
    "uniform",
    "--accounts",
    "3000",
    "--clients",
    "8",
    "--batch",
    "10",
];

/// Kills go on while accounts are read: what stands between a read and its answer is a change of
/// leader or two, three seconds each at the worst, so three times as long.
const READABLE_WITHIN: Duration = Duration::from_secs(18);

fn client(config: &ClusterConfig) -> BlockingClient {
    let options = ClientOptions {
        deadline: READABLE_WITHIN,
        ..ClientOptions::default()
    };
    BlockingClient::connect(config, options)
}

/// Every account of the load to the next shard.
fn rotation(config: &ClusterConfig, client: &mut BlockingClient) -> Vec<AccountMove> {
    let ids: Vec<AccountId> = (1..=ACCOUNTS).map(AccountId).collect();
    let answers = client.lookup_accounts(&ids).expect("all accounts are read");
    for (id, answer) in ids.iter().zip(&answers) {
        assert!(
            matches!(answer, AccountAnswer::Found(_)),
            "account {id}: {answer:?}"
        );
    }
    ids.into_iter()
        .map(|account| {
            let source = client.shard_of(account);
            let target = ShardId(source.0 % config.shards + 1);
            AccountMove {
                account,
                source,
                target,
            }
        })
        .collect()
}

/// Applies a plan with small batches, so that many moves are there to be hit.
fn carry_out(config: &ClusterConfig, moves: &[AccountMove]) -> Applied {
    let options = ApplyOptions {
        batch_max: 25,
        patience: Duration::from_secs(60),
        rest: 0,
    };
    let connect = |_| Ok::<_, Infallible>(client(config));
    match apply(moves, options, connect, |_| ()) {
        Ok(applied) => applied,
        Err(never) => match never {},
    }
}

#[test]
fn every_account_has_one_owner_whatever_is_killed_during_moves() {
    let kills = if full() { 50 } else { 5 };
    let cluster = Cluster::start("moves", Shape::USUAL);
    let config = ClusterConfig::load(cluster.file()).expect("the topology file");
    let mut load = Load::start(&cluster, "load", 8 + kills * 2, &LOAD);
    load.wait_for_acks();

    let stop = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let moves = rotation(&config, &mut client(&config));
                let applied = carry_out(&config, &moves);
                assert!(applied.refused.is_empty(), "{:?}", applied.refused);
                assert!(applied.is_complete(), "not moved: {applied:?}");
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        for kill in 0..kills {
            // Another moment and another node each time; nothing waits for it.
            thread::sleep(Duration::from_millis(100 + kill * 137 % 700));
            cluster.act("kill", 1 + kill % cluster.nodes());
            cluster.start_nodes();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(rounds.load(Ordering::Relaxed) > 0);

    let report = load.finish();
    report.assert_nothing_lost(&cluster);
    cluster.assert_nothing_in_doubt(SystemTime::now(), patience(Duration::from_secs(5)));
    let sound = cluster.assert_sound(patience(Duration::from_secs(5)));
    assert_eq!(sound["owners_unique"], true);
    assert_eq!(sound["in_doubt"], 0, "{sound}");
    assert!(
        sound["accounts"].as_u64() >= u64::try_from(ACCOUNTS).ok(),
        "{sound}"
    );
}

#[test]
fn a_plan_whose_tool_died_can_be_started_again() {
    let cluster = Cluster::start("move-tool", Shape::USUAL);
    let config = ClusterConfig::load(cluster.file()).expect("the topology file");
    let load = Load::start(&cluster, "load", 3, &LOAD);
    let report = load.finish();
    assert_eq!(report.code, Some(0), "{}", report.run);

    let moves = rotation(&config, &mut client(&config));
    // The first half as by a tool that died; then the whole plan, from its beginning.
    let half = &moves[..moves.len() / 2];
    assert!(carry_out(&config, half).is_complete());
    let applied = carry_out(&config, &moves);
    assert!(applied.is_complete(), "{applied:?}");
    assert_eq!(
        applied.already_there,
        u64::try_from(half.len()).expect("fits")
    );
    let mut client = client(&config);
    let ids: Vec<AccountId> = moves.iter().map(|planned| planned.account).collect();
    client.lookup_accounts(&ids).expect("all accounts are read");
    for planned in &moves {
        assert_eq!(
            client.shard_of(planned.account),
            planned.target,
            "{planned:?}"
        );
    }
    report.assert_nothing_lost(&cluster);
    cluster.assert_sound(patience(Duration::from_secs(5)));
}
