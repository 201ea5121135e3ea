//! The generator's thread: one glommio executor, pinned, with all clients of a run on it.
//!
//! One thread saturates the clusters that fit beside it on a small machine; reports say how much of
//! its core it used, so that a run limited by the generator is seen as one.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use glommio::{LocalExecutorBuilder, Placement};
use rustix::thread::{CpuSet, sched_getaffinity};

use quorate_config::ClusterConfig;
use quorate_net::{PREEMPT_TIMER, Sockets};
use quorate_protocol::limits::BYTES_PER_CONNECTION_MAX;

use crate::drive::{Measured, Options, Phase, drive};
use crate::failure::Failure;
use crate::files::Files;
use crate::host;
use crate::link::AsyncLink;
use crate::output::say;
use crate::recorder::SecondRow;
use crate::report::progress_line;
use crate::select::{Part, Selection};

/// Clients that share one connection to each shard unless told otherwise: their requests then share system calls, too.
const CLIENTS_PER_CONNECTION: usize = 16;
/// Connections to each shard unless told otherwise.
const CONNECTIONS_MAX: usize = 32;
/// Bytes of a transfer on its way.
const TRANSFER_BYTES: usize = 128;
const IO_MEMORY: usize = 64 << 10;
const RING_DEPTH: usize = 128;
/// Above this share of its core the generator may be what is measured.
pub const BUSY: f64 = 0.8;

/// One load to generate.
#[derive(Clone, Debug)]
pub struct Job {
    pub config: ClusterConfig,
    pub selection: Selection,
    /// Name of the load in its progress lines.
    pub name: &'static str,
    pub part: Part,
    /// Number among the loads of one command; each has other payments.
    pub round: u32,
    /// What drift has had of the loads before this one.
    pub before_ns: u64,
    pub options: Options,
    pub cpu: usize,
    pub stop: Arc<AtomicBool>,
}

impl Job {
    /// Runs to the end on a thread of its own, and returns the files.
    ///
    /// # Errors
    /// The executor cannot start.
    pub fn run(self, files: Files) -> anyhow::Result<(Measured, Files)> {
        on_generator(self.cpu, move || async move {
            let (sockets, _serving) = Sockets::start().context("watching sockets")?;
            let links = self.connect(&sockets);
            let result = self.load(&links, files).await;
            close(links).await;
            Ok(result)
        })
    }

    /// Clients of the cluster, which connect when they are used.
    fn connect(&self, sockets: &Rc<Sockets>) -> Vec<Rc<AsyncLink>> {
        let link = |_| Rc::new(AsyncLink::new(&self.config, sockets));
        (0..self.options.connections).map(link).collect()
    }

    async fn load(self, links: &[Rc<AsyncLink>], files: Files) -> (Measured, Files) {
        let clients = self.options.clients;
        let operations = self
            .selection
            .operations(clients, self.part, self.round, self.before_ns);
        let progress = |phase: Phase, row: &SecondRow| {
            let name = match phase {
                Phase::Warmup => "warm-up",
                Phase::Measured => self.name,
            };
            say(format_args!("{}", progress_line(name, row)));
        };
        drive(links, operations, self.options, files, self.stop, progress).await
    }
}

/// One load after the other over the same connections, by clients that know the leaders and owners from the load before; the
/// last of the measurements is that of the load that a stop flag ended. All on the CPU and by the connections of the first.
///
/// # Errors
/// The executor cannot start.
pub fn run_in_turn(jobs: Vec<Job>) -> anyhow::Result<Vec<Measured>> {
    let Some(first) = jobs.first() else {
        return Ok(Vec::new());
    };
    on_generator(first.cpu, move || async move {
        let (sockets, _serving) = Sockets::start().context("watching sockets")?;
        let links = jobs.first().map(|first| first.connect(&sockets));
        let links = links.unwrap_or_default();
        let mut all = Vec::with_capacity(jobs.len());
        for job in jobs {
            let (measured, _) = job.load(&links, Files::default()).await;
            let interrupted = measured.interrupted;
            all.push(measured);
            if interrupted {
                break;
            }
        }
        close(links).await;
        Ok(all)
    })
}

/// Runs on an executor with a thread of its own, to the end.
fn on_generator<T, F>(cpu: usize, work: impl FnOnce() -> F + Send + 'static) -> anyhow::Result<T>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>> + 'static,
{
    let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name("generator")
        .preempt_timer(PREEMPT_TIMER)
        .io_memory(IO_MEMORY)
        .ring_depth(RING_DEPTH);
    let handle = executor
        .spawn(work)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .context("starting the generator")?;
    let result = handle.join().map_err(|error| anyhow::anyhow!("{error}"));
    result.context("running the generator")?
}

async fn close(links: Vec<Rc<AsyncLink>>) {
    for link in links {
        if let Some(link) = Rc::into_inner(link) {
            link.close().await;
        }
    }
}

/// Connections to each shard unless told otherwise, so that their bounds on bytes in flight are never
/// what limits.
#[must_use]
pub fn default_connections(clients: usize, batch: usize) -> usize {
    let bytes = clients * batch * TRANSFER_BYTES;
    let for_clients = clients.div_ceil(CLIENTS_PER_CONNECTION);
    let for_bytes = bytes.div_ceil(BYTES_PER_CONNECTION_MAX / 2);
    for_clients
        .max(for_bytes)
        .clamp(1, CONNECTIONS_MAX.min(clients))
}

/// The CPU to run on: the one asked for, or of those that this process may use the one on which the cluster's replicas have
/// least to do, the last of several.
///
/// # Errors
/// This process may not use that CPU.
pub fn choose_cpu(config: &ClusterConfig, asked: Option<usize>) -> Result<usize, Failure> {
    let allowed = sched_getaffinity(None)
        .map_err(|error| anyhow::anyhow!("reading the CPU affinity: {error}"))?;
    let usable = |&cpu: &usize| allowed.is_set(cpu);
    match asked {
        Some(cpu) if cpu < CpuSet::MAX_CPU && usable(&cpu) => Ok(cpu),
        Some(cpu) => Err(Failure::Usage(format!(
            "--cpu: CPU {cpu} is not one that this process may use"
        ))),
        None => (0..CpuSet::MAX_CPU)
            .rev()
            .filter(usable)
            .min_by_key(|&cpu| config.load_of_core(cpu))
            .ok_or_else(|| anyhow::anyhow!("no CPU to run on").into()),
    }
}

/// Says before a run what will make its figures worse or worthless.
pub fn warn_before(config: &ClusterConfig, cpu: usize) {
    if host::is_debug_build() {
        say(format_args!(
            "warning: debug build of the generator, its figures mean nothing"
        ));
    }
    let shared: Vec<String> = config
        .nodes()
        .filter(|node| node.address.is_loopback() && node.cores.contains(&cpu))
        .map(|node| node.id.to_string())
        .collect();
    if !shared.is_empty() {
        let nodes = shared.join(", ");
        say(format_args!(
            "warning: the generator shares CPU {cpu} with the replicas of node {nodes}"
        ));
    }
}

/// Says after a run that the generator may have been its limit.
pub fn warn_after(measured: &Measured) {
    if measured.generator_cpu > BUSY {
        say(format_args!(
            "warning: the generator used {:.0} % of its core, it may be what was measured",
            measured.generator_cpu * 100.0
        ));
    }
}

#[cfg(test)]
mod tests {
    use crate::select::tests::cluster;

    use super::*;

    #[test]
    fn connections_are_shared_and_bounded() {
        let with = default_connections;
        let counts = [with(1, 1), with(64, 1), with(1_024, 1), with(65_536, 1)];
        assert_eq!(counts, [1, 4, 32, 32]);
        // Four clients with a whole mebibyte each fit half of one connection's bytes.
        assert_eq!(with(4, 8_190), 1);
        assert_eq!(with(32, 8_190), 4);
        assert_eq!(with(2, 8_190), 1);
    }

    #[test]
    fn a_cpu_that_does_not_exist_is_named() {
        let failure = choose_cpu(&cluster(), Some(usize::MAX)).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.to_string().starts_with("--cpu"));
    }

    #[test]
    fn the_cpu_with_the_least_to_do_is_chosen() {
        let config = cluster();
        let chosen = choose_cpu(&config, None).unwrap();
        let allowed = sched_getaffinity(None).unwrap();
        let mut usable = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
        assert!(usable.all(|cpu| config.load_of_core(chosen) <= config.load_of_core(cpu)));
    }
}
