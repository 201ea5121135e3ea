//! The configuration that `cluster init` writes: all nodes on this host, one below the other, or on hosts of their own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use quorate_protocol::config::{IdRule, Reads};
use quorate_protocol::ids::{ClusterId, NodeId};
use quorate_protocol::limits::{
    ACCOUNTS_IN_MEMORY_MAX, CHECKPOINT_WEIGHT, TELEMETRY_WINDOW_NS, TIMING,
};
use quorate_protocol::shard::map::Placement;

use crate::cores;
use crate::validate::SEGMENT_BYTES;
use crate::{
    ClusterConfig, ClusterKey, ConfigError, ConnectionLimits, Keep, Layout, NODE_PORT_DISTANCE,
    NodeConfig,
};

/// What `cluster init` was asked for.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// Drawn by the caller; at most `i64::MAX`, the largest number of a TOML file.
    pub cluster_id: ClusterId,
    pub shards: u32,
    pub replicas: u8,
    pub nodes: u32,
    /// Node n keeps its files in `n<id>` below. Made absolute by the caller.
    pub directory: PathBuf,
    /// Port of the first node; further ones lie `NODE_PORT_DISTANCE` apart.
    pub base_port: u16,
    pub placement: Placement,
    /// CPUs of this host, or of each. With fewer than replicas on it `share_cores` is set.
    pub host_cores: usize,
}

/// Where the nodes run, if not all on this host.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// Of the nodes, used round and round; empty: all on loopback.
    pub addresses: Vec<IpAddr>,
    /// Other hosts than this one need it.
    pub key_file: Option<PathBuf>,
}

/// Errors name the option in place of a field.
pub(crate) fn generate(
    options: &GenerateOptions,
    hosts: &Hosts,
) -> Result<ClusterConfig, ConfigError> {
    let refuse = |field: &str, problem: String| ConfigError {
        file: "cluster init".to_owned(),
        line: None,
        field: field.to_owned(),
        problem,
    };
    if ![1, 3, 5].contains(&options.replicas) {
        let problem = format!("{} is not 1, 3 or 5", options.replicas);
        return Err(refuse("--replicas", problem));
    }
    if !(1..=crate::SHARDS_MAX).contains(&options.shards) {
        let problem = format!(
            "{} is not between 1 and {}",
            options.shards,
            crate::SHARDS_MAX
        );
        return Err(refuse("--shards", problem));
    }
    let replicas_total = options.shards * u32::from(options.replicas);
    if options.nodes > replicas_total {
        let problem = format!("{} is more than {replicas_total} replicas", options.nodes);
        return Err(refuse("--nodes", problem));
    }
    let ids: Vec<NodeId> = (1..=options.nodes).map(NodeId).collect();
    let layout = Layout::spread(options.shards, options.replicas, &ids)
        .map_err(|problem| refuse("--nodes", problem))?;
    let nodes = place_nodes(options, &hosts.addresses, &ids).ok_or_else(|| {
        refuse(
            "--base-port",
            format!("{} leaves too few ports", options.base_port),
        )
    })?;
    let host_cores = options.host_cores.max(1);
    let mut config = ClusterConfig {
        cluster_id: options.cluster_id,
        shards: options.shards,
        replicas: options.replicas,
        placement: options.placement,
        share_cores: false,
        reads: Reads::Lease,
        keep: Keep::All,
        ids: IdRule::Ulid,
        segment_bytes: SEGMENT_BYTES,
        checkpoint_bytes: CHECKPOINT_WEIGHT,
        cached_accounts: ACCOUNTS_IN_MEMORY_MAX,
        telemetry_window: Duration::from_nanos(TELEMETRY_WINDOW_NS),
        timing: TIMING,
        limits: ConnectionLimits::default(),
        key: hosts.key_file.clone().map(ClusterKey::named),
        nodes,
        layout,
    };
    config.share_cores = cores::most_on_a_host(&config) > host_cores;
    cores::deal(&mut config, host_cores);
    // The parser holds every rule; a generated file has to pass it like any other.
    ClusterConfig::parse(&config.to_toml(), "cluster init")
}

/// `None` if the ports do not suffice. Nodes of one host lie `NODE_PORT_DISTANCE` apart.
fn place_nodes(
    options: &GenerateOptions,
    addresses: &[IpAddr],
    ids: &[NodeId],
) -> Option<BTreeMap<NodeId, NodeConfig>> {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let addresses = match addresses {
        [] => &loopback[..],
        addresses => addresses,
    };
    let mut nodes = BTreeMap::new();
    let mut on_host = BTreeMap::<IpAddr, u16>::new();
    for &id in ids {
        let number = usize::try_from(id.0 - 1).ok()?;
        let address = addresses[number % addresses.len()];
        let below = on_host.entry(address).or_default();
        let offset = below.checked_mul(NODE_PORT_DISTANCE)?;
        *below += 1;
        let base_port = options.base_port.checked_add(offset)?;
        base_port.checked_add(crate::ADMINISTRATION_PORT_OFFSET)?;
        let node = NodeConfig {
            id,
            address,
            base_port,
            cores: Vec::new(),
            data_dir: options.directory.join(format!("n{id}")),
        };
        nodes.insert(id, node);
    }
    Some(nodes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn options(
        shards: u32,
        replicas: u8,
        nodes: u32,
        host_cores: usize,
    ) -> GenerateOptions {
        GenerateOptions {
            cluster_id: ClusterId(77),
            shards,
            replicas,
            nodes,
            directory: PathBuf::from("/var/lib/quo\"rate"),
            base_port: 4000,
            placement: Placement::Range {
                accounts_per_shard: 3000,
            },
            host_cores,
        }
    }

    #[test]
    fn what_is_generated_parses_to_the_same_value() {
        for (shards, replicas, nodes, cores) in [
            (1, 1, 1, 2),
            (3, 3, 3, 2),
            (3, 3, 9, 2),
            (5, 3, 5, 16),
            (1, 5, 5, 4),
        ] {
            let config = ClusterConfig::generate(&options(shards, replicas, nodes, cores)).unwrap();
            let again = ClusterConfig::parse(&config.to_toml(), "again").unwrap();
            assert_eq!(config, again);
            let total = usize::try_from(shards).unwrap() * usize::from(replicas);
            assert_eq!(config.share_cores, total > cores);
        }
    }

    fn hosts(last: std::ops::RangeInclusive<u8>, key_file: Option<&str>) -> Hosts {
        Hosts {
            addresses: last.map(|last| IpAddr::from([192, 0, 2, last])).collect(),
            key_file: key_file.map(PathBuf::from),
        }
    }

    #[test]
    fn each_host_has_its_own_ports_and_cores() {
        let options = options(3, 3, 6, 3);
        let config = ClusterConfig::generate_on(&options, &hosts(1..=3, Some("key"))).unwrap();
        let places: Vec<(String, u16)> = config
            .nodes()
            .map(|node| (node.address.to_string(), node.base_port))
            .collect();
        let place = |last: u8, port| (format!("192.0.2.{last}"), port);
        assert_eq!(
            places[..3],
            [place(1, 4000), place(2, 4000), place(3, 4000)]
        );
        assert_eq!(
            places[3..],
            [place(1, 4100), place(2, 4100), place(3, 4100)]
        );
        // Nine replicas on three hosts of three CPUs: each has one of its own.
        assert!(!config.share_cores);
        let tight = GenerateOptions {
            host_cores: 2,
            ..options
        };
        let config = ClusterConfig::generate_on(&tight, &hosts(1..=3, Some("key"))).unwrap();
        assert!(config.share_cores);
    }

    #[test]
    fn other_hosts_need_a_key() {
        let error = ClusterConfig::generate_on(&options(3, 3, 3, 2), &hosts(1..=3, None));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("192.0.2.1 is not loopback"), "{error}");
    }

    #[test]
    fn impossible_wishes_name_their_option() {
        let error = |options| ClusterConfig::generate(&options).unwrap_err().to_string();
        assert!(error(options(3, 2, 3, 2)).contains("--replicas: 2 is not 1, 3 or 5"));
        assert!(error(options(0, 3, 3, 2)).contains("--shards: 0"));
        assert!(error(options(91, 3, 3, 2)).contains("--shards: 91"));
        assert!(error(options(3, 3, 2, 2)).contains("--nodes: 2 nodes cannot host"));
        assert!(error(options(3, 3, 10, 2)).contains("--nodes: 10"));
        let high = GenerateOptions {
            base_port: 65_300,
            ..options(3, 3, 3, 2)
        };
        assert!(error(high).contains("--base-port: 65300"));
    }
}
