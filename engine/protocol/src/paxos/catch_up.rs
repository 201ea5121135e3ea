//! Holes: asking peers for chosen entries, serving them, and replaying the own log after a start.
//!
//! A replica that knows of chosen slots it cannot prove asks one peer at a time for the next range,
//! and the next peer when no answer comes. Any replica serves, from memory or through a read of its
//! WAL. One read of the WAL is open at a time; the own replay goes first, then one waiting request
//! per peer.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::acceptor::LOG_START;
use super::consensus::{Consensus, Role};
use super::journal::Effect;
use super::message::{LoggedEntry, Message};
use crate::entry::Entry;
use crate::ids::{ReplicaId, Slot};
use crate::limits::{FRAME_PAYLOAD_MAX, WINDOW_MAX};
use crate::output::StopReason;
use crate::time::MS;

/// How long an asked peer has to answer before the next one is asked.
const CATCH_UP_RETRY_NS: u64 = 250 * MS;
/// Bytes of one chunk of the replay after a start.
const REPLAY_CHUNK_BYTES_MAX: usize = 4 << 20;
/// Fetched entries between two watermark records. Below the window: see `record_accepted`.
const WATERMARK_LAG: u64 = WINDOW_MAX / 2;
/// What an entry costs in a message beside its bytes, at most.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// What peers are known to have, and the open question to one of them.
#[derive(Debug, Default)]
pub(super) struct Fetch {
    claims: BTreeMap<ReplicaId, Slot>,
    open: Option<Question>,
    /// Who did not answer last.
    silent: Option<ReplicaId>,
}

#[derive(Clone, Copy, Debug)]
struct Question {
    to: ReplicaId,
    retry_at_ns: u64,
}

impl Fetch {
    /// `peer` knows that all slots up to `upto` are chosen.
    pub(super) fn claim(&mut self, peer: ReplicaId, upto: Slot) {
        let claim = self.claims.entry(peer).or_default();
        *claim = upto.max(*claim);
    }

    pub(super) fn retry_at_ns(&self) -> Option<u64> {
        self.open.map(|question| question.retry_at_ns)
    }

    /// Whom to ask for slots above `chosen_upto`: the leader if it has them and answers, else the
    /// peers in turn.
    fn source(&self, chosen_upto: Slot, leader: Option<ReplicaId>) -> Option<(ReplicaId, Slot)> {
        let ahead = |peer: &ReplicaId| {
            let upto = *self.claims.get(peer)?;
            (upto > chosen_upto).then_some((*peer, upto))
        };
        if let Some(leader) = leader
            && self.silent != Some(leader)
            && let Some(found) = ahead(&leader)
        {
            return Some(found);
        }
        let after = self.silent.unwrap_or(ReplicaId(0));
        let later = self.claims.keys().filter(|&&peer| peer > after);
        let earlier = self.claims.keys().filter(|&&peer| peer <= after);
        later.chain(earlier).find_map(ahead)
    }
}

#[derive(Clone, Copy, Debug)]
struct Range {
    from: Slot,
    upto: Slot,
}

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
    /// The last request of each peer that needs the WAL.
    waiting: BTreeMap<ReplicaId, Range>,
}

impl LogReads {
    pub(super) fn next_replayed(&mut self, slot: Slot) -> Option<Entry> {
        let logged = self.replay.pop_front()?;
        assert!(logged.slot == slot, "the replay is in slot order");
        Some(logged.entry)
    }
}

impl Consensus {
    /// Asks for what is missing below the highest `chosen_upto` that a peer claimed, unless a
    /// question is open.
    pub(super) fn pursue(&mut self, now_ns: u64) {
        let chosen_upto = self.log.chosen_upto();
        let leader = self.following.map(|following| following.ballot.replica());
        let Some((to, upto)) = self.fetch.source(chosen_upto, leader) else {
            self.fetch.open = None;
            return;
        };
        if self.fetch.open.is_some() || self.log.is_replaying() || self.log.is_full() {
            return;
        }
        self.fetch.open = Some(Question {
            to,
            retry_at_ns: now_ns + CATCH_UP_RETRY_NS,
        });
        self.journal.send(
            to,
            Message::CatchUp {
                from: chosen_upto.next(),
                upto,
            },
        );
    }

    pub(super) fn tick_fetch(&mut self, now_ns: u64) {
        if let Some(question) = self.fetch.open
            && question.retry_at_ns <= now_ns
        {
            self.fetch.open = None;
            self.fetch.silent = Some(question.to);
            self.pursue(now_ns);
        }
    }

    /// Chosen entries from a peer, as asked for or long ago.
    pub(super) fn on_entries(
        &mut self,
        now_ns: u64,
        from: ReplicaId,
        entries: Vec<LoggedEntry>,
        chosen_upto: Slot,
    ) {
        let before = self.log.chosen_upto();
        let nothing = entries.is_empty();
        for logged in entries {
            if !self.learn(now_ns, logged.slot, logged.entry) {
                break;
            }
        }
        let asked = self.fetch.open.is_some_and(|question| question.to == from);
        if nothing && asked {
            // It restarted and knows less than it claimed; it will know again.
            self.fetch.claims.insert(from, chosen_upto);
            self.fetch.silent = Some(from);
            self.fetch.open = None;
        } else {
            self.fetch.claim(from, chosen_upto);
        }
        if self.log.chosen_upto() > before {
            if asked {
                self.fetch.silent = None;
            }
            self.fetch.open = None;
        }
        self.pursue(now_ns);
        self.count_votes();
        self.lead_if_elected(now_ns);
    }

    /// The entry of `slot` is known to be chosen. False if it cannot be taken now.
    ///
    /// It is recorded under our promised ballot unless exactly this entry is held already: never
    /// under a lower one than before, since the acceptance that it replaces may be what keeps
    /// another value from being chosen; and a chosen value reported under a higher ballot than its
    /// own misleads nobody, since every later ballot carries the same value.
    fn learn(&mut self, now_ns: u64, slot: Slot, entry: Entry) -> bool {
        if slot <= self.log.chosen_upto() {
            let diverged = self.log.get(slot).is_some_and(|held| held.entry != entry);
            if diverged {
                self.stop(StopReason::Diverged { slot });
            }
            return !diverged;
        }
        if slot != self.log.chosen_upto().next() || self.log.is_replaying() || self.log.is_full() {
            return false;
        }
        let held = self.log.get(slot).is_some_and(|held| held.entry == entry);
        if !held {
            // Another leader's entry in a slot that is ours to propose: deposed, and never again may
            // a message under our ballot claim this slot.
            if matches!(self.role, Role::Leader(_)) {
                self.become_follower(now_ns);
            }
            self.record_accepted(self.promised, slot, entry, WATERMARK_LAG);
        }
        self.land_flight(slot);
        self.log.choose_next();
        true
    }

    pub(super) fn on_catch_up(&mut self, to: ReplicaId, from: Slot, upto: Slot) {
        let upto = upto.min(self.log.chosen_upto());
        if from >= self.log.start() || from > upto {
            self.serve_from_memory(to, from, upto);
            return;
        }
        let upto = upto.min(Slot(self.log.start().0 - 1));
        self.reads.waiting.insert(to, Range { from, upto });
        self.pump_log_reads();
    }

    fn serve_from_memory(&mut self, to: ReplicaId, from: Slot, upto: Slot) {
        let mut room = Room::default();
        let entries = (from.0..=upto.0)
            .map_while(|slot| {
                let slot = Slot(slot);
                let held = self
                    .log
                    .get(slot)
                    .expect("chosen slots above the start are held");
                room.take(&held.entry).then(|| LoggedEntry {
                    slot,
                    accepted: held.accepted,
                    entry: held.entry.clone(),
                })
            })
            .collect();
        self.send_entries(to, entries);
    }

    fn send_entries(&mut self, to: ReplicaId, entries: Vec<LoggedEntry>) {
        self.journal.send(
            to,
            Message::Entries {
                entries,
                chosen_upto: self.log.chosen_upto(),
                log_start: LOG_START,
            },
        );
    }

    /// Opens the next read of the WAL, if one is wanted and none is open.
    pub(super) fn pump_log_reads(&mut self) {
        if self.reads.open.is_some() {
            return;
        }
        let (range, purpose, bytes_max) = if self.log.is_replaying() && self.reads.replay.is_empty()
        {
            let range = Range {
                from: self.log.applied_upto().next(),
                upto: Slot(self.log.start().0 - 1),
            };
            (range, Purpose::Replay, REPLAY_CHUNK_BYTES_MAX)
        } else if let Some((to, range)) = self.reads.waiting.pop_first() {
            (range, Purpose::Serve { to }, FRAME_PAYLOAD_MAX)
        } else {
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

    /// What the WAL held. Too little is a fault of the log: the slots were durable.
    pub(super) fn take_log_read(&mut self, from: Slot, mut entries: Vec<LoggedEntry>) {
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
        if entries.is_empty() {
            self.stop(StopReason::LogLost { slot: from });
            return;
        }
        match purpose {
            Purpose::Replay => self.reads.replay.extend(entries),
            Purpose::Serve { to } => {
                let mut room = Room::default();
                let fitting = entries
                    .iter()
                    .take_while(|logged| room.take(&logged.entry))
                    .count();
                entries.truncate(fitting);
                self.send_entries(to, entries);
            }
        }
        self.pump_log_reads();
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
