//! One process: its replicas, each on an executor of its own, and the signals that stop them.
//!
//! Order of a start, so that the clearest fault wins: the node's directory is locked, those of its
//! replicas are locked and identified, ports are bound, limits are raised, executors start and
//! recover. A replica that cannot run is parked: it listens and says why, while the others serve. If
//! none can run the start fails. So it does if another process runs on any of the directories.

use std::convert::Infallible;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use nix::sys::signal::{SigSet, Signal};
use quorate_config::{ClusterConfig, NodeConfig};
use quorate_net::PREEMPT_TIMER;
use quorate_protocol::ids::{NodeId, ReplicaAddress};

use crate::acceptor::{Acceptor, Bell};
use crate::control::{Command, Controller};
use crate::directory::{DataDirectory, NodeLock};
use crate::executor;
use crate::fatal::Fatal;
use crate::limits::{RING_DEPTH, STOP_LIMIT};
use crate::manager::Manager;
use crate::metrics::{Page, Published};
use crate::pair_counter::{Answers, PairCounter};
use crate::roster::Roster;
use crate::setup::{Entrances, Setup, Watch};
use crate::{host, listen};

/// Settings of one run that are not part of the topology.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// Seed of the replicas' election timeouts; drawn (and logged) if `None`.
    pub seed: Option<u64>,
    /// Replicas of the node whose disks are lost begin empty, as non-voters, and learn from their groups.
    pub recover: bool,
}

/// Runs a node until SIGTERM or SIGINT, or until a fault ends the process.
///
/// SIGUSR1 cuts the node off from all peers (clients still reach it), SIGUSR2 heals that. Call this
/// before the process has other threads: signals are blocked here and threads inherit it.
///
/// SIGTERM and SIGINT end the process within a bound in any state: at once before all replicas are up,
/// and with an error if a replica does not end in time.
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
    let is_up = Arc::new(AtomicBool::new(false));
    let (sender, received) = mpsc::channel();
    let seen_up = Arc::clone(&is_up);
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || wait_for_signals(&signals, &seen_up, &sender))
        .map_err(|error| Fatal::Resources {
            problem: format!("no thread for signals: {error}"),
        })?;
    let running = RunningNode::start(config, node, options)?;
    is_up.store(true, Ordering::Release);
    let manager = Manager::find();
    manager.tell_ready();
    loop {
        match received.recv_timeout(manager.interval()) {
            Err(RecvTimeoutError::Timeout) => manager.tell_alive(&running.page),
            Ok(Ok(Signal::SIGUSR1)) => running.isolate(),
            Ok(Ok(Signal::SIGUSR2)) => running.heal(),
            Ok(Ok(signal)) => {
                tracing::info!(%signal, "stopping");
                manager.tell_stopping();
                return running.stop();
            }
            Ok(Err(error)) => return Err(unusable(error)),
            Err(RecvTimeoutError::Disconnected) => return Err(unusable(nix::Error::ESRCH)),
        }
    }
}

/// Passes signals on; ends the process itself if it is told to stop while the node starts. That loses
/// nothing: a start, like everything else, may be cut off by a crash at any point.
fn wait_for_signals(
    signals: &SigSet,
    is_up: &AtomicBool,
    sender: &mpsc::Sender<Result<Signal, nix::Error>>,
) {
    loop {
        let signal = signals.wait();
        if matches!(signal, Ok(Signal::SIGTERM | Signal::SIGINT)) && !is_up.load(Ordering::Acquire)
        {
            tracing::info!("stopping before all replicas are up");
            process::exit(0);
        }
        let is_last = signal.is_err();
        if sender.send(signal).is_err() || is_last {
            return;
        }
    }
}

/// A started node; for processes that bring their own way to stop it.
#[derive(Debug)]
pub struct RunningNode {
    executors: Vec<Executor>,
    page: Page,
    /// Let go of when all executors have ended.
    lock: NodeLock,
}

#[derive(Debug)]
struct Executor {
    replica: ReplicaAddress,
    controller: Controller,
    handle: ExecutorJoinHandle<()>,
    /// Its sender is dropped when the replica has ended: the handle cannot be waited for with a bound.
    ended: mpsc::Receiver<Infallible>,
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
        let lock = NodeLock::take(&node.data_dir)?;
        let roster = Roster::read(&node.data_dir, config, &replicas)?;
        let recover = options.recover;
        let directories = open_directories(config, &node.data_dir, &replicas, &roster, recover)?;
        let mut listeners = Vec::with_capacity(replicas.len());
        for &replica in &replicas {
            listeners.push(listen::listen(config.address_of(replica))?);
        }
        let published: Vec<Arc<Published>> = (replicas.iter())
            .map(|&replica| Arc::new(Published::new(replica)))
            .collect();
        let page = Page::new(node.id, published.iter().cloned());
        // One executor answers for all.
        let mut watch = Some(open_watch(config, node.id, page.clone())?);
        let connections_limit = config.limits.connections_limit;
        host::prepare(replicas.len(), config.share_cores, connections_limit)?;
        let seed = options.seed.unwrap_or_else(drawn_seed);
        tracing::info!(seed, node = node.id.0, "starting");

        let mut executors = Vec::with_capacity(replicas.len());
        let mut reports = Vec::with_capacity(replicas.len());
        let parts = replicas.iter().zip(directories).zip(listeners);
        let parts = parts.zip(published);
        for (((&replica, directory), listener), published) in parts {
            let (report, reported) = mpsc::channel();
            let (running, ended) = mpsc::channel();
            let (controller, commands) = control_pair()?;
            let (acceptor, bell) = start_acceptor(replica, listener)?;
            let (counter, answers, answered) = start_counter(replica)?;
            let setup = Setup {
                cluster: config.clone(),
                config: config.replica_config(replica, seed ^ address_bits(replica)),
                directory,
                entrances: Entrances {
                    acceptor,
                    bell,
                    commands,
                    answers,
                    answered,
                },
                counter,
                published,
                watch: watch.take(),
                report,
                running,
            };
            let handle = spawn_executor(config, replica, setup)?;
            executors.push(Executor {
                replica,
                controller,
                handle,
                ended,
            });
            reports.push(reported);
        }
        let running = Self {
            executors,
            page,
            lock,
        };
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
            self.stop()?;
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
    ///
    /// # Errors
    /// [`Fatal::NotStopped`] if a replica does not end in time. It still runs then: the process has
    /// to end.
    pub fn stop(self) -> Result<(), Fatal> {
        self.stop_within(STOP_LIMIT)
    }

    fn stop_within(self, limit: Duration) -> Result<(), Fatal> {
        for executor in &self.executors {
            executor.controller.send(Command::Stop);
        }
        let deadline = Instant::now() + limit;
        let mut not_stopped = Vec::new();
        for executor in self.executors {
            let left = deadline.saturating_duration_since(Instant::now());
            match executor.ended.recv_timeout(left) {
                Ok(never) => match never {},
                Err(RecvTimeoutError::Timeout) => not_stopped.push(executor.replica),
                Err(RecvTimeoutError::Disconnected) => {
                    if let Err(error) = executor.handle.join() {
                        tracing::error!(replica = %executor.replica, "executor failed: {error}");
                    }
                }
            }
        }
        if !not_stopped.is_empty() {
            return Err(Fatal::NotStopped {
                replicas: not_stopped,
            });
        }
        drop(self.lock);
        tracing::info!("stopped");
        Ok(())
    }

    fn command(&self, command: Command) {
        for executor in &self.executors {
            executor.controller.send(command);
        }
    }
}

/// Locks, identifies and, once in the node's life, formats the directories. A fault of one is that replica's; if all have one, the
/// first is the node's. So is a lock that another process holds: it runs this node, or a part of it. And
/// a directory of another identity: then the configuration is wrong, for all replicas alike.
fn open_directories(
    config: &ClusterConfig,
    path: &Path,
    replicas: &[ReplicaAddress],
    roster: &Roster,
    recover: bool,
) -> Result<Vec<Result<DataDirectory, Fatal>>, Fatal> {
    let mut opened = Vec::with_capacity(replicas.len());
    for &replica in replicas {
        match open_directory(config, replica) {
            Err(fault @ (Fatal::DirectoryLocked { .. } | Fatal::WrongIdentity { .. })) => {
                return Err(fault);
            }
            other => opened.push(other),
        }
    }
    let mut opened = roster.settle(path, config, replicas, opened, recover)?;
    if opened.iter().all(Result::is_err)
        && let Some(Err(first)) = opened.drain(..).next()
    {
        return Err(first);
    }
    Ok(opened)
}

fn open_directory(config: &ClusterConfig, replica: ReplicaAddress) -> Result<DataDirectory, Fatal> {
    let directory = DataDirectory::open(&config.data_dir_of(replica))?;
    directory.identity(config, replica)?;
    Ok(directory)
}

fn control_pair() -> Result<(Controller, UnixStream), Fatal> {
    Controller::pair().map_err(|error| Fatal::Resources {
        problem: format!("no socket pair: {error}"),
    })
}

fn open_watch(config: &ClusterConfig, node: NodeId, page: Page) -> Result<Watch, Fatal> {
    let address = config
        .administration_address_of(node)
        .expect("it is a node of the configuration");
    let listener = listen::listen(address)?;
    let (acceptor, bell) =
        Acceptor::start("watch", listener).map_err(|error| Fatal::Resources {
            problem: format!("no thread that accepts for metrics: {error}"),
        })?;
    Ok(Watch {
        acceptor,
        bell,
        page,
    })
}

/// From here, not from the executor: the thread must not be pinned to the replica's core.
fn start_acceptor(
    replica: ReplicaAddress,
    listener: TcpListener,
) -> Result<(Acceptor, Bell), Fatal> {
    Acceptor::start(&replica.to_string(), listener).map_err(|error| Fatal::Resources {
        problem: format!("replica {replica}: no thread that accepts: {error}"),
    })
}

/// From here for the same reason.
fn start_counter(replica: ReplicaAddress) -> Result<(PairCounter, Answers, Bell), Fatal> {
    PairCounter::start(&replica.to_string()).map_err(|error| Fatal::Resources {
        problem: format!("replica {replica}: no thread that counts pairs: {error}"),
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

#[cfg(test)]
mod tests {
    use quorate_protocol::ids::{ReplicaId, ShardId};

    use super::*;

    /// An executor that obeys no command, or ends at once.
    fn executor(shard: u32, hangs: bool) -> Executor {
        let (running, ended) = mpsc::channel();
        let (controller, commands) = control_pair().unwrap();
        let builder = LocalExecutorBuilder::new(Placement::Fixed(0)).io_memory(64 << 10);
        let hang = move || async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            drop((commands, running));
        };
        Executor {
            replica: ReplicaAddress {
                shard: ShardId(shard),
                replica: ReplicaId(1),
            },
            controller,
            handle: builder.spawn(hang).unwrap(),
            ended,
        }
    }

    fn running(executors: Vec<Executor>, lock: NodeLock) -> RunningNode {
        RunningNode {
            executors,
            page: Page::new(NodeId(1), []),
            lock,
        }
    }

    fn locked() -> (tempfile::TempDir, NodeLock) {
        let directory = tempfile::tempdir().unwrap();
        let lock = NodeLock::take(directory.path()).unwrap();
        (directory, lock)
    }

    #[test]
    fn a_replica_that_does_not_end_is_named_instead_of_waited_for() {
        let executors = vec![executor(1, false), executor(2, true), executor(3, false)];
        let (_directory, lock) = locked();
        let running = running(executors, lock);
        let fault = running.stop_within(Duration::from_millis(300)).unwrap_err();
        assert_eq!(fault.to_string(), "replica s2r1 did not stop in time");
        assert_eq!(fault.exit_code(), 1);
    }

    #[test]
    fn executors_that_end_are_joined() {
        let executors = vec![executor(1, false), executor(2, false)];
        let (_directory, lock) = locked();
        running(executors, lock)
            .stop_within(Duration::from_secs(20))
            .unwrap();
    }
}
