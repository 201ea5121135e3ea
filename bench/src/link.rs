//! The cluster as the generator reaches it; the only module that talks to one.
//!
//! [`Link`] makes one call at a time, for setting up, planning and checking. [`AsyncLink`] carries
//! the load: every request of its clients runs at once over one connection to each replica.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use glommio::sync::Semaphore;
use quorate_net::Sockets;

use quorate_client::session::OPS_MAX;
use quorate_client::{AsyncClient, BlockingClient, ClientOptions, TransferRecord};
use quorate_config::ClusterConfig;
use quorate_protocol::client::AccountAnswer;
use quorate_protocol::ids::{AccountId, ShardId, TransferId};
use quorate_protocol::ledger::{Account, ResultCode, ResultRow, Transfer};
use quorate_protocol::words::Rows;

use crate::drive::Cluster;
use crate::output::say;
use crate::setup::Bank;
use crate::verify::VerifyReport;

/// How long one call of setting up, planning or auditing may take: longer than a leader change, or
/// the start of a cluster that was killed.
const CALL_LIMIT: Duration = Duration::from_secs(20);

/// Calls one at a time.
#[derive(Debug)]
pub struct Link(BlockingClient);

impl Link {
    /// A client of the cluster; connects when it is used.
    #[must_use]
    pub fn new(config: &ClusterConfig) -> Self {
        let options = ClientOptions {
            deadline: CALL_LIMIT,
            ..ClientOptions::default()
        };
        Self(BlockingClient::connect(config, options))
    }

    /// Checks the money, within `patience`.
    #[must_use]
    pub fn verify(&mut self, patience: Duration) -> VerifyReport {
        match self.0.verify(patience) {
            Ok(report) => report.into(),
            Err(error) => VerifyReport::unavailable(error.to_string()),
        }
    }

    /// The client, to ask the shards what they counted and own.
    pub fn client(&mut self) -> &mut BlockingClient {
        &mut self.0
    }

    /// The client itself, to carry out moves.
    #[must_use]
    pub fn into_client(self) -> BlockingClient {
        self.0
    }

    /// What all shards know of these transfers.
    ///
    /// # Errors
    /// A shard does not answer.
    pub fn lookup_transfers(&mut self, ids: &[TransferId]) -> anyhow::Result<Vec<TransferRecord>> {
        self.0.lookup_transfers(ids).context("looking up transfers")
    }
}

impl Bank for Link {
    fn create_accounts(&mut self, accounts: &[Account]) -> anyhow::Result<Vec<ResultRow>> {
        Ok(self.0.create_accounts(accounts)?)
    }

    fn create_transfers(&mut self, transfers: &[Transfer]) -> anyhow::Result<Vec<ResultRow>> {
        Ok(self.0.create_transfers(transfers)?)
    }

    fn lookup_accounts(&mut self, ids: &[AccountId]) -> anyhow::Result<Vec<AccountAnswer>> {
        Ok(self.0.lookup_accounts(ids)?)
    }

    fn shard_of(&self, account: AccountId) -> ShardId {
        self.0.shard_of(account)
    }

    fn next_id(&mut self) -> TransferId {
        self.0.new_transfer_id()
    }
}

/// Carries the load of many clients; belongs to one glommio executor.
#[derive(Debug)]
pub struct AsyncLink {
    client: AsyncClient,
    shards: u32,
    /// A session refuses more work than this; the generator's clients wait instead.
    room: Semaphore,
    /// An error was told; the same one a million times helps nobody.
    told: Cell<bool>,
}

impl AsyncLink {
    /// A client of the cluster, with connections among the executor's `sockets`; connects when it is used.
    ///
    /// # Panics
    /// Outside a glommio executor.
    #[must_use]
    pub fn new(config: &ClusterConfig, sockets: &Rc<Sockets>) -> Self {
        Self {
            client: AsyncClient::connect(config, ClientOptions::default(), sockets),
            shards: config.shards,
            room: Semaphore::new(u64::try_from(OPS_MAX).expect("limits are small")),
            told: Cell::new(false),
        }
    }

    /// Ends the connections.
    pub async fn close(self) {
        self.client.close().await;
    }
}

impl Cluster for AsyncLink {
    fn shards(&self) -> u32 {
        self.shards
    }

    fn shard_of(&self, account: AccountId) -> ShardId {
        self.client.shard_of(account)
    }

    fn next_id(&self) -> TransferId {
        self.client.new_transfer_id()
    }

    async fn create_transfers(&self, _: ShardId, transfers: Rows<Transfer>) -> Vec<ResultRow> {
        let count = transfers.len();
        let permit = self.room.acquire_permit(1).await;
        let _permit = permit.expect("the semaphore is never closed");
        match self.client.create_transfers(transfers).await {
            Ok(completed) => completed.rows,
            Err(error) => {
                if !self.told.replace(true) {
                    say(format_args!(
                        "error: {error}; its transfers count as unknown"
                    ));
                }
                vec![ResultRow::unlogged(ResultCode::Unknown); count]
            }
        }
    }

    async fn read_accounts(&self, ids: Rows<AccountId>) -> u64 {
        let count = ids.len();
        let permit = self.room.acquire_permit(1).await;
        let _permit = permit.expect("the semaphore is never closed");
        let unknown = match self.client.lookup_accounts(ids).await {
            Ok(answers) => answers.iter().filter(|answer| !is_told(answer)).count(),
            Err(_) => count,
        };
        u64::try_from(unknown).expect("a usize fits a u64")
    }
}

/// Whether the account is known by now, or that there is none.
fn is_told(answer: &AccountAnswer) -> bool {
    match answer {
        AccountAnswer::Found(_) | AccountAnswer::NotFound => true,
        AccountAnswer::Moved(_) | AccountAnswer::Contended => false,
    }
}
