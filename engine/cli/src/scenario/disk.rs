//! One replica's files after its process has ended: what its log holds, and the state that it had applied.
//!
//! Clients are answered by leaders only, so what the other replicas have applied is read where they wrote it. The log
//! is read as a start reads it, and applied to an empty ledger up to the slot that the running replica said
//! it had applied. The log of a set is whole: its cluster writes no checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, anyhow, ensure};
use quorate_config::ClusterConfig;
use quorate_durable::log::entry_of;
use quorate_protocol::entry::{Entry, Section};
use quorate_protocol::ids::{AccountId, Ballot, ReplicaAddress, Slot};
use quorate_protocol::ledger::Account;
use quorate_protocol::ledger::apply::Applied;
use quorate_protocol::ledger::state::Ledger;
use quorate_storage::mmap::Map;
use quorate_storage::wal::{Frame, Location, Recovery, SegmentNumber, recover};

use super::log::LoggedSlot;
use crate::inspect::stopped::Stopped;

/// What one replica's files hold.
#[derive(Debug)]
pub struct ReplicaFiles {
    /// The highest watermark of chosen slots that it wrote; it does so lazily.
    pub chosen_upto: Slot,
    /// Ascending.
    pub slots: Vec<LoggedSlot>,
    /// Of a replica that ran to the end.
    pub state: Option<AppliedState>,
}

/// What a replica had applied.
#[derive(Debug)]
pub struct AppliedState {
    pub upto: Slot,
    /// Those that were asked for and that its shard owns.
    pub accounts: BTreeMap<AccountId, Account>,
    /// All that its shard owns.
    pub accounts_owned: u64,
    /// Transfers that it has recorded, on either side.
    pub recorded: u64,
    pub digest: u128,
}

/// Reads a replica's files; `applied_upto` is what it said while it ran, and `touched` what is wanted of its accounts.
pub fn read(
    config: &ClusterConfig,
    replica: ReplicaAddress,
    applied_upto: Option<Slot>,
    touched: &BTreeSet<AccountId>,
) -> anyhow::Result<ReplicaFiles> {
    let stopped = Stopped::of(config, replica)?;
    let mut maps: BTreeMap<SegmentNumber, Map> = BTreeMap::new();
    for (name, _) in stopped.listing()? {
        if let Some(number) = SegmentNumber::from_file_name(&name) {
            maps.insert(number, stopped.map(&name).context(name)?);
        }
    }
    let files: Vec<(SegmentNumber, &[u8])> = maps
        .iter()
        .map(|(&number, map)| (number, map.as_ref()))
        .collect();
    let recovery =
        recover(&files, &stopped.identity).with_context(|| format!("log of {replica}"))?;
    let mut ledger = Ledger::new(&config.replica_config(replica, 0));
    let mut applied = Applied::default();
    let mut slots = Vec::new();
    for (slot, location) in recovery.index.iter() {
        let slot = Slot(slot);
        let entry = entry_at(&recovery, &maps, &location)
            .with_context(|| format!("{replica}: slot {slot}"))?;
        slots.push(logged(slot, Ballot(location.ballot), &entry));
        // A ledger takes slots in order only. What lies behind a gap cannot have been applied from this log.
        if applied_upto.is_some_and(|upto| slot <= upto) && slot == ledger.applied().next() {
            ledger.apply(slot, &entry, &mut applied);
        }
    }
    let state = applied_upto.map(|upto| state(&ledger, upto, touched));
    Ok(ReplicaFiles {
        chosen_upto: Slot(recovery.chosen_upto),
        slots,
        state: state.transpose().with_context(|| replica.to_string())?,
    })
}

fn entry_at(
    recovery: &Recovery,
    maps: &BTreeMap<SegmentNumber, Map>,
    location: &Location,
) -> anyhow::Result<Entry> {
    let map = maps.get(&location.segment).context("its segment is gone")?;
    let start = usize::try_from(location.offset)?;
    let bytes = map.as_ref().get(start..).context("beyond the segment")?;
    let seal = recovery.identity.seal();
    let frame = Frame::decode(bytes, location.segment, location.offset, seal)?;
    entry_of(frame.payload).map_err(|error| anyhow!(error))
}

fn state(
    ledger: &Ledger,
    upto: Slot,
    touched: &BTreeSet<AccountId>,
) -> anyhow::Result<AppliedState> {
    let reached = ledger.applied();
    ensure!(
        reached == upto,
        "it said that it had applied slots up to {upto}, its log holds them up to {reached}"
    );
    let find = |&id: &AccountId| Some((id, ledger.account(id)?.account));
    Ok(AppliedState {
        upto,
        accounts: touched.iter().filter_map(find).collect(),
        accounts_owned: ledger.accounts(),
        recorded: ledger.history().len(),
        digest: ledger.digest(),
    })
}

fn logged(slot: Slot, accepted: Ballot, entry: &Entry) -> LoggedSlot {
    let mut kinds: Vec<&'static str> = entry.sections().map(kind).collect();
    kinds.dedup();
    let kind = match kinds.is_empty() {
        true => "noop".to_owned(),
        false => kinds.join("+"),
    };
    LoggedSlot {
        slot,
        accepted,
        origin: entry.origin(),
        kind,
        transfers: entry.sections().flat_map(transfers).collect(),
    }
}

fn kind(section: Section<'_>) -> &'static str {
    match section {
        Section::CreateAccounts(_) => "create_accounts",
        Section::Transfers(_) => "transfers",
        Section::Prepare(_) => "prepare_txn",
        Section::Commit(_) => "commit_txn",
        Section::Resolve(_) => "resolve_txn",
        Section::PrepareMove(_) => "prepare_move",
        Section::CommitMove { .. } => "commit_move",
        Section::CutRegister { .. } => "cut_register",
        Section::CutPass { .. } => "cut_pass",
        Section::Acknowledged(_) => "acknowledged",
        Section::PutDocument(_) => "put_document",
        Section::Forward(_) => "forward",
        Section::DropStubs(_) => "drop_stubs",
    }
}

/// Ids of the transfers that a section is about.
fn transfers(section: Section<'_>) -> Vec<u128> {
    match section {
        Section::Transfers(rows) => rows.iter().map(|row| row.id.0).collect(),
        Section::Prepare(rows) => rows.iter().map(|row| row.transfer.id.0).collect(),
        Section::Commit(rows) => rows.iter().map(|row| row.transfer.id.0).collect(),
        Section::Resolve(rows) => rows.iter().map(|row| row.id).collect(),
        Section::CreateAccounts(_)
        | Section::PrepareMove(_)
        | Section::CommitMove { .. }
        | Section::CutRegister { .. }
        | Section::CutPass { .. }
        | Section::Acknowledged(_)
        | Section::PutDocument(_)
        | Section::Forward(_)
        | Section::DropStubs(_) => Vec::new(),
    }
}
