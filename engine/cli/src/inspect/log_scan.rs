//! The records of one id, read from the write-ahead logs of this host's data directories.
//!
//! Works on running and on stopped nodes. What a log holds may have been replaced or fenced: a record shows
//! what was proposed, only the transfer index (asked online) says what took effect.

use std::path::Path;

use quorate_protocol::entry::Section;
use quorate_protocol::ids::{Ballot, ShardId};
use quorate_protocol::ledger::ResultCode;
use quorate_protocol::txn::record::{
    Attempt, CommitKind, CommitRow, MoveHead, PrepareRow, Subject, TxnRow, Verdict,
};
use quorate_storage::wal::{Frame, Kind, SegmentNumber};
use serde_json::{Value, json};

use super::log_files::{entry_of, walk};

/// One record about the id in one replica's log.
#[derive(Clone, Debug)]
pub struct LogRecord {
    pub slot: u64,
    /// Under which this acceptor accepted it.
    pub ballot: Ballot,
    /// Of the entry's first proposal.
    pub origin: Ballot,
    pub timestamp: u64,
    pub segment: SegmentNumber,
    pub offset: u32,
    /// `transfer`, `prepared`, `commit`, `resolved`, `move_prepared` or `move_commit`.
    pub record: &'static str,
    pub attempt: Option<Attempt>,
    pub detail: String,
}

/// What one log says.
#[derive(Debug, Default)]
pub struct LogScan {
    pub records: Vec<LogRecord>,
    /// The newest watermark in the log: slots up to here are chosen. It is written lazily.
    pub chosen_upto: u64,
    /// Stretches that are neither frames nor padding, for people.
    pub unreadable: Vec<String>,
}

/// Reads every segment of a replica's directory. `None` if it holds no log.
pub fn scan(directory: &Path, id: u128) -> anyhow::Result<Option<LogScan>> {
    let mut found = LogScan::default();
    let unreadable = walk(directory, |frame| found.take(frame, id))?;
    Ok(unreadable.map(|unreadable| LogScan {
        unreadable,
        ..found
    }))
}

impl LogScan {
    fn take(&mut self, frame: &Frame<'_>, id: u128) -> Result<(), String> {
        let name = frame.header.name;
        match name.kind {
            Kind::Chosen => self.chosen_upto = self.chosen_upto.max(name.slot),
            Kind::Accepted => self.take_entry(frame, id)?,
            Kind::Promise | Kind::Clean => {}
        }
        Ok(())
    }

    fn take_entry(&mut self, frame: &Frame<'_>, id: u128) -> Result<(), String> {
        let header = frame.header;
        let entry = entry_of(frame)?;
        for section in entry.sections() {
            let found = rows_about(section, id);
            self.records.extend(
                found
                    .into_iter()
                    .map(|(record, attempt, detail)| LogRecord {
                        slot: header.name.slot,
                        ballot: Ballot(header.name.ballot),
                        origin: entry.origin(),
                        timestamp: entry.timestamp().0,
                        segment: header.segment,
                        offset: header.offset,
                        record,
                        attempt,
                        detail,
                    }),
            );
        }
        Ok(())
    }
}

type Row = (&'static str, Option<Attempt>, String);

fn rows_about(section: Section<'_>, id: u128) -> Vec<Row> {
    match section {
        Section::Transfers(rows) => rows
            .iter()
            .filter(|row| row.id.0 == id)
            .map(|row| {
                let (debit, credit) = (row.debit_account_id, row.credit_account_id);
                let detail = format!("{} from {debit} to {credit}", row.amount);
                ("transfer", None, detail)
            })
            .collect(),
        Section::Prepare(rows) => rows
            .iter()
            .filter(|row| row.transfer.id.0 == id)
            .map(|row| ("prepared", Some(row.attempt), prepare_detail(row)))
            .collect(),
        Section::Commit(rows) => rows
            .iter()
            .filter(|row| row.transfer.id.0 == id)
            .map(|row| ("commit", Some(row.attempt), commit_detail(row)))
            .collect(),
        Section::Resolve(rows) => rows
            .iter()
            .filter(|row| row.id == id)
            .map(|row| ("resolved", Some(row.attempt), resolve_detail(row)))
            .collect(),
        Section::PrepareMove(parts) => move_row(parts.head, id, "move_prepared"),
        Section::CommitMove { head, .. } => move_row(head, id, "move_commit"),
        Section::CreateAccounts(_)
        | Section::Acknowledged(_)
        | Section::Forward(_)
        | Section::DropStubs(_)
        | Section::PutDocument(_)
        | Section::CutRegister { .. }
        | Section::CutPass { .. } => Vec::new(),
    }
}

fn prepare_detail(row: &PrepareRow) -> String {
    let transfer = &row.transfer;
    format!(
        "{} from {} at shard {} to {}",
        transfer.amount, transfer.debit_account_id, row.coordinator, transfer.credit_account_id
    )
}

fn commit_detail(row: &CommitRow) -> String {
    let participant: ShardId = row.participant;
    match CommitKind::from_u16(row.kind) {
        Some(CommitKind::Prepared) => format!("prepared at shard {participant}"),
        Some(CommitKind::Evaluate) => "not prepared, to be refused".to_owned(),
        Some(CommitKind::Refuse) => {
            let code = ResultCode::from_u16(row.code).map_or("unknown code", ResultCode::name);
            format!("refused by shard {participant}: {code}")
        }
        None => format!("unknown kind {}", row.kind),
    }
}

fn resolve_detail(row: &TxnRow) -> String {
    let Some((txn, verdict)) = row.parse() else {
        return format!("unknown verdict {}", row.verdict);
    };
    let subject = match txn.subject {
        Subject::Transfer => "transfer",
        Subject::Move => "move",
    };
    let verdict = match verdict {
        Verdict::Commit => format!("committed at {}", row.timestamp.0),
        Verdict::Abort => "aborted".to_owned(),
        Verdict::None
        | Verdict::Yes
        | Verdict::No
        | Verdict::Contended
        | Verdict::Moved
        | Verdict::Pending => format!("{verdict:?}, which decides nothing"),
    };
    format!("{subject} of shard {}: {verdict}", txn.coordinator)
}

fn move_row(head: &MoveHead, id: u128, record: &'static str) -> Vec<Row> {
    if head.id.0 != id {
        return Vec::new();
    }
    let detail = format!(
        "{} accounts from shard {} to {}",
        head.accounts, head.source, head.target
    );
    vec![(record, Some(head.attempt), detail)]
}

impl LogRecord {
    /// As `inspect txn --json` shows it, under the replica that holds it.
    #[must_use]
    pub fn document(&self, chosen_upto: u64) -> Value {
        json!({
            "slot": self.slot,
            "record": self.record,
            "known_chosen": self.slot <= chosen_upto,
            "ballot": self.ballot.to_string(),
            "origin": self.origin.to_string(),
            "timestamp": self.timestamp.to_string(),
            "attempt": self.attempt.map(attempt_document),
            "detail": self.detail,
            "segment": self.segment.to_string(),
            "offset": self.offset,
        })
    }
}

/// An attempt as documents show it.
#[must_use]
pub fn attempt_document(attempt: Attempt) -> Value {
    json!({ "ballot": attempt.ballot.to_string(), "counter": attempt.counter })
}
