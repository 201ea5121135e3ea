//! What a node tells whoever watches it: every replica publishes its figures, one page shows them.
//!
//! ```text
//! executor s1r1: counts in cells of its own -> Published --+
//! executor s2r1: the same                    -> Published --+-> Page -> GET /metrics, /health, /ready
//! ```
//! An executor copies its figures out a few times a second ([`PUBLISH_INTERVAL`]); no counter is shared on the path of a
//! request. What is read is one replica's figures of one moment, but for a copy that happens during the look.

mod http;
mod list;
mod page;
mod process;
mod published;

pub(crate) use http::serve;
pub(crate) use page::Page;
pub(crate) use published::{Figures, Published};

pub use list::{METRICS, Metric, MetricKind};

use std::time::Duration;

/// How often a replica's figures are copied out, at least; every change of its part in the group is told at once.
pub(crate) const PUBLISH_INTERVAL: Duration = Duration::from_millis(250);
/// A replica whose figures are older hangs: nothing that an executor does takes so long.
pub(crate) const STALE_AFTER: Duration = Duration::from_secs(5);
