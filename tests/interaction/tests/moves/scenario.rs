//! What moves, and what is paid meanwhile.

use quorate_interaction::cluster::Shape;
use quorate_interaction::timed::payer::{Order, Payer};
use quorate_interaction::timed::tool::Plan;
use quorate_interaction::timed::world::Timed;
use quorate_protocol::ids::{AccountId, ShardId, TransferId};
use quorate_protocol::ledger::{Account, AccountFlags, Transfer};
use quorate_protocol::time::{MS, SECOND};

/// What is under way on a moved account when the tool comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// A local transfer from it.
    LocalDebit,
    /// A cross-shard transfer from it: the source coordinates.
    CrossDebit,
    /// A cross-shard transfer to it: a reservation is open at the source.
    Reservation,
    /// Nothing moves.
    NoMove,
}

/// A transfer of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Payment {
    pub after_ms: u64,
    pub id: u128,
    pub debit: u128,
    pub credit: u128,
    pub amount: u128,
}

impl Payment {
    /// Who pays.
    pub fn debit_account(&self) -> AccountId {
        AccountId(self.debit)
    }

    fn transfer(&self) -> Transfer {
        transfer(self.id, self.debit, self.credit, self.amount)
    }
}

/// One story of a move.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub shape: Shape,
    pub plan: Plan,
    /// When the tool sends its first request, counted like the payments.
    pub move_after_ms: u64,
    pub payments: Vec<Payment>,
    pub overlap: Overlap,
}

/// Money that every ordinary account starts with.
pub const FUNDS: u128 = 1_000;
const ACCOUNTS_PER_SHARD: u64 = 10;
/// Ordinary accounts of each shard: the first ones of its range.
const ORDINARY: u128 = 4;

impl Scenario {
    /// Ordinary accounts of all shards.
    pub fn accounts(&self) -> impl Iterator<Item = AccountId> + use<> {
        let shards = u128::from(self.shape.shards);
        (0..shards).flat_map(|shard| (1..=ORDINARY).map(move |n| AccountId(shard * 10 + n)))
    }

    /// Account 9 of each shard brings the money in.
    pub fn funders(&self) -> impl Iterator<Item = AccountId> + use<> {
        (0..u128::from(self.shape.shards)).map(|shard| AccountId(shard * 10 + 9))
    }

    /// Where an account is created.
    pub fn home(&self, account: AccountId) -> ShardId {
        let shard = (account.0 - 1) / u128::from(ACCOUNTS_PER_SHARD) + 1;
        ShardId(u32::try_from(shard).expect("few shards"))
    }

    /// Where an account is in the end.
    pub fn end(&self, account: AccountId) -> ShardId {
        if self.plan.accounts.contains(&account) {
            self.plan.target
        } else {
            self.home(account)
        }
    }

    /// The index of the first client that is not part of the preparations.
    pub fn first_payer(&self) -> usize {
        2 * self.accounts().count() + self.funders().count()
    }

    /// A client for a payment, which first asks `shard`.
    pub fn payer(&self, payment: &Payment, shard: ShardId, start_ns: u64) -> Payer {
        let order = Order::Pay(payment.transfer());
        Payer::new(order, shard, self.shape.replicas, start_ns)
    }

    /// A cluster with funded accounts, its clients and the tool about to start.
    pub fn begin(&self) -> Timed {
        let mut timed = Timed::new(self.shape);
        let replicas = self.shape.replicas;
        let limited = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
        let ordinary = self.accounts().map(|id| (id, limited));
        let funders = self.funders().map(|id| (id, AccountFlags::SYSTEM));
        for (id, flags) in ordinary.chain(funders) {
            let order = Order::Create(Account::new(id, 1, 1, flags));
            timed.add_payer(Payer::new(order, self.home(id), replicas, SECOND));
        }
        finish(&mut timed);
        let now_ns = timed.cluster.now_ns();
        for id in self.accounts() {
            let funder = (self.home(id).0 - 1) * 10 + 9;
            let order = Order::Pay(transfer(900 + id.0, funder.into(), id.0, FUNDS));
            timed.add_payer(Payer::new(order, self.home(id), replicas, now_ns));
        }
        finish(&mut timed);
        assert!(timed.payers().len() == self.first_payer());
        // Past the flushes and the announcements of the preparations.
        timed.run_until(timed.cluster.now_ns() + 200 * MS);
        let accounts: Vec<AccountId> = self.accounts().collect();
        timed.watch(&accounts);
        let start_ns = timed.cluster.now_ns() + MS;
        for payment in &self.payments {
            let start_ns = start_ns + payment.after_ms * MS;
            let home = self.home(payment.debit_account());
            timed.add_payer(self.payer(payment, home, start_ns));
        }
        timed.start_tool(self.plan.clone(), start_ns + self.move_after_ms * MS);
        timed
    }
}

fn finish(timed: &mut Timed) {
    let end_ns = timed.cluster.now_ns() + 5 * SECOND;
    while !timed.payers_are_done() {
        assert!(timed.step(end_ns), "the preparations do not end");
    }
}

fn transfer(id: u128, debit: u128, credit: u128, amount: u128) -> Transfer {
    let (debit, credit) = (AccountId(debit), AccountId(credit));
    Transfer::new(TransferId(id), debit, credit, amount, 1, 1)
}

fn shape(shards: u32, replicas: u8) -> Shape {
    Shape {
        shards,
        replicas,
        accounts_per_shard: ACCOUNTS_PER_SHARD,
        ..Shape::default()
    }
}

fn plan(accounts: &[u128], batch_max: usize) -> Plan {
    Plan {
        source: ShardId(1),
        target: ShardId(2),
        accounts: accounts.iter().map(|&id| AccountId(id)).collect(),
        batch_max,
    }
}

fn payment(after_ms: u64, id: u128, debit: u128, credit: u128, amount: u128) -> Payment {
    Payment {
        after_ms,
        id,
        debit,
        credit,
        amount,
    }
}

/// Three accounts in one move, a local transfer between two of them just before it; during the move
/// one of them pays to the target, and one asks for more than it has.
pub fn local_debit(replicas: u8) -> Scenario {
    Scenario {
        name: "local debit",
        shape: shape(2, replicas),
        plan: plan(&[1, 2, 3], 8),
        move_after_ms: 1,
        payments: vec![
            payment(0, 101, 1, 2, 30),
            payment(6, 102, 1, 11, 7),
            payment(8, 103, 2, 4, 9_999),
        ],
        overlap: Overlap::LocalDebit,
    }
}

/// A transfer from a moved account to the target is in two-phase commit when the tool comes; the
/// three accounts go in two moves, one after the other.
pub fn cross_debit(replicas: u8) -> Scenario {
    Scenario {
        name: "cross-shard debit",
        shape: shape(2, replicas),
        plan: plan(&[1, 2, 3], 2),
        move_after_ms: 4,
        payments: vec![payment(0, 101, 1, 11, 30), payment(9, 102, 3, 1, 7)],
        overlap: Overlap::CrossDebit,
    }
}

/// The target coordinates a transfer to a moved account, whose reservation is open when the tool
/// comes; another such transfer meets the freeze.
pub fn reservation_of_target(replicas: u8) -> Scenario {
    Scenario {
        name: "reservation of the target's",
        shape: shape(2, replicas),
        plan: plan(&[1, 2, 3], 8),
        move_after_ms: 8,
        payments: vec![payment(0, 101, 11, 1, 30), payment(14, 102, 12, 2, 7)],
        overlap: Overlap::Reservation,
    }
}

/// The same with a third shard as the coordinator, which has to follow the account.
pub fn reservation_of_third(replicas: u8) -> Scenario {
    Scenario {
        name: "reservation of a third shard's",
        shape: shape(3, replicas),
        plan: plan(&[1, 2], 8),
        move_after_ms: 8,
        payments: vec![payment(0, 101, 21, 1, 30), payment(14, 102, 22, 2, 7)],
        overlap: Overlap::Reservation,
    }
}

/// No move at all: two-phase commit by itself, both ways between two shards, with a final refusal and
/// a debit that is deferred because it depends on a credit under way. Source and target are only names
/// here.
pub fn transfers(replicas: u8) -> Scenario {
    Scenario {
        name: "transfers",
        shape: shape(2, replicas),
        plan: plan(&[], 1),
        move_after_ms: 0,
        payments: vec![
            payment(0, 101, 1, 11, 30),
            payment(1, 102, 12, 2, 7),
            payment(2, 103, 1, 12, 9_999),
            payment(8, 104, 11, 13, FUNDS + 20),
        ],
        overlap: Overlap::NoMove,
    }
}
