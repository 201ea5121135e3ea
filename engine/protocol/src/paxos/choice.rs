//! The choice: what may be, or is, decided for one slot, by what acceptors report of it.
//!
//! A report is what an acceptor has accepted for the slot under its highest ballot: the entry, or,
//! if that record is lost, the ballot alone. Reports are used in two places: by a candidate, from
//! acceptors that promised its ballot and so accept nothing below it any more; and by a replica that
//! looks for an entry that is known to be chosen, from anybody.
//!
//! # The rule, and why it holds
//!
//! Let `m` be the highest ballot of an entry reported, zero if there is none; let `lost` be the number
//! of reports that name only a ballot above `m`; let `silent` be the number of members without a
//! report. **If `lost + silent` is less than a quorum, the entry of `m` is the choice; without any
//! entry the slot is free.** Otherwise more reports are needed; if there are none to come, copies of
//! what may have been acknowledged are lost, and nobody may guess.
//!
//! - Suppose an entry `w` was chosen under a ballot `b` (below the candidate's; a candidate's acceptors
//!   were asked before anything could be chosen above it). A quorum accepted `w` under `b`. An
//!   acceptor's ballot for a slot never falls, so each member of that quorum is silent or reports a
//!   ballot of at least `b`.
//! - If `b > m`, each of them is silent or reports a lost ballot of at least `b`, that is, above `m`:
//!   `lost + silent` is a quorum at least. So under the rule `b <= m`. Without any entry (`m` is zero)
//!   there is no such `b`: nothing is chosen, and no-one will choose anything below the candidate.
//! - With `b <= m`: the entry of `m` was either proposed by the leader of `m` or written as learnt. The
//!   leader of a ballot not below `b` proposes `w` and nothing else (the usual induction: its own
//!   phase 1 followed this rule). What is written as learnt is chosen, so it is `w`. Two entries
//!   under one ballot can differ only if one was learnt and chosen above that ballot, which the
//!   rule has just excluded.
//!
//! A lost ballot may be given too high: that only makes the rule ask for more. It must never be too
//! low. Without losses the rule is the usual one: reports of a quorum, highest ballot wins.

use alloc::vec::Vec;

use super::message::SlotRecord;
use crate::entry::Entry;
use crate::ids::Ballot;
use crate::planted::{Bug, planted};

/// What the reports on one slot amount to.
#[derive(Debug, PartialEq)]
pub(super) enum Choice<'a> {
    /// This entry, and no other, may be chosen (or is, if something is known to be).
    Entry(&'a Entry),
    /// Nothing was chosen.
    Free,
    /// More reports are needed.
    Open,
    /// Everybody has reported, and it cannot be told.
    Gone,
}

/// The reports on one slot, counted.
#[derive(Debug, Default)]
pub(super) struct Tally<'a> {
    entry: Option<(Ballot, &'a Entry)>,
    lost: Vec<Ballot>,
    reports: usize,
}

impl<'a> Tally<'a> {
    /// One member's report. A member reports once.
    pub(super) fn add(&mut self, record: &'a SlotRecord) {
        match record {
            SlotRecord::Nothing => self.add_nothing(),
            SlotRecord::Lost { accepted } => self.add_lost(*accepted),
            SlotRecord::Accepted { accepted, entry } => self.add_entry(*accepted, entry),
        }
    }

    pub(super) fn add_nothing(&mut self) {
        self.reports += 1;
    }

    pub(super) fn add_lost(&mut self, accepted: Ballot) {
        self.reports += 1;
        if !planted(Bug::LostCountsAsAbsent) {
            self.lost.push(accepted);
        }
    }

    pub(super) fn add_entry(&mut self, accepted: Ballot, entry: &'a Entry) {
        self.reports += 1;
        let lowest_wins = planted(Bug::LowestBallotWins);
        if self
            .entry
            .is_none_or(|(highest, _)| (highest < accepted) != lowest_wins)
        {
            self.entry = Some((accepted, entry));
        }
    }

    /// What a group of so many members, of which `quorum` decide, has chosen or may choose.
    pub(super) fn choice(&self, members: usize, quorum: usize) -> Choice<'a> {
        assert!(self.reports <= members, "a member reports once");
        let highest = self.entry.map_or(Ballot::ZERO, |(highest, _)| highest);
        let lost = self.lost.iter().filter(|&&lost| lost > highest).count();
        let silent = members - self.reports;
        if lost + silent >= quorum {
            return match silent {
                0 => Choice::Gone,
                _ => Choice::Open,
            };
        }
        match self.entry {
            Some((_, entry)) => Choice::Entry(entry),
            None => Choice::Free,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ReplicaId;
    use crate::time::Timestamp;

    fn ballot(round: u64) -> Ballot {
        Ballot::new(round, ReplicaId(1))
    }

    fn entry(round: u64) -> Entry {
        Entry::noop(ballot(round), Timestamp(round))
    }

    fn accepted(round: u64) -> SlotRecord {
        SlotRecord::Accepted {
            accepted: ballot(round),
            entry: entry(round),
        }
    }

    fn lost(round: u64) -> SlotRecord {
        SlotRecord::Lost {
            accepted: ballot(round),
        }
    }

    /// The rounds of what three members report, and the outcome: the round of an entry.
    fn of_three(reports: &[SlotRecord]) -> Result<u64, &'static str> {
        let mut tally = Tally::default();
        for report in reports {
            tally.add(report);
        }
        match tally.choice(3, 2) {
            Choice::Entry(entry) => Ok(entry.origin().round()),
            Choice::Free => Err("free"),
            Choice::Open => Err("open"),
            Choice::Gone => Err("gone"),
        }
    }

    #[test]
    fn without_losses_a_quorum_decides_and_the_highest_ballot_wins() {
        use SlotRecord::Nothing;
        assert_eq!(of_three(&[accepted(1)]), Err("open"));
        assert_eq!(of_three(&[accepted(1), accepted(2)]), Ok(2));
        assert_eq!(of_three(&[accepted(1), Nothing]), Ok(1));
        assert_eq!(of_three(&[Nothing, Nothing]), Err("free"));
        assert_eq!(of_three(&[accepted(3), Nothing, accepted(1)]), Ok(3));
    }

    #[test]
    fn a_lost_record_is_no_absent_one() {
        use SlotRecord::Nothing;
        // It and the silent third may have chosen what nobody here has seen.
        assert_eq!(of_three(&[lost(2), Nothing]), Err("open"));
        assert_eq!(of_three(&[lost(2), accepted(1)]), Err("open"));
        // The third has not accepted it: one vote decides nothing.
        assert_eq!(of_three(&[lost(2), Nothing, Nothing]), Err("free"));
        assert_eq!(of_three(&[lost(2), accepted(1), Nothing]), Ok(1));
        // An entry of its ballot, or of a later one, is what it was.
        assert_eq!(of_three(&[lost(2), accepted(2)]), Ok(2));
        assert_eq!(of_three(&[lost(2), accepted(3)]), Ok(3));
        assert_eq!(of_three(&[lost(2), Nothing, accepted(2)]), Ok(2));
    }

    #[test]
    fn a_quorum_of_lost_copies_is_gone() {
        use SlotRecord::Nothing;
        assert_eq!(of_three(&[lost(2), lost(2)]), Err("open"));
        assert_eq!(of_three(&[lost(2), lost(2), Nothing]), Err("gone"));
        assert_eq!(of_three(&[lost(2), lost(3), accepted(1)]), Err("gone"));
        assert_eq!(of_three(&[lost(2), lost(3), accepted(2)]), Ok(2));
        assert_eq!(of_three(&[lost(2), lost(3), accepted(3)]), Ok(3));
    }

    /// Every history of two ballots at three members: whatever a quorum accepted is what the rule
    /// gives, or it asks for more; it never gives another entry and never calls the slot free.
    #[test]
    fn no_set_of_reports_hides_a_chosen_entry() {
        // What leads a ballot proposes what was chosen before.
        for members_of_first in 0..8_u32 {
            for members_of_second in 0..8_u32 {
                let chosen_first = members_of_first.count_ones() >= 2;
                let chosen_second = members_of_second.count_ones() >= 2;
                let second = if chosen_first { 1 } else { 2 };
                let newest = |member: u32| {
                    let mask = 1 << member;
                    if members_of_second & mask != 0 {
                        Some((2, second))
                    } else if members_of_first & mask != 0 {
                        Some((1, 1))
                    } else {
                        None
                    }
                };
                for damaged in 0..8_u32 {
                    for heard in 0..8_u32 {
                        let reports: Vec<SlotRecord> = (0..3)
                            .filter(|member| heard & (1 << member) != 0)
                            .map(|member| match newest(member) {
                                None => SlotRecord::Nothing,
                                Some((round, _)) if damaged & (1 << member) != 0 => lost(round),
                                Some((round, value)) => SlotRecord::Accepted {
                                    accepted: ballot(round),
                                    entry: entry(value),
                                },
                            })
                            .collect();
                        let found = of_three(&reports);
                        if chosen_first || chosen_second {
                            let chosen = if chosen_first { 1 } else { 2 };
                            assert!(
                                matches!(found, Err("open" | "gone")) || found == Ok(chosen),
                                "{reports:?}: {found:?}"
                            );
                        }
                        let intact = damaged & heard == 0;
                        if intact && heard.count_ones() >= 2 {
                            assert!(!matches!(found, Err("open" | "gone")), "{reports:?}");
                        }
                        if damaged.count_ones() <= 1 && heard == 7 {
                            assert!(!matches!(found, Err("open" | "gone")), "{reports:?}");
                        }
                    }
                }
            }
        }
    }
}
