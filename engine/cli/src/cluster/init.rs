//! `cluster init`: prints the topology of a new cluster whose nodes all run on this host.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use quorate_config::{ClusterConfig, GenerateOptions};
use quorate_protocol::ids::ClusterId;
use quorate_protocol::shard::map::Placement;
use serde_json::json;

use crate::Context;
use crate::failure::{Failure, Outcome};
use crate::print::say;

/// Accounts per shard where `--placement range` says nothing.
const ACCOUNTS_PER_SHARD: u64 = 3_000;

/// Options of `cluster init`.
#[derive(Args, Debug)]
pub struct InitArgs {
    /// Partitions of the accounts, each one replicated by a group of its own
    #[arg(long, default_value_t = 3)]
    pub shards: u32,
    /// Copies of every shard: 1, 3 or 5
    #[arg(long, default_value_t = 3)]
    pub replicas: u8,
    /// Processes; as many as shards times replicas for one replica per process
    #[arg(long, default_value_t = 3)]
    pub nodes: u32,
    /// Directory of the nodes' data, on a file system with O_DIRECT (not tmpfs)
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// First port of the first node; further nodes are 100 apart
    #[arg(long, default_value_t = 7_100, value_name = "P")]
    pub base_port: u16,
    /// Where accounts are created by default
    #[arg(long, value_enum, default_value_t = PlacementName::Hash)]
    pub placement: PlacementName,
    /// With range placement: ids per shard [default: 3000]
    #[arg(long, value_name = "N")]
    pub accounts_per_shard: Option<u64>,
}

/// How ids map to shards by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlacementName {
    Hash,
    Range,
}

/// Prints the file; a notice goes to stderr if cores are short.
pub fn run(args: &InitArgs, context: Context) -> Outcome {
    let config = generate(args)?;
    if config.share_cores {
        let replicas = config.all_replicas().count();
        say(format_args!(
            "notice: {replicas} replicas on {} cores: share_cores = true is written, replicas \
             will wait for each other's core time",
            host_cores()
        ));
    }
    let text = config.to_toml();
    let document = json!({
        "cluster_id": config.cluster_id.0.to_string(),
        "shards": config.shards,
        "replicas": config.replicas,
        "nodes": config.nodes().map(|node| json!({
            "node": node.id.0,
            "address": node.address.to_string(),
            "base_port": node.base_port,
            "data_dir": node.data_dir.display().to_string(),
        })).collect::<Vec<_>>(),
        "toml": text,
    });
    context.output.print(&document, || text.clone())
}

/// The configuration that the options describe.
pub fn generate(args: &InitArgs) -> Result<ClusterConfig, Failure> {
    let placement = match (args.placement, args.accounts_per_shard) {
        (PlacementName::Hash, None) => Placement::Hash,
        (PlacementName::Hash, Some(_)) => {
            return Err(Failure::usage(
                "--accounts-per-shard: only --placement range has ranges",
            ));
        }
        (PlacementName::Range, size) => Placement::Range {
            accounts_per_shard: size.unwrap_or(ACCOUNTS_PER_SHARD),
        },
    };
    let options = GenerateOptions {
        cluster_id: draw_cluster_id()?,
        shards: args.shards,
        replicas: args.replicas,
        nodes: args.nodes,
        directory: absolute(&args.dir)?,
        base_port: args.base_port,
        placement,
        host_cores: host_cores(),
    };
    Ok(ClusterConfig::generate(&options)?)
}

fn host_cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("--dir: {}", path.display()))
}

/// From the kernel's generator, in 1..=i64::MAX: TOML has no larger numbers, and 0 means none.
fn draw_cluster_id() -> anyhow::Result<ClusterId> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("draw a cluster id from /dev/urandom")?;
    Ok(ClusterId((u64::from_le_bytes(bytes) >> 1).max(1)))
}
