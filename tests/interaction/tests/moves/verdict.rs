//! What must hold when all is quiet again.
//!
//! The books are kept a second time here, from what the clients were told, and compared with every
//! replica.

use std::collections::BTreeMap;

use quorate_interaction::timed::payer::Order;
use quorate_interaction::timed::world::Timed;
use quorate_protocol::ids::{AccountId, ShardId};
use quorate_protocol::ledger::{CodeKind, ResultCode, Transfer};
use quorate_protocol::replica::Replica;
use quorate_protocol::time::MS;

use crate::scenario::Scenario;

/// How often it is asked whether all is quiet.
const LOOK_NS: u64 = 20 * MS;

/// Lets the cluster come to rest, then checks it, repeats every transfer, and checks it again.
pub fn settle_and_check(scenario: &Scenario, timed: &mut Timed, bound_ns: u64, told: &str) {
    rest(timed, bound_ns, told);
    check(scenario, timed, told);
    let told = format!("{told}, after the retries");
    retry(scenario, timed, bound_ns, &told);
    rest(timed, bound_ns, &told);
    check(scenario, timed, &told);
}

fn rest(timed: &mut Timed, bound_ns: u64, told: &str) {
    let end_ns = timed.cluster.now_ns() + bound_ns;
    while let Err(why) = quiet(timed) {
        let now_ns = timed.cluster.now_ns();
        assert!(
            now_ns < end_ns,
            "{told}: {why} {} s later",
            bound_ns / 1_000_000_000
        );
        timed.run_until(now_ns + LOOK_NS);
    }
}

/// Everybody has the last word, every process runs, nothing is prepared or staged, and the replicas
/// of a shard have applied the same.
pub fn quiet(timed: &Timed) -> Result<(), String> {
    if let Some(waiting) = timed.payers().iter().find(|p| p.outcome().is_none()) {
        return Err(format!("no end of {:?}", waiting.order()));
    }
    if !timed.tool_is_done() {
        return Err("the tool has no answer".to_owned());
    }
    if !timed.is_healed() {
        return Err("a process is down or cut off".to_owned());
    }
    for shard in (1..=timed.cluster.shape().shards).map(ShardId) {
        if timed.cluster.leader(shard).is_none() {
            return Err(format!("shard {shard} has no leader"));
        }
        let mut applied = timed
            .cluster
            .running(shard)
            .map(|(_, r)| r.ledger().applied());
        let first = applied.next();
        if !applied.all(|slot| Some(slot) == first) {
            return Err(format!("a replica of shard {shard} lags"));
        }
        for (at, replica) in timed.cluster.running(shard) {
            let (prepared, staged) = (replica.ledger().in_doubt(), replica.ledger().staged());
            if !prepared.is_empty() || !staged.is_empty() {
                return Err(format!("in doubt at {at}: {prepared:?} {staged:?}"));
            }
        }
    }
    Ok(())
}

fn check(scenario: &Scenario, timed: &Timed, told: &str) {
    for shard in (1..=scenario.shape.shards).map(ShardId) {
        let digests: Vec<_> = timed
            .cluster
            .running(shard)
            .map(|(_, r)| r.digest())
            .collect();
        assert_eq!(
            digests.len(),
            usize::from(scenario.shape.replicas),
            "{told}"
        );
        let equal = digests.windows(2).all(|pair| pair[0] == pair[1]);
        assert!(
            equal,
            "{told}: replicas of shard {shard} differ: {digests:?}"
        );
    }
    let books = books(timed);
    let (mut debits, mut credits) = (0, 0);
    for account in scenario.accounts().chain(scenario.funders()) {
        let owners: Vec<ShardId> = (1..=scenario.shape.shards)
            .map(ShardId)
            .filter(|&shard| leading(timed, shard).ledger().account(account).is_some())
            .collect();
        assert_eq!(
            owners,
            [scenario.end(account)],
            "{told}: owners of account {account}"
        );
        let owned = leading(timed, owners[0]).ledger().account(account);
        let owned = owned.expect("it was just found");
        let posted = (owned.account.debits_posted, owned.account.credits_posted);
        let expected = books.get(&account).copied().unwrap_or_default();
        assert_eq!(
            posted, expected,
            "{told}: debits and credits of account {account}"
        );
        let open = (owned.reserved.debits, owned.reserved.credits, owned.open);
        assert_eq!(
            open,
            (0, 0, 0),
            "{told}: something is reserved on account {account}"
        );
        assert_eq!(
            (owned.attempts, owned.held),
            (0, 0),
            "{told}: account {account} is held"
        );
        debits += posted.0;
        credits += posted.1;
    }
    assert_eq!(debits, credits, "{told}: debits and credits of the ledger");
    for payer in timed.payers() {
        if let (Order::Pay(transfer), Some(code)) = (payer.order(), payer.outcome()) {
            check_record(scenario, timed, &transfer, code, told);
        }
    }
}

fn leading(timed: &Timed, shard: ShardId) -> &Replica {
    let at = timed.cluster.leader(shard).expect("all is quiet");
    timed.cluster.replica(at).expect("it leads")
}

/// What the clients were told, as debits and credits.
fn books(timed: &Timed) -> BTreeMap<AccountId, (u128, u128)> {
    let mut seen = std::collections::BTreeSet::new();
    let mut books: BTreeMap<AccountId, (u128, u128)> = BTreeMap::new();
    for payer in timed.payers() {
        let (Order::Pay(transfer), Some(code)) = (payer.order(), payer.outcome()) else {
            continue;
        };
        if code.is_success() && seen.insert(transfer.id) {
            books.entry(transfer.debit_account_id).or_default().0 += transfer.amount;
            books.entry(transfer.credit_account_id).or_default().1 += transfer.amount;
        }
    }
    books
}

/// The id is recorded as decided at exactly one shard, with the result that the client was told,
/// and as posted at no more than one other.
fn check_record(
    scenario: &Scenario,
    timed: &Timed,
    transfer: &Transfer,
    told_code: ResultCode,
    told: &str,
) {
    let shards = || (1..=scenario.shape.shards).map(ShardId);
    let decided: Vec<ResultCode> = shards()
        .filter_map(|shard| {
            let history = leading(timed, shard).ledger().history();
            history.debit(transfer.id).loaded()
        })
        .map(|record| record.result)
        .collect();
    let [code] = decided[..] else {
        panic!(
            "{told}: transfer {} was decided as {decided:?}",
            transfer.id
        );
    };
    assert_eq!(
        code.is_success(),
        told_code.is_success(),
        "{told}: transfer {} is recorded as {code:?}, the client was told {told_code:?}",
        transfer.id
    );
    let posted = shards()
        .flat_map(|at| shards().map(move |by| (at, by)))
        .filter(|&(at, by)| {
            let history = leading(timed, at).ledger().history();
            history.credit(by, transfer.id).loaded().is_some()
        })
        .count();
    assert!(
        posted <= 1,
        "{told}: transfer {} was posted {posted} times",
        transfer.id
    );
}

/// Sends every transfer again, as a client would that has lost the answer: to the shard that it knew
/// and to the present owner, which has to ask the previous ones.
fn retry(scenario: &Scenario, timed: &mut Timed, bound_ns: u64, told: &str) {
    let first = timed.payers().len();
    let now_ns = timed.cluster.now_ns();
    for payment in &scenario.payments {
        let debit = payment.debit_account();
        for shard in [scenario.home(debit), scenario.end(debit)] {
            timed.add_payer(scenario.payer(payment, shard, now_ns));
        }
    }
    rest(timed, bound_ns, told);
    let earlier = &timed.payers()[scenario.first_payer()..first];
    let again = timed.payers()[first..].chunks(2);
    assert_eq!(earlier.len(), again.len());
    for (earlier, again) in earlier.iter().zip(again) {
        let was = earlier.outcome().expect("all is quiet");
        let expected = match was.kind() {
            CodeKind::Success => ResultCode::Exists,
            CodeKind::Malformed
            | CodeKind::Recorded
            | CodeKind::Used
            | CodeKind::Expired
            | CodeKind::Unlogged => ResultCode::IdAlreadyFailed,
        };
        for again in again {
            assert_eq!(earlier.order(), again.order());
            let (order, is) = (again.order(), again.outcome());
            assert_eq!(is, Some(expected), "{told}: {order:?}, first {was:?}");
        }
    }
}
