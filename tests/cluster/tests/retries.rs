//! An id that took effect is answered `exists` wherever its account has gone since, and changes nothing.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::time::Duration;

use quorate_client::reshard::{AccountMove, ApplyOptions, apply};
use quorate_client::{BlockingClient, ClientOptions};
use quorate_cluster_tests::{Cluster, Shape, patience};
use quorate_config::ClusterConfig;
use quorate_protocol::client::AccountAnswer;
use quorate_protocol::ids::{AccountId, ShardId, TransferId};
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, Transfer};

const ACCOUNTS: u128 = 900;
const TRANSFERS: u128 = 10_000;
const BATCH: usize = 1_000;
/// A day in a ULID's milliseconds, which are its upper 48 bits.
const DAY: u128 = 86_400_000 << 80;

/// A cluster, a client of it, and what was paid.
struct Bank {
    cluster: Cluster,
    config: ClusterConfig,
    client: BlockingClient,
}

impl Bank {
    fn open(ids: &str) -> Self {
        let cluster = Cluster::init_with(&format!("retries-{ids}"), Shape::USUAL, |text| {
            let others = text.lines().filter(|line| !line.starts_with("ids"));
            let others: Vec<&str> = others.collect();
            format!("ids = \"{ids}\"\n{}\n", others.join("\n"))
        });
        cluster.start_nodes();
        let config = ClusterConfig::load(cluster.file()).expect("the topology file");
        let client = client(&config);
        let mut bank = Self {
            cluster,
            config,
            client,
        };
        let new = |id| Account::new(AccountId(id), 1, 1, AccountFlags::default());
        let accounts: Vec<Account> = (1..=ACCOUNTS).map(new).collect();
        let rows = bank.client.create_accounts(&accounts).expect("an answer");
        assert!(rows.iter().all(|row| row.result() == Some(ResultCode::Ok)));
        bank
    }

    /// How often each result came.
    fn pay(&mut self, transfers: &[Transfer]) -> Vec<(ResultCode, usize)> {
        let mut counts: Vec<(ResultCode, usize)> = Vec::new();
        for batch in transfers.chunks(BATCH) {
            for row in self.client.create_transfers(batch).expect("an answer") {
                let code = row.result().expect("a known code");
                match counts.iter_mut().find(|(seen, _)| *seen == code) {
                    Some((_, count)) => *count += 1,
                    None => counts.push((code, 1)),
                }
            }
        }
        counts
    }

    /// Moves every account to the next shard.
    fn move_all(&mut self) {
        let before = self.accounts();
        let moves = before.iter().map(|(account, _)| {
            let source = self.client.shard_of(account.id);
            AccountMove {
                account: account.id,
                source,
                target: ShardId(source.0 % self.config.shards + 1),
            }
        });
        let moves: Vec<AccountMove> = moves.collect();
        let options = ApplyOptions {
            rest: 0,
            ..ApplyOptions::default()
        };
        let connect = |_| Ok::<_, Infallible>(client(&self.config));
        let Ok(applied) = apply(&moves, options, connect, |_| ());
        assert!(applied.is_complete(), "{applied:?}");
        assert_eq!(applied.moved, u64::try_from(ACCOUNTS).expect("few"));
        let posted = |list: &[(Account, ShardId)]| -> Vec<(AccountId, u128, u128)> {
            let row = |(account, _): &(Account, ShardId)| {
                (account.id, account.debits_posted, account.credits_posted)
            };
            list.iter().map(row).collect()
        };
        let after = self.accounts();
        assert_eq!(posted(&after), posted(&before));
        for (planned, (_, shard)) in moves.iter().zip(&after) {
            assert_eq!(planned.target, *shard, "{planned:?}");
        }
    }

    fn accounts(&mut self) -> Vec<(Account, ShardId)> {
        let ids: Vec<AccountId> = (1..=ACCOUNTS).map(AccountId).collect();
        let answers = self.client.lookup_accounts(&ids).expect("an answer");
        let found = ids.iter().zip(answers).map(|(&id, answer)| match answer {
            AccountAnswer::Found(account) => (account, self.client.shard_of(id)),
            other => panic!("account {id}: {other:?}"),
        });
        found.collect()
    }
}

fn client(config: &ClusterConfig) -> BlockingClient {
    let options = ClientOptions {
        deadline: patience(Duration::from_secs(5)),
        ..ClientOptions::default()
    };
    BlockingClient::connect(config, options)
}

/// Everybody pays somebody, near and far.
fn transfers(ids: impl IntoIterator<Item = TransferId>) -> Vec<Transfer> {
    let transfers = (0..).zip(ids).map(|(number, id): (u128, _)| {
        let debit = number % ACCOUNTS;
        let credit = (debit + 1 + number / ACCOUNTS * 7) % ACCOUNTS;
        let (debit, credit) = (AccountId(debit + 1), AccountId(credit + 1));
        Transfer::new(id, debit, credit, 1 + number % 5, 1, 1)
    });
    transfers.collect()
}

/// Pays, moves everybody twice, and sends everything again behind each move.
fn retry_over_two_moves(bank: &mut Bank, transfers: &[Transfer]) {
    let all = transfers.len();
    assert_eq!(bank.pay(transfers), [(ResultCode::Ok, all)]);
    for _ in 0..2 {
        bank.move_all();
        let before = bank.accounts();
        assert_eq!(bank.pay(transfers), [(ResultCode::Exists, all)]);
        assert_eq!(bank.accounts(), before, "a retry changed something");
    }
    bank.cluster.assert_sound(patience(Duration::from_secs(5)));
}

#[test]
fn ulids_are_remembered_over_two_moves_and_none_comes_from_the_future() {
    let mut bank = Bank::open("ulid");
    let ids: Vec<TransferId> = (0..TRANSFERS)
        .map(|_| bank.client.new_transfer_id())
        .collect();
    let paid = transfers(ids.iter().copied());
    retry_over_two_moves(&mut bank, &paid);
    let tomorrow = transfers(ids.iter().take(100).map(|id| TransferId(id.0 + DAY)));
    let before = bank.accounts();
    assert_eq!(bank.pay(&tomorrow), [(ResultCode::IdFromTheFuture, 100)]);
    assert_eq!(bank.accounts(), before);
}

#[test]
fn any_ids_are_remembered_over_two_moves() {
    let mut bank = Bank::open("any");
    // From both ends and out of the middle, in no order.
    let ids = (1..=TRANSFERS).map(|number| match number % 3 {
        0 => TransferId(number),
        1 => TransferId(u128::MAX - number),
        _ => TransferId(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)),
    });
    retry_over_two_moves(&mut bank, &transfers(ids));
}
