//! `quorate-bench run`: set up, load, check the money, report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use quorate_client::reshard::{ApplyOptions, Conduct, apply_as};
use quorate_config::ClusterConfig;

use crate::args::{LoadArguments, RunArguments, Switch};
use crate::drive::{Measured, Mode, Options};
use crate::failure::Failure;
use crate::files::Files;
use crate::first_touch;
use crate::generator::{Job, choose_cpu, warn_after, warn_before};
use crate::host::Host;
use crate::html::run_page;
use crate::link::Link;
use crate::output::{Document, HtmlFile, say};
use crate::recorder::Recorder;
use crate::report::{Run, RunReport, Settings};
use crate::schedule::Arrivals;
use crate::select::{Part, Selection, load_options};
use crate::setup::{FUNDS, Funding, create_all, fund_all, system_accounts};
use crate::verify::{TIME_LIMIT, VerifyReport};

/// Load over the average above which a shard takes no new accounts of a replay.
const FIRST_TOUCH_CAP: f64 = 1.1;

/// What every command that loads a cluster starts from.
#[derive(Clone, Debug)]
pub struct Bench {
    pub config: ClusterConfig,
    pub selection: Selection,
    pub options: Options,
    pub cpu: usize,
    /// Where a replay's new accounts are put: beside their first counterparties, up to this load over the average.
    pub first_touch_cap: Option<f64>,
    /// Which of the loads' payments a single load makes.
    pub round: u32,
    pub stop: Arc<AtomicBool>,
}

impl Bench {
    /// Checks everything that was typed before anything is started.
    ///
    /// # Errors
    /// Names the file or the option that does not fit.
    pub fn new(
        config: ClusterConfig,
        selection: Selection,
        load: &LoadArguments,
        seconds: Option<u64>,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        let options = load_options(load, &selection, seconds)?;
        let cpu = choose_cpu(&config, load.generator.cpu)?;
        Ok(Self {
            config,
            selection,
            options,
            cpu,
            first_touch_cap: None,
            round: 0,
            stop,
        })
    }

    /// Accounts and money, told on stderr.
    ///
    /// # Errors
    /// The cluster does not answer, or has accounts with other properties.
    pub fn prepare(&self, link: &mut Link, funding: &Funding) -> anyhow::Result<()> {
        let (accounts, shards) = (self.selection.accounts, self.config.shards);
        say(format_args!(
            "preparing {accounts} accounts on {shards} shards"
        ));
        let systems = system_accounts(accounts, self.config.placement, shards);
        let created = create_all(link, accounts, &systems)?;
        self.place(link)?;
        let funded = fund_all(link, accounts, funding, &systems)?;
        say(format_args!("{created} accounts new, {funded} funded"));
        Ok(())
    }

    /// Moves a replay's untouched accounts to those that they will first trade with.
    fn place(&self, link: &mut Link) -> anyhow::Result<()> {
        let Some((draws, cap)) = self.selection.trace().zip(self.first_touch_cap) else {
            return Ok(());
        };
        let moves = first_touch::moves(link, draws, self.config.shards, cap)?;
        let connect = |_| anyhow::Ok(Link::new(&self.config).into_client());
        // Nobody uses them yet, so nobody waits.
        let options = ApplyOptions {
            rest: 0,
            ..ApplyOptions::default()
        };
        let conduct = UntilStopped(&self.stop);
        let applied = apply_as(&moves, options, &conduct, connect, |_| ())?;
        anyhow::ensure!(!self.stop.load(Ordering::Relaxed), "stopped by a signal");
        anyhow::ensure!(
            applied.is_complete(),
            "{} of {} new accounts could not be placed",
            applied.planned - applied.moved - applied.already_there,
            applied.planned
        );
        say(format_args!(
            "{} new accounts placed by first touch",
            applied.planned
        ));
        Ok(())
    }

    /// One load on a thread of its own; drift has had `before_ns` before it.
    #[must_use]
    pub fn job(&self, name: &'static str, part: Part, round: u32, before_ns: u64) -> Job {
        Job {
            config: self.config.clone(),
            selection: self.selection.clone(),
            name,
            part,
            round,
            before_ns,
            options: self.options,
            cpu: self.cpu,
            stop: Arc::clone(&self.stop),
        }
    }

    /// The report of what a load measured.
    #[must_use]
    pub fn report(&self, measured: &Measured, verify: VerifyReport) -> RunReport {
        let run = Run {
            measured_from_unix_ns: Some(measured.measured_from_unix_ns),
            measured_ns: measured.measured_ns,
            generator_cpu: measured.generator_cpu,
            interrupted: measured.interrupted,
            ..self.blank()
        };
        RunReport::new(run, &measured.recorder, Host::of(&self.config), verify)
    }

    /// The report of a load that was offered in another `mode` than this, one of many on a cluster.
    #[must_use]
    pub fn report_of(&self, measured: &Measured, mode: Mode) -> RunReport {
        let mut bench = self.clone();
        bench.options.mode = mode;
        let verify = VerifyReport::unavailable("checked once, after the last load".to_owned());
        bench.report(measured, verify)
    }

    /// The report of a load that could not be made.
    #[must_use]
    pub fn report_of_error(&self, error: String, verify: VerifyReport) -> RunReport {
        let run = Run {
            error: Some(error),
            ..self.blank()
        };
        RunReport::new(run, &Recorder::default(), Host::of(&self.config), verify)
    }

    /// What fixes the work of every load.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let (rate, arrivals) = match self.options.mode {
            Mode::Closed => (None, None),
            Mode::Open { rate, arrivals } => (Some(rate), Some(arrivals)),
        };
        let transfers = |draws: &[_]| u64::try_from(draws.len()).expect("a slice's length fits");
        Settings {
            accounts: self.selection.accounts,
            seed: self.selection.seed,
            round: self.round,
            connections: self.options.connections,
            warmup_seconds: self.options.warmup.as_secs(),
            rate,
            arrivals: arrivals.map(Arrivals::name),
            rate_from: arrivals.and_then(Arrivals::rate_from),
            trace_transfers: self.selection.trace().map(transfers),
            first_touch_cap: self
                .first_touch_cap
                .filter(|_| self.selection.trace().is_some()),
            shape: self.selection.shape(),
        }
    }

    fn blank(&self) -> Run {
        Run {
            workload: self.selection.name.name(),
            mode: self.options.mode.name(),
            clients: self.options.clients,
            batch: self.options.batch,
            measured_from_unix_ns: None,
            measured_ns: 0,
            generator_cpu: 0.0,
            interrupted: false,
            error: None,
            settings: self.settings(),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Bad usage, a cluster that cannot be set up, a replay that did not commit every transfer, or a
/// failed money check. Document and page are written in every case but the first.
pub fn run(arguments: &RunArguments, stop: Arc<AtomicBool>) -> Result<(), Failure> {
    let config = load_config(&arguments.cluster.path)?;
    let selection = Selection::new(&arguments.workload, &config)?;
    let mut bench = Bench::new(config, selection, &arguments.load, arguments.seconds, stop)?;
    bench.first_touch_cap = first_touch_cap(arguments, &bench.selection)?;
    if arguments.round.is_some() && bench.selection.trace().is_some() {
        let message = "--round: a recorded file has one list of payments";
        return Err(Failure::Usage(message.to_owned()));
    }
    bench.round = arguments.round.unwrap_or(0);
    let mut document = Document::open(arguments.json.as_deref())?;
    let mut html = HtmlFile::open(arguments.html.as_deref())?;
    let files = Files::create(arguments.acked.as_deref(), arguments.hlog.as_deref())?;
    warn_before(&bench.config, bench.cpu);
    let mut link = Link::new(&bench.config);
    let result = load(&bench, &mut link, files);
    let verify = link.verify(TIME_LIMIT);
    match result {
        Ok(measured) => {
            let report = bench.report(&measured, verify.clone());
            let page = html.write(|| run_page(&report));
            document.write(&report, |terminal| report.to_text(terminal))?;
            page?;
            warn_after(&measured);
            verify.into_result()?;
            check_replay(&bench, &report)
        }
        Err(error) => {
            let report = bench.report_of_error(format!("{error:#}"), verify);
            let page = html.write(|| run_page(&report));
            document.write(&report, |terminal| report.to_text(terminal))?;
            page?;
            Err(Failure::Other(error))
        }
    }
}

/// Moves until a signal comes.
struct UntilStopped<'a>(&'a AtomicBool);

impl Conduct for UntilStopped<'_> {
    fn may_go_on(&self, rest: Duration) -> bool {
        thread::sleep(rest);
        !self.0.load(Ordering::Relaxed)
    }
}

/// On by default, for a recorded file only.
fn first_touch_cap(
    arguments: &RunArguments,
    selection: &Selection,
) -> Result<Option<f64>, Failure> {
    let typed = arguments.first_touch.is_some() || arguments.first_touch_cap.is_some();
    if selection.trace().is_none() && typed {
        let message = "--first-touch, --first-touch-cap: they are options of the workload replay";
        return Err(Failure::Usage(message.to_owned()));
    }
    if arguments.first_touch == Some(Switch::Off) && arguments.first_touch_cap.is_some() {
        let message = "--first-touch-cap: there is none with --first-touch off";
        return Err(Failure::Usage(message.to_owned()));
    }
    let cap = arguments.first_touch_cap.unwrap_or(FIRST_TOUCH_CAP);
    Ok(match arguments.first_touch {
        None | Some(Switch::On) => Some(cap),
        Some(Switch::Off) => None,
    })
}

fn load(bench: &Bench, link: &mut Link, files: Files) -> anyhow::Result<Measured> {
    let funding = match bench.selection.trace() {
        None => Funding::Even(FUNDS),
        Some(draws) => Funding::outgoing(draws, 1),
    };
    bench.prepare(link, &funding)?;
    let (measured, files) = bench.job("run", Part::Whole, bench.round, 0).run(files)?;
    files.finish()?;
    Ok(measured)
}

/// A replay is done when every transfer of its file has committed.
fn check_replay(bench: &Bench, report: &RunReport) -> Result<(), Failure> {
    match report.settings.trace_transfers {
        Some(transfers) if transfers != report.committed && bench.options.seconds.is_none() => {
            Err(Failure::Check(format!(
                "replay: {} of {transfers} transfers committed",
                report.committed
            )))
        }
        Some(_) | None => Ok(()),
    }
}

/// Reads the topology.
///
/// # Errors
/// The file, the line and the field that are wrong.
pub fn load_config(path: &std::path::Path) -> Result<ClusterConfig, Failure> {
    ClusterConfig::load(path).map_err(|error| Failure::Usage(error.to_string()))
}
