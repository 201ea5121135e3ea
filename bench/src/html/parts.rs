//! What the pages of all commands have in common: latencies, money check, plots, host, parameters.

use std::time::{Duration, UNIX_EPOCH};

use crate::figures::{grouped, millis};
use crate::host::Host;
use crate::report::{LatencyUs, Settings};
use crate::verify::VerifyReport;

use super::page::{Page, Table};
use super::plot::{COMMITTED, CROSS_SHARD_RATIO, P99, Timeline};

const MIB: u64 = 1 << 20;

/// What was offered, by whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offered<'a> {
    pub workload: &'static str,
    pub mode: &'static str,
    pub clients: usize,
    pub batch: usize,
    pub settings: &'a Settings,
}

/// A figure's cell in the table of each of some loads.
pub(super) type Cell<'a, L> = (&'a str, &'a dyn Fn(&L) -> String);

/// A table with a column for each load and a row for each figure; a load that was not reached has
/// dashes.
pub(super) fn columns<L>(loads: &[(&str, Option<L>)], cells: &[Cell<'_, L>]) -> Table {
    let names = loads.iter().map(|(name, _)| (*name).to_owned());
    let row = |&(name, show): &Cell<'_, L>| {
        let figures = loads
            .iter()
            .map(|(_, load)| load.as_ref().map_or_else(|| "-".to_owned(), show));
        [name.to_owned()].into_iter().chain(figures).collect()
    };
    Table {
        header: [String::new()].into_iter().chain(names).collect(),
        rows: cells.iter().map(row).collect(),
    }
}

/// Percentiles of classes of requests, a row each.
pub(super) fn latencies(classes: &[(&str, LatencyUs)]) -> Table {
    let header = [
        "latency ms",
        "requests",
        "mean",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
    ];
    let row = |&(name, latency): &(&str, LatencyUs)| {
        let times = [
            latency.mean,
            latency.p50,
            latency.p90,
            latency.p99,
            latency.p999,
            latency.max,
        ];
        let head = [name.to_owned(), grouped(latency.requests)];
        head.into_iter().chain(times.map(millis)).collect()
    };
    Table {
        header: header.map(str::to_owned).to_vec(),
        rows: classes.iter().map(row).collect(),
    }
}

/// The three figures over time.
pub(super) fn over_time(page: &mut Page, timeline: &Timeline<'_>) {
    page.heading("Over time");
    if timeline.is_empty() {
        page.paragraph("No load was measured.");
        return;
    }
    for measure in [COMMITTED, P99, CROSS_SHARD_RATIO] {
        page.drawing(timeline.plot(&measure));
    }
    page.note(
        "One point for each second, by the time at which requests were answered. A second that the \
         load did not fill has an open point and no line. p99 is over the requests of its second, \
         from the intended send time in an open loop.",
    );
    if let Some(rows) = timeline.thinned() {
        page.note(&format!(
            "Of every {rows} seconds the lowest and the highest are drawn; the document has all."
        ));
    }
}

/// The checks of the money, by when they were made.
pub(super) fn money(page: &mut Page, checks: Vec<(&str, Option<&VerifyReport>)>) {
    page.heading("Money check");
    let text = |check: Option<&VerifyReport>| {
        check.map_or_else(|| "not reached".to_owned(), VerifyReport::to_text)
    };
    let rows = checks.into_iter();
    page.facts(rows.map(|(when, check)| (when, text(check))).collect());
    page.note(
        "Checked at a consistent cut: debits equal credits in each ledger, all replicas of a shard \
         have the same digest, every account has one owner.",
    );
}

/// What fixes the work.
pub(super) fn parameters(page: &mut Page, offered: &Offered<'_>, more: Vec<(&str, String)>) {
    page.heading("Parameters");
    let settings = offered.settings;
    let mut rows = vec![
        ("workload", offered.workload.to_owned()),
        ("loop", offered.mode.to_owned()),
        ("clients", offered.clients.to_string()),
        ("transfers per batch", offered.batch.to_string()),
        ("accounts", grouped(settings.accounts.into())),
        ("seed", settings.seed.to_string()),
        ("connections per shard", settings.connections.to_string()),
        ("warm-up seconds", settings.warmup_seconds.to_string()),
    ];
    if let Some(rate) = settings.rate {
        rows.push(("transfers/s offered", rate.to_string()));
    }
    if let Some(transfers) = settings.trace_transfers {
        rows.push(("transfers of the file", grouped(transfers)));
        let cap = settings.first_touch_cap;
        let cap = cap.map_or_else(
            || "off".to_owned(),
            |cap| format!("up to {cap} times the average load"),
        );
        rows.push(("first touch", cap));
    }
    let shape = settings.shape.iter();
    rows.extend(shape.map(|(name, value)| (*name, value.to_string())));
    rows.extend(more);
    page.facts(rows);
}

/// Where it was measured; `started_unix_ns` is the document's decimal string.
pub(super) fn host(page: &mut Page, host: &Host, started_unix_ns: Option<&str>) {
    page.heading("Host");
    let cluster = &host.cluster;
    let mut rows = vec![
        ("kernel", host.kernel.clone()),
        ("CPUs", host.cpus.to_string()),
        (
            "memory",
            format!("{} MiB", grouped(host.memory_bytes / MIB)),
        ),
        ("version", host.version.to_owned()),
        ("build", host.build_profile.to_owned()),
        (
            "cluster",
            format!(
                "{} shards x {} replicas on {} nodes, placement {}, reads by {}, ids {}",
                cluster.shards,
                cluster.replicas,
                cluster.nodes,
                cluster.placement,
                cluster.reads,
                cluster.ids
            ),
        ),
        (
            "cores",
            if cluster.share_cores {
                "shared"
            } else {
                "not shared"
            }
            .to_owned(),
        ),
        (
            "log segments",
            format!("{} MiB", grouped(cluster.segment_bytes / MIB)),
        ),
    ];
    rows.extend(host.cpu_model.clone().map(|model| ("CPU", model)));
    rows.extend(host.git_hash.map(|hash| ("git", hash.to_owned())));
    rows.extend(
        started_unix_ns
            .and_then(date)
            .map(|date| ("measured from", date)),
    );
    page.facts(rows);
}

/// What makes the figures of a build worthless.
pub(super) fn warn_of_build(page: &mut Page, build_profile: &str) {
    if build_profile != "release" {
        page.notice("Debug build of the generator: the figures mean nothing.");
    }
}

/// Universal time of a decimal string of nanoseconds since 1970.
fn date(unix_ns: &str) -> Option<String> {
    let since_1970 = Duration::from_nanos(unix_ns.parse().ok()?);
    Some(humantime::format_rfc3339_seconds(UNIX_EPOCH + since_1970).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_was_not_reached_has_dashes() {
        let double: Cell<'_, u32> = ("double", &|load| (2 * load).to_string());
        let table = columns(&[("before", Some(4)), ("after", None)], &[double]);
        assert_eq!(table.header, ["", "before", "after"]);
        assert_eq!(table.rows, [["double", "8", "-"]]);
    }

    #[test]
    fn the_start_is_told_in_universal_time() {
        let text = date("1700000000000000001");
        assert_eq!(text.as_deref(), Some("2023-11-14T22:13:20Z"));
        assert_eq!(date("soon"), None);
    }
}
