//! The answers: metrics as OpenMetrics text, health and readiness as JSON.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, text::encode,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use quorate_protocol::client::Role;
use quorate_protocol::ids::NodeId;
use quorate_wire::WIRE_VERSION;
use serde_json::{Value, json};

use super::list::{self, METRICS, Metric, MetricKind};
use super::process::Process;
use super::{Figures, Published, STALE_AFTER};
use crate::clock::monotonic_ns;
use crate::refusals::CAUSES;

/// What one node shows.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    node: NodeId,
    replicas: Arc<[Arc<Published>]>,
}

impl Page {
    pub(crate) fn new(node: NodeId, replicas: impl IntoIterator<Item = Arc<Published>>) -> Self {
        Self {
            node,
            replicas: replicas.into_iter().collect(),
        }
    }

    /// OpenMetrics text.
    pub(crate) fn metrics(&self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::with_capacity(16 << 10);
        encode(&mut text, &registry)?;
        Ok(text)
    }

    /// Whether no replica hangs, and which ones do.
    pub(crate) fn health(&self) -> (bool, Value) {
        let now_ns = monotonic_ns();
        let ages = self.replicas.iter().map(|replica| {
            let at_ns = replica.latest().map(|figures| figures.at_ns);
            let age = at_ns.map(|at_ns| now_ns.saturating_sub(at_ns));
            let hangs = age.is_none_or(|age| u128::from(age) > STALE_AFTER.as_nanos());
            (replica.address, hangs)
        });
        let hanging: Vec<String> = ages
            .filter(|(_, hangs)| *hangs)
            .map(|(address, _)| address.to_string())
            .collect();
        let is_healthy = hanging.is_empty();
        let document = json!({"healthy": is_healthy, "node": self.node.0, "hanging": hanging});
        (is_healthy, document)
    }

    /// Whether every replica of this node takes part in its group, and why one does not.
    pub(crate) fn readiness(&self) -> (bool, Value) {
        let mut is_ready = true;
        let mut replicas = Vec::with_capacity(self.replicas.len());
        for replica in &*self.replicas {
            let latest = replica.latest();
            let problem = problem(latest.as_deref());
            is_ready &= problem.is_none();
            replicas.push(json!({
                "shard": replica.address.shard.0,
                "replica": replica.address.replica.0,
                "role": latest.as_deref().map(|figures| figures.status.role.name()),
                "problem": problem,
            }));
        }
        let document = json!({"ready": is_ready, "node": self.node.0, "replicas": replicas});
        (is_ready, document)
    }

    fn each(
        &self,
        metric: &Metric,
        encoder: &mut MetricEncoder<'_>,
        mut samples: impl FnMut(&Figures, &mut Samples<'_, '_>) -> fmt::Result,
    ) -> fmt::Result {
        for replica in &*self.replicas {
            let Some(figures) = replica.latest() else {
                continue;
            };
            let address = replica.address;
            samples(
                &figures,
                &mut Samples {
                    encoder: &mut *encoder,
                    kind: metric.kind,
                    label: metric.labels.and_then(|labels| labels.first().copied()),
                    shard: address.shard.0.to_string(),
                    replica: address.replica.0.to_string(),
                },
            )?;
        }
        Ok(())
    }
}

fn problem(figures: Option<&Figures>) -> Option<String> {
    let Some(figures) = figures else {
        return Some("starts".to_owned());
    };
    let status = &figures.status;
    match status.role {
        Role::Stopped | Role::Recovering if status.reason.is_empty() => {
            Some(status.role.name().to_owned())
        }
        Role::Stopped | Role::Recovering => Some(status.reason.clone()),
        _ if figures.is_isolated => Some("isolated".to_owned()),
        _ if status.leader.is_none() => Some("knows no leader".to_owned()),
        Role::Leader if !status.serving => Some("does not serve yet".to_owned()),
        Role::Leader | Role::Follower | Role::Candidate => None,
    }
}

/// The samples of one replica for one metric.
struct Samples<'a, 'b> {
    encoder: &'a mut MetricEncoder<'b>,
    kind: MetricKind,
    label: Option<&'static str>,
    shard: String,
    replica: String,
}

impl Samples<'_, '_> {
    fn plain(&mut self, value: u64) -> fmt::Result {
        let labels = [("shard", &*self.shard), ("replica", &*self.replica)];
        sample(self.encoder, self.kind, &labels, value)
    }

    fn labelled(&mut self, label: &str, value: u64) -> fmt::Result {
        let labels = labels(&self.shard, &self.replica, self.label, label);
        sample(self.encoder, self.kind, &labels, value)
    }

    fn seconds(&mut self, label: &str, microseconds: u32) -> fmt::Result {
        let labels = labels(&self.shard, &self.replica, self.label, label);
        let mut family = self.encoder.encode_family(&labels)?;
        family.encode_gauge(&(f64::from(microseconds) / 1e6))
    }
}

/// Of one sample of a metric that has a label of its own.
fn labels<'l>(
    shard: &'l str,
    replica: &'l str,
    name: Option<&'static str>,
    label: &'l str,
) -> [(&'l str, &'l str); 3] {
    let name = name.expect("the list gives it one");
    [("shard", shard), ("replica", replica), (name, label)]
}

fn sample(
    encoder: &mut MetricEncoder<'_>,
    kind: MetricKind,
    labels: &impl EncodeLabelSet,
    value: u64,
) -> fmt::Result {
    let mut family = encoder.encode_family(labels)?;
    match kind {
        MetricKind::Counter => family.encode_counter::<NoLabelSet, _, u64>(&value, None),
        MetricKind::Gauge => family.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX)),
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let process = Process::look().map_err(|error| {
            tracing::warn!("no figures of the process: {error}");
            fmt::Error
        })?;
        for metric in METRICS {
            let kind = match metric.kind {
                MetricKind::Counter => MetricType::Counter,
                MetricKind::Gauge => MetricType::Gauge,
            };
            let family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            self.encode_metric(metric, family, process)?;
        }
        Ok(())
    }
}

impl Page {
    fn encode_metric(
        &self,
        metric: &Metric,
        mut encoder: MetricEncoder<'_>,
        process: Process,
    ) -> fmt::Result {
        let to = &mut encoder;
        match metric.name {
            "quorate_build" => {
                let wire = WIRE_VERSION.to_string();
                let labels = [("version", env!("CARGO_PKG_VERSION")), ("wire", &*wire)];
                sample(to, metric.kind, &labels, 1)
            }
            "process_resident_memory_bytes" => to.encode_gauge(&signed(process.resident_bytes)),
            "process_open_fds" => to.encode_gauge(&signed(process.open_files)),
            "process_cpu_seconds" => {
                to.encode_counter::<NoLabelSet, _, u64>(&process.cpu_seconds, None)
            }
            list::ROLE => self.each(metric, to, |it, out| {
                Role::ALL.iter().try_for_each(|&role| {
                    out.labelled(role.name(), (it.status.role == role).into())
                })
            }),
            list::SERVING => self.each(metric, to, |it, out| out.plain(it.status.serving.into())),
            list::HAS_LEADER => self.each(metric, to, |it, out| {
                out.plain(it.status.leader.is_some().into())
            }),
            list::ISOLATED => self.each(metric, to, |it, out| out.plain(it.is_isolated.into())),
            list::DISK_FULL => self.each(metric, to, |it, out| out.plain(it.is_disk_full.into())),
            list::BALLOT => self.each(metric, to, |it, out| out.plain(it.status.ballot.0)),
            list::CHOSEN => self.each(metric, to, |it, out| out.plain(it.status.chosen_upto.0)),
            list::APPLIED => self.each(metric, to, |it, out| out.plain(it.status.applied_upto.0)),
            list::MAP_EPOCH => self.each(metric, to, |it, out| out.plain(it.status.epoch.into())),
            list::ACCOUNTS => self.each(metric, to, |it, out| out.plain(it.status.accounts)),
            list::TRANSFERS => self.each(metric, to, |it, out| out.plain(it.status.transfers)),
            list::IN_DOUBT => self.each(metric, to, |it, out| out.plain(it.status.in_doubt)),
            list::COMMITTED => self.each(metric, to, |it, out| {
                out.labelled("local", it.status.committed_local)?;
                out.labelled("cross", it.status.committed_cross)
            }),
            list::LATENCY => self.each(metric, to, |it, out| {
                out.seconds("0.5", it.status.latency.p50_us)?;
                out.seconds("0.99", it.status.latency.p99_us)
            }),
            list::REQUESTS => self.each(metric, to, |it, out| {
                out.plain(it.status.latency.requests.into())
            }),
            list::CONNECTIONS => self.each(metric, to, |it, out| {
                out.labelled("client", count(it.census.clients))?;
                out.labelled("peer", count(it.census.peers))?;
                out.labelled("stranger", count(it.census.strangers))
            }),
            list::REFUSED => self.each(metric, to, |it, out| {
                let mut causes = CAUSES.iter().zip(it.refused);
                causes.try_for_each(|(cause, refused)| out.labelled(cause, refused))
            }),
            list::RELAYED => self.each(metric, to, |it, out| out.plain(it.relayed)),
            list::LOG_BYTES => self.each(metric, to, |it, out| out.plain(it.log.flushed_bytes)),
            list::LOG_FLUSHES => self.each(metric, to, |it, out| out.plain(it.log.flushes)),
            list::LOG_SEGMENTS => self.each(metric, to, |it, out| {
                out.labelled("prepared", it.log.segments_prepared)?;
                out.labelled("recycled", it.log.segments_recycled)
            }),
            list::STORE_BYTES => self.each(metric, to, |it, out| out.plain(it.store.file_bytes)),
            list::CHECKPOINTS => self.each(metric, to, |it, out| out.plain(it.store.checkpoints)),
            name => unreachable!("{name} is in the list and has no value"),
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use quorate_protocol::client::{RequestLatency, Status};
    use quorate_protocol::ids::{Ballot, ReplicaAddress, ReplicaId, ShardId, Slot};
    use quorate_storage::{store, wal};

    use super::*;
    use crate::connections::Census;

    fn figures(role: Role, leader: Option<u8>) -> Figures {
        Figures {
            at_ns: monotonic_ns(),
            status: Status {
                shard: ShardId(2),
                replica: ReplicaId(3),
                role,
                ballot: Ballot(259),
                leader: leader.map(ReplicaId),
                serving: role == Role::Leader,
                chosen_upto: Slot(12),
                applied_upto: Slot(11),
                epoch: 4,
                accounts: 3_000,
                transfers: 70,
                in_doubt: 5,
                committed_local: 60,
                committed_cross: 10,
                latency: RequestLatency {
                    requests: 8,
                    p50_us: 1_500,
                    p99_us: 20_000,
                },
                reason: "why".to_owned(),
            },
            is_isolated: false,
            is_disk_full: false,
            census: Census {
                clients: 1,
                peers: 2,
                strangers: 3,
            },
            refused: [6; CAUSES.len()],
            relayed: 8,
            log: wal::Counters::default(),
            store: store::Counters::default(),
        }
    }

    fn page(told: Option<Figures>) -> Page {
        let published = Arc::new(Published::new(ReplicaAddress {
            shard: ShardId(2),
            replica: ReplicaId(3),
        }));
        if let Some(figures) = told {
            published.tell(figures);
        }
        Page::new(NodeId(7), [published])
    }

    #[test]
    fn every_metric_of_the_list_is_on_the_page_with_its_labels() {
        let text = page(Some(figures(Role::Leader, Some(3))))
            .metrics()
            .unwrap();
        for metric in METRICS {
            let sample = metric.sample();
            let lines: Vec<&str> = text
                .lines()
                .filter(|line| {
                    line.strip_prefix(&sample)
                        .is_some_and(|rest| rest.starts_with(['{', ' ']))
                })
                .collect();
            assert!(!lines.is_empty(), "{sample} is not in\n{text}");
            for line in lines {
                for label in metric.labels.unwrap_or_default() {
                    assert!(line.contains(&format!("{label}=\"")), "{line}");
                }
                assert_eq!(
                    line.contains("shard=\"2\""),
                    metric.labels.is_some(),
                    "{line}"
                );
            }
        }
        assert!(text.ends_with("# EOF\n"));
        for line in [
            "quorate_role{shard=\"2\",replica=\"3\",role=\"leader\"} 1",
            "quorate_role{shard=\"2\",replica=\"3\",role=\"follower\"} 0",
            "quorate_committed_total{shard=\"2\",replica=\"3\",kind=\"cross\"} 10",
            "quorate_request_seconds{shard=\"2\",replica=\"3\",quantile=\"0.99\"} 0.02",
        ] {
            assert!(
                text.lines().any(|it| it == line),
                "{line} is not in\n{text}"
            );
        }
    }

    #[test]
    fn a_replica_that_takes_no_part_is_not_ready_and_says_why() {
        let problem = |told: Option<Figures>| {
            let (is_ready, document) = page(told).readiness();
            let problem = document["replicas"][0]["problem"].clone();
            assert_eq!(is_ready, problem.is_null());
            problem.as_str().unwrap_or_default().to_owned()
        };
        assert_eq!(problem(Some(figures(Role::Follower, Some(1)))), "");
        assert_eq!(problem(Some(figures(Role::Leader, Some(3)))), "");
        assert_eq!(problem(None), "starts");
        assert_eq!(
            problem(Some(figures(Role::Follower, None))),
            "knows no leader"
        );
        assert_eq!(problem(Some(figures(Role::Stopped, None))), "why");
        let isolated = Figures {
            is_isolated: true,
            ..figures(Role::Follower, Some(1))
        };
        assert_eq!(problem(Some(isolated)), "isolated");
    }

    #[test]
    fn a_replica_that_tells_nothing_for_long_hangs() {
        assert!(page(Some(figures(Role::Follower, None))).health().0);
        let old = Figures {
            at_ns: monotonic_ns().saturating_sub(6_000_000_000),
            ..figures(Role::Follower, None)
        };
        let (is_healthy, document) = page(Some(old)).health();
        assert!(!is_healthy);
        assert_eq!(document["hanging"][0], "s2r3");
        assert!(!page(None).health().0);
    }
}
