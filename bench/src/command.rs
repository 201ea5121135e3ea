//! From parsed arguments to the commands, and the signals that end them early.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};

use quorate_protocol::ids::TransferId;
use quorate_protocol::ledger::rules::ulid_ms;

use crate::acked;
use crate::args::{Arguments, AuditArguments, Command};
use crate::audit::audit;
use crate::compare::compare;
use crate::failure::Failure;
use crate::figures::grouped;
use crate::link::Link;
use crate::locality::locality;
use crate::output::Document;
use crate::run::{load_config, run};
use crate::saturate::saturate;

/// How long an audit asks again for credits that have not followed their decision: the participant asks
/// for a decision that it was not told after half a second, and a new leader is there within seconds.
const CREDIT_PATIENCE: Duration = Duration::from_secs(15);
const CREDIT_PAUSE: Duration = Duration::from_millis(250);

/// Runs one command.
///
/// # Errors
/// Says with which exit code it ends.
pub fn execute(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Run(arguments) => run(arguments, stop_flag()?),
        Command::Locality(arguments) => locality(arguments, stop_flag()?),
        Command::Audit(arguments) => run_audit(arguments),
        Command::Compare(arguments) => compare(arguments),
        Command::Saturate(arguments) => saturate(arguments, stop_flag()?),
    }
}

/// Set by SIGINT and SIGTERM, so that a load ends with its report. A second signal ends the process:
/// the report of a cluster that does not answer takes until the requests' deadlines.
fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("registering a signal")?;
    }
    Ok(stop)
}

fn run_audit(arguments: &AuditArguments) -> Result<(), Failure> {
    let config = load_config(&arguments.cluster.path)?;
    let mut ids = Vec::new();
    for path in &arguments.acked {
        let name = path.display();
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::Usage(format!("--acked: {name}: {error}")))?;
        let more =
            acked::parse(&text).map_err(|error| Failure::Usage(format!("{name}: {error}")))?;
        ids.extend(more);
    }
    ids.sort_unstable();
    ids.dedup();
    let mut link = Link::new(&config);
    let end = Instant::now() + CREDIT_PATIENCE;
    let wait = || {
        thread::sleep(CREDIT_PAUSE);
        Instant::now() < end
    };
    // An id tells when its transfer was made, and only such ids are let go of.
    let kept = config.keep.ns().map(Duration::from_nanos);
    let is_too_old = |id: TransferId| {
        let age = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_millis(ulid_ms(id)));
        kept.is_some_and(|kept| age.is_ok_and(|age| age > kept))
    };
    let report = audit(&ids, |ids| link.lookup_transfers(ids), wait, is_too_old)?;
    let mut document = Document::open(arguments.json.then_some(Path::new("-")))?;
    document.write(&report, |_| {
        format!(
            "{} acknowledged, {} present, {} missing, {} not kept any more, {} duplicated, {} mismatched",
            grouped(report.acked),
            grouped(report.present),
            report.missing.len(),
            grouped(report.too_old),
            report.duplicated.len(),
            report.mismatched.len(),
        )
    })?;
    if report.is_clean() {
        return Ok(());
    }
    Err(Failure::Check(format!(
        "{} of {} acknowledged transfers are missing, {} were executed twice, {} were credited as \
         something else",
        report.missing.len(),
        report.acked,
        report.duplicated.len(),
        report.mismatched.len(),
    )))
}
