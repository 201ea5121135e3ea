//! Accounts and their money, made before the first measured transfer. Safe to run again.
//!
//! Every shard has one system account, exempt from limits, telemetry and moves, whose home is that
//! shard; it funds the shard's accounts by local transfers. What an account holds decides what it
//! still gets, so a second run on the same cluster, or one after a crash between two requests, does
//! nothing twice.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail, ensure};

use quorate_protocol::client::AccountAnswer;
use quorate_protocol::ids::{AccountId, ShardId, TransferId};
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, ResultRow, Transfer};
use quorate_protocol::limits::{BATCH_MAX, LOOKUP_MAX};
use quorate_protocol::shard::map::Placement;

use crate::workload::Draw;

/// Ledger of all accounts and transfers of the generator.
pub const LEDGER: u32 = 1;
/// Code of all accounts and transfers of the generator.
pub const CODE: u16 = 1;
/// What every account of a synthetic workload holds at the start.
pub const FUNDS: u128 = 1_000_000_000;
/// System accounts are searched upwards from here, far above every account of a workload.
const SYSTEM_FROM: u128 = 1 << 100;
/// Ids that are looked at for one system account. With hash placement each is right with
/// probability 1 / shards, so that at most 90 shards miss with probability below 10^-9.
const SYSTEM_TRIES: u128 = 2_048;

/// What setting up needs of a cluster.
pub trait Bank {
    /// Creates accounts at their homes; one final result each, in order.
    fn create_accounts(&mut self, accounts: &[Account]) -> anyhow::Result<Vec<ResultRow>>;
    /// Final results, in order.
    fn create_transfers(&mut self, transfers: &[Transfer]) -> anyhow::Result<Vec<ResultRow>>;
    /// Where an account is and what it holds, in order.
    fn lookup_accounts(&mut self, ids: &[AccountId]) -> anyhow::Result<Vec<AccountAnswer>>;
    /// Where an account is, as far as the client knows after looking it up.
    fn shard_of(&self, account: AccountId) -> ShardId;
    /// A fresh id.
    fn next_id(&mut self) -> TransferId;
}

/// What accounts of a workload are to hold.
#[derive(Clone, Debug)]
pub enum Funding {
    /// The same for all.
    Even(u128),
    /// What each pays in a recorded list, so that no order of its transfers can overdraw it. Paid
    /// `times` over.
    Outgoing(BTreeMap<AccountId, u128>),
}

impl Funding {
    /// What the accounts pay in `draws`, `times` over.
    #[must_use]
    pub fn outgoing(draws: &[Draw], times: u128) -> Self {
        let mut sums: BTreeMap<AccountId, u128> = BTreeMap::new();
        for draw in draws {
            let sum = sums.entry(draw.debit).or_default();
            *sum = sum.saturating_add(draw.amount.saturating_mul(times));
        }
        Self::Outgoing(sums)
    }

    fn of(&self, account: AccountId) -> u128 {
        match self {
            Self::Even(funds) => *funds,
            Self::Outgoing(sums) => sums.get(&account).copied().unwrap_or(0),
        }
    }
}

/// Creates the accounts `1..=accounts` and the `systems`; returns how many of the former were not there.
///
/// # Errors
/// The cluster does not answer, or an account exists with other properties.
pub fn create_all(
    bank: &mut impl Bank,
    accounts: u32,
    systems: &BTreeMap<ShardId, AccountId>,
) -> anyhow::Result<u64> {
    let distinct: BTreeSet<AccountId> = systems.values().copied().collect();
    create(bank, distinct.into_iter(), AccountFlags::SYSTEM)?;
    let flags = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
    create(bank, ids(accounts), flags)
}

/// Funds what lacks money, wherever it is; returns how many accounts did.
///
/// # Errors
/// The cluster does not answer.
pub fn fund_all(
    bank: &mut impl Bank,
    accounts: u32,
    funding: &Funding,
    systems: &BTreeMap<ShardId, AccountId>,
) -> anyhow::Result<u64> {
    let all: Vec<AccountId> = ids(accounts).collect();
    let mut funded = 0;
    for part in all.chunks(LOOKUP_MAX) {
        funded += fund(bank, part, funding, systems)?;
    }
    Ok(funded)
}

/// The system account of every shard.
///
/// With hash placement each shard finds one above all other ids. With range placement only the last
/// shard owns those; the others take the highest id of their range that no workload uses. A range
/// without such an id is funded by the last shard, across shards.
#[must_use]
pub fn system_accounts(
    accounts: u32,
    placement: Placement,
    shards: u32,
) -> BTreeMap<ShardId, AccountId> {
    let home = |id| placement.home(AccountId(id), shards);
    let above = |shard| {
        let mut ids = SYSTEM_FROM..SYSTEM_FROM + SYSTEM_TRIES;
        ids.find(|&id| home(id) == shard)
    };
    let in_range = |shard: ShardId| match placement {
        Placement::Hash => None,
        Placement::Range { accounts_per_shard } => {
            let top = u128::from(shard.0) * u128::from(accounts_per_shard);
            (top > u128::from(accounts) && home(top) == shard).then_some(top)
        }
    };
    let last = above(ShardId(shards)).unwrap_or(SYSTEM_FROM);
    let find = |shard| above(shard).or_else(|| in_range(shard)).unwrap_or(last);
    (1..=shards)
        .map(ShardId)
        .map(|shard| (shard, AccountId(find(shard))))
        .collect()
}

fn ids(accounts: u32) -> impl Iterator<Item = AccountId> {
    (1..=accounts).map(|id| AccountId(u128::from(id)))
}

/// Creates accounts that are not there; returns how many were new.
fn create(
    bank: &mut impl Bank,
    ids: impl Iterator<Item = AccountId>,
    flags: AccountFlags,
) -> anyhow::Result<u64> {
    let accounts: Vec<Account> = ids
        .map(|id| Account::new(id, LEDGER, CODE, flags))
        .collect();
    let mut created = 0;
    for part in accounts.chunks(BATCH_MAX) {
        let rows = bank.create_accounts(part).context("creating accounts")?;
        ensure!(rows.len() == part.len(), "one result per account");
        for (account, row) in part.iter().zip(&rows) {
            match row.result() {
                Some(ResultCode::Ok) => created += 1,
                Some(ResultCode::Exists) => {}
                Some(code) if is_other(code) => bail!(
                    "account {} exists and is not the generator's ({}): it needs the accounts from 1 \
                     to --accounts for itself; use a fresh cluster, or fewer --accounts than the \
                     lowest other account",
                    account.id,
                    code.name()
                ),
                Some(code) => bail!("creating account {}: {}", account.id, code.name()),
                None => bail!(
                    "creating account {}: unrecognised code {}",
                    account.id,
                    row.code
                ),
            }
        }
    }
    Ok(created)
}

/// Whether the account is there with other properties than were asked for.
fn is_other(code: ResultCode) -> bool {
    matches!(
        code,
        ResultCode::ExistsWithDifferentFlags
            | ResultCode::ExistsWithDifferentUserData
            | ResultCode::ExistsWithDifferentLedger
            | ResultCode::ExistsWithDifferentCode
    )
}

/// Gives each account what it lacks; returns how many lacked something.
fn fund(
    bank: &mut impl Bank,
    accounts: &[AccountId],
    funding: &Funding,
    systems: &BTreeMap<ShardId, AccountId>,
) -> anyhow::Result<u64> {
    let answers = bank.lookup_accounts(accounts).context("reading balances")?;
    ensure!(answers.len() == accounts.len(), "one answer per account");
    let mut transfers = Vec::new();
    for (&id, answer) in accounts.iter().zip(&answers) {
        let account = match answer {
            AccountAnswer::Found(account) => account,
            AccountAnswer::NotFound => bail!("account {id} was created and is not there"),
            AccountAnswer::Moved(_) | AccountAnswer::Contended => {
                bail!("account {id} did not answer in time")
            }
        };
        let holds = account.credits_posted.saturating_sub(account.debits_posted);
        let lacks = funding.of(id).saturating_sub(holds);
        if lacks > 0 {
            let shard = bank.shard_of(id);
            let system = systems
                .get(&shard)
                .context("a shard that the topology lacks")?;
            transfers.push(Transfer::new(
                bank.next_id(),
                *system,
                id,
                lacks,
                LEDGER,
                CODE,
            ));
        }
    }
    let rows = bank
        .create_transfers(&transfers)
        .context("funding accounts")?;
    ensure!(rows.len() == transfers.len(), "one result per transfer");
    for (transfer, row) in transfers.iter().zip(&rows) {
        match row.result() {
            Some(code) if code.is_success() => {}
            Some(code) => bail!(
                "funding account {}: {}",
                transfer.credit_account_id,
                code.name()
            ),
            None => bail!(
                "funding account {}: unrecognised code {}",
                transfer.credit_account_id,
                row.code
            ),
        }
    }
    Ok(u64::try_from(transfers.len()).expect("a vector's length fits"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::time::Timestamp;

    /// A bank in memory that refuses nothing but what setting up must not do.
    #[derive(Default)]
    struct Memory {
        accounts: BTreeMap<AccountId, Account>,
        next: u128,
        transfers: Vec<Transfer>,
    }

    impl Bank for Memory {
        fn create_accounts(&mut self, accounts: &[Account]) -> anyhow::Result<Vec<ResultRow>> {
            let create = |account: &Account| {
                let code = match self.accounts.insert(account.id, *account) {
                    None => ResultCode::Ok,
                    Some(old) => {
                        let same = old.flags == account.flags;
                        self.accounts.insert(account.id, old);
                        if same {
                            ResultCode::Exists
                        } else {
                            ResultCode::ExistsWithDifferentFlags
                        }
                    }
                };
                ResultRow::logged(code, Timestamp(1))
            };
            Ok(accounts.iter().map(create).collect())
        }

        fn create_transfers(&mut self, transfers: &[Transfer]) -> anyhow::Result<Vec<ResultRow>> {
            for transfer in transfers {
                let mut post = |id, debit, credit| {
                    let account: &mut Account = self.accounts.get_mut(&id).unwrap();
                    account.debits_posted += debit;
                    account.credits_posted += credit;
                };
                post(transfer.debit_account_id, transfer.amount, 0);
                post(transfer.credit_account_id, 0, transfer.amount);
                self.transfers.push(*transfer);
            }
            Ok(vec![
                ResultRow::logged(ResultCode::Ok, Timestamp(2));
                transfers.len()
            ])
        }

        fn lookup_accounts(&mut self, ids: &[AccountId]) -> anyhow::Result<Vec<AccountAnswer>> {
            assert!(ids.len() <= LOOKUP_MAX);
            let find = |id| match self.accounts.get(id) {
                Some(account) => AccountAnswer::Found(*account),
                None => AccountAnswer::NotFound,
            };
            Ok(ids.iter().map(find).collect())
        }

        fn shard_of(&self, account: AccountId) -> ShardId {
            Placement::Hash.home(account, 3)
        }

        fn next_id(&mut self) -> TransferId {
            self.next += 1;
            TransferId(self.next)
        }
    }

    #[derive(Debug, Default, PartialEq, Eq)]
    struct Prepared {
        created: u64,
        funded: u64,
    }

    fn prepare(bank: &mut Memory, accounts: u32, funding: &Funding) -> anyhow::Result<Prepared> {
        let systems = system_accounts(accounts, Placement::Hash, 3);
        Ok(Prepared {
            created: create_all(bank, accounts, &systems)?,
            funded: fund_all(bank, accounts, funding, &systems)?,
        })
    }

    #[test]
    fn setting_up_twice_funds_once_and_locally() {
        let mut bank = Memory::default();
        let funding = Funding::Even(FUNDS);
        let first = prepare(&mut bank, 5_000, &funding).unwrap();
        assert_eq!(
            first,
            Prepared {
                created: 5_000,
                funded: 5_000
            }
        );
        let second = prepare(&mut bank, 5_000, &funding).unwrap();
        assert_eq!(second, Prepared::default());
        for transfer in &bank.transfers {
            let home = |id| Placement::Hash.home(id, 3);
            assert_eq!(
                home(transfer.debit_account_id),
                home(transfer.credit_account_id)
            );
        }
        assert_eq!(bank.accounts.len(), 5_003);
    }

    /// A run that died after half of the accounts were funded, and some had paid since.
    #[test]
    fn what_an_account_holds_decides_what_it_gets() {
        let mut bank = Memory::default();
        prepare(&mut bank, 4, &Funding::Even(10)).unwrap();
        let pay = Transfer::new(TransferId(99), AccountId(1), AccountId(2), 7, LEDGER, CODE);
        bank.create_transfers(&[pay]).unwrap();
        let again = prepare(&mut bank, 4, &Funding::Even(10)).unwrap();
        assert_eq!(
            again,
            Prepared {
                created: 0,
                funded: 1
            }
        );
        let last = bank.transfers.last().unwrap();
        assert_eq!((last.credit_account_id, last.amount), (AccountId(1), 7));
    }

    #[test]
    fn a_replay_funds_what_each_account_pays() {
        let draw = |debit, credit, amount| Draw {
            debit: AccountId(debit),
            credit: AccountId(credit),
            amount,
        };
        let draws = [draw(1, 2, 5), draw(1, 3, 6), draw(2, 3, 1)];
        let funding = Funding::outgoing(&draws, 2);
        let funds: Vec<u128> = (1..=3).map(|id| funding.of(AccountId(id))).collect();
        assert_eq!(funds, [22, 2, 0]);
    }

    #[test]
    fn an_account_with_other_properties_is_an_error_not_a_surprise() {
        let mut bank = Memory::default();
        let free = Account::new(AccountId(3), LEDGER, CODE, AccountFlags::default());
        bank.create_accounts(&[free]).unwrap();
        let error = prepare(&mut bank, 4, &Funding::Even(1)).unwrap_err();
        let text = format!("{error:#}");
        for part in [
            "account 3 exists",
            "exists_with_different_flags",
            "a fresh cluster",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn system_accounts_are_at_home_on_their_shards_and_nobody_elses() {
        for shards in [1, 3, 16, 90] {
            for (shard, id) in system_accounts(9_000, Placement::Hash, shards) {
                assert_eq!(Placement::Hash.home(id, shards), shard);
                assert!(id.0 >= SYSTEM_FROM);
            }
        }
        let range = Placement::Range {
            accounts_per_shard: 4_000,
        };
        let systems = system_accounts(9_000, range, 3);
        assert_eq!(systems[&ShardId(3)], AccountId(SYSTEM_FROM));
        // Ids 1..=4000 and 4001..=8000 all take part: the last shard pays for everybody.
        assert_eq!(systems[&ShardId(1)], AccountId(SYSTEM_FROM));
        let systems = system_accounts(5_000, range, 3);
        assert_eq!(systems[&ShardId(2)], AccountId(8_000));
    }
}
