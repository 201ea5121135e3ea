//! One process: its replicas, each on an executor of its own, and the signals that stop them.
//!
//! Order of a start, so that the clearest fault wins: data directories are locked and identified,
//! ports are bound, limits are raised, executors start and recover. A replica that cannot run is
//! parked: it listens and says why, while the others serve. If none can run the start fails.

use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use nix::sys::signal::{SigSet, Signal};
use quorate_config::{ClusterConfig, Keep, NodeConfig};
use quorate_protocol::ids::{NodeId, ReplicaAddress};

use crate::control::{Command, Controller};
use crate::directory::DataDirectory;
use crate::executor::{self, Setup};
use crate::fatal::Fatal;
use crate::limits::{PREEMPT_TIMER, RING_DEPTH};
use crate::{host, socket};

/// Settings of one run that are not part of the topology.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// Seed of the replicas' election timeouts; drawn (and logged) if `None`.
    pub seed: Option<u64>,
}

/// Runs a node until SIGTERM or SIGINT, or until a fault ends the process.
///
/// SIGUSR1 cuts the node off from all peers (clients still reach it), SIGUSR2 heals that. Call this
/// before the process has other threads: signals are blocked here and threads inherit it.
///
/// # Errors
/// What keeps the node from starting. Faults at run time do not return: they end the process with
/// their exit code.
///
/// # Panics
/// If the configuration has no such node.
pub fn run_node(config: &ClusterConfig, node: NodeId, options: &NodeOptions) -> Result<(), Fatal> {
    let mut signals = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ] {
        signals.add(signal);
    }
    let unusable = |error: nix::Error| Fatal::Resources {
        problem: format!("signals cannot be waited for: {error}"),
    };
    signals.thread_block().map_err(unusable)?;
    let running = RunningNode::start(config, node, options)?;
    loop {
        match signals.wait().map_err(unusable)? {
            Signal::SIGUSR1 => running.isolate(),
            Signal::SIGUSR2 => running.heal(),
            signal => {
                tracing::info!(%signal, "stopping");
                running.stop();
                return Ok(());
            }
        }
    }
}

/// A started node; for processes that bring their own way to stop it.
#[derive(Debug)]
pub struct RunningNode {
    executors: Vec<Executor>,
}

#[derive(Debug)]
struct Executor {
    replica: ReplicaAddress,
    controller: Controller,
    handle: ExecutorJoinHandle<()>,
}

impl RunningNode {
    /// Starts all replicas of the node; returns when all listen.
    ///
    /// # Errors
    /// What keeps the node from starting.
    ///
    /// # Panics
    /// If the configuration has no such node.
    pub fn start(
        config: &ClusterConfig,
        node: NodeId,
        options: &NodeOptions,
    ) -> Result<Self, Fatal> {
        let node = config
            .node(node)
            .expect("the caller names a node of the configuration");
        let replicas = config.replicas_of(node.id);
        let directories = open_directories(config, &replicas)?;
        let mut listeners = Vec::with_capacity(replicas.len());
        for &replica in &replicas {
            listeners.push(socket::listen(config.address_of(replica))?);
        }
        let connections_limit = config.limits.connections_limit;
        host::prepare(replicas.len(), config.share_cores, connections_limit)?;
        let seed = options.seed.unwrap_or_else(drawn_seed);
        tracing::info!(seed, node = node.id.0, "starting");
        if config.keep != Keep::All {
            tracing::warn!("`keep` has no effect yet: without checkpoints every segment is needed");
        }

        let mut executors = Vec::with_capacity(replicas.len());
        let mut reports = Vec::with_capacity(replicas.len());
        let parts = replicas.iter().zip(directories).zip(listeners);
        for ((&replica, directory), listener) in parts {
            let (report, reported) = mpsc::channel();
            let (controller, commands) = control_pair()?;
            let setup = Setup {
                cluster: config.clone(),
                config: config.replica_config(replica, seed ^ address_bits(replica)),
                directory,
                listener,
                commands,
                report,
            };
            let handle = spawn_executor(config, replica, setup)?;
            executors.push(Executor {
                replica,
                controller,
                handle,
            });
            reports.push(reported);
        }
        let running = Self { executors };
        running.wait_until_up(node, reports)
    }

    /// Waits for every executor's own report: glommio shows a failed start only at the join.
    fn wait_until_up(
        mut self,
        node: &NodeConfig,
        reports: Vec<mpsc::Receiver<Result<(), Fatal>>>,
    ) -> Result<Self, Fatal> {
        let mut parked = Vec::new();
        for (position, report) in reports.iter().enumerate() {
            match report.recv() {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => parked.push(fault),
                Err(mpsc::RecvError) => {
                    let failed = self.executors.remove(position);
                    return Err(executor_fault(failed.replica, failed.handle));
                }
            }
        }
        if parked.len() == self.executors.len() {
            self.stop();
            return Err(parked.swap_remove(0));
        }
        tracing::info!(node = node.id.0, address = %node.address, base_port = node.base_port, "ready");
        Ok(self)
    }

    /// Cuts the node off from its peers; clients still reach it.
    pub fn isolate(&self) {
        self.command(Command::Isolate);
    }

    /// Ends [`Self::isolate`].
    pub fn heal(&self) {
        self.command(Command::Heal);
    }

    /// Stops cleanly: answers what is decided, ends the logs, closes the ports.
    pub fn stop(self) {
        for executor in &self.executors {
            executor.controller.send(Command::Stop);
        }
        for executor in self.executors {
            if let Err(error) = executor.handle.join() {
                tracing::error!(replica = %executor.replica, "executor failed: {error}");
            }
        }
        tracing::info!("stopped");
    }

    fn command(&self, command: Command) {
        for executor in &self.executors {
            executor.controller.send(command);
        }
    }
}

/// Locks and identifies the directories. A fault of one is that replica's; if all have one, the
/// first is the node's.
fn open_directories(
    config: &ClusterConfig,
    replicas: &[ReplicaAddress],
) -> Result<Vec<Result<DataDirectory, Fatal>>, Fatal> {
    let mut opened: Vec<Result<DataDirectory, Fatal>> = replicas
        .iter()
        .map(|&replica| {
            let directory = DataDirectory::open(&config.data_dir_of(replica))?;
            directory.identity(config.cluster_id, replica)?;
            Ok(directory)
        })
        .collect();
    if opened.iter().all(Result::is_err)
        && let Some(Err(first)) = opened.drain(..).next()
    {
        return Err(first);
    }
    Ok(opened)
}

fn control_pair() -> Result<(Controller, UnixStream), Fatal> {
    Controller::pair().map_err(|error| Fatal::Resources {
        problem: format!("no socket pair: {error}"),
    })
}

fn spawn_executor(
    config: &ClusterConfig,
    replica: ReplicaAddress,
    setup: Setup,
) -> Result<ExecutorJoinHandle<()>, Fatal> {
    let core = config.core_of(replica);
    LocalExecutorBuilder::new(Placement::Fixed(core))
        .name(&replica.to_string())
        .io_memory(host::io_memory_bytes(config.share_cores))
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
        .spin_before_park(Duration::ZERO)
        .spawn(move || executor::run(setup))
        .map_err(|error| Fatal::Resources {
            problem: format!("replica {replica}: no executor on CPU {core}: {error}"),
        })
}

fn executor_fault(replica: ReplicaAddress, handle: ExecutorJoinHandle<()>) -> Fatal {
    let problem = match handle.join() {
        Ok(()) => format!("replica {replica}: the executor ended before it was up"),
        Err(error) => format!("replica {replica}: the executor did not start: {error}"),
    };
    Fatal::Resources { problem }
}

/// Replicas of one seed must not draw the same election timeouts.
fn address_bits(replica: ReplicaAddress) -> u64 {
    u64::from(replica.shard.0) << 8 | u64::from(replica.replica.0)
}

/// The standard library keys its hash tables from the operating system's generator.
fn drawn_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
