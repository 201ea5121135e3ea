//! Any benchmark program: run it, keep what it prints, and take the transfers a second from that.
//!
//! Whether it is durable and whether its money is right is for the program to say; nothing here
//! can look into it, and its line says so.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, anyhow};
use quorate_bench::failure::Failure;
use serde::Serialize;

use crate::arguments::ExternalArguments;
use crate::report::{Line, Machine, append};

/// Units that follow a figure of transfers a second, longest first.
const UNITS: [&str; 8] = [
    "transactions per second",
    "transfers per second",
    "transactions/s",
    "transfers/s",
    "tx/sec",
    "txs/s",
    "tx/s",
    "tps",
];

#[derive(Clone, Debug, Serialize)]
struct Run {
    command: Vec<String>,
    seconds: f64,
    throughput_tps: f64,
    figures: Vec<Figure>,
    output: Vec<String>,
    host: Machine,
    /// Nothing of ours checked its money.
    verify: Option<()>,
}

/// A line with a figure of transfers a second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    pub line: String,
    pub per_second: f64,
}

/// Runs the program to its end.
///
/// # Errors
/// It cannot be started, fails, or prints no figure.
pub fn run(arguments: &ExternalArguments) -> Result<(), Failure> {
    let (program, options) = arguments
        .command
        .split_first()
        .context("clap requires a program")?;
    let begun = Instant::now();
    let output = Command::new(program)
        .args(options)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {program}"))?;
    let seconds = (begun.elapsed().as_secs_f64() * 1e3).round() / 1e3;
    // Some programs print their figures on stderr.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for line in &lines {
        eprintln!("  {line}");
    }
    if !output.status.success() {
        return Err(Failure::Other(anyhow!(
            "{program} ended with {}",
            output.status
        )));
    }
    let figures = figures(&lines);
    let last = figures
        .last()
        .with_context(|| format!("{program} printed no figure such as 'N tx/s'"))?;
    let run = Run {
        command: [&[name_of(program)], options].concat(),
        seconds,
        throughput_tps: last.per_second,
        figures: figures.clone(),
        output: lines,
        host: Machine::here(),
        verify: None,
    };
    let line = Line {
        experiment: "compare-external",
        commit: arguments.destination.commit.clone(),
        system: name_of(program),
        shards: 1,
        replicas: 1,
        run,
    };
    Ok(append(&arguments.destination, &line)?)
}

/// The program's name without its directory, which tells of this machine only.
fn name_of(program: &str) -> String {
    let name = Path::new(program).file_name();
    name.map_or_else(
        || program.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Every line with a figure, in order. The last one counts: programs sum up at their end.
fn figures(lines: &[String]) -> Vec<Figure> {
    let figure = |line: &String| {
        Some(Figure {
            per_second: figure_of(line)?,
            line: line.clone(),
        })
    };
    lines.iter().filter_map(figure).collect()
}

/// The number right before a unit of transfers a second, such as 123456 of
/// `load accepted = 123456 tx/s`, or else after it and a sign, such as `tps = 123456`; groups of
/// digits may be separated by commas or underscores.
fn figure_of(line: &str) -> Option<f64> {
    // ASCII only, so that positions in both texts are the same.
    let lower = line.to_ascii_lowercase();
    let mut best: Option<(usize, f64)> = None;
    for unit in UNITS {
        for (at, _) in lower.match_indices(unit) {
            let rest = &lower[at + unit.len()..];
            if rest.starts_with(|next: char| next.is_alphanumeric()) {
                continue;
            }
            let number = number_before(&lower[..at]).or_else(|| number_after(rest));
            if let Some(number) = number
                && best.is_none_or(|(position, _)| at > position)
            {
                best = Some((at, number));
            }
        }
    }
    best.map(|(_, number)| number)
}

/// The number at the end of `text`.
fn number_before(text: &str) -> Option<f64> {
    let text = text.trim_end();
    let start = text
        .char_indices()
        .rev()
        .take_while(|&(_, c)| belongs(c))
        .last()?
        .0;
    // The tail of a name such as `v2` is no number.
    if text[..start].ends_with(|c: char| c.is_alphanumeric() || c == '-') {
        return None;
    }
    ungrouped(&text[start..])
}

/// The number after the sign that `text` starts with.
fn number_after(text: &str) -> Option<f64> {
    let text = text.trim_start().strip_prefix(['=', ':'])?.trim_start();
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    ungrouped(&text[..end])
}

/// Whether a character can be part of a number.
fn belongs(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '.' | ',' | '_')
}

fn ungrouped(number: &str) -> Option<f64> {
    let digits: String = number
        .trim_end_matches(['.', ','])
        .chars()
        .filter(|c| !matches!(c, ',' | '_'))
        .collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_as_programs_print_them() {
        for (line, expected) in [
            ("load accepted = 123456 tx/s", Some(123_456.0)),
            ("1,234,567 transfers/s", Some(1_234_567.0)),
            (
                "throughput: 9_876.5 transfers per second, p99 3 ms",
                Some(9_876.5),
            ),
            (
                "tps = 512.25 (without initial connection time)",
                Some(512.25),
            ),
            ("tps: 1,024, errors 0", Some(1_024.0)),
            ("tps of 7 clients", None),
            ("512.25 TPS", Some(512.25)),
            ("12 tx/s then 15 tx/s", Some(15.0)),
            ("batch latency p50 = 12 ms", None),
            ("load accepted = unknown tx/s", None),
            ("phase-2 tx/s", None),
            ("3 tpsx", None),
            ("", None),
        ] {
            assert_eq!(figure_of(line), expected, "{line}");
        }
    }

    #[test]
    fn the_last_figure_counts_and_all_are_kept() {
        let lines = ["10 tx/s", "waiting", "load accepted = 30 tx/s", "done"];
        let found = figures(&lines.map(str::to_owned));
        let rates: Vec<f64> = found.iter().map(|figure| figure.per_second).collect();
        assert_eq!(rates, [10.0, 30.0]);
        assert_eq!(found[1].line, "load accepted = 30 tx/s");
    }

    #[test]
    fn a_system_is_named_without_its_directory() {
        assert_eq!(name_of("/a/b/tigerbeetle"), "tigerbeetle");
        assert_eq!(name_of("bench"), "bench");
    }
}
