//! The history of an account, wherever its rows lie.

use quorate_protocol::client::{
    AccountAnswer, HistoryAnswer, HistoryEntry, HistoryHead, HistoryQuery, HistoryStart, Reply,
    ReplyBody, RequestBody,
};
use quorate_protocol::config::ReplicaConfig;
use quorate_protocol::entry::MoveSection;
use quorate_protocol::ids::{
    AccountId, Ballot, MoveId, ReplicaAddress, ReplicaId, ShardId, TransferId,
};
use quorate_protocol::input::Input;
use quorate_protocol::ledger::history::HistoryPosition;
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, Transfer};
use quorate_protocol::message::{PeerBody, PeerMessage};
use quorate_protocol::prng::Prng;
use quorate_protocol::shard::map::Placement;
use quorate_protocol::time::{MS, Timestamp};
use quorate_protocol::txn::message::Message;
use quorate_protocol::txn::record::{
    Attempt, MoveHead, MovedAccountRow, PreviousOwnerRow, Subject, TxnId, TxnRow, Verdict,
};
use quorate_protocol::words::Rows;

use crate::machine::{ChainStore, Machine, WALL_NS, config, transfers};
use crate::support::Files;

/// All rows of an account with commit timestamps from `first` on, page by page, and its head.
fn history(
    machine: &mut Machine,
    account: AccountId,
    first: Timestamp,
    random: &mut Prng,
) -> (HistoryHead, Vec<HistoryEntry>) {
    let mut start = HistoryStart::Newest {
        passed: Timestamp(first.0.saturating_sub(1)),
    };
    let (mut head, mut rows) = (None, Vec::new());
    loop {
        let query = HistoryQuery {
            account,
            start,
            ts_first: first,
            ts_last: Timestamp(u64::MAX),
            limit: 1 + u32::try_from(random.range(0, 40)).expect("small"),
        };
        let page = machine.page(query, random);
        assert!(!page.dropped && page.rows.len() <= query.limit as usize);
        head = head.or(page.head);
        rows.extend(page.rows);
        match page.next {
            0 => return (*head.expect("the first page has it"), rows),
            next => start = HistoryStart::Position(next),
        }
    }
}

/// The account's totals without these rows.
fn without(account: &Account, rows: &[HistoryEntry]) -> (u128, u128) {
    let sum = |is_side: fn(&Transfer) -> AccountId| -> u128 {
        let rows = rows.iter().map(|row| row.recorded.transfer);
        let own = rows.filter(|transfer| is_side(transfer) == account.id);
        own.map(|transfer| transfer.amount).sum()
    };
    let debits = sum(|transfer| transfer.debit_account_id);
    let credits = sum(|transfer| transfer.credit_account_id);
    (
        account.debits_posted - debits,
        account.credits_posted - credits,
    )
}

/// Rows of the newest two intervals are in memory, all others in the store; the chain leads through both,
/// also behind a start. What a balance was at a time is what was seen at that time.
#[test]
fn the_history_of_an_account_adds_up_to_its_balances_at_any_time_wherever_its_rows_lie() {
    for seed in 0..4 {
        let mut random = Prng::new(seed);
        let mut machine = Machine::start(config(Some(20_000)), Files::default(), Vec::new(), 0);
        let accounts: Vec<Account> = (1..=40)
            .map(|id| Account::new(AccountId(id), 1, 1, AccountFlags::default()))
            .collect();
        let create = RequestBody::CreateAccounts(Rows::from_slice(&accounts));
        machine.results(&create, &mut random);
        let mut ids = 0;
        let mut seen: Vec<(Timestamp, AccountId, (u128, u128))> = Vec::new();
        for round in 0..100 {
            let body = transfers(&mut random, &mut ids);
            machine.results(&body, &mut random);
            let id = AccountId(random.range(1, 40).into());
            let look_up = RequestBody::LookupAccounts(Rows::from_slice(&[id]));
            let found = match machine.answer(&look_up, &mut random) {
                ReplyBody::Accounts(answers) => answers.into_iter().next(),
                other => panic!("{other:?}"),
            };
            let Some(AccountAnswer::Found(account)) = found else {
                panic!("{id}: {found:?}");
            };
            let totals = (account.debits_posted, account.credits_posted);
            let at = machine.replica.ledger().last_timestamp();
            seen.push((at, id, totals));
            if round % 30 == 29 {
                machine = machine.killed();
            }
        }
        for (at, id, totals) in seen {
            let (head, later) = history(&mut machine, id, Timestamp(at.0 + 1), &mut random);
            assert_eq!(without(&head.account, &later), totals, "seed {seed}, {id}");
        }
        for id in (1..=40).map(AccountId) {
            let (head, rows) = history(&mut machine, id, Timestamp::ZERO, &mut random);
            assert_eq!(without(&head.account, &rows), (0, 0), "seed {seed}, {id}");
            assert_eq!(head.owners, []);
            let falls = |pair: &[HistoryEntry]| {
                pair[0].position > pair[1].position && pair[0].applied_ts >= pair[1].applied_ts
            };
            assert!(rows.windows(2).all(falls));
        }
        let newest = machine.replica.ledger().history().next_position();
        assert!(machine.chains > 100 && newest.0 > 1000, "seed {seed}");
    }
}

/// A position that leads to a row of somebody else, or to none, is no reason to stop: it may come from
/// anybody.
#[test]
fn a_position_that_is_none_of_the_account_ends_its_history() {
    let mut random = Prng::new(1);
    let mut machine = Machine::start(config(Some(4_000)), Files::default(), Vec::new(), 0);
    let accounts: Vec<Account> = (1..=40)
        .map(|id| Account::new(AccountId(id), 1, 1, AccountFlags::default()))
        .collect();
    machine.results(
        &RequestBody::CreateAccounts(Rows::from_slice(&accounts)),
        &mut random,
    );
    let mut ids = 0;
    for _ in 0..60 {
        let body = transfers(&mut random, &mut ids);
        machine.results(&body, &mut random);
    }
    let end = machine.replica.ledger().history().next_position().0;
    let mut found = 0;
    for position in 1..end {
        let account = AccountId(random.range(1, 42).into());
        let query = HistoryQuery {
            account,
            start: HistoryStart::Position(position),
            ts_first: Timestamp::ZERO,
            ts_last: Timestamp(u64::MAX),
            limit: 1,
        };
        let page = machine.page(query, &mut random);
        for row in &page.rows {
            let transfer = row.recorded.transfer;
            let sides = [transfer.debit_account_id, transfer.credit_account_id];
            assert!(sides.contains(&account) && row.position == position);
            found += 1;
        }
    }
    assert!(found > 0 && machine.chains > 100);
    machine.replies.clear();
    for position in [0, end, u64::MAX] {
        machine.send(RequestBody::AccountHistory(HistoryQuery {
            account: AccountId(1),
            start: HistoryStart::Position(position),
            ts_first: Timestamp::ZERO,
            ts_last: Timestamp(u64::MAX),
            limit: 1,
        }));
    }
    machine.settle(&mut random);
    let refused = |reply: &Reply| matches!(reply.body, ReplyBody::BadRequest(_));
    assert!(machine.replies.len() == 3 && machine.replies.iter().all(refused));
}

/// Where the rows of an earlier ownership begin is said by the shard that the account comes back from. If that is wrong, the
/// chain leads to a row of somebody else: no block is damaged, and none is asked for again.
#[test]
fn a_chain_that_leads_to_a_row_of_somebody_else_ends_there() {
    let two_shards = ReplicaConfig {
        shards: 2,
        ..config(Some(4_000))
    };
    let mut random = Prng::new(2);
    let mut machine = Machine::start(two_shards, Files::default(), Vec::new(), 0);
    let is_here = |id: &AccountId| Placement::Hash.home(*id, 2) == ShardId(1);
    let (others, away): (Vec<AccountId>, Vec<AccountId>) =
        (1..100).map(AccountId).partition(is_here);
    let back = away[0];
    let created: Vec<Account> = others
        .iter()
        .map(|&id| Account::new(id, 1, 1, AccountFlags::default()))
        .collect();
    let create = RequestBody::CreateAccounts(Rows::from_slice(&created));
    machine.results(&create, &mut random);
    let pay = |id: u128, debit, credit| Transfer::new(TransferId(id), debit, credit, 1, 1, 1);
    let pay_others = |first: u128| {
        let ids = first..first + 40;
        let rows: Vec<Transfer> = ids.map(|id| pay(id, others[0], others[1])).collect();
        RequestBody::CreateTransfers(Rows::from_slice(&rows))
    };
    machine.results(&pay_others(1), &mut random);
    come_back(&mut machine, back, HistoryPosition(3), &mut random);
    let own = RequestBody::CreateTransfers(Rows::from_slice(&[pay(100, others[0], back)]));
    let results = machine.results(&own, &mut random);
    assert_eq!(results[0].result(), Some(ResultCode::Ok));
    for round in 1..60 {
        machine.results(&pay_others(round * 1_000), &mut random);
    }
    let query = HistoryQuery {
        account: back,
        start: HistoryStart::Newest {
            passed: Timestamp::ZERO,
        },
        ts_first: Timestamp::ZERO,
        ts_last: Timestamp(u64::MAX),
        limit: 10,
    };
    let page = machine.page(query, &mut random);
    let ids: Vec<u128> = page
        .rows
        .iter()
        .map(|row| row.recorded.transfer.id.0)
        .collect();
    assert_eq!(ids, [100]);
    assert!(machine.chains > 0, "the rows are in the store");
}

/// Shard 2 sends the account back, and says that its rows here begin at `last`.
fn come_back(machine: &mut Machine, id: AccountId, last: HistoryPosition, random: &mut Prng) {
    let mut account = Account::new(id, 1, 1, AccountFlags::default());
    account.ownership_epoch = 1;
    let head = MoveHead {
        id: MoveId(7),
        attempt: Attempt {
            ballot: Ballot::new(1, ReplicaId(1)),
            counter: 1,
        },
        source: ShardId(2),
        target: ShardId(1),
        accounts: 1,
        owners: 1,
    };
    let moved = MovedAccountRow {
        account,
        id_max: 0,
        version: 1,
        last: HistoryPosition::NONE,
    };
    let owner = PreviousOwnerRow {
        account: id,
        id_max: 0,
        commit_ts: Timestamp(1),
        shard: ShardId(1),
        ownership_epoch: 0,
        last,
        reserved: 0,
    };
    let parts = MoveSection {
        head: &head,
        accounts: &[moved],
        owners: &[owner],
    };
    let txn = TxnId {
        coordinator: ShardId(2),
        subject: Subject::Move,
        id: head.id.0,
        attempt: head.attempt,
    };
    let decision = TxnRow {
        // Above whatever its vote says.
        timestamp: Timestamp(WALL_NS + machine.now_ns + 1_000 * MS),
        ..TxnRow::new(txn, Verdict::Commit)
    };
    for message in [
        Message::PrepareMove(parts.to_words()),
        Message::Decides(Rows::from_slice(&[decision])),
    ] {
        machine.step(Input::Peer {
            from: ReplicaAddress {
                shard: ShardId(2),
                replica: ReplicaId(1),
            },
            message: PeerMessage {
                clock: Timestamp::ZERO,
                body: PeerBody::Txn(message),
            },
        });
        machine.settle(random);
    }
    assert!(machine.replica.ledger().account(id).is_some());
}

/// The rows in memory are shown in any case; what follows is said.
#[test]
fn what_is_not_kept_any_more_and_what_does_not_come_in_time_is_said() {
    let mut random = Prng::new(3);
    let mut machine = Machine::start(config(Some(4_000)), Files::default(), Vec::new(), 0);
    let accounts: Vec<Account> = (1..=40)
        .map(|id| Account::new(AccountId(id), 1, 1, AccountFlags::default()))
        .collect();
    let create = RequestBody::CreateAccounts(Rows::from_slice(&accounts));
    machine.results(&create, &mut random);
    let mut ids = 0;
    for _ in 0..60 {
        let body = transfers(&mut random, &mut ids);
        machine.results(&body, &mut random);
    }
    let query = |start| HistoryQuery {
        account: AccountId(7),
        start,
        ts_first: Timestamp::ZERO,
        ts_last: Timestamp(u64::MAX),
        limit: 1000,
    };
    let newest = query(HistoryStart::Newest {
        passed: Timestamp::ZERO,
    });
    let whole = machine.page(newest, &mut random);
    assert_eq!((whole.next, whole.dropped), (0, false));

    machine.store = ChainStore::Dropped;
    let cut = machine.page(newest, &mut random);
    assert!(cut.dropped && cut.head.is_some() && cut.rows.len() < whole.rows.len());
    assert_eq!(cut.rows, whole.rows[..cut.rows.len()]);
    assert_eq!(cut.next, whole.rows[cut.rows.len()].position);

    // The deadline comes while the store is asked: the page ends, and the next one goes on behind it.
    machine.store = ChainStore::Silent;
    machine.replies.clear();
    machine.send(RequestBody::AccountHistory(newest));
    machine.settle(&mut random);
    assert!(machine.replies.is_empty());
    machine.now_ns += 60_000 * MS;
    machine.settle(&mut random);
    let Some(ReplyBody::History(HistoryAnswer::Page(late))) =
        machine.replies.pop().map(|reply| reply.body)
    else {
        panic!("no page");
    };
    assert_eq!((&late.rows, late.next), (&cut.rows, cut.next));
    assert!(!late.dropped);
    machine.store = ChainStore::Whole;
    let rest = machine.page(query(HistoryStart::Position(late.next)), &mut random);
    assert_eq!(rest.head, None);
    assert_eq!([late.rows, rest.rows].concat(), whole.rows);
}
