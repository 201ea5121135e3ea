//! `cluster kill|pause|resume`: faults on purpose, by signal.

use std::time::Duration;

use clap::Args;
use rustix::process::Signal;
use serde_json::json;

use crate::Context;
use crate::cluster::stop::{end, join};
use crate::failure::Outcome;
use crate::node_process::running;
use crate::target::{ClusterFile, NodeChoice};

/// A killed process is gone when the kernel has closed its files.
const KILL_WAIT: Duration = Duration::from_secs(30);

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

/// SIGSTOP.
pub fn pause(args: &SignalArgs, context: Context) -> Outcome {
    send(args, Signal::STOP, "paused", context)
}

/// SIGCONT.
pub fn resume(args: &SignalArgs, context: Context) -> Outcome {
    send(args, Signal::CONT, "resumed", context)
}

fn send(args: &SignalArgs, signal: Signal, done: &str, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let mut reached = Vec::new();
    for node in args.choice.of(&config)? {
        if let Some(process) = running(node) {
            process.signal(signal)?;
            reached.push(node.id.0);
        }
    }
    report(done, &reached, context)
}

fn report(done: &str, nodes: &[u32], context: Context) -> Outcome {
    let document = json!({ done: nodes });
    context.output.print(&document, || match nodes.len() {
        0 => "no node was running".to_owned(),
        _ => format!("{done}: {}", join(nodes)),
    })
}
