//! `quorate cluster`: writes a topology, and runs its nodes as processes of this host.

pub mod init;
mod isolation;
mod logs;
mod ps;
mod signals;
pub mod start;
pub mod stop;

use clap::Subcommand;

use crate::Context;
use crate::failure::Outcome;

/// What to do with the cluster.
#[derive(Subcommand, Debug)]
pub enum ClusterCommand {
    /// Print the topology file of a new cluster on this host
    Init(init::InitArgs),
    /// Start nodes and wait until every shard has a leader that serves
    Start(start::StartArgs),
    /// Stop nodes cleanly (SIGTERM) and wait until they are gone
    Stop(stop::StopArgs),
    /// Show processes and replicas
    Ps(ps::PsArgs),
    /// Show the end of the nodes' logs
    Logs(logs::LogsArgs),
    /// Kill nodes (SIGKILL) and wait until they are gone
    Kill(signals::SignalArgs),
    /// Stop nodes from running (SIGSTOP) without ending them, and wait until no thread of them runs
    Pause(signals::SignalArgs),
    /// Let paused nodes run again (SIGCONT)
    Resume(signals::SignalArgs),
    /// Cut a node off from its peers (SIGUSR1), clients still reach it, and wait until its replicas say so
    Isolate(isolation::IsolationArgs),
    /// Let an isolated node reach its peers again (SIGUSR2), and wait until its replicas say so
    Heal(isolation::IsolationArgs),
    /// Stop nodes cleanly and start them again
    Restart(start::StartArgs),
}

/// Runs the command.
pub fn run(command: ClusterCommand, context: Context) -> Outcome {
    match command {
        ClusterCommand::Init(args) => init::run(&args, context),
        ClusterCommand::Start(args) => start::run(&args, context),
        ClusterCommand::Stop(args) => stop::run(&args, context),
        ClusterCommand::Ps(args) => ps::run(&args, context),
        ClusterCommand::Logs(args) => logs::run(&args, context),
        ClusterCommand::Kill(args) => signals::kill(&args, context),
        ClusterCommand::Pause(args) => signals::pause(&args, context),
        ClusterCommand::Resume(args) => signals::resume(&args, context),
        ClusterCommand::Isolate(args) => isolation::isolate(&args, context),
        ClusterCommand::Heal(args) => isolation::heal(&args, context),
        ClusterCommand::Restart(args) => start::restart(&args, context),
    }
}
