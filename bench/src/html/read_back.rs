//! What a drawing shows is what the document says: every point is read back and looked up.

use std::collections::BTreeMap;

use serde_json::Value;

use quorate_client::reshard::driver::Moving;
use quorate_client::reshard::{Applied, MovedBatch};
use quorate_protocol::ledger::{ResultCode, ResultRow};
use quorate_protocol::time::Timestamp;

use super::{locality_page, run_page};
use crate::drive::Measured;
use crate::host::Host;
use crate::locality_report::{LocalityReport, StageReport, Stages};
use crate::recorder::Recorder;
use crate::report::{Run, RunReport, Settings};
use crate::reshard_report::ReshardReport;
use crate::select::tests::cluster;
use crate::verify::VerifyReport;

const SECOND_NS: u64 = 1_000_000_000;
const START_NS: u64 = 1_700_000_000 * SECOND_NS;

/// An element's attributes.
type Attributes = BTreeMap<String, String>;

/// All elements of a name, in their order. Enough of a parser for markup whose values have no `>`.
fn elements(page: &str, name: &str) -> Vec<Attributes> {
    let opening = format!("<{name} ");
    let rest = page.split(&opening).skip(1);
    rest.map(|rest| {
        let (inside, _) = rest.split_once('>').expect("an element ends");
        let parts = inside.split("\" ").map(|part| part.trim_end_matches('"'));
        parts
            .map(|part| {
                let (key, value) = part.split_once("=\"").expect("attributes are quoted");
                (key.to_owned(), value.to_owned())
            })
            .collect()
    })
    .collect()
}

/// The points of a page as (stage, key, second, value).
fn points(page: &str) -> Vec<(String, String, usize, f64)> {
    let circles = elements(page, "circle");
    let point = |circle: &Attributes| {
        (
            circle["data-stage"].clone(),
            circle["data-key"].clone(),
            circle["data-second"].parse().unwrap(),
            circle["data-value"].parse().unwrap(),
        )
    };
    circles.iter().map(point).collect()
}

/// Every point must be in `document`, each key and second once; returns how many there are.
fn assert_points_are_the_documents(
    page: &str,
    document: &Value,
    stage_of: impl for<'a> Fn(&'a Value, &str) -> &'a Value,
) -> usize {
    let mut seen = std::collections::BTreeSet::new();
    for (stage, key, second, value) in points(page) {
        let row = &stage_of(document, &stage)["series"][second];
        assert_eq!(row["second"], second, "{stage} {second}");
        assert_eq!(row[&key].as_f64(), Some(value), "{stage} {second} {key}");
        assert!(seen.insert((stage, key, second)), "drawn twice: {row}");
    }
    seen.len()
}

/// How many values the series of `stages` have.
fn values(document: &Value, stages: &[&str]) -> usize {
    let series = |stage: &&str| document[*stage]["series"].as_array().unwrap().clone();
    let keys = ["committed", "p99_us", "cross_shard_ratio"];
    let rows = stages.iter().flat_map(series);
    rows.map(|row| keys.iter().filter(|key| !row[**key].is_null()).count())
        .sum()
}

/// A load that answers `requests` requests in each second, the last of which it does not fill. There
/// is nothing in second 1.
fn recorder(seconds: u64, requests: u64) -> Recorder {
    let mut recorder = Recorder::default();
    let row = |cross| {
        let mut row = ResultRow::logged(ResultCode::Ok, Timestamp(1));
        row.flags = if cross { ResultRow::CROSS_SHARD } else { 0 };
        row
    };
    for second in (0..=seconds).filter(|second| *second != 1) {
        for request in 0..requests {
            let at_ns = second * SECOND_NS + request;
            let latency_ns = 1_000_000 + 37_000 * (second * request % 11);
            let rows = [row(request % 3 == 0), row(false)];
            recorder.request(at_ns, latency_ns, &rows);
        }
    }
    recorder.finish();
    recorder
}

fn run(recorder: &Recorder, seconds: u64) -> RunReport {
    let run = Run {
        workload: "communities",
        mode: "closed",
        clients: 4,
        batch: 2,
        measured_from_unix_ns: Some(START_NS),
        measured_ns: seconds * SECOND_NS + 5_000_000,
        generator_cpu: 0.5,
        interrupted: false,
        error: None,
        settings: settings(),
    };
    let verify = VerifyReport::unavailable("nobody was asked".to_owned());
    RunReport::new(run, recorder, Host::of(&cluster()), verify)
}

fn settings() -> Settings {
    Settings {
        accounts: 9_000,
        seed: 1,
        round: 0,
        connections: 1,
        warmup_seconds: 2,
        rate: None,
        arrivals: None,
        rate_from: None,
        trace_transfers: None,
        first_touch_cap: None,
        shape: BTreeMap::from([("inside_percent", 90.0)]),
    }
}

fn stage(seconds: u64, requests: u64) -> StageReport {
    StageReport::of(&Measured {
        recorder: recorder(seconds, requests),
        measured_from_unix_ns: START_NS,
        measured_ns: seconds * SECOND_NS + 400_000_000,
        sent_ns: seconds * SECOND_NS + 400_000_000,
        closed_tps: None,
        generator_cpu: 0.25,
        interrupted: true,
    })
}

fn moved() -> ReshardReport {
    let batch = |accounts, freeze_ns| MovedBatch {
        accounts,
        freeze_ns: Some(freeze_ns),
    };
    let applied = Applied {
        planned: 300,
        moved: 300,
        batches: vec![
            batch(128, 700_000),
            batch(128, 1_500_000),
            batch(44, 12_000_000),
        ],
        ..Applied::default()
    };
    let times = Moving {
        began_unix_ns: START_NS + 123_000_000,
        ended_unix_ns: START_NS + 3_345_000_000,
        seconds: 3.222,
    };
    ReshardReport::of(&applied, times, Some(START_NS))
}

fn locality() -> LocalityReport {
    LocalityReport {
        before: Some(run(&recorder(10, 40), 10)),
        held_out: Some(stage(3, 30)),
        reshard: Some(moved()),
        during: Some(stage(4, 20)),
        after: Some(run(&recorder(10, 90), 10)),
        verify: Some(VerifyReport::unavailable("nobody was asked".to_owned())),
        cross_shard_ratio: Stages {
            before: Some(0.6),
            predicted: Some(0.1),
            achieved: Some(0.12),
        },
        host: Some(Host::of(&cluster())),
        ..LocalityReport::default()
    }
}

#[test]
fn every_point_of_the_plots_is_in_the_document_and_every_value_is_drawn() {
    let report = locality();
    let document = serde_json::to_value(&report).unwrap();
    let page = locality_page(&report);
    let drawn = assert_points_are_the_documents(&page, &document, |all, stage| &all[stage]);
    let stages = ["before", "held_out", "during", "after"];
    assert_eq!(drawn, values(&document, &stages));
    // Second 1 of each load has no request: a count of 0, and neither a percentile nor a ratio.
    let second_1 = &document["during"]["series"][1];
    assert_eq!(second_1["committed"], 0);
    assert_eq!(second_1["p99_us"], Value::Null);
    let open = elements(&page, "circle").into_iter();
    let open: Vec<Attributes> = open.filter(|circle| circle["class"] == "part").collect();
    // The last second of each load, in three plots.
    assert_eq!(open.len(), 4 * 3);
}

#[test]
fn the_seconds_of_all_loads_follow_each_other_on_one_axis() {
    let page = locality_page(&locality());
    let circles = elements(&page, "circle").into_iter();
    let throughput = circles.filter(|circle| circle["data-key"] == "committed");
    let places: Vec<f64> = throughput
        .map(|circle| circle["cx"].parse().unwrap())
        .collect();
    assert_eq!(places.len(), 11 + 4 + 5 + 11);
    assert!(places.is_sorted(), "{places:?}");
    let starts = elements(&page, "line").into_iter();
    let starts = starts.filter(|line| line["class"] == "boundary");
    assert_eq!(starts.count(), 4 * 3);
}

#[test]
fn the_moves_are_marked_where_the_document_says() {
    let report = locality();
    let document = serde_json::to_value(&report).unwrap();
    let page = locality_page(&report);
    let rectangles = elements(&page, "rect").into_iter();
    let bands: Vec<Attributes> = rectangles
        .filter(|rectangle| rectangle["class"] == "moves")
        .collect();
    assert_eq!(bands.len(), 3);
    for band in bands {
        assert_eq!(band["data-stage"], "during");
        let number = |key: &str| band[key].parse::<f64>().unwrap();
        let reshard = &document["reshard"];
        assert_eq!(
            reshard["from_second"].as_f64(),
            Some(number("data-from-second"))
        );
        assert_eq!(
            reshard["to_second"].as_f64(),
            Some(number("data-to-second"))
        );
        // 3.222 of 31 seconds on an axis of 886 units.
        assert!((number("width") - 92.1).abs() < 0.2, "{}", number("width"));
    }
}

#[test]
fn the_bars_are_the_documents_buckets() {
    let report = locality();
    let document = serde_json::to_value(&report).unwrap();
    let page = locality_page(&report);
    let rectangles = elements(&page, "rect").into_iter();
    let bars: Vec<Value> = rectangles
        .filter(|rectangle| rectangle["class"] == "bar")
        .map(|bar| {
            let number = |key: &str| bar[key].parse::<u64>().unwrap();
            serde_json::json!({
                "from_us": number("data-from-us"),
                "to_us": number("data-to-us"),
                "accounts": number("data-accounts"),
            })
        })
        .collect();
    assert_eq!(Value::from(bars), document["reshard"]["freeze_buckets"]);
}

#[test]
fn a_run_has_a_page_of_its_own() {
    let report = run(&recorder(10, 40), 10);
    let document = serde_json::to_value(&report).unwrap();
    let page = run_page(&report);
    let drawn = assert_points_are_the_documents(&page, &document, |all, _| all);
    let wrapped = serde_json::json!({ "run": document });
    assert_eq!(drawn, values(&wrapped, &["run"]));
}

/// A week of seconds would make a page that no browser opens. What is drawn is still the document's,
/// and no extreme is lost.
#[test]
fn a_long_run_shows_the_extremes_of_every_stretch() {
    let mut report = run(&recorder(2, 5), 2);
    let pattern = report.series[0].clone();
    let row = |second: u64| crate::report::SeriesRow {
        second,
        committed: 1_000 + second * 7_919 % 1_000,
        ..pattern.clone()
    };
    report.series = (0..50_000).map(row).collect();
    report.series[31_415].committed = 3;
    report.series[27_182].committed = 9_999;
    report.seconds = 50_000.0;
    let document = serde_json::to_value(&report).unwrap();
    let page = run_page(&report);
    let drawn = assert_points_are_the_documents(&page, &document, |all, _| all);
    assert!((3_000..=6_000).contains(&drawn), "{drawn}");
    for extreme in ["3", "9999"] {
        let mark = format!("data-key=\"committed\" data-value=\"{extreme}\"");
        assert!(page.contains(&mark), "{extreme} is not drawn");
    }
    assert!(page.contains("Of every 50 seconds"));
}

#[test]
fn a_page_is_made_however_little_was_reached_and_says_why() {
    let early = LocalityReport {
        error: Some("preparing: <no> leader & \"nobody\" answers".to_owned()),
        ..LocalityReport::default()
    };
    let page = locality_page(&early);
    for part in [
        "Ended early: preparing: &lt;no&gt; leader &amp; &quot;nobody&quot; answers",
        "No load was measured",
        "No account was moved",
        "not reached",
    ] {
        assert!(page.contains(part), "{part} is missing in\n{page}");
    }
    assert!(points(&page).is_empty());
    let mut failed = run(&Recorder::default(), 0);
    failed.error = Some("account 1 exists".to_owned());
    let page = run_page(&failed);
    assert!(page.contains("No load was run: account 1 exists"), "{page}");
    assert!(points(&page).is_empty());
}

/// Whatever a cluster answers, a page stays text and drawings, and asks nobody for anything.
#[test]
fn a_page_holds_no_script_and_no_address() {
    let evil = "<script src=\"//x\">alert(1)</script>";
    let mut report = locality();
    report.error = Some(evil.to_owned());
    report.verify = Some(VerifyReport::unavailable(evil.to_owned()));
    if let Some(host) = &mut report.host {
        host.cpu_model = Some(evil.to_owned());
        host.kernel = evil.to_owned();
    }
    let page = locality_page(&report);
    assert_eq!(
        page.matches("&lt;script src=&quot;//x&quot;&gt;").count(),
        5
    );
    for forbidden in ["<script", "src=\"", "href", "url(", "@import", "://"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}
