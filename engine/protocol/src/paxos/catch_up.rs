//! Holes: asking peers for chosen entries, serving them, and replaying the own log after a start.
//!
//! A replica that knows of chosen slots it cannot prove asks one peer at a time for the next range,
//! and the next peer when no answer comes. Any replica serves, from memory or through a read of its
//! WAL. One read of the WAL is open at a time; the own replay goes first, then one waiting request
//! per peer.
//!
//! A chosen slot whose own record is lost (see `lost`) is asked for before anything else, of everybody
//! in turn. Who cannot give the first slot of a question as chosen, since its record is lost there, too,
//! or is not known to be chosen, reports what it has. A report is no proof by itself; reports of enough
//! members are (see `choice`). So an entry is found as long as one good copy is among the members that
//! answer and they are a quorum; if it cannot be found among all, the replica stops and names the slot.
//!
//! Reports need no flush: the slot is chosen, so whatever a later leader proposed there, durable or
//! not, is the same entry. A question is asked only for a slot that is chosen, so no report is older
//! than that.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::choice::Choice;
use super::consensus::{Consensus, Role};
use super::journal::Effect;
use super::message::{LoggedEntry, Message, SlotRecord, SlotReport};
use super::quorum::ReplicaSet;
use crate::config::LostRecord;
use crate::entry::Entry;
use crate::ids::{ReplicaId, Slot};
use crate::limits::{FRAME_PAYLOAD_MAX, WINDOW_MAX};
use crate::output::StopReason;
use crate::planted::{Bug, planted};
use crate::time::MS;

/// How long an asked peer has to answer before the next one is asked; and how long nobody is asked
/// once everybody has answered in vain.
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
    /// A checkpoint of some peer covers all slots up to here.
    covered_upto: Slot,
    claims: BTreeMap<ReplicaId, Slot>,
    open: Option<Question>,
    /// Who did not answer last.
    silent: Option<ReplicaId>,
    /// The slot that the reports are about.
    reported: Slot,
    reports: BTreeMap<ReplicaId, SlotRecord>,
    /// Who has reported since somebody was last silent, and is not asked just now. A report goes on
    /// counting beyond that, but who gave it may have got the entry meanwhile.
    told: ReplicaSet,
    /// Everybody has reported in vain; when to ask again.
    again_at_ns: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Question {
    to: ReplicaId,
    retry_at_ns: u64,
}

/// A chosen slot that is missing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// The first above `chosen_upto`.
    Next(Slot),
    /// One whose record is lost.
    Lost(Slot),
}

impl Wanted {
    fn slot(self) -> Slot {
        match self {
            Self::Next(slot) | Self::Lost(slot) => slot,
        }
    }
}

impl Fetch {
    /// `peer` knows that all slots up to `upto` are chosen.
    pub(super) fn claim(&mut self, peer: ReplicaId, upto: Slot) {
        let claim = self.claims.entry(peer).or_default();
        *claim = upto.max(*claim);
    }

    pub(super) fn retry_at_ns(&self) -> Option<u64> {
        let open = self.open.map(|question| question.retry_at_ns);
        [open, self.again_at_ns].into_iter().flatten().min()
    }

    /// The highest slot that somebody says is chosen.
    pub(super) fn claimed_upto(&self) -> Slot {
        self.claims.values().copied().max().unwrap_or_default()
    }

    /// Whether somebody says that `slot` is chosen.
    fn is_claimed(&self, slot: Slot) -> bool {
        self.claims.values().any(|&upto| upto >= slot)
    }

    /// Forgets reports on other slots than `wanted`.
    fn turn_to(&mut self, wanted: Slot) {
        if self.reported != wanted {
            self.reported = wanted;
            self.reports.clear();
            self.told = ReplicaSet::default();
            self.again_at_ns = None;
        }
    }

    /// Whom to ask for what is wanted, and up to where: the leader if it has it and answers, else the
    /// peers in turn, but nobody who has just reported on it. Who does not claim to have it is asked if
    /// it is lost somewhere: any copy may be the last.
    fn source(
        &self,
        wanted: Wanted,
        peers: &[ReplicaId],
        leader: Option<ReplicaId>,
    ) -> Option<(ReplicaId, Slot)> {
        let slot = wanted.slot();
        let somewhere_lost = matches!(wanted, Wanted::Lost(_))
            || (self.reports.values()).any(|record| matches!(record, SlotRecord::Lost { .. }));
        let has = |peer: &ReplicaId| {
            if self.told.contains(*peer) {
                return None;
            }
            match (wanted, self.claims.get(peer)) {
                (Wanted::Next(_), Some(&upto)) if upto >= slot => Some((*peer, upto)),
                _ => somewhere_lost.then_some((*peer, slot)),
            }
        };
        if let Some(leader) = leader
            && self.silent != Some(leader)
            && let Some(found) = has(&leader)
        {
            return Some(found);
        }
        let after = self.silent.unwrap_or(ReplicaId(0));
        let later = peers.iter().filter(|&&peer| peer > after);
        let earlier = peers.iter().filter(|&&peer| peer <= after);
        later.chain(earlier).find_map(has)
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
    /// The chosen slot to fetch next, if one is known to be missing and there is room for it.
    fn wanted(&self) -> Option<Wanted> {
        if !self.may_learn() {
            return None;
        }
        let chosen_upto = self.log.chosen_upto();
        // What a checkpoint of another replica covers is in no log any more, and who has applied it does
        // not need it: a start that does takes that checkpoint.
        let needless_upto = self.fetch.covered_upto.min(self.log.applied_upto());
        let mut lost = self.lost.within(..=chosen_upto);
        if let Some((slot, _)) = lost.find(|(slot, _)| *slot > needless_upto) {
            return Some(Wanted::Lost(slot));
        }
        let next = chosen_upto.next();
        let room = !self.log.is_replaying() && !self.log.is_full();
        (room && self.fetch.is_claimed(next)).then_some(Wanted::Next(next))
    }

    /// Asks for what is missing below the highest `chosen_upto` that a peer claimed, unless a
    /// question is open.
    pub(super) fn pursue(&mut self, now_ns: u64) {
        let Some(wanted) = self.wanted() else {
            self.fetch.open = None;
            return;
        };
        self.fetch.turn_to(wanted.slot());
        if self.fetch.open.is_some() || self.fetch.again_at_ns.is_some() {
            return;
        }
        let leader = self.following.map(|following| following.ballot.replica());
        let source = self.fetch.source(wanted, &self.settings.peers, leader);
        let Some((to, upto)) = source else {
            self.settle_reports(now_ns, wanted);
            return;
        };
        self.fetch.open = Some(Question {
            to,
            retry_at_ns: now_ns + CATCH_UP_RETRY_NS,
        });
        let from = wanted.slot();
        self.journal.send(to, Message::CatchUp { from, upto });
    }

    pub(super) fn tick_fetch(&mut self, now_ns: u64) {
        if self.fetch.again_at_ns.is_some_and(|at_ns| at_ns <= now_ns) {
            self.fetch.again_at_ns = None;
            self.fetch.reports.clear();
            self.fetch.told = ReplicaSet::default();
            self.pursue(now_ns);
        }
        if let Some(question) = self.fetch.open
            && question.retry_at_ns <= now_ns
        {
            self.fetch.open = None;
            self.fetch.silent = Some(question.to);
            // It may never answer again, and those before it may have learnt the entry meanwhile.
            self.fetch.told = ReplicaSet::default();
            self.pursue(now_ns);
        }
    }

    /// Chosen entries from a peer, as asked for or long ago, or its report on the slot asked for.
    pub(super) fn on_entries(
        &mut self,
        now_ns: u64,
        from: ReplicaId,
        entries: Vec<LoggedEntry>,
        chosen_upto: Slot,
        report: Option<SlotReport>,
    ) {
        let before = self.wanted();
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
        if let Some(report) = report {
            self.take_report(now_ns, from, report);
        }
        if self.wanted() != before {
            if asked {
                self.fetch.silent = None;
            }
            self.fetch.open = None;
        }
        self.pursue(now_ns);
        self.count_votes();
        self.lead_if_elected(now_ns);
    }

    /// A peer's log starts at `log_start`, since a checkpoint covers what is below: if that is above what
    /// is wanted, only that checkpoint helps. The question stays open until its time is up: nobody is
    /// asked again before.
    pub(super) fn want_snapshot(&mut self, from: ReplicaId, log_start: Slot) -> bool {
        let covered_upto = Slot(log_start.0.saturating_sub(1));
        self.fetch.covered_upto = self.fetch.covered_upto.max(covered_upto);
        let helps = self
            .wanted()
            .is_some_and(|wanted| wanted.slot() < log_start);
        if helps {
            self.journal.push(Effect::WantSnapshot { from });
        }
        helps
    }

    /// A peer cannot give the slot as chosen and says what it has instead.
    fn take_report(&mut self, now_ns: u64, from: ReplicaId, report: SlotReport) {
        let Some(wanted) = self.wanted().filter(|wanted| wanted.slot() == report.slot) else {
            return;
        };
        self.fetch.turn_to(wanted.slot());
        self.fetch.reports.insert(from, report.record);
        self.fetch.told.insert(from);
        self.settle_reports(now_ns, wanted);
    }

    /// Takes the wanted entry if the reports prove it. If everybody has reported and they do not, it
    /// is gone; otherwise everybody is asked again after a while.
    fn settle_reports(&mut self, now_ns: u64, wanted: Wanted) {
        let slot = wanted.slot();
        let mut tally = self.own_tally(slot);
        for record in self.fetch.reports.values() {
            tally.add(record);
        }
        let members = self.settings.members();
        match tally.choice(members, self.settings.quorum) {
            Choice::Entry(entry) => {
                let entry = entry.clone();
                self.learn(now_ns, slot, entry);
            }
            Choice::Open | Choice::Free | Choice::Gone if self.fetch.told.len() + 1 < members => {
                let leader = self.following.map(|following| following.ballot.replica());
                let peers = &self.settings.peers;
                if self.fetch.source(wanted, peers, leader).is_none() {
                    self.fetch.again_at_ns = Some(now_ns + CATCH_UP_RETRY_NS);
                }
            }
            // The slot is chosen, so that nobody has it means the same as that nobody has it any more.
            Choice::Open | Choice::Free | Choice::Gone => {
                self.stop(StopReason::CopiesLost { slot });
            }
        }
    }

    /// The entry of `slot` is known to be chosen. False if it cannot be taken now.
    ///
    /// It is recorded under our promised ballot unless exactly this entry is held already: never
    /// under a lower one than before, since the acceptance that it replaces may be what keeps
    /// another value from being chosen; and a chosen value reported under a higher ballot than its
    /// own misleads nobody, since every later ballot carries the same value.
    fn learn(&mut self, now_ns: u64, slot: Slot, entry: Entry) -> bool {
        if slot <= self.log.chosen_upto() {
            if let Some(accepted) = self.lost.accepted(slot) {
                assert!(accepted <= self.promised);
                let seq = self.journal.log_accepted(self.promised, slot, entry);
                self.lost.replace(slot, self.promised, seq);
                return true;
            }
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
        if from > self.log.chosen_upto() {
            // Chosen, says who asks; not known here.
            let report = self.own_report(from);
            self.send_entries(to, Vec::new(), Some(report));
            return;
        }
        if from >= self.log.start() {
            self.serve_from_memory(to, from, upto);
            return;
        }
        if from > upto {
            return;
        }
        if from < self.log.wal_start() {
            // Nothing but `log_start` can be said of it.
            self.send_entries(to, Vec::new(), None);
            return;
        }
        let upto = upto.min(Slot(self.log.start().0 - 1));
        self.reads.waiting.insert(to, Range { from, upto });
        self.pump_log_reads();
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
        self.send_entries(to, entries, None);
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

    /// Opens the next read of the WAL, if one is wanted and none is open.
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
        Some((range, Purpose::Replay, REPLAY_CHUNK_BYTES_MAX))
    }

    fn next_serve(&mut self) -> Option<(Range, Purpose, usize)> {
        while let Some((to, range)) = self.reads.waiting.pop_first() {
            if range.from < self.log.wal_start() {
                self.send_entries(to, Vec::new(), None);
                continue;
            }
            if let Some(range) = self.readable(range) {
                return Some((range, Purpose::Serve { to }, FRAME_PAYLOAD_MAX));
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
                let mut room = Room::default();
                let fitting = entries
                    .iter()
                    .take_while(|logged| room.take(&logged.entry))
                    .count();
                entries.truncate(fitting);
                self.send_entries(to, entries, None);
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
