//! From the file as written to a configuration that cannot be wrong.
//!
//! Each check names the line of the value that it refuses. Where two values disagree, the later one
//! is named.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use quorate_protocol::config::{IdRule, Reads};
use quorate_protocol::ids::{ClusterId, NodeId, ReplicaAddress};
use quorate_protocol::limits::{
    ACCOUNTS_IN_MEMORY_MAX, CHECKPOINT_WEIGHT, KEEP_NS_MAX, KEEP_NS_MIN, TELEMETRY_WINDOW_NS,
    TIMING, Timing,
};
use quorate_protocol::shard::map::Placement;
use quorate_protocol::time::SECOND;
use toml::Spanned;

use crate::error::line_of;
use crate::raw::{
    RawConfig, RawIds, RawKeep, RawLimits, RawNode, RawPlacement, RawReads, RawTiming,
};
use crate::{
    ADMINISTRATION_PORT_OFFSET, ClusterConfig, ClusterKey, ConfigError, ConnectionLimits, Keep,
    Layout, NodeConfig, SHARDS_MAX, replica_port,
};

/// Default size of a log segment.
pub(crate) const SEGMENT_BYTES: u64 = 64 << 20;
/// Fewest and most bytes of the log between two checkpoints: about one full request, and a long replay.
const CHECKPOINT_BYTES_RANGE: std::ops::RangeInclusive<u64> = 1 << 20..=64 << 30;
/// As many as a store has places for.
const CACHED_ACCOUNTS_MAX: usize = 1 << 30;
/// Smallest and largest segment. The smallest holds one entry of the largest size with its frame.
const SEGMENT_BYTES_RANGE: std::ops::RangeInclusive<u64> = 2 << 20..=1 << 30;
/// Segments are whole blocks for direct writes.
const SEGMENT_BLOCK: u64 = 4096;
/// Linux numbers CPUs below this in every distribution's kernel.
const CORES_MAX: usize = 8192;

struct Source<'a> {
    text: &'a str,
    name: &'a str,
}

impl Source<'_> {
    fn refuse(&self, span: Range<usize>, field: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError {
            file: self.name.to_owned(),
            line: Some(line_of(self.text, span.start)),
            field: field.to_owned(),
            problem: problem.into(),
        }
    }
}

pub(crate) fn parse(text: &str, name: &str) -> Result<ClusterConfig, ConfigError> {
    let raw: RawConfig =
        toml::from_str(text).map_err(|error| ConfigError::toml(name, text, &error))?;
    let source = Source { text, name };
    let cluster_id = *raw.cluster_id.get_ref();
    if cluster_id == 0 {
        return Err(source.refuse(raw.cluster_id.span(), "cluster_id", "must not be 0"));
    }
    let shards = *raw.shards.get_ref();
    if !(1..=SHARDS_MAX).contains(&shards) {
        let problem = format!("{shards} is not between 1 and {SHARDS_MAX}");
        return Err(source.refuse(raw.shards.span(), "shards", problem));
    }
    let replicas = *raw.replicas.get_ref();
    if ![1, 3, 5].contains(&replicas) {
        let problem = format!("{replicas} is not 1, 3 or 5");
        return Err(source.refuse(raw.replicas.span(), "replicas", problem));
    }
    let segment_bytes = check_segment_bytes(&source, raw.segment_bytes.as_ref())?;
    let checkpoint_bytes = check_checkpoint_bytes(&source, raw.checkpoint_bytes.as_ref())?;
    let cached_accounts = check_cached_accounts(&source, raw.cached_accounts.as_ref())?;
    let telemetry_window = check_telemetry_window(&source, raw.telemetry_window.as_ref())?;
    let placement = check_placement(&source, &raw)?;
    let ids = match raw.ids {
        None | Some(RawIds::Ulid) => IdRule::Ulid,
        Some(RawIds::Any) => IdRule::Any,
    };
    let keep = check_keep(&source, raw.keep.as_ref(), ids)?;
    let timing = check_timing(&source, raw.timing)?;
    let limits = check_limits(&source, raw.limits)?;
    let key = check_key_file(&source, raw.key_file.as_ref())?;
    let nodes = check_nodes(&source, &raw.node)?;
    let layout = check_layout(&source, shards, replicas, raw.layout.as_ref(), &nodes)?;
    let config = ClusterConfig {
        cluster_id: ClusterId(cluster_id),
        shards,
        replicas,
        placement,
        share_cores: raw.share_cores,
        reads: match raw.reads {
            None | Some(RawReads::Lease) => Reads::Lease,
            Some(RawReads::Quorum) => Reads::Quorum,
        },
        keep,
        ids,
        segment_bytes,
        checkpoint_bytes,
        cached_accounts,
        telemetry_window,
        timing,
        limits,
        key,
        nodes,
        layout,
    };
    check_addresses(&source, &config, &raw.node)?;
    check_ports(&source, &config, &raw.node)?;
    check_cores(&source, &config, &raw.node)?;
    Ok(config)
}

/// Ids are let go of by their own time, so they must have one.
fn check_keep(
    source: &Source<'_>,
    raw: Option<&Spanned<RawKeep>>,
    ids: IdRule,
) -> Result<Keep, ConfigError> {
    let Some(raw) = raw else {
        return Ok(Keep::All);
    };
    let RawKeep::For(duration) = *raw.get_ref() else {
        return Ok(Keep::All);
    };
    let (min, max) = (
        Duration::from_nanos(KEEP_NS_MIN),
        Duration::from_nanos(KEEP_NS_MAX),
    );
    if !(min..=max).contains(&duration) || duration.subsec_nanos() != 0 {
        let problem = format!("{duration:?} is not whole seconds between {min:?} and {max:?}");
        return Err(source.refuse(raw.span(), "keep", problem));
    }
    if ids != IdRule::Ulid {
        let problem = "a duration needs ids = \"ulid\": other ids do not tell their age";
        return Err(source.refuse(raw.span(), "keep", problem));
    }
    Ok(Keep::For(duration))
}

fn check_telemetry_window(
    source: &Source<'_>,
    raw: Option<&Spanned<humantime_serde::Serde<Duration>>>,
) -> Result<Duration, ConfigError> {
    let Some(raw) = raw else {
        return Ok(Duration::from_nanos(TELEMETRY_WINDOW_NS));
    };
    let window = **raw.get_ref();
    let (min, max) = (Duration::from_secs(1), Duration::from_secs(86_400));
    if !(min..=max).contains(&window) {
        let problem = format!("{window:?} is not between {min:?} and {max:?}");
        return Err(source.refuse(raw.span(), "telemetry_window", problem));
    }
    Ok(window)
}

fn check_segment_bytes(
    source: &Source<'_>,
    raw: Option<&Spanned<u64>>,
) -> Result<u64, ConfigError> {
    let Some(raw) = raw else {
        return Ok(SEGMENT_BYTES);
    };
    let bytes = *raw.get_ref();
    if !SEGMENT_BYTES_RANGE.contains(&bytes) || !bytes.is_multiple_of(SEGMENT_BLOCK) {
        let problem = format!(
            "{bytes} is not a multiple of {SEGMENT_BLOCK} between {} and {}",
            SEGMENT_BYTES_RANGE.start(),
            SEGMENT_BYTES_RANGE.end()
        );
        return Err(source.refuse(raw.span(), "segment_bytes", problem));
    }
    Ok(bytes)
}

fn check_checkpoint_bytes(
    source: &Source<'_>,
    raw: Option<&Spanned<u64>>,
) -> Result<u64, ConfigError> {
    let Some(raw) = raw else {
        return Ok(CHECKPOINT_WEIGHT);
    };
    let bytes = *raw.get_ref();
    if !CHECKPOINT_BYTES_RANGE.contains(&bytes) {
        let problem = format!(
            "{bytes} is not between {} and {}",
            CHECKPOINT_BYTES_RANGE.start(),
            CHECKPOINT_BYTES_RANGE.end()
        );
        return Err(source.refuse(raw.span(), "checkpoint_bytes", problem));
    }
    Ok(bytes)
}

fn check_cached_accounts(
    source: &Source<'_>,
    raw: Option<&Spanned<usize>>,
) -> Result<usize, ConfigError> {
    let Some(raw) = raw else {
        return Ok(ACCOUNTS_IN_MEMORY_MAX);
    };
    let accounts = *raw.get_ref();
    if accounts > CACHED_ACCOUNTS_MAX {
        let problem = format!("{accounts} is above {CACHED_ACCOUNTS_MAX}");
        return Err(source.refuse(raw.span(), "cached_accounts", problem));
    }
    Ok(accounts)
}

fn check_placement(source: &Source<'_>, raw: &RawConfig) -> Result<Placement, ConfigError> {
    let kind = raw.placement.as_ref().map(|kind| *kind.get_ref());
    match (kind, &raw.accounts_per_shard) {
        (None | Some(RawPlacement::Hash), None) => Ok(Placement::Hash),
        (None | Some(RawPlacement::Hash), Some(count)) => Err(source.refuse(
            count.span(),
            "accounts_per_shard",
            "has a meaning only with placement = \"range\"",
        )),
        (Some(RawPlacement::Range), Some(count)) => match *count.get_ref() {
            0 => Err(source.refuse(count.span(), "accounts_per_shard", "must not be 0")),
            accounts_per_shard => Ok(Placement::Range { accounts_per_shard }),
        },
        (Some(RawPlacement::Range), None) => {
            let span = raw.placement.as_ref().map_or(0..0, Spanned::span);
            let problem = "\"range\" needs accounts_per_shard";
            Err(source.refuse(span, "placement", problem))
        }
    }
}

fn check_timing(
    source: &Source<'_>,
    raw: Option<Spanned<RawTiming>>,
) -> Result<Timing, ConfigError> {
    let Some(raw) = raw else {
        return Ok(TIMING);
    };
    let span = raw.span();
    let raw = raw.into_inner();
    let ns = |given: Option<Duration>, default: u64| match given {
        Some(duration) => u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 8),
        None => default,
    };
    let timing = Timing {
        heartbeat_ns: ns(raw.heartbeat, TIMING.heartbeat_ns),
        election_min_ns: ns(raw.election_min, TIMING.election_min_ns),
        election_max_ns: ns(raw.election_max, TIMING.election_max_ns),
        lease_ns: ns(raw.lease, TIMING.lease_ns),
        drift_ns: ns(raw.drift, TIMING.drift_ns),
        in_doubt_query_after_ns: ns(raw.in_doubt_query_after, TIMING.in_doubt_query_after_ns),
    };
    let too_long = timing.election_max_ns > 3600 * SECOND;
    if too_long || !timing.is_sound() {
        let problem = "needs 0 < heartbeat, 3 heartbeats <= lease - drift, drift < lease <= \
                       election_min < election_max <= 1h and in_doubt_query_after > 0";
        return Err(source.refuse(span, "timing", problem));
    }
    Ok(timing)
}

fn check_limits(
    source: &Source<'_>,
    raw: Option<Spanned<RawLimits>>,
) -> Result<ConnectionLimits, ConfigError> {
    let defaults = ConnectionLimits::default();
    let Some(raw) = raw else {
        return Ok(defaults);
    };
    let span = raw.span();
    let raw = raw.into_inner();
    let limits = ConnectionLimits {
        connections_limit: raw
            .connections
            .as_ref()
            .map_or(defaults.connections_limit, |count| *count.get_ref()),
        handshake_timeout: raw.handshake_timeout.unwrap_or(defaults.handshake_timeout),
        idle_timeout: raw.idle_timeout.unwrap_or(defaults.idle_timeout),
    };
    if let Some(count) = &raw.connections
        && !(8..=1 << 20).contains(count.get_ref())
    {
        let problem = format!("{} is not between 8 and {}", count.get_ref(), 1 << 20);
        return Err(source.refuse(count.span(), "connections", problem));
    }
    if limits.handshake_timeout.is_zero() || limits.idle_timeout.is_zero() {
        return Err(source.refuse(span, "limits", "timeouts must not be 0"));
    }
    Ok(limits)
}

fn check_nodes(
    source: &Source<'_>,
    raw: &[Spanned<RawNode>],
) -> Result<BTreeMap<NodeId, NodeConfig>, ConfigError> {
    let mut nodes = BTreeMap::new();
    let mut directories = BTreeSet::<(IpAddr, PathBuf)>::new();
    if raw.is_empty() {
        return Err(source.refuse(0..0, "node", "there is no [[node]]"));
    }
    for raw in raw.iter().map(Spanned::get_ref) {
        let id = *raw.id.get_ref();
        if id == 0 {
            return Err(source.refuse(raw.id.span(), "id", "nodes count from 1"));
        }
        let address = raw.address.get_ref();
        let address: IpAddr = address.parse().map_err(|_| {
            let problem = format!("\"{address}\" is not an IP address");
            source.refuse(raw.address.span(), "address", problem)
        })?;
        let data_dir = raw.data_dir.get_ref().clone();
        if data_dir.as_os_str().is_empty() {
            return Err(source.refuse(raw.data_dir.span(), "data_dir", "must not be empty"));
        }
        if !directories.insert((address, data_dir.clone())) {
            let problem = format!(
                "{} belongs to another node on {address}",
                data_dir.display()
            );
            return Err(source.refuse(raw.data_dir.span(), "data_dir", problem));
        }
        let cores = raw.cores.get_ref().clone();
        if cores.is_empty() || cores.iter().any(|&core| core >= CORES_MAX) {
            let problem = format!("needs at least one CPU number below {CORES_MAX}");
            return Err(source.refuse(raw.cores.span(), "cores", problem));
        }
        let node = NodeConfig {
            id: NodeId(id),
            address,
            base_port: *raw.base_port.get_ref(),
            cores,
            data_dir,
        };
        if nodes.insert(node.id, node).is_some() {
            let problem = format!("node {id} is there twice");
            return Err(source.refuse(raw.id.span(), "id", problem));
        }
    }
    Ok(nodes)
}

fn check_layout(
    source: &Source<'_>,
    shards: u32,
    replicas: u8,
    raw: Option<&Spanned<Vec<Vec<u32>>>>,
    nodes: &BTreeMap<NodeId, NodeConfig>,
) -> Result<Layout, ConfigError> {
    let Some(raw) = raw else {
        let ids: Vec<NodeId> = nodes.keys().copied().collect();
        return Layout::spread(shards, replicas, &ids)
            .map_err(|problem| source.refuse(0..0, "node", problem));
    };
    let refuse = |problem: String| Err(source.refuse(raw.span(), "layout", problem));
    let rows = raw.get_ref();
    if rows.len() != usize::try_from(shards).expect("a u32 fits a usize here") {
        return refuse(format!("has {} rows for {shards} shards", rows.len()));
    }
    let mut used = BTreeSet::new();
    for (row, shard) in rows.iter().zip(1_u32..) {
        if row.len() != usize::from(replicas) {
            let count = row.len();
            return refuse(format!(
                "shard {shard}: {count} nodes for {replicas} replicas"
            ));
        }
        for (position, &id) in row.iter().enumerate() {
            if !nodes.contains_key(&NodeId(id)) {
                return refuse(format!("shard {shard}: there is no node {id}"));
            }
            if row[..position].contains(&id) {
                return refuse(format!(
                    "shard {shard}: node {id} twice: both replicas would listen on one port"
                ));
            }
            used.insert(NodeId(id));
        }
    }
    if let Some(idle) = nodes.keys().find(|id| !used.contains(id)) {
        return refuse(format!("node {idle} hosts nothing"));
    }
    let to_nodes = |row: &Vec<u32>| row.iter().map(|&id| NodeId(id)).collect();
    Ok(Layout::explicit(rows.iter().map(to_nodes).collect()))
}

fn check_key_file(
    source: &Source<'_>,
    raw: Option<&Spanned<PathBuf>>,
) -> Result<Option<ClusterKey>, ConfigError> {
    let Some(raw) = raw else { return Ok(None) };
    let path = raw.get_ref();
    if path.as_os_str().is_empty() {
        return Err(source.refuse(raw.span(), "key_file", "must not be empty"));
    }
    Ok(Some(ClusterKey::named(path.clone())))
}

/// Without a key whoever reaches a port may move money, so nobody outside this host may.
fn check_addresses(
    source: &Source<'_>,
    config: &ClusterConfig,
    raw: &[Spanned<RawNode>],
) -> Result<(), ConfigError> {
    if config.key.is_some() {
        return Ok(());
    }
    for raw in raw.iter().map(Spanned::get_ref) {
        let address = config.nodes[&NodeId(*raw.id.get_ref())].address;
        if !address.is_loopback() {
            let problem = format!("{address} is not loopback: other hosts need a key_file");
            return Err(source.refuse(raw.address.span(), "address", problem));
        }
    }
    Ok(())
}

/// The ports of all nodes on one address differ, and all exist.
fn check_ports(
    source: &Source<'_>,
    config: &ClusterConfig,
    raw: &[Spanned<RawNode>],
) -> Result<(), ConfigError> {
    let mut taken = BTreeMap::<(IpAddr, u16), NodeId>::new();
    for raw in raw.iter().map(Spanned::get_ref) {
        let node = &config.nodes[&NodeId(*raw.id.get_ref())];
        let refuse =
            |problem: String| Err(source.refuse(raw.base_port.span(), "base_port", problem));
        let last = node.base_port.checked_add(ADMINISTRATION_PORT_OFFSET);
        let (Some(last), true) = (last, node.base_port > 0) else {
            return refuse(format!("{} is not between 1 and 65445", node.base_port));
        };
        let replicas = config.replicas_of(node.id).into_iter();
        let ports = replicas.map(|replica| replica_port(node.base_port, replica.shard));
        for port in ports.chain([last]) {
            if let Some(other) = taken.insert((node.address, port), node.id) {
                return refuse(format!(
                    "node {} and node {other} would both listen on {}:{port}",
                    node.id, node.address
                ));
            }
        }
    }
    Ok(())
}

/// No two replicas of one host share a core, unless `share_cores` allows it.
fn check_cores(
    source: &Source<'_>,
    config: &ClusterConfig,
    raw: &[Spanned<RawNode>],
) -> Result<(), ConfigError> {
    if config.share_cores {
        return Ok(());
    }
    let mut taken = BTreeMap::<(IpAddr, usize), ReplicaAddress>::new();
    for raw in raw.iter().map(Spanned::get_ref) {
        let node = &config.nodes[&NodeId(*raw.id.get_ref())];
        for replica in config.replicas_of(node.id) {
            let core = config.core_of(replica);
            if let Some(other) = taken.insert((node.address, core), replica) {
                let problem = format!(
                    "replicas {other} and {replica} would both run on CPU {core} of {}; list \
                     more cores or set share_cores = true",
                    node.address
                );
                return Err(source.refuse(raw.cores.span(), "cores", problem));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
