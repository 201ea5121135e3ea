//! Moving a batch of accounts: the source's leader as coordinator of a transaction. Volatile; what
//! has happened is in the logs.
//!
//! | stage | precondition | what waits | ends with |
//! | --- | --- | --- | --- |
//! | `Freezing` | all accounts owned here, not frozen | operations on them | everything enqueued before is applied, nothing open |
//! | `Preparing` | quiet; states read | the same | the target's vote, or the time limit: abort |
//! | `Committing` | vote yes | the same | apply of `CommitMove`: moved, or something touched them: abort |
//! | `Arriving` | moved | nothing here: who asks is sent to the target | the target says that it serves them, or the time limit |
//!
//! A crash at any stage leaves one owner: before `CommitMove` is chosen the source, after it the
//! target, which asks if it was not told.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::client::{MoveAnswer, ReplyBody};
use crate::entry::MoveSection;
use crate::ids::{AccountId, MoveId, ReplicaAddress, ShardId};
use crate::ledger::AccountFlags;
use crate::ledger::cold::Presence;
use crate::limits::{FREEZE_NS_MAX, MOVES_MAX, PREPARE_RESEND_NS, VOTE_NS_MAX};
use crate::planted::{Bug, planted};
use crate::replica::Replica;
use crate::replica::requests::{Pending, RequestKey};
use crate::time::Timestamp;
use crate::txn::record::{
    Attempt, MoveHead, MoveVersionRow, MovedAccountRow, PreviousOwnerRow, Subject, TxnId, Verdict,
};
use crate::words::Words;

#[derive(Debug)]
enum Stage {
    /// Until so many commands are applied.
    Freezing {
        commands: u64,
    },
    Preparing {
        head: MoveHead,
        versions: Vec<MoveVersionRow>,
        words: Words,
        sent_ns: u64,
    },
    Committing {
        head: MoveHead,
    },
    /// Only the answer is still owed: how long the accounts were served by nobody is known at its end.
    Arriving {
        txn: TxnId,
        commit_ts: Timestamp,
        sent_ns: u64,
    },
}

#[derive(Debug)]
struct Migration {
    accounts: Vec<AccountId>,
    target: ShardId,
    requests: Vec<RequestKey>,
    frozen_ns: u64,
    stage: Stage,
}

/// The moves that this leader runs.
#[derive(Debug, Default)]
pub(crate) struct Migrations {
    running: BTreeMap<MoveId, Migration>,
    frozen: BTreeSet<AccountId>,
}

impl Migrations {
    pub fn is_frozen(&self, account: AccountId) -> bool {
        self.frozen.contains(&account)
    }

    pub fn is_running(&self, id: MoveId) -> bool {
        self.running.contains_key(&id)
    }

    /// Whether a move's attempt may still commit.
    pub fn is_alive(&self, txn: TxnId) -> bool {
        self.running
            .get(&MoveId(txn.id))
            .is_some_and(|migration| match &migration.stage {
                // What has committed is in the ledger.
                Stage::Freezing { .. } | Stage::Arriving { .. } => false,
                Stage::Preparing { head, .. } | Stage::Committing { head } => {
                    head.attempt == txn.attempt
                }
            })
    }
}

impl Replica {
    /// Whether a move makes sense, before anything is frozen for it.
    pub(crate) fn check_move(
        &self,
        id: MoveId,
        target: ShardId,
        accounts: &[AccountId],
    ) -> Result<(), ReplyBody> {
        let distinct: BTreeSet<&AccountId> = accounts.iter().collect();
        let known = (1..=self.config.shards).contains(&target.0);
        if id.0 == 0 || !known || target == self.config.address.shard {
            return Err(ReplyBody::Move(MoveAnswer::Refused));
        }
        if distinct.len() != accounts.len() {
            return Err(ReplyBody::Move(MoveAnswer::Refused));
        }
        if let Some(running) = self.migrations.running.get(&id) {
            // Another move under an id that is in use would be answered with this one's end.
            return if running.target == target && running.accounts == accounts {
                Ok(())
            } else {
                Err(ReplyBody::Move(MoveAnswer::Refused))
            };
        }
        if self.migrations.running.len() >= MOVES_MAX || self.is_disk_full {
            return Err(ReplyBody::Busy);
        }
        for &account in accounts {
            match self.ledger.presence(account) {
                Presence::Here(owned) if owned.account.flags.contains(AccountFlags::SYSTEM) => {
                    return Err(ReplyBody::Move(MoveAnswer::Refused));
                }
                Presence::Here(_) | Presence::NotLoaded if self.migrations.is_frozen(account) => {
                    return Err(ReplyBody::Move(MoveAnswer::Contended));
                }
                // One that is not in memory is looked at again before its state is sent.
                Presence::Here(_) | Presence::NotLoaded => {}
                Presence::NotHere => {
                    let shard = self.ledger.elsewhere(account).unwrap_or_default();
                    return Err(ReplyBody::Move(MoveAnswer::NotOwned { account, shard }));
                }
            }
        }
        Ok(())
    }

    /// Freezes the accounts, or joins the same move under way.
    pub(crate) fn start_move(
        &mut self,
        id: MoveId,
        target: ShardId,
        accounts: &[AccountId],
        key: RequestKey,
    ) {
        if let Some(running) = self.migrations.running.get_mut(&id) {
            running.requests.push(key);
            return;
        }
        self.migrations.frozen.extend(accounts);
        let migration = Migration {
            accounts: accounts.to_vec(),
            target,
            requests: alloc::vec![key],
            frozen_ns: self.now.mono_ns,
            stage: Stage::Freezing {
                commands: self.proposals.enqueued(),
            },
        };
        self.migrations.running.insert(id, migration);
        self.drive_migration(id);
    }

    /// Timers of the moves, and the end of freezes.
    pub(crate) fn drive_migrations(&mut self) {
        let ids: Vec<MoveId> = self.migrations.running.keys().copied().collect();
        for id in ids {
            self.drive_migration(id);
        }
    }

    /// Tries the moves that wait for quiet; called at the end of every step.
    pub(crate) fn drive_freezes(&mut self) {
        if self.migrations.running.is_empty() {
            return;
        }
        let freezing = |m: &Migration| matches!(m.stage, Stage::Freezing { .. });
        let running = self.migrations.running.iter();
        let ids: Vec<MoveId> = running
            .filter(|(_, m)| freezing(m))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.drive_migration(id);
        }
    }

    fn drive_migration(&mut self, id: MoveId) {
        let now_ns = self.now.mono_ns;
        let Some(target) = self.migrations.running.get(&id).map(|m| m.target) else {
            return;
        };
        let changed = self.route_changed(target);
        let Some(migration) = self.migrations.running.get_mut(&id) else {
            return;
        };
        match &mut migration.stage {
            Stage::Freezing { commands } => {
                let commands = *commands;
                let quiet = self.commands_applied >= commands && self.is_quiet(id);
                if quiet && !self.migration_loads(id) {
                    self.prepare_migration(id);
                } else if self.migration_age(id) >= FREEZE_NS_MAX {
                    self.end_migration(id, None);
                }
            }
            Stage::Preparing { words, sent_ns, .. } => {
                if changed || *sent_ns + PREPARE_RESEND_NS <= now_ns {
                    *sent_ns = now_ns;
                    let words = words.clone();
                    if self.migration_age(id) >= FREEZE_NS_MAX + VOTE_NS_MAX {
                        return self.abort_migration(id);
                    }
                    self.suspect(target, PREPARE_RESEND_NS);
                    if let Some(route) = self.route(target) {
                        route.prepare_moves.push(words);
                    }
                }
            }
            Stage::Committing { .. } => {}
            Stage::Arriving {
                txn,
                commit_ts,
                sent_ns,
            } => {
                let (txn, commit_ts) = (*txn, *commit_ts);
                let is_due = changed || *sent_ns + PREPARE_RESEND_NS <= now_ns;
                if is_due {
                    *sent_ns = now_ns;
                }
                if self.migration_age(id) >= FREEZE_NS_MAX + VOTE_NS_MAX {
                    self.end_migration(id, Some(commit_ts));
                } else if is_due {
                    self.suspect(target, PREPARE_RESEND_NS);
                    self.decide(target, txn, Verdict::Commit, commit_ts);
                    self.expect_answer(target);
                }
            }
        }
    }

    fn migration_age(&self, id: MoveId) -> u64 {
        let frozen_ns = self.migrations.running.get(&id).map_or(0, |m| m.frozen_ns);
        self.now.mono_ns.saturating_sub(frozen_ns)
    }

    /// Nothing is open on the accounts, and none of their debits is on its way.
    fn is_quiet(&self, id: MoveId) -> bool {
        self.migrations.running.get(&id).is_some_and(|migration| {
            migration.accounts.iter().all(|&account| {
                self.ledger
                    .account(account)
                    .is_none_or(|owned| owned.open == 0 && owned.attempts == 0)
                    || planted(Bug::MoveOvertakesPrepared)
            })
        })
    }

    /// Whether the store is being asked for rows of the accounts.
    fn migration_loads(&mut self, id: MoveId) -> bool {
        let Some(migration) = self.migrations.running.get(&id) else {
            return false;
        };
        let accounts = migration.accounts.clone();
        self.load_holds_move(id, &accounts)
    }

    /// Reads the states and sends them.
    fn prepare_migration(&mut self, id: MoveId) {
        let attempt = self.coordinator.next_attempt();
        let source = self.config.address.shard;
        let Some(migration) = self.migrations.running.get(&id) else {
            return;
        };
        let target = migration.target;
        let mut rows = Vec::new();
        let mut versions = Vec::new();
        let mut owners: Vec<PreviousOwnerRow> = Vec::new();
        for &account in &migration.accounts {
            let Some(owned) = self.ledger.account(account) else {
                let shard = self.ledger.elsewhere(account).unwrap_or_default();
                return self.answer_migration(id, MoveAnswer::NotOwned { account, shard });
            };
            if owned.account.flags.contains(AccountFlags::SYSTEM) {
                return self.answer_migration(id, MoveAnswer::Refused);
            }
            let (id_max, version) = (owned.id_max, owned.version);
            rows.push(MovedAccountRow {
                account: owned.account,
                id_max,
                version,
                last: owned.last,
            });
            let ownership_epoch = owned.account.ownership_epoch;
            versions.push(MoveVersionRow {
                account,
                version,
                ownership_epoch,
                reserved: 0,
            });
            owners.extend_from_slice(self.ledger.previous_owners(account));
        }
        let head = MoveHead {
            id,
            attempt,
            source,
            target,
            accounts: u32::try_from(rows.len()).expect("bounded by MOVE_ACCOUNTS_MAX"),
            owners: u32::try_from(owners.len()).expect("bounded by accounts times shards"),
        };
        let parts = MoveSection {
            head: &head,
            accounts: &rows,
            owners: &owners,
        };
        let words = parts.to_words();
        if words.as_bytes().len() > self.config.entry_bytes_max / 2 {
            return self.end_migration(id, None);
        }
        if let Some(route) = self.route(target) {
            route.prepare_moves.push(words.clone());
        }
        let sent_ns = self.now.mono_ns;
        if let Some(migration) = self.migrations.running.get_mut(&id) {
            migration.stage = Stage::Preparing {
                head,
                versions,
                words,
                sent_ns,
            };
        }
    }

    pub(crate) fn on_move_vote(&mut self, from: ReplicaAddress, txn: TxnId, verdict: Verdict) {
        let id = MoveId(txn.id);
        let Some(migration) = self.migrations.running.get_mut(&id) else {
            return;
        };
        if migration.target != from.shard {
            return;
        }
        let (head, versions) = match &mut migration.stage {
            Stage::Preparing { head, versions, .. } if head.attempt == txn.attempt => {
                (head, versions)
            }
            Stage::Arriving {
                txn: moved,
                commit_ts,
                ..
            } if *moved == txn && verdict == Verdict::Commit => {
                let commit_ts = *commit_ts;
                return self.end_migration(id, Some(commit_ts));
            }
            Stage::Freezing { .. }
            | Stage::Preparing { .. }
            | Stage::Committing { .. }
            | Stage::Arriving { .. } => return,
        };
        match verdict {
            Verdict::Yes => {
                let (head, versions) = (*head, core::mem::take(versions));
                migration.stage = Stage::Committing { head };
                self.proposals.push_commit_move(head, versions);
            }
            Verdict::No | Verdict::Contended | Verdict::Moved => self.end_migration(id, None),
            Verdict::None | Verdict::Commit | Verdict::Abort | Verdict::Pending => {}
        }
    }

    /// The apply of `CommitMove` has decided.
    pub(crate) fn on_move_committed(
        &mut self,
        id: MoveId,
        attempt: Attempt,
        commit_ts: Option<Timestamp>,
    ) {
        let Some(migration) = self.migrations.running.get(&id) else {
            return;
        };
        match &migration.stage {
            Stage::Committing { head } if head.attempt == attempt => {}
            _ => return,
        }
        let (target, accounts) = (migration.target, migration.accounts.clone());
        let verdict = if commit_ts.is_some() {
            Verdict::Commit
        } else {
            Verdict::Abort
        };
        let txn = self.move_txn(id, attempt);
        self.decide(target, txn, verdict, commit_ts.unwrap_or(Timestamp::ZERO));
        let Some(commit_ts) = commit_ts else {
            return self.end_migration(id, None);
        };
        for &account in &accounts {
            self.coordinator.learn_location(account, target);
        }
        self.unfreeze(&accounts);
        self.expect_answer(target);
        let sent_ns = self.now.mono_ns;
        if let Some(migration) = self.migrations.running.get_mut(&id) {
            migration.stage = Stage::Arriving {
                txn,
                commit_ts,
                sent_ns,
            };
        }
    }

    fn abort_migration(&mut self, id: MoveId) {
        let Some(migration) = self.migrations.running.get(&id) else {
            return;
        };
        if let Stage::Preparing { head, .. } = &migration.stage {
            let (target, attempt) = (migration.target, head.attempt);
            let txn = self.move_txn(id, attempt);
            self.decide(target, txn, Verdict::Abort, Timestamp::ZERO);
        }
        self.end_migration(id, None);
    }

    fn unfreeze(&mut self, accounts: &[AccountId]) {
        for account in accounts {
            self.migrations.frozen.remove(account);
            if self.waiting.is_waited_for(*account) {
                self.woken.insert(*account);
            }
        }
    }

    /// Unfreezes, if that has not been done, and answers.
    fn end_migration(&mut self, id: MoveId, commit_ts: Option<Timestamp>) {
        let Some(migration) = self.migrations.running.get(&id) else {
            return;
        };
        let accounts = u32::try_from(migration.accounts.len()).expect("bounded by the request");
        let answer = match commit_ts {
            Some(commit_ts) => MoveAnswer::Moved {
                accounts,
                commit_ts,
                freeze_ns: self.migration_age(id),
            },
            None => MoveAnswer::Contended,
        };
        self.answer_migration(id, answer);
    }

    /// The same with this answer.
    fn answer_migration(&mut self, id: MoveId, answer: MoveAnswer) {
        let Some(migration) = self.migrations.running.remove(&id) else {
            return;
        };
        // Since they left, accounts may have come back and be frozen for another move.
        let has_left = matches!(migration.stage, Stage::Arriving { .. });
        if !has_left && !planted(Bug::FrozenAfterAbort) {
            self.unfreeze(&migration.accounts);
        }
        for key in migration.requests {
            let of_this = self
                .requests
                .get(key)
                .is_some_and(|open| matches!(open.pending, Pending::Move { id: of } if of == id));
            if !of_this {
                continue;
            }
            if let Some(open) = self.requests.close(key) {
                self.reply(open.connection, open.id, ReplyBody::Move(answer));
            }
        }
    }

    fn move_txn(&self, id: MoveId, attempt: Attempt) -> TxnId {
        TxnId {
            coordinator: self.config.address.shard,
            subject: Subject::Move,
            id: id.0,
            attempt,
        }
    }
}
