//! What happened to accounts, asked of running processes: through a move there and back, at times in the past;
//! and what the nodes have left, looked at once they are stopped.

#![forbid(unsafe_code)]

use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quorate_client::reshard::{MoveReply, MoveSender};
use quorate_client::{BlockingClient, ClientOptions};
use quorate_cluster_tests::{Cluster, Shape, patience};
use quorate_config::ClusterConfig;
use quorate_protocol::client::MoveAnswer;
use quorate_protocol::ids::{AccountId, ShardId};
use serde_json::Value;

const SHAPE: Shape = Shape {
    shards: 2,
    replicas: 3,
    nodes: 3,
};
const ACCOUNTS: u64 = 6;

/// A time, and the balances of every account that were read before it.
struct Read {
    at_ns: u128,
    totals: Vec<(String, String)>,
}

fn now_ns() -> u128 {
    // Apart from what happens before and after.
    sleep(Duration::from_millis(20));
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ns = since.expect("after 1970").as_nanos();
    sleep(Duration::from_millis(20));
    now_ns
}

fn totals(rows: &Value) -> Vec<(String, String)> {
    let text = |row: &Value, key: &str| row[key].as_str().expect("a decimal").to_owned();
    let rows = rows.as_array().expect("rows").iter();
    rows.map(|row| (text(row, "debits_posted"), text(row, "credits_posted")))
        .collect()
}

fn ids() -> Vec<String> {
    (1..=ACCOUNTS).map(|id| id.to_string()).collect()
}

fn show(cluster: &Cluster, more: &[&str]) -> Value {
    let ids = ids();
    let ids = ids.iter().map(String::as_str);
    let arguments = ["account", "show"].into_iter().chain(ids);
    cluster.json(arguments.chain(more.iter().copied()))
}

fn read(cluster: &Cluster) -> Read {
    Read {
        totals: totals(&show(cluster, &[])),
        at_ns: now_ns(),
    }
}

/// Everybody pays the next one.
fn pay(cluster: &Cluster, amount: u64) {
    for debit in 1..=ACCOUNTS {
        let (debit, credit) = (debit.to_string(), (debit % ACCOUNTS + 1).to_string());
        let done = cluster.json([
            "transfer",
            "--debit",
            &debit,
            "--credit",
            &credit,
            "--amount",
            &amount.to_string(),
            "--ledger",
            "1",
            "--code",
            "1",
        ]);
        assert_eq!(done["result"], "ok");
    }
}

fn move_all(client: &mut BlockingClient, ids: &[u64], target: u32) {
    for &id in ids {
        let account = AccountId(id.into());
        let source = ShardId(3 - target);
        let move_id = client.new_move_id();
        loop {
            let target = ShardId(target);
            match client.move_accounts(source, move_id, target, &[account]) {
                MoveReply::Answer(MoveAnswer::Moved { .. }) => break,
                MoveReply::Answer(MoveAnswer::Contended)
                | MoveReply::Busy
                | MoveReply::NoAnswer => {}
                other @ MoveReply::Answer(_) => panic!("account {id}: {other:?}"),
            }
        }
    }
}

#[test]
fn an_account_is_followed_through_its_owners_and_its_past_is_final() {
    let cluster = Cluster::start("history", SHAPE);
    let created_ns = now_ns();
    let range = format!("1..{ACCOUNTS}");
    let create = [
        "account", "create", "--ids", &range, "--ledger", "1", "--code", "1",
    ];
    cluster.json(create);
    let config = ClusterConfig::load(cluster.file()).expect("the topology");
    let options = ClientOptions {
        deadline: patience(Duration::from_secs(20)),
        ..ClientOptions::default()
    };
    let mut client = BlockingClient::connect(&config, options);
    let at_shard = |shard: u32| -> Vec<u64> {
        let home = |id: &u64| {
            config
                .placement
                .home(AccountId((*id).into()), config.shards)
        };
        (1..=ACCOUNTS)
            .filter(|id| home(id) == ShardId(shard))
            .collect()
    };
    let (first, second) = (at_shard(1), at_shard(2));
    assert!(!first.is_empty() && !second.is_empty());

    let mut reads = vec![read(&cluster)];
    pay(&cluster, 5);
    reads.push(read(&cluster));
    move_all(&mut client, &first, 2);
    pay(&cluster, 7);
    reads.push(read(&cluster));
    // Back again, and the others come along.
    move_all(&mut client, &first, 1);
    move_all(&mut client, &second, 1);
    pay(&cluster, 11);
    reads.push(read(&cluster));

    for read in &reads {
        let then = show(&cluster, &["--at", &read.at_ns.to_string()]);
        assert_eq!(totals(&then), read.totals, "at {}", read.at_ns);
    }
    for id in ids() {
        let history = cluster.json(["account", "history", &id]);
        assert_eq!(history["shard"], 1, "account {id}");
        let rows = history["rows"].as_array().expect("rows");
        let amounts: Vec<&str> = rows
            .iter()
            .map(|row| row["amount"].as_str().expect("a decimal"))
            .collect();
        assert_eq!(amounts, ["11", "11", "7", "7", "5", "5"], "account {id}");
        let shards: Vec<u64> = rows
            .iter()
            .map(|row| row["shard"].as_u64().expect("a shard"))
            .collect();
        let home = config
            .placement
            .home(AccountId(id.parse().expect("a number")), config.shards);
        let was = u64::from(home.0);
        assert_eq!(shards, [1, 1, 2, 2, was, was], "account {id}");

        let (from, to) = (reads[1].at_ns.to_string(), reads[2].at_ns.to_string());
        let part = cluster.json(["account", "history", &id, "--from", &from, "--to", &to]);
        assert_eq!(part["rows"].as_array().expect("rows")[..], rows[2..4]);
        let page = cluster.json(["account", "history", &id, "--limit", "3"]);
        assert_eq!(page["rows"].as_array().expect("rows")[..], rows[..3]);
        assert_eq!(
            (&page["more"], &history["more"]),
            (&true.into(), &false.into())
        );
    }
    refusals(&cluster, created_ns);
    stopped(&cluster);
}

fn refusals(cluster: &Cluster, created_ns: u128) {
    let before = created_ns.to_string();
    let ahead = (now_ns() + 3_600_000_000_000).to_string();
    let cases: [(&[&str], i32, &str); 6] = [
        (
            &["account", "show", "1", "--at", &before],
            1,
            "was created later",
        ),
        (
            &["account", "show", "99", "--at", &before],
            1,
            "does not exist",
        ),
        (
            &["account", "show", "1", "--at", &ahead],
            2,
            "in the future",
        ),
        (&["account", "show", "1", "--at", "noon"], 2, "RFC 3339"),
        (&["account", "history", "99"], 1, "does not exist"),
        (
            &["account", "history", "1", "--from", "2", "--to", "1"],
            2,
            "behind --to",
        ),
    ];
    for (arguments, code, text) in cases {
        let done = cluster.quorate(arguments.iter().copied());
        assert_eq!(done.code, Some(code), "{arguments:?}: {done:?}");
        assert!(done.stderr.contains(text), "{arguments:?}: {done:?}");
    }
}

/// The same directories while the nodes run, and once they are stopped.
fn stopped(cluster: &Cluster) {
    let commands: [&[&str]; 4] = [
        &["inspect", "wal"],
        &["inspect", "checkpoint"],
        &["inspect", "segments", "--verify"],
        &["inspect", "account", "1"],
    ];
    for command in commands {
        let done = cluster.quorate(command.iter().copied());
        assert_eq!(done.code, Some(3), "{command:?}: {done:?}");
    }
    let done = cluster.quorate(["cluster", "stop"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    for command in commands {
        let seen = cluster.json(command.iter().copied());
        let replicas = seen["replicas"].as_array().expect("replicas");
        assert_eq!(replicas.len(), 6, "{command:?}");
        assert_eq!(seen["not_read"], Value::Array(Vec::new()));
        for replica in replicas {
            assert_eq!(replica["damage"], Value::Array(Vec::new()), "{replica}");
            if command == ["inspect", "wal"] {
                assert_eq!(replica["tail"]["clean"], true, "{replica}");
            }
        }
    }
    cluster.start_nodes();
}
