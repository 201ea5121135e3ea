//! `cluster stop`: SIGTERM to all chosen nodes at once, then a wait until each is gone.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Args;
use quorate_config::{ClusterConfig, NodeConfig};
use rustix::process::Signal;
use serde_json::json;

use crate::Context;
use crate::failure::{Failure, Outcome};
use crate::node_process::{Running, forget, running};
use crate::target::{ClusterFile, NodeChoice};

/// Options of `cluster stop`.
#[derive(Args, Debug)]
pub struct StopArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    #[command(flatten)]
    pub choice: NodeChoice,
    /// How long to wait for the processes to end
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub wait: Duration,
}

/// Stops and reports which nodes were running.
pub fn run(args: &StopArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let nodes = args.choice.of(&config)?;
    let stopped = end(&config, &nodes, Signal::TERM, args.wait)?;
    let document = json!({ "stopped": stopped });
    context.output.print(&document, || match stopped.len() {
        0 => "no node was running".to_owned(),
        _ => format!("stopped: {}", join(&stopped)),
    })
}

/// Signals all, then waits for all, so that the waits overlap. Gives the ids of those that were
/// running.
pub fn end(
    config: &ClusterConfig,
    nodes: &[&NodeConfig],
    signal: Signal,
    wait: Duration,
) -> Result<Vec<u32>, Failure> {
    let found: Vec<(&NodeConfig, Running)> = nodes
        .iter()
        .filter_map(|node| Some((*node, running(node)?)))
        .collect();
    for (_, process) in &found {
        process.signal(signal)?;
        // A stopped process handles no SIGTERM until it runs again.
        process.signal(Signal::CONT)?;
    }
    let deadline = Instant::now() + wait;
    let mut left = Vec::new();
    for (node, process) in &found {
        let replicas = config.replicas_of(node.id);
        let ports: Vec<SocketAddr> = replicas.iter().map(|&own| config.address_of(own)).collect();
        if process.wait_gone(&ports, deadline) {
            // The file names a process that is gone; whether it can be removed changes nothing.
            let _ = forget(node, *process);
        } else {
            left.push(format!("node {} (pid {})", node.id, process.pid));
        }
    }
    if left.is_empty() {
        Ok(found.iter().map(|(node, _)| node.id.0).collect())
    } else {
        let wait = humantime::format_duration(wait);
        Err(anyhow::anyhow!("still running after {wait}: {}", left.join(", ")).into())
    }
}

/// Ids for a message.
#[must_use]
pub fn join(ids: &[u32]) -> String {
    let words: Vec<String> = ids.iter().map(|id| format!("node {id}")).collect();
    words.join(", ")
}
