//! A small true story for the tests of the checkers: three accounts on two shards, transfers of every
//! kind, a move, a cut, reads.
//!
//! ```text
//! id  what                       sent    answered     decided in      credited in
//!  1  2 -> 1, 100 local          1000    1100 ok      slot 2 of s1    the same
//!  2  1 -> 2,  10 local          2000    2100 ok      slot 3 of s1    the same
//!  3  1 -> 3,   7 cross          3000    3100 ok      slot 4 of s1    slot 3 of s2 (prepared in 2)
//!  4  1 -> 2, 1000 local         4000    4100 refused slot 5 of s1
//!  5  1 -> 2,   5 local          6000    abandoned    slot 6 of s1    the same
//!     cut at 65                  6500    6600
//!  6  1 -> 2,   0                7000    7100 malformed
//!  8  1 -> 9,   1 cross          7500    7600 refused slot 7 of s1    (no account 9: slot 4 of s2)
//!     account 2 moves to s2      8000    8100         slot 8 of s1    slot 6 of s2 (prepared in 5)
//!  9  2 -> 3,  20 local          8500    8600 ok      slot 7 of s2    the same
//! ```

use quorate_protocol::client::{CutSums, LedgerSums, RecordedTransfer, TransferAnswer};
use quorate_protocol::config::IdRule;
use quorate_protocol::ids::{AccountId, Ballot, MoveId, ReplicaId, ShardId, Slot, TransferId};
use quorate_protocol::ledger::history::HistoryPosition;
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, Total, Transfer};
use quorate_protocol::shard::map::Placement;
use quorate_protocol::time::Timestamp;
use quorate_protocol::txn::record::{
    Attempt, CommitKind, CommitRow, MoveHead, MoveVersionRow, MovedAccountRow, PrepareRow, Subject,
    TxnRow, Verdict,
};

use super::log::{ArrivingBatch, Command, LogEntry};
use super::model::Gone;
use super::model::rules::Rules;
use super::replays::Replays;
use super::routes::ShardMap;
use super::{FinalState, Violation};
use crate::history::{
    Answer, CreationUse, CutUse, History, MoveUse, ReadAnswer, ReadUse, TransferUse,
};

/// A history and the state that it left.
#[derive(Clone, Debug)]
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

pub(crate) const FIRST: ShardId = ShardId(1);
pub(crate) const SECOND: ShardId = ShardId(2);

fn attempt(counter: u64) -> Attempt {
    Attempt {
        ballot: Ballot::new(1, ReplicaId(1)),
        counter,
    }
}

fn transfer(id: u128, accounts: (u128, u128), amount: u128) -> Transfer {
    let (debit, credit) = (AccountId(accounts.0), AccountId(accounts.1));
    Transfer::new(TransferId(id), debit, credit, amount, 1, 1)
}

impl Scene {
    pub(crate) fn valid() -> Self {
        let rules = Rules {
            keep_ns: None,
            shards: 2,
            placement: Placement::Range {
                accounts_per_shard: 2,
            },
            ids: IdRule::Any,
        };
        let mut scene = Self {
            history: History::default(),
            state: FinalState {
                rules,
                ..FinalState::default()
            },
        };
        let limit = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
        let none = AccountFlags::default();
        scene.create(1, limit, FIRST, (22, 100));
        scene.create(2, none, FIRST, (120, 15));
        scene.create(3, none, SECOND, (0, 27));
        let ok = ResultCode::Ok;
        scene.local(transfer(1, (2, 1), 100), 1000, ok, (FIRST, 2));
        scene.local(transfer(2, (1, 2), 10), 2000, ok, (FIRST, 3));
        scene.cross_success();
        let refused = ResultCode::ExceedsCredits;
        scene.local(transfer(4, (1, 2), 1000), 4000, refused, (FIRST, 5));
        scene.local(transfer(5, (1, 2), 5), 6000, ok, (FIRST, 6));
        scene.history.transfers[4].answer = None;
        scene.history.transfers[4].abandoned = true;
        let malformed = ResultCode::AmountMustNotBeZero;
        scene.sent(transfer(6, (1, 2), 0), 7000, malformed, Timestamp::ZERO);
        scene.cross_refusal();
        scene.moved();
        let mut last = transfer(9, (2, 3), 20);
        last.debit_epoch = 1;
        scene.local(last, 8500, ok, (SECOND, 7));
        scene.cut();
        scene.read_account(1, 1200, (0, 100));
        scene.read_account(1, 3200, (17, 100));
        scene.read_account(2, 9000, (120, 15));
        scene
    }

    /// The logs replayed.
    pub(crate) fn replays(&self) -> Replays {
        Replays::new(&self.state.logs, self.state.rules)
    }

    pub(crate) fn entry(&mut self, shard: u32, slot: u64) -> &mut LogEntry {
        let log = self.state.logs.get_mut(&ShardId(shard)).expect("a shard");
        log.get_mut(&Slot(slot)).expect("a slot of the story")
    }

    pub(crate) fn map(&mut self, shard: ShardId) -> &mut ShardMap {
        self.state.maps.get_mut(&shard).expect("a shard")
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

    pub(crate) fn transfer_use(&mut self, id: u128) -> &mut TransferUse {
        let mut uses = self.history.transfers.iter_mut();
        let found = uses.find(|transfer| transfer.transfer.id.0 == id);
        found.expect("a transfer of the story")
    }

    pub(crate) fn answer(&mut self, id: u128) -> &mut Answer {
        let answer = self.transfer_use(id).answer.as_mut();
        answer.expect("an answered one")
    }

    /// The reads, counted from 1.
    pub(crate) fn read(&mut self, number: usize) -> &mut ReadUse {
        &mut self.history.reads[number - 1]
    }

    /// Appends a command to a slot; slots are ten time units apart, the second shard's are five later.
    fn log(&mut self, (shard, slot): (ShardId, u64), timestamp: u64, command: Command) {
        let log = self.state.logs.entry(shard).or_default();
        let entry = log.entry(Slot(slot)).or_insert(LogEntry {
            origin: Ballot::new(1, ReplicaId(1)),
            timestamp: Timestamp(timestamp),
            commands: Vec::new(),
        });
        entry.commands.push(command);
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
        self.log((shard, 1), 1, Command::Create(account));
        let mut kept = account;
        (kept.debits_posted, kept.credits_posted) = sums;
        kept.timestamp = Timestamp(1);
        self.state.accounts.push((shard, kept));
    }

    fn sent(&mut self, transfer: Transfer, started_ns: u64, code: ResultCode, at: Timestamp) {
        self.history.transfers.push(TransferUse {
            transfer: Transfer {
                debit_epoch: 0,
                ..transfer
            },
            started_ns: Some(started_ns),
            answer: Some(Answer {
                at_ns: started_ns + 100,
                code,
                timestamp: at,
            }),
            abandoned: false,
            denied: false,
        });
        for shard in [FIRST, SECOND] {
            let answer = TransferAnswer {
                id: transfer.id,
                debit: None,
                credits: Vec::new(),
            };
            self.state.records.push((shard, answer));
        }
    }

    /// A transfer within one shard, in the log and in the records.
    fn local(
        &mut self,
        transfer: Transfer,
        started_ns: u64,
        code: ResultCode,
        (shard, slot): (ShardId, u64),
    ) {
        let timestamp = Timestamp(if shard == FIRST { slot * 10 } else { 90 });
        self.sent(transfer, started_ns, code, timestamp);
        self.log((shard, slot), timestamp.0, Command::Transfer(transfer));
        self.record_at(transfer.id.0, shard).debit = Some(RecordedTransfer {
            transfer,
            code: code as u16,
            slot: Slot(slot),
            commit_ts: timestamp,
            attempt: Attempt::default(),
        });
    }

    /// Transfer 3: prepared at the second shard, committed at the first, posted at the second.
    fn cross_success(&mut self) {
        let transfer = transfer(3, (1, 3), 7);
        let commit_ts = Timestamp(40);
        self.sent(transfer, 3000, ResultCode::Ok, commit_ts);
        self.across((transfer, attempt(1)), (2, 35), (4, 40), ResultCode::Ok);
        let resolve = TxnRow {
            id: 3,
            attempt: attempt(1),
            coordinator: FIRST,
            subject: Subject::Transfer as u16,
            verdict: Verdict::Commit.to_u16(),
            timestamp: commit_ts,
            ..TxnRow::default()
        };
        self.log((SECOND, 3), 45, Command::Resolve(resolve));
        let mut record = *self.debit(3);
        record.slot = Slot(3);
        self.record_at(3, SECOND).credits = vec![record];
    }

    /// Transfer 8: the second shard has no account 9.
    fn cross_refusal(&mut self) {
        let transfer = transfer(8, (1, 9), 1);
        let code = ResultCode::CreditAccountNotFound;
        self.sent(transfer, 7500, code, Timestamp(72));
        self.across((transfer, attempt(2)), (4, 70), (7, 72), code);
    }

    /// Prepared at the second shard and decided at the first, each in a slot at a time.
    fn across(
        &mut self,
        (transfer, attempt): (Transfer, Attempt),
        prepared: (u64, u64),
        decided: (u64, u64),
        code: ResultCode,
    ) {
        let prepare = PrepareRow {
            transfer,
            attempt,
            coordinator: FIRST,
            reserved: [0; 12],
        };
        let kind = if code == ResultCode::Ok {
            CommitKind::Prepared
        } else {
            CommitKind::Refuse
        };
        let commit = CommitRow {
            transfer,
            attempt,
            participant: SECOND,
            kind: kind.to_u16(),
            code: code as u16,
            reserved: [0; 8],
        };
        self.log((SECOND, prepared.0), prepared.1, Command::Prepare(prepare));
        self.log((FIRST, decided.0), decided.1, Command::Commit(commit));
        self.record(transfer.id.0).debit = Some(RecordedTransfer {
            transfer,
            code: code as u16,
            slot: Slot(decided.0),
            commit_ts: Timestamp(decided.1),
            attempt,
        });
    }

    /// Account 2 goes to the second shard.
    fn moved(&mut self) {
        let id = MoveId(77);
        let head = MoveHead {
            id,
            attempt: attempt(3),
            source: FIRST,
            target: SECOND,
            accounts: 1,
            owners: 0,
        };
        let account = AccountId(2);
        let mut moved = *self.account(2);
        // Transfer 9 comes later.
        moved.debits_posted = 100;
        // Created, one debit, two credits.
        let version = 4;
        let batch = ArrivingBatch {
            head,
            accounts: vec![MovedAccountRow {
                account: moved,
                id_max: 1,
                version,
                last: HistoryPosition::NONE,
            }],
            owners: Vec::new(),
        };
        self.log((SECOND, 5), 80, Command::PrepareMove(batch));
        let versions = vec![MoveVersionRow {
            account,
            version,
            ownership_epoch: 0,
            reserved: 0,
        }];
        let accounts = versions;
        self.log((FIRST, 8), 82, Command::CommitMove { head, accounts });
        let resolve = TxnRow {
            id: id.0,
            attempt: attempt(3),
            coordinator: FIRST,
            subject: Subject::Move as u16,
            verdict: Verdict::Commit.to_u16(),
            timestamp: Timestamp(82),
            ..TxnRow::default()
        };
        self.log((SECOND, 6), 84, Command::Resolve(resolve));
        self.account(2).ownership_epoch = 1;
        let gone = Gone {
            to: SECOND,
            ownership_epoch: 1,
            changed: 1,
        };
        let map = ShardMap {
            epoch: 1,
            stubs: [(account, gone)].into(),
        };
        self.state.maps = [(FIRST, map), (SECOND, ShardMap::default())].into();
        let owned = self.state.accounts.iter_mut();
        for (shard, _) in owned.filter(|(_, kept)| kept.id == account) {
            *shard = SECOND;
        }
        self.history.moves.push(MoveUse {
            id,
            source: FIRST,
            target: SECOND,
            accounts: vec![account],
            started_ns: Some(8000),
            moved: Some(true),
            answered_ns: Some(8100),
        });
    }

    fn cut(&mut self) {
        let at = Timestamp(65);
        let sums = |posted: (u128, u128), transferred: u128, owned, transfers| CutSums {
            at,
            ledgers: vec![LedgerSums {
                ledger: 1,
                debits_posted: Total::from(posted.0),
                credits_posted: Total::from(posted.1),
                transferred: Total::from(transferred),
            }],
            owned,
            owned_hash: u128::from(owned),
            created: owned,
            created_hash: u128::from(owned),
            transfers,
            in_doubt: 0,
        };
        self.history.cuts.push(CutUse {
            at,
            started_ns: 6500,
            answered_ns: Some(6600),
            sums: vec![
                (FIRST, sums((122, 115), 122, 2, 4)),
                (SECOND, sums((0, 7), 0, 1, 0)),
            ],
        });
    }

    fn read_account(&mut self, id: u128, started_ns: u64, sums: (u128, u128)) {
        let mut account = *self.account(id);
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
