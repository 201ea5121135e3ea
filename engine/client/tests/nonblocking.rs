//! The glommio transport against a fake cluster over real sockets.

#![cfg(feature = "glommio")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake;

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};
use quorate_client::{AsyncClient, ClientOptions};
use quorate_net::Sockets;
use quorate_protocol::client::{AccountAnswer, ReplyBody, RequestBody};
use quorate_protocol::ids::{AccountId, ReplicaId, ShardId, TransferId};
use quorate_protocol::ledger::{Account, ResultCode, ResultRow, Transfer};
use quorate_protocol::words::Rows;

use fake::{FakeCluster, Fault, at};

fn run<F: Future<Output = ()> + 'static>(test: impl FnOnce() -> F + Send + 'static) {
    LocalExecutorBuilder::new(Placement::Fixed(0))
        .preempt_timer(Duration::from_secs(10 * 365 * 86_400))
        .io_memory(64 << 10)
        .spawn(move || async move { test().await })
        .unwrap()
        .join()
        .unwrap();
}

fn accounts() -> Rows<Account> {
    let ids = 1..=300_u128;
    let rows: Vec<Account> = ids
        .map(|id| Account::new(AccountId(id), 1, 1, Default::default()))
        .collect();
    Rows::from_slice(&rows)
}

fn transfer(id: u128, debit: u128, credit: u128) -> Transfer {
    Transfer::new(TransferId(id), AccountId(debit), AccountId(credit), 1, 1, 1)
}

fn codes(rows: &[ResultRow]) -> Vec<ResultCode> {
    rows.iter().map(|row| row.result().unwrap()).collect()
}

/// More calls than a connection may have in flight, one of the leaders dying under them.
#[test]
fn many_calls_at_once_all_end_once() {
    const CALLS: u128 = 1000;
    let cluster = FakeCluster::start();
    let config = cluster.config.clone();
    let dying = at(2, cluster.state().leaders[&ShardId(2)].0);
    let next = ReplicaId(dying.replica.0 % 3 + 1);
    cluster
        .state()
        .faults
        .insert(dying, Fault::DieAfterTransfers(next));
    run(move || async move {
        let (sockets, _serving) = Sockets::start().unwrap();
        let client = Rc::new(AsyncClient::connect(
            &config,
            ClientOptions::default(),
            &sockets,
        ));
        let created = client.create_accounts(accounts()).await.unwrap();
        assert_eq!(created.rows.len(), 300);
        let calls: Vec<_> = (0..CALLS)
            .map(|call| {
                let client = Rc::clone(&client);
                glommio::spawn_local(async move {
                    let debit = call % 300 + 1;
                    let rows = [
                        transfer(2 * call + 1, debit, 400),
                        transfer(2 * call + 2, debit, debit % 300 + 1),
                    ];
                    let rows = Rows::from_slice(&rows);
                    client.create_transfers(rows).await.unwrap()
                })
            })
            .collect();
        for call in calls {
            let completed = call.await;
            assert_eq!(completed.rows.len(), 2);
            assert!(
                completed
                    .rows
                    .iter()
                    .all(|row| row.result().unwrap().is_success())
            );
            // Both rows debit one account: one request, across shards because of its first row.
            let [part] = &completed.parts[..] else {
                panic!("{:?}", completed.parts);
            };
            assert!(part.cross && part.sent_ns <= part.answered_ns);
            assert_eq!(part.items, [0, 1]);
        }
        Rc::into_inner(client).unwrap().close().await;
    });
    assert_eq!(cluster.state().transfers.len(), 2000);
    assert_eq!(cluster.state().leaders[&ShardId(2)], next);
}

#[test]
fn deadlines_hold_without_any_answer() {
    let cluster = FakeCluster::start();
    for replica in 1..=3 {
        cluster.state().faults.insert(at(1, replica), Fault::Silent);
        cluster.state().faults.insert(at(2, replica), Fault::Down);
    }
    let cluster = Arc::new(cluster);
    let handle = Arc::clone(&cluster);
    run(move || async move {
        let (sockets, _serving) = Sockets::start().unwrap();
        let options = ClientOptions {
            deadline: Duration::from_millis(700),
            ..ClientOptions::default()
        };
        let client = AsyncClient::connect(&handle.config, options, &sockets);
        let rows = [transfer(1, 1, 2), transfer(2, 101, 2), transfer(3, 201, 2)];
        let completed = client
            .create_transfers(Rows::from_slice(&rows))
            .await
            .unwrap();
        assert_eq!(
            codes(&completed.rows),
            [
                ResultCode::Unknown,
                ResultCode::NotLeader,
                ResultCode::DebitAccountNotFound
            ]
        );
        let error = client
            .shard_request(ShardId(2), RequestBody::ObserveReset)
            .await
            .unwrap_err();
        assert!(
            error.to_string().starts_with("shard 2: no connection; "),
            "{error}"
        );
        // The cluster recovers, and so does the client.
        handle.state().faults.clear();
        let mut recovered = false;
        for _ in 0..5 {
            let created = client.create_accounts(accounts()).await.unwrap();
            recovered = codes(&created.rows).iter().all(|code| code.is_success());
            if recovered {
                break;
            }
        }
        assert!(recovered);
        client.close().await;
    });
}

#[test]
fn a_client_outlives_the_connections_of_its_cluster() {
    let cluster = Arc::new(FakeCluster::start());
    let handle = Arc::clone(&cluster);
    run(move || async move {
        let (sockets, _serving) = Sockets::start().unwrap();
        let client = AsyncClient::connect(&handle.config, ClientOptions::default(), &sockets);
        client.create_accounts(accounts()).await.unwrap();
        handle.cut_connections(None);
        let ids = Rows::from_slice(&[AccountId(1), AccountId(150), AccountId(999)]);
        let answers = client.lookup_accounts(ids).await.unwrap();
        assert!(matches!(answers[0], AccountAnswer::Found(_)));
        assert!(matches!(answers[1], AccountAnswer::Found(_)));
        assert_eq!(answers[2], AccountAnswer::NotFound);
        let follower = at(1, handle.state().leaders[&ShardId(1)].0 % 3 + 1);
        let reply = client.replica_request(follower, RequestBody::Status).await;
        assert!(matches!(reply, Ok(ReplyBody::Status(_))));
        // Dropping it without closing leaves nothing that keeps the executor alive.
    });
}
