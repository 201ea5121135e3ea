//! The blocking transport against a fake cluster over real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake;

use std::time::{Duration, Instant};

use quorate_client::{BlockingClient, Cause, ClientError, ClientOptions};
use quorate_protocol::client::{AccountAnswer, ReplyBody, RequestBody};
use quorate_protocol::ids::{AccountId, ReplicaId, ShardId, TransferId};
use quorate_protocol::ledger::{Account, ResultCode, ResultRow, Transfer};

use fake::{FakeCluster, Fault, at};

/// Ends of the ranges of all three shards.
const ACCOUNTS: [u128; 6] = [1, 100, 101, 200, 201, 300];

fn client(cluster: &FakeCluster) -> BlockingClient {
    BlockingClient::connect(&cluster.config, ClientOptions::default())
}

fn impatient(cluster: &FakeCluster, ms: u64) -> BlockingClient {
    let options = ClientOptions {
        deadline: Duration::from_millis(ms),
        ..ClientOptions::default()
    };
    BlockingClient::connect(&cluster.config, options)
}

fn accounts() -> Vec<Account> {
    let account = |id| Account::new(AccountId(id), 1, 1, Default::default());
    ACCOUNTS.map(account).to_vec()
}

fn transfer(id: u128, debit: u128, credit: u128) -> Transfer {
    Transfer::new(TransferId(id), AccountId(debit), AccountId(credit), 5, 1, 1)
}

/// One transfer out of every account, into the next one.
fn ring(first_id: u128) -> Vec<Transfer> {
    let credits = ACCOUNTS.iter().cycle().skip(1);
    (first_id..)
        .zip(ACCOUNTS.iter().zip(credits))
        .map(|(id, (&debit, &credit))| transfer(id, debit, credit))
        .collect()
}

fn codes(rows: &[ResultRow]) -> Vec<ResultCode> {
    rows.iter().map(|row| row.result().unwrap()).collect()
}

#[test]
fn batches_over_all_shards_are_carried_out_and_found_again() {
    let cluster = FakeCluster::start();
    // Not the configured leader: the client has to find it.
    cluster.state().leaders.insert(ShardId(2), ReplicaId(1));
    let mut client = client(&cluster);
    let created = client.create_accounts(&accounts()).unwrap();
    assert_eq!(codes(&created), [ResultCode::Ok; 6]);
    let rows = client.create_transfers(&ring(50)).unwrap();
    assert_eq!(codes(&rows), [ResultCode::Ok; 6]);
    let cross: Vec<bool> = rows.iter().map(ResultRow::cross_shard).collect();
    assert_eq!(cross, [false, true, false, true, false, true]);
    let again = client.create_transfers(&ring(50)).unwrap();
    assert_eq!(codes(&again), [ResultCode::Exists; 6]);

    let ids = [AccountId(300), AccountId(77), AccountId(1)];
    let answers = client.lookup_accounts(&ids).unwrap();
    let found = |answer: &AccountAnswer| match answer {
        AccountAnswer::Found(account) => Some(account.id),
        _ => None,
    };
    let found: Vec<Option<AccountId>> = answers.iter().map(found).collect();
    assert_eq!(found, [Some(AccountId(300)), None, Some(AccountId(1))]);

    let records = client
        .lookup_transfers(&[TransferId(51), TransferId(999)])
        .unwrap();
    assert_eq!(records[0].debits[0].0, ShardId(1));
    assert_eq!(records[0].credits[0].0, ShardId(2));
    assert_eq!(records[0].debits[0].1.transfer, transfer(51, 100, 101));
    assert!(records[1].debits.is_empty() && records[1].credits.is_empty());
}

#[test]
fn moved_accounts_are_followed() {
    let cluster = FakeCluster::start();
    let mut client = client(&cluster);
    client.create_accounts(&accounts()).unwrap();
    cluster.state().owners.insert(AccountId(1), ShardId(3));
    let rows = client.create_transfers(&[transfer(1, 1, 100)]).unwrap();
    assert_eq!(codes(&rows), [ResultCode::Ok]);
    assert_eq!(client.shard_of(AccountId(1)), ShardId(3));
    let answers = client.lookup_accounts(&[AccountId(1)]).unwrap();
    assert!(matches!(answers[0], AccountAnswer::Found(_)));
}

/// The leader dies with the transfers done and the answer not sent; the client asks the next one.
#[test]
fn a_leader_that_dies_before_it_answers_costs_no_transfer() {
    let cluster = FakeCluster::start();
    let mut client = client(&cluster);
    client.create_accounts(&accounts()).unwrap();
    let dying = at(1, cluster.state().leaders[&ShardId(1)].0);
    let next = ReplicaId(dying.replica.0 % 3 + 1);
    cluster
        .state()
        .faults
        .insert(dying, Fault::DieAfterTransfers(next));
    let rows = client.create_transfers(&ring(1)).unwrap();
    let mut expected = [ResultCode::Ok; 6];
    expected[..2].fill(ResultCode::Exists);
    assert_eq!(codes(&rows), expected);
    assert_eq!(cluster.state().transfers.len(), 6);
}

/// Closed while idle: nothing was lost with the connection, so nothing is sent twice.
#[test]
fn connections_that_were_closed_between_calls_are_replaced() {
    let cluster = FakeCluster::start();
    let mut client = client(&cluster);
    client.create_accounts(&accounts()).unwrap();
    cluster.cut_connections(None);
    let rows = client.create_transfers(&ring(1)).unwrap();
    assert_eq!(codes(&rows), [ResultCode::Ok; 6]);
}

#[test]
fn a_silent_shard_leaves_its_rows_unknown_and_the_others_answered() {
    let cluster = FakeCluster::start();
    let mut client = impatient(&cluster, 700);
    client.create_accounts(&accounts()).unwrap();
    for replica in 1..=3 {
        let replica = at(2, replica);
        cluster.state().faults.insert(replica, Fault::Silent);
    }
    let start = Instant::now();
    let rows = client.create_transfers(&ring(1)).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(700));
    let mut expected = [ResultCode::Ok; 6];
    expected[2..4].fill(ResultCode::Unknown);
    assert_eq!(codes(&rows), expected);
}

#[test]
fn a_shard_that_is_down_is_named_with_the_reason() {
    let cluster = FakeCluster::start();
    for replica in 1..=3 {
        cluster.state().faults.insert(at(3, replica), Fault::Down);
    }
    let mut client = impatient(&cluster, 700);
    let error = client
        .shard_request(ShardId(3), RequestBody::ObserveReset)
        .unwrap_err();
    let text = error.to_string();
    assert!(matches!(
        error,
        ClientError::NoAnswer {
            cause: Cause::Unreachable,
            ..
        }
    ));
    assert!(text.starts_with("shard 3: no connection; "), "{text}");
    let address = cluster.config.address_of(at(3, 1)).to_string();
    assert!(text.contains(&address), "{text}");
    // Rows for it were certainly not carried out.
    let rows = client.create_transfers(&[transfer(1, 201, 1)]).unwrap();
    assert_eq!(codes(&rows), [ResultCode::NotLeader]);
}

#[test]
fn status_tells_who_answers_and_why_the_others_do_not() {
    let cluster = FakeCluster::start();
    cluster.state().faults.insert(at(1, 2), Fault::Down);
    let all = client(&cluster).status();
    assert_eq!(all.len(), 9);
    for (replica, status) in all {
        match status {
            Ok(status) => {
                assert_eq!(
                    (status.shard, status.replica),
                    (replica.shard, replica.replica)
                );
                assert_ne!(replica, at(1, 2));
            }
            Err(error) => {
                assert_eq!(replica, at(1, 2));
                assert!(
                    error.to_string().starts_with("s1r2: no connection"),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn a_request_to_one_replica_is_not_passed_on() {
    let cluster = FakeCluster::start();
    let follower = at(1, cluster.state().leaders[&ShardId(1)].0 % 3 + 1);
    let reply = client(&cluster)
        .replica_request(follower, RequestBody::ObserveReset)
        .unwrap();
    assert!(matches!(reply, ReplyBody::NotLeader { .. }));
}

#[test]
fn another_cluster_is_refused_by_name() {
    let cluster = FakeCluster::start();
    let base_port = cluster.config.nodes().next().unwrap().base_port;
    let other = fake::config(4711, base_port);
    let mut client = BlockingClient::connect(&other, ClientOptions::default());
    let error = client
        .replica_request(at(1, 1), RequestBody::Status)
        .unwrap_err();
    let text = error.to_string();
    // The refusal comes in a frame of the other cluster, and that says it all.
    let expected = format!("frame of cluster {base_port}, this side is in cluster 4711");
    assert!(text.contains(&expected), "{text}");
}

#[test]
fn verify_passes_retries_refused_cuts_and_finds_a_diverged_replica() {
    let cluster = FakeCluster::start();
    let mut client = client(&cluster);
    client.create_accounts(&accounts()).unwrap();
    client.create_transfers(&ring(1)).unwrap();
    cluster.state().refuse_cuts = 2;
    let report = client.verify(Duration::from_secs(5)).unwrap();
    assert!(report.ok, "{:?}", report.problems);
    assert_eq!(report.accounts, 6);
    assert_eq!(report.ledgers[0].debits_posted, 30.into());
    assert_eq!(cluster.state().refuse_cuts, 0);

    cluster.state().diverged.insert(at(2, 3));
    let report = client.verify(Duration::from_secs(5)).unwrap();
    assert!(!report.ok && !report.digests_equal && report.owners_unique);
    assert!(report.problems[0].contains("s2r3"), "{:?}", report.problems);
}
