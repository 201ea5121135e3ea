//! Serving chosen entries to a peer that asks, and replaying the own log after a start.
//!
//! Any replica serves, from memory or through a read of its WAL. One read of the WAL is open at a time; the
//! own replay goes first, then what peers wait for, in turn.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::catch_up::{QUESTION_SLOTS_MAX, QUESTIONS_MAX, Range, last_of_question};
use super::consensus::{Consensus, Role};
use super::journal::Effect;
use super::message::{LoggedEntry, Message, SlotRecord, SlotReport};
use crate::config::LostRecord;
use crate::entry::Entry;
use crate::ids::{ReplicaId, Slot};
use crate::limits::{ENTRY_BYTES_MAX, FRAME_PAYLOAD_MAX};
use crate::output::StopReason;
use crate::planted::{Bug, planted};

/// Bytes of one read of the WAL: a whole question.
const READ_BYTES_MAX: usize = QUESTION_SLOTS_MAX * ENTRY_BYTES_MAX;
/// What an entry costs in a message beside its bytes, at most.
const ENTRY_OVERHEAD_BYTES: usize = 64;

#[derive(Clone, Copy, Debug)]
enum Purpose {
    Replay,
    Serve { to: ReplicaId },
}

/// Reads of the own WAL.
#[derive(Debug, Default)]
pub(super) struct LogReads {
    /// Read for the replay and not given out yet.
    replay: VecDeque<LoggedEntry>,
    open: Option<(Range, Purpose)>,
    /// What peers asked for that needs the WAL or comes behind what does, in their turn. The last
    /// [`QUESTIONS_MAX`] questions of each.
    waiting: VecDeque<(ReplicaId, Range)>,
}

impl LogReads {
    /// Whether something that `to` asked for waits for the WAL.
    fn serves(&self, to: ReplicaId) -> bool {
        let reading =
            |open: &(Range, Purpose)| matches!(open.1, Purpose::Serve { to: peer } if peer == to);
        self.open.as_ref().is_some_and(reading) || self.waiting.iter().any(|(peer, _)| *peer == to)
    }

    fn wait(&mut self, to: ReplicaId, range: Range) {
        let of_peer = self.waiting.iter().filter(|(peer, _)| *peer == to);
        if of_peer.count() >= QUESTIONS_MAX {
            let oldest = self.waiting.iter().position(|(peer, _)| *peer == to);
            self.waiting.remove(oldest.expect("just counted"));
        }
        self.waiting.push_back((to, range));
    }

    /// The rest of a question comes before what the peer asked behind it.
    fn go_on(&mut self, to: ReplicaId, rest: Range) {
        let first = self.waiting.iter().position(|(peer, _)| *peer == to);
        let at = first.unwrap_or(self.waiting.len());
        self.waiting.insert(at, (to, rest));
    }

    pub(super) fn peek_replayed(&self) -> Option<&Entry> {
        self.replay.front().map(|logged| &logged.entry)
    }

    pub(super) fn next_replayed(&mut self, slot: Slot) -> Option<Entry> {
        let logged = self.replay.pop_front()?;
        assert!(logged.slot == slot, "the replay is in slot order");
        Some(logged.entry)
    }
}

impl Consensus {
    pub(super) fn on_catch_up(&mut self, to: ReplicaId, from: Slot, upto: Slot) {
        if let Role::Leader(leader) = &mut self.role {
            leader.progress.entry(to).or_default().note_question(from);
            self.send_owed(to);
        }
        if from > self.log.chosen_upto() {
            // Chosen, says who asks; not known here.
            let report = self.own_report(from);
            self.send_entries(to, Vec::new(), Some(report));
            return;
        }
        let last = last_of_question(from);
        let range = Range {
            from,
            upto: upto.min(last).min(self.log.chosen_upto()),
        };
        if range.from > range.upto {
            return;
        }
        if from >= self.log.start() && !self.reads.serves(to) {
            self.serve_from_memory(to, range);
        } else {
            // Also what is in memory, if it comes behind what is not: entries are taken in order only.
            self.reads.wait(to, range);
            self.pump_log_reads();
        }
    }

    /// What is held or lost of one slot; not for slots that only the WAL holds.
    fn own_report(&self, slot: Slot) -> SlotReport {
        let record = if let Some(held) = self.log.get(slot) {
            SlotRecord::Accepted {
                accepted: held.accepted,
                entry: held.entry.clone(),
            }
        } else if let Some(accepted) = self.lost.accepted(slot) {
            SlotRecord::Lost { accepted }
        } else {
            assert!(slot > self.log.chosen_upto());
            SlotRecord::Nothing
        };
        SlotReport { slot, record }
    }

    fn serve_from_memory(&mut self, to: ReplicaId, range: Range) {
        let held = (range.from.0..=range.upto.0).map(|slot| {
            let slot = Slot(slot);
            let held = self.log.get(slot);
            let held = held.expect("chosen slots above the start are held");
            LoggedEntry {
                slot,
                accepted: held.accepted,
                entry: held.entry.clone(),
            }
        });
        self.send_in_messages(to, held.collect());
    }

    /// As many messages as the entries take.
    fn send_in_messages(&mut self, to: ReplicaId, entries: Vec<LoggedEntry>) {
        let mut message = Vec::new();
        let mut room = Room::default();
        for logged in entries {
            if !room.take(&logged.entry) {
                self.send_entries(to, core::mem::take(&mut message), None);
                room = Room::default();
                room.take(&logged.entry);
            }
            message.push(logged);
        }
        self.send_entries(to, message, None);
    }

    fn send_entries(
        &mut self,
        to: ReplicaId,
        entries: Vec<LoggedEntry>,
        report: Option<SlotReport>,
    ) {
        if report.is_some() && self.rejoining.is_some() {
            // It does not know what it has accepted. Who asks takes silence as such.
            return;
        }
        self.journal.send(
            to,
            Message::Entries {
                entries,
                chosen_upto: self.log.chosen_upto(),
                log_start: if planted(Bug::CheckpointHidden) {
                    Slot(1)
                } else {
                    self.log.wal_start()
                },
                report,
            },
        );
    }

    /// Opens the next read of the WAL, if one is wanted and none is open; serves what needs none.
    pub(super) fn pump_log_reads(&mut self) {
        if self.reads.open.is_some() {
            return;
        }
        let Some((range, purpose, bytes_max)) = self.next_replay().or_else(|| self.next_serve())
        else {
            return;
        };
        assert!(range.from <= range.upto && range.upto <= self.log.chosen_upto());
        self.reads.open = Some((range, purpose));
        self.journal.push(Effect::ReadLog {
            from: range.from,
            upto: range.upto,
            bytes_max,
        });
    }

    fn next_replay(&self) -> Option<(Range, Purpose, usize)> {
        if !self.log.is_replaying() || !self.reads.replay.is_empty() {
            return None;
        }
        let range = Range {
            from: self.log.applied_upto().next(),
            upto: Slot(self.log.start().0 - 1),
        };
        // A lost slot waits until it was fetched and written again.
        let range = self.readable(range)?;
        Some((range, Purpose::Replay, READ_BYTES_MAX))
    }

    fn next_serve(&mut self) -> Option<(Range, Purpose, usize)> {
        while let Some((to, range)) = self.reads.waiting.pop_front() {
            if range.from < self.log.wal_start() {
                // Nothing but `log_start` can be said of it.
                self.send_entries(to, Vec::new(), None);
                continue;
            }
            if range.from >= self.log.start() {
                self.serve_from_memory(to, range);
                continue;
            }
            let in_wal = Range {
                upto: range.upto.min(Slot(self.log.start().0 - 1)),
                ..range
            };
            if let Some(readable) = self.readable(in_wal) {
                let behind = readable.upto.next();
                if behind <= range.upto {
                    self.reads.go_on(
                        to,
                        Range {
                            from: behind,
                            ..range
                        },
                    );
                }
                return Some((readable, Purpose::Serve { to }, READ_BYTES_MAX));
            }
            // A copy that was fetched and is not durable yet is served to whoever asks again.
            if self.lost.accepted(range.from).is_some() {
                let report = self.own_report(range.from);
                self.send_entries(to, Vec::new(), Some(report));
            }
        }
        None
    }

    /// The part of a range before its first lost slot.
    fn readable(&self, range: Range) -> Option<Range> {
        match self.lost.first_unreadable(range.from) {
            Some(lost) if lost == range.from => None,
            Some(lost) => Some(Range {
                upto: range.upto.min(Slot(lost.0 - 1)),
                ..range
            }),
            None => Some(range),
        }
    }

    /// What the WAL held. A slot that it does not know at all is a fault of the log: it was durable.
    pub(super) fn take_log_read(
        &mut self,
        now_ns: u64,
        from: Slot,
        mut entries: Vec<LoggedEntry>,
        lost: Option<LostRecord>,
    ) {
        let Some((range, purpose)) = self.reads.open.take_if(|(range, _)| range.from == from)
        else {
            return;
        };
        let expected = (range.from.0..=range.upto.0).map(Slot);
        let whole = entries
            .iter()
            .zip(expected)
            .take_while(|(logged, slot)| logged.slot == *slot)
            .count();
        entries.truncate(whole);
        let behind = Slot(range.from.0 + whole as u64);
        let lost = lost.filter(|lost| lost.slot == behind && behind <= range.upto);
        let covered = behind <= self.log.covered_upto();
        if covered && (lost.is_some() || entries.is_empty()) {
            // A checkpoint has what it said, and may have released it while it was being read; it cannot be
            // served from here any more.
            self.log.release_below(behind.next());
        } else if let Some(lost) = lost {
            // Rotten since it was written. No ballot above the promise was ever accepted.
            let accepted = lost.accepted.min(self.promised);
            self.lost.add(LostRecord { accepted, ..lost });
        } else if entries.is_empty() {
            self.stop(StopReason::LogLost { slot: from });
            return;
        }
        match purpose {
            Purpose::Replay => self.reads.replay.extend(entries),
            Purpose::Serve { to } if entries.is_empty() => {
                let report = (!covered).then(|| self.own_report(from));
                self.send_entries(to, Vec::new(), report);
            }
            Purpose::Serve { to } => {
                if behind <= range.upto {
                    self.reads.go_on(
                        to,
                        Range {
                            from: behind,
                            ..range
                        },
                    );
                }
                self.send_in_messages(to, entries);
            }
        }
        self.pump_log_reads();
        self.pursue(now_ns);
    }
}

/// Room for entries in one message: the first always fits.
#[derive(Default)]
struct Room {
    used: usize,
}

impl Room {
    fn take(&mut self, entry: &Entry) -> bool {
        let first = self.used == 0;
        self.used += entry.bytes() + ENTRY_OVERHEAD_BYTES;
        first || self.used <= FRAME_PAYLOAD_MAX
    }
}
