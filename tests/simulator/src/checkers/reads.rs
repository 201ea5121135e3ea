//! Reads: each value that was read is the state after some number of effects, and real time agrees.
//!
//! All effects on one account are totally ordered (slots of its shard, and through moves the slots of
//! one shard after those of another). Amounts are positive, so a pair of sums names one position in
//! that order at most. A read at position p must come after every transfer that was acknowledged
//! before the read started, before every transfer that started after it ended, and not before an
//! earlier read. Effects themselves follow real time as well. Together: single accounts are
//! linearizable (Herlihy and Wing, 1990).

use std::collections::BTreeMap;

use quorate_protocol::ids::{AccountId, TransferId};
use quorate_protocol::ledger::{AccountFlags, CodeKind};

use super::records::{Effect, Records};
use super::{FinalState, Violation};
use crate::history::{History, ReadUse};

/// When a transfer id was first sent and first acknowledged as done.
#[derive(Clone, Copy, Debug)]
struct Span {
    started_ns: u64,
    acknowledged_ns: u64,
}

/// Places every read in the order of effects.
pub fn check(
    history: &History,
    state: &FinalState,
    records: &Records,
    violations: &mut Vec<Violation>,
) {
    let spans = spans(history);
    let mut report = |account, text: String| {
        violations.push(Violation {
            checker: "reads",
            text: format!("account {account}: {text}"),
        });
    };
    for (&account, effects) in &records.effects {
        if let Err(text) = check_effects(effects, &spans) {
            report(account, text);
        }
    }
    let mut by_account: BTreeMap<AccountId, Vec<&ReadUse>> = BTreeMap::new();
    for read in history.reads.iter().filter(|read| read.answer.is_some()) {
        by_account.entry(read.account).or_default().push(read);
    }
    for (account, reads) in by_account {
        let effects = records.effects_on(account);
        if let Err(text) = check_account(&reads, effects, &spans) {
            report(account, text);
        }
        if let Err(text) = check_existence(&reads, history, state) {
            report(account, text);
        }
    }
}

fn spans(history: &History) -> BTreeMap<TransferId, Span> {
    let mut spans: BTreeMap<TransferId, Span> = BTreeMap::new();
    for transfer_use in &history.transfers {
        let Some(started_ns) = transfer_use.started_ns else {
            continue;
        };
        let acknowledged_ns = transfer_use
            .answer
            .filter(|answer| answer.code.kind() == CodeKind::Success)
            .map_or(u64::MAX, |answer| answer.at_ns);
        let span = spans.entry(transfer_use.transfer.id).or_insert(Span {
            started_ns,
            acknowledged_ns,
        });
        span.started_ns = span.started_ns.min(started_ns);
        span.acknowledged_ns = span.acknowledged_ns.min(acknowledged_ns);
    }
    spans
}

/// One slot's effects on the account: reads see all of them or none.
fn slots(effects: &[Effect]) -> impl Iterator<Item = &[Effect]> {
    effects.chunk_by(|a, b| (a.shard, a.slot) == (b.shard, b.slot))
}

/// A transfer that was acknowledged before another one started has its effect first. (The credit leg
/// of a cross-shard transfer is posted after the decision; reads wait for it, other effects do not.)
fn check_effects(effects: &[Effect], spans: &BTreeMap<TransferId, Span>) -> Result<(), String> {
    let mut latest: Option<(u64, TransferId)> = None;
    for group in slots(effects) {
        for effect in group.iter().filter(|effect| !effect.posted_later) {
            let Some(span) = spans.get(&effect.id) else {
                continue;
            };
            if let Some((started_ns, id)) = latest
                && span.acknowledged_ns < started_ns
            {
                return Err(format!(
                    "transfer {} was acknowledged at {} ns and took effect after {id}, which \
                     started at {started_ns} ns",
                    effect.id, span.acknowledged_ns
                ));
            }
        }
        let started = group.iter().filter_map(|effect| {
            let span = spans.get(&effect.id)?;
            Some((span.started_ns, effect.id))
        });
        latest = latest.into_iter().chain(started).max();
    }
    Ok(())
}

fn check_account(
    reads: &[&ReadUse],
    effects: &[Effect],
    spans: &BTreeMap<TransferId, Span>,
) -> Result<(), String> {
    let timeline = Timeline::new(effects, spans);
    // (ended, position), to compare each read with those that ended before it started.
    let mut placed: Vec<(u64, u64, usize)> = Vec::new();
    for read in reads {
        let answer = read.answer.as_ref().expect("filtered by the caller");
        let Some(account) = &answer.account else {
            continue;
        };
        let sums = (account.debits_posted, account.credits_posted);
        let limited = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
        if account.flags.contains(limited) && sums.0 > sums.1 {
            return Err(format!("a read saw it overdrawn: {sums:?}"));
        }
        let told = format!(
            "a read from {} to {} ns saw {sums:?}",
            read.started_ns, answer.at_ns
        );
        let position = timeline
            .position(sums)
            .ok_or_else(|| format!("{told}, which it never was"))?;
        let (least, most) = timeline.bounds(read.started_ns, answer.at_ns);
        if position < least {
            return Err(format!(
                "{told}: position {position}, though {least} slots were acknowledged before (stale)"
            ));
        }
        if position > most {
            return Err(format!(
                "{told}: position {position}, though only {most} slots can have been started"
            ));
        }
        placed.push((read.started_ns, answer.at_ns, position));
    }
    check_order(placed)
}

/// No read sees less than one that ended before it started.
fn check_order(mut by_start: Vec<(u64, u64, usize)>) -> Result<(), String> {
    let mut by_end: Vec<(u64, usize)> = by_start.iter().map(|read| (read.1, read.2)).collect();
    by_start.sort_unstable();
    by_end.sort_unstable();
    let mut ended = by_end.into_iter().peekable();
    let mut seen = 0;
    for (started_ns, _, position) in by_start {
        while let Some((_, earlier)) = ended.next_if(|(end_ns, _)| *end_ns < started_ns) {
            seen = seen.max(earlier);
        }
        if position < seen {
            return Err(format!(
                "a read that started at {started_ns} ns saw position {position}, an earlier one {seen}"
            ));
        }
    }
    Ok(())
}

/// An account that was acknowledged as created is found by every later read.
fn check_existence(
    reads: &[&ReadUse],
    history: &History,
    state: &FinalState,
) -> Result<(), String> {
    let account = reads[0].account;
    let created_ns = history
        .creations
        .iter()
        .filter(|creation| creation.account.id == account)
        .filter_map(|creation| creation.answer)
        .filter(|answer| answer.code.kind() == CodeKind::Success)
        .map(|answer| answer.at_ns)
        .min();
    let exists = state.accounts.iter().any(|(_, kept)| kept.id == account);
    for read in reads {
        let answer = read.answer.as_ref().expect("filtered by the caller");
        let found = answer.account.is_some();
        if found && !exists {
            return Err("a read found it, at the end it does not exist".to_owned());
        }
        if !found && created_ns.is_some_and(|at_ns| at_ns < read.started_ns) {
            return Err(format!(
                "a read at {} ns did not find it, though it had been created",
                read.started_ns
            ));
        }
    }
    Ok(())
}

/// The states of one account, one per slot that touched it.
struct Timeline {
    /// Sums (debits, credits) after n slots -> n.
    positions: BTreeMap<(u128, u128), usize>,
    /// Per slot: earliest acknowledgement and earliest start of its transfers.
    acknowledged_ns: Vec<u64>,
    started_ns: Vec<u64>,
}

impl Timeline {
    fn new(effects: &[Effect], spans: &BTreeMap<TransferId, Span>) -> Self {
        let mut timeline = Self {
            positions: BTreeMap::from([((0, 0), 0)]),
            acknowledged_ns: Vec::new(),
            started_ns: Vec::new(),
        };
        let mut sums = (0, 0);
        for group in slots(effects) {
            for effect in group {
                sums.0 += effect.debit;
                sums.1 += effect.credit;
            }
            let spans = || group.iter().filter_map(|effect| spans.get(&effect.id));
            let acknowledged = spans().map(|span| span.acknowledged_ns).min();
            // A slot holds what had been sent before: its youngest transfer bounds it.
            let started = spans().map(|span| span.started_ns).max();
            timeline
                .acknowledged_ns
                .push(acknowledged.unwrap_or(u64::MAX));
            timeline.started_ns.push(started.unwrap_or(0));
            let position = timeline.started_ns.len();
            timeline.positions.insert(sums, position);
        }
        timeline
    }

    fn position(&self, sums: (u128, u128)) -> Option<usize> {
        self.positions.get(&sums).copied()
    }

    /// The fewest and the most slots that a read in this span may have seen.
    fn bounds(&self, started_ns: u64, ended_ns: u64) -> (usize, usize) {
        let least = self
            .acknowledged_ns
            .iter()
            .rposition(|&at_ns| at_ns < started_ns)
            .map_or(0, |slot| slot + 1);
        let most = self
            .started_ns
            .iter()
            .position(|&at_ns| at_ns > ended_ns)
            .unwrap_or(self.started_ns.len());
        (least, most)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Scene, rejects};
    use super::*;
    use crate::history::ReadAnswer;

    fn found(scene: &Scene) -> Vec<Violation> {
        let mut violations = Vec::new();
        let records = Records::new(&scene.state);
        check(&scene.history, &scene.state, &records, &mut violations);
        violations
    }

    #[test]
    fn a_true_history_passes() {
        assert_eq!(found(&Scene::valid()), []);
    }

    #[test]
    fn a_read_that_misses_an_acknowledged_transfer_is_found() {
        let mut scene = Scene::valid();
        scene.read(1).started_ns = 5_000;
        scene.read(1).answer.as_mut().unwrap().at_ns = 5_001;
        rejects(&found(&scene), "stale");
    }

    #[test]
    fn a_read_of_a_transfer_that_had_not_started_is_found() {
        let mut scene = Scene::valid();
        scene.read(2).started_ns = 100;
        scene.read(2).answer.as_mut().unwrap().at_ns = 101;
        rejects(&found(&scene), "can have been started");
    }

    #[test]
    fn a_value_that_never_was_is_found() {
        let mut scene = Scene::valid();
        let answer = scene.read(1).answer.as_mut().unwrap();
        answer.account.as_mut().unwrap().credits_posted += 1;
        rejects(&found(&scene), "never was");
    }

    #[test]
    fn a_read_that_goes_back_in_time_is_found() {
        // Transfer 5 is never acknowledged, so only the order of reads can tell.
        let mut scene = Scene::valid();
        let later = ReadUse {
            account: AccountId(1),
            started_ns: 20_000,
            answer: Some(ReadAnswer {
                at_ns: 20_100,
                account: scene.read(2).answer.clone().unwrap().account,
            }),
        };
        scene.history.reads.push(later);
        assert_eq!(found(&scene), []);
        let mut with_five = scene.history.reads[1].clone();
        with_five.started_ns = 15_000;
        let answer = with_five.answer.as_mut().unwrap();
        answer.at_ns = 15_100;
        answer.account.as_mut().unwrap().debits_posted += 5;
        scene.history.reads.push(with_five);
        rejects(&found(&scene), "an earlier one");
    }

    #[test]
    fn effects_against_real_time_are_found() {
        let mut scene = Scene::valid();
        scene.history.transfers[0].started_ns = Some(9_000);
        rejects(&found(&scene), "took effect after");
    }

    #[test]
    fn a_created_account_that_is_not_found_is_reported() {
        let mut scene = Scene::valid();
        scene.read(1).answer.as_mut().unwrap().account = None;
        rejects(&found(&scene), "did not find it");
    }
}
