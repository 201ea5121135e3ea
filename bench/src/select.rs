//! From the options to a workload: what fits together, and what is said when it does not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate_config::ClusterConfig;
use quorate_planner::trace::Trace;
use quorate_protocol::shard::map::Placement;

use crate::args::{
    ArrivalsName, GeneratorArguments, LoadArguments, ModeName, WorkloadArguments, WorkloadName,
};
use crate::drive::{Mode, Options};
use crate::failure::Failure;
use crate::feed::{Feed, Replay, draws_of};
use crate::generator::default_connections;
use crate::reads::{Look, Operations, Reads};
use crate::schedule::Arrivals;
use crate::workload::{
    Communities, CrossMix, Draw, Drift, DriftingCommunities, DriftingPayments, HotSet, MEMBERS,
    MixError, Payments, READ_PERCENT, SMALLBANK_ACCOUNTS_MIN, Shape, SmallBank, Uniform,
    ZipfAccounts, trades_per_period,
};

/// Accounts of the synthetic workloads unless told otherwise.
const ACCOUNTS: u32 = 9_000;
/// Measured seconds of a run unless told otherwise.
const SECONDS: u64 = 10;
/// Seconds of warm-up unless told otherwise.
const WARMUP_SECONDS: u64 = 2;
/// Rounds from here on are those of reads.
const READ_ROUND: u32 = 1 << 24;
/// Seconds of a period of drift unless told otherwise.
const DRIFT_SECONDS: u32 = 10;

/// A workload whose options were checked. It can be sent to the generator's thread, where its feeds
/// are made.
#[derive(Clone, Debug)]
pub struct Selection {
    pub name: WorkloadName,
    /// Accounts `1..=accounts` take part.
    pub accounts: u32,
    pub seed: u64,
    kind: Kind,
    cross: Option<f64>,
    /// Share of the operations that read.
    read: f64,
    placement: Placement,
    shards: u32,
}

#[derive(Clone, Debug)]
enum Kind {
    Uniform,
    Zipf {
        theta: f64,
    },
    HotSet {
        accounts: f64,
        traffic: f64,
    },
    Communities {
        inside: f64,
        theta: f64,
        drift: Option<Drift>,
    },
    SmallBank {
        accounts: f64,
        traffic: f64,
    },
    Replay(Arc<[Draw]>),
}

/// Which part of a recorded file a feed takes; synthetic feeds have no parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Every transfer once.
    Whole,
    /// The older half once.
    Older,
    /// The older half over and over.
    OlderRepeated,
    /// The newer half once.
    Newer,
}

impl Selection {
    /// Checks the options against each other and against the cluster; reads the trace.
    ///
    /// # Errors
    /// Names the option, or the file, line and field, that does not fit.
    pub fn new(arguments: &WorkloadArguments, config: &ClusterConfig) -> Result<Self, Failure> {
        refuse_foreign(arguments)?;
        let kind = Kind::of(arguments)?;
        let selection = Self {
            name: arguments.workload,
            accounts: accounts(&kind, arguments.accounts)?,
            seed: arguments.seed,
            kind,
            cross: arguments.cross.map(|percent| percent / 100.0),
            read: read_percent(arguments) / 100.0,
            placement: config.placement,
            shards: config.shards,
        };
        let mix = selection.mix();
        mix.map_err(|error| usage(format!("--cross: {error}")))?;
        Ok(selection)
    }

    /// The recorded transfers, of a replay.
    #[must_use]
    pub fn trace(&self) -> Option<&[Draw]> {
        match &self.kind {
            Kind::Replay(draws) => Some(draws),
            Kind::Uniform
            | Kind::Zipf { .. }
            | Kind::HotSet { .. }
            | Kind::Communities { .. }
            | Kind::SmallBank { .. } => None,
        }
    }

    /// What `clients` clients do: payments, and reads among them.
    #[must_use]
    pub fn operations(&self, clients: usize, part: Part, round: u32, before_ns: u64) -> Operations {
        let payments = self.feed(clients, part, round, before_ns);
        let (look, pairs) = match &self.kind {
            Kind::SmallBank { accounts, traffic } => {
                let bank = SmallBank::new(self.accounts, *accounts, *traffic, self.seed);
                let shape = Shape::SmallBankBalances(bank);
                (Look::Both, self.endless(shape, clients, READ_ROUND + round))
            }
            _ => {
                let round = READ_ROUND + round;
                (Look::Debit, self.feed(clients, part, round, before_ns))
            }
        };
        let reads = (self.read > 0.0).then(|| Reads::new(self.read, look, pairs, self.seed));
        Operations::new(payments, reads)
    }

    /// The payments of `clients` clients. Loads that follow each other differ in `round`: the same
    /// communities, other payments, or a plan would be judged on the payments that made it. Drift
    /// has had `before_ns` before this load.
    #[must_use]
    pub fn feed(&self, clients: usize, part: Part, round: u32, before_ns: u64) -> Feed {
        let (accounts, seed) = (self.accounts, self.seed);
        let shape = match &self.kind {
            Kind::Uniform => Shape::Uniform(Uniform::new(accounts)),
            Kind::Zipf { theta } => Shape::Zipf(ZipfAccounts::new(accounts, *theta, seed)),
            Kind::HotSet {
                accounts: hot,
                traffic,
            } => Shape::HotSet(HotSet::new(accounts, *hot, *traffic, seed)),
            Kind::Communities {
                inside,
                theta,
                drift,
            } => {
                let communities = Communities::new(accounts, *inside, *theta, seed);
                match drift {
                    None => Shape::Communities(communities),
                    Some(drift) => {
                        let shape = DriftingCommunities::new(communities, *drift, seed);
                        let shape = Arc::new(shape);
                        let numbers = numbers(clients, round);
                        let payments = DriftingPayments::new(shape, seed, numbers, before_ns);
                        return Feed::Drifting(payments);
                    }
                }
            }
            Kind::SmallBank {
                accounts: hot,
                traffic,
            } => Shape::SmallBank(SmallBank::new(accounts, *hot, *traffic, seed)),
            Kind::Replay(draws) => return Feed::Replay(replay(draws, part)),
        };
        self.endless(shape, clients, round)
    }

    fn endless(&self, shape: Shape, clients: usize, round: u32) -> Feed {
        let shape = Arc::new(shape);
        let mix = self.mix().expect("checked when the selection was made");
        let mix = mix.map(Arc::new);
        let stream = |client| Payments::new(Arc::clone(&shape), mix.clone(), self.seed, client);
        Feed::Endless(numbers(clients, round).map(stream).collect())
    }

    /// The same with this share across shards by the default placement, communities as evenly paying accounts; `None` for a
    /// recorded file, whose accounts hold what they pay in it, and where there are too few accounts.
    #[must_use]
    pub fn with_cross(&self, share: f64) -> Option<Self> {
        let (name, kind) = match &self.kind {
            Kind::Replay(_) => return None,
            Kind::Communities { .. } | Kind::SmallBank { .. } => {
                (WorkloadName::Uniform, Kind::Uniform)
            }
            kind @ (Kind::Uniform | Kind::Zipf { .. } | Kind::HotSet { .. }) => {
                (self.name, kind.clone())
            }
        };
        let mixed = Self {
            name,
            kind,
            cross: Some(share),
            ..self.clone()
        };
        mixed.mix().is_ok().then_some(mixed)
    }

    /// What of the options shapes the payments, by the options' names and units.
    #[must_use]
    pub fn shape(&self) -> BTreeMap<&'static str, f64> {
        let mut shape = self.kind.shape();
        shape.extend(self.cross.map(|share| ("cross_percent", percent_of(share))));
        if self.read > 0.0 {
            shape.insert("read_percent", percent_of(self.read));
        }
        shape
    }

    fn mix(&self) -> Result<Option<CrossMix>, MixError> {
        let new = |share| CrossMix::new(share, self.accounts, self.placement, self.shards);
        self.cross.map(new).transpose()
    }
}

impl Kind {
    fn of(arguments: &WorkloadArguments) -> Result<Self, Failure> {
        let share = |percent: Option<f64>, default: f64| percent.unwrap_or(default) / 100.0;
        Ok(match arguments.workload {
            WorkloadName::Uniform => Self::Uniform,
            WorkloadName::Zipf => Self::Zipf {
                theta: arguments.theta.unwrap_or(0.99),
            },
            WorkloadName::HotSet => Self::HotSet {
                accounts: share(arguments.hot_accounts, 1.0),
                traffic: share(arguments.hot_traffic, 90.0),
            },
            WorkloadName::Communities => Self::Communities {
                inside: share(arguments.inside, 90.0),
                theta: arguments.theta.unwrap_or(1.0),
                drift: drift(arguments)?,
            },
            WorkloadName::SmallBank => Self::SmallBank {
                accounts: share(arguments.hot_accounts, 25.0),
                traffic: share(arguments.hot_traffic, 90.0),
            },
            WorkloadName::Replay => {
                let path = arguments.trace.as_deref().ok_or_else(|| {
                    usage("--trace: replay needs a file of recorded transfers".to_owned())
                })?;
                let trace = Trace::open(path).map_err(|error| usage(error.to_string()))?;
                Self::Replay(draws_of(&trace).into())
            }
        })
    }

    fn shape(&self) -> BTreeMap<&'static str, f64> {
        match self {
            Self::Uniform | Self::Replay(_) => BTreeMap::new(),
            Self::Zipf { theta } => BTreeMap::from([("theta", *theta)]),
            Self::HotSet { accounts, traffic } | Self::SmallBank { accounts, traffic } => {
                BTreeMap::from([
                    ("hot_accounts_percent", percent_of(*accounts)),
                    ("hot_traffic_percent", percent_of(*traffic)),
                ])
            }
            Self::Communities {
                inside,
                theta,
                drift,
            } => {
                let inside = ("inside_percent", percent_of(*inside));
                let mut shape = BTreeMap::from([inside, ("theta", *theta)]);
                if let Some(drift) = drift {
                    shape.insert("drift_percent", drift.percent);
                    shape.insert("drift_every_seconds", drift.every.as_secs_f64());
                }
                shape
            }
        }
    }
}

/// Reads among the operations.
fn read_percent(arguments: &WorkloadArguments) -> f64 {
    arguments.read.unwrap_or(match arguments.workload {
        WorkloadName::SmallBank => READ_PERCENT,
        _ => 0.0,
    })
}

/// The numbers of the clients' streams.
fn numbers(clients: usize, round: u32) -> impl Iterator<Item = u64> {
    (u64::from(round) << 32..).take(clients)
}

/// The drift asked for; none if nobody is to change.
fn drift(arguments: &WorkloadArguments) -> Result<Option<Drift>, Failure> {
    match (arguments.drift, arguments.drift_every) {
        (None, Some(_)) => Err(usage(
            "--drift-every: without --drift nothing happens then".to_owned(),
        )),
        (Some(percent), every) if percent > 0.0 => Ok(Some(Drift {
            percent,
            every: Duration::from_secs(every.unwrap_or(DRIFT_SECONDS).into()),
        })),
        (Some(_) | None, _) => Ok(None),
    }
}

/// How many accounts take part.
fn accounts(kind: &Kind, asked: Option<u32>) -> Result<u32, Failure> {
    let accounts = asked.unwrap_or(ACCOUNTS);
    match kind {
        Kind::Replay(draws) => accounts_of(draws),
        Kind::Communities { .. } if accounts < 2 * MEMBERS => Err(usage(format!(
            "--accounts: communities have {MEMBERS} members and pay each other, so at least {}",
            2 * MEMBERS
        ))),
        Kind::Communities {
            drift: Some(drift), ..
        } if trades_per_period(accounts, drift.percent) == 0 => Err(usage(format!(
            "--drift: {} % of {accounts} accounts are not two, which trade places",
            drift.percent
        ))),
        Kind::SmallBank { .. } if accounts < SMALLBANK_ACCOUNTS_MIN => Err(usage(format!(
            "--accounts: two customers with two accounts each and a teller, so at least {SMALLBANK_ACCOUNTS_MIN}"
        ))),
        Kind::Uniform
        | Kind::Zipf { .. }
        | Kind::HotSet { .. }
        | Kind::Communities { .. }
        | Kind::SmallBank { .. } => Ok(accounts),
    }
}

/// The options of a load, checked against the workload. `seconds` is the measured time.
///
/// # Errors
/// Names the option that does not fit.
pub fn load_options(
    load: &LoadArguments,
    selection: &Selection,
    seconds: Option<u64>,
) -> Result<Options, Failure> {
    let is_replay = selection.trace().is_some();
    let default_seconds = if is_replay { None } else { Some(SECONDS) };
    let warmup = match load.warmup {
        Some(warmup) if is_replay && warmup > 0 => {
            return Err(usage(
                "--warmup: replay sends every transfer once and counts all of them".to_owned(),
            ));
        }
        Some(warmup) => warmup,
        None if is_replay => 0,
        None => WARMUP_SECONDS,
    };
    let generator = &load.generator;
    let clients = usize::try_from(generator.clients).expect("a u32 fits a usize");
    let batch = usize::try_from(generator.batch).expect("a u32 fits a usize");
    let seconds = seconds.or(default_seconds).map(Duration::from_secs);
    Ok(Options {
        mode: mode(load, seconds)?,
        clients,
        connections: connections(generator, clients, batch)?,
        batch,
        warmup: Duration::from_secs(warmup),
        seconds,
        seed: selection.seed,
    })
}

/// A connection that no client uses would be reported and never opened.
fn connections(
    generator: &GeneratorArguments,
    clients: usize,
    batch: usize,
) -> Result<usize, Failure> {
    match generator.connections {
        Some(asked) if asked > generator.clients => Err(usage(format!(
            "--connections: {asked} for {clients} clients, at most one each"
        ))),
        Some(asked) => Ok(usize::try_from(asked).expect("a u32 fits a usize")),
        None => Ok(default_connections(clients, batch)),
    }
}

fn mode(load: &LoadArguments, seconds: Option<Duration>) -> Result<Mode, Failure> {
    let is_ramp = load.arrivals == Some(ArrivalsName::Ramp);
    if load.rate_from.is_some() && !is_ramp {
        return Err(usage(
            "--rate-from: only a ramp begins at another rate (--arrivals ramp)".to_owned(),
        ));
    }
    match load.mode {
        ModeName::Open if is_ramp && seconds.is_none() => Err(usage(
            "--arrivals: a ramp needs its end (--seconds)".to_owned(),
        )),
        ModeName::Open => {
            let rate = load
                .rate
                .ok_or_else(|| usage("--rate: an open loop needs it".to_owned()))?;
            let arrivals = match load.arrivals {
                None | Some(ArrivalsName::Constant) => Arrivals::Constant,
                Some(ArrivalsName::Poisson) => Arrivals::Poisson,
                Some(ArrivalsName::Ramp) => Arrivals::Ramp {
                    from: load.rate_from.unwrap_or(rate / 10.0),
                },
            };
            Ok(Mode::Open { rate, arrivals })
        }
        ModeName::Closed if load.rate.is_some() => Err(usage(
            "--rate: only an open loop has a rate (--mode open)".to_owned(),
        )),
        ModeName::Closed if load.arrivals.is_some() => Err(usage(
            "--arrivals: only an open loop has intended times (--mode open)".to_owned(),
        )),
        ModeName::Closed => Ok(Mode::Closed),
    }
}

/// An option that the workload would not read is a mistake: nobody should believe it had an effect.
fn refuse_foreign(arguments: &WorkloadArguments) -> Result<(), Failure> {
    use WorkloadName::{Communities, HotSet, Replay, SmallBank, Uniform, Zipf};
    let given: [(&str, bool, &[WorkloadName]); 10] = [
        (
            "--accounts",
            arguments.accounts.is_some(),
            &[Uniform, Zipf, HotSet, Communities, SmallBank],
        ),
        (
            "--cross",
            arguments.cross.is_some(),
            &[Uniform, Zipf, HotSet],
        ),
        ("--theta", arguments.theta.is_some(), &[Zipf, Communities]),
        ("--inside", arguments.inside.is_some(), &[Communities]),
        ("--drift", arguments.drift.is_some(), &[Communities]),
        (
            "--drift-every",
            arguments.drift_every.is_some(),
            &[Communities],
        ),
        (
            "--hot-accounts",
            arguments.hot_accounts.is_some(),
            &[HotSet, SmallBank],
        ),
        (
            "--hot-traffic",
            arguments.hot_traffic.is_some(),
            &[HotSet, SmallBank],
        ),
        (
            "--read",
            arguments.read.is_some(),
            &[Uniform, Zipf, HotSet, Communities, SmallBank],
        ),
        ("--trace", arguments.trace.is_some(), &[Replay]),
    ];
    let foreign = given
        .iter()
        .find(|(_, given, workloads)| *given && !workloads.contains(&arguments.workload));
    match foreign {
        None => Ok(()),
        Some((option, _, workloads)) => {
            let names: Vec<&str> = workloads.iter().map(|name| name.name()).collect();
            Err(usage(format!(
                "{option}: has no meaning for {}, only for {}",
                arguments.workload.name(),
                names.join(", ")
            )))
        }
    }
}

/// The highest account of a trace; accounts are numbered without gaps.
fn accounts_of(draws: &[Draw]) -> Result<u32, Failure> {
    let highest = draws
        .iter()
        .map(|draw| draw.debit.0.max(draw.credit.0))
        .max();
    let highest = highest.expect("a trace has transfers");
    u32::try_from(highest)
        .map_err(|_| usage(format!("--trace: account {highest} is above {}", u32::MAX)))
}

fn replay(draws: &Arc<[Draw]>, part: Part) -> Replay {
    let (older, newer) = draws.split_at(draws.len() / 2);
    match part {
        Part::Whole => Replay::once(Arc::clone(draws)),
        Part::Older => Replay::once(older.into()),
        Part::OlderRepeated => Replay::repeated(older.into()),
        Part::Newer => Replay::once(newer.into()),
    }
}

/// A share as it was typed: 0.29 times 100 is not 29.
fn percent_of(share: f64) -> f64 {
    (share * 1e8).round() / 1e6
}

fn usage(text: String) -> Failure {
    Failure::Usage(text)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::args::{Arguments, Command};
    use clap::Parser;
    use quorate_config::GenerateOptions;
    use quorate_protocol::ids::ClusterId;
    use std::io::Write;

    pub(crate) fn cluster() -> ClusterConfig {
        let options = GenerateOptions {
            cluster_id: ClusterId(7),
            shards: 3,
            replicas: 3,
            nodes: 3,
            directory: "cluster".into(),
            base_port: 7000,
            placement: Placement::Hash,
            host_cores: 2,
        };
        ClusterConfig::generate(&options).unwrap()
    }

    fn select(options: &str) -> Result<(Selection, Options), Failure> {
        let line = format!("quorate-bench run -f cluster.toml {options}");
        let parsed = Arguments::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Run(run) = parsed.command else {
            panic!("it is a run");
        };
        let selection = Selection::new(&run.workload, &cluster())?;
        let options = load_options(&run.load, &selection, run.seconds)?;
        Ok((selection, options))
    }

    #[test]
    fn an_option_without_effect_is_refused_by_its_name() {
        for (options, field) in [
            ("--workload uniform --theta 1", "--theta"),
            ("--workload communities --cross 10", "--cross"),
            ("--workload zipf --inside 10", "--inside"),
            ("--workload uniform --hot-accounts 1", "--hot-accounts"),
            ("--workload uniform --trace x.csv", "--trace"),
            ("--workload replay", "--trace"),
            ("--workload uniform --rate 5", "--rate"),
            ("--workload uniform --arrivals poisson", "--arrivals"),
            (
                "--workload uniform --mode open --rate 5 --rate-from 1",
                "--rate-from",
            ),
            ("--workload communities --accounts 199", "--accounts"),
            ("--workload zipf --drift 1", "--drift"),
            ("--workload uniform --drift-every 1", "--drift-every"),
            ("--workload communities --drift-every 1", "--drift-every"),
            ("--workload communities --drift 0.001", "--drift"),
            (
                "--workload uniform --clients 4 --connections 5",
                "--connections",
            ),
        ] {
            let failure = select(options).unwrap_err();
            assert_eq!(failure.exit_code(), 2, "{options}");
            assert!(
                failure.to_string().starts_with(field),
                "{options}: {failure}"
            );
        }
    }

    #[test]
    fn every_client_can_have_a_connection_of_its_own() {
        let connections = |options: &str| {
            let (_, options) = select(&format!("--workload uniform {options}")).unwrap();
            options.connections
        };
        assert_eq!(connections("--clients 64 --connections 64"), 64);
        assert_eq!(connections("--clients 1024 --connections 1024"), 1_024);
        assert_eq!(
            connections("--clients 64 --batch 1"),
            default_connections(64, 1)
        );
    }

    #[test]
    fn a_trace_that_cannot_be_read_names_file_line_and_field() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "timestamp,src,dst,amount\n1,0,x,5\n").unwrap();
        let path = file.path().display().to_string();
        let failure = select(&format!("--workload replay --trace {path}")).unwrap_err();
        let text = failure.to_string();
        assert_eq!(failure.exit_code(), 2);
        assert!(
            text.contains(&path) && text.contains("line 2") && text.contains("dst"),
            "{text}"
        );
    }

    #[test]
    fn a_replay_takes_its_accounts_and_amounts_from_the_file_and_runs_to_its_end() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(
            file,
            "timestamp,src,dst,amount\n1,0,1,0.5\n2,1,4,0\n3,4,0,2\n"
        )
        .unwrap();
        let path = file.path().display().to_string();
        let (selection, options) = select(&format!("--workload replay --trace {path}")).unwrap();
        assert_eq!(selection.accounts, 5);
        assert_eq!((options.seconds, options.warmup), (None, Duration::ZERO));
        let amounts = |part| -> Vec<u128> {
            let draws = selection.feed(1, part, 0, 0).take(0, 4, 0);
            draws.iter().map(|draw| draw.amount).collect()
        };
        assert_eq!(amounts(Part::Whole), [500_000, 1, 2_000_000]);
        assert_eq!(amounts(Part::Older), [500_000]);
        assert_eq!(amounts(Part::Newer), [1, 2_000_000]);
    }

    #[test]
    fn every_client_has_a_stream_of_its_own_in_every_round() {
        let (selection, options) = select("--workload communities --clients 3").unwrap();
        let take = |round| -> Vec<Vec<Draw>> {
            let mut feed = selection.feed(options.clients, Part::Whole, round, 0);
            (0..3).map(|client| feed.take(client, 5, 0)).collect()
        };
        let taken = take(0);
        assert!(taken[0] != taken[1] && taken[1] != taken[2]);
        assert_eq!(taken, take(0));
        assert!(take(1).iter().all(|payments| !taken.contains(payments)));
        assert_eq!(options.seconds, Some(Duration::from_secs(10)));
    }

    #[test]
    fn no_drift_and_drift_of_nobody_are_the_same_load() {
        let take = |options: &str, at_ns| {
            let (selection, _) = select(options).unwrap();
            selection.feed(1, Part::Whole, 0, 0).take(0, 500, at_ns)
        };
        let (without, minute) = ("--workload communities", 60_000_000_000);
        let none = take("--workload communities --drift 0", minute);
        assert_eq!(none, take(without, 0));
        let drifting = "--workload communities --drift 5 --drift-every 30";
        assert_eq!(take(drifting, 29_999_999_999), none);
        assert_ne!(take(drifting, minute), none);
    }

    #[test]
    fn the_shape_is_told_in_the_options_own_units() {
        let shape = |options: &str| select(options).unwrap().0.shape();
        let communities = shape("--workload communities --inside 29 --drift 2.5");
        let expected = [
            ("drift_every_seconds", 10.0),
            ("drift_percent", 2.5),
            ("inside_percent", 29.0),
            ("theta", 1.0),
        ];
        assert_eq!(communities, BTreeMap::from(expected));
        assert_eq!(
            shape("--workload uniform --cross 25"),
            BTreeMap::from([("cross_percent", 25.0)])
        );
    }
}
