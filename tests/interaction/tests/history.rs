//! The history of accounts while money is paid within and across shards, while accounts move and come back,
//! and while leaders die: it adds up to the balances, its balance at a time is what was there at that time, and
//! what was answered for a time stays true.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use quorate_interaction::cluster::{Event, Shape, WALL_NS};
use quorate_interaction::disk::Unflushed;
use quorate_interaction::timed::payer::{Order, Payer};
use quorate_interaction::timed::tool::Plan;
use quorate_interaction::timed::world::{Fate, Timed};
use quorate_protocol::client::{
    HistoryAnswer, HistoryEntry, HistoryHead, HistoryPage, HistoryQuery, HistoryStart, ReplyBody,
    Request, RequestBody,
};
use quorate_protocol::config::Reads;
use quorate_protocol::ids::{
    AccountId, ConnectionId, ReplicaAddress, RequestId, ShardId, TransferId,
};
use quorate_protocol::ledger::{Account, AccountFlags, Transfer};
use quorate_protocol::prng::Prng;
use quorate_protocol::time::{MS, SECOND, Timestamp};

const SHARDS: u32 = 3;
/// Ordinary accounts per shard; account 9 of each brings the money in.
const ORDINARY: u128 = 3;
const FUNDS: u128 = 10_000;
const PATIENCE_NS: u64 = 20 * SECOND;
const FOREVER: Timestamp = Timestamp(u64::MAX);

/// Debits and credits.
type Totals = (u128, u128);

fn accounts() -> impl Iterator<Item = AccountId> {
    let shards = 0..u128::from(SHARDS);
    shards.flat_map(|shard| (1..=ORDINARY).map(move |n| AccountId(shard * 10 + n)))
}

fn home(account: AccountId) -> ShardId {
    ShardId(u32::try_from((account.0 - 1) / 10 + 1).expect("few shards"))
}

fn payer(order: Order, account: AccountId, start_ns: u64) -> Payer {
    Payer::new(order, home(account), 3, start_ns)
}

fn transfer(id: u128, debit: u128, credit: u128, amount: u128) -> Transfer {
    let (debit, credit) = (AccountId(debit), AccountId(credit));
    Transfer::new(TransferId(id), debit, credit, amount, 1, 1)
}

/// Funded accounts.
fn begin(reads: Reads) -> Timed {
    let mut timed = Timed::new(Shape {
        shards: SHARDS,
        reads,
        ..Shape::default()
    });
    let limited = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
    let ordinary = accounts().map(|id| (id, limited));
    let funders = (0..u128::from(SHARDS)).map(|shard| AccountId(shard * 10 + 9));
    for (id, flags) in ordinary.chain(funders.map(|id| (id, AccountFlags::SYSTEM))) {
        let order = Order::Create(Account::new(id, 1, 1, flags));
        timed.add_payer(payer(order, id, SECOND));
    }
    finish(&mut timed);
    let now_ns = timed.cluster.now_ns();
    for id in accounts() {
        let funder = (u128::from(home(id).0) - 1) * 10 + 9;
        let order = Order::Pay(transfer(900 + id.0, funder, id.0, FUNDS));
        timed.add_payer(payer(order, id, now_ns));
    }
    finish(&mut timed);
    timed
}

fn finish(timed: &mut Timed) {
    let end_ns = timed.cluster.now_ns() + 20 * SECOND;
    while !timed.payers_are_done() {
        assert!(timed.step(end_ns), "the payments do not end");
    }
}

fn wall(timed: &Timed) -> Timestamp {
    Timestamp(WALL_NS + timed.cluster.now_ns())
}

fn query(account: AccountId, start: HistoryStart, first: Timestamp, limit: u32) -> RequestBody {
    RequestBody::AccountHistory(HistoryQuery {
        account,
        start,
        ts_first: first,
        ts_last: FOREVER,
        limit,
    })
}

fn ask(timed: &mut Timed, shard: ShardId, body: RequestBody) -> HistoryAnswer {
    match timed.ask(shard, body, PATIENCE_NS) {
        ReplyBody::History(answer) => answer,
        other => panic!("{other:?}"),
    }
}

/// The rest of a shard's chain behind a page.
fn rest(
    timed: &mut Timed,
    shard: ShardId,
    account: AccountId,
    first: Timestamp,
    mut page: HistoryPage,
) -> Vec<HistoryEntry> {
    let mut rows = std::mem::take(&mut page.rows);
    while page.next != 0 {
        let start = HistoryStart::Position(page.next);
        match ask(timed, shard, query(account, start, first, 7)) {
            HistoryAnswer::Page(next) => page = next,
            other => panic!("{other:?}"),
        }
        rows.append(&mut page.rows);
    }
    assert!(!page.dropped);
    rows
}

/// The account, and all rows that commit from `first` on, in the order of their effect, newest first.
fn history(
    timed: &mut Timed,
    account: AccountId,
    first: Timestamp,
    passed: Timestamp,
) -> (HistoryHead, Vec<HistoryEntry>) {
    let mut owner = home(account);
    let page = loop {
        let start = HistoryStart::Newest { passed };
        match ask(timed, owner, query(account, start, first, 5)) {
            HistoryAnswer::Page(page) => break page,
            HistoryAnswer::Moved(shard) => owner = shard,
            HistoryAnswer::NotFound => panic!("account {account} is gone"),
        }
    };
    let head = page.head.clone().expect("the first page has it");
    let mut rows = rest(timed, owner, account, first, page);
    falls(&rows);
    for former in &head.owners {
        assert_ne!(former.shard, owner);
        if former.last == 0 {
            continue;
        }
        let start = HistoryStart::Position(former.last);
        match ask(timed, former.shard, query(account, start, first, 5)) {
            HistoryAnswer::Page(page) => {
                let mut found = rest(timed, former.shard, account, first, page);
                falls(&found);
                found.retain(|row| row.applied_ts < former.left);
                rows.append(&mut found);
            }
            other => panic!("{other:?}"),
        }
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.applied_ts));
    (*head, rows)
}

fn falls(rows: &[HistoryEntry]) {
    for pair in rows.windows(2) {
        assert!(pair[0].position > pair[1].position);
        assert!(pair[0].applied_ts >= pair[1].applied_ts);
    }
    for row in rows {
        assert!(row.recorded.commit_ts <= row.applied_ts);
    }
}

fn totals(account: &Account) -> Totals {
    (account.debits_posted, account.credits_posted)
}

/// The balances without what committed later.
fn at(account: &Account, rows: &[HistoryEntry], time: Timestamp) -> Totals {
    let later = rows.iter().filter(|row| row.recorded.commit_ts > time);
    later.fold(totals(account), |(debits, credits), row| {
        let transfer = &row.recorded.transfer;
        match transfer.debit_account_id == account.id {
            true => (debits - transfer.amount, credits),
            false => (debits, credits - transfer.amount),
        }
    })
}

/// What was seen of accounts on which nothing was open: time, account, balances.
#[derive(Default)]
struct Recording {
    seen: BTreeMap<(AccountId, Timestamp), Totals>,
    open: u64,
}

impl Recording {
    fn look(&mut self, timed: &Timed) {
        for shard in (1..=SHARDS).map(ShardId) {
            for (_, replica) in timed.cluster.running(shard) {
                let ledger = replica.ledger();
                for id in accounts() {
                    let Some(owned) = ledger.account(id) else {
                        continue;
                    };
                    if owned.open > 0 {
                        self.open += 1;
                        continue;
                    }
                    let key = (id, ledger.last_timestamp());
                    let seen = totals(&owned.account);
                    // Replicas that have applied the same say the same.
                    assert_eq!(*self.seen.entry(key).or_insert(seen), seen);
                }
            }
        }
    }
}

/// Payments at random, within shards and across, from now on for `for_ms`.
fn pay(timed: &mut Timed, random: &mut Prng, ids: &mut u128, count: u64, for_ms: u64) {
    let all: Vec<AccountId> = accounts().collect();
    let now_ns = timed.cluster.now_ns();
    for _ in 0..count {
        let pick = |random: &mut Prng| {
            let index = random.range(0, all.len() as u64);
            all[usize::try_from(index).expect("few")]
        };
        let (debit, credit) = (pick(random), pick(random));
        if debit == credit {
            continue;
        }
        *ids += 1;
        let amount = u128::from(random.range(1, 30));
        let order = Order::Pay(transfer(10_000 + *ids, debit.0, credit.0, amount));
        let start_ns = now_ns + random.range(0, for_ms * 1_000) * (MS / 1_000);
        timed.add_payer(payer(order, debit, start_ns));
    }
}

/// An answer that was given under load: what it said the balances were at a time.
struct Answered {
    account: AccountId,
    time: Timestamp,
    totals: Totals,
}

/// One mixed run.
struct Run {
    random: Prng,
    timed: Timed,
    recording: Recording,
    answered: Vec<Answered>,
    ids: u128,
}

impl Run {
    /// Payments, with a move under way; `crash` ends the leader of shard 2 meanwhile.
    fn round(&mut self, source: u32, target: u32, moved: &[u128], crash: bool) {
        let timed = &mut self.timed;
        pay(timed, &mut self.random, &mut self.ids, 60, 300);
        let plan = Plan {
            source: ShardId(source),
            target: ShardId(target),
            accounts: moved.iter().map(|id| AccountId(*id)).collect(),
            batch_max: 2,
        };
        let now_ns = timed.cluster.now_ns();
        timed.start_tool(plan, now_ns + 60 * MS);
        let mut steps = 0;
        while !(self.timed.payers_are_done() && self.timed.tool_is_done()) {
            assert!(self.timed.step(now_ns + PATIENCE_NS), "no end in sight");
            self.recording.look(&self.timed);
            steps += 1;
            if steps % 150 == 149 {
                self.ask_for_now();
            }
            if crash && steps == 200 {
                let leader = self.timed.cluster.leader(ShardId(2));
                let fate = Fate {
                    unflushed: Unflushed::Lost,
                    sent_arrives: false,
                    restart_after_ns: SECOND,
                };
                self.timed.crash(leader.expect("it leads"), fate);
            }
        }
    }

    /// The balances of some account at this very time.
    fn ask_for_now(&mut self) {
        let all: Vec<AccountId> = accounts().collect();
        let index = self.random.range(0, all.len() as u64);
        let account = all[usize::try_from(index).expect("few")];
        let time = wall(&self.timed);
        let first = Timestamp(time.0 + 1);
        let (head, rows) = history(&mut self.timed, account, first, time);
        self.answered.push(Answered {
            account,
            time,
            totals: at(&head.account, &rows, time),
        });
    }

    /// Holds an account's history against its balances, what was noted and what was answered; how often
    /// rows took effect behind others that committed later, and how many shards owned it before.
    fn check(&mut self, account: AccountId, told: &str) -> (usize, usize) {
        let passed = wall(&self.timed);
        let (head, rows) = history(&mut self.timed, account, Timestamp::ZERO, passed);
        assert_eq!(at(&head.account, &rows, Timestamp::ZERO), (0, 0), "{told}");
        let seen = &self.recording.seen;
        let seen = seen.range((account, Timestamp::ZERO)..=(account, FOREVER));
        for ((_, time), totals) in seen {
            let found = at(&head.account, &rows, *time);
            assert_eq!(found, *totals, "{told} at {time:?}");
        }
        let answered = self.answered.iter();
        for before in answered.filter(|before| before.account == account) {
            let (now, time) = (at(&head.account, &rows, before.time), before.time);
            assert_eq!(now, before.totals, "{told}: answered for {time:?}");
        }
        let commits: Vec<Timestamp> = rows.iter().map(|row| row.recorded.commit_ts).collect();
        let inversions = commits.windows(2).filter(|pair| pair[0] < pair[1]);
        (inversions.count(), head.owners.len())
    }
}

fn mixed_run(seed: u64, reads: Reads) -> usize {
    let mut run = Run {
        random: Prng::new(seed),
        timed: begin(reads),
        recording: Recording::default(),
        answered: Vec::new(),
        ids: 0,
    };
    // There, back, and on to a third shard; accounts that came come along.
    run.round(1, 2, &[1, 2], false);
    run.round(2, 1, &[1, 11], false);
    run.round(2, 3, &[2, 12], true);
    run.round(3, 1, &[21, 2], false);
    run.round(1, 2, &[11, 1], false);
    run.timed.run_until(run.timed.cluster.now_ns() + 3 * SECOND);
    let (mut inversions, mut former) = (0, 0);
    for account in accounts() {
        let (more, owners) = run.check(account, &format!("seed {seed}, account {account}"));
        inversions += more;
        former += owners;
    }
    assert!(run.recording.seen.len() > 1_000 && run.recording.open > 100);
    assert!(
        run.answered.len() > 10 && former > 4,
        "{former} former owners"
    );
    inversions
}

#[test]
fn balances_come_from_the_history_at_any_time_through_moves_and_leaders() {
    let mut inversions = 0;
    for seed in 0..20 {
        let reads = [Reads::Lease, Reads::Quorum][usize::from(seed % 2 == 1)];
        inversions += mixed_run(seed, reads);
    }
    // A resolution with an earlier commit timestamp was applied behind a later local transfer.
    assert!(inversions > 20, "{inversions} inversions");
}

#[test]
fn an_idle_shard_passes_a_time_with_one_empty_entry_and_refuses_the_future() {
    let mut timed = begin(Reads::Lease);
    timed.run_until(timed.cluster.now_ns() + SECOND);
    let (account, shard) = (AccountId(1), ShardId(1));
    let applied = |timed: &Timed| {
        let leader = timed.cluster.leader(shard).expect("it leads");
        let replica = timed.cluster.replica(leader).expect("it runs");
        (
            replica.ledger().applied(),
            replica.ledger().last_timestamp(),
        )
    };
    let before = applied(&timed);
    let passed = wall(&timed);
    assert!(before.1 < passed);
    let (head, rows) = history(&mut timed, account, Timestamp::ZERO, passed);
    assert_eq!((totals(&head.account), rows.len()), ((0, FUNDS), 1));
    let after = applied(&timed);
    assert_eq!(after.0, before.0.next());
    assert!(after.1 >= passed);
    // The same again, or an earlier time, costs nothing.
    for passed in [passed, before.1, Timestamp::ZERO] {
        history(&mut timed, account, Timestamp::ZERO, passed);
    }
    assert_eq!(applied(&timed), after);
    let passed = Timestamp(wall(&timed).0 + SECOND);
    let start = HistoryStart::Newest { passed };
    let body = query(account, start, Timestamp::ZERO, 1);
    let refused = timed.ask(shard, body, PATIENCE_NS);
    assert!(matches!(refused, ReplyBody::BadRequest(_)), "{refused:?}");
}

/// The credit is prepared at shard 2 and the decision does not come: shard 1 has lost its leader.
#[test]
fn a_page_waits_until_nothing_is_open_on_the_account() {
    let mut timed = begin(Reads::Lease);
    let now_ns = timed.cluster.now_ns();
    let order = Order::Pay(transfer(5_000, 1, 11, 30));
    timed.add_payer(payer(order, AccountId(1), now_ns));
    let open = |timed: &Timed| {
        let leader = timed.cluster.leader(ShardId(2))?;
        let owned = timed
            .cluster
            .replica(leader)?
            .ledger()
            .account(AccountId(11));
        Some(owned?.open)
    };
    while open(&timed) != Some(1) {
        assert!(timed.step(now_ns + SECOND), "it is prepared");
    }
    let leader = timed.cluster.leader(ShardId(1)).expect("it leads");
    let fate = Fate {
        unflushed: Unflushed::Lost,
        sent_arrives: false,
        restart_after_ns: 3 * SECOND,
    };
    timed.crash(leader, fate);
    let crashed_ns = timed.cluster.now_ns();
    let passed = wall(&timed);
    let (head, rows) = history(&mut timed, AccountId(11), Timestamp::ZERO, passed);
    // The others had to elect first. (The client has asked again meanwhile, and the next attempt may be
    // prepared: it waited behind the page.)
    assert!(timed.cluster.now_ns() > crashed_ns + 300 * MS);
    assert_eq!(at(&head.account, &rows, Timestamp::ZERO), (0, 0));
}

/// A reader turned the page at the new leader and asked the old one for the next: that knew of no such
/// position yet, had not noticed that it was replaced, and refused the request as malformed for good. Whether there
/// is such a row is for a read to say that may be answered.
#[test]
fn a_leader_that_was_replaced_does_not_refuse_a_position_that_it_does_not_know_yet() {
    for reads in [Reads::Lease, Reads::Quorum] {
        let mut timed = begin(reads);
        let (account, shard) = (AccountId(1), ShardId(1));
        let old = timed.cluster.leader(shard).expect("it leads");
        // It stands still: it neither hears its group nor looks at its clock.
        let mut new = None;
        let end_ns = timed.cluster.now_ns() + 5 * SECOND;
        while new.is_none() && timed.cluster.now_ns() < end_ns {
            advance(&mut timed, old);
            new = timed
                .cluster
                .running(shard)
                .map(|(at, replica)| (at, replica.serving()))
                .find(|(at, serving)| *at != old && serving.is_some())
                .map(|(at, _)| at);
        }
        let new = new.expect("another one was elected");
        for id in [77, 78] {
            let rows = vec![transfer(id, 9, account.0, 5)];
            let body =
                RequestBody::CreateTransfers(quorate_protocol::words::Rows::from_slice(&rows));
            request(&mut timed, new, id, body);
            for _ in 0..200 {
                advance(&mut timed, old);
            }
        }
        let ledger = |timed: &Timed, at| {
            let replica = timed.cluster.replica(at).expect("it runs");
            replica.ledger().history().next_position().0
        };
        let position = ledger(&timed, new) - 1;
        assert!(position >= ledger(&timed, old), "the old leader knows it");
        timed.cluster.take_events();
        let start = HistoryStart::Position(position);
        let page = query(account, start, Timestamp::ZERO, 1);
        request(&mut timed, old, 99, page);
        let replies = timed.cluster.take_events().into_iter();
        let replies: Vec<ReplyBody> = replies
            .filter_map(|event| match event {
                Event::Replied { reply, .. } if reply.id == RequestId(99) => Some(reply.body),
                _ => None,
            })
            .collect();
        let is_refused = |body: &ReplyBody| matches!(body, ReplyBody::BadRequest(_));
        assert!(!replies.iter().any(is_refused), "{reads:?}: {replies:?}");
    }
}

fn request(timed: &mut Timed, at: ReplicaAddress, id: u128, body: RequestBody) {
    let request = Request {
        id: RequestId(u64::try_from(id).expect("small")),
        deadline_ms: 2_000,
        seen: Timestamp::ZERO,
        body,
    };
    timed.cluster.ask(at, ConnectionId(7_000), request);
}

/// Lets the next thing happen to a cluster of which one replica stands still.
fn advance(timed: &mut Timed, still: ReplicaAddress) {
    let cluster = &mut timed.cluster;
    let moving: Vec<ReplicaAddress> = cluster.addresses().filter(|at| *at != still).collect();
    let letter = cluster.in_flight().first();
    if let Some((number, to)) = letter.map(|letter| (letter.number, letter.to)) {
        match to == still {
            true => cluster.drop_letter(number),
            false => cluster.deliver(number),
        }
        return;
    }
    if let Some(at) = moving.iter().find(|at| cluster.is_dirty(**at)) {
        let upto = cluster.last_appended(*at).expect("it is dirty");
        return cluster.flush(*at, upto);
    }
    cluster.set_now_ns(cluster.now_ns() + MS);
    let now_ns = cluster.now_ns();
    for at in moving {
        let deadline_ns = cluster.replica(at).expect("it runs").deadline_ns();
        if deadline_ns <= now_ns {
            cluster.tick(at);
        }
    }
}
