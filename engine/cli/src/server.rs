//! `server`: one node in the foreground, until SIGTERM, SIGINT or an environment fault.

use clap::Args;
use quorate_runtime::{NodeOptions, run_node};

use crate::failure::{Failure, Outcome};
use crate::target::{ClusterFile, one_node};

/// Options of `server`.
#[derive(Args, Debug)]
pub struct ServerArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    /// Which node of the topology this process is
    #[arg(long, value_name = "N")]
    pub node: u32,
    /// Bring back replicas whose disks are lost: those without a directory begin empty, do not vote,
    /// learn from their groups, and vote again when no vote of theirs can be missing. All other members
    /// have to run meanwhile. Until then every start continues it, with or without this option
    #[arg(long)]
    pub recover: bool,
}

/// Runs the node. Faults at run time end the process with their own code without coming back here.
pub fn run(args: &ServerArgs) -> Outcome {
    let config = args.cluster.load()?;
    let node = one_node(&config, args.node)?.id;
    let options = NodeOptions {
        recover: args.recover,
        ..NodeOptions::default()
    };
    run_node(&config, node, &options).map_err(|fatal| Failure::Environment {
        code: fatal.exit_code(),
        message: format!("node {node}: {fatal}"),
    })
}
