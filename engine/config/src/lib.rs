//! The topology file of a cluster, `cluster.toml`: parsed once into values that cannot be wrong.
//!
//! [`ClusterConfig`] is what the server, the command line, the client and the load generator agree
//! on: which replica of which shard lives on which node, port, core and directory, and the settings
//! that every replica of the cluster must share. Errors name file, line and field. This crate opens
//! only the file that it is told to load and the key that this names, resolves no names and draws no random numbers.
//!
//! [`scenario`] reads the other file that people write by hand, in the same manner.

#![forbid(unsafe_code)]

mod cores;
mod error;
mod generate;
mod key;
mod layout;
mod raw;
mod render;
pub mod scenario;
mod validate;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_protocol::config::{Genesis, IdRule, Reads, ReplicaConfig};
use quorate_protocol::ids::{ClusterId, NodeId, ReplicaAddress, ReplicaId, ShardId};
use quorate_protocol::limits::Timing;
use quorate_protocol::shard::map::Placement;

pub use crate::error::ConfigError;
pub use crate::generate::{GenerateOptions, Hosts};
pub use crate::key::ClusterKey;
pub use crate::layout::Layout;

/// Offset of a node's HTTP and administration port from its base port; replicas listen below it.
pub const ADMINISTRATION_PORT_OFFSET: u16 = 90;
/// Most shards of a cluster: a node has this many ports for replicas.
pub const SHARDS_MAX: u32 = ADMINISTRATION_PORT_OFFSET as u32;
/// Base ports of nodes on one host are this far apart in generated configurations.
pub const NODE_PORT_DISTANCE: u16 = 100;

/// How long used transfer ids and the history of transfers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// For ever.
    All,
    /// At least this long.
    For(Duration),
}

impl Keep {
    /// In nanoseconds; `None`: for ever.
    #[must_use]
    pub fn ns(self) -> Option<u64> {
        match self {
            Self::All => None,
            Self::For(duration) => {
                let ns = u64::try_from(duration.as_nanos());
                Some(ns.expect("a century fits 64 bits"))
            }
        }
    }
}

/// Bounds on connections that the configuration may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Client and peer connections per replica.
    pub connections_limit: usize,
    /// A connection that has not said hello by then is closed.
    pub handshake_timeout: Duration,
    /// A client connection without traffic for this long is closed.
    pub idle_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_limit: quorate_protocol::limits::CONNECTIONS_MAX,
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// One process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    pub id: NodeId,
    pub address: IpAddr,
    /// The replica of shard s listens on `base_port + s - 1`.
    pub base_port: u16,
    /// CPUs of its replicas, in shard order; used round and round if `share_cores` is set.
    pub cores: Vec<usize>,
    /// Every replica has its own directory below.
    pub data_dir: PathBuf,
}

/// A cluster's topology and settings. Every value was checked when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    pub cluster_id: ClusterId,
    pub shards: u32,
    /// Replicas of every shard: 1, 3 or 5.
    pub replicas: u8,
    pub placement: Placement,
    pub share_cores: bool,
    pub reads: Reads,
    pub keep: Keep,
    pub ids: IdRule,
    pub segment_bytes: u64,
    /// Bytes of the log between two checkpoints; each entry counts a block more.
    pub checkpoint_bytes: u64,
    /// Accounts that each replica keeps in memory.
    pub cached_accounts: usize,
    /// How long a window lasts of what leaders count for placement; what is older than five of them halves with each.
    pub telemetry_window: Duration,
    pub timing: Timing,
    pub limits: ConnectionLimits,
    /// Who has it may be a peer or a client; `None`: whoever reaches a port of this host may.
    pub key: Option<ClusterKey>,
    nodes: BTreeMap<NodeId, NodeConfig>,
    layout: Layout,
}

impl ClusterConfig {
    /// Reads and checks a file, and the key that it names. A relative `data_dir` or `key_file` is taken from the directory
    /// of the file; here it becomes absolute.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::unreadable(&name, &error))?;
        let mut config = Self::parse(&text, &name)?;
        let below = directory_of(path).map_err(|error| ConfigError::unreadable(&name, &error))?;
        for node in config.nodes.values_mut() {
            node.data_dir = below.join(&node.data_dir);
        }
        if let Some(key) = &config.key {
            let loaded = key.load(&below);
            let loaded = loaded.map_err(|error| ConfigError::key(&name, &text, &error))?;
            config.key = Some(loaded);
        }
        Ok(config)
    }

    /// Checks a text; `name` stands for the file in errors.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        validate::parse(text, name)
    }

    /// The configuration that `cluster init` prints.
    pub fn generate(options: &GenerateOptions) -> Result<Self, ConfigError> {
        Self::generate_on(options, &Hosts::default())
    }

    /// The same with nodes on several hosts.
    pub fn generate_on(options: &GenerateOptions, hosts: &Hosts) -> Result<Self, ConfigError> {
        generate::generate(options, hosts)
    }

    /// The file that parses to this value.
    #[must_use]
    pub fn to_toml(&self) -> String {
        render::render(self)
    }

    /// What must never change once the cluster has data.
    #[must_use]
    pub fn genesis(&self) -> Genesis {
        Genesis {
            shards: self.shards,
            replicas: self.replicas,
            placement: self.placement,
            ids: self.ids,
            lease_ns: self.timing.lease_ns,
            checkpoint_weight: Some(self.checkpoint_bytes),
            keep_ns: self.keep.ns(),
        }
    }

    /// How long a client may go on with one request: within that, what took effect is known by its id.
    #[must_use]
    pub fn request_deadline_max(&self) -> Duration {
        Duration::from_nanos(quorate_protocol::limits::request_deadline_ns_max(
            self.keep.ns(),
        ))
    }

    /// The nodes in the order of their ids.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &NodeConfig> {
        self.nodes.values()
    }

    /// The node with this id, if there is one.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeConfig> {
        self.nodes.get(&id)
    }

    /// All shards, ascending.
    pub fn shard_ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        (1..=self.shards).map(ShardId)
    }

    /// The members of one shard's group, ascending.
    pub fn members_of(&self, shard: ShardId) -> impl Iterator<Item = ReplicaAddress> + use<> {
        (1..=self.replicas).map(move |replica| ReplicaAddress {
            shard,
            replica: ReplicaId(replica),
        })
    }

    /// All replicas, by shard and number.
    pub fn all_replicas(&self) -> impl Iterator<Item = ReplicaAddress> + use<'_> {
        self.shard_ids().flat_map(|shard| self.members_of(shard))
    }

    /// Whether the cluster has this replica. The other methods take only replicas that it has.
    #[must_use]
    pub fn contains(&self, replica: ReplicaAddress) -> bool {
        (1..=self.shards).contains(&replica.shard.0)
            && (1..=self.replicas).contains(&replica.replica.0)
    }

    /// The node that hosts a replica.
    ///
    /// # Panics
    /// If the cluster does not have the replica.
    #[must_use]
    pub fn node_of(&self, replica: ReplicaAddress) -> &NodeConfig {
        assert!(
            self.contains(replica),
            "no replica {replica} in the cluster"
        );
        let id = self.layout.node_of(replica);
        &self.nodes[&id]
    }

    /// The replicas that a node hosts, by shard; empty for an unknown node.
    #[must_use]
    pub fn replicas_of(&self, node: NodeId) -> Vec<ReplicaAddress> {
        self.all_replicas()
            .filter(|&replica| self.layout.node_of(replica) == node)
            .collect()
    }

    /// Where a replica listens for clients and peers.
    ///
    /// # Panics
    /// If the cluster does not have the replica.
    #[must_use]
    pub fn address_of(&self, replica: ReplicaAddress) -> SocketAddr {
        let node = self.node_of(replica);
        SocketAddr::new(node.address, replica_port(node.base_port, replica.shard))
    }

    /// Where a node answers HTTP and administration; `None` for an unknown node.
    #[must_use]
    pub fn administration_address_of(&self, node: NodeId) -> Option<SocketAddr> {
        let node = self.node(node)?;
        let port = node.base_port + ADMINISTRATION_PORT_OFFSET;
        Some(SocketAddr::new(node.address, port))
    }

    /// The directory of one replica's files.
    ///
    /// # Panics
    /// If the cluster does not have the replica.
    #[must_use]
    pub fn data_dir_of(&self, replica: ReplicaAddress) -> PathBuf {
        self.node_of(replica).data_dir.join(replica.to_string())
    }

    /// The CPU of one replica's executor.
    ///
    /// # Panics
    /// If the cluster does not have the replica.
    #[must_use]
    pub fn core_of(&self, replica: ReplicaAddress) -> usize {
        let node = self.node_of(replica);
        let position = self
            .replicas_of(node.id)
            .iter()
            .position(|&hosted| hosted == replica)
            .expect("node_of names the node that hosts it");
        node.cores[position % node.cores.len()]
    }

    /// The replica that should lead the shard when all are well; spread over the nodes.
    ///
    /// # Panics
    /// If the cluster does not have the shard.
    #[must_use]
    pub fn preferred_leader(&self, shard: ShardId) -> ReplicaId {
        self.layout.preferred_leader(shard)
    }

    /// What the core of one replica is told.
    ///
    /// # Panics
    /// If the cluster does not have the replica.
    #[must_use]
    pub fn replica_config(&self, replica: ReplicaAddress, seed: u64) -> ReplicaConfig {
        assert!(
            self.contains(replica),
            "no replica {replica} in the cluster"
        );
        ReplicaConfig {
            cluster: self.cluster_id,
            address: replica,
            shards: self.shards,
            replicas: self.replicas,
            placement: self.placement,
            reads: self.reads,
            ids: self.ids,
            keep_ns: self.keep.ns(),
            preferred_leader: self.preferred_leader(replica.shard),
            timing: self.timing,
            entry_bytes_max: quorate_protocol::limits::ENTRY_BYTES_MAX,
            admission: quorate_protocol::config::Admission::default(),
            tail_bytes_max: quorate_protocol::limits::LOG_TAIL_BYTES_MAX,
            checkpoint_weight: Some(self.checkpoint_bytes),
            accounts_in_memory_max: self.cached_accounts,
            scan_places: quorate_protocol::limits::SCAN_PLACES,
            apply_bytes: quorate_protocol::limits::APPLY_BYTES,
            telemetry_window_ns: u64::try_from(self.telemetry_window.as_nanos())
                .expect("bounded by the parser"),
            seed,
        }
    }
}

/// The directory that holds a file, absolute: a process may change its own, and the log's directory is
/// opened anew with every segment.
fn directory_of(file: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(file)?;
    path.pop();
    Ok(path)
}

/// The port of a node's replica of `shard`.
fn replica_port(base_port: u16, shard: ShardId) -> u16 {
    let offset = u16::try_from(shard.0 - 1).expect("shards are at most SHARDS_MAX");
    base_port
        .checked_add(offset)
        .expect("the ports of every node were checked")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node with a relative directory ran until its first segment was full, and then died: the log
    /// opens its directory by a path that has to be absolute.
    #[test]
    fn the_directory_of_a_file_is_absolute_however_the_file_is_named() {
        let here = std::env::current_dir().unwrap();
        for (file, directory) in [
            ("c.toml", here.clone()),
            ("./c.toml", here.clone()),
            ("conf/c.toml", here.join("conf")),
            ("/etc/quorate/c.toml", PathBuf::from("/etc/quorate")),
        ] {
            assert_eq!(directory_of(Path::new(file)).unwrap(), directory, "{file}");
        }
    }
}
