//! The file as written: one struct per table, with the position of every value that is checked.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawConfig {
    pub cluster_id: Spanned<u64>,
    pub shards: Spanned<u32>,
    pub replicas: Spanned<u8>,
    pub placement: Option<Spanned<RawPlacement>>,
    pub accounts_per_shard: Option<Spanned<u64>>,
    #[serde(default)]
    pub share_cores: bool,
    pub reads: Option<RawReads>,
    pub keep: Option<Spanned<RawKeep>>,
    pub ids: Option<RawIds>,
    pub segment_bytes: Option<Spanned<u64>>,
    pub checkpoint_bytes: Option<Spanned<u64>>,
    pub cached_accounts: Option<Spanned<usize>>,
    pub key_file: Option<Spanned<PathBuf>>,
    pub telemetry_window: Option<Spanned<humantime_serde::Serde<Duration>>>,
    pub layout: Option<Spanned<Vec<Vec<u32>>>>,
    pub timing: Option<Spanned<RawTiming>>,
    pub limits: Option<Spanned<RawLimits>>,
    #[serde(default)]
    pub node: Vec<Spanned<RawNode>>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawPlacement {
    Hash,
    Range,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawReads {
    Lease,
    Quorum,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawIds {
    Ulid,
    Any,
}

/// `"all"` or a duration such as `"30d"`.
#[derive(Clone, Copy)]
pub(crate) enum RawKeep {
    All,
    For(Duration),
}

impl<'de> Deserialize<'de> for RawKeep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        use serde::de::value::{Error as ValueError, StringDeserializer};

        let text = String::deserialize(deserializer)?;
        if text == "all" {
            return Ok(Self::All);
        }
        let duration = StringDeserializer::<ValueError>::new(text.clone());
        match humantime_serde::deserialize(duration) {
            Ok(duration) => Ok(Self::For(duration)),
            Err(_) => Err(D::Error::custom(format!(
                "\"{text}\" is neither \"all\" nor a duration such as \"30d\""
            ))),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawTiming {
    #[serde(with = "humantime_serde")]
    pub heartbeat: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub election_min: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub election_max: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub lease: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub drift: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub in_doubt_query_after: Option<Duration>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLimits {
    pub connections: Option<Spanned<usize>>,
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawNode {
    pub id: Spanned<u32>,
    pub address: Spanned<String>,
    pub base_port: Spanned<u16>,
    pub cores: Spanned<Vec<usize>>,
    pub data_dir: Spanned<PathBuf>,
}
