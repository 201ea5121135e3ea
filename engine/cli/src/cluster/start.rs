//! `cluster start` and `cluster restart`: nodes as detached processes, then a wait for leaders.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use clap::Args;
use quorate_config::{ClusterConfig, NodeConfig};
use rustix::process::Signal;

use crate::Context;
use crate::cluster::stop::end;
use crate::failure::{Failure, Outcome};
use crate::node_process::{POLL, StartOptions, log_end, log_file, start_once};
use crate::status::{ClusterView, collect};
use crate::target::{ClusterFile, NodeChoice};

/// Lines of a node's log that are shown when it dies at start.
const LOG_LINES: usize = 15;

/// Options of `cluster start`.
#[derive(Args, Debug)]
pub struct StartArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    #[command(flatten)]
    pub choice: NodeChoice,
    /// How long every shard may take to have a leader that serves, and every replica of the started
    /// nodes to answer; 0s returns at once
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub wait: Duration,
    /// Bring back replicas of this node whose disks are lost (see `quorate server --recover`)
    #[arg(long, requires = "node")]
    pub recover: bool,
}

/// A node that was started here.
#[derive(Debug)]
pub struct Started {
    pub id: u32,
    pub child: Child,
    log: PathBuf,
    /// Bytes of the log from before this start.
    log_offset: u64,
}

/// Starts what does not run yet, waits, prints the cluster.
pub fn run(args: &StartArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let nodes = args.choice.of(&config)?;
    let options = StartOptions {
        format: context.log_format,
        recover: args.recover,
    };
    let mut started = start(&args.cluster.path, &nodes, options)?;
    let view = if args.wait.is_zero() {
        collect(&config)
    } else {
        let ids: Vec<u32> = nodes.iter().map(|node| node.id.0).collect();
        wait_serving(&config, &ids, &mut started, args.wait)?
    };
    context.output.print(&view.document(), || {
        format!("{}\n\n{}", view.nodes_table(), view.replicas_table())
    })
}

/// Stops the chosen nodes cleanly, then as [`run`].
pub fn restart(args: &StartArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let wait = args.wait.max(Duration::from_secs(1));
    end(&config, &args.choice.of(&config)?, Signal::TERM, wait)?;
    run(args, context)
}

/// Starts every node of the list that does not run.
pub fn start(
    cluster: &Path,
    nodes: &[&NodeConfig],
    options: StartOptions,
) -> Result<Vec<Started>, Failure> {
    // The processes may outlive a change of the caller's directory, but not of a relative path.
    let cluster = std::path::absolute(cluster).context("make the topology file's path absolute")?;
    let mut started = Vec::new();
    for node in nodes {
        if let Some((child, log_offset)) = start_once(&cluster, node, options)? {
            started.push(Started {
                id: node.id.0,
                child,
                log: log_file(node),
                log_offset,
            });
        }
    }
    Ok(started)
}

/// Waits until every shard has a leader that serves and every replica of the nodes `ids` answers: a
/// shard may well be led without them. Fails early if a node ends, and at the end if a replica of these
/// nodes is out of service.
pub fn wait_serving(
    config: &ClusterConfig,
    ids: &[u32],
    started: &mut [Started],
    wait: Duration,
) -> Result<ClusterView, Failure> {
    let deadline = Instant::now() + wait;
    loop {
        for node in started.iter_mut() {
            node.assert_runs(config)?;
        }
        let view = collect(config);
        let missing = view.missing(ids);
        if missing.is_empty() {
            let stopped = view.stopped(ids);
            return match stopped.is_empty() {
                true => Ok(view),
                false => Err(Failure::Other(anyhow!(
                    "{}\n{}\nthe other replicas serve",
                    stopped.join("\n"),
                    view.replicas_table()
                ))),
            };
        }
        if Instant::now() >= deadline {
            return Err(not_up(&view, &missing, wait));
        }
        thread::sleep(POLL);
    }
}

/// A node that replays a long log takes as long as it takes.
fn not_up(view: &ClusterView, missing: &[String], waited: Duration) -> Failure {
    Failure::Other(anyhow!(
        "after {}: {}\n{}\nthe processes go on; `quorate status` shows how far they are, \
         `quorate cluster logs` what they say",
        humantime::format_duration(waited),
        missing.join(", "),
        view.replicas_table()
    ))
}

impl Started {
    /// Fails with the node's own exit code and the end of its log if it has ended.
    pub fn assert_runs(&mut self, config: &ClusterConfig) -> Result<(), Failure> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        let node = config.nodes().find(|node| node.id.0 == self.id);
        let lines = node
            .map(|node| log_end(node, self.log_offset, LOG_LINES))
            .unwrap_or_default();
        let message = format!(
            "node {} ended at start ({status}), its log {} ends with:\n{}",
            self.id,
            self.log.display(),
            lines.join("\n")
        );
        Err(
            match status.code().and_then(|code| u8::try_from(code).ok()) {
                Some(2) => Failure::usage(message),
                Some(code @ 10..=19) => Failure::Environment { code, message },
                _ => Failure::Other(anyhow!(message)),
            },
        )
    }
}
