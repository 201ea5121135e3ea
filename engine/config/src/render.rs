//! A configuration as the file that parses to it.
//!
//! Written by hand, so that the file explains itself; a test holds writer and parser together.

use std::fmt::Write;
use std::time::Duration;

use quorate_protocol::config::{IdRule, Reads};
use quorate_protocol::limits::{
    ACCOUNTS_IN_MEMORY_MAX, CHECKPOINT_WEIGHT, TELEMETRY_WINDOW_NS, TIMING,
};
use quorate_protocol::shard::map::Placement;

use crate::{ClusterConfig, ConnectionLimits, Keep};

pub(crate) fn render(config: &ClusterConfig) -> String {
    let mut out = String::new();
    write_to(&mut out, config).expect("writing to a string cannot fail");
    out
}

fn write_to(out: &mut String, config: &ClusterConfig) -> std::fmt::Result {
    writeln!(
        out,
        "# Topology of a Quorate cluster; the same file on every host."
    )?;
    writeln!(out, "cluster_id = {}", config.cluster_id)?;
    writeln!(out, "shards = {}", config.shards)?;
    writeln!(out, "replicas = {}  # of every shard", config.replicas)?;
    match config.placement {
        Placement::Hash => writeln!(out, "placement = \"hash\"")?,
        Placement::Range { accounts_per_shard } => {
            writeln!(out, "placement = \"range\"")?;
            writeln!(out, "accounts_per_shard = {accounts_per_shard}")?;
        }
    }
    writeln!(out, "share_cores = {}", config.share_cores)?;
    let reads = match config.reads {
        Reads::Lease => "lease",
        Reads::Quorum => "quorum",
    };
    writeln!(
        out,
        "reads = \"{reads}\"  # or \"quorum\": no clock assumption"
    )?;
    match config.keep {
        Keep::All => writeln!(out, "keep = \"all\"")?,
        Keep::For(duration) => writeln!(out, "keep = {}", quoted_duration(duration))?,
    }
    let ids = match config.ids {
        IdRule::Ulid => "ulid",
        IdRule::Any => "any",
    };
    writeln!(out, "ids = \"{ids}\"  # transfer ids: \"ulid\" or \"any\"")?;
    writeln!(out, "segment_bytes = {}", config.segment_bytes)?;
    if config.checkpoint_bytes != CHECKPOINT_WEIGHT {
        writeln!(out, "checkpoint_bytes = {}", config.checkpoint_bytes)?;
    }
    if config.cached_accounts != ACCOUNTS_IN_MEMORY_MAX {
        writeln!(out, "cached_accounts = {}", config.cached_accounts)?;
    }
    if config.telemetry_window != Duration::from_nanos(TELEMETRY_WINDOW_NS) {
        let window = quoted_duration(config.telemetry_window);
        writeln!(out, "telemetry_window = {window}")?;
    }
    if let Some(key) = &config.key {
        let path = toml::Value::String(key.path().to_string_lossy().into_owned());
        writeln!(out, "key_file = {path}")?;
    }
    if let Some(rows) = config.layout.explicit_rows() {
        let rows: Vec<Vec<u32>> = rows
            .iter()
            .map(|row| row.iter().map(|node| node.0).collect())
            .collect();
        writeln!(
            out,
            "layout = {rows:?}  # row s: the nodes of shard s, its first leader first"
        )?;
    }
    write_timing(out, config)?;
    write_limits(out, config)?;
    for node in config.nodes() {
        let data_dir = toml::Value::String(node.data_dir.to_string_lossy().into_owned());
        writeln!(out, "\n[[node]]")?;
        writeln!(out, "id = {}", node.id)?;
        writeln!(out, "address = \"{}\"", node.address)?;
        writeln!(out, "base_port = {}", node.base_port)?;
        writeln!(out, "cores = {:?}", node.cores)?;
        writeln!(out, "data_dir = {data_dir}")?;
    }
    Ok(())
}

fn write_timing(out: &mut String, config: &ClusterConfig) -> std::fmt::Result {
    let timing = config.timing;
    if timing == TIMING {
        return Ok(());
    }
    writeln!(out, "\n[timing]")?;
    for (key, ns) in [
        ("heartbeat", timing.heartbeat_ns),
        ("election_min", timing.election_min_ns),
        ("election_max", timing.election_max_ns),
        ("lease", timing.lease_ns),
        ("drift", timing.drift_ns),
        ("in_doubt_query_after", timing.in_doubt_query_after_ns),
    ] {
        writeln!(out, "{key} = {}", quoted_duration(Duration::from_nanos(ns)))?;
    }
    Ok(())
}

fn write_limits(out: &mut String, config: &ClusterConfig) -> std::fmt::Result {
    let limits = config.limits;
    if limits == ConnectionLimits::default() {
        return Ok(());
    }
    let (handshake, idle) = (limits.handshake_timeout, limits.idle_timeout);
    writeln!(out, "\n[limits]")?;
    writeln!(out, "connections = {}", limits.connections_limit)?;
    writeln!(out, "handshake_timeout = {}", quoted_duration(handshake))?;
    writeln!(out, "idle_timeout = {}", quoted_duration(idle))
}

/// Whole nanoseconds, in the largest unit that loses nothing.
fn quoted_duration(duration: Duration) -> String {
    let ns = duration.as_nanos();
    for (unit, size) in [
        ("d", 86_400_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
    ] {
        if ns > 0 && ns.is_multiple_of(size) {
            return format!("\"{}{unit}\"", ns / size);
        }
    }
    format!("\"{ns}ns\"")
}
