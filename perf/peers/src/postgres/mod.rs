//! PostgreSQL: local transfers on one instance, and transfers between two by two-phase commit.
//!
//! The schema and the functions of a transfer are in `schema.sql`; both kinds use the same tables.

mod bank;
mod instance;

use anyhow::Context;
use quorate_bench::failure::Failure;

use crate::arguments::{LoadArguments, LocalArguments, TwoPhaseArguments};
use crate::drive::{Bank, drive};
use crate::money::{Expected, Sums, Verdict};
use crate::payments::{INSTANCES, Kind, Work, instance_of};
use crate::report::{Outline, finish};

use bank::{LocalBank, TwoPhaseBank};
use instance::Instance;

/// Local transfers.
///
/// # Errors
/// The server fails or is not durable, or the money is wrong.
pub fn local(arguments: &LocalArguments) -> Result<(), Failure> {
    let work = work(Kind::Local, &arguments.load);
    let instance = Instance::connect(&arguments.instance)?;
    let bank = || LocalBank::connect(&arguments.instance);
    run(
        "compare-postgres-local",
        vec![instance],
        &work,
        &arguments.load,
        bank,
    )
}

/// Transfers between two instances.
///
/// # Errors
/// A server fails, is not durable or lacks room for prepared transactions, or the money is wrong.
pub fn two_phase(arguments: &TwoPhaseArguments) -> Result<(), Failure> {
    let work = work(Kind::Cross, &arguments.load);
    let parameters = [arguments.first.as_str(), arguments.second.as_str()];
    let mut instances = Vec::new();
    for one in parameters {
        let mut instance = Instance::connect(one)?;
        instance.require_prepared_max(arguments.load.clients)?;
        instances.push(instance);
    }
    let bank = || TwoPhaseBank::connect(parameters);
    run(
        "compare-postgres-2pc",
        instances,
        &work,
        &arguments.load,
        bank,
    )
}

fn work(kind: Kind, load: &LoadArguments) -> Work {
    Work {
        kind,
        accounts: load.accounts,
        seed: load.seed,
    }
}

fn run<B: Bank>(
    experiment: &'static str,
    mut instances: Vec<Instance>,
    work: &Work,
    load: &LoadArguments,
    bank: impl Fn() -> anyhow::Result<B>,
) -> Result<(), Failure> {
    let mut settings = Vec::new();
    let mut syncs = 0;
    for (n, instance) in instances.iter_mut().enumerate() {
        settings = instance.require_durable(&load.scratch)?;
        let here = |account: &i64| work.kind == Kind::Local || instance_of(*account) == n;
        let accounts: Vec<i64> = (1..=i64::from(load.accounts)).filter(here).collect();
        instance.fill(&accounts, load.funds)?;
        syncs += instance.syncs()?;
    }
    let banks: Vec<B> = (0..load.clients)
        .map(|_| bank())
        .collect::<Result<_, _>>()
        .context("connecting the clients")?;
    let measured = drive(banks, work, load.warmup(), load.measured())?;
    let (mut sums, mut syncs_after) = (Sums::default(), 0);
    for instance in &mut instances {
        instance.wait_until_alone()?;
        syncs_after += instance.syncs()?;
        instance.add_sums(&mut sums)?;
    }
    let (rows, shards) = match work.kind {
        Kind::Local => {
            // The table is there, but nothing decides on one instance.
            sums.decisions = None;
            (1, 1)
        }
        Kind::Cross => (u64::from(INSTANCES), INSTANCES),
    };
    let expected = Expected {
        accounts: load.accounts,
        funds: load.funds,
        committed: measured.committed_ever,
        rows,
    };
    let outline = Outline {
        experiment,
        system: instances[0].version()?,
        shards,
        log_syncs: crate::durability::require_syncs(syncs, syncs_after, measured.committed_ever)?,
        settings,
    };
    finish(
        outline,
        work,
        load,
        &measured,
        Verdict::of(&sums, &expected),
    )
}
