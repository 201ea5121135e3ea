//! `-f cluster.toml`: the cluster that a command talks to, and the choice of one of its nodes.

use std::path::PathBuf;

use clap::Args;
use quorate_config::{ClusterConfig, NodeConfig};
use quorate_protocol::ids::NodeId;

use crate::failure::Failure;

/// The topology file.
#[derive(Args, Clone, Debug)]
pub struct ClusterFile {
    /// Topology of the cluster (see `quorate cluster init`)
    #[arg(
        short = 'f',
        long = "file",
        value_name = "cluster.toml",
        env = "QUORATE_CLUSTER",
        hide_env_values = true
    )]
    pub path: PathBuf,
}

impl ClusterFile {
    /// Reads and checks the file.
    pub fn load(&self) -> Result<ClusterConfig, Failure> {
        Ok(ClusterConfig::load(&self.path)?)
    }
}

/// One node, or all of them.
#[derive(Args, Clone, Copy, Debug)]
pub struct NodeChoice {
    /// Only this node; all nodes by default
    #[arg(long, value_name = "N")]
    pub node: Option<u32>,
}

impl NodeChoice {
    /// The chosen nodes, in order.
    pub fn of(self, config: &ClusterConfig) -> Result<Vec<&NodeConfig>, Failure> {
        match self.node {
            None => Ok(config.nodes().collect()),
            Some(id) => Ok(vec![one_node(config, id)?]),
        }
    }
}

/// The node with this number, or a refusal that says which there are.
pub fn one_node(config: &ClusterConfig, id: u32) -> Result<&NodeConfig, Failure> {
    config.node(NodeId(id)).ok_or_else(|| {
        let known: Vec<String> = config.nodes().map(|node| node.id.to_string()).collect();
        Failure::usage(format!(
            "--node: no node {id} in the cluster, there are {}",
            known.join(", ")
        ))
    })
}
