//! From parsed arguments to the commands, and the signals that end them early.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::acked;
use crate::args::{Arguments, AuditArguments, Command};
use crate::audit::audit;
use crate::failure::Failure;
use crate::link::Link;
use crate::locality::locality;
use crate::output::Document;
use crate::report::grouped;
use crate::run::{load_config, run};

/// Runs one command.
///
/// # Errors
/// Says with which exit code it ends.
pub fn execute(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Run(arguments) => run(arguments, stop_flag()?),
        Command::Locality(arguments) => locality(arguments, stop_flag()?),
        Command::Audit(arguments) => run_audit(arguments),
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
    let report = audit(&ids, |ids| link.lookup_transfers(ids))?;
    let mut document = if arguments.json {
        Document::Stdout
    } else {
        Document::None
    };
    document.write(&report, |_| {
        format!(
            "{} acknowledged, {} present, {} missing, {} duplicated",
            grouped(report.acked),
            grouped(report.present),
            report.missing.len(),
            report.duplicated.len(),
        )
    })?;
    if report.is_clean() {
        return Ok(());
    }
    Err(Failure::Check(format!(
        "{} of {} acknowledged transfers are missing, {} were executed twice",
        report.missing.len(),
        report.acked,
        report.duplicated.len(),
    )))
}
