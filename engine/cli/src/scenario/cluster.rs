//! The processes of one set: one replica each, in a directory of their own, ended with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use quorate_config::{ClusterConfig, NodeConfig};
use quorate_protocol::client::{Role, Status};
use quorate_protocol::ids::{NodeId, ShardId};
use rustix::process::Signal;

use super::run::Shape;
use crate::cluster::init::{InitArgs, PlacementName, generate};
use crate::cluster::start::{Started, start};
use crate::cluster::stop::end;
use crate::failure::Failure;
use crate::local::{Guarded, interruption, reap};
use crate::node_process::{POLL, StartOptions, running};
use crate::ports::free_base_port;
use crate::status::{ClusterView, ReplicaView, collect};

/// How long nodes may take to start, and shards to find a leader: nine processes on two cores share them.
const UP_WITHIN: Duration = Duration::from_secs(60);
/// A killed process is gone when the kernel has closed its files.
const KILL_WITHIN: Duration = Duration::from_secs(30);
/// Small segments: nine nodes write two each before they begin.
const SEGMENT_BYTES: u64 = 8 << 20;
/// The log between two checkpoints is longer than the log of a set, so that what a replica has applied can be told from
/// its log alone. The first one may come after a quarter of this.
const CHECKPOINT_BYTES: u64 = 256 << 20;
/// Beside that for each row: two entries in each of four quarters, a block each.
const CHECKPOINT_BYTES_PER_ROW: u64 = 32 << 10;
/// All accounts of a scenario, and many more.
const CACHED_ACCOUNTS: usize = 1 << 16;

/// Writes the topology of a set's cluster, and reads it back as its nodes will.
pub fn prepare(
    directory: &Path,
    shape: &Shape,
    rows: usize,
) -> Result<(ClusterConfig, PathBuf), Failure> {
    let nodes = u16::try_from(shape.nodes()).context("more nodes than ports")?;
    let ports_each = u16::try_from(shape.shards).context("more shards than ports")?;
    let init = InitArgs {
        shards: shape.shards,
        replicas: shape.replicas,
        nodes: shape.nodes(),
        dir: directory.join("nodes"),
        base_port: free_base_port(
            nodes,
            ports_each,
            std::process::id().to_le_bytes()[0].into(),
        )?,
        placement: PlacementName::Range,
        accounts_per_shard: Some(shape.accounts_per_shard()),
        addresses: Vec::new(),
        key_file: None,
        host_cores: None,
    };
    let mut config = generate(&init)?;
    let rows = u64::try_from(rows).context("more rows than a file has")?;
    config.segment_bytes = SEGMENT_BYTES;
    config.checkpoint_bytes = CHECKPOINT_BYTES + rows * CHECKPOINT_BYTES_PER_ROW;
    config.cached_accounts = CACHED_ACCOUNTS;
    let file = directory.join("cluster.toml");
    fs::write(&file, config.to_toml()).with_context(|| file.display().to_string())?;
    Ok((ClusterConfig::load(&file)?, file))
}

/// The processes. They end when it goes out of scope.
#[derive(Debug)]
pub struct Processes<'a> {
    config: &'a ClusterConfig,
    file: &'a Path,
    options: StartOptions,
    interrupted: &'a AtomicBool,
    guard: Guarded<'a>,
}

impl<'a> Processes<'a> {
    /// Starts every node, and waits until every shard serves and every replica answers.
    pub fn start(
        config: &'a ClusterConfig,
        file: &'a Path,
        options: StartOptions,
        interrupted: &'a AtomicBool,
    ) -> Result<Self, Failure> {
        let processes = Self {
            config,
            file,
            options,
            interrupted,
            guard: Guarded::new(config),
        };
        let nodes: Vec<&NodeConfig> = config.nodes().collect();
        let ids: Vec<u32> = nodes.iter().map(|node| node.id.0).collect();
        let mut started = start(file, &nodes, options)?;
        let up = processes.wait(UP_WITHIN, &mut started, |view| view.missing(&ids));
        reap(started.into_iter().map(|node| node.child));
        up?;
        Ok(processes)
    }

    /// SIGKILL. A node that does not run stays as it is.
    pub fn fail(&self, node: NodeId) -> Result<(), Failure> {
        let nodes: Vec<&NodeConfig> = self.config.node(node).into_iter().collect();
        end(self.config, &nodes, Signal::KILL, KILL_WITHIN).map(|_| ())
    }

    /// Starts the node on what is on its disk, and waits until its replica answers. A node that runs stays as it is.
    pub fn recover(&self, node: NodeId) -> Result<(), Failure> {
        let nodes: Vec<&NodeConfig> = self.config.node(node).into_iter().collect();
        let mut started = start(self.file, &nodes, self.options)?;
        let up = match started.is_empty() {
            true => Ok(()),
            false => self
                .wait(UP_WITHIN, &mut started, |view| silent(view, node))
                .map(|_| ()),
        };
        reap(started.into_iter().map(|node| node.child));
        up
    }

    /// Waits until the shards that have a quorum of running nodes have a leader that serves.
    pub fn wait_for_leaders(&self) -> Result<ClusterView, Failure> {
        let able = self.shards_with_quorum();
        let missing = |view: &ClusterView| {
            let shards = view.shards_without_leader().into_iter();
            let shards = shards.filter(|&shard| able.contains(&ShardId(shard)));
            shards
                .map(|shard| format!("shard {shard} has no leader that serves"))
                .collect()
        };
        self.wait(UP_WITHIN, &mut [], missing)
    }

    /// Waits until the running replicas of every shard that has a quorum have applied what its leader knows as chosen, and,
    /// if all shards have one, nothing is in doubt. Gives the last look in any case: a shard may be too busy with itself.
    pub fn settle(&self, within: Duration) -> Result<ClusterView, Failure> {
        let able = self.shards_with_quorum();
        let is_whole = self.has_all_quorums();
        let alive = self.alive();
        let end = Instant::now() + within;
        loop {
            let view = self.look()?;
            if unsettled(&view, &able, &alive, is_whole).is_empty() || Instant::now() >= end {
                return Ok(view);
            }
            thread::sleep(POLL);
        }
    }

    /// Ends them in order.
    pub fn stop(&self) -> Result<(), Failure> {
        self.guard.stop()
    }

    /// Nodes whose processes run.
    #[must_use]
    pub fn alive(&self) -> Vec<u32> {
        let nodes = self.config.nodes().filter(|node| running(node).is_some());
        nodes.map(|node| node.id.0).collect()
    }

    /// Whether each shard has a quorum of running nodes.
    #[must_use]
    pub fn has_all_quorums(&self) -> bool {
        self.shards_with_quorum().len() == self.config.shard_ids().count()
    }

    fn shards_with_quorum(&self) -> Vec<ShardId> {
        let alive = self.alive();
        let majority = usize::from(self.config.replicas / 2 + 1);
        let has_quorum = |shard: &ShardId| {
            let members = self.config.members_of(*shard);
            let up = members.filter(|member| alive.contains(&self.config.node_of(*member).id.0));
            up.count() >= majority
        };
        self.config.shard_ids().filter(has_quorum).collect()
    }

    fn look(&self) -> Result<ClusterView, Failure> {
        match self.interrupted.load(Ordering::Relaxed) {
            true => Err(interruption()),
            false => Ok(collect(self.config)),
        }
    }

    /// Looks until nothing is missing. Fails if one of the nodes just started ends.
    fn wait(
        &self,
        within: Duration,
        started: &mut [Started],
        missing: impl Fn(&ClusterView) -> Vec<String>,
    ) -> Result<ClusterView, Failure> {
        let end = Instant::now() + within;
        loop {
            for node in started.iter_mut() {
                node.assert_runs(self.config)?;
            }
            let view = self.look()?;
            let missing = missing(&view);
            if missing.is_empty() {
                return Ok(view);
            }
            if Instant::now() >= end {
                let within = humantime::format_duration(within);
                let missing = missing.join(", ");
                return Err(anyhow!("after {within}: {missing}\n{}", view.replicas_table()).into());
            }
            thread::sleep(POLL);
        }
    }
}

fn silent(view: &ClusterView, node: NodeId) -> Vec<String> {
    let own = view.replicas.iter().filter(|row| row.node == node.0);
    let silent = own.filter(|row| row.status.is_none());
    silent
        .map(|row| format!("{} of node {node} does not answer", row.address))
        .collect()
}

/// Replicas that are not yet where their leader is, and those with something in doubt.
fn unsettled(view: &ClusterView, able: &[ShardId], alive: &[u32], is_whole: bool) -> Vec<String> {
    let leads = |status: &&Status| status.role == Role::Leader && status.serving;
    let chosen = |shard: ShardId| {
        let members = view
            .replicas
            .iter()
            .filter(|row| row.address.shard == shard);
        let leader = members.filter_map(|row| row.status.as_ref()).find(leads);
        leader.map(|leader| leader.chosen_upto)
    };
    let is_settled = |row: &ReplicaView| {
        let Some((status, chosen)) = row.status.as_ref().zip(chosen(row.address.shard)) else {
            return false;
        };
        status.applied_upto == chosen && (status.in_doubt == 0 || !is_whole)
    };
    let concerned =
        |row: &&ReplicaView| able.contains(&row.address.shard) && alive.contains(&row.node);
    let rows = view.replicas.iter().filter(concerned);
    rows.filter(|row| !is_settled(row))
        .map(|row| row.address.to_string())
        .collect()
}
