//! `reshard plan`: from a running cluster's own traffic, or from a recorded file.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use quorate_client::reshard::{cost, shelf};
use quorate_client::{BlockingClient, ClientOptions, observe};
use quorate_config::ClusterConfig;
use quorate_planner::{
    Decision, EPOCHS_MAX, GateOptions, LiveOptions, MOVES_MAX_PERCENT, Observed, Payback, Plan,
    PlanError, Trace, TraceOptions, map_csv, plan_from_trace, plan_live,
};
use quorate_protocol::client::PairRow;
use quorate_protocol::time::Timestamp;

use super::{course, drive};
use crate::Context;
use crate::failure::{Failure, Outcome};
use crate::moment;
use crate::print::say;
use crate::print::{Output, line};

/// Part of a file that a plan is made on.
const TRAIN: f64 = 0.5;
/// Load over the average above which a shard takes no new account.
const FIRST_TOUCH_CAP: f64 = 1.1;
/// Moves that are shown to people.
const MOVES_SHOWN: usize = 5;

/// Options of `reshard plan`.
#[derive(Args, Debug)]
pub struct PlanArgs {
    /// Plan for this running cluster, from what its leaders counted; without it and --trace the
    /// cluster of QUORATE_CLUSTER
    #[arg(
        short = 'f',
        long = "file",
        value_name = "cluster.toml",
        conflicts_with = "trace"
    )]
    pub path: Option<PathBuf>,
    /// Plan for this recorded file (timestamp,src,dst,amount), without a cluster
    #[arg(long, value_name = "FILE.csv", requires = "shards")]
    pub trace: Option<PathBuf>,
    /// With --trace: number of shards
    #[arg(long, value_name = "K", requires = "trace")]
    pub shards: Option<u32>,
    /// With --trace and one epoch: part of the file that the plan is made on; the rest is the
    /// backtest [default: 0.5]
    #[arg(
        long,
        value_name = "SHARE",
        requires = "trace",
        allow_negative_numbers = true
    )]
    pub train: Option<f64>,
    /// With --trace: cut the file into N epochs of equally many transfers, and let the map follow
    /// from one to the next: METIS makes it on the first; each later one is scored under the map
    /// made before it, which is then updated, moving 5 % of the known accounts at most. The plan
    /// tells that course beside METIS from scratch after every epoch. Its moves and its map are
    /// those after the last update, its backtest is the last epoch under the map before
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(EPOCHS_MAX)))]
    pub epochs: u32,
    /// With --trace: load over the average above which a shard takes no new account [default: 1.1]
    #[arg(
        long,
        value_name = "X",
        requires = "trace",
        allow_negative_numbers = true
    )]
    pub first_touch_cap: Option<f64>,
    #[command(flatten)]
    pub gate: GateArgs,
    /// With --trace: write account,shard of every account that the plan places
    #[arg(long, value_name = "map.csv", requires = "trace")]
    pub map_out: Option<PathBuf>,
    /// Write the plan as JSON
    #[arg(short = 'o', value_name = "plan.json")]
    pub out: Option<PathBuf>,
}

/// What a plan must gain, and its seed.
#[derive(Args, Clone, Copy, Debug)]
pub struct GateArgs {
    /// Cost of a cross-shard transfer, a local one being 1 [default: for a running cluster what `quorate-bench
    /// locality` measured there last; without that, and with --trace, 4]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub cross_cost: Option<f64>,
    /// Least predicted gain of throughput that is worth the moves
    #[arg(
        long,
        default_value_t = 0.05,
        value_name = "SHARE",
        allow_negative_numbers = true
    )]
    pub min_gain: f64,
    /// Seed of the partitioner
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub seed: u64,
    /// For a running cluster: move at most so many accounts; without it `auto` moves a twentieth of
    /// all accounts at most in each plan behind the first
    #[arg(long, value_name = "N")]
    pub max_moves: Option<usize>,
    /// For a running cluster: refuse moves that do not pay back within so many transfers
    #[arg(long, value_name = "TRANSFERS")]
    pub horizon: Option<u64>,
}

/// What moving an account costs, a local transfer being 1: its row is logged twice where it arrives and leaves, and whoever
/// wants it meanwhile waits. Assumed, not measured.
const MOVE_COST: f64 = 8.0;

impl GateArgs {
    /// With the cost that was told, or else the one that was `measured` on the cluster.
    fn options(self, measured: Option<f64>) -> GateOptions {
        let assumed = GateOptions::default();
        GateOptions {
            cross_cost: self.cross_cost.or(measured).unwrap_or(assumed.cross_cost),
            is_cost_measured: self.cross_cost.is_none() && measured.is_some(),
            min_gain: self.min_gain,
        }
    }
}

/// Makes the plan, writes and prints it; exit code 3 if the gate refuses.
pub fn run(args: &PlanArgs, context: Context) -> Outcome {
    let for_a_cluster = args.gate.max_moves.is_some() || args.gate.horizon.is_some();
    if args.train.is_some() && args.epochs > 1 {
        return Err(Failure::usage(
            "reshard plan: --train is for one epoch; with --epochs each is scored under the map made before it",
        ));
    }
    if args.trace.is_some() && for_a_cluster {
        return Err(Failure::usage(
            "reshard plan: --max-moves and --horizon are for a running cluster, not for --trace",
        ));
    }
    let plan = match (&args.trace, args.shards) {
        (Some(trace), Some(shards)) => recorded(args, trace, shards)?,
        _ if args.epochs > 1 => {
            return Err(Failure::usage(
                "reshard plan: --epochs above 1 needs --trace",
            ));
        }
        _ => live(
            &ClusterConfig::load(&cluster_of(args)?)?,
            args.gate,
            Budget::Unbounded,
        )?,
    };
    let text = plan.to_json();
    if let Some(out) = &args.out {
        fs::write(out, &text).with_context(|| format!("write {}", out.display()))?;
    }
    if let Some(out) = &args.map_out {
        write_map(&plan, out)?;
    }
    match context.output {
        Output::Machine => line(text.trim_end())?,
        Output::People => line(&people(&plan))?,
    }
    match plan.decision {
        Decision::Apply => Ok(()),
        Decision::Refuse => Err(Failure::Refused(format!("refused: {}", plan.reason))),
    }
}

/// Not by clap, to which a variable that is set would be in conflict with `--trace`.
fn cluster_of(args: &PlanArgs) -> Result<PathBuf, Failure> {
    let variable = || std::env::var_os("QUORATE_CLUSTER").map(PathBuf::from);
    let path = args.path.clone().or_else(variable);
    path.ok_or_else(|| {
        Failure::usage("reshard plan: -f or QUORATE_CLUSTER, or --trace with --shards")
    })
}

fn recorded(args: &PlanArgs, trace: &Path, shards: u32) -> Result<Plan, Failure> {
    let file = trace.display();
    let trace = Trace::open(trace).map_err(|error| Failure::Usage(error.into()))?;
    let options = TraceOptions {
        train: args.train.unwrap_or(TRAIN),
        epochs: args.epochs,
        gate: args.gate.options(None),
        first_touch_cap: Some(args.first_touch_cap.unwrap_or(FIRST_TOUCH_CAP)),
        seed: args.gate.seed,
        ..TraceOptions::new(shards)
    };
    plan_from_trace(&trace, &options).map_err(|error| {
        match error {
            // What is in the file, and how it is to be cut, is the user's.
            PlanError::ShortTrace { .. } | PlanError::TooLarge(..) | PlanError::TooWide { .. } => {
                Failure::usage(format_args!("{file}: {error}"))
            }
            other => failure(other),
        }
    })
}

/// How many accounts a plan may move that was told no number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Budget {
    /// A first map may move them all.
    Unbounded,
    /// A later one follows the first.
    OfLaterPlans,
}

/// A plan from what the leaders of a running cluster counted since they lead.
pub fn live(config: &ClusterConfig, gate: GateArgs, budget: Budget) -> Result<Plan, Failure> {
    let mut client = BlockingClient::connect(config, ClientOptions::default());
    let mut counted =
        observe::counted(&mut client, config.shard_ids()).context("observe the traffic")?;
    // Another tool's moves may be under way, so an account may have been listed twice.
    let sum = counted.sum();
    let owners = observe::owners(&mut client, config.shard_ids())
        .context("list the accounts")?
        .newest();
    say(format_args!(
        "observed: {} pairs, {} local and {} cross-shard transfers, {} not counted; {} accounts",
        counted.pairs.len(),
        sum.local,
        sum.cross,
        sum.dropped,
        owners.len()
    ));
    let measured = match gate.cross_cost {
        Some(_) => None,
        None => cost::remembered(&mut client.catalog(shelf::SHARD))
            .map_err(|error| drive::failure(error.into()))?,
    };
    if let Some(measured) = measured {
        say(format_args!(
            "a cross-shard transfer costs {:.2} local ones, measured {}",
            measured.cross_cost,
            moment::render(Timestamp(measured.measured_unix_ns))
        ));
    }
    let percent = usize::try_from(MOVES_MAX_PERCENT).expect("a share in percent");
    let options = LiveOptions {
        gate: gate.options(measured.map(|it| it.cross_cost)),
        seed: gate.seed,
        moves_max: gate.max_moves.or(match budget {
            Budget::Unbounded => None,
            Budget::OfLaterPlans => Some((owners.len() * percent / 100).max(1)),
        }),
        payback: gate.horizon.map(|horizon_transfers| Payback {
            horizon_transfers,
            move_cost: MOVE_COST,
        }),
    };
    // An account that moved from a shard that had not been asked to one that had was listed by neither; it stays.
    let is_listed = |pair: &PairRow| owners.contains_key(&pair.a) && owners.contains_key(&pair.b);
    let all = counted.pairs.len();
    counted.pairs.retain(is_listed);
    if counted.pairs.len() < all {
        say(format_args!(
            "{} pairs left out: an account of theirs moves just now",
            all - counted.pairs.len()
        ));
    }
    let observed = Observed::Counted(&counted.pairs);
    plan_live(observed, &owners, config.shards, &options).map_err(failure)
}

/// An option out of range is the user's, and a file too short for it; everything else is not.
fn failure(error: PlanError) -> Failure {
    match error {
        PlanError::Option { .. } | PlanError::ShortTrace { .. } => Failure::Usage(error.into()),
        PlanError::TooLarge(..)
        | PlanError::TooWide { .. }
        | PlanError::NoOwner(_)
        | PlanError::OwnerOutOfRange { .. }
        | PlanError::Metis(_) => Failure::Other(error.into()),
    }
}

fn write_map(plan: &Plan, out: &Path) -> anyhow::Result<()> {
    let file = File::create(out).with_context(|| format!("create {}", out.display()))?;
    map_csv::write(&plan.map, BufWriter::new(file))
        .with_context(|| format!("write {}", out.display()))
}

fn people(plan: &Plan) -> String {
    let ratio = plan.cross_shard_ratio;
    let load = plan.load_max_over_avg;
    let mut lines = vec![
        format!(
            "{}: {}",
            match plan.decision {
                Decision::Apply => "apply",
                Decision::Refuse => "refuse",
            },
            plan.reason
        ),
        String::new(),
        format!(
            "cross-shard ratio   hash {:.3}  now {:.3}  predicted {:.3} (backtest)  {:.3} (in sample)",
            ratio.hash, ratio.current, ratio.backtest, ratio.in_sample
        ),
        format!(
            "load, max/avg       now {:.3}  planned {:.3}",
            load.current, load.planned
        ),
        format!(
            "accounts, max/avg   planned {:.3}",
            plan.accounts_max_over_avg
        ),
        format!(
            "planned on {} transfers, scored on {} others",
            plan.transfers_planned_on, plan.transfers_scored_on
        ),
        format!(
            "cross cost {} ({}), least gain {}, seed {}, input {}",
            plan.gate.cross_cost,
            match plan.gate.is_cost_measured {
                true => "measured here",
                false => "not measured here",
            },
            plan.gate.min_gain,
            plan.seed,
            plan.input_hash
        ),
        format!(
            "hubs: {} (floor of the ratio because of them: {:.3})",
            plan.hubs.len(),
            plan.hub_floor
        ),
    ];
    if let Some(cap) = plan.first_touch_cap {
        lines.push(match plan.train {
            Some(train) => format!("first-touch cap {cap}, train {train}, epochs 1"),
            None => format!("first-touch cap {cap}"),
        });
    }
    if let Some(course) = &plan.course {
        lines.push(course::people(course));
    }
    lines.push(format!("moves: {}, hottest first", plan.moves.len()));
    for planned in plan.moves.iter().take(MOVES_SHOWN) {
        lines.push(format!(
            "  account {} from shard {} to {}",
            planned.account, planned.source, planned.target
        ));
    }
    if plan.moves.len() > MOVES_SHOWN {
        lines.push("  ...".to_owned());
    }
    lines.join("\n")
}
