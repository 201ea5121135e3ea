//! Mirror of `paxos::message::Message`.

use quorate_protocol::entry::Entry;
use quorate_protocol::ids::{Ballot, Slot};
use quorate_protocol::paxos::message::{LoggedEntry, Message, SlotRecord, SlotReport};
use quorate_protocol::words::Words;
use rkyv::option::ArchivedOption;
use rkyv::{Archive, Serialize};

use crate::error::FrameError;
use crate::run::{self, ArchivedRun, Run};

#[derive(Archive, Serialize)]
pub(crate) enum PaxosMirror {
    PreVote {
        ballot: u64,
        chosen_upto: u64,
        transfer_of: u64,
    },
    PreVoteReply {
        ballot: u64,
        granted: bool,
        promised: u64,
    },
    Prepare {
        ballot: u64,
        from: u64,
        transfer_of: u64,
    },
    Promise {
        ballot: u64,
        chosen_upto: u64,
        log_start: u64,
        part: u32,
        parts: u32,
        report: Option<ReportMirror>,
    },
    Reject {
        ballot: u64,
        promised: u64,
    },
    Accept {
        ballot: u64,
        slot: u64,
        chosen_upto: u64,
        #[rkyv(with = Run)]
        entry: Words,
    },
    Accepted {
        ballot: u64,
        slot: u64,
    },
    Heartbeat {
        ballot: u64,
        round: u64,
        chosen_upto: u64,
    },
    HeartbeatReply {
        ballot: u64,
        round: u64,
        chosen_upto: u64,
    },
    CatchUp {
        from: u64,
        upto: u64,
    },
    Entries {
        entries: Vec<LoggedMirror>,
        chosen_upto: u64,
        log_start: u64,
        report: Option<ReportMirror>,
    },
    LeadNow {
        ballot: u64,
    },
    Rejoin {
        nonce: u64,
        floor: u64,
    },
    RejoinReply {
        nonce: u64,
        promised: u64,
    },
}

#[derive(Archive, Serialize)]
pub(crate) struct LoggedMirror {
    slot: u64,
    accepted: u64,
    #[rkyv(with = Run)]
    entry: Words,
}

impl LoggedMirror {
    fn of(logged: &LoggedEntry) -> Self {
        Self {
            slot: logged.slot.0,
            accepted: logged.accepted.0,
            entry: logged.entry.words().clone(),
        }
    }
}

impl ArchivedLoggedMirror {
    fn read(&self) -> Result<LoggedEntry, FrameError> {
        Ok(LoggedEntry {
            slot: Slot(self.slot.to_native()),
            accepted: Ballot(self.accepted.to_native()),
            entry: read_entry(&self.entry)?,
        })
    }
}

#[derive(Archive, Serialize)]
pub(crate) struct ReportMirror {
    slot: u64,
    record: RecordMirror,
}

#[derive(Archive, Serialize)]
enum RecordMirror {
    Nothing,
    Lost {
        accepted: u64,
    },
    Accepted {
        accepted: u64,
        #[rkyv(with = Run)]
        entry: Words,
    },
}

impl ReportMirror {
    fn of(report: &SlotReport) -> Self {
        Self {
            slot: report.slot.0,
            record: match &report.record {
                SlotRecord::Nothing => RecordMirror::Nothing,
                SlotRecord::Lost { accepted } => RecordMirror::Lost {
                    accepted: accepted.0,
                },
                SlotRecord::Accepted { accepted, entry } => RecordMirror::Accepted {
                    accepted: accepted.0,
                    entry: entry.words().clone(),
                },
            },
        }
    }
}

impl ArchivedReportMirror {
    fn read(&self) -> Result<SlotReport, FrameError> {
        Ok(SlotReport {
            slot: Slot(self.slot.to_native()),
            record: match &self.record {
                ArchivedRecordMirror::Nothing => SlotRecord::Nothing,
                ArchivedRecordMirror::Lost { accepted } => SlotRecord::Lost {
                    accepted: Ballot(accepted.to_native()),
                },
                ArchivedRecordMirror::Accepted { accepted, entry } => SlotRecord::Accepted {
                    accepted: Ballot(accepted.to_native()),
                    entry: read_entry(entry)?,
                },
            },
        })
    }

    fn read_option(report: &ArchivedOption<Self>) -> Result<Option<SlotReport>, FrameError> {
        match report {
            ArchivedOption::None => Ok(None),
            ArchivedOption::Some(report) => Ok(Some(report.read()?)),
        }
    }
}

fn read_entry(run: &ArchivedRun) -> Result<Entry, FrameError> {
    Ok(Entry::from_words(run::words(run))?)
}

impl PaxosMirror {
    pub fn of(message: &Message) -> Self {
        match message {
            Message::PreVote {
                ballot,
                chosen_upto,
                transfer_of,
            } => Self::PreVote {
                ballot: ballot.0,
                chosen_upto: chosen_upto.0,
                transfer_of: transfer_of.0,
            },
            Message::PreVoteReply {
                ballot,
                granted,
                promised,
            } => Self::PreVoteReply {
                ballot: ballot.0,
                granted: *granted,
                promised: promised.0,
            },
            Message::Prepare {
                ballot,
                from,
                transfer_of,
            } => Self::Prepare {
                ballot: ballot.0,
                from: from.0,
                transfer_of: transfer_of.0,
            },
            Message::Promise {
                ballot,
                chosen_upto,
                log_start,
                part,
                parts,
                report,
            } => Self::Promise {
                ballot: ballot.0,
                chosen_upto: chosen_upto.0,
                log_start: log_start.0,
                part: *part,
                parts: *parts,
                report: report.as_ref().map(ReportMirror::of),
            },
            Message::Reject { ballot, promised } => Self::Reject {
                ballot: ballot.0,
                promised: promised.0,
            },
            Message::Accept {
                ballot,
                slot,
                chosen_upto,
                entry,
            } => Self::Accept {
                ballot: ballot.0,
                slot: slot.0,
                chosen_upto: chosen_upto.0,
                entry: entry.words().clone(),
            },
            Message::Accepted { ballot, slot } => Self::Accepted {
                ballot: ballot.0,
                slot: slot.0,
            },
            Message::Heartbeat {
                ballot,
                round,
                chosen_upto,
            } => Self::Heartbeat {
                ballot: ballot.0,
                round: *round,
                chosen_upto: chosen_upto.0,
            },
            Message::HeartbeatReply {
                ballot,
                round,
                chosen_upto,
            } => Self::HeartbeatReply {
                ballot: ballot.0,
                round: *round,
                chosen_upto: chosen_upto.0,
            },
            Message::CatchUp { from, upto } => Self::CatchUp {
                from: from.0,
                upto: upto.0,
            },
            Message::Entries {
                entries,
                chosen_upto,
                log_start,
                report,
            } => Self::Entries {
                entries: entries.iter().map(LoggedMirror::of).collect(),
                chosen_upto: chosen_upto.0,
                log_start: log_start.0,
                report: report.as_ref().map(ReportMirror::of),
            },
            Message::LeadNow { ballot } => Self::LeadNow { ballot: ballot.0 },
            Message::Rejoin { nonce, floor } => Self::Rejoin {
                nonce: *nonce,
                floor: floor.0,
            },
            Message::RejoinReply { nonce, promised } => Self::RejoinReply {
                nonce: *nonce,
                promised: promised.0,
            },
        }
    }
}

impl ArchivedPaxosMirror {
    pub fn read(&self) -> Result<Message, FrameError> {
        let ballot = |ballot: &rkyv::rend::u64_le| Ballot(ballot.to_native());
        let slot = |slot: &rkyv::rend::u64_le| Slot(slot.to_native());
        Ok(match self {
            Self::PreVote {
                ballot: asked,
                chosen_upto,
                transfer_of,
            } => Message::PreVote {
                ballot: ballot(asked),
                chosen_upto: slot(chosen_upto),
                transfer_of: ballot(transfer_of),
            },
            Self::PreVoteReply {
                ballot: asked,
                granted,
                promised,
            } => Message::PreVoteReply {
                ballot: ballot(asked),
                granted: *granted,
                promised: ballot(promised),
            },
            Self::Prepare {
                ballot: asked,
                from,
                transfer_of,
            } => Message::Prepare {
                ballot: ballot(asked),
                from: slot(from),
                transfer_of: ballot(transfer_of),
            },
            Self::Promise {
                ballot: asked,
                chosen_upto,
                log_start,
                part,
                parts,
                report,
            } => Message::Promise {
                ballot: ballot(asked),
                chosen_upto: slot(chosen_upto),
                log_start: slot(log_start),
                part: part.to_native(),
                parts: parts.to_native(),
                report: ArchivedReportMirror::read_option(report)?,
            },
            Self::Reject {
                ballot: asked,
                promised,
            } => Message::Reject {
                ballot: ballot(asked),
                promised: ballot(promised),
            },
            Self::Accept {
                ballot: own,
                slot: at,
                chosen_upto,
                entry,
            } => Message::Accept {
                ballot: ballot(own),
                slot: slot(at),
                chosen_upto: slot(chosen_upto),
                entry: read_entry(entry)?,
            },
            Self::Accepted {
                ballot: under,
                slot: at,
            } => Message::Accepted {
                ballot: ballot(under),
                slot: slot(at),
            },
            Self::Heartbeat {
                ballot: own,
                round,
                chosen_upto,
            } => Message::Heartbeat {
                ballot: ballot(own),
                round: round.to_native(),
                chosen_upto: slot(chosen_upto),
            },
            Self::HeartbeatReply {
                ballot: own,
                round,
                chosen_upto,
            } => Message::HeartbeatReply {
                ballot: ballot(own),
                round: round.to_native(),
                chosen_upto: slot(chosen_upto),
            },
            Self::CatchUp { from, upto } => Message::CatchUp {
                from: slot(from),
                upto: slot(upto),
            },
            Self::Entries {
                entries,
                chosen_upto,
                log_start,
                report,
            } => Message::Entries {
                entries: entries
                    .iter()
                    .map(ArchivedLoggedMirror::read)
                    .collect::<Result<_, _>>()?,
                chosen_upto: slot(chosen_upto),
                log_start: slot(log_start),
                report: ArchivedReportMirror::read_option(report)?,
            },
            Self::LeadNow { ballot: own } => Message::LeadNow {
                ballot: ballot(own),
            },
            Self::Rejoin { nonce, floor } => Message::Rejoin {
                nonce: nonce.to_native(),
                floor: ballot(floor),
            },
            Self::RejoinReply { nonce, promised } => Message::RejoinReply {
                nonce: nonce.to_native(),
                promised: ballot(promised),
            },
        })
    }
}
