//! `inspect log`: what replicas have accepted, slot by slot, from the logs of this host.
//!
//! Works on running and on stopped nodes. An accepted entry may have been replaced under a higher ballot: of each
//! slot the highest that this acceptor has is shown, and whether its log says that the slot is chosen.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::anyhow;
use clap::Args;
use quorate_protocol::entry::Section;
use quorate_protocol::ids::{Ballot, ReplicaAddress};
use quorate_storage::wal::{Frame, Kind, SegmentNumber};
use serde_json::{Map, Value, json};

use super::log_files::{entry_of, walk};
use crate::Context;
use crate::failure::{Failure, Outcome};
use crate::print::table;
use crate::target::ClusterFile;

/// Options of `inspect log`.
#[derive(Args, Debug)]
pub struct LogArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    /// Only the replicas of this node
    #[arg(long, value_name = "N")]
    pub node: Option<u32>,
    /// Only the replicas of this shard
    #[arg(long, value_name = "S")]
    pub shard: Option<u32>,
    /// First slot to show [default: as many as are asked for before the end]
    #[arg(long, value_name = "SLOT")]
    pub from: Option<u64>,
    /// Slots to show of each replica
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub count: u32,
}

/// What a replica accepted for one slot.
#[derive(Debug)]
struct Accepted {
    ballot: Ballot,
    /// Of the entry's first proposal.
    origin: Ballot,
    timestamp: u64,
    bytes: usize,
    /// Rows by kind of record, in the order of the entry.
    rows: Vec<(&'static str, usize)>,
    segment: SegmentNumber,
    offset: u32,
}

/// The slots that are asked for, of one log.
#[derive(Debug, Default)]
struct Slots {
    accepted: BTreeMap<u64, Accepted>,
    /// The newest watermark in the log, which is written lazily.
    chosen_upto: u64,
    promised: u64,
}

/// Prints a row for each slot and replica.
pub fn run(args: &LogArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let wanted = |replica: &ReplicaAddress| {
        let node = config.node_of(*replica).id.0;
        args.node.is_none_or(|wanted| wanted == node)
            && args.shard.is_none_or(|wanted| wanted == replica.shard.0)
    };
    let replicas: Vec<ReplicaAddress> = config.all_replicas().filter(wanted).collect();
    if replicas.is_empty() {
        return Err(Failure::usage("the cluster has no such replica"));
    }
    let mut logs = Vec::new();
    for replica in replicas {
        if let Some((slots, unreadable)) = read(&config.data_dir_of(replica), args)? {
            logs.push((replica, slots, unreadable));
        }
    }
    if logs.is_empty() {
        return Err(anyhow!("no log of these replicas is on this host").into());
    }
    let document = json!({
        "logs": logs
            .iter()
            .map(|(replica, slots, unreadable)| {
                json!({
                    "shard": replica.shard.0,
                    "replica": replica.replica.0,
                    "node": config.node_of(*replica).id.0,
                    "promised": Ballot(slots.promised).to_string(),
                    "chosen_upto": slots.chosen_upto,
                    "slots": slots.documents(),
                    "unreadable": unreadable,
                })
            })
            .collect::<Vec<_>>(),
    });
    context.output.print(&document, || {
        let mut text = String::new();
        for (replica, slots, unreadable) in &logs {
            people(&mut text, *replica, slots, unreadable);
        }
        text.trim_end().to_owned()
    })?;
    Ok(())
}

fn read(directory: &Path, args: &LogArgs) -> anyhow::Result<Option<(Slots, Vec<String>)>> {
    let mut slots = Slots::default();
    let unreadable = walk(directory, |frame| slots.take(frame, args))?;
    Ok(unreadable.map(|unreadable| (slots, unreadable)))
}

impl Slots {
    fn take(&mut self, frame: &Frame<'_>, args: &LogArgs) -> Result<(), String> {
        let name = frame.header.name;
        match name.kind {
            Kind::Chosen => self.chosen_upto = self.chosen_upto.max(name.slot),
            Kind::Promise => self.promised = self.promised.max(name.ballot),
            Kind::Clean => {}
            Kind::Accepted => {
                // Whoever accepts under a ballot has promised it.
                self.promised = self.promised.max(name.ballot);
                self.take_accepted(frame, args)?;
            }
        }
        Ok(())
    }

    fn take_accepted(&mut self, frame: &Frame<'_>, args: &LogArgs) -> Result<(), String> {
        let (slot, ballot) = (frame.header.name.slot, Ballot(frame.header.name.ballot));
        let count = u64::from(args.count);
        if let Some(from) = args.from
            && !(from..from.saturating_add(count)).contains(&slot)
        {
            return Ok(());
        }
        let known = self.accepted.get(&slot);
        if known.is_some_and(|known| known.ballot > ballot) {
            return Ok(());
        }
        let entry = entry_of(frame)?;
        let accepted = Accepted {
            ballot,
            origin: entry.origin(),
            timestamp: entry.timestamp().0,
            bytes: frame.payload.len(),
            rows: entry.sections().map(rows_in).collect(),
            segment: frame.header.segment,
            offset: frame.header.offset,
        };
        self.accepted.insert(slot, accepted);
        // The last ones: no more than asked for is ever kept.
        while self.accepted.len() as u64 > count {
            self.accepted.pop_first();
        }
        Ok(())
    }

    fn documents(&self) -> Vec<Value> {
        let rows = self.accepted.iter().map(|(slot, accepted)| {
            json!({
                "slot": slot,
                "known_chosen": *slot <= self.chosen_upto,
                "ballot": accepted.ballot.to_string(),
                "origin": accepted.origin.to_string(),
                "timestamp": accepted.timestamp.to_string(),
                "bytes": accepted.bytes,
                "records": accepted.records(),
                "segment": accepted.segment.to_string(),
                "offset": accepted.offset,
            })
        });
        rows.collect()
    }
}

impl Accepted {
    fn records(&self) -> Map<String, Value> {
        let mut records = Map::new();
        for (record, rows) in &self.rows {
            let sum = records.get(*record).and_then(Value::as_u64).unwrap_or(0);
            records.insert((*record).to_owned(), (sum + *rows as u64).into());
        }
        records
    }
}

/// How a section's records are called, as in `inspect txn`, and how many there are.
fn rows_in(section: Section<'_>) -> (&'static str, usize) {
    match section {
        Section::CreateAccounts(rows) => ("account", rows.len()),
        Section::Transfers(rows) => ("transfer", rows.len()),
        Section::Prepare(rows) => ("prepared", rows.len()),
        Section::Commit(rows) => ("commit", rows.len()),
        Section::Resolve(rows) => ("resolved", rows.len()),
        Section::PrepareMove(_) => ("move_prepared", 1),
        Section::CommitMove { .. } => ("move_commit", 1),
        Section::Acknowledged(rows) => ("acknowledged", rows.len()),
        Section::Forward(rows) => ("forward", rows.len()),
        Section::DropStubs(rows) => ("drop_stub", rows.len()),
        Section::PutDocument(_) => ("document", 1),
        Section::CutRegister { .. } => ("cut_register", 1),
        Section::CutPass { .. } => ("cut_pass", 1),
    }
}

fn people(text: &mut String, replica: ReplicaAddress, slots: &Slots, unreadable: &[String]) {
    let mut rows = table(&[
        "slot",
        "ballot",
        "origin",
        "known chosen",
        "bytes",
        "records",
        "segment",
        "offset",
    ]);
    for (slot, accepted) in &slots.accepted {
        let records: Vec<String> = accepted
            .records()
            .iter()
            .map(|(record, rows)| format!("{rows} {record}"))
            .collect();
        rows.add_row([
            slot.to_string(),
            accepted.ballot.to_string(),
            accepted.origin.to_string(),
            match *slot <= slots.chosen_upto {
                true => "yes",
                false => "no",
            }
            .to_owned(),
            accepted.bytes.to_string(),
            match records.is_empty() {
                true => "-".to_owned(),
                false => records.join(", "),
            },
            accepted.segment.to_string(),
            accepted.offset.to_string(),
        ]);
    }
    let (promised, chosen) = (Ballot(slots.promised), slots.chosen_upto);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{replica}: promised {promised}, chosen up to slot {chosen} at least\n{rows}"
    );
    for line in unreadable {
        let _ = writeln!(text, "unreadable: {line}");
    }
    text.push('\n');
}
