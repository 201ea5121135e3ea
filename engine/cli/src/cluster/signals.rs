//! `cluster kill|pause|resume`: faults on purpose, by signal.

use std::time::{Duration, Instant};

use clap::Args;
use quorate_config::{ClusterConfig, NodeConfig};
use rustix::process::Signal;
use serde_json::json;

use crate::Context;
use crate::cluster::stop::{end, join};
use crate::failure::{Failure, Outcome};
use crate::node_process::{Running, running};
use crate::target::{ClusterFile, NodeChoice};

/// A killed process is gone when the kernel has closed its files.
const KILL_WAIT: Duration = Duration::from_secs(30);
/// A thread stops when it is next to run, and one that waits for the disk when that has answered.
const PAUSE_WAIT: Duration = Duration::from_secs(10);

/// Options of the three commands.
#[derive(Args, Debug)]
pub struct SignalArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    #[command(flatten)]
    pub choice: NodeChoice,
}

/// SIGKILL, and a wait until the processes are gone.
pub fn kill(args: &SignalArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let nodes = args.choice.of(&config)?;
    let killed = end(&config, &nodes, Signal::KILL, KILL_WAIT)?;
    report("killed", &killed, context)
}

/// SIGSTOP to all, and a wait until no thread of them runs: what is asked of a node behind this, it does not answer.
pub fn pause(args: &SignalArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let reached = send(args, &config, Signal::STOP)?;
    wait_stopped(&reached)?;
    report("paused", &ids(&reached), context)
}

/// SIGCONT.
pub fn resume(args: &SignalArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let reached = send(args, &config, Signal::CONT)?;
    report("resumed", &ids(&reached), context)
}

/// Gives the nodes that were running.
fn send<'a>(
    args: &SignalArgs,
    config: &'a ClusterConfig,
    signal: Signal,
) -> Result<Vec<(&'a NodeConfig, Running)>, Failure> {
    let mut reached = Vec::new();
    for node in args.choice.of(config)? {
        if let Some(process) = running(node) {
            process.signal(signal)?;
            reached.push((node, process));
        }
    }
    Ok(reached)
}

fn wait_stopped(reached: &[(&NodeConfig, Running)]) -> Result<(), Failure> {
    let deadline = Instant::now() + PAUSE_WAIT;
    let mut left = Vec::new();
    for (node, process) in reached {
        if let Err(threads) = process.wait_stopped(deadline) {
            let threads = threads.join(", ");
            left.push(format!("node {} (pid {}): {threads}", node.id, process.pid));
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    let wait = humantime::format_duration(PAUSE_WAIT);
    let left = left.join("; ");
    Err(anyhow::anyhow!("signalled, but threads have not stopped after {wait}: {left}").into())
}

fn ids(reached: &[(&NodeConfig, Running)]) -> Vec<u32> {
    reached.iter().map(|(node, _)| node.id.0).collect()
}

/// Says what was done to which nodes.
pub fn report(done: &str, nodes: &[u32], context: Context) -> Outcome {
    let document = json!({ done: nodes });
    context.output.print(&document, || match nodes.len() {
        0 => "no node was running".to_owned(),
        _ => format!("{done}: {}", join(nodes)),
    })
}
