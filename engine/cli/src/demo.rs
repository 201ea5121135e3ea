//! `demo`: the main job on one machine, from nothing to the before/after table.
//!
//! Three shards with three replicas each, as three node processes in a temporary directory on free
//! ports. The load generator beside this program offers load, has the accounts placed by who pays
//! whom while it goes on, and offers the same load again. Whatever happens, Ctrl-C included, the
//! processes are ended and the directory is removed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use quorate_config::{ClusterConfig, NodeConfig};
use rustix::process::Signal;
use serde_json::Value;

use crate::Context;
use crate::cluster::init::{InitArgs, PlacementName, generate};
use crate::cluster::start::{start, wait_serving};
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::local::{Guarded, interruption, reap};
use crate::node_process::{POLL, StartOptions};
use crate::ports::free_base_port;
use crate::print::say;
use crate::print::{Output, line};
use crate::scratch::scratch;

const SHARDS: u16 = 3;
const REPLICAS: u8 = 3;
const NODES: u16 = 3;
const LEADERS_WITHIN: Duration = Duration::from_secs(30);

/// Options of `demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Measured seconds before the move, and again after it
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
}

/// Runs the demo.
pub fn run(args: &DemoArgs, context: Context) -> Outcome {
    let interrupted = interrupt::watch()?;
    let bench = bench_program()?;
    let directory = scratch("quorate-demo-")?;
    let init = InitArgs {
        shards: SHARDS.into(),
        replicas: REPLICAS,
        nodes: NODES.into(),
        dir: directory.path().join("nodes"),
        base_port: free_base_port(NODES, SHARDS, std::process::id().to_le_bytes()[0].into())?,
        placement: PlacementName::Hash,
        accounts_per_shard: None,
        addresses: Vec::new(),
        key_file: None,
        host_cores: None,
    };
    let config = generate(&init)?;
    let file = directory.path().join("cluster.toml");
    fs::write(&file, config.to_toml()).with_context(|| file.display().to_string())?;

    let cluster = Guarded::new(&config);
    let nodes: Vec<&NodeConfig> = config.nodes().collect();
    let options = StartOptions {
        format: context.log_format,
        recover: false,
    };
    let mut started = start(&file, &nodes, options)?;
    let ids: Vec<u32> = config.nodes().map(|node| node.id.0).collect();
    wait_serving(&config, &ids, &mut started, LEADERS_WITHIN)?;
    if interrupted.load(Ordering::Relaxed) {
        return Err(interruption());
    }
    // Reaped when they end; the cluster's guard signals them.
    reap(started.into_iter().map(|node| node.child));
    announce(&config, &file);

    let report = directory.path().join("locality.json");
    let outcome = run_bench(&bench, &file, &report, args.seconds, context, &interrupted);
    let stopped = cluster.stop();
    // A refusal and a failed check are answers, and the document has them.
    let concluded = match &outcome {
        Ok(()) | Err(Failure::Refused(_) | Failure::CheckFailed(_)) => conclude(&report, context),
        Err(_) => Ok(()),
    };
    outcome?;
    stopped?;
    concluded
}

fn bench_program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    let beside = own.with_file_name("quorate-bench");
    if beside.is_file() {
        return Ok(beside);
    }
    Err(anyhow!(
        "no load generator at {}; build it with: cargo build --release --workspace",
        beside.display()
    ))
}

fn announce(config: &ClusterConfig, file: &Path) {
    say(format_args!(
        "ready: {SHARDS} shards x {REPLICAS} replicas, topology in {}",
        file.display()
    ));
    for node in config.nodes() {
        let last = usize::from(node.base_port) + config.replicas_of(node.id).len() - 1;
        say(format_args!(
            "  node {}  {}:{}-{last}",
            node.id, node.address, node.base_port
        ));
    }
    say(format_args!("Ctrl-C stops everything."));
}

fn run_bench(
    bench: &Path,
    file: &Path,
    report: &Path,
    seconds: u64,
    context: Context,
    interrupted: &AtomicBool,
) -> Outcome {
    let mut child = Command::new(bench)
        .args([
            "locality",
            "--workload",
            "communities",
            "--accounts",
            "9000",
        ])
        .args([OsStr::new("-f"), file.as_os_str()])
        .args(["--seconds", &seconds.to_string()])
        .args([OsStr::new("--json"), report.as_os_str()])
        .stdin(Stdio::null())
        .stdout(match context.output {
            Output::People => Stdio::inherit(),
            Output::Machine => Stdio::null(),
        })
        .spawn()
        .with_context(|| format!("start {}", bench.display()))?;
    let status = wait_or_stop(&mut child, interrupted)?;
    if interrupted.load(Ordering::Relaxed) {
        return Err(interruption());
    }
    match status.code() {
        Some(0) => Ok(()),
        Some(3) => Err(Failure::Refused(
            "the plan's gate refused the move".to_owned(),
        )),
        Some(4) => Err(Failure::CheckFailed("the load's checks failed".to_owned())),
        _ => Err(anyhow!("the load generator ended with {status}").into()),
    }
}

/// Waits for the child. After Ctrl-C it gets a SIGTERM, as it may not be in the terminal's group.
fn wait_or_stop(child: &mut Child, interrupted: &AtomicBool) -> anyhow::Result<ExitStatus> {
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if interrupted.load(Ordering::Relaxed) && !told {
            told = true;
            let pid = i32::try_from(child.id())
                .ok()
                .and_then(rustix::process::Pid::from_raw);
            let pid = pid.ok_or_else(|| anyhow!("{} is not a pid", child.id()))?;
            rustix::process::kill_process(pid, Signal::TERM)?;
        }
        thread::sleep(POLL);
    }
}

/// Prints the generator's document, and fails if a check in it failed.
fn conclude(report: &Path, context: Context) -> Outcome {
    let text = fs::read_to_string(report).context("read the load generator's report")?;
    let document: Value = serde_json::from_str(&text).context("read the generator's report")?;
    if context.output == Output::Machine {
        line(&document.to_string())?;
    }
    match document["verify"]["ok"].as_bool() {
        Some(true) => Ok(()),
        _ => Err(Failure::CheckFailed(format!(
            "verify: {}",
            document["verify"]
        ))),
    }
}
