//! `inspect ballots`: who leads by which ballot, as every replica sees it. What a stopped replica has promised is in `inspect wal`.

use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};

use crate::Context;
use crate::failure::Outcome;
use crate::print::table;
use crate::status::{ReplicaView, collect};
use crate::target::ClusterFile;

/// Options of `inspect ballots`.
#[derive(Args, Debug)]
pub struct BallotsArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
}

/// Prints one row per replica; fails if one did not say what it knows.
pub fn run(args: &BallotsArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let view = collect(&config);
    let document = json!({
        "ballots": view.replicas.iter().map(row).collect::<Vec<_>>(),
    });
    context.output.print(&document, || people(&view.replicas))?;
    let silent = view.replicas.iter().filter(|row| row.status.is_none());
    match silent.count() {
        0 => Ok(()),
        count => Err(anyhow!("{count} replicas gave no answer").into()),
    }
}

fn row(view: &ReplicaView) -> Value {
    let status = view.status.as_ref();
    json!({
        "shard": view.address.shard.0,
        "replica": view.address.replica.0,
        "node": view.node,
        "role": status.map(|status| status.role.name()),
        "ballot": status.map(|status| status.ballot.to_string()),
        "leader": status.and_then(|status| status.leader).map(|leader| leader.0),
        "serving": status.map(|status| status.serving),
        "no_answer": status.is_none().then_some(&view.silence),
    })
}

fn people(views: &[ReplicaView]) -> String {
    let mut rows = table(&["replica", "node", "role", "ballot", "leader", "serves"]);
    for view in views {
        let replica = [view.address.to_string(), view.node.to_string()];
        let said = match &view.status {
            Some(status) => [
                status.role.name().to_owned(),
                status.ballot.to_string(),
                status
                    .leader
                    .map_or("-".to_owned(), |leader| leader.to_string()),
                if status.serving { "yes" } else { "no" }.to_owned(),
            ],
            None => [view.silence.clone(), "-".into(), "-".into(), "-".into()],
        };
        rows.add_row(replica.into_iter().chain(said));
    }
    rows.to_string()
}
