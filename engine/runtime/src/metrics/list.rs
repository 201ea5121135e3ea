//! Every metric that a node has: the page is made from this list, and the documentation is compared with it.

/// What a metric is, in the words of OpenMetrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises, until the process or the leadership ends.
    Counter,
    Gauge,
}

/// One metric as it is documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// As it stands on the page; a counter's samples have `_total` behind it.
    pub name: &'static str,
    pub kind: MetricKind,
    /// Beside `shard` and `replica`; of the node as a whole if `None`.
    pub labels: Option<&'static [&'static str]>,
    pub help: &'static str,
}

impl Metric {
    /// The name of its samples.
    #[must_use]
    pub fn sample(&self) -> String {
        match self.kind {
            MetricKind::Counter => format!("{}_total", self.name),
            MetricKind::Gauge => self.name.to_owned(),
        }
    }
}

/// All metrics, in the order of the page.
pub const METRICS: &[Metric] = &[
    of_node(
        "quorate_build",
        "1; its labels are the version of the program and of the wire",
    ),
    of_node(
        "process_resident_memory_bytes",
        "memory that the process has",
    ),
    of_node("process_open_fds", "descriptors that the process has open"),
    Metric {
        kind: MetricKind::Counter,
        ..of_node("process_cpu_seconds", "CPU time of the process")
    },
    gauge(ROLE, &["role"], "1 for the role that the replica has"),
    gauge(
        SERVING,
        &[],
        "1 while the replica leads its shard and serves",
    ),
    gauge(HAS_LEADER, &[], "1 while the replica knows who leads"),
    gauge(
        ISOLATED,
        &[],
        "1 while the node was told to stay away from its peers",
    ),
    gauge(
        DISK_FULL,
        &[],
        "1 while no new work is taken for want of room on the disk",
    ),
    gauge(BALLOT, &[], "highest ballot promised"),
    gauge(
        CHOSEN,
        &[],
        "last slot of the log that is known to be chosen",
    ),
    gauge(APPLIED, &[], "last slot that is applied"),
    gauge(MAP_EPOCH, &[], "changes of the shard map so far"),
    gauge(ACCOUNTS, &[], "accounts that the shard owns"),
    gauge(TRANSFERS, &[], "transfers that the shard has committed"),
    gauge(
        IN_DOUBT,
        &[],
        "prepared transfers and moves whose decision is not known here",
    ),
    counter(
        COMMITTED,
        &["kind"],
        "transfers committed since this replica began to lead, local or cross (between shards)",
    ),
    gauge(
        LATENCY,
        &["quantile"],
        "time from arrival to reply of requests of the last second that create something, at their leader; right to an eighth",
    ),
    gauge(
        REQUESTS,
        &[],
        "requests of the last second that create something, at their leader",
    ),
    gauge(
        CONNECTIONS,
        &["kind"],
        "connections of clients, of peers, and of strangers in their handshake",
    ),
    counter(
        REFUSED,
        &["cause"],
        "frames, connections and messages that were refused or dropped",
    ),
    counter(
        RELAYED,
        &[],
        "messages to leaders of other shards that were sent by way of a third node, for want of a link",
    ),
    counter(LOG_BYTES, &[], "bytes that went to the log's disk"),
    counter(LOG_FLUSHES, &[], "flushes of the log"),
    counter(
        LOG_SEGMENTS,
        &["source"],
        "segments of the log, prepared anew or recycled",
    ),
    counter(STORE_BYTES, &[], "bytes written to files of the store"),
    counter(CHECKPOINTS, &[], "checkpoints published"),
];

pub(super) const ROLE: &str = "quorate_role";
pub(super) const SERVING: &str = "quorate_serving";
pub(super) const HAS_LEADER: &str = "quorate_has_leader";
pub(super) const ISOLATED: &str = "quorate_isolated";
pub(super) const DISK_FULL: &str = "quorate_disk_full";
pub(super) const BALLOT: &str = "quorate_ballot";
pub(super) const CHOSEN: &str = "quorate_chosen_slot";
pub(super) const APPLIED: &str = "quorate_applied_slot";
pub(super) const MAP_EPOCH: &str = "quorate_map_epoch";
pub(super) const ACCOUNTS: &str = "quorate_accounts";
pub(super) const TRANSFERS: &str = "quorate_transfers";
pub(super) const IN_DOUBT: &str = "quorate_in_doubt";
pub(super) const COMMITTED: &str = "quorate_committed";
pub(super) const LATENCY: &str = "quorate_request_seconds";
pub(super) const REQUESTS: &str = "quorate_requests_per_second";
pub(super) const CONNECTIONS: &str = "quorate_connections";
pub(super) const REFUSED: &str = "quorate_refused";
pub(super) const RELAYED: &str = "quorate_relayed";
pub(super) const LOG_BYTES: &str = "quorate_log_bytes";
pub(super) const LOG_FLUSHES: &str = "quorate_log_flushes";
pub(super) const LOG_SEGMENTS: &str = "quorate_log_segments";
pub(super) const STORE_BYTES: &str = "quorate_store_bytes";
pub(super) const CHECKPOINTS: &str = "quorate_checkpoints";

const fn of_node(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: MetricKind::Gauge,
        labels: None,
        help,
    }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric {
        name,
        kind: MetricKind::Gauge,
        labels: Some(labels),
        help,
    }
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        kind: MetricKind::Counter,
        ..gauge(name, labels, help)
    }
}
