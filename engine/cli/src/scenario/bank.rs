//! The accounts of a set and their money, before its first row.
//!
//! Accounts 1 to 9,000 fill the ranges of all shards but the last, which owns all ids above as well. So only
//! that one has room for a system account, and it funds the accounts of the others across shards. Money and
//! history of an account are the same as if its own shard had one.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use quorate_client::{BlockingClient, ClientOptions};
use quorate_config::ClusterConfig;
use quorate_protocol::ids::AccountId;
use quorate_protocol::ledger::{Account, AccountFlags, CodeKind, ResultCode, Transfer};
use quorate_protocol::limits::BATCH_MAX;

use super::run::ACCOUNTS;
use crate::print::result_name;

/// Ledger of all accounts and transfers of a scenario.
pub const LEDGER: u32 = 1;
/// Code of all accounts and transfers of a scenario.
pub const CODE: u16 = 1;
/// What every account holds at the start.
const FUNDS: u128 = 10;
/// The system account, above every account of a scenario.
const SYSTEM: AccountId = AccountId(1 << 100);
/// For one batch of thousands, two thirds of it across shards.
const BATCH_WITHIN: Duration = Duration::from_secs(30);
/// For all of them.
const ALL_WITHIN: Duration = Duration::from_secs(120);
/// Transfers of one funding request: so many attempts across shards at once are answered in a few seconds.
const FUNDED_AT_ONCE: usize = 2_048;
const _: () = assert!(FUNDED_AT_ONCE <= BATCH_MAX);

/// Creates and funds every account; each ends with exactly [`FUNDS`], whatever was sent twice.
pub fn open(config: &ClusterConfig) -> anyhow::Result<()> {
    let options = ClientOptions {
        deadline: BATCH_WITHIN,
        ..ClientOptions::default()
    };
    let mut client = BlockingClient::connect(config, options);
    let system = [Account::new(SYSTEM, LEDGER, CODE, AccountFlags::SYSTEM)];
    create(&mut client, &system)?;
    let ids: Vec<AccountId> = (1..=ACCOUNTS).map(AccountId).collect();
    let flags = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
    let accounts: Vec<Account> = ids
        .iter()
        .map(|&id| Account::new(id, LEDGER, CODE, flags))
        .collect();
    for batch in accounts.chunks(BATCH_MAX) {
        create(&mut client, batch)?;
    }
    let end = Instant::now() + ALL_WITHIN;
    for part in ids.chunks(FUNDED_AT_ONCE) {
        let transfers = part
            .iter()
            .map(|&id| Transfer::new(client.new_transfer_id(), SYSTEM, id, FUNDS, LEDGER, CODE))
            .collect();
        fund(&mut client, transfers, end)?;
    }
    Ok(())
}

fn create(client: &mut BlockingClient, accounts: &[Account]) -> anyhow::Result<()> {
    let rows = client
        .create_accounts(accounts)
        .context("create accounts")?;
    ensure!(rows.len() == accounts.len(), "one result per account");
    for (account, row) in accounts.iter().zip(&rows) {
        // A batch that was sent again finds its own accounts.
        if !row.result().is_some_and(ResultCode::is_success) {
            bail!("create account {}: {}", account.id, result_name(row));
        }
    }
    Ok(())
}

/// Sends what has no final result again under its id, so that it takes effect once.
fn fund(
    client: &mut BlockingClient,
    mut transfers: Vec<Transfer>,
    end: Instant,
) -> anyhow::Result<()> {
    while !transfers.is_empty() {
        let rows = client
            .create_transfers(&transfers)
            .context("fund accounts")?;
        ensure!(rows.len() == transfers.len(), "one result per transfer");
        let mut open = Vec::new();
        for (transfer, row) in transfers.iter().zip(&rows) {
            let may_retry = Instant::now() < end;
            match row.result() {
                Some(code) if code.is_success() => {}
                Some(code) if code.kind() == CodeKind::Unlogged && may_retry => {
                    open.push(*transfer)
                }
                _ => {
                    let (account, result) = (transfer.credit_account_id, result_name(row));
                    bail!("fund account {account}: {result}");
                }
            }
        }
        transfers = open;
    }
    Ok(())
}
