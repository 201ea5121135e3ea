//! The coordinator's side of two-phase commit: the leader of the shard that owns the debit account.
//!
//! An attempt is volatile. Its only durable trace is the `Commit` record, whose apply is the decision;
//! a leader that crashes before loses nothing, because participants ask and are told "aborted".
//!
//! ```text
//! Preparing --vote yes--> Committing --applied--> done
//!     |  |---vote no----> Committing (Refuse) --> done
//!     |  |---contended--> Backoff --> Preparing (new attempt)
//!     |  '---moved------> Preparing (new attempt, other shard)
//! Evaluating --applied--> done | Preparing
//! ```
//! A proposed `Commit` is never given up; `Preparing` is, at the request's deadline, and then never
//! commits: its attempt is no longer in the table.

use alloc::vec::Vec;

use crate::ids::{AccountId, Ballot, ReplicaAddress, ShardId, TransferId};
use crate::ledger::apply::CommitOutcome;
use crate::ledger::history::Known;
use crate::ledger::rules::{self, Leg};
use crate::ledger::state::OwnedAccount;
use crate::ledger::{CodeKind, ResultCode, ResultRow, Transfer};
use crate::limits::{ATTEMPTS_MAX, JOINED_MAX, LOCATIONS_MAX, PREPARE_RESEND_NS, TXN_ATTEMPTS_MAX};
use crate::planted::{Bug, planted};
use crate::replica::Replica;
use crate::replica::requests::Waiter;
use crate::replica::waiting::Item;
use crate::table::{Keyed, LOOK_AHEAD, Lookup, Records, neighbours};
use crate::time::{MS, Timestamp};
use crate::txn::record::{
    Attempt as AttemptId, CommitKind, CommitRow, PrepareRow, Subject, TxnId, TxnRow, Verdict,
};

/// Backoff before a contended transfer is tried again, doubled at every try.
const BACKOFF_NS: u64 = 10 * MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Preparing { sent_ns: u64 },
    Committing,
    Evaluating,
    Backoff { until_ns: u64 },
}

/// One cross-shard transfer on its way.
#[derive(Debug)]
struct Running {
    transfer: Transfer,
    waiter: Waiter,
    /// Where its debit account was in memory.
    debit: Option<u32>,
    /// Later requests for the same id.
    joined: Vec<(Transfer, Waiter)>,
    target: ShardId,
    attempt: AttemptId,
    tries: u32,
    deadline_ns: u64,
    phase: Phase,
}

impl Running {
    /// When something has to be done if nothing is heard before.
    fn due_ns(&self) -> u64 {
        match self.phase {
            Phase::Preparing { sent_ns } => self.deadline_ns.min(sent_ns + PREPARE_RESEND_NS),
            Phase::Backoff { until_ns } => self.deadline_ns.min(until_ns),
            Phase::Committing | Phase::Evaluating => u64::MAX,
        }
    }
}

impl Keyed for Running {
    type Key = TransferId;
    const WHAT: &str = "transfer on its way";

    fn key(&self) -> TransferId {
        self.transfer.id
    }

    fn hash(id: &TransferId) -> u64 {
        neighbours(id.0, ())
    }
}

/// Whether a transfer's id is on its way already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// It is not.
    Alone,
    /// It is, and the request waits for it.
    Joined,
    /// It is, and too many wait for it.
    Full,
}

/// All attempts of this leader.
#[derive(Debug, Default)]
pub(crate) struct Coordinator {
    ballot: Ballot,
    counter: u64,
    running: Records<Running>,
    /// No attempt is due earlier.
    due_ns: u64,
    locations: Lookup<AccountId, ShardId>,
}

impl Coordinator {
    /// Starts under a new ballot.
    pub fn begin(&mut self, ballot: Ballot) {
        assert!(self.running.is_empty());
        self.ballot = ballot;
        self.counter = 0;
    }

    /// Forgets all attempts; returns their debit accounts.
    pub fn clear(&mut self) -> Vec<AccountId> {
        let running = core::mem::take(&mut self.running);
        running
            .iter()
            .map(|running| running.transfer.debit_account_id)
            .collect()
    }

    /// Lets a request wait for the same id that is already on its way.
    pub fn join(&mut self, transfer: &Transfer, waiter: Waiter) -> Join {
        let Some(running) = self.running.of_mut(&transfer.id) else {
            return Join::Alone;
        };
        if running.joined.len() >= JOINED_MAX {
            return Join::Full;
        }
        running.joined.push((*transfer, waiter));
        Join::Joined
    }

    /// Where a moved account was last seen.
    pub fn location(&self, account: AccountId) -> Option<ShardId> {
        self.locations.get(&account).copied()
    }

    pub fn learn_location(&mut self, account: AccountId, shard: ShardId) {
        if self.locations.len() >= LOCATIONS_MAX {
            self.locations.clear();
        }
        self.locations.insert(account, shard);
    }

    /// Where the attempts are that at most [`LOOK_AHEAD`] votes are about.
    pub fn places(&self, votes: &[TxnRow]) -> [Option<u32>; LOOK_AHEAD] {
        let ids = votes.iter().map(|row| TransferId(row.id));
        self.running.places(ids)
    }

    /// Whether an attempt of this ballot may still commit.
    fn is_alive(&self, txn: TxnId) -> bool {
        self.running.of(&TransferId(txn.id)).is_some_and(|running| {
            running.attempt == txn.attempt
                && match running.phase {
                    Phase::Preparing { .. } | Phase::Committing => true,
                    Phase::Evaluating | Phase::Backoff { .. } => false,
                }
        })
    }

    /// A timer of the attempt was set.
    fn watch(&mut self, due_ns: u64) {
        self.due_ns = self.due_ns.min(due_ns);
    }

    pub fn next_attempt(&mut self) -> AttemptId {
        self.counter += 1;
        AttemptId {
            ballot: self.ballot,
            counter: self.counter,
        }
    }
}

impl Replica {
    /// Takes a transfer whose credit account is at `target` on its way. `debit`: where its debit account is.
    pub(crate) fn start_cross(
        &mut self,
        transfer: &Transfer,
        debit: Option<u32>,
        waiter: Waiter,
        target: ShardId,
    ) {
        self.start_at(transfer, debit, waiter, Vec::new(), target, 0);
    }

    fn start_attempt(
        &mut self,
        transfer: &Transfer,
        waiter: Waiter,
        joined: Vec<(Transfer, Waiter)>,
        target: ShardId,
        tries: u32,
    ) {
        let debit = self.ledger.place_of(transfer.debit_account_id);
        self.start_at(transfer, debit, waiter, joined, target, tries);
    }

    fn start_at(
        &mut self,
        transfer: &Transfer,
        debit: Option<u32>,
        waiter: Waiter,
        joined: Vec<(Transfer, Waiter)>,
        target: ShardId,
        tries: u32,
    ) {
        let Some(open) = self.requests.get(waiter.request) else {
            return self.readmit_joined(joined);
        };
        let deadline_ns = open.deadline_ns;
        if self.coordinator.running.len() >= ATTEMPTS_MAX {
            self.settle(waiter, ResultRow::unlogged(ResultCode::Busy));
            return self.readmit_joined(joined);
        }
        let owned = debit.map(|place| self.ledger.records.at(place));
        let leg = owned.map_or(Leg::Refused(ResultCode::DebitAccountNotFound), |owned| {
            debit_leg_with_holds(owned, transfer)
        });
        if leg == Leg::Undecided {
            let debit = transfer.debit_account_id;
            self.wait(debit, Item::Transfer(*transfer, waiter));
            for (transfer, waiter) in joined {
                self.wait(debit, Item::Transfer(transfer, waiter));
            }
            return;
        }
        let attempt = self.coordinator.next_attempt();
        let phase = match leg {
            Leg::Allowed => {
                self.queue_prepare(transfer, attempt, target);
                Phase::Preparing {
                    sent_ns: self.now.mono_ns,
                }
            }
            Leg::Refused(_) | Leg::Undecided => {
                self.queue_commit(
                    transfer,
                    attempt,
                    target,
                    CommitKind::Evaluate,
                    ResultCode::Ok,
                );
                Phase::Evaluating
            }
        };
        if let Some(place) = debit {
            let owned = self.ledger.records.at_mut(place);
            owned.attempts += 1;
            owned.held = owned.held.saturating_add(transfer.amount);
        }
        let transfer = *transfer;
        let running = Running {
            transfer,
            waiter,
            debit,
            joined,
            target,
            attempt,
            tries,
            deadline_ns,
            phase,
        };
        self.coordinator.watch(running.due_ns());
        self.coordinator.running.insert(running);
    }

    fn queue_prepare(&mut self, transfer: &Transfer, attempt: AttemptId, target: ShardId) {
        let coordinator = self.config.address.shard;
        let row = PrepareRow {
            transfer: *transfer,
            attempt,
            coordinator,
            reserved: [0; 12],
        };
        if let Some(route) = self.route(target) {
            route.prepares.push(&row);
        }
    }

    fn queue_commit(
        &mut self,
        transfer: &Transfer,
        attempt: AttemptId,
        participant: ShardId,
        kind: CommitKind,
        code: ResultCode,
    ) {
        self.proposals.push_commit(CommitRow {
            transfer: *transfer,
            attempt,
            participant,
            kind: kind.to_u16(),
            code: code as u16,
            reserved: [0; 8],
        });
    }

    /// A participant has voted on a transfer. `place`: of its attempt, before other votes of the same message were taken.
    pub(crate) fn on_vote(&mut self, from: ReplicaAddress, txn: TxnId, row: &TxnRow, place: u32) {
        let Some((_, verdict)) = row.parse() else {
            return;
        };
        let id = TransferId(txn.id);
        let Some(running) = self.coordinator.running.still_mut(place, &id) else {
            return;
        };
        let waits = matches!(running.phase, Phase::Preparing { .. });
        let other = running.attempt != txn.attempt && !planted(Bug::VoteOfAnyAttempt);
        if other || running.target != from.shard || !waits {
            return;
        }
        let (transfer, attempt, target) = (running.transfer, running.attempt, running.target);
        match verdict {
            Verdict::Yes => {
                running.phase = Phase::Committing;
                let kind = CommitKind::Prepared;
                self.queue_commit(&transfer, attempt, target, kind, ResultCode::Ok);
            }
            Verdict::No => {
                // `exists` is no refusal, but then the id is recorded here, and that decides. Neither is
                // `id_too_old`; but the vote has brought the time at which it is, so it is so here, too.
                let refuses = |code: &ResultCode| match code.kind() {
                    CodeKind::Recorded | CodeKind::Expired => true,
                    CodeKind::Success => *code == ResultCode::Exists,
                    CodeKind::Malformed | CodeKind::Used | CodeKind::Unlogged => false,
                };
                let Some(code) = ResultCode::from_u16(row.code).filter(refuses) else {
                    return self.back_off(id);
                };
                running.phase = Phase::Committing;
                self.queue_commit(&transfer, attempt, target, CommitKind::Refuse, code);
            }
            Verdict::Contended => self.back_off(id),
            Verdict::Moved if !(1..=self.config.shards).contains(&row.shard.0) => {
                self.back_off(id);
            }
            Verdict::Moved => {
                self.coordinator
                    .learn_location(transfer.credit_account_id, row.shard);
                self.follow_credit_account(id, row.shard);
            }
            Verdict::None | Verdict::Commit | Verdict::Abort | Verdict::Pending => {}
        }
    }

    /// The credit account lives elsewhere: a new attempt there, without the client.
    fn follow_credit_account(&mut self, id: TransferId, shard: ShardId) {
        let Some(running) = self.end_attempt(id) else {
            return;
        };
        if running.tries + 1 >= TXN_ATTEMPTS_MAX {
            return self.settle_all(&running, ResultRow::unlogged(ResultCode::Contended));
        }
        if shard == self.config.address.shard {
            // It has come here: local now, or it arrives in a moment.
            return self.readmit(running);
        }
        let Running {
            transfer,
            waiter,
            joined,
            tries,
            ..
        } = running;
        self.start_attempt(&transfer, waiter, joined, shard, tries + 1);
    }

    /// The participant could not say yes now: a new attempt after a pause.
    fn back_off(&mut self, id: TransferId) {
        let now_ns = self.now.mono_ns;
        let Some(running) = self.coordinator.running.of_mut(&id) else {
            return;
        };
        running.tries += 1;
        if running.tries >= TXN_ATTEMPTS_MAX {
            if let Some(running) = self.end_attempt(id) {
                self.settle_all(&running, ResultRow::unlogged(ResultCode::Contended));
            }
            return;
        }
        running.phase = Phase::Backoff {
            until_ns: now_ns + (BACKOFF_NS << running.tries),
        };
        let (transfer, debit) = (running.transfer, running.debit);
        let due_ns = running.due_ns();
        self.coordinator.watch(due_ns);
        // Nothing is under way while it waits: a freeze of the account need not wait for it.
        self.release_hold(&transfer, debit);
    }

    /// The apply of a `Commit` record has decided.
    pub(crate) fn on_committed(
        &mut self,
        transfer: &Transfer,
        attempt: AttemptId,
        outcome: CommitOutcome,
    ) {
        let id = transfer.id;
        let Some(running) = self.coordinator.running.of(&id) else {
            return;
        };
        if running.attempt != attempt {
            return;
        }
        let prepared = running.phase == Phase::Committing;
        let (target, tries) = (running.target, running.tries);
        match outcome {
            CommitOutcome::Committed {
                timestamp,
                is_system,
            } => return self.announce_commit(id, timestamp, is_system),
            CommitOutcome::Contended if prepared => self.back_off(id),
            CommitOutcome::Contended => {
                if let Some(running) = self.end_attempt(id) {
                    let debit = running.transfer.debit_account_id;
                    self.wait(debit, Item::Transfer(running.transfer, running.waiter));
                    self.readmit_joined(running.joined);
                }
            }
            CommitOutcome::NeedsPrepare => {
                if let Some(running) = self.end_attempt(id) {
                    let Running {
                        transfer,
                        waiter,
                        joined,
                        ..
                    } = running;
                    self.start_attempt(&transfer, waiter, joined, target, tries);
                }
            }
            CommitOutcome::Reroute => {
                if let Some(running) = self.end_attempt(id) {
                    self.readmit(running);
                }
            }
            CommitOutcome::Final(row) => {
                if let Some(running) = self.end_attempt(id) {
                    self.settle_all(&running, row);
                }
            }
            CommitOutcome::Fenced => {
                if let Some(running) = self.end_attempt(id) {
                    self.settle_all(&running, ResultRow::unlogged(ResultCode::Unknown));
                }
            }
        }
        if prepared {
            let txn = txn_id(self, id, attempt);
            self.decide(target, txn, Verdict::Abort, Timestamp::ZERO);
        }
    }

    /// The transfer is recorded: the participant and the clients may know.
    fn announce_commit(&mut self, id: TransferId, commit_ts: Timestamp, is_system: bool) {
        let Some(running) = self.end_attempt(id) else {
            return;
        };
        let txn = txn_id(self, id, running.attempt);
        self.decide(running.target, txn, Verdict::Commit, commit_ts);
        self.telemetry.count(true, is_system);
        // Whether the credit account is a system account is not known here.
        if !is_system {
            let transfer = &running.transfer;
            let (debit, credit) = (transfer.debit_account_id, transfer.credit_account_id);
            self.telemetry.note(debit, credit);
        }
        let mut row = ResultRow::logged(ResultCode::Ok, commit_ts);
        row.flags |= ResultRow::CROSS_SHARD;
        self.settle_all(&running, row);
    }

    pub(crate) fn decide(
        &mut self,
        target: ShardId,
        txn: TxnId,
        verdict: Verdict,
        commit_ts: Timestamp,
    ) {
        if let Some(route) = self.route(target) {
            route.decides.push(&TxnRow {
                timestamp: commit_ts,
                ..TxnRow::new(txn, verdict)
            });
        }
    }

    /// Takes an attempt out of the table and gives its hold back.
    fn end_attempt(&mut self, id: TransferId) -> Option<Running> {
        let running = self.coordinator.running.take(&id)?;
        match running.phase {
            Phase::Backoff { .. } => {}
            Phase::Preparing { .. } | Phase::Committing | Phase::Evaluating => {
                self.release_hold(&running.transfer, running.debit);
            }
        }
        Some(running)
    }

    fn release_hold(&mut self, transfer: &Transfer, place: Option<u32>) {
        let debit = transfer.debit_account_id;
        // Without a place there was no account, and so no hold.
        let owned = place.and_then(|place| self.ledger.account_volatile_near(place, debit));
        if let Some(owned) = owned {
            owned.attempts = owned.attempts.saturating_sub(1);
            owned.held = owned.held.saturating_sub(transfer.amount);
        }
        if self.waiting.is_waited_for(debit) {
            self.woken.insert(debit);
        }
    }

    /// Answers everyone who waits for an id. Later requests may have named other fields.
    fn settle_all(&mut self, running: &Running, row: ResultRow) {
        self.waiting.served(running.transfer.debit_account_id);
        self.settle(running.waiter, row);
        for (transfer, waiter) in &running.joined {
            let row = self.ledger.known_as_used(transfer).unwrap_or(row);
            self.settle(*waiter, row);
        }
    }

    fn readmit(&mut self, running: Running) {
        self.admit(&running.transfer, running.waiter, None);
        self.readmit_joined(running.joined);
    }

    fn readmit_joined(&mut self, joined: Vec<(Transfer, Waiter)>) {
        for (transfer, waiter) in joined {
            self.admit(&transfer, waiter, None);
        }
    }

    /// Timers of the attempts: send again, try again, give up.
    pub(crate) fn drive_attempts(&mut self) {
        let now_ns = self.now.mono_ns;
        if now_ns < self.coordinator.due_ns && !self.routes.iter().any(|route| route.changed) {
            return;
        }
        let (mut due, mut later_ns) = (Vec::new(), u64::MAX);
        for running in self.coordinator.running.iter() {
            if self.is_due(running) {
                due.push(running.transfer.id);
            } else {
                later_ns = later_ns.min(running.due_ns());
            }
        }
        self.coordinator.due_ns = later_ns;
        for id in due {
            let Some(running) = self.coordinator.running.of_mut(&id) else {
                continue;
            };
            let expired = running.deadline_ns <= now_ns;
            match running.phase {
                Phase::Preparing { .. } | Phase::Backoff { .. } if expired => self.give_up(id),
                Phase::Preparing { .. } => {
                    running.phase = Phase::Preparing { sent_ns: now_ns };
                    let due_ns = running.due_ns();
                    let (transfer, attempt, target) =
                        (running.transfer, running.attempt, running.target);
                    self.coordinator.watch(due_ns);
                    self.suspect(target, PREPARE_RESEND_NS);
                    self.queue_prepare(&transfer, attempt, target);
                }
                Phase::Backoff { .. } => {
                    let Some(running) = self.end_attempt(id) else {
                        continue;
                    };
                    let debit = running.transfer.debit_account_id;
                    let epoch = self.ledger.epoch_of(debit);
                    if self.is_blocked(debit)
                        || self.ledger.is_unloaded(debit)
                        || epoch != Some(running.transfer.debit_epoch)
                    {
                        self.readmit(running);
                        continue;
                    }
                    let Running {
                        transfer,
                        waiter,
                        joined,
                        target,
                        tries,
                        ..
                    } = running;
                    self.start_attempt(&transfer, waiter, joined, target, tries);
                }
                Phase::Committing | Phase::Evaluating => {}
            }
        }
    }

    fn is_due(&self, running: &Running) -> bool {
        let asks = matches!(running.phase, Phase::Preparing { .. });
        running.due_ns() <= self.now.mono_ns || asks && self.route_changed(running.target)
    }

    /// The time of an attempt's own request is up before a `Commit` was proposed: it never commits,
    /// so nothing was done. Whoever joined it may have time left and starts again.
    fn give_up(&mut self, id: TransferId) {
        if let Some(running) = self.end_attempt(id) {
            // A question that ends unanswered counts as one that is asked again: deadlines shorter than
            // the time to the second asking would never turn away from a dead replica.
            if matches!(running.phase, Phase::Preparing { .. }) {
                self.suspect(running.target, PREPARE_RESEND_NS);
            }
            let txn = txn_id(self, id, running.attempt);
            self.decide(running.target, txn, Verdict::Abort, Timestamp::ZERO);
            self.settle(running.waiter, ResultRow::unlogged(ResultCode::Contended));
            self.readmit_joined(running.joined);
        }
    }

    /// Presumed abort: what a participant asks is answered from the replicated index, the fence, and
    /// the table of this leader's own attempts.
    pub(crate) fn answer_query(&self, txn: TxnId) -> Option<TxnRow> {
        let ballot = self.consensus.serving()?;
        let not_ours = txn.coordinator != self.config.address.shard;
        if not_ours && !planted(Bug::TxnIdWithoutCoordinator) {
            return None;
        }
        let is_transfer = txn.subject == Subject::Transfer;
        let history = self.ledger.history();
        if is_transfer && history.debit(TransferId(txn.id)) == Known::NotLoaded {
            // "Aborted" would be a guess. Whoever asks asks again.
            return None;
        }
        let decided = self.ledger.decided(txn);
        let forgets = txn.subject == Subject::Transfer && planted(Bug::DecisionForgotten);
        if let Some(row) = decided.filter(|_| !forgets) {
            return Some(row);
        }
        let alive = match txn.subject {
            Subject::Transfer => self.coordinator.is_alive(txn),
            Subject::Move => self.migrations.is_alive(txn),
        };
        // A ballot newer than ours: nothing can be said about it here.
        let verdict = match txn.attempt.ballot.cmp(&ballot) {
            core::cmp::Ordering::Less => Verdict::Abort,
            core::cmp::Ordering::Equal if alive && !planted(Bug::AbortWhileAlive) => {
                Verdict::Pending
            }
            core::cmp::Ordering::Equal => Verdict::Abort,
            core::cmp::Ordering::Greater => return None,
        };
        Some(TxnRow::new(txn, verdict))
    }
}

/// The debit leg as far as admission is concerned: other attempts' holds make it undecided, never
/// refused.
fn debit_leg_with_holds(owned: &OwnedAccount, transfer: &Transfer) -> Leg {
    let leg = rules::check_debit(&owned.account, owned.reserved, transfer);
    if leg != Leg::Allowed {
        return leg;
    }
    let mut reserved = owned.reserved;
    reserved.debits = reserved.debits.saturating_add(owned.held);
    match rules::check_debit(&owned.account, reserved, transfer) {
        Leg::Allowed => Leg::Allowed,
        Leg::Refused(_) | Leg::Undecided => Leg::Undecided,
    }
}

fn txn_id(replica: &Replica, id: TransferId, attempt: AttemptId) -> TxnId {
    TxnId::of_transfer(replica.config.address.shard, id, attempt)
}
