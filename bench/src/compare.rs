//! `quorate-bench compare`: two runs beside each other, and what else differs between them.
//!
//! Two documents are two samples of a machine that may be busier in one of them: a ratio here says what these
//! runs did, and nothing about how it would be repeated.

use std::fs;
use std::path::Path;

use comfy_table::CellAlignment;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::args::CompareArguments;
use crate::failure::Failure;
use crate::figures::table;
use crate::output::Document;

/// Parts of a run's document that say under which conditions it ran.
const CONDITIONS: [&str; 6] = ["workload", "mode", "clients", "batch", "settings", "host"];

/// The figures of a run that are compared, as `run --json` writes them.
#[derive(Debug, Deserialize)]
struct Figures {
    seconds: f64,
    committed: u64,
    rejected: std::collections::BTreeMap<String, u64>,
    unknown: u64,
    dropped: u64,
    throughput_tps: f64,
    cross_shard_ratio: Option<f64>,
    latency_us: Latency,
    local: Class,
    cross: Class,
    generator_cpu: Option<f64>,
    interrupted: Option<bool>,
    error: Option<String>,
    verify: Verify,
}

#[derive(Debug, Deserialize)]
struct Latency {
    p50: Option<f64>,
    p99: Option<f64>,
    p999: Option<f64>,
    max: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Class {
    latency_us: Latency,
}

#[derive(Debug, Deserialize)]
struct Verify {
    ok: bool,
}

/// Two runs beside each other.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub figures: Vec<FigureRow>,
    /// Conditions that are not the same in both: a difference of figures may be theirs.
    pub differences: Vec<Difference>,
    /// What makes one of the runs a bad one to compare with.
    pub warnings: Vec<String>,
}

/// One figure of both runs.
#[derive(Debug, Serialize, PartialEq)]
pub struct FigureRow {
    /// As in the document, parts joined by dots.
    pub figure: &'static str,
    pub a: Option<f64>,
    pub b: Option<f64>,
    /// b / a; `null` if one of them is missing or a is 0.
    pub ratio: Option<f64>,
}

/// One condition that differs.
#[derive(Debug, Serialize, PartialEq)]
pub struct Difference {
    /// As in the document, parts joined by dots.
    pub condition: String,
    pub a: Value,
    pub b: Value,
}

/// Runs the command.
///
/// # Errors
/// A file that is not a run's document, or a result that cannot be written.
pub fn compare(arguments: &CompareArguments) -> Result<(), Failure> {
    let (a, b) = (read(&arguments.a)?, read(&arguments.b)?);
    let comparison = Comparison::of(&a, &b);
    let mut document = Document::open(arguments.json.then_some(Path::new("-")))?;
    document.write(&comparison, |terminal| comparison.to_text(terminal))
}

/// A document, and the figures in it.
struct Run {
    figures: Figures,
    document: Value,
}

fn read(path: &Path) -> Result<Run, Failure> {
    let name = path.display();
    let text =
        fs::read_to_string(path).map_err(|error| Failure::Usage(format!("{name}: {error}")))?;
    parse(&text)
        .map_err(|error| Failure::Usage(format!("{name}: not a document of `run --json`: {error}")))
}

/// Twice from the text: only so does an error of either kind name its line and field.
fn parse(text: &str) -> serde_json::Result<Run> {
    Ok(Run {
        document: serde_json::from_str(text)?,
        figures: serde_json::from_str(text)?,
    })
}

impl Comparison {
    fn of(a: &Run, b: &Run) -> Self {
        let figures = figures(&a.figures)
            .into_iter()
            .zip(figures(&b.figures))
            .map(|((figure, a), (_, b))| FigureRow {
                figure,
                a,
                b,
                ratio: ratio(a, b),
            });
        let mut differences = Vec::new();
        for key in CONDITIONS {
            differ(key, &a.document[key], &b.document[key], &mut differences);
        }
        Self {
            figures: figures.collect(),
            differences,
            warnings: [("A", a), ("B", b)]
                .into_iter()
                .flat_map(|(name, run)| warnings(name, &run.figures))
                .collect(),
        }
    }

    fn to_text(&self, terminal: bool) -> String {
        let mut figures = table(terminal);
        figures.set_header(["", "A", "B", "B / A"]);
        for row in &self.figures {
            let ratio = row.ratio.map(|ratio| format!("{ratio:.3}"));
            let cells = [number(row.a), number(row.b), ratio];
            let cells = cells.map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
            figures.add_row([row.figure.to_owned()].into_iter().chain(cells));
        }
        for column in figures.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = figures.to_string();
        if !self.differences.is_empty() {
            let mut differences = table(terminal);
            differences.set_header(["differs", "A", "B"]);
            for Difference { condition, a, b } in &self.differences {
                differences.add_row([condition.clone(), plain(a), plain(b)]);
            }
            text.push_str(&format!("\n\n{differences}"));
        }
        for warning in &self.warnings {
            text.push_str(&format!("\nwarning: {warning}"));
        }
        text
    }
}

fn figures(run: &Figures) -> [(&'static str, Option<f64>); 15] {
    let count = |count: u64| Some(crate::figures::float(count));
    [
        ("throughput_tps", Some(run.throughput_tps)),
        ("cross_shard_ratio", run.cross_shard_ratio),
        ("latency_us.p50", run.latency_us.p50),
        ("latency_us.p99", run.latency_us.p99),
        ("latency_us.p999", run.latency_us.p999),
        ("latency_us.max", run.latency_us.max),
        ("local.latency_us.p50", run.local.latency_us.p50),
        ("local.latency_us.p99", run.local.latency_us.p99),
        ("cross.latency_us.p50", run.cross.latency_us.p50),
        ("cross.latency_us.p99", run.cross.latency_us.p99),
        ("seconds", Some(run.seconds)),
        ("committed", count(run.committed)),
        ("rejected", count(run.rejected.values().sum())),
        ("unknown", count(run.unknown)),
        ("dropped", count(run.dropped)),
    ]
}

fn ratio(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    let ratio = b? / a?;
    ratio.is_finite().then_some(ratio)
}

/// Every leaf that is not the same in both.
fn differ(name: &str, a: &Value, b: &Value, found: &mut Vec<Difference>) {
    if a == b {
        return;
    }
    let (Value::Object(left), Value::Object(right)) = (a, b) else {
        found.push(Difference {
            condition: name.to_owned(),
            a: a.clone(),
            b: b.clone(),
        });
        return;
    };
    let more = right.keys().filter(|key| !left.contains_key(*key));
    for key in left.keys().chain(more) {
        differ(&format!("{name}.{key}"), &a[key], &b[key], found);
    }
}

fn warnings(name: &str, run: &Figures) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(error) = &run.error {
        warnings.push(format!("{name} did not come to its end: {error}"));
    }
    if run.interrupted == Some(true) {
        warnings.push(format!("{name} was stopped by a signal before its time"));
    }
    if !run.verify.ok {
        warnings.push(format!("{name} did not pass its check of the money"));
    }
    if let Some(cpu) = run
        .generator_cpu
        .filter(|cpu| *cpu > crate::generator::BUSY)
    {
        warnings.push(format!(
            "{name}: the generator used {:.0} % of its core, it may be what was measured",
            cpu * 100.0
        ));
    }
    warnings
}

/// Whole from a thousand on, where decimals are noise.
fn number(value: Option<f64>) -> Option<String> {
    value.map(|value| match value {
        value if value >= 1_000.0 => crate::figures::grouped_f64(value),
        value if value.fract() == 0.0 => format!("{value}"),
        value => format!("{value:.3}"),
    })
}

/// A condition for people: a string without its quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(throughput: f64, change: impl FnOnce(&mut Value)) -> Run {
        let latency = json!({"requests": 9, "mean": 1.0, "p50": 2.0, "p90": 3.0, "p99": 4.0, "p999": 5.0, "max": 6.0});
        let mut document = json!({
            "workload": "uniform", "mode": "closed", "clients": 4, "batch": 10, "seconds": 2.0,
            "committed": 20, "rejected": {"exceeds_credits": 1, "busy": 2}, "unknown": 0, "dropped": 0,
            "throughput_tps": throughput, "cross_shard_ratio": null, "latency_us": latency,
            "local": {"committed": 20, "latency_us": latency},
            "cross": {"committed": 0, "latency_us": {"requests": 0, "mean": null, "p50": null, "p90": null, "p99": null, "p999": null, "max": null}},
            "settings": {"seed": 1, "rate": null}, "host": {"cpus": 2, "cluster": {"shards": 3}},
            "generator_cpu": 0.5, "interrupted": false, "error": null, "verify": {"ok": true},
        });
        change(&mut document);
        parse(&document.to_string()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn figure<'a>(comparison: &'a Comparison, name: &str) -> &'a FigureRow {
        let mut rows = comparison.figures.iter();
        rows.find(|row| row.figure == name).unwrap()
    }

    #[test]
    fn ratios_are_b_to_a_and_missing_where_a_figure_is() {
        let comparison = Comparison::of(&run(100.0, |_| ()), &run(150.0, |_| ()));
        assert_eq!(figure(&comparison, "throughput_tps").ratio, Some(1.5));
        assert_eq!(figure(&comparison, "rejected").a, Some(3.0));
        assert_eq!(figure(&comparison, "cross.latency_us.p99").ratio, None);
        // Nothing unknown in A: any number in B would be infinitely more.
        assert_eq!(figure(&comparison, "unknown").ratio, None);
        assert!(comparison.differences.is_empty() && comparison.warnings.is_empty());
    }

    #[test]
    fn conditions_that_differ_are_told_one_by_one() {
        let other = run(100.0, |document| {
            document["batch"] = json!(20);
            document["host"]["cluster"]["shards"] = json!(1);
            document["settings"]["rate"] = json!(5.0);
            document["settings"]["new"] = json!("x");
        });
        let comparison = Comparison::of(&run(100.0, |_| ()), &other);
        let names: Vec<&str> = comparison
            .differences
            .iter()
            .map(|difference| difference.condition.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "batch",
                "settings.rate",
                "settings.new",
                "host.cluster.shards"
            ]
        );
        let text = comparison.to_text(false);
        assert!(text.contains("host.cluster.shards"), "{text}");
    }

    #[test]
    fn a_run_that_is_bad_to_compare_with_is_told() {
        let bad = run(100.0, |document| {
            document["verify"]["ok"] = json!(false);
            document["interrupted"] = json!(true);
            document["generator_cpu"] = json!(0.95);
        });
        let warnings = Comparison::of(&run(1.0, |_| ()), &bad).warnings;
        assert_eq!(warnings.len(), 3);
        assert!(warnings.iter().all(|warning| warning.starts_with('B')));
    }

    #[test]
    fn what_is_not_a_run_is_refused_with_file_line_and_field() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json");
        for (text, part) in [
            ("{\"seconds\": 1}", "committed"),
            ("{\n\"seconds\": }", "line 2"),
            ("", "line 1"),
        ] {
            fs::write(&path, text).unwrap();
            let failure = read(&path).err().unwrap();
            assert_eq!(failure.exit_code(), 2);
            let message = failure.to_string();
            assert!(
                message.contains(part) && message.contains("x.json"),
                "{message}"
            );
        }
    }
}
