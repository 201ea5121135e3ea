//! What clients are made to do: accounts, transfers of every sort, reads, duplicates on purpose.
//!
//! Draws come from each client's own stream, so one client's new habit does not change the others.

use quorate_protocol::config::IdRule;
use quorate_protocol::ids::{AccountId, TransferId};
use quorate_protocol::ledger::{Account, AccountFlags, Transfer};
use quorate_protocol::limits::ID_AHEAD_MS_MAX;
use quorate_protocol::shard::map::Placement;
use quorate_protocol::time::{MS, SECOND, Timestamp};

use crate::history::{CreationUse, History, HistoryUse, ReadUse, TransferUse};
use crate::job::Want;
use crate::parameters::{Parameters, WorkloadSettings};
use crate::random::Stream;

/// Ids of accounts that nobody ever creates lie this far above the others.
const STRANGERS: u64 = 1_000_000;
/// Moves, and transfers, that still count as recent, and so many of the latter to choose from.
const MOVES_BACK: usize = 3;
const TRANSFERS_BACK: usize = 1_000;
const CHOICE_MAX: usize = 8;
/// How far back the time lies that a history is asked for.
const HISTORY_BACK_NS: [u64; 4] = [0, MS, 100 * MS, 3 * SECOND];

/// The source of operations.
#[derive(Debug)]
pub struct Workload {
    settings: WorkloadSettings,
    ids: IdRule,
    placement: Placement,
    shards: u32,
    accounts: Vec<Account>,
    transfers_made: u64,
}

impl Workload {
    /// The workload of a run; `stream` decides the accounts.
    #[must_use]
    pub fn new(parameters: &Parameters, stream: &mut Stream) -> Self {
        let settings = parameters.workload.clone();
        let ledgers = u64::from(settings.ledgers);
        let accounts = (1..=settings.accounts)
            .map(|number| {
                // The first account of each ledger has no limit: money comes from somewhere.
                let flags = if number <= ledgers || !stream.chance(settings.limited_ppm) {
                    AccountFlags::default()
                } else if stream.chance(30_000) {
                    AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS
                } else {
                    AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS
                };
                let ledger = u32::try_from(1 + number % ledgers).expect("a few ledgers");
                let mut account = Account::new(AccountId(u128::from(number)), ledger, 7, flags);
                account.user_data = stream.below(3);
                account
            })
            .collect();
        Self {
            settings,
            ids: parameters.ids,
            placement: parameters.placement,
            shards: parameters.shards,
            accounts,
            transfers_made: 0,
        }
    }

    /// All accounts that are to be created.
    #[must_use]
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// Whether all transfers were made.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.transfers_made >= self.settings.transfers
    }

    /// Creations for a client: the accounts with its number, and now and then one twice, or with
    /// another field.
    pub fn creations(
        &self,
        client: usize,
        clients: usize,
        stream: &mut Stream,
        history: &mut History,
    ) -> Vec<Want> {
        let mut wants = Vec::new();
        for account in self.accounts.iter().skip(client).step_by(clients) {
            let mut create = |account| {
                wants.push(Want::Create(history.creations.len()));
                history.creations.push(CreationUse {
                    account,
                    started_ns: None,
                    answer: None,
                });
            };
            create(*account);
            if stream.chance(30_000) {
                create(*account);
            }
            if stream.chance(20_000) {
                let mut other = *account;
                other.code += 1;
                create(other);
            }
        }
        wants
    }

    /// The next operation of a client, who has seen this time: a batch of transfers, a batch of reads, or an
    /// account's history.
    pub fn operation(
        &mut self,
        client: usize,
        stream: &mut Stream,
        (wall_ns, seen): (u64, Timestamp),
        history: &mut History,
    ) -> Vec<Want> {
        if self.settings.history_ppm > 0 && stream.chance(self.settings.history_ppm) {
            return vec![self.history(stream, wall_ns, seen, history)];
        }
        let batch = stream.between(1, self.settings.batch_max);
        let reader = client == 0 && self.settings.reader;
        let read_ppm = if reader {
            1_000_000
        } else {
            self.settings.read_ppm
        };
        if stream.chance(read_ppm) {
            return (0..batch.min(8))
                .map(|_| self.read(stream, history))
                .collect();
        }
        (0..batch)
            .map(|_| {
                self.transfers_made += 1;
                let transfer = self.transfer(stream, wall_ns, history);
                let number = history.transfers.len();
                history.transfers.push(TransferUse {
                    transfer,
                    started_ns: None,
                    answer: None,
                    abandoned: false,
                    denied: false,
                });
                Want::Transfer(number)
            })
            .collect()
    }

    /// Rows of a time, or what a balance at a time needs: all that committed later.
    fn history(
        &self,
        stream: &mut Stream,
        wall_ns: u64,
        seen: Timestamp,
        history: &mut History,
    ) -> Want {
        let latest = if stream.chance(500_000) {
            seen.0
        } else {
            wall_ns
        };
        let time = Timestamp(latest.saturating_sub(stream.pick(&HISTORY_BACK_NS)));
        let ever = Timestamp(u64::MAX);
        let (first, last, passed) = match stream.below(4) {
            0 => (Timestamp::ZERO, ever, Timestamp::ZERO),
            1 => (time, Timestamp(time.0 + SECOND), Timestamp::ZERO),
            2 => (Timestamp::ZERO, time, time),
            _ => (Timestamp(time.0 + 1), ever, time),
        };
        history.histories.push(HistoryUse {
            account: self.some_account(stream).id,
            first,
            last,
            passed,
            limit: stream.pick(&[1, 3, 10, 100]),
            pages_left: stream.pick(&[1, 4, 40]),
            is_audit: false,
            head: None,
            parts: Vec::new(),
        });
        Want::History(history.histories.len() - 1)
    }

    fn read(&self, stream: &mut Stream, history: &mut History) -> Want {
        let number = history.reads.len();
        history.reads.push(ReadUse {
            account: self.some_account(stream).id,
            started_ns: 0,
            answer: None,
        });
        Want::Read(number)
    }

    fn transfer(&self, stream: &mut Stream, wall_ns: u64, history: &History) -> Transfer {
        if stream.chance(self.settings.reuse_ppm) && !history.transfers.is_empty() {
            let moved_ppm = self.settings.reuse_moved_ppm;
            if moved_ppm > 0
                && stream.chance(moved_ppm)
                && let Some(earlier) = of_moved(stream, history)
            {
                return self.reuse(stream, earlier);
            }
            let made = history.transfers.len();
            let late = stream.chance(self.settings.reuse_late_ppm);
            let back = stream.index(if late { made.min(16) } else { made });
            let earlier = history.transfers[made - 1 - back].transfer;
            return self.reuse(stream, earlier);
        }
        let (debit, credit) = self.pair(stream);
        let amount = u128::from(stream.between(1, self.settings.amount_max));
        let id = self.transfer_id(stream, wall_ns);
        let mut transfer = Transfer::new(id, debit.id, credit.id, amount, debit.ledger, 1);
        transfer.user_data = stream.below(3);
        if stream.chance(self.settings.stranger_ppm) {
            let stranger = AccountId(u128::from(STRANGERS + stream.below(100)));
            if stream.chance(500_000) {
                transfer.debit_account_id = stranger;
            } else {
                transfer.credit_account_id = stranger;
            }
        }
        if stream.chance(self.settings.malformed_ppm) {
            malform(&mut transfer, stream);
        }
        transfer
    }

    /// A transfer that debits an account.
    pub fn transfer_of(
        &self,
        stream: &mut Stream,
        wall_ns: u64,
        debit: AccountId,
    ) -> Option<Transfer> {
        let debit = self.accounts.iter().find(|account| account.id == debit)?;
        let fits = |credit: &&Account| credit.id != debit.id && credit.ledger == debit.ledger;
        let credits: Vec<&Account> = self.accounts.iter().filter(fits).collect();
        if credits.is_empty() {
            return None;
        }
        let credit = stream.pick(&credits).id;
        let id = self.transfer_id(stream, wall_ns);
        Some(Transfer::new(id, debit.id, credit, 1, debit.ledger, 1))
    }

    /// A transfer between two accounts that are there. If it can, it takes a debit account without a limit,
    /// so that nothing refuses it. `None` if there are no such two.
    pub fn transfer_between(
        &self,
        stream: &mut Stream,
        wall_ns: u64,
        is_there: impl Fn(AccountId) -> bool,
    ) -> Option<Transfer> {
        let there = self.accounts.iter().filter(|account| is_there(account.id));
        let there: Vec<Account> = there.copied().collect();
        let free = there.iter().filter(|a| a.flags == AccountFlags::default());
        let free: Vec<Account> = free.copied().collect();
        let debits = if free.is_empty() { &there } else { &free };
        if debits.is_empty() {
            return None;
        }
        let debit = stream.pick(debits);
        let fits = |credit: &&Account| credit.id != debit.id && credit.ledger == debit.ledger;
        let credits: Vec<Account> = there.iter().filter(fits).copied().collect();
        if credits.is_empty() {
            return None;
        }
        let credit = stream.pick(&credits).id;
        let id = self.transfer_id(stream, wall_ns);
        Some(Transfer::new(id, debit.id, credit, 1, debit.ledger, 1))
    }

    /// The same id again, with the same fields or with another one. The debit account stays: the id
    /// of a transfer is unique per debit account.
    fn reuse(&self, stream: &mut Stream, mut transfer: Transfer) -> Transfer {
        if stream.chance(self.settings.reuse_changed_ppm) {
            match stream.below(4) {
                0 => transfer.amount += 1,
                1 => transfer.user_data += 1,
                2 => transfer.code += 1,
                _ => {
                    let other = self.some_account(stream).id;
                    if other != transfer.debit_account_id {
                        transfer.credit_account_id = other;
                    }
                }
            }
        }
        transfer
    }

    fn transfer_id(&self, stream: &mut Stream, wall_ns: u64) -> TransferId {
        match self.ids {
            IdRule::Any => TransferId(stream.bits_128() | 1),
            IdRule::Ulid => {
                let ahead_ms = if stream.chance(5_000) {
                    stream.below(3 * ID_AHEAD_MS_MAX)
                } else {
                    0
                };
                let time_ms = u128::from(wall_ns / MS + ahead_ms);
                TransferId(time_ms << 80 | stream.bits_128() >> 48)
            }
        }
    }

    /// Two accounts, usually of one ledger, on one shard or on two as the share of cross-shard
    /// transfers wants it (by default placement; moves change that).
    fn pair(&self, stream: &mut Stream) -> (Account, Account) {
        let cross = stream.chance(self.settings.cross_ppm);
        // Money has to come from an account without a limit first.
        let debit = if stream.chance(300_000) {
            self.accounts[stream.index(self.accounts.len().min(2))]
        } else {
            self.some_account(stream)
        };
        let mut credit = self.some_account(stream);
        for _ in 0..20 {
            let differs = self.home(&debit) != self.home(&credit);
            let ledger_fits = debit.ledger == credit.ledger || stream.chance(2_000);
            if credit.id != debit.id && ledger_fits && (differs == cross || self.shards == 1) {
                break;
            }
            credit = self.some_account(stream);
        }
        (debit, credit)
    }

    fn home(&self, account: &Account) -> quorate_protocol::ids::ShardId {
        self.placement.home(account.id, self.shards)
    }

    /// An account, with a taste for those with low numbers.
    pub fn some_account(&self, stream: &mut Stream) -> Account {
        let draws = 1 + stream.below(u64::from(self.settings.skew));
        let index = (0..draws)
            .map(|_| stream.index(self.accounts.len()))
            .min()
            .expect("at least one draw");
        self.accounts[index]
    }
}

/// A transfer of an account that has moved since, and not long ago: whoever gets its id again has to ask
/// the previous owner.
fn of_moved(stream: &mut Stream, history: &History) -> Option<Transfer> {
    let moves = history.moves.iter().rev();
    let moves: Vec<_> = moves
        .filter(|one| one.moved == Some(true))
        .take(MOVES_BACK)
        .collect();
    let is_of_moved = |made: &&TransferUse| {
        let account = made.transfer.debit_account_id;
        moves.iter().any(|one| {
            let sent_before = made.started_ns.is_some() && made.started_ns < one.answered_ns;
            sent_before && one.accounts.contains(&account)
        })
    };
    let latest = history.transfers.iter().rev().take(TRANSFERS_BACK);
    let found: Vec<Transfer> = latest
        .filter(is_of_moved)
        .take(CHOICE_MAX)
        .map(|made| made.transfer)
        .collect();
    (!found.is_empty()).then(|| stream.pick(&found))
}

/// Breaks one field in a way that no ledger takes.
fn malform(transfer: &mut Transfer, stream: &mut Stream) {
    match stream.below(7) {
        0 => transfer.amount = 0,
        1 => transfer.credit_account_id = transfer.debit_account_id,
        2 => transfer.ledger = 0,
        3 => transfer.code = 0,
        4 => transfer.flags = 1,
        5 => transfer.timeout = 1,
        _ => transfer.credit_account_id = AccountId(0),
    }
}
