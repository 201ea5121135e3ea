//! The command line as typed, checked field by field before anything is started.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use quorate_protocol::limits::BATCH_MAX;

/// The longest latency that a histogram tells apart.
const LONGEST_BOUND: Duration = Duration::from_secs(300);

/// Load generator for Quorate.
///
/// Progress and logs go to stderr. Exit codes: 0 success, 2 bad usage or input, 3 refused by the
/// plan's gate, 4 a check of money or durability failed, 1 anything else. A first Ctrl-C ends a load
/// early, with its report and its check; a second one ends the process.
#[derive(Parser, Debug)]
#[command(name = "quorate-bench", version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Offer one load, measure it, check the money
    Run(RunArguments),
    /// Look up every acknowledged transfer; each must be there exactly once
    Audit(AuditArguments),
    /// Load, plan a placement, move accounts while loading, load again, compare
    Locality(LocalityArguments),
    /// Put two runs beside each other, and what differs between their conditions
    Compare(CompareArguments),
    /// Find the highest rate with a p99 within a bound
    Saturate(SaturateArguments),
}

/// `run`.
#[derive(Args, Debug)]
pub struct RunArguments {
    #[command(flatten)]
    pub cluster: ClusterFile,
    #[command(flatten)]
    pub workload: WorkloadArguments,
    #[command(flatten)]
    pub load: LoadArguments,
    /// Measured seconds after the warm-up [default: 10; for replay until the file is done]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub seconds: Option<u64>,
    /// Write the result as JSON to this file, or to stdout if "-"
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
    /// Write a report with plots to this file: one page that needs no network
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write every second's latencies to this file: an interval log of the HdrHistogram tools
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// Whether new accounts are put beside those that they first trade with (replay) [default: on]
    #[arg(long, value_enum, value_name = "on|off")]
    pub first_touch: Option<Switch>,
    /// Load over the average above which a shard takes no more of them [default: 1.1]
    #[arg(long, value_name = "X", value_parser = parse_cap)]
    pub first_touch_cap: Option<f64>,
    /// Other payments among the same accounts and communities: those of the N-th load [default: 0; not for replay]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub round: Option<u32>,
    /// Write the id of every acknowledged transfer to this file, one decimal number a line
    #[arg(long, value_name = "FILE")]
    pub acked: Option<PathBuf>,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

/// `audit`.
#[derive(Args, Debug)]
pub struct AuditArguments {
    #[command(flatten)]
    pub cluster: ClusterFile,
    /// A file that `run --acked` wrote; may be given several times
    #[arg(long, value_name = "FILE", required = true)]
    pub acked: Vec<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// `locality`.
#[derive(Args, Debug)]
pub struct LocalityArguments {
    #[command(flatten)]
    pub cluster: ClusterFile,
    #[command(flatten)]
    pub workload: WorkloadArguments,
    #[command(flatten)]
    pub load: LoadArguments,
    /// Measured seconds before the moves, and again after them (replay: each half of the file once)
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub seconds: u64,
    /// Write the result as JSON to this file, or to stdout if "-"
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
    /// Write a report with plots to this file: one page that needs no network
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Cost of a cross-shard transfer for the plan, a local one being 1 [default: measured
    /// by short loads in turn, with as many of them as now and with few; 4 for replay, in an open loop,
    /// and where few are across shards already]
    #[arg(long, value_name = "X", value_parser = parse_cost)]
    pub cross_cost: Option<f64>,
    /// Least predicted gain of throughput that is worth the moves
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = parse_gain)]
    pub min_gain: f64,
}

/// `compare`.
#[derive(Args, Debug)]
pub struct CompareArguments {
    /// What `run --json` wrote
    #[arg(value_name = "A.json")]
    pub a: PathBuf,
    /// What another `run --json` wrote; ratios are its figures to those of A
    #[arg(value_name = "B.json")]
    pub b: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// `saturate`.
#[derive(Args, Debug)]
pub struct SaturateArguments {
    #[command(flatten)]
    pub cluster: ClusterFile,
    #[command(flatten)]
    pub workload: WorkloadArguments,
    #[command(flatten)]
    pub generator: GeneratorArguments,
    /// Longest p99 of a request, from its intended time, e.g. 10ms
    #[arg(long, value_name = "TIME", value_parser = parse_bound)]
    pub p99: Duration,
    /// Independent arrivals with exponential gaps instead of even ones
    #[arg(long)]
    pub poisson: bool,
    /// Measured seconds of each load; about 20 of them are made
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: u64,
    /// Seconds before them
    #[arg(long, value_name = "W", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub warmup: u64,
    /// Write the result as JSON to this file, or to stdout if "-"
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
}

/// The cluster to load.
#[derive(Args, Debug)]
pub struct ClusterFile {
    /// Topology of the cluster (see `quorate cluster init`)
    #[arg(
        short = 'f',
        long = "file",
        value_name = "cluster.toml",
        env = "QUORATE_CLUSTER"
    )]
    pub path: PathBuf,
}

/// Names of the workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WorkloadName {
    /// Every pair of accounts equally likely
    Uniform,
    /// Popularity by rank, 1 / rank^theta, on both sides
    Zipf,
    /// A share of the traffic on a share of the accounts
    HotSet,
    /// Communities of 100 accounts that pay mostly inside
    Communities,
    /// The operations of SmallBank as transfers and reads
    #[value(name = "smallbank")]
    SmallBank,
    /// Every transfer of a recorded file once
    Replay,
}

impl WorkloadName {
    /// The name as it is typed and reported.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
            Self::HotSet => "hot-set",
            Self::Communities => "communities",
            Self::SmallBank => "smallbank",
            Self::Replay => "replay",
        }
    }
}

/// Who pays whom.
#[derive(Args, Debug)]
pub struct WorkloadArguments {
    /// Who pays whom
    #[arg(long, value_enum)]
    pub workload: WorkloadName,
    /// Accounts 1..=N take part [default: 9000; replay: those of the file]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100_000_000))]
    pub accounts: Option<u32>,
    /// Exactly this percentage of transfers cross-shard, by the default placement (uniform, zipf,
    /// hot-set)
    #[arg(long, value_name = "PCT", value_parser = parse_percent)]
    pub cross: Option<f64>,
    /// Exponent of popularity [default: 0.99 for zipf, 1 inside communities]
    #[arg(long, value_name = "T", value_parser = parse_theta)]
    pub theta: Option<f64>,
    /// Percentage of payments inside a community [default: 90]
    #[arg(long, value_name = "PCT", value_parser = parse_percent)]
    pub inside: Option<f64>,
    /// Percentage of the accounts that change community with every period: each trades places with
    /// one of another community [default: 0]
    #[arg(long, value_name = "PCT", value_parser = parse_percent)]
    pub drift: Option<f64>,
    /// Length of a period of --drift; the loads of `locality` go on where the one before ended
    /// [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub drift_every: Option<u32>,
    /// Percentage of the operations that look at an account instead of paying [default: 0; smallbank: 15,
    /// which look at two]
    #[arg(long, value_name = "PCT", value_parser = parse_percent)]
    pub read: Option<f64>,
    /// Percentage of the accounts that are hot; of smallbank of the customers [default: 1; smallbank: 25]
    #[arg(long, value_name = "PCT", value_parser = parse_percent)]
    pub hot_accounts: Option<f64>,
    /// Percentage of the traffic on hot accounts [default: 90]
    #[arg(long, value_name = "PCT", value_parser = parse_percent)]
    pub hot_traffic: Option<f64>,
    /// Recorded transfers: CSV with header timestamp,src,dst,amount (replay)
    #[arg(long, value_name = "FILE.csv")]
    pub trace: Option<PathBuf>,
    /// Fixes accounts and amounts; ids are new in every run
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// How the load is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeName {
    /// A client sends its next batch when the last is answered
    Closed,
    /// Batches are sent at fixed times; latency counts from then
    Open,
}

/// How intended times are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ArrivalsName {
    /// Evenly spaced
    Constant,
    /// Independent of each other: exponential gaps
    Poisson,
    /// From --rate-from to --rate, rising evenly over the measured seconds
    Ramp,
}

/// How much, how long.
#[derive(Args, Debug)]
pub struct LoadArguments {
    /// Closed or open loop
    #[arg(long, value_enum, default_value_t = ModeName::Closed)]
    pub mode: ModeName,
    /// Transfers a second (open loop)
    #[arg(long, value_name = "R", required_if_eq("mode", "open"), value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// How the intended times are spread (open loop) [default: constant]
    #[arg(long, value_enum)]
    pub arrivals: Option<ArrivalsName>,
    /// Transfers a second at which a ramp begins, and which it has while warming up; at its end it has
    /// --rate [default: a tenth of that]
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    pub rate_from: Option<f64>,
    #[command(flatten)]
    pub generator: GeneratorArguments,
    /// Seconds of load before measuring [default: 2, of `locality` 10; replay: 0]
    #[arg(long, value_name = "W", value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub warmup: Option<u64>,
}

/// What offers it.
#[derive(Args, Clone, Debug)]
pub struct GeneratorArguments {
    /// Batches in flight at most
    #[arg(long, value_name = "C", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub clients: u32,
    /// Connections to each shard, which the clients share in turn; at most one for each client
    /// [default: one for every 16 clients, more where their bytes would not fit, at most 32]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub connections: Option<u32>,
    /// Transfers per batch; a batch is one request to each shard that it concerns
    #[arg(long, value_name = "B", default_value_t = 100, value_parser = parse_batch)]
    pub batch: u32,
    /// CPU that the generator is pinned to [default: one on which the cluster's replicas have
    /// least to do]
    #[arg(long, value_name = "N")]
    pub cpu: Option<usize>,
}

fn parse_batch(text: &str) -> Result<u32, String> {
    let most = u32::try_from(BATCH_MAX).expect("limits.rs keeps it small");
    match text.parse() {
        Ok(batch) if (1..=most).contains(&batch) => Ok(batch),
        Ok(_) | Err(_) => Err(format!("not in 1..={most}")),
    }
}

fn parse_bound(text: &str) -> Result<Duration, String> {
    match text.parse::<humantime::Duration>() {
        Ok(bound) if !bound.is_zero() && *bound <= LONGEST_BOUND => Ok(*bound),
        Ok(_) => Err("not above 0 and at most 5 minutes".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn parse_percent(text: &str) -> Result<f64, String> {
    number(text, "from 0 to 100", |value| {
        (0.0..=100.0).contains(&value)
    })
}

fn parse_theta(text: &str) -> Result<f64, String> {
    number(text, "from 0 to 10", |value| (0.0..=10.0).contains(&value))
}

fn parse_rate(text: &str) -> Result<f64, String> {
    number(text, "above 0, at most 1e9", |value| {
        value > 0.0 && value <= 1e9
    })
}

fn parse_cost(text: &str) -> Result<f64, String> {
    number(text, "from 1 to 1000", |value| {
        (1.0..=1000.0).contains(&value)
    })
}

fn parse_gain(text: &str) -> Result<f64, String> {
    number(text, "from 0 to 1000", |value| {
        (0.0..=1000.0).contains(&value)
    })
}

fn parse_cap(text: &str) -> Result<f64, String> {
    number(text, "from 1 to 1000", |value| {
        (1.0..=1000.0).contains(&value)
    })
}

fn number(text: &str, allowed: &str, accept: impl Fn(f64) -> bool) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if accept(value) => Ok(value),
        Ok(_) | Err(_) => Err(format!("not a number {allowed}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_consistent_and_every_option_has_help() {
        Arguments::command().debug_assert();
        for command in Arguments::command().get_subcommands() {
            for option in command.get_arguments() {
                assert!(option.get_help().is_some(), "{}", option.get_id());
            }
        }
    }

    #[test]
    fn bad_values_exit_with_2_and_name_the_field() {
        let run = "quorate-bench run -f cluster.toml --workload uniform";
        for (options, field) in [
            ("--batch 0", "--batch"),
            ("--batch 8191", "--batch"),
            ("--clients 0", "--clients"),
            ("--connections 0", "--connections"),
            ("--clients 2000 --connections 1025", "--connections"),
            ("--accounts 1", "--accounts"),
            ("--cross 101", "--cross"),
            ("--theta NaN", "--theta"),
            ("--drift 101", "--drift"),
            ("--drift-every 0", "--drift-every"),
            ("--mode open", "--rate"),
            ("--mode open --rate 0", "--rate"),
            ("--seconds 0", "--seconds"),
        ] {
            let error = parse(&format!("{run} {options}")).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{options}");
            assert!(error.to_string().contains(field), "{options}: {error}");
        }
        let error = parse("quorate-bench run -f cluster.toml --workload gauss").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidValue);
    }

    #[test]
    fn the_largest_batch_is_the_servers() {
        let line = "quorate-bench run -f cluster.toml --workload uniform --batch 8190";
        let Command::Run(run) = parse(line).unwrap().command else {
            panic!("it is a run");
        };
        assert_eq!(
            usize::try_from(run.load.generator.batch).unwrap(),
            BATCH_MAX
        );
    }
}
