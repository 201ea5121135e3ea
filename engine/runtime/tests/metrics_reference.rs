//! `docs/reference/metrics.md` is written from the list that the page is made of.
//!
//! `QUORATE_REWRITE=1 cargo test -p quorate-runtime --test metrics_reference` writes it anew.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fmt::Write;
use std::fs;
use std::path::Path;

use quorate_runtime::{METRICS, MetricKind};

const HEAD: &str = "\
# Metrics

`GET /metrics` on `base_port + 90` of every node: OpenMetrics text, which Prometheus reads. A replica copies its figures out four times a
second. `GET /health` answers 200 while no replica of the node hangs (none has been silent for 5 s), else 503 with their names;
`GET /ready` answers 200 while every replica of the node runs, knows a leader, and serves if it leads, else 503 with what is wrong. Both
answer in JSON. Nobody proves who asks: see [the threat model](../THREAT_MODEL.md).

This page is written from the list that the metrics are made of (`engine/runtime/src/metrics/list.rs`).

| sample | kind | labels | what |
| --- | --- | --- | --- |
";

fn rendered() -> String {
    let mut text = HEAD.to_owned();
    for metric in METRICS {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
        };
        let labels = match metric.labels {
            None => "of the node".to_owned(),
            Some(labels) => [&["shard", "replica"], labels].concat().join(", "),
        };
        let (sample, help) = (metric.sample(), metric.help);
        writeln!(text, "| `{sample}` | {kind} | {labels} | {help} |").unwrap();
    }
    text
}

#[test]
fn every_metric_is_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics.md");
    if std::env::var_os("QUORATE_REWRITE").is_some() {
        fs::write(&path, rendered()).unwrap();
    }
    let documented = fs::read_to_string(&path).unwrap();
    assert_eq!(documented, rendered(), "run with QUORATE_REWRITE=1");
}

/// Names in queries that look like metrics of ours, or of the process.
fn named(text: &str) -> std::collections::BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("quorate_") || word.starts_with("process_"))
        .collect()
}

#[test]
fn dashboard_and_alerts_ask_only_for_what_there_is() {
    let samples: Vec<String> = METRICS
        .iter()
        .map(quorate_runtime::Metric::sample)
        .collect();
    let below = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operate/grafana");
    let dashboard = fs::read_to_string(below.join("dashboard.json")).unwrap();
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let panels = parsed["panels"].as_array().unwrap();
    let mut asked = std::collections::BTreeSet::new();
    for panel in panels {
        for target in panel["targets"].as_array().unwrap() {
            let names = named(target["expr"].as_str().unwrap());
            assert!(!names.is_empty(), "{panel}");
            asked.extend(names);
        }
    }
    let alerts = fs::read_to_string(below.join("alerts.yml")).unwrap();
    let alerting = named(&alerts);
    assert!(alerting.len() > 5, "{alerting:?}");
    asked.extend(alerting);
    for name in asked {
        assert!(
            samples.iter().any(|sample| sample == name),
            "there is no {name}"
        );
    }
}
