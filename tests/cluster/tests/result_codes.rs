//! Every code that the ledger can answer is answered by a running cluster, local and across shards.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use quorate_client::{BlockingClient, ClientOptions};
use quorate_cluster_tests::{Cluster, Shape};
use quorate_config::ClusterConfig;
use quorate_protocol::client::{ReplyBody, RequestBody};
use quorate_protocol::ids::{AccountId, ShardId, TransferId};
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, Transfer};
use quorate_protocol::words::Rows;

const SHAPE: Shape = Shape {
    shards: 2,
    replicas: 3,
    nodes: 3,
};
const LEDGER: u32 = 7;
const OTHER_LEDGER: u32 = 8;

/// Spoils one field of a transfer.
type Change<'a> = &'a dyn Fn(&mut Transfer);

/// Accounts of one shard, one per property that a code needs.
struct Bank {
    plain: AccountId,
    limited: AccountId,
    credit_limited: AccountId,
    closed: AccountId,
    other_ledger: AccountId,
    missing: AccountId,
    rich: AccountId,
}

impl Bank {
    /// Ids that live at `shard`, from `first` on.
    fn new(config: &ClusterConfig, shard: ShardId, first: u128) -> Self {
        let mut ids = (first..)
            .map(AccountId)
            .filter(|&id| config.placement.home(id, config.shards) == shard);
        let mut next = || ids.next().expect("half of all ids");
        Self {
            plain: next(),
            limited: next(),
            credit_limited: next(),
            closed: next(),
            other_ledger: next(),
            missing: next(),
            rich: next(),
        }
    }

    fn accounts(&self) -> Vec<Account> {
        let account = |id, ledger, flags| Account::new(id, ledger, 1, flags);
        let none = AccountFlags::default();
        vec![
            account(self.plain, LEDGER, none),
            account(
                self.limited,
                LEDGER,
                AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS,
            ),
            account(
                self.credit_limited,
                LEDGER,
                AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS,
            ),
            account(self.closed, LEDGER, AccountFlags::CLOSED),
            account(self.other_ledger, OTHER_LEDGER, none),
            account(self.rich, LEDGER, none),
        ]
    }
}

struct Checker {
    client: BlockingClient,
    seen: BTreeSet<ResultCode>,
}

impl Checker {
    fn transfer(&mut self, transfer: Transfer, expected: ResultCode) {
        let rows = self
            .client
            .create_transfers(&[transfer])
            .expect("an answer");
        assert_eq!(rows[0].result(), Some(expected), "{transfer:?}");
        self.seen.insert(expected);
    }

    fn account(&mut self, account: Account, expected: ResultCode) {
        let rows = self.client.create_accounts(&[account]).expect("an answer");
        assert_eq!(rows[0].result(), Some(expected), "{account:?}");
        self.seen.insert(expected);
    }

    /// A new transfer of one unit.
    fn from(&mut self, debit: AccountId, credit: AccountId) -> Transfer {
        Transfer::new(self.client.new_transfer_id(), debit, credit, 1, LEDGER, 1)
    }
}

#[test]
fn every_code_of_the_ledger_is_answered() {
    let cluster = Cluster::init_with("codes", SHAPE, |text| {
        text.replacen("keep = \"all\"", "keep = \"30m\"", 1)
    });
    cluster.start_nodes();
    let config = ClusterConfig::load(cluster.file()).expect("the topology file");
    let options = ClientOptions {
        deadline: Duration::from_secs(15),
        ..ClientOptions::default()
    };
    let mut checker = Checker {
        client: BlockingClient::connect(&config, options),
        seen: BTreeSet::new(),
    };
    let here = Bank::new(&config, ShardId(1), 1_000);
    let there = Bank::new(&config, ShardId(2), 1_000);
    for account in here.accounts().into_iter().chain(there.accounts()) {
        checker.account(account, ResultCode::Ok);
    }
    malformed_accounts(&mut checker, &here);
    malformed_transfers(&mut checker, &here);
    for credit_side in [&here, &there] {
        used_ids(&mut checker, &here, credit_side);
        refusals_of_the_debit_side(&mut checker, &here, credit_side);
        refusals_of_the_credit_side(&mut checker, &here, credit_side);
    }
    overflows(&mut checker, &here, &there);
    moved_and_not_leader(&mut checker, &config, &here);

    // What only a fault or an overload brings forth.
    let rare = [ResultCode::Busy, ResultCode::Contended, ResultCode::Unknown];
    for &code in ResultCode::ALL {
        assert!(
            checker.seen.contains(&code) || rare.contains(&code),
            "{} was not reached",
            code.name()
        );
    }
    cluster.assert_sound(Duration::from_secs(15));
}

fn malformed_accounts(checker: &mut Checker, bank: &Bank) {
    let good = Account::new(bank.missing, LEDGER, 1, AccountFlags::default());
    let wrong = |change: &dyn Fn(&mut Account)| {
        let mut account = good;
        change(&mut account);
        account
    };
    let both = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS
        .union(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS);
    for (account, code) in [
        (
            wrong(&|a| a.flags = AccountFlags(1 << 15)),
            ResultCode::ReservedFlag,
        ),
        (wrong(&|a| a.credits_posted = 1), ResultCode::ReservedField),
        (wrong(&|a| a.id = AccountId(0)), ResultCode::IdMustNotBeZero),
        (
            wrong(&|a| a.id = AccountId(u128::MAX)),
            ResultCode::IdMustNotBeMax,
        ),
        (wrong(&|a| a.ledger = 0), ResultCode::LedgerMustNotBeZero),
        (wrong(&|a| a.code = 0), ResultCode::CodeMustNotBeZero),
        (
            wrong(&|a| a.flags = both),
            ResultCode::FlagsAreMutuallyExclusive,
        ),
    ] {
        checker.account(account, code);
    }
    let known = Account::new(bank.plain, LEDGER, 1, AccountFlags::default());
    let other = |change: &dyn Fn(&mut Account)| {
        let mut account = known;
        change(&mut account);
        account
    };
    for (account, code) in [
        (known, ResultCode::Exists),
        (
            other(&|a| a.flags = AccountFlags::CLOSED),
            ResultCode::ExistsWithDifferentFlags,
        ),
        (
            other(&|a| a.user_data = 5),
            ResultCode::ExistsWithDifferentUserData,
        ),
        (
            other(&|a| a.ledger = 5),
            ResultCode::ExistsWithDifferentLedger,
        ),
        (other(&|a| a.code = 5), ResultCode::ExistsWithDifferentCode),
    ] {
        checker.account(account, code);
    }
}

fn malformed_transfers(checker: &mut Checker, bank: &Bank) {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970")
        .as_millis();
    let (future, past) = (now + 3_600_000, now - 3_600_000);
    let changes: [(Change<'_>, ResultCode); 12] = [
        (&|t| t.flags = 1, ResultCode::ReservedFlag),
        (&|t| t.pending_id = 1, ResultCode::ReservedField),
        (&|t| t.timeout = 1, ResultCode::ReservedField),
        (&|t| t.id = TransferId(0), ResultCode::IdMustNotBeZero),
        (
            &|t| t.id = TransferId(u128::MAX),
            ResultCode::IdMustNotBeMax,
        ),
        (
            &|t| t.credit_account_id = AccountId(0),
            ResultCode::CreditAccountIdMustNotBeZero,
        ),
        (
            &|t| t.credit_account_id = t.debit_account_id,
            ResultCode::AccountsMustBeDifferent,
        ),
        (&|t| t.amount = 0, ResultCode::AmountMustNotBeZero),
        (&|t| t.ledger = 0, ResultCode::LedgerMustNotBeZero),
        (&|t| t.code = 0, ResultCode::CodeMustNotBeZero),
        (
            &|t| t.id = TransferId(future << 80),
            ResultCode::IdFromTheFuture,
        ),
        (&|t| t.id = TransferId(past << 80), ResultCode::IdTooOld),
    ];
    for (change, code) in changes {
        let mut transfer = checker.from(bank.plain, bank.rich);
        change(&mut transfer);
        checker.transfer(transfer, code);
    }
    let mut nobody = checker.from(bank.plain, bank.rich);
    nobody.debit_account_id = AccountId(0);
    checker.transfer(nobody, ResultCode::DebitAccountIdMustNotBeZero);
}

fn used_ids(checker: &mut Checker, here: &Bank, there: &Bank) {
    let first = checker.from(here.plain, there.rich);
    checker.transfer(first, ResultCode::Ok);
    checker.transfer(first, ResultCode::Exists);
    let changes: [(Change<'_>, ResultCode); 6] = [
        (
            &|t| t.debit_account_id = here.credit_limited,
            ResultCode::ExistsWithDifferentDebitAccountId,
        ),
        (
            &|t| t.credit_account_id = there.limited,
            ResultCode::ExistsWithDifferentCreditAccountId,
        ),
        (&|t| t.amount = 2, ResultCode::ExistsWithDifferentAmount),
        (
            &|t| t.user_data = 2,
            ResultCode::ExistsWithDifferentUserData,
        ),
        (
            &|t| t.ledger = OTHER_LEDGER,
            ResultCode::ExistsWithDifferentLedger,
        ),
        (&|t| t.code = 2, ResultCode::ExistsWithDifferentCode),
    ];
    for (change, code) in changes {
        let mut again = first;
        change(&mut again);
        checker.transfer(again, code);
    }
}

fn refusals_of_the_debit_side(checker: &mut Checker, here: &Bank, there: &Bank) {
    for (debit, code) in [
        (here.missing, ResultCode::DebitAccountNotFound),
        (here.closed, ResultCode::DebitAccountClosed),
        (here.other_ledger, ResultCode::DebitLedgerMismatch),
        (here.limited, ResultCode::ExceedsCredits),
    ] {
        // The credit side has a reason of its own, and the debit side goes first.
        let credit = match debit == there.closed {
            true => there.missing,
            false => there.closed,
        };
        let refused = checker.from(debit, credit);
        checker.transfer(refused, code);
        checker.transfer(refused, ResultCode::IdAlreadyFailed);
    }
}

fn refusals_of_the_credit_side(checker: &mut Checker, here: &Bank, there: &Bank) {
    for (credit, code) in [
        (there.missing, ResultCode::CreditAccountNotFound),
        (there.closed, ResultCode::CreditAccountClosed),
        (there.other_ledger, ResultCode::CreditLedgerMismatch),
        (there.credit_limited, ResultCode::ExceedsDebits),
    ] {
        let refused = checker.from(here.plain, credit);
        checker.transfer(refused, code);
        checker.transfer(refused, ResultCode::IdAlreadyFailed);
    }
}

/// Leaves two accounts full, and the sums of the ledger as far as 128 bits go.
fn overflows(checker: &mut Checker, here: &Bank, there: &Bank) {
    let mut all = checker.from(here.rich, here.limited);
    all.amount = u128::MAX / 4;
    checker.transfer(all, ResultCode::Ok);
    let mut too_much = checker.from(here.rich, there.plain);
    too_much.amount = u128::MAX - 1;
    checker.transfer(too_much, ResultCode::OverflowsDebitsPosted);
    let mut too_much = checker.from(here.plain, here.limited);
    too_much.amount = u128::MAX - u128::MAX / 8;
    checker.transfer(too_much, ResultCode::OverflowsCreditsPosted);
}

fn moved_and_not_leader(checker: &mut Checker, config: &ClusterConfig, bank: &Bank) {
    let transfer = checker.from(bank.plain, bank.rich);
    let body = RequestBody::CreateTransfers(Rows::from_slice(&[transfer]));
    // Shard 2 does not have the debit account.
    match checker
        .client
        .shard_request(ShardId(2), body.clone())
        .expect("an answer")
    {
        ReplyBody::Results(rows) => assert_eq!(rows[0].result(), Some(ResultCode::Moved)),
        other => panic!("{other:?}"),
    }
    checker.seen.insert(ResultCode::Moved);
    let refused = config
        .members_of(ShardId(1))
        .filter_map(|replica| checker.client.replica_request(replica, body.clone()).ok())
        .filter(|reply| matches!(reply, ReplyBody::NotLeader { .. }))
        .count();
    assert!(
        refused >= 2,
        "{refused} of 3 replicas said that they do not lead"
    );
    checker.seen.insert(ResultCode::NotLeader);
}
