//! A leader that stops running and wakes up again: it answers nothing from before its sleep.

#![forbid(unsafe_code)]

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use quorate_client::{BlockingClient, ClientOptions};
use quorate_cluster_tests::{Cluster, Load, Shape, full, patience, until};
use quorate_config::ClusterConfig;
use quorate_protocol::client::{AccountAnswer, ReplyBody, RequestBody};
use quorate_protocol::ids::{AccountId, ReplicaAddress, ReplicaId, ShardId};
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, Transfer};
use quorate_protocol::words::Rows;

const SHARD: ShardId = ShardId(1);
/// In which a question on a connection that stands has reached the socket of a process that does not run.
const ARRIVES_WITHIN: Duration = Duration::from_millis(500);

fn client(config: &ClusterConfig, deadline: Duration) -> BlockingClient {
    let options = ClientOptions {
        deadline,
        connect_timeout: Duration::from_secs(1),
    };
    BlockingClient::connect(config, options)
}

/// The process of a node that runs.
fn pid_of(cluster: &Cluster, node: u64) -> u64 {
    let shown = cluster.json(["cluster", "ps"]);
    let nodes = shown["nodes"].as_array().into_iter().flatten();
    nodes
        .filter(|row| row["node"] == node)
        .find_map(|row| row["pid"].as_u64())
        .expect("a node that was started here has a pid")
}

/// The lines of a process's threads that are not stopped.
fn running_threads(pid: u64) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a paused process is there");
    let stats = threads.flatten().map(|thread| thread.path().join("stat"));
    let stats: Vec<String> = stats.flat_map(fs::read_to_string).collect();
    assert!(stats.len() > 1, "a node has several threads: {stats:?}");
    // `17 (its name) T ...`
    let running = stats.into_iter().filter(|stat| !stat.contains(") T "));
    running.collect()
}

/// The replica of `SHARD` on a node.
fn replica_on(config: &ClusterConfig, node: u64) -> ReplicaAddress {
    config
        .members_of(SHARD)
        .find(|&member| u64::from(config.node_of(member).id.0) == node)
        .expect("every node hosts a replica of the shard")
}

/// A process of many threads stops when one of them has taken the signal and then each of the others, which on a busy machine is
/// some milliseconds later. `cluster pause` once returned before: a leader answered behind it, with the balance of that moment,
/// rightly, and the test called it stale. It might also have taken the payment itself, and would have had no old balance to show.
///
/// A read that began before the payment was acknowledged may show either balance, so the question is sent behind that.
#[test]
fn a_leader_that_was_paused_gives_no_stale_read_and_catches_up() {
    let seconds = if full() { 10 } else { 4 };
    let cluster = Cluster::start("pause", Shape::USUAL);
    let config = ClusterConfig::load(cluster.file()).expect("the topology file");
    let (payer, payee) = accounts_of_shard(&config);
    let mut writer = client(&config, Duration::from_secs(10));
    let created = [payer, payee].map(|id| Account::new(id, 7, 1, AccountFlags::default()));
    let results = writer.create_accounts(&created).expect("accounts");
    assert!(
        results
            .iter()
            .all(|row| row.result() == Some(ResultCode::Ok)),
        "{results:?}"
    );
    let mut load = Load::start(&cluster, "load", seconds + 10, &["--workload", "uniform"]);
    load.wait_for_acks();

    let (leader, _) = until(Duration::from_secs(15), "leader", || {
        cluster.leader_node(SHARD.0.into())
    });
    let paused = replica_on(&config, leader);
    // A reader whose connection stands before the pause, and whose question arrives during it, behind the payment.
    let mut reader = client(&config, Duration::from_secs(seconds + 20));
    let before = reader
        .replica_request(paused, lookup(payee))
        .expect("an answer before the pause");
    assert!(matches!(before, ReplyBody::Accounts(_)), "{before:?}");

    let pid = pid_of(&cluster, leader);
    cluster.act("pause", leader);
    assert_eq!(running_threads(pid), Vec::<String>::new());
    let start = Instant::now();
    let transfer = Transfer::new(writer.new_transfer_id(), payer, payee, 42, 7, 1);
    let (_, took) = until(
        patience(Duration::from_secs(3)),
        "transfer without the paused leader",
        || {
            let rows = writer.create_transfers(&[transfer]).ok()?;
            rows[0].result().filter(|code| code.is_success())
        },
    );
    eprintln!("written {took:?} after the pause");
    let pending = thread::spawn(move || {
        // `Err` is no answer, which is no stale one either.
        if let Ok(reply) = reader.replica_request(paused, lookup(payee)) {
            assert_not_stale(&reply);
        }
    });
    // The pause itself is what is tested; nothing waits for its end but the clock, and the question has to arrive.
    let rest = Duration::from_secs(seconds).saturating_sub(start.elapsed());
    thread::sleep(rest.max(ARRIVES_WITHIN));
    cluster.act("resume", leader);

    pending.join().expect("no stale read");
    let mut again = client(&config, Duration::from_secs(10));
    if let Ok(reply) = again.replica_request(paused, lookup(payee)) {
        assert_not_stale(&reply);
    }
    let report = load.finish();
    report.assert_nothing_lost(&cluster);
    assert_caught_up(&cluster, leader);
    cluster.assert_sound(patience(Duration::from_secs(5)));
}

fn lookup(id: AccountId) -> RequestBody {
    RequestBody::LookupAccounts(Rows::from_slice(&[id]))
}

/// The read began after 42 units were acknowledged: it sees them or is refused.
fn assert_not_stale(reply: &ReplyBody) {
    match reply {
        ReplyBody::Accounts(answers) => match &answers[..] {
            [AccountAnswer::Found(account)] => assert_eq!(account.credits_posted, 42, "stale"),
            [AccountAnswer::Contended] => {}
            other => panic!("{other:?}"),
        },
        ReplyBody::NotLeader { .. } | ReplyBody::Unknown | ReplyBody::Busy => {}
        other => panic!("{other:?}"),
    }
}

/// Two ids of the ledger's range that live at `SHARD` and that no load uses.
fn accounts_of_shard(config: &ClusterConfig) -> (AccountId, AccountId) {
    let mut ids = (1_u128 << 90..)
        .map(AccountId)
        .filter(|&id| config.placement.home(id, config.shards) == SHARD);
    let mut next = || ids.next().expect("a third of all ids");
    (next(), next())
}

fn assert_caught_up(cluster: &Cluster, node: u64) {
    until(
        Duration::from_secs(30),
        "paused node that has caught up",
        || {
            let status = cluster.look(["status"]);
            let replicas = status["replicas"].as_array()?;
            let applied = |shard: &serde_json::Value, at: Option<u64>| {
                replicas
                    .iter()
                    .filter(|row| row["shard"] == *shard && at.is_none_or(|at| row["node"] == at))
                    .filter_map(|row| row["applied_upto"].as_u64())
                    .max()
            };
            (1..=cluster.shards())
                .map(serde_json::Value::from)
                .all(|shard| applied(&shard, Some(node)) >= applied(&shard, None))
                .then_some(())
        },
    );
}

#[test]
fn a_replica_of_another_shard_is_no_replica_of_this_one() {
    let cluster = Cluster::start("wrong-replica", Shape::USUAL);
    let text = fs::read_to_string(cluster.file()).expect("the topology file");
    // The ports of two nodes swapped: whoever is dialled is somebody else.
    let base = cluster.base_port();
    let (first, second) = (
        format!("base_port = {base}"),
        format!("base_port = {}", base + 100),
    );
    let swapped = text
        .replace(&first, "base_port = SWAP")
        .replace(&second, &first)
        .replace("base_port = SWAP", &second);
    let config = ClusterConfig::parse(&swapped, "swapped.toml").expect("still a topology");
    let mut lost = client(&config, Duration::from_secs(2));
    let asked = ReplicaAddress {
        shard: SHARD,
        replica: ReplicaId(1),
    };
    let error = lost
        .replica_request(asked, RequestBody::Status)
        .expect_err("refused");
    assert!(error.to_string().contains("s1r2"), "{error}");
}
