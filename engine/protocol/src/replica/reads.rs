//! Linearizable reads, the read barrier, and the requests of consistent cuts.
//!
//! A read is answered at an instant when this replica is known to lead (its lease is checked when the
//! value is read, or a heartbeat round sent after the read's arrival was confirmed) and no
//! transaction is open on the account. If some are, new prepares on it queue behind the read, so the
//! open ones run out; they wait only for their coordinator, which waits for nothing here.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::client::{AccountAnswer, CutAnswer, ReplyBody};
use crate::config::Reads;
use crate::ids::AccountId;
use crate::planted::{Bug, planted};
use crate::replica::Replica;
use crate::replica::proposals::CutCommand;
use crate::replica::requests::{Pending, ReadPermit, RequestKey};
use crate::time::Timestamp;
use crate::words::Rows;

impl Replica {
    pub(super) fn begin_read(&mut self, key: RequestKey) {
        self.reads.insert(key);
    }

    /// Answers every read that can be answered at this instant.
    pub(super) fn drive_reads(&mut self) {
        if self.reads.is_empty() || self.consensus.serving().is_none() {
            return;
        }
        let lease = self.config.reads == Reads::Lease && self.consensus.lease_valid(self.now);
        let keys: Vec<RequestKey> = self.reads.iter().copied().collect();
        for key in keys {
            let Some(permit) = self
                .requests
                .get(key)
                .and_then(|open| open.pending.permit())
            else {
                self.reads.remove(&key);
                continue;
            };
            let confirmed = permit
                .round
                .is_some_and(|round| round <= self.consensus.confirmed_round())
                || permit.round.is_some() && planted(Bug::ReadWithoutRound);
            if lease || confirmed {
                self.try_read(key);
            } else if permit.round.is_none() {
                let round = self.consensus.start_read_round(self.now);
                if let Some(open) = self.requests.get_mut(key) {
                    open.pending.set_round(round);
                }
            }
        }
    }

    /// Reads what is readable now; replies when everything was.
    fn try_read(&mut self, key: RequestKey) {
        let Some(open) = self.requests.get(key) else {
            return;
        };
        if matches!(open.pending, Pending::History(_)) {
            return self.drive_history(key);
        }
        if let Pending::Transfers { ids, .. } = &open.pending {
            let ids = ids.clone();
            if self.load_holds_transfers(key, &ids) {
                return;
            }
        }
        let listed = match self.requests.get(key).map(|open| &open.pending) {
            Some(&Pending::List { after, limit, .. }) => match self.page(key, after, limit) {
                Some(ids) => ids,
                None => return,
            },
            _ => Vec::new(),
        };
        let Some(open) = self.requests.get(key) else {
            return;
        };
        let body = match &open.pending {
            Pending::Transfers { ids, .. } => self.transfer_answers(ids),
            Pending::List { .. } => ReplyBody::AccountList(Rows::from_slice(&listed)),
            Pending::Accounts { .. } => match self.try_read_accounts(key) {
                Some(body) => body,
                None => return,
            },
            Pending::Document { key, .. } => ReplyBody::Document(self.ledger.catalog().get(*key)),
            Pending::Documents { .. } => ReplyBody::Documents(self.ledger.catalog().list()),
            Pending::Results { .. }
            | Pending::History(_)
            | Pending::Move { .. }
            | Pending::PutDocument
            | Pending::CutRegister { .. }
            | Pending::CutSums { .. } => return,
        };
        self.reads.remove(&key);
        if let Some(open) = self.requests.close(key) {
            self.reply(open.connection, open.id, body);
        }
    }

    /// A page of owned accounts, from memory and from the store; `None` while the store is asked.
    fn page(&mut self, key: RequestKey, after: AccountId, limit: usize) -> Option<Vec<AccountId>> {
        let stored = self.stored_page(key, after, limit)?;
        let stored_upto = stored.last().filter(|_| stored.len() == limit).copied();
        let mut ids: BTreeSet<AccountId> = self.ledger.list(after, limit).into_iter().collect();
        // Who has left since is not forgotten by the store before the next checkpoint.
        ids.extend(stored.into_iter().filter(|id| self.ledger.may_own(*id)));
        if let Some(upto) = stored_upto {
            // The store may have others behind its last.
            ids.retain(|id| *id <= upto);
            if ids.is_empty() {
                if let Some(open) = self.requests.get_mut(key)
                    && let Pending::List { after, .. } = &mut open.pending
                {
                    *after = upto;
                }
                return self.page(key, upto, limit);
            }
        }
        Some(ids.into_iter().take(limit).collect())
    }

    fn try_read_accounts(&mut self, key: RequestKey) -> Option<ReplyBody> {
        if let Some(Pending::Accounts { ids, .. }) = self.requests.get(key).map(|o| &o.pending) {
            let ids = ids.clone();
            if self.load_holds_accounts(key, &ids) {
                return None;
            }
        }
        let ledger = &self.ledger;
        let barriers = &mut self.barriers;
        let open = self.requests.get_mut(key)?;
        let Pending::Accounts { ids, answers, .. } = &mut open.pending else {
            return None;
        };
        let mut complete = true;
        for (id, answer) in ids
            .iter()
            .zip(answers.iter_mut())
            .filter(|(_, a)| a.is_none())
        {
            *answer = match ledger.account(*id) {
                Some(owned) if owned.open == 0 || planted(Bug::ReadUnderReservation) => {
                    Some(AccountAnswer::Found(owned.account))
                }
                // Open transactions, or it has arrived by a move that is not decided.
                Some(_) => None,
                None if ledger.is_staged(*id) => None,
                None => Some(match ledger.elsewhere(*id) {
                    Some(shard) => AccountAnswer::Moved(shard),
                    None => AccountAnswer::NotFound,
                }),
            };
            if answer.is_none() {
                complete = false;
                barriers.entry(*id).or_default().insert(key);
            } else if let Some(readers) = barriers.get_mut(id) {
                readers.remove(&key);
            }
        }
        if !complete {
            return None;
        }
        let answers = core::mem::take(answers);
        Some(ReplyBody::Accounts(answers.into_iter().flatten().collect()))
    }

    /// Whether a read waits for the account's transactions to run out.
    pub(crate) fn has_barrier(&self, account: AccountId) -> bool {
        self.barriers
            .get(&account)
            .is_some_and(|readers| !readers.is_empty())
    }

    /// Lets barriers fall whose readers are gone.
    pub(super) fn drop_idle_barriers(&mut self) {
        let requests = &self.requests;
        let woken = &mut self.woken;
        self.barriers.retain(|&account, readers| {
            readers.retain(|&key| requests.get(key).is_some());
            if readers.is_empty() {
                woken.insert(account);
            }
            !readers.is_empty()
        });
    }

    pub(super) fn register_cut(&mut self, key: RequestKey, at: Timestamp) {
        self.cut_requests.insert(key);
        self.proposals.push_cut(CutCommand::Register(at));
    }

    /// Answers requests about cuts that an entry just registered or passed.
    pub(super) fn on_cuts_applied(&mut self, cuts: &[Timestamp]) {
        if !cuts.is_empty() {
            self.drive_cuts();
        }
    }

    /// Proposes the passing of cuts whose time has come and answers what can be answered.
    pub(super) fn drive_cuts(&mut self) {
        let keys: Vec<RequestKey> = self.cut_requests.iter().copied().collect();
        for key in keys {
            let answer = match self.requests.get(key).map(|open| &open.pending) {
                Some(&Pending::CutRegister { at }) => {
                    if self.ledger.cuts().is_registered(at) {
                        Some(CutAnswer::Registered)
                    } else if self.ledger.last_timestamp() >= at {
                        Some(CutAnswer::Refused)
                    } else {
                        None
                    }
                }
                Some(&Pending::CutSums { at, proposed }) => self.drive_sums(key, at, proposed),
                _ => {
                    self.cut_requests.remove(&key);
                    continue;
                }
            };
            if let Some(answer) = answer {
                self.cut_requests.remove(&key);
                if let Some(open) = self.requests.close(key) {
                    self.reply(open.connection, open.id, ReplyBody::Cut(answer));
                }
            }
        }
    }

    fn drive_sums(&mut self, key: RequestKey, at: Timestamp, proposed: bool) -> Option<CutAnswer> {
        if !self.ledger.cuts().is_registered(at) {
            return Some(CutAnswer::NotKnown);
        }
        if self.ledger.has_missed(at) {
            return Some(CutAnswer::NotKnown);
        }
        let passed = self.ledger.cuts().is_passed(at);
        // Another cut is being counted, and this one would have to wait for the rest of it in one step.
        let is_free = !self.ledger.is_scanning();
        if !proposed && !passed && is_free && (self.clock.last() > at || self.now.wall_ns > at.0) {
            self.proposals.push_cut(CutCommand::Pass(at));
            if let Some(open) = self.requests.get_mut(key) {
                open.pending = Pending::CutSums { at, proposed: true };
            }
        }
        self.ledger.cut_sums(at).map(CutAnswer::Sums)
    }
}

impl Pending {
    fn permit(&self) -> Option<ReadPermit> {
        match self {
            Self::Accounts { read, .. }
            | Self::Transfers { read, .. }
            | Self::List { read, .. }
            | Self::Document { read, .. }
            | Self::Documents { read } => Some(*read),
            Self::History(history) => Some(history.permit),
            Self::Results { .. }
            | Self::Move { .. }
            | Self::PutDocument
            | Self::CutRegister { .. }
            | Self::CutSums { .. } => None,
        }
    }

    fn set_round(&mut self, round: u64) {
        match self {
            Self::Accounts { read, .. }
            | Self::Transfers { read, .. }
            | Self::List { read, .. }
            | Self::Document { read, .. }
            | Self::Documents { read } => {
                read.round = Some(round);
            }
            Self::History(history) => history.permit.round = Some(round),
            Self::Results { .. }
            | Self::Move { .. }
            | Self::PutDocument
            | Self::CutRegister { .. }
            | Self::CutSums { .. } => {}
        }
    }
}
