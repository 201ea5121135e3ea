//! `status`: what every process and every replica says of itself. `cluster ps` prints the same.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use quorate_client::{BlockingClient, ClientError, ClientOptions};
use quorate_config::ClusterConfig;
use quorate_protocol::client::{ReplyBody, RequestBody, Role, Status};
use quorate_protocol::ids::{ReplicaAddress, ShardId};
use serde_json::{Value, json};

use crate::Context;
use crate::failure::Outcome;
use crate::node_process::running;
use crate::print::table;
use crate::target::ClusterFile;

/// How long a replica may take to say how it is. One that is paused or gone does not hold up the
/// others: all are asked at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// What is said of a replica of which nothing else is known.
pub const NO_ANSWER: &str = "no answer";

/// Options of `status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
}

/// Prints the replicas, and the processes with `--json`; fails if no replica answered.
pub fn run(args: &StatusArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let view = collect(&config);
    context
        .output
        .print(&view.document(), || view.replicas_table())?;
    match view.replicas.iter().any(|row| row.status.is_some()) {
        true => Ok(()),
        false => {
            let mut reasons: Vec<&str> = view.replicas.iter().map(|row| &*row.silence).collect();
            reasons.sort_unstable();
            reasons.dedup();
            Err(anyhow!("no replica answers: {}", reasons.join("; ")).into())
        }
    }
}

/// One process.
#[derive(Debug)]
pub struct NodeView {
    pub node: u32,
    /// Only known for processes that `cluster start` started on this host.
    pub pid: Option<u32>,
    /// It has a process here, or one of its replicas answered.
    pub alive: bool,
    pub address: String,
}

/// One replica; without a status if it did not answer.
#[derive(Debug)]
pub struct ReplicaView {
    pub address: ReplicaAddress,
    pub node: u32,
    pub status: Option<Status>,
    /// Why there is none; empty if there is.
    pub silence: String,
}

/// The whole cluster as seen from here.
#[derive(Debug)]
pub struct ClusterView {
    pub nodes: Vec<NodeView>,
    pub replicas: Vec<ReplicaView>,
}

/// Asks every replica at once.
#[must_use]
pub fn collect(config: &ClusterConfig) -> ClusterView {
    let replicas: Vec<ReplicaView> = thread::scope(|scope| {
        let asked: Vec<_> = config
            .all_replicas()
            .map(|address| (address, scope.spawn(move || ask(config, address))))
            .collect();
        asked
            .into_iter()
            .map(|(address, answer)| {
                // A thread that panicked has told so on stderr; its replica gave no answer.
                let answer = answer.join().unwrap_or_else(|_| Err(NO_ANSWER.to_owned()));
                let (status, silence) = match answer {
                    Ok(status) => (Some(status), String::new()),
                    Err(silence) => (None, silence),
                };
                ReplicaView {
                    address,
                    node: config.node_of(address).id.0,
                    status,
                    silence,
                }
            })
            .collect()
    });
    let nodes = config
        .nodes()
        .map(|node| {
            let process = running(node);
            let answered = replicas
                .iter()
                .any(|replica| replica.node == node.id.0 && replica.status.is_some());
            NodeView {
                node: node.id.0,
                pid: process.map(|process| process.pid),
                alive: process.is_some() || answered,
                address: format!("{}:{}", node.address, node.base_port),
            }
        })
        .collect();
    ClusterView { nodes, replicas }
}

/// What the replica says, or why it says nothing.
fn ask(config: &ClusterConfig, address: ReplicaAddress) -> Result<Status, String> {
    let options = ClientOptions {
        deadline: ANSWER_WITHIN,
        connect_timeout: ANSWER_WITHIN,
    };
    let mut client = BlockingClient::connect(config, options);
    ask_with(&mut client, address)
}

/// The same with a client that may have asked before.
pub fn ask_with(client: &mut BlockingClient, address: ReplicaAddress) -> Result<Status, String> {
    match client.replica_request(address, RequestBody::Status) {
        Ok(ReplyBody::Status(status)) => Ok(status),
        Ok(other) => Err(format!("answered {}", other.name())),
        Err(ClientError::BadRequest { reason, .. }) => Err(reason),
        Err(_) => Err(NO_ANSWER.to_owned()),
    }
}

impl ClusterView {
    /// Shards without a leader that serves.
    #[must_use]
    pub fn shards_without_leader(&self) -> Vec<u32> {
        let mut shards: Vec<u32> = self
            .replicas
            .iter()
            .map(|row| row.address.shard.0)
            .collect();
        shards.dedup();
        shards.retain(|&shard| {
            !self.replicas.iter().any(|row| {
                let serves = |status: &Status| status.role == Role::Leader && status.serving;
                row.address.shard.0 == shard && row.status.as_ref().is_some_and(serves)
            })
        });
        shards
    }

    /// What keeps these nodes, and the cluster with them, from being up: shards without a leader that
    /// serves, and replicas of the nodes that do not answer.
    #[must_use]
    pub fn missing(&self, nodes: &[u32]) -> Vec<String> {
        let shards = self.shards_without_leader().into_iter();
        let leaderless = shards.map(|shard| format!("shard {shard} has no leader that serves"));
        let silent = self
            .replicas
            .iter()
            .filter(|row| nodes.contains(&row.node) && row.status.is_none())
            .map(|row| format!("{} of node {} does not answer", row.address, row.node));
        leaderless.chain(silent).collect()
    }

    /// Replicas of the nodes that are out of service, each with its reason. They stay so until someone
    /// does something about it.
    #[must_use]
    pub fn stopped(&self, nodes: &[u32]) -> Vec<String> {
        let rows = self.replicas.iter().filter(|row| nodes.contains(&row.node));
        rows.filter_map(|row| {
            let status = row.status.as_ref()?;
            (status.role == Role::Stopped)
                .then(|| format!("{} is out of service: {}", row.address, status.reason))
        })
        .collect()
    }

    /// The document of the contract.
    #[must_use]
    pub fn document(&self) -> Value {
        let nodes: Vec<Value> = self
            .nodes
            .iter()
            .map(|node| {
                json!({
                    "node": node.node,
                    "pid": node.pid,
                    "alive": node.alive,
                    "address": node.address,
                })
            })
            .collect();
        let mut epochs: BTreeMap<ShardId, u32> = BTreeMap::new();
        for status in self.replicas.iter().filter_map(|row| row.status.as_ref()) {
            let epoch = epochs.entry(status.shard).or_default();
            *epoch = status.epoch.max(*epoch);
        }
        // Each shard counts its own changes, and of a shard the replica that is furthest knows best: the sum rises with every
        // change anywhere.
        let epoch = epochs.into_values().map(u64::from).reduce(|a, b| a + b);
        json!({
            "nodes": nodes,
            "replicas": self.replicas.iter().map(ReplicaView::document).collect::<Vec<_>>(),
            "epoch": epoch,
        })
    }

    /// Processes, for people.
    #[must_use]
    pub fn nodes_table(&self) -> String {
        let mut table = table(&["node", "pid", "alive", "address"]);
        for node in &self.nodes {
            table.add_row([
                node.node.to_string(),
                node.pid.map_or("-".to_owned(), |pid| pid.to_string()),
                if node.alive { "yes" } else { "no" }.to_owned(),
                node.address.clone(),
            ]);
        }
        table.to_string()
    }

    /// Replicas, for people.
    #[must_use]
    pub fn replicas_table(&self) -> String {
        let mut table = table(&[
            "shard",
            "replica",
            "node",
            "role",
            "ballot",
            "chosen",
            "applied",
            "lag",
            "leader",
            "accounts",
            "transfers",
            "in doubt",
            "note",
        ]);
        for row in &self.replicas {
            table.add_row(row.cells(self.chosen_max(row.address.shard.0)));
        }
        table.to_string()
    }

    fn chosen_max(&self, shard: u32) -> u64 {
        self.replicas
            .iter()
            .filter(|row| row.address.shard.0 == shard)
            .filter_map(|row| Some(row.status.as_ref()?.chosen_upto.0))
            .max()
            .unwrap_or(0)
    }
}

impl ReplicaView {
    fn document(&self) -> Value {
        let mut document = json!({
            "shard": self.address.shard.0,
            "replica": self.address.replica.0,
            "node": self.node,
            "role": Role::Stopped.name(),
            "ballot": null,
            "chosen_upto": null,
            "applied_upto": null,
            "leader": null,
            "serving": false,
            "reason": self.silence,
        });
        if let Some(status) = &self.status {
            document["role"] = status.role.name().into();
            document["ballot"] = status.ballot.to_string().into();
            document["chosen_upto"] = status.chosen_upto.0.into();
            document["applied_upto"] = status.applied_upto.0.into();
            document["leader"] = status.leader.map(|leader| leader.0).into();
            document["serving"] = status.serving.into();
            document["reason"] = status.reason.clone().into();
            document["accounts"] = status.accounts.into();
            document["transfers"] = status.transfers.into();
            document["in_doubt"] = status.in_doubt.into();
            document["committed_local"] = status.committed_local.into();
            document["committed_cross"] = status.committed_cross.into();
            let latency = status.latency;
            document["latency_us"] = json!({
                "requests": latency.requests,
                "p50": latency.p50_us,
                "p99": latency.p99_us,
            });
        }
        document
    }

    fn cells(&self, chosen_max: u64) -> Vec<String> {
        let mut cells = vec![
            self.address.shard.to_string(),
            self.address.replica.to_string(),
            self.node.to_string(),
        ];
        match &self.status {
            None => {
                cells.push(Role::Stopped.name().to_owned());
                cells.extend(["-"; 8].map(str::to_owned));
                cells.push(self.silence.clone());
            }
            Some(status) => cells.extend([
                status.role.name().to_owned(),
                status.ballot.to_string(),
                status.chosen_upto.to_string(),
                status.applied_upto.to_string(),
                chosen_max.saturating_sub(status.applied_upto.0).to_string(),
                status
                    .leader
                    .map_or("-".to_owned(), |leader| leader.to_string()),
                status.accounts.to_string(),
                status.transfers.to_string(),
                status.in_doubt.to_string(),
                note(status),
            ]),
        }
        cells
    }
}

fn note(status: &Status) -> String {
    match (&*status.reason, status.role, status.serving) {
        ("", Role::Leader, false) => "does not serve yet".to_owned(),
        (reason, ..) => reason.to_owned(),
    }
}
