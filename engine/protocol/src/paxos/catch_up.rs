//! Holes: asking peers for chosen entries.
//!
//! A replica that knows of chosen slots it cannot prove asks one peer at a time for them, and the next peer
//! when no answer comes. Two questions are open at once, each for as many slots as a leader has in flight:
//!
//! ```text
//! leader     ------- PIPELINE_MAX slots in a round trip -------> chosen
//! catch-up   --- QUESTIONS_MAX x PIPELINE_MAX in a round trip -> learnt
//! ```
//!
//! So whoever is behind gains on its group, whatever the load and however far apart they are, as long as
//! its own disk and link have room for twice what the group does.
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
use crate::entry::Entry;
use crate::ids::{ReplicaId, Slot};
use crate::limits::{ENTRY_BYTES_MAX, LOG_TAIL_BYTES_MAX, PIPELINE_MAX, WINDOW_MAX};
use crate::output::StopReason;
use crate::time::MS;

/// How long an asked peer has to answer before the next one is asked; and how long nobody is asked
/// once everybody has answered in vain.
pub(super) const CATCH_UP_RETRY_NS: u64 = 250 * MS;
/// Questions that are open at once: one is answered while the next is on its way.
pub(super) const QUESTIONS_MAX: usize = 2;
/// Slots of one question.
pub(super) const QUESTION_SLOTS_MAX: usize = 8;
const _: () = assert!(QUESTION_SLOTS_MAX as u64 >= PIPELINE_MAX);
/// Slots of all answers that may be on their way.
const ANSWERED_SLOTS_MAX: usize = QUESTIONS_MAX * QUESTION_SLOTS_MAX;
const _: () = assert!(ANSWERED_SLOTS_MAX * ENTRY_BYTES_MAX <= LOG_TAIL_BYTES_MAX / 2);
/// Fetched entries between two watermark records. Below the window: see `record_accepted`.
const WATERMARK_LAG: u64 = WINDOW_MAX / 2;

/// The last slot that a question from `from` on may be for.
pub(super) fn last_of_question(from: Slot) -> Slot {
    Slot(from.0.saturating_add(QUESTION_SLOTS_MAX as u64 - 1))
}

/// What peers are known to have, and the open questions to one of them.
#[derive(Debug, Default)]
pub(super) struct Fetch {
    /// A checkpoint of some peer covers all slots up to here.
    covered_upto: Slot,
    claims: BTreeMap<ReplicaId, Slot>,
    open: Option<Questions>,
    /// Chosen entries that came before those of slots below: of the next [`ANSWERED_SLOTS_MAX`] slots.
    early: BTreeMap<Slot, Entry>,
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

/// Slots, inclusive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) from: Slot,
    pub(super) upto: Slot,
}

/// To one peer.
#[derive(Debug)]
struct Questions {
    to: ReplicaId,
    /// Not answered in full yet; ascending.
    ranges: VecDeque<Range>,
    retry_at_ns: u64,
}

impl Questions {
    /// Whether nothing is open any more: all slots below `slot` are here.
    fn is_answered_below(&mut self, slot: Slot) -> bool {
        self.ranges.retain(|range| range.upto >= slot);
        self.ranges.is_empty()
    }
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
        let open = self.open.as_ref().map(|open| open.retry_at_ns);
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

    /// All slots up to here are chosen, says `peer`.
    fn claim_of(&self, peer: ReplicaId) -> Slot {
        self.claims.get(&peer).copied().unwrap_or_default()
    }

    /// The first slot from `missing` on that no open question asks for, if another may be asked.
    fn next_unasked(&self, missing: Slot) -> Option<Slot> {
        let Some(open) = &self.open else {
            return Some(missing);
        };
        let behind = open.ranges.back().map_or(missing, |last| last.upto.next());
        (open.ranges.len() < QUESTIONS_MAX).then_some(behind.max(missing))
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

impl Consensus {
    /// The chosen slot to fetch next, if one is known to be missing.
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
        let wanted = !self.log.is_replaying() && self.fetch.is_claimed(next);
        wanted.then_some(Wanted::Next(next))
    }

    /// Asks for what is missing below the highest `chosen_upto` that a peer claimed, as far as no open
    /// question does.
    pub(super) fn pursue(&mut self, now_ns: u64) {
        let Some(wanted) = self.wanted() else {
            self.fetch.open = None;
            self.fetch.early.clear();
            return;
        };
        self.fetch.turn_to(wanted.slot());
        if self.fetch.again_at_ns.is_some() {
            return;
        }
        if let Wanted::Next(slot) = wanted {
            self.fetch.open.take_if(|open| open.is_answered_below(slot));
            // Apply lags: nothing more is asked for than it can follow.
            if !self.log.apply_follows() {
                return;
            }
        } else if self.fetch.open.is_some() {
            // One at a time.
            return;
        }
        let (to, known_upto) = match &self.fetch.open {
            Some(open) => (open.to, self.fetch.claim_of(open.to)),
            None => {
                let leader = self.following.map(|following| following.ballot.replica());
                let source = self.fetch.source(wanted, &self.settings.peers, leader);
                let Some(found) = source else {
                    self.settle_reports(now_ns, wanted);
                    return;
                };
                found
            }
        };
        match wanted {
            Wanted::Lost(from) => {
                self.ask(now_ns, to, from, known_upto);
            }
            Wanted::Next(slot) => {
                let upto = known_upto.min(self.last_unproved(slot));
                while let Some(from) = self.fetch.next_unasked(slot)
                    && from <= upto
                {
                    self.ask(now_ns, to, from, upto);
                }
            }
        }
    }

    /// The slot before the first one above `missing` that only needs those below it to be proved: the
    /// leader whom this replica follows proposed it.
    fn last_unproved(&self, missing: Slot) -> Slot {
        let Some(following) = self.following else {
            return Slot(u64::MAX);
        };
        let mut held = self.log.above(missing);
        let proved = held.find(|(_, held)| held.accepted == following.ballot);
        proved.map_or(Slot(u64::MAX), |(slot, _)| Slot(slot.0 - 1))
    }

    fn ask(&mut self, now_ns: u64, to: ReplicaId, from: Slot, upto: Slot) {
        let upto = upto.min(last_of_question(from));
        let open = self.fetch.open.get_or_insert_with(|| Questions {
            to,
            ranges: VecDeque::new(),
            retry_at_ns: now_ns + CATCH_UP_RETRY_NS,
        });
        open.ranges.push_back(Range { from, upto });
        self.journal.send(to, Message::CatchUp { from, upto });
    }

    pub(super) fn tick_fetch(&mut self, now_ns: u64) {
        if self.fetch.again_at_ns.is_some_and(|at_ns| at_ns <= now_ns) {
            self.fetch.again_at_ns = None;
            self.fetch.reports.clear();
            self.fetch.told = ReplicaSet::default();
            self.pursue(now_ns);
        }
        if let Some(open) = (self.fetch.open).take_if(|open| open.retry_at_ns <= now_ns) {
            self.fetch.silent = Some(open.to);
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
            self.take_entry(now_ns, logged.slot, logged.entry);
        }
        let asked = (self.fetch.open.as_ref()).is_some_and(|open| open.to == from);
        if nothing && asked {
            // It restarted and knows less than it claimed; it will know again.
            self.fetch.claims.insert(from, chosen_upto);
            self.fetch.silent = Some(from);
            let gives_reason =
                report.is_some() || before.is_none_or(|wanted| wanted.slot() > chosen_upto);
            // Without a reason it would be asked again at once, twice for each of its answers: the questions stay
            // open until their time is up.
            if gives_reason {
                self.fetch.open = None;
            }
        } else {
            self.fetch.claim(from, chosen_upto);
        }
        if let Some(report) = report {
            self.take_report(now_ns, from, report);
        }
        let wanted = self.wanted();
        if wanted != before {
            if asked {
                self.fetch.silent = None;
            }
            match (wanted, &mut self.fetch.open) {
                (Some(Wanted::Next(_)), Some(open)) => {
                    open.retry_at_ns = now_ns + CATCH_UP_RETRY_NS
                }
                (_, open) => *open = None,
            }
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

    /// The entry of `slot` is chosen: learns it and those that came before it, or keeps it until it is its turn.
    fn take_entry(&mut self, now_ns: u64, slot: Slot, entry: Entry) {
        let next = self.log.chosen_upto().next();
        if slot > next {
            if slot.0 - next.0 < ANSWERED_SLOTS_MAX as u64 {
                self.fetch.early.insert(slot, entry);
            }
            return;
        }
        let mut learnt = self.learn(now_ns, slot, entry);
        while learnt
            && !self.log.is_full()
            && let Some(early) = self.fetch.early.first_entry()
            && *early.key() <= self.log.chosen_upto().next()
        {
            let (slot, entry) = early.remove_entry();
            learnt = self.learn(now_ns, slot, entry);
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
}
