//! The planner on a million accounts: how long, and in how much memory. Fails beyond its bounds.
//!
//! The load is planted: 10,050 communities of 100 accounts, 90 % of the transfers inside, members of
//! popularity 1/(1 + rank), 8 shards. First the graph of 6.4 million different pairs and one call of
//! METIS, as a live plan needs them; then everything that `reshard plan --trace` does with a trace
//! that has so many pairs, its backtest included. Reading the file is not in it.
//!
//! With `live`, instead, the whole plan of a running cluster whose leaders have counted these pairs in three windows. It has
//! no bound: it is told, with its memory.
//!
//! ```text
//! cargo bench -p quorate-planner --bench million
//! cargo bench -p quorate-planner --bench million -- live
//! ```

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "a program of its own: what is wrong ends it"
)]

use std::process::ExitCode;
use std::time::Instant;

use quorate_planner::graph::InteractionGraph;
use quorate_planner::partition::{Tolerance, partition};
use quorate_planner::trace::{Trace, TraceTransfer};
use quorate_planner::{
    LiveOptions, Observed, TraceOptions, WeightedPair, plan_from_trace, plan_live,
};
use quorate_protocol::client::{PairRow, WINDOWS};
use quorate_protocol::ids::AccountId;
use quorate_protocol::shard::map::Placement;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, weighted::WeightedAliasIndex};
use rand_xoshiro::Xoshiro256PlusPlus;

const SHARDS: u32 = 8;
const COMMUNITIES: u32 = 10_050;
const MEMBERS: u32 = 100;
/// So many give 6.4 million different pairs.
const TRANSFERS: usize = 10_700_000;
const PAIRS_MIN: usize = 6_400_000;

const GRAPH_SECONDS_MAX: f64 = 8.0;
const PLAN_SECONDS_MAX: f64 = 20.0;
/// 1.5 GB.
const PEAK_MIB_MAX: f64 = 1430.0;

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "live") {
        live_plan();
        return ExitCode::SUCCESS;
    }
    let (graph_seconds, graph_peak) = graph_and_metis();
    let (plan_seconds, plan_peak) = whole_plan();
    let mut all_within = true;
    for (what, found, bound, unit) in [
        ("graph and METIS", graph_seconds, GRAPH_SECONDS_MAX, "s"),
        ("their peak of memory", graph_peak, PEAK_MIB_MAX, "MiB"),
        ("plan with backtest", plan_seconds, PLAN_SECONDS_MAX, "s"),
        ("peak of all", plan_peak, PEAK_MIB_MAX, "MiB"),
    ] {
        let within = found <= bound;
        all_within &= within;
        let verdict = if within { "" } else { ": TOO MUCH" };
        println!("{what:<22} {found:>8.2} {unit:<3} at most {bound}{verdict}");
    }
    if all_within {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Seconds, and the peak of memory in MiB.
fn graph_and_metis() -> (f64, f64) {
    // As leaders count them: a row per pair.
    let mut rows: Vec<(u32, u32)> = planted().map(|(a, b)| (a.min(b), a.max(b))).collect();
    rows.sort_unstable();
    let pairs: Vec<WeightedPair> = rows
        .chunk_by(|a, b| a == b)
        .map(|same| WeightedPair {
            a: AccountId(same[0].0.into()),
            b: AccountId(same[0].1.into()),
            weight: same.len() as u64,
        })
        .collect();
    drop(rows);
    assert!(pairs.len() >= PAIRS_MIN, "{} pairs", pairs.len());
    let tolerance = Tolerance {
        load: 1.02,
        accounts: 1.30,
    };
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let graph = InteractionGraph::from_pairs(&pairs).unwrap();
    let built = start.elapsed().as_secs_f64();
    let parts = partition(&graph, SHARDS, tolerance, 1).unwrap().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} accounts, {} pairs: graph {built:.2} s, METIS {:.2} s, CPU {:.2} s, cut {:.4}",
        graph.len(),
        pairs.len(),
        seconds - built,
        cpu_seconds() - cpu,
        graph.edge_cut(&parts) as f64 / graph.total() as f64
    );
    (seconds, peak_mib())
}

/// Seconds, and the peak of memory in MiB.
fn whole_plan() -> (f64, f64) {
    let transfers = planted()
        .zip(0_u32..)
        .map(|((debit, credit), i)| TraceTransfer {
            timestamp: i.into(),
            debit: AccountId(debit.into()),
            credit: AccountId(credit.into()),
            amount: 1,
        });
    let trace = Trace::new(transfers.collect()).unwrap();
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let plan = plan_from_trace(&trace, &TraceOptions::new(SHARDS)).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} transfers: {:?} by {:?}, CPU {:.2} s, {} moves, hash {:.4}, backtest {:.4} at load {:.3}",
        trace.transfers().len(),
        plan.decision,
        plan.method,
        cpu_seconds() - cpu,
        plan.moves.len(),
        plan.cross_shard_ratio.hash,
        plan.cross_shard_ratio.backtest,
        plan.load_max_over_avg.planned
    );
    (seconds, peak_mib())
}

fn live_plan() {
    let mut transfers: Vec<(u32, u32, u8)> = planted()
        .zip(0_usize..)
        .map(|((a, b), i)| (a.min(b), a.max(b), u8::try_from(i * 3 / TRANSFERS).unwrap()))
        .collect();
    transfers.sort_unstable();
    let rows: Vec<PairRow> = transfers
        .chunk_by(|a, b| (a.0, a.1) == (b.0, b.1))
        .map(|same| {
            let mut counts = [0; WINDOWS];
            for &(_, _, window) in same {
                counts[2 - usize::from(window)] += 1;
            }
            PairRow {
                a: AccountId(same[0].0.into()),
                b: AccountId(same[0].1.into()),
                counts,
                reserved: 0,
            }
        })
        .collect();
    drop(transfers);
    assert!(rows.len() >= PAIRS_MIN, "{} pairs", rows.len());
    let accounts = (1..=COMMUNITIES * MEMBERS).map(|id| AccountId(id.into()));
    let owners = accounts
        .map(|id| (id, Placement::Hash.home(id, SHARDS)))
        .collect();
    let (start, cpu, before) = (Instant::now(), cpu_seconds(), peak_mib());
    let observed = Observed::Counted(&rows);
    let plan = plan_live(observed, &owners, SHARDS, &LiveOptions::default()).unwrap();
    println!(
        "live, {} pairs: {:?} by {:?} in {:.2} s, CPU {:.2} s, backtest {:.4}, {} moves; peak {:.0} MiB, {before:.0} before",
        rows.len(),
        plan.decision,
        plan.method,
        start.elapsed().as_secs_f64(),
        cpu_seconds() - cpu,
        plan.cross_shard_ratio.backtest,
        plan.moves.len(),
        peak_mib(),
    );
}

/// The transfers, one after the other: (debit, credit) by account number from 1 on.
fn planted() -> impl Iterator<Item = (u32, u32)> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let popularity = (1..=MEMBERS).map(|rank| 1.0 / f64::from(rank)).collect();
    let member = WeightedAliasIndex::new(popularity).unwrap();
    let draw = move || {
        let from = rng.random_range(0..COMMUNITIES);
        let to = match rng.random_bool(0.9) {
            true => from,
            false => rng.random_range(0..COMMUNITIES),
        };
        // Members of a community lie far apart in the order of ids.
        let mut account = |community| 1 + community + COMMUNITIES * rank(&member, &mut rng);
        (account(from), account(to))
    };
    std::iter::repeat_with(draw)
        .filter(|(debit, credit)| debit != credit)
        .take(TRANSFERS)
}

/// CPU seconds of this process so far, its own and the kernel's for it: what a busy machine does not
/// change much.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks
        .map(|ticks| ticks.parse::<f64>().unwrap())
        .sum::<f64>()
        / 100.0
}

fn rank(member: &WeightedAliasIndex<f64>, rng: &mut Xoshiro256PlusPlus) -> u32 {
    u32::try_from(member.sample(rng)).unwrap()
}

/// Peak of this process's memory so far, MiB.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<f64>().unwrap() / 1024.0
}
