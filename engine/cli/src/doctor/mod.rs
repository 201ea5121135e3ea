//! `doctor`: what this host lacks for running nodes, before one of them ends for it.
//!
//! ```text
//! look, directory, version (IO) -> facts -> host, node, version (pure) -> findings -> table or document
//! ```
//!
//! Without a topology the host alone is looked at. With one, also what its nodes on this host need, and
//! which version all of its nodes speak. Nothing is changed and nothing is left behind.

mod check;
mod directory;
mod host;
mod look;
mod node;
mod version;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use quorate_config::{ClusterConfig, NodeConfig};
use quorate_protocol::ids::NodeId;
use quorate_runtime::try_executor;
use serde_json::{Value, json};

use crate::Context;
use crate::failure::{Failure, Outcome};
use crate::print::{say, table};

use self::check::{Check, Finding, Verdict};
use self::directory::DirectoryFacts;
use self::host::HostFacts;
use self::node::{NodeFacts, cores_of};
use self::version::Answer;

/// The option by which `doctor` calls itself to have an executor made.
const TRY_RING: &str = "--try-ring";

/// Options of `doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Topology whose nodes on this host are to run, and which are asked for their version
    #[arg(
        short = 'f',
        long = "file",
        value_name = "cluster.toml",
        env = "QUORATE_CLUSTER",
        hide_env_values = true
    )]
    pub path: Option<PathBuf>,
    /// Only make an executor and end; it may end the process
    #[arg(long, hide = true)]
    pub try_ring: bool,
}

/// Everything that was read.
#[derive(Debug)]
struct Facts {
    host: HostFacts,
    /// The nodes of the topology that are this host's.
    nodes: Vec<NodeFacts>,
    /// What each node of the topology answers.
    answers: Vec<(NodeId, Answer)>,
}

/// Prints what was found; exit code 4 if a check is a fault.
pub fn run(args: &DoctorArgs, context: Context) -> Outcome {
    if args.try_ring {
        return try_executor().map_err(|fatal| Failure::Environment {
            code: fatal.exit_code(),
            message: fatal.to_string(),
        });
    }
    let config = args.path.as_deref().map(ClusterConfig::load).transpose()?;
    let facts = look_at(config.as_ref())?;
    if config.is_some() && facts.nodes.is_empty() {
        say(format_args!(
            "notice: no node of the topology has an address of this host"
        ));
    }
    let findings = judge(&facts);
    let is_fault = |finding: &&Finding| finding.verdict == Verdict::Fault;
    let faults: Vec<String> = findings
        .iter()
        .filter(is_fault)
        .map(Finding::subject)
        .collect();
    let document = document(&findings, faults.is_empty());
    context.output.print(&document, || people(&findings))?;
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Failure::CheckFailed(format!(
            "nodes cannot run well here: {}",
            faults.join(", ")
        ))),
    }
}

fn look_at(config: Option<&ClusterConfig>) -> anyhow::Result<Facts> {
    let Some(config) = config else {
        return Ok(Facts {
            host: look::host(&[]),
            nodes: Vec::new(),
            answers: Vec::new(),
        });
    };
    let here: Vec<&NodeConfig> = config
        .nodes()
        .filter(|node| look::is_here(node.address))
        .collect();
    let named: Vec<usize> = here
        .iter()
        .flat_map(|node| cores_of(config, node))
        .collect();
    let nodes = here.into_iter().map(|node| {
        let directory = DirectoryFacts::read(&node.data_dir)
            .with_context(|| format!("node {}: {}", node.id, node.data_dir.display()))?;
        let unformatted = look::unformatted(config, node);
        Ok(NodeFacts::of(config, node, directory, unformatted))
    });
    Ok(Facts {
        nodes: nodes.collect::<anyhow::Result<_>>()?,
        host: look::host(&named),
        answers: version::ask_all(config),
    })
}

/// All findings, check by check: of the host before those of its nodes.
fn judge(facts: &Facts) -> Vec<Finding> {
    let checks = Check::ALL.iter();
    checks.flat_map(|&check| judge_one(check, facts)).collect()
}

fn judge_one(check: Check, facts: &Facts) -> Vec<Finding> {
    let Facts {
        host,
        nodes,
        answers,
    } = facts;
    let each = |judged: &dyn Fn(&NodeFacts) -> Finding| -> Vec<Finding> {
        nodes.iter().map(judged).collect()
    };
    match check {
        Check::Kernel => vec![host::kernel(host)],
        Check::IoUring => vec![host::io_uring(host)],
        Check::Memlock => memlock(host, nodes),
        Check::Nofile if nodes.is_empty() => vec![host::nofile(host)],
        Check::Nofile => {
            each(&|node| host::nofile_of(Some(node.id), host.limits, node.needs, node.replicas))
        }
        Check::Clock => vec![host::clock(host)],
        Check::Cores if nodes.is_empty() => Vec::new(),
        Check::Cores => {
            let mut findings = vec![node::cores_of_all(nodes, &host.cpus)];
            findings.extend(nodes.iter().map(|node| node::cores(node, &host.cpus)));
            findings
        }
        Check::DataDir => each(&node::data_dir),
        Check::DirectIo => each(&node::direct_io),
        Check::Disk => each(&|node| node::disk(node, nodes)),
        Check::Version => answers
            .iter()
            .map(|(node, answer)| version::version(*node, answer))
            .collect(),
    }
}

/// Of each node, and of several together, as the kernel counts; without nodes, of a single executor.
fn memlock(host: &HostFacts, nodes: &[NodeFacts]) -> Vec<Finding> {
    let of_node = |node: &NodeFacts| {
        let needed = node.needs.memlock_bytes;
        host::memlock_of(Some(node.id), host.limits, needed, node.replicas)
    };
    match nodes {
        [] => vec![host::memlock(host)],
        [node] => vec![of_node(node)],
        several => {
            let needed = several.iter().map(|node| node.needs.memlock_bytes).sum();
            let replicas = several.iter().map(|node| node.replicas).sum();
            let mut findings = vec![host::memlock_of_all(host.limits, needed, replicas)];
            findings.extend(several.iter().map(of_node));
            findings
        }
    }
}

/// The document of the contract.
fn document(findings: &[Finding], ok: bool) -> Value {
    let checks: Vec<Value> = findings.iter().map(Finding::document).collect();
    json!({ "ok": ok, "checks": checks })
}

/// A table, and below it what is to be done.
fn people(findings: &[Finding]) -> String {
    let mut table = table(&["check", "node", "verdict", "found", "needed"]);
    for finding in findings {
        table.add_row([
            finding.check.name().to_owned(),
            finding.node.map_or("-".to_owned(), |node| node.to_string()),
            finding.verdict.name().to_owned(),
            finding.found.clone(),
            finding.needed.clone(),
        ]);
    }
    let mut lines = vec![table.to_string(), String::new()];
    let to_do = findings.iter().filter(|finding| finding.hint.is_some());
    lines.extend(to_do.map(Finding::sentence));
    lines.join("\n")
}

#[cfg(test)]
mod tests;
