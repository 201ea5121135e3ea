//! Killed and started again at any moment, against a twin that never stops.

use quorate_protocol::client::{AccountAnswer, RequestBody};
use quorate_protocol::ids::AccountId;
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, ResultRow};
use quorate_protocol::prng::Prng;
use quorate_protocol::words::Rows;

use crate::machine::{Machine, config, transfers};
use crate::support::Files;

#[test]
fn a_replica_with_a_store_does_what_one_without_does_however_often_it_is_killed() {
    let (mut starts, mut from_checkpoint, mut asked, mut again) = (0, 0, 0, 0);
    let (mut accounts_asked, mut unread) = (0, 0);
    for seed in 0..12 {
        let mut random = Prng::new(seed);
        let weight = random.range(3_000, 60_000);
        let mut stored = Machine::start(config(Some(weight)), Files::default(), Vec::new(), 0);
        let mut plain = Machine::start(config(None), Files::default(), Vec::new(), 0);
        let flags = AccountFlags::default();
        let accounts: Vec<Account> = (1..=40)
            .map(|id| Account::new(AccountId(id), 1, 1, flags))
            .collect();
        let create = RequestBody::CreateAccounts(Rows::from_slice(&accounts));
        stored.results(&create, &mut random);
        plain.results(&create, &mut random);
        let mut ids = 0;
        for _ in 0..120 {
            let body = transfers(&mut random, &mut ids);
            let codes =
                |rows: Vec<ResultRow>| rows.iter().map(|row| row.code).collect::<Vec<u16>>();
            let expected = codes(plain.results(&body, &mut random));
            assert_eq!(
                codes(stored.results(&body, &mut random)),
                expected,
                "seed {seed}"
            );
            again += expected
                .iter()
                .filter(|code| **code != ResultCode::Ok as u16)
                .count();
            if random.range(0, 6) == 0 {
                // In the middle of whatever is being written.
                for _ in 0..random.range(0, 40) {
                    stored.happen(&mut random);
                }
                asked += stored.questions;
                accounts_asked += stored.accounts_asked;
                stored = stored.killed();
                starts += 1;
                from_checkpoint += u32::from(stored.restored > 0);
                unread += stored.unread;
            }
        }
        stored.settle(&mut random);
        assert!(stored.replica.ledger().checkpoint() > 3, "seed {seed}");
        let ledgers = [&stored, &plain].map(|machine| machine.replica.ledger());
        let totals = ledgers.map(|ledger| {
            (
                ledger.accounts(),
                ledger.cuts().transfers(),
                ledger.history().len(),
            )
        });
        assert_eq!(totals[0], totals[1], "seed {seed}");
        accounts_asked += stored.accounts_asked;
        let balances = |answers: Vec<AccountAnswer>| -> Vec<(AccountId, u128, u128)> {
            let found = answers.into_iter().map(|answer| match answer {
                AccountAnswer::Found(it) => (it.id, it.debits_posted, it.credits_posted),
                other => panic!("{other:?}"),
            });
            found.collect()
        };
        let of_plain = balances(plain.accounts(&mut random));
        assert_eq!(of_plain.len(), 40);
        assert_eq!(
            balances(stored.accounts(&mut random)),
            of_plain,
            "seed {seed}"
        );
    }
    println!(
        "{starts} starts, {from_checkpoint} from a checkpoint; {asked} ids and {accounts_asked} accounts \
         asked of the store, {again} ids again"
    );
    assert!(starts > 100 && from_checkpoint > 50 && asked > 100 && again > 500);
    assert!(accounts_asked > 500);
    assert!(unread > 5, "{unread} blocks were left for later");
}
