//! Messages, records and replies as one terse line each: ids, ballots, slots, kinds.
//!
//! Timestamps, clocks and sizes are left out, so that a line changes only when the protocol does.
//! Every enum is matched in full: a new message breaks the build here, and not silently the stories.

use std::fmt::Write as _;

use quorate_protocol::client::{
    AccountAnswer, CutAnswer, HistoryAnswer, MoveAnswer, RecordedTransfer, ReplyBody,
    TransferAnswer,
};
use quorate_protocol::entry::{Entry, MoveSection, Section};
use quorate_protocol::ids::{Ballot, Slot};
use quorate_protocol::ledger::{Account, ResultCode, ResultRow, Transfer};
use quorate_protocol::message::{PeerBody, PeerMessage};
use quorate_protocol::output::Record;
use quorate_protocol::paxos::message::{LoggedEntry, Message as Paxos, SlotRecord, SlotReport};
use quorate_protocol::snapshot::{Message as Snapshot, Part};
use quorate_protocol::txn::message::Message as Txn;
use quorate_protocol::txn::record::{
    AcknowledgedRow, Attempt, CommitKind, CommitRow, MoveHead, PrepareRow, RouteRow, Subject,
    TxnId, TxnRow, Verdict,
};

/// The name of a message's kind, as scripts select by it.
#[must_use]
pub fn kind(message: &PeerMessage) -> &'static str {
    match &message.body {
        PeerBody::Paxos(message) => match message {
            Paxos::PreVote { .. } => "PreVote",
            Paxos::PreVoteReply { .. } => "PreVoteReply",
            Paxos::Prepare { .. } => "Prepare",
            Paxos::Promise { .. } => "Promise",
            Paxos::Reject { .. } => "Reject",
            Paxos::Accept { .. } => "Accept",
            Paxos::Accepted { .. } => "Accepted",
            Paxos::Heartbeat { .. } => "Heartbeat",
            Paxos::HeartbeatReply { .. } => "HeartbeatReply",
            Paxos::CatchUp { .. } => "CatchUp",
            Paxos::Entries { .. } => "Entries",
            Paxos::LeadNow { .. } => "LeadNow",
            Paxos::Rejoin { .. } => "Rejoin",
            Paxos::RejoinReply { .. } => "RejoinReply",
        },
        PeerBody::Txn(message) => match message {
            Txn::PrepareTxn(_) => "PrepareTxn",
            Txn::PrepareMove(_) => "PrepareMove",
            Txn::Votes(_) => "Votes",
            Txn::Decides(_) => "Decides",
            Txn::QueryDecisions(_) => "QueryDecisions",
            Txn::LookUps(_) => "LookUps",
            Txn::LookedUp(_) => "LookedUp",
            Txn::NotLeading { .. } => "NotLeading",
            Txn::Acknowledged(_) => "Acknowledged",
            Txn::Forwards(_) => "Forwards",
            Txn::ForwardsKnown(_) => "ForwardsKnown",
        },
        PeerBody::Snapshot(message) => match message {
            Snapshot::Ask { .. } => "Ask",
            Snapshot::Chunk { .. } => "Chunk",
            Snapshot::Gone { .. } => "Gone",
        },
    }
}

/// Every name that [`kind`] gives.
pub const KINDS: [&str; 27] = [
    "PreVote",
    "PreVoteReply",
    "Prepare",
    "Promise",
    "Reject",
    "Accept",
    "Accepted",
    "Heartbeat",
    "HeartbeatReply",
    "CatchUp",
    "Entries",
    "LeadNow",
    "Rejoin",
    "RejoinReply",
    "PrepareTxn",
    "PrepareMove",
    "Votes",
    "Decides",
    "QueryDecisions",
    "LookUps",
    "LookedUp",
    "NotLeading",
    "Forwards",
    "ForwardsKnown",
    "Ask",
    "Chunk",
    "Gone",
];

/// A message between replicas.
#[must_use]
pub fn message(message: &PeerMessage) -> String {
    let kind = kind(message);
    let rest = match &message.body {
        PeerBody::Paxos(message) => paxos(message),
        PeerBody::Txn(message) => txn(message),
        PeerBody::Snapshot(message) => snapshot(message),
    };
    format!("{kind} {rest}")
}

fn snapshot(message: &Snapshot) -> String {
    match message {
        Snapshot::Ask { part, offset } => format!("{} from {offset}", snapshot_part(*part)),
        Snapshot::Chunk {
            part,
            offset,
            total,
            bytes,
        } => format!(
            "{} from {offset}: {} of {total} bytes",
            snapshot_part(*part),
            bytes.as_bytes().len()
        ),
        Snapshot::Gone { part } => snapshot_part(*part),
    }
}

fn snapshot_part(part: Part) -> String {
    match part {
        Part::Newest => "newest manifest".to_owned(),
        Part::Manifest { number } => format!("manifest {number}"),
        Part::File { kind, number } => format!("file {number} of kind {kind}"),
    }
}

fn paxos(message: &Paxos) -> String {
    match message {
        Paxos::PreVote {
            ballot,
            chosen_upto,
            transfer_of,
        } => format!("{ballot} chosen {chosen_upto}{}", handed_over(*transfer_of)),
        Paxos::PreVoteReply {
            ballot,
            granted,
            promised,
        } => {
            let verdict = if *granted { "granted" } else { "refused" };
            format!("{ballot} {verdict}, promised {promised}")
        }
        Paxos::Prepare {
            ballot,
            from,
            transfer_of,
        } => format!("{ballot} from slot {from}{}", handed_over(*transfer_of)),
        Paxos::Promise {
            ballot,
            chosen_upto,
            log_start: _,
            part,
            parts,
            report,
        } => {
            let part = part + 1;
            match report {
                None => format!("{ballot} chosen {chosen_upto}, nothing above"),
                Some(report) => {
                    let report = reported(report);
                    format!("{ballot} chosen {chosen_upto}, {part} of {parts}: {report}")
                }
            }
        }
        Paxos::Reject { ballot, promised } => format!("{ballot} promised {promised}"),
        Paxos::Accept {
            ballot,
            slot,
            chosen_upto,
            entry,
        } => {
            let entry = self::entry(entry, *ballot);
            format!("{ballot} slot {slot} = {entry}, chosen {chosen_upto}")
        }
        Paxos::Accepted { ballot, slot } => format!("{ballot} slot {slot}"),
        Paxos::Heartbeat {
            ballot,
            round,
            chosen_upto,
        }
        | Paxos::HeartbeatReply {
            ballot,
            round,
            chosen_upto,
        } => format!("{ballot} round {round} chosen {chosen_upto}"),
        Paxos::CatchUp { from, upto } => format!("slots {}", range(*from, *upto)),
        Paxos::Entries {
            entries,
            chosen_upto,
            log_start: _,
            report,
        } => {
            let entries: Vec<String> = entries.iter().map(logged).collect();
            let report = report
                .as_ref()
                .map_or_else(String::new, |report| format!(", has {}", reported(report)));
            format!("[{}] chosen {chosen_upto}{report}", entries.join("; "))
        }
        Paxos::LeadNow { ballot } => format!("{ballot}"),
        Paxos::Rejoin { nonce: _, floor } if *floor == Ballot::ZERO => "disk lost".to_owned(),
        Paxos::Rejoin { nonce: _, floor } => format!("disk lost, votes above {floor}"),
        Paxos::RejoinReply { nonce: _, promised } => format!("promised {promised}"),
    }
}

fn handed_over(by: Ballot) -> String {
    if by == Ballot::ZERO {
        String::new()
    } else {
        format!(", handed over by {by}")
    }
}

fn range(from: Slot, upto: Slot) -> String {
    format!("{from}..{upto}")
}

fn reported(report: &SlotReport) -> String {
    let slot = report.slot;
    match &report.record {
        SlotRecord::Nothing => format!("slot {slot} nothing"),
        SlotRecord::Lost { accepted } => format!("slot {slot} lost, under {accepted}"),
        SlotRecord::Accepted { accepted, entry } => logged(&LoggedEntry {
            slot,
            accepted: *accepted,
            entry: entry.clone(),
        }),
    }
}

fn logged(logged: &LoggedEntry) -> String {
    let LoggedEntry {
        slot,
        accepted,
        entry,
    } = logged;
    format!(
        "slot {slot} under {accepted} = {}",
        self::entry(entry, *accepted)
    )
}

fn txn(message: &Txn) -> String {
    let list = |rows: Vec<String>| rows.join("; ");
    match message {
        Txn::PrepareTxn(rows) => list(rows.iter().map(prepare).collect()),
        Txn::PrepareMove(words) => match MoveSection::parse(words.as_bytes()) {
            Some(parts) => prepare_move(&parts),
            None => "unreadable".to_owned(),
        },
        Txn::Votes(rows) | Txn::Decides(rows) => list(rows.iter().map(statement).collect()),
        Txn::QueryDecisions(rows) => list(rows.iter().map(subject).collect()),
        Txn::LookUps(rows) => list(
            rows.iter()
                .map(|row| {
                    let (id, account, epoch) = (row.transfer_id, row.account, row.ownership_epoch);
                    format!("t{id} of account {account} epoch {epoch}")
                })
                .collect(),
        ),
        Txn::LookedUp(rows) => list(
            rows.iter()
                .map(|row| {
                    let (id, account, epoch) = (row.transfer.id, row.account, row.ownership_epoch);
                    let found = match row.found {
                        1 => code(row.code),
                        _ => "never used".to_owned(),
                    };
                    format!("t{id} of account {account} epoch {epoch}: {found}")
                })
                .collect(),
        ),
        Txn::Acknowledged(rows) => list(rows.iter().map(acknowledged).collect()),
        Txn::ForwardsKnown(rows) if rows.is_empty() => "nothing yet".to_owned(),
        Txn::Forwards(rows) | Txn::ForwardsKnown(rows) => list(rows.iter().map(route).collect()),
        Txn::NotLeading {
            shard,
            ballot,
            leader,
        } => {
            let leader = leader.map_or("nobody".to_owned(), |leader| format!("r{leader}"));
            format!("s{shard} promised {ballot}, {leader} leads")
        }
    }
}

fn acknowledged(row: &AcknowledgedRow) -> String {
    format!("shard {} up to {}", row.shard, row.upto.0)
}

fn route(row: &RouteRow) -> String {
    let RouteRow {
        account,
        shard,
        ownership_epoch,
        ..
    } = row;
    format!("account {account} at s{shard} from epoch {ownership_epoch} on")
}

fn attempt(attempt: Attempt) -> String {
    format!("try {}#{}", attempt.ballot, attempt.counter)
}

/// A transaction, as votes and decisions name it.
#[must_use]
pub fn txn_id(txn: TxnId) -> String {
    let letter = match txn.subject {
        Subject::Transfer => 't',
        Subject::Move => 'm',
    };
    format!(
        "{letter}{} of s{} {}",
        txn.id,
        txn.coordinator,
        attempt(txn.attempt)
    )
}

fn subject(row: &TxnRow) -> String {
    match row.parse() {
        Some((txn, _)) => txn_id(txn),
        None => "unreadable".to_owned(),
    }
}

fn statement(row: &TxnRow) -> String {
    let Some((_, verdict)) = row.parse() else {
        return "unreadable".to_owned();
    };
    let verdict = match verdict {
        Verdict::None => "no statement".to_owned(),
        Verdict::Yes => "yes".to_owned(),
        Verdict::No => format!("no, {}", code(row.code)),
        Verdict::Contended => "contended".to_owned(),
        Verdict::Moved => format!("moved to s{}", row.shard),
        Verdict::Commit => "commit".to_owned(),
        Verdict::Abort => "abort".to_owned(),
        Verdict::Pending => "pending".to_owned(),
    };
    format!("{}: {verdict}", subject(row))
}

fn transfer(row: &Transfer) -> String {
    let (id, debit, credit) = (row.id, row.debit_account_id, row.credit_account_id);
    format!("t{id} {debit}->{credit} {}", row.amount)
}

fn prepare(row: &PrepareRow) -> String {
    let (coordinator, attempt) = (row.coordinator, attempt(row.attempt));
    format!("{} of s{coordinator} {attempt}", transfer(&row.transfer))
}

fn commit(row: &CommitRow) -> String {
    let kind = match CommitKind::from_u16(row.kind) {
        Some(CommitKind::Prepared) => format!("prepared at s{}", row.participant),
        Some(CommitKind::Evaluate) => "to be evaluated".to_owned(),
        Some(CommitKind::Refuse) => format!("refused as {}", code(row.code)),
        None => "of no known kind".to_owned(),
    };
    format!(
        "{} {}, {kind}",
        transfer(&row.transfer),
        attempt(row.attempt)
    )
}

fn head(head: &MoveHead) -> String {
    let MoveHead {
        id, source, target, ..
    } = head;
    format!("m{id} s{source}->s{target} {}", attempt(head.attempt))
}

fn prepare_move(parts: &MoveSection<'_>) -> String {
    let accounts = parts.accounts.iter().map(|row| row.account.id.to_string());
    let accounts: Vec<String> = accounts.collect();
    let mut text = format!("{} accounts {}", head(parts.head), accounts.join(" "));
    for owner in parts.owners {
        let (account, shard, id_max) = (owner.account, owner.shard, owner.id_max);
        // Writing to a string cannot fail.
        let _ = write!(text, ", {account} was at s{shard} up to t{id_max}");
    }
    text
}

/// What a slot decides. The origin is named where it is not `ballot`.
#[must_use]
pub fn entry(entry: &Entry, ballot: Ballot) -> String {
    let mut sections: Vec<String> = entry.sections().map(section).collect();
    if sections.is_empty() {
        sections.push("no-op".to_owned());
    }
    let origin = match entry.origin() {
        origin if origin == ballot => String::new(),
        Ballot::ZERO => " (hole)".to_owned(),
        origin => format!(" (origin {origin})"),
    };
    format!("<{}>{origin}", sections.join(" | "))
}

fn section(section: Section<'_>) -> String {
    fn rows<T>(name: &str, rows: &[T], one: impl Fn(&T) -> String) -> String {
        let rows: Vec<String> = rows.iter().map(one).collect();
        format!("{name} {}", rows.join("; "))
    }
    match section {
        Section::CreateAccounts(accounts) => rows("create", accounts, |a| a.id.to_string()),
        Section::Transfers(transfers) => rows("transfer", transfers, transfer),
        Section::Prepare(prepares) => rows("Prepared", prepares, prepare),
        Section::Commit(commits) => rows("Commit", commits, commit),
        Section::Resolve(resolutions) => rows("Resolved", resolutions, statement),
        Section::PrepareMove(parts) => format!("PrepareMove {}", prepare_move(&parts)),
        Section::CommitMove {
            head: of,
            accounts: _,
        } => format!("CommitMove {}", head(of)),
        Section::CutRegister { .. } => "register a cut".to_owned(),
        Section::CutPass { .. } => "pass a cut".to_owned(),
        Section::Acknowledged(said) => rows("Acknowledged", said, acknowledged),
        Section::Forward(said) => rows("Forward", said, route),
        Section::DropStubs(said) => rows("DropStubs", said, route),
        Section::PutDocument(write) => format!("write document {}", write.head.key),
    }
}

/// A record of the write-ahead log.
#[must_use]
pub fn record(record: &Record) -> String {
    match record {
        Record::Promise { ballot } => format!("promise {ballot}"),
        Record::Accepted {
            ballot,
            slot,
            entry,
        } => format!(
            "accepted {ballot} slot {slot} = {}",
            self::entry(entry, *ballot)
        ),
        Record::Chosen { upto } => format!("chosen {upto}"),
    }
}

fn code(number: u16) -> String {
    ResultCode::from_u16(number).map_or(format!("code {number}"), |code| code.name().to_owned())
}

fn result(row: &ResultRow) -> String {
    let across = if row.cross_shard() {
        ", across shards"
    } else {
        ""
    };
    match row.result() {
        Some(ResultCode::Moved) => format!("moved to s{}", row.shard),
        Some(_) | None => format!("{}{across}", code(row.code)),
    }
}

/// Debits and credits of an account.
#[must_use]
pub fn sums(account: &Account) -> String {
    format!(
        "debits {} credits {}",
        account.debits_posted, account.credits_posted
    )
}

fn recorded(record: &RecordedTransfer) -> String {
    format!("{} in slot {}", code(record.code), record.slot)
}

fn known(answer: &TransferAnswer) -> String {
    let debits = answer.debit.iter().map(|record| ("debit", record));
    let credits = answer.credits.iter().map(|record| ("credit", record));
    let sides: Vec<String> = debits
        .chain(credits)
        .map(|(name, record)| format!("{name} {}", recorded(record)))
        .collect();
    if sides.is_empty() {
        format!("t{} unknown", answer.id)
    } else {
        format!("t{} {}", answer.id, sides.join(", "))
    }
}

/// What a client is told.
#[must_use]
pub fn reply(body: &ReplyBody) -> String {
    let list = |rows: Vec<String>| rows.join("; ");
    match body {
        ReplyBody::Results(rows) => list(rows.iter().map(result).collect()),
        ReplyBody::Accounts(answers) => list(
            answers
                .iter()
                .map(|answer| match answer {
                    AccountAnswer::Found(account) => sums(account),
                    AccountAnswer::NotFound => "not found".to_owned(),
                    AccountAnswer::Moved(shard) => format!("moved to s{shard}"),
                    AccountAnswer::Contended => "contended".to_owned(),
                })
                .collect(),
        ),
        ReplyBody::Transfers(answers) => list(answers.iter().map(known).collect()),
        ReplyBody::AccountList(ids) => list(ids.iter().map(ToString::to_string).collect()),
        ReplyBody::Status(status) => format!("{} {}", status.role.name(), status.ballot),
        ReplyBody::InDoubt(rows) => format!("{} in doubt", rows.len()),
        ReplyBody::Move(answer) => match answer {
            MoveAnswer::Moved { accounts, .. } => format!("{accounts} moved"),
            MoveAnswer::Contended => "contended".to_owned(),
            MoveAnswer::NotOwned { account, shard } => format!("{account} is at s{shard}"),
            MoveAnswer::Refused => "refused".to_owned(),
        },
        ReplyBody::Cut(answer) => match answer {
            CutAnswer::Registered => "registered".to_owned(),
            CutAnswer::Refused => "refused".to_owned(),
            CutAnswer::Sums(_) => "sums".to_owned(),
            CutAnswer::Digest { slot, .. } => format!("digest at slot {slot}"),
            CutAnswer::NotKnown => "not known".to_owned(),
        },
        ReplyBody::History(answer) => match answer {
            HistoryAnswer::Page(page) => format!("{} rows of history", page.rows.len()),
            HistoryAnswer::NotFound => "not found".to_owned(),
            HistoryAnswer::Moved(shard) => format!("moved to s{shard}"),
        },
        ReplyBody::Pairs { rows, .. } => format!("{} pairs", rows.len()),
        ReplyBody::Operations { rows, .. } => format!("{} accounts used", rows.len()),
        ReplyBody::PutDocument(answer) => format!("{answer:?}"),
        ReplyBody::Document(document) => match document.is_there() {
            true => format!("document of version {}", document.version),
            false => format!("no document since version {}", document.version),
        },
        ReplyBody::Documents(rows) => format!("{} documents", rows.len()),
        ReplyBody::MapChanges { rows, .. } => list(rows.iter().map(route).collect()),
        ReplyBody::Done => "done".to_owned(),
        ReplyBody::NotLeader { ballot, leader } => match leader {
            Some(leader) => format!("not leader, r{leader} leads under {ballot}"),
            None => format!("not leader, nobody leads, promised {ballot}"),
        },
        ReplyBody::Busy => "busy".to_owned(),
        ReplyBody::Unknown => "unknown".to_owned(),
        ReplyBody::BadRequest(why) => format!("bad request, {why}"),
    }
}
