//! Where a figure was measured: without it no two figures can be compared.

use serde::Serialize;

use quorate_config::ClusterConfig;
use quorate_protocol::config::{IdRule, Reads};
use quorate_protocol::shard::map::Placement;

/// The machine and the build of the generator, and the cluster's settings.
#[derive(Clone, Debug, Serialize)]
pub struct Host {
    pub kernel: String,
    pub cpus: usize,
    pub cpu_model: Option<String>,
    pub memory_bytes: u64,
    pub version: &'static str,
    /// `None` for debug builds and trees without git.
    pub git_hash: Option<&'static str>,
    pub build_profile: &'static str,
    pub cluster: ClusterSettings,
}

/// What of the topology decides a figure.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterSettings {
    pub shards: u32,
    pub replicas: u8,
    pub nodes: usize,
    pub placement: &'static str,
    pub share_cores: bool,
    pub reads: &'static str,
    pub ids: &'static str,
    pub segment_bytes: u64,
}

impl Host {
    /// This host, driving `config`'s cluster.
    #[must_use]
    pub fn of(config: &ClusterConfig) -> Self {
        let uname = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        let sysinfo = rustix::system::sysinfo();
        Self {
            kernel: format!("{} {}", text(uname.sysname()), text(uname.release())),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            cpu_model: cpu_model(),
            memory_bytes: sysinfo.totalram.saturating_mul(u64::from(sysinfo.mem_unit)),
            version: env!("CARGO_PKG_VERSION"),
            git_hash: option_env!("QUORATE_GIT_HASH"),
            build_profile: env!("QUORATE_BUILD_PROFILE"),
            cluster: ClusterSettings::of(config),
        }
    }
}

impl ClusterSettings {
    fn of(config: &ClusterConfig) -> Self {
        Self {
            shards: config.shards,
            replicas: config.replicas,
            nodes: config.nodes().len(),
            placement: match config.placement {
                Placement::Hash => "hash",
                Placement::Range { .. } => "range",
            },
            share_cores: config.share_cores,
            reads: match config.reads {
                Reads::Lease => "lease",
                Reads::Quorum => "quorum",
            },
            ids: match config.ids {
                IdRule::Ulid => "ulid",
                IdRule::Any => "any",
            },
            segment_bytes: config.segment_bytes,
        }
    }
}

/// Whether this binary was built without optimisation: its figures mean nothing.
#[must_use]
pub fn is_debug_build() -> bool {
    env!("QUORATE_BUILD_PROFILE") != "release"
}

/// The first processor's name, where the kernel tells.
fn cpu_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    let (_, name) = line.split_once(':')?;
    Some(name.trim().to_owned())
}
