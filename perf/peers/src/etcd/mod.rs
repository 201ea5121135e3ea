//! etcd: a transfer is one compare-and-swap transaction over gRPC on a server of one node.
//!
//! An account is a key with its balance, a transfer a key of its own.

mod bank;
mod messages;
mod operator;

use anyhow::Context;
use quorate_bench::failure::Failure;

use crate::arguments::EtcdArguments;
use crate::drive::drive;
use crate::durability::{require_same_disk, require_syncs};
use crate::money::{Expected, Verdict};
use crate::payments::{Kind, Work};
use crate::report::{Outline, finish};

use bank::EtcdBank;
use operator::{fill, sums, syncs, version};

/// Runs the transfers.
///
/// # Errors
/// The server fails or is not durable, or the money is wrong.
pub fn run(arguments: &EtcdArguments) -> Result<(), Failure> {
    let (endpoint, load) = (arguments.endpoint.as_str(), &arguments.load);
    let work = Work {
        kind: Kind::Local,
        accounts: load.accounts,
        seed: load.seed,
    };
    require_same_disk(&arguments.data_dir.join("member/wal"), &load.scratch)?;
    let mut operator = EtcdBank::connect(endpoint)?;
    fill(&mut operator, load.accounts, load.funds)?;
    let banks: Vec<EtcdBank> = (0..load.clients)
        .map(|_| EtcdBank::connect(endpoint))
        .collect::<Result<_, _>>()
        .context("connecting the clients")?;
    let before = syncs(endpoint)?;
    let measured = drive(banks, &work, load.warmup(), load.measured())?;
    let after = syncs(endpoint)?;
    let expected = Expected {
        accounts: load.accounts,
        funds: load.funds,
        committed: measured.committed_ever,
        rows: 1,
    };
    let verdict = Verdict::of(&sums(&mut operator)?, &expected);
    let outline = Outline {
        experiment: "compare-etcd",
        system: version(endpoint)?,
        shards: 1,
        log_syncs: require_syncs(before, after, measured.committed_ever)?,
        settings: vec![("interface".to_owned(), "gRPC".to_owned())],
    };
    finish(outline, &work, load, &measured, verdict)
}
