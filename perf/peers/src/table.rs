//! The runs of one sitting for people: one table, and how many times a peer's figure Quorate's is.
//!
//! Of a peer that ran with several numbers of clients the best run is compared, so that a ratio
//! errs in the peer's favour.

use std::fmt::Write;
use std::fs;
use std::io::IsTerminal;

use anyhow::Context;
use comfy_table::CellAlignment;
use quorate_bench::failure::Failure;
use quorate_bench::figures::{grouped_f64, millis, table};
use serde::Deserialize;

use crate::arguments::TableArguments;

/// Experiment -> what its work is called, and whether its transfers cross. A line of another
/// experiment is an error: it would be missing in the ratios.
const EXPERIMENTS: [(&str, &str, Side, Crossing); 8] = [
    (
        "compare-quorate-local",
        "local",
        Side::Quorate,
        Crossing::No,
    ),
    (
        "compare-quorate-local-single",
        "local",
        Side::Quorate,
        Crossing::No,
    ),
    (
        "compare-quorate-cross",
        "cross-shard",
        Side::Quorate,
        Crossing::All,
    ),
    (
        "compare-quorate-cross-single",
        "cross-shard",
        Side::Quorate,
        Crossing::All,
    ),
    (
        "compare-postgres-local",
        "local, a function call",
        Side::Peer,
        Crossing::No,
    ),
    (
        "compare-postgres-2pc",
        "cross-instance, 2PC",
        Side::Peer,
        Crossing::All,
    ),
    (
        "compare-etcd",
        "local, a transaction",
        Side::Peer,
        Crossing::No,
    ),
    ("compare-external", "its own", Side::Peer, Crossing::No),
];
/// Columns of numbers, which are read from the right.
const NUMBERS: std::ops::Range<usize> = 3..8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Quorate,
    Peer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crossing {
    No,
    All,
}

/// What the table needs of a line; `report` and perf/compare write it.
#[derive(Clone, Debug, Deserialize)]
struct Line {
    experiment: String,
    system: String,
    shards: u32,
    replicas: u32,
    run: Run,
}

#[derive(Clone, Debug, Deserialize)]
struct Run {
    clients: Option<u32>,
    batch: Option<u32>,
    throughput_tps: f64,
    latency_us: Option<Latency>,
    verify: Option<Verify>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Latency {
    p50: Option<f64>,
    p99: Option<f64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Verify {
    ok: bool,
}

/// A line whose experiment is known.
#[derive(Clone, Debug)]
struct Row {
    line: Line,
    work: &'static str,
    side: Side,
    crossing: Crossing,
}

/// Prints the table and the ratios.
///
/// # Errors
/// The file cannot be read, or a line is none that a run wrote.
pub fn run(arguments: &TableArguments) -> Result<(), Failure> {
    let path = &arguments.file;
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let rows = rows(&text).map_err(Failure::Usage)?;
    let terminal = std::io::stdout().is_terminal();
    print!("{}\n{}", table_of(&rows, terminal), ratios(&rows));
    Ok(())
}

fn rows(text: &str) -> Result<Vec<Row>, String> {
    let row = |(number, line): (usize, &str)| {
        let line: Line =
            serde_json::from_str(line).map_err(|error| format!("line {}: {error}", number + 1))?;
        let known = EXPERIMENTS.iter().find(|known| known.0 == line.experiment);
        let &(_, work, side, crossing) = known
            .ok_or_else(|| format!("line {}: experiment {:?}", number + 1, line.experiment))?;
        Ok(Row {
            line,
            work,
            side,
            crossing,
        })
    };
    text.lines().enumerate().map(row).collect()
}

fn table_of(rows: &[Row], terminal: bool) -> String {
    let mut table = table(terminal);
    table.set_header([
        "system",
        "work",
        "copies",
        "clients",
        "batch",
        "transfers/s",
        "p50 ms",
        "p99 ms",
        "money",
    ]);
    let count = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
    for row in rows {
        let (line, run) = (&row.line, &row.line.run);
        let latency = run.latency_us;
        table.add_row([
            line.system.clone(),
            row.work.to_owned(),
            format!("{} x {}", line.shards, line.replicas),
            count(run.clients),
            count(run.batch),
            grouped_f64(run.throughput_tps),
            millis(latency.and_then(|latency| latency.p50)),
            millis(latency.and_then(|latency| latency.p99)),
            match run.verify {
                Some(Verify { ok: true }) => "ok".to_owned(),
                Some(Verify { ok: false }) => "WRONG".to_owned(),
                None => "not checked".to_owned(),
            },
        ]);
    }
    for column in table.column_iter_mut() {
        if NUMBERS.contains(&column.index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{table}\n")
}

/// One line for each pair of Quorate's row and a peer's best row of the same kind of work.
fn ratios(rows: &[Row]) -> String {
    let mut text = String::new();
    for ours in rows.iter().filter(|row| row.side == Side::Quorate) {
        for theirs in best_peers(rows, ours.crossing) {
            let (our, their) = (&ours.line.run, &theirs.line.run);
            if their.throughput_tps <= 0.0 {
                continue;
            }
            let ratio = our.throughput_tps / their.throughput_tps;
            let clients = their.clients.map_or_else(String::new, |clients| {
                format!(", best at {clients} clients")
            });
            let batch = our.batch.unwrap_or(1);
            let _ = writeln!(
                text,
                "Quorate {}, {} x {}, batch {batch:<4} / {} ({}{clients}): {ratio:.2}",
                ours.work, ours.line.shards, ours.line.replicas, theirs.line.system, theirs.work,
            );
        }
    }
    text
}

/// The fastest run of each peer's experiment, in the order of the rows.
fn best_peers(rows: &[Row], crossing: Crossing) -> Vec<&Row> {
    let mut best: Vec<&Row> = Vec::new();
    let peers = rows
        .iter()
        .filter(|row| row.side == Side::Peer && row.crossing == crossing);
    for row in peers {
        let same = |seen: &&mut &Row| {
            seen.line.experiment == row.line.experiment && seen.line.system == row.line.system
        };
        match best.iter_mut().find(same) {
            Some(seen) if seen.line.run.throughput_tps < row.line.run.throughput_tps => *seen = row,
            Some(_) => {}
            None => best.push(row),
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(experiment: &str, clients: u32, throughput: f64) -> String {
        format!(
            "{{\"experiment\":\"{experiment}\",\"commit\":\"c\",\"system\":\"S\",\"shards\":1,\
             \"replicas\":1,\"run\":{{\"clients\":{clients},\"batch\":1,\"throughput_tps\":\
             {throughput},\"latency_us\":{{\"p50\":1500.0,\"p99\":null}},\"verify\":{{\"ok\":true}}}}}}\n"
        )
    }

    #[test]
    fn a_ratio_is_to_the_best_run_of_the_same_kind_of_work() {
        let text = [
            line("compare-quorate-local", 4, 900.0),
            line("compare-quorate-cross", 4, 400.0),
            line("compare-postgres-local", 1, 100.0),
            line("compare-postgres-local", 16, 300.0),
            line("compare-postgres-local", 64, 200.0),
            line("compare-postgres-2pc", 16, 50.0),
        ]
        .concat();
        let ratios = ratios(&rows(&text).expect("valid lines"));
        let lines: Vec<&str> = ratios.lines().collect();
        assert_eq!(lines.len(), 2, "{ratios}");
        assert!(lines[0].contains("best at 16 clients") && lines[0].ends_with(": 3.00"));
        assert!(lines[1].contains("2PC") && lines[1].ends_with(": 8.00"));
    }

    #[test]
    fn a_row_without_a_check_or_latency_says_so() {
        let external = "{\"experiment\":\"compare-external\",\"commit\":\"c\",\"system\":\"tb\",\
                        \"shards\":1,\"replicas\":1,\"run\":{\"throughput_tps\":123456.0,\"verify\":null}}";
        let rows = rows(external).expect("a valid line");
        let table = table_of(&rows, false);
        let row = table.lines().last().expect("a row");
        assert!(
            row.contains("123,456") && row.contains("not checked"),
            "{table}"
        );
        assert!(row.contains(" - "), "{table}");
    }

    #[test]
    fn lines_that_are_no_runs_are_named() {
        let text = line("compare-etcd", 1, 1.0) + &line("cross-100", 1, 1.0);
        let error = rows(&text).expect_err("another experiment");
        assert!(
            error.contains("line 2") && error.contains("cross-100"),
            "{error}"
        );
        assert!(rows("{}").expect_err("no run").contains("line 1"));
    }
}
