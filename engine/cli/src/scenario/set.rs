//! One set from its fresh cluster to what it came to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use quorate_client::verify::VerifyReport;
use quorate_client::{BlockingClient, ClientOptions};
use quorate_config::scenario::{Row, Set, Step};
use quorate_config::{ClusterConfig, NodeConfig};
use quorate_protocol::client::{Role, Status};
use quorate_protocol::ids::{AccountId, Ballot, NodeId, ReplicaAddress, ShardId};

use super::cluster::{Processes, prepare};
use super::crew::{Crew, Reply};
use super::disk::{AppliedState, read};
use super::figures::Figures;
use super::log::{self, Leadership, ReplicaLog, SlotRow};
use super::phases::{Phase, live_at_end, phases};
use super::reshard::{self, SetPlan};
use super::run::Shape;
use super::{bank, crew};
use crate::failure::Failure;
use crate::node_process::{StartOptions, log_end};
use crate::status::ClusterView;

/// How long replicas may take to apply what their leaders have chosen. Behind it they are shown as they are.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);
/// As `quorate verify` has it.
const VERIFY_WITHIN: Duration = Duration::from_secs(30);
/// Lines of a node's log that are shown when it has ended by itself.
const LOG_LINES: usize = 15;

/// How sets are run.
#[derive(Clone, Copy, Debug)]
pub struct SetOptions<'a> {
    pub shape: Shape,
    /// Of each row.
    pub deadline: Duration,
    pub start: StartOptions,
    pub interrupted: &'a AtomicBool,
}

/// What became of a set.
#[derive(Debug)]
pub struct SetOutcome {
    pub number: u32,
    pub live: BTreeSet<NodeId>,
    /// In the order of the file.
    pub replies: Vec<Reply>,
    /// Replicas whose processes ran to the end, and what they had applied.
    pub states: Vec<ReplicaState>,
    pub slots: Vec<SlotRow>,
    /// Who led when the first row was run.
    pub first_leaders: Vec<Leader>,
    /// Who led afterwards, in the order of ballots.
    pub leader_changes: Vec<Leader>,
    pub figures: Figures,
    pub plan: SetPlan,
    pub check: Check,
}

/// One replica at the end of the set.
#[derive(Debug)]
pub struct ReplicaState {
    pub node: NodeId,
    pub shard: ShardId,
    pub state: AppliedState,
}

/// A replica that led, by its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    pub shard: ShardId,
    pub ballot: Ballot,
    pub node: NodeId,
}

/// The check of the money when the set was over.
#[derive(Debug)]
pub enum Check {
    /// A shard had no quorum, so nobody could say what it holds.
    NoQuorum,
    /// No answer in time, although every shard had a quorum.
    NoAnswer(String),
    Report(VerifyReport),
}

/// Runs a set in a directory of its own. Its processes have ended when this returns, however it does.
pub fn run(set: &Set, directory: &Path, options: &SetOptions<'_>) -> Result<SetOutcome, Failure> {
    let (config, file) = prepare(directory, &options.shape, set.rows.len())?;
    let processes = Processes::start(&config, &file, options.start, options.interrupted)?;
    bank::open(&config)?;
    let funded = processes.settle(SETTLE_WITHIN)?;
    let first = leaders_of(&funded);
    for node in config.nodes().filter(|node| !set.live.contains(&node.id)) {
        processes.fail(node.id)?;
    }
    processes.wait_for_leaders()?;
    let (replies, busy) = run_rows(set, &config, &processes, options)?;
    processes.settle(SETTLE_WITHIN)?;
    let check = verify(&config, &processes);
    let end = processes.settle(SETTLE_WITHIN)?;
    let alive = processes.alive();
    assert_alive(&config, &live_at_end(set), &alive)?;
    processes.stop()?;

    let touched = touched(&set.rows);
    let (states, mut logs) = read_disks(&config, &end, &alive, &touched)?;
    log::cut_at_end(&mut logs, &ballots_of(&end));
    let lines: BTreeMap<u128, u64> = replies
        .iter()
        .filter_map(|reply| Some((reply.id?.0, reply.row.line)))
        .collect();
    let by_node = |led: &Leadership| Leader::of(&config, led);
    let is_later = |led: &&Leadership| {
        first
            .get(&led.shard)
            .is_none_or(|&first| led.ballot > first)
    };
    let led = log::leaderships(&logs);
    let first_leaders = first
        .iter()
        .map(|(&shard, &ballot)| by_node(&Leadership { shard, ballot }));
    let plan = reshard::plan(&replies, &owners(&config), config.shards);
    Ok(SetOutcome {
        number: set.number,
        live: set.live.clone(),
        states,
        slots: log::slots(&logs, &lines),
        first_leaders: first_leaders.collect(),
        leader_changes: led.iter().filter(is_later).map(by_node).collect(),
        figures: Figures::of(&replies, busy),
        plan: plan.map_err(anyhow::Error::from)?,
        check,
        replies,
    })
}

/// The replies, and for how long rows were under way.
fn run_rows(
    set: &Set,
    config: &ClusterConfig,
    processes: &Processes<'_>,
    options: &SetOptions<'_>,
) -> Result<(Vec<Reply>, Duration), Failure> {
    let mut crew = Crew::new(
        config,
        options.deadline,
        set.rows.len(),
        options.interrupted,
    );
    let (mut replies, mut busy) = (Vec::new(), Duration::ZERO);
    for phase in phases(&set.rows) {
        match phase {
            Phase::Together(rows) => {
                let begun = Instant::now();
                replies.extend(crew.run(rows)?);
                busy += begun.elapsed();
            }
            Phase::Fail(node) => processes.fail(node)?,
            Phase::Recover(node) => processes.recover(node)?,
        }
    }
    Ok((replies, busy))
}

fn verify(config: &ClusterConfig, processes: &Processes<'_>) -> Check {
    if !processes.has_all_quorums() {
        return Check::NoQuorum;
    }
    let mut client = BlockingClient::connect(config, ClientOptions::default());
    match client.verify(VERIFY_WITHIN) {
        Ok(report) => Check::Report(report),
        Err(error) => Check::NoAnswer(error.to_string()),
    }
}

/// A process that ended by itself is no failure that the set asked for.
fn assert_alive(
    config: &ClusterConfig,
    wanted: &BTreeSet<NodeId>,
    alive: &[u32],
) -> Result<(), Failure> {
    let gone = |node: &&NodeConfig| wanted.contains(&node.id) && !alive.contains(&node.id.0);
    match config.nodes().find(gone) {
        None => Ok(()),
        Some(node) => Err(Failure::Other(anyhow!(
            "node {} ended by itself, its log ends with:\n{}",
            node.id,
            log_end(node, 0, LOG_LINES).join("\n")
        ))),
    }
}

/// What the replicas that ran had applied, and all logs.
fn read_disks(
    config: &ClusterConfig,
    end: &ClusterView,
    alive: &[u32],
    touched: &BTreeSet<AccountId>,
) -> Result<(Vec<ReplicaState>, Vec<ReplicaLog>), Failure> {
    let (mut states, mut logs) = (Vec::new(), Vec::new());
    for replica in config.all_replicas() {
        let node = config.node_of(replica).id;
        let status = status_of(end, replica).filter(|_| alive.contains(&node.0));
        let applied_upto = status.map(|status| status.applied_upto);
        let files = read(config, replica, applied_upto, touched)?;
        let shard = replica.shard;
        states.extend(files.state.map(|state| ReplicaState { node, shard, state }));
        logs.push(ReplicaLog {
            shard,
            node,
            applied_upto,
            chosen_upto: status.map_or(files.chosen_upto, |status| status.chosen_upto),
            slots: files.slots,
        });
    }
    Ok((states, logs))
}

fn status_of(view: &ClusterView, replica: ReplicaAddress) -> Option<&Status> {
    let row = view.replicas.iter().find(|row| row.address == replica);
    row?.status.as_ref()
}

/// The ballot under which each shard is led.
fn leaders_of(view: &ClusterView) -> BTreeMap<ShardId, Ballot> {
    let statuses = view.replicas.iter().filter_map(|row| row.status.as_ref());
    let leaders = statuses.filter(|status| status.role == Role::Leader && status.serving);
    leaders
        .map(|status| (status.shard, status.ballot))
        .collect()
}

/// The highest ballot that a running replica of each shard knew.
fn ballots_of(view: &ClusterView) -> BTreeMap<ShardId, Ballot> {
    let mut ballots: BTreeMap<ShardId, Ballot> = BTreeMap::new();
    for status in view.replicas.iter().filter_map(|row| row.status.as_ref()) {
        let ballot = ballots.entry(status.shard).or_default();
        *ballot = status.ballot.max(*ballot);
    }
    ballots
}

/// Accounts that the rows name.
fn touched(rows: &[Row]) -> BTreeSet<AccountId> {
    let named = |row: &Row| match row.step {
        Step::Transfer { debit, credit, .. } => vec![debit, credit],
        Step::Balance { account } => vec![account],
        Step::Fail { .. } | Step::Recover { .. } => Vec::new(),
    };
    rows.iter().flat_map(named).collect()
}

/// Nothing moves in a set: every account is at its home.
fn owners(config: &ClusterConfig) -> BTreeMap<AccountId, ShardId> {
    let home = |id| config.placement.home(AccountId(id), config.shards);
    (1..=super::run::ACCOUNTS)
        .map(|id| (AccountId(id), home(id)))
        .collect()
}

impl Leader {
    fn of(config: &ClusterConfig, led: &Leadership) -> Self {
        let replica = ReplicaAddress {
            shard: led.shard,
            replica: led.ballot.replica(),
        };
        Self {
            shard: led.shard,
            ballot: led.ballot,
            node: config.node_of(replica).id,
        }
    }
}

impl SetOutcome {
    /// Balances of the touched accounts by node, as each replica that ran to the end had them.
    #[must_use]
    pub fn balances(&self) -> BTreeMap<AccountId, BTreeMap<NodeId, String>> {
        let mut balances: BTreeMap<AccountId, BTreeMap<NodeId, String>> = BTreeMap::new();
        for replica in &self.states {
            for (&id, account) in &replica.state.accounts {
                let of_account = balances.entry(id).or_default();
                of_account.insert(replica.node, crew::balance(account));
            }
        }
        balances
    }
}

impl Check {
    /// What is wrong, if the set ended with a check that failed.
    pub fn verdict(&self, set: u32) -> Result<(), Failure> {
        match self {
            Self::Report(report) if !report.ok => Err(Failure::CheckFailed(format!(
                "set {set}: verify: {}",
                report.problems.join("; ")
            ))),
            Self::NoAnswer(reason) => Err(Failure::Other(anyhow!(
                "set {set}: every shard has a quorum, and yet it could not be checked: {reason}"
            ))),
            Self::Report(_) | Self::NoQuorum => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::time::Timestamp;

    fn report(problems: &[&str]) -> Check {
        Check::Report(VerifyReport {
            ok: problems.is_empty(),
            at: Timestamp(1),
            ledgers: Vec::new(),
            in_doubt: 0,
            digests_equal: true,
            owners_unique: true,
            accounts: 9_001,
            transfers: 9_000,
            problems: problems.iter().map(|&problem| problem.to_owned()).collect(),
            unchecked: Vec::new(),
        })
    }

    #[test]
    fn only_a_check_that_found_something_is_a_failed_check() {
        assert!(report(&[]).verdict(1).is_ok());
        assert!(Check::NoQuorum.verdict(1).is_ok());
        let failed = report(&["money is missing"]).verdict(7).unwrap_err();
        assert_eq!(failed.code(), 4);
        assert_eq!(failed.to_string(), "set 7: verify: money is missing");
        let silent = Check::NoAnswer("no answer in time".to_owned());
        assert_eq!(silent.verdict(7).unwrap_err().code(), 1);
    }
}
