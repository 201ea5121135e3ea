//! A small true story for the tests of the checkers: three accounts, six transfers, two reads.
//!
//! ```text
//! id  what                    sent    answered     slot (shard)   recorded
//!  1  2 -> 1, 100 local       1000    1100 ok      2 (1)          ok
//!  2  1 -> 2,  10 local       2000    2100 ok      3 (1)          ok
//!  3  1 -> 3,   7 cross       3000    3100 ok      4 (1), 2 (2)   ok
//!  4  1 -> 2, 1000 local      4000    4100 refused 5 (1)          exceeds_credits
//!  5  1 -> 2,   5 local       6000    never        6 (1)          ok
//!  6  1 -> 2,   0             7000    7100 malformed -            -
//! ```

use quorate_protocol::client::{RecordedTransfer, TransferAnswer};
use quorate_protocol::ids::{AccountId, Ballot, ReplicaId, ShardId, Slot, TransferId};
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, Transfer};
use quorate_protocol::time::Timestamp;
use quorate_protocol::txn::record::Attempt;

use super::{FinalState, Violation};
use crate::history::{Answer, CreationUse, History, ReadAnswer, ReadUse, TransferUse};

/// A history and the state that it left.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) history: History,
    pub(crate) state: FinalState,
}

/// One of the violations says this.
#[track_caller]
pub(crate) fn rejects(violations: &[Violation], text: &str) {
    assert!(
        violations.iter().any(|found| found.text.contains(text)),
        "no \"{text}\" in {violations:?}"
    );
}

const FIRST: ShardId = ShardId(1);
const SECOND: ShardId = ShardId(2);

impl Scene {
    pub(crate) fn valid() -> Self {
        let mut scene = Self {
            history: History::default(),
            state: FinalState::default(),
        };
        let limit = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
        let none = AccountFlags::default();
        scene.create(1, limit, FIRST, (22, 100));
        scene.create(2, none, FIRST, (100, 15));
        scene.create(3, none, SECOND, (0, 7));
        let ok = ResultCode::Ok;
        scene.transfer(1, (2, 1), 100, 1000, Some((ok, 2)));
        scene.transfer(2, (1, 2), 10, 2000, Some((ok, 3)));
        scene.transfer(3, (1, 3), 7, 3000, Some((ok, 4)));
        scene.transfer(4, (1, 2), 1000, 4000, Some((ResultCode::ExceedsCredits, 5)));
        scene.transfer(5, (1, 2), 5, 6000, Some((ok, 6)));
        scene.transfer(6, (1, 2), 0, 7000, None);
        scene.history.transfers[4].answer = None;
        scene.post_credit(3, Slot(2), Timestamp(45));
        scene.read_account(1, 1200, (0, 100));
        scene.read_account(1, 3200, (17, 100));
        scene
    }

    pub(crate) fn account(&mut self, id: u128) -> &mut Account {
        let mut accounts = self.state.accounts.iter_mut();
        let found = accounts.find(|(_, account)| account.id.0 == id);
        &mut found.expect("an account of the story").1
    }

    pub(crate) fn record(&mut self, id: u128) -> &mut TransferAnswer {
        self.record_at(id, FIRST)
    }

    pub(crate) fn record_at(&mut self, id: u128, shard: ShardId) -> &mut TransferAnswer {
        let mut records = self.state.records.iter_mut();
        let found = records.find(|(at, answer)| answer.id.0 == id && *at == shard);
        &mut found.expect("a transfer of the story").1
    }

    pub(crate) fn debit(&mut self, id: u128) -> &mut RecordedTransfer {
        let record = self.record(id);
        record.debit.as_mut().expect("recorded on the debit side")
    }

    pub(crate) fn answer(&mut self, id: u128) -> &mut Answer {
        let mut uses = self.history.transfers.iter_mut();
        let found = uses.find(|transfer| transfer.transfer.id.0 == id);
        let answer = found.expect("a transfer of the story").answer.as_mut();
        answer.expect("an answered one")
    }

    /// The reads, counted from 1.
    pub(crate) fn read(&mut self, number: usize) -> &mut ReadUse {
        &mut self.history.reads[number - 1]
    }

    fn create(&mut self, id: u128, flags: AccountFlags, shard: ShardId, sums: (u128, u128)) {
        let account = Account::new(AccountId(id), 1, 1, flags);
        self.history.creations.push(CreationUse {
            account,
            started_ns: Some(1),
            answer: Some(Answer {
                at_ns: 10,
                code: ResultCode::Ok,
                timestamp: Timestamp(1),
            }),
        });
        let mut kept = account;
        (kept.debits_posted, kept.credits_posted) = sums;
        self.state.accounts.push((shard, kept));
    }

    fn transfer(
        &mut self,
        id: u128,
        accounts: (u128, u128),
        amount: u128,
        started_ns: u64,
        recorded: Option<(ResultCode, u64)>,
    ) {
        let (debit, credit) = (AccountId(accounts.0), AccountId(accounts.1));
        let transfer = Transfer::new(TransferId(id), debit, credit, amount, 1, 1);
        let timestamp = recorded.map_or(Timestamp::ZERO, |(_, slot)| Timestamp(slot * 10));
        let code = recorded.map_or(ResultCode::AmountMustNotBeZero, |(code, _)| code);
        self.history.transfers.push(TransferUse {
            transfer,
            started_ns: Some(started_ns),
            answer: Some(Answer {
                at_ns: started_ns + 100,
                code,
                timestamp,
            }),
            abandoned: false,
        });
        let cross = accounts.1 == 3;
        let record = recorded.map(|(code, slot)| {
            let place = (FIRST, Slot(slot));
            self.state.entry_times.insert(place, timestamp);
            RecordedTransfer {
                transfer,
                code: code as u16,
                slot: Slot(slot),
                commit_ts: timestamp,
                attempt: Attempt {
                    ballot: Ballot::new(u64::from(cross), ReplicaId(u8::from(cross))),
                    counter: u64::from(cross),
                },
            }
        });
        for (shard, debit) in [(FIRST, record), (SECOND, None)] {
            let answer = TransferAnswer {
                id: transfer.id,
                debit,
                credit: None,
            };
            self.state.records.push((shard, answer));
        }
    }

    /// A transfer from account 3 at shard 2 that is prepared and posted at shard 1 in these slots.
    pub(crate) fn post_late_credit(&mut self, id: u128, amount: u128, slots: (u64, u64)) {
        let (debit, credit) = (AccountId(3), AccountId(1));
        let transfer = Transfer::new(TransferId(id), debit, credit, amount, 1, 1);
        let attempt = Attempt {
            ballot: Ballot::new(1, ReplicaId(1)),
            counter: 9,
        };
        let mut record = RecordedTransfer {
            transfer,
            code: ResultCode::Ok as u16,
            slot: Slot(3),
            commit_ts: Timestamp(48),
            attempt,
        };
        self.state
            .entry_times
            .insert((SECOND, Slot(3)), Timestamp(48));
        let answer = |debit, credit| TransferAnswer {
            id: transfer.id,
            debit,
            credit,
        };
        self.state
            .records
            .push((SECOND, answer(Some(record), None)));
        record.slot = Slot(slots.1);
        self.state.records.push((FIRST, answer(None, Some(record))));
        let key = (FIRST, transfer.id, attempt);
        self.state.prepared.insert(key, vec![Slot(slots.0)]);
    }

    fn post_credit(&mut self, id: u128, slot: Slot, at: Timestamp) {
        let mut record = *self.debit(id);
        record.slot = slot;
        self.record_at(id, SECOND).credit = Some(record);
        self.state.entry_times.insert((SECOND, slot), at);
    }

    fn read_account(&mut self, id: u128, started_ns: u64, sums: (u128, u128)) {
        let flags = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
        let mut account = Account::new(AccountId(id), 1, 1, flags);
        (account.debits_posted, account.credits_posted) = sums;
        self.history.reads.push(ReadUse {
            account: account.id,
            started_ns,
            answer: Some(ReadAnswer {
                at_ns: started_ns + 100,
                account: Some(account),
            }),
        });
    }
}
