//! `cluster init`: prints the topology of a new cluster, on this host or on several, and makes its key.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use quorate_config::{ClusterConfig, GenerateOptions, Hosts};
use quorate_protocol::ids::ClusterId;
use quorate_protocol::shard::map::Placement;
use serde_json::json;

use crate::Context;
use crate::failure::{Failure, Outcome};
use crate::print::say;

/// Accounts per shard where `--placement range` says nothing.
const ACCOUNTS_PER_SHARD: u64 = 3_000;
/// Random bytes of a new key, written as twice as many hexadecimal digits.
const KEY_BYTES: usize = 32;

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
    /// Addresses of the hosts, which the nodes are dealt out to in turn; the same directory on each [default: all nodes on
    /// loopback]
    #[arg(
        long,
        value_name = "IP,..",
        value_delimiter = ',',
        requires = "key_file"
    )]
    pub addresses: Vec<IpAddr>,
    /// File of the key that all nodes and clients of the cluster share, with mode 600 on every host; made with a new key
    /// if it is not there
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// CPUs of each host [default: those of this one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub host_cores: Option<u16>,
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
            "notice: {replicas} replicas on {} cores of each host: share_cores = true is written, \
             replicas will wait for each other's core time",
            cores_of_hosts(args)
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
        host_cores: cores_of_hosts(args),
    };
    let key_file = args.key_file.as_deref().map(make_key).transpose()?;
    let hosts = Hosts {
        addresses: args.addresses.clone(),
        key_file,
    };
    Ok(ClusterConfig::generate_on(&options, &hosts)?)
}

fn cores_of_hosts(args: &InitArgs) -> usize {
    args.host_cores.map_or_else(host_cores, usize::from)
}

/// The absolute path of a key's file, which is there then. An old one is left as it is: data directories do not know
/// the key, so it may be of another cluster.
fn make_key(path: &Path) -> Result<PathBuf, Failure> {
    let path =
        std::path::absolute(path).with_context(|| format!("--key-file: {}", path.display()))?;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path);
    match file {
        Ok(mut file) => {
            let mut key = random::<KEY_BYTES>().context("draw a key from /dev/urandom")?;
            let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            key.fill(0);
            writeln!(file, "{hex}")
                .and_then(|()| file.sync_all())
                .with_context(|| format!("write {}", path.display()))?;
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            quorate_access::Key::load(&path)
                .map_err(|error| Failure::usage(format!("--key-file: {error}")))?;
        }
        Err(error) => {
            return Err(Failure::usage(format!(
                "--key-file: {}: {error}",
                path.display()
            )));
        }
    }
    Ok(path)
}

/// From the kernel's generator.
fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn host_cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("--dir: {}", path.display()))
}

/// In 1..=i64::MAX: TOML has no larger numbers, and 0 means none.
fn draw_cluster_id() -> anyhow::Result<ClusterId> {
    let bytes = random().context("draw a cluster id from /dev/urandom")?;
    Ok(ClusterId((u64::from_le_bytes(bytes) >> 1).max(1)))
}
