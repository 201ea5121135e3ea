//! One PostgreSQL instance as its operator sees it: its settings, its accounts, its sums.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use postgres::{Client, NoTls};

use crate::durability::require_same_disk;
use crate::money::{Posted, Sums};

const SCHEMA: &str = include_str!("schema.sql");
/// Without these a crash loses acknowledged transfers.
const MUST_BE_ON: [&str; 3] = ["fsync", "synchronous_commit", "full_page_writes"];
/// What else decides a figure, and is kept with it.
const TOLD: [&str; 6] = [
    "wal_sync_method",
    "wal_level",
    "shared_buffers",
    "max_wal_size",
    "commit_delay",
    "max_prepared_transactions",
];
/// A server takes this long at most to notice that clients are gone.
const ALONE_WITHIN: Duration = Duration::from_secs(10);
const ALONE_POLL: Duration = Duration::from_millis(10);

/// A connection that prepares and checks; it carries out no transfers.
pub struct Instance {
    client: Client,
}

impl Instance {
    /// Connects.
    ///
    /// # Errors
    /// Nothing answers there.
    pub fn connect(parameters: &str) -> anyhow::Result<Self> {
        let client = Client::connect(parameters, NoTls)
            .with_context(|| format!("connect to PostgreSQL at {parameters}"))?;
        Ok(Self { client })
    }

    /// Requires settings under which a commit survives a crash, and the log on the disk of
    /// `scratch`. Returns the settings that matter, by name.
    ///
    /// # Errors
    /// A setting is off, or the log is elsewhere.
    pub fn require_durable(&mut self, scratch: &Path) -> anyhow::Result<Vec<(String, String)>> {
        let mut settings = Vec::new();
        for name in MUST_BE_ON {
            let value = self.setting(name)?;
            ensure!(
                value == "on",
                "PostgreSQL's {name} is {value}, not on: nothing is durable"
            );
            settings.push((name.to_owned(), value));
        }
        for name in TOLD {
            settings.push((name.to_owned(), self.setting(name)?));
        }
        let directory = self.setting("data_directory")?;
        require_same_disk(&Path::new(&directory).join("pg_wal"), scratch)?;
        Ok(settings)
    }

    /// Requires room for a prepared transaction of every client.
    ///
    /// # Errors
    /// There is less.
    pub fn require_prepared_max(&mut self, clients: u32) -> anyhow::Result<()> {
        let value = self.setting("max_prepared_transactions")?;
        let room: u32 = value.parse().context("max_prepared_transactions")?;
        ensure!(
            room >= clients,
            "max_prepared_transactions is {room}, {clients} clients need {clients}"
        );
        Ok(())
    }

    /// Replaces the tables; every account gets `funds`.
    ///
    /// # Errors
    /// The server fails.
    pub fn fill(&mut self, accounts: &[i64], funds: i64) -> anyhow::Result<()> {
        self.client
            .batch_execute(SCHEMA)
            .context("create the tables")?;
        self.client
            .execute(
                "INSERT INTO accounts SELECT id, 0, $1 FROM unnest($2::bigint[]) AS id",
                &[&funds, &accounts],
            )
            .context("fund the accounts")?;
        // The run shall neither write what filling left nor work without statistics. Two messages:
        // VACUUM refuses to share one with another statement.
        self.client
            .batch_execute("VACUUM ANALYZE accounts")
            .context("vacuum the accounts")?;
        self.client
            .batch_execute("CHECKPOINT")
            .context("write a checkpoint")
    }

    /// How often the log was synced since the server's statistics began.
    ///
    /// # Errors
    /// The server fails.
    pub fn syncs(&mut self) -> anyhow::Result<u64> {
        let row = self
            .client
            .query_one("SELECT wal_sync FROM pg_stat_wal", &[]);
        let syncs: i64 = row.context("count syncs of the log")?.get(0);
        Ok(syncs.unsigned_abs())
    }

    /// Waits until no other client is connected: a backend adds its counts when it ends.
    ///
    /// # Errors
    /// Others stay.
    pub fn wait_until_alone(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let row = self.client.query_one(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'",
                &[],
            );
            let clients: i64 = row.context("count the clients")?.get(0);
            if clients == 1 {
                return Ok(());
            }
            if begun.elapsed() > ALONE_WITHIN {
                bail!("{} clients are still connected", clients - 1);
            }
            thread::sleep(ALONE_POLL);
        }
    }

    /// Adds what this instance holds.
    ///
    /// # Errors
    /// The server fails.
    pub fn add_sums(&mut self, sums: &mut Sums) -> anyhow::Result<()> {
        let row = self.client.query_one(
            "SELECT count(*), coalesce(sum(credits_posted), 0)::bigint, \
             coalesce(sum(debits_posted), 0)::bigint, \
             count(*) FILTER (WHERE debits_posted > credits_posted) FROM accounts",
            &[],
        );
        let row = row.context("sum the accounts")?;
        let (credits, debits): (i64, i64) = (row.get(1), row.get(2));
        sums.accounts += row.get::<_, i64>(0).unsigned_abs();
        sums.balances += i128::from(credits) - i128::from(debits);
        sums.negative += row.get::<_, i64>(3).unsigned_abs();
        let row = self.client.query_one(
            "SELECT count(*), coalesce(sum(amount), 0)::bigint, \
             (SELECT count(*) FROM decisions), (SELECT count(*) FROM pg_prepared_xacts) \
             FROM transfers",
            &[],
        );
        let row = row.context("sum the transfers")?;
        sums.transfers += row.get::<_, i64>(0).unsigned_abs();
        let posted = sums.posted.get_or_insert_with(Posted::default);
        posted.debits += i128::from(debits);
        posted.amounts += i128::from(row.get::<_, i64>(1));
        *sums.decisions.get_or_insert(0) += row.get::<_, i64>(2).unsigned_abs();
        sums.in_doubt += row.get::<_, i64>(3).unsigned_abs();
        Ok(())
    }

    /// The server's name and version.
    ///
    /// # Errors
    /// The server fails.
    pub fn version(&mut self) -> anyhow::Result<String> {
        let version = self.setting("server_version")?;
        let number = version.split_whitespace().next().unwrap_or_default();
        Ok(format!("PostgreSQL {number}"))
    }

    fn setting(&mut self, name: &str) -> anyhow::Result<String> {
        let row = self
            .client
            .query_one("SELECT current_setting($1)", &[&name]);
        Ok(row
            .with_context(|| format!("read the setting {name}"))?
            .get(0))
    }
}
