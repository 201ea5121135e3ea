//! `cluster isolate|heal`: a node that hears no peer and is heard by none, while clients still reach it.
//!
//! The node decides alone what it hears, so it is asked whether it does: a signal that was sent has not arrived yet.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use quorate_config::{ClusterConfig, NodeConfig};
use quorate_protocol::client::Role;
use quorate_runtime::ISOLATED;
use rustix::process::Signal;

use crate::Context;
use crate::cluster::signals::report;
use crate::failure::{Failure, Outcome};
use crate::node_process::{POLL, running};
use crate::status::{ClusterView, collect};
use crate::target::{ClusterFile, one_node};

/// A node that starts takes the signal when its replicas are up.
const TOLD_WAIT: Duration = Duration::from_secs(30);

/// Options of both commands.
#[derive(Args, Debug)]
pub struct IsolationArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    /// Which node
    #[arg(long, value_name = "N")]
    pub node: u32,
}

/// SIGUSR1, and a wait until every replica of the node says that it is isolated.
pub fn isolate(args: &IsolationArgs, context: Context) -> Outcome {
    tell(args, Signal::USR1, true)?;
    report("isolated", &[args.node], context)
}

/// SIGUSR2, and a wait until no replica of the node says so any more.
pub fn heal(args: &IsolationArgs, context: Context) -> Outcome {
    tell(args, Signal::USR2, false)?;
    report("healed", &[args.node], context)
}

fn tell(args: &IsolationArgs, signal: Signal, wanted: bool) -> Result<(), Failure> {
    let config = args.cluster.load()?;
    let node = one_node(&config, args.node)?;
    let not_running = || anyhow!("node {} does not run on this host", node.id);
    let process = running(node).ok_or_else(not_running)?;
    process.signal(signal)?;
    let deadline = Instant::now() + TOLD_WAIT;
    loop {
        if !process.is_alive() {
            return Err(anyhow!("node {} has ended", node.id).into());
        }
        let others = not_yet(&config, node, &collect(&config), wanted);
        if others.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let waited = humantime::format_duration(TOLD_WAIT);
            let others = others.join("; ");
            return Err(anyhow!("signalled, but after {waited}: {others}").into());
        }
        thread::sleep(POLL);
    }
}

/// Replicas of the node that do not say yet what they are wanted to. One that is out of service hears nobody anyway.
fn not_yet(
    config: &ClusterConfig,
    node: &NodeConfig,
    view: &ClusterView,
    wanted: bool,
) -> Vec<String> {
    let own = config.replicas_of(node.id);
    let rows = view
        .replicas
        .iter()
        .filter(|row| own.contains(&row.address));
    rows.filter_map(|row| match &row.status {
        None => Some(format!("{}: {}", row.address, row.silence)),
        Some(status) if status.role == Role::Stopped => None,
        Some(status) => match status.reason.starts_with(ISOLATED) == wanted {
            true => None,
            false => Some(format!("{} says: `{}`", row.address, status.reason)),
        },
    })
    .collect()
}
