//! What is dropped is not needed any more: a ledger that lets go of history decides like one that keeps all,
//! but for the answer about an id that is too old.

use alloc::collections::BTreeMap;

use super::checkpoints::{Store, feed};
use super::*;
use crate::ledger::history::{HistoryPosition, Known, Record, RecordName};
use crate::prng::Prng;
use crate::time::MS;
use crate::txn::record::AcknowledgedRow;

/// How long history is kept.
const KEEP_MS: u64 = 1_000;

fn config() -> ReplicaConfig {
    ReplicaConfig {
        ids: IdRule::Ulid,
        keep_ns: Some(KEEP_MS * MS),
        ..World::config(1)
    }
}

/// An id that was made at `ms`.
fn ulid(ms: u64, random: u64) -> TransferId {
    TransferId(u128::from(ms) << 80 | u128::from(random))
}

/// Shard 1 twice, under the same entries.
struct Drill {
    /// Writes checkpoints, and is restored from them now and then.
    ledger: Ledger,
    /// Neither writes checkpoints nor drops anything.
    twin: Ledger,
    store: Store,
    random: Prng,
    now_ms: u64,
    used: Vec<TransferId>,
    open: Vec<TxnId>,
    /// Commits that shard 2 has not acknowledged, with their times.
    committed: BTreeMap<TxnId, Timestamp>,
    acknowledged: Timestamp,
    counter: u64,
    /// Answers: `id_too_old`, and of these how many about ids that had been used.
    too_old: usize,
    forgotten: usize,
    dropped: usize,
}

impl Drill {
    fn new(seed: u64) -> Self {
        let mut drill = Self {
            ledger: Ledger::new(&config()),
            twin: Ledger::new(&config()),
            store: Store::default(),
            random: Prng::new(seed),
            now_ms: 50_000,
            used: Vec::new(),
            open: Vec::new(),
            committed: BTreeMap::new(),
            acknowledged: Timestamp::ZERO,
            counter: 0,
            too_old: 0,
            forgotten: 0,
            dropped: 0,
        };
        let accounts: Vec<Account> = (1..=10)
            .map(|id| Account::new(AccountId(id), 1, 1, AccountFlags::default()))
            .collect();
        drill.apply(|entry| entry.create_accounts(&accounts));
        drill
    }

    /// Applies an entry to both; what they answer, the twin last.
    fn apply(&mut self, fill: impl FnOnce(&mut EntryBuilder)) -> [Applied; 2] {
        self.now_ms += self.random.range(0, 30);
        let mut builder = EntryBuilder::new();
        fill(&mut builder);
        let origin = Ballot::new(1, ReplicaId(1));
        let entry = builder.finish(origin, Timestamp(self.now_ms * MS), 0);
        let mut applied = [Applied::default(), Applied::default()];
        feed(&mut self.ledger, &self.store, &entry, &mut applied[0]);
        let slot = self.twin.applied().next();
        self.twin.apply(slot, &entry, &mut applied[1]);
        assert_eq!(self.ledger.digest(), self.twin.digest());
        applied
    }

    /// New, used before, or of any age without having been used.
    fn id(&mut self) -> TransferId {
        let last = u64::try_from(self.used.len()).expect("a few");
        let place = self.random.range(0, 2 * last + 4);
        if let Some(used) = usize::try_from(place)
            .ok()
            .and_then(|place| self.used.get(place))
        {
            return *used;
        }
        self.counter += 1;
        let ahead_ms = self.random.range(0, 500);
        let age_ms = match self.random.range(0, 4) {
            0 => self.random.range(0, 2 * KEEP_MS),
            _ => 0,
        };
        let id = ulid(self.now_ms + ahead_ms - age_ms, self.counter);
        self.used.push(id);
        id
    }

    fn check(&mut self, told: Option<ResultCode>, twin: Option<ResultCode>) {
        if told == Some(ResultCode::IdTooOld) {
            self.too_old += 1;
            self.forgotten += usize::from(twin != told);
            let about_use = [Some(ResultCode::IdTooOld), Some(ResultCode::Exists)];
            assert!(about_use.contains(&twin), "{twin:?}");
        } else {
            assert_eq!(told, twin);
        }
    }

    fn one(&mut self) {
        let id = self.id();
        match self.random.range(0, 8) {
            0 | 1 => self.commit(id),
            2 | 3 => self.prepare(id),
            4 => self.resolve(),
            5 if self.random.range(0, 3) == 0 => self.acknowledge(),
            _ => {
                let applied = self.apply(|entry| entry.transfers(&[transfer(id.0, 1, 2, 3)]));
                let [told, twin] = applied.map(|applied| match applied.transfers[0] {
                    TransferOutcome::Posted { .. } => Some(ResultCode::Ok),
                    TransferOutcome::Final(row) => row.result(),
                    other => panic!("{other:?}"),
                });
                self.check(told, twin);
            }
        }
    }

    fn commit(&mut self, id: TransferId) {
        self.counter += 1;
        let attempt = attempt(self.counter);
        // As another leader would see it, the fields being those of all uses of the id as a local transfer.
        let row = CommitRow {
            transfer: transfer(id.0, 1, 2, 3),
            attempt,
            participant: ShardId(2),
            kind: CommitKind::Prepared.to_u16(),
            code: 0,
            reserved: [0; 8],
        };
        let applied = self.apply(|entry| entry.commit(&[row]));
        if let CommitOutcome::Committed {
            timestamp: commit_ts,
            ..
        } = applied[1].commits[0]
        {
            let txn = TxnId {
                coordinator: ShardId(1),
                subject: Subject::Transfer,
                id: id.0,
                attempt,
            };
            self.committed.insert(txn, commit_ts);
        }
        let [told, twin] = applied.map(|applied| match applied.commits[0] {
            CommitOutcome::Final(row) => row.result(),
            CommitOutcome::Committed { .. } => Some(ResultCode::Ok),
            other => panic!("{other:?}"),
        });
        self.check(told, twin);
    }

    fn prepare(&mut self, id: TransferId) {
        self.counter += 1;
        let row = PrepareRow {
            transfer: transfer(id.0, 11, 3, 1),
            attempt: attempt(self.counter),
            coordinator: ShardId(2),
            reserved: [0; 12],
        };
        let applied = self.apply(|entry| entry.prepare(&[row]));
        let votes = applied.map(|applied| applied.votes[0]);
        let code = |vote: &TxnRow| match vote.parse().expect("a vote").1 {
            Verdict::Yes => Some(ResultCode::Ok),
            Verdict::No => ResultCode::from_u16(vote.code),
            other => panic!("{other:?}"),
        };
        let [told, twin] = [code(&votes[0]), code(&votes[1])];
        self.check(told, twin);
        if told == Some(ResultCode::Ok) {
            self.open.push(row.txn());
        }
    }

    /// Of several attempts at one id the coordinator commits one at most.
    fn resolve(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let last = u64::try_from(self.open.len()).expect("a few");
        let place = usize::try_from(self.random.range(0, last)).expect("a few");
        let txn = self.open.swap_remove(place);
        let posted = self.twin.history().credit(ShardId(2), TransferId(txn.id));
        let verdict = match posted {
            Known::Unused if self.random.range(0, 4) > 0 => Verdict::Commit,
            _ => Verdict::Abort,
        };
        let row = TxnRow {
            timestamp: Timestamp(self.now_ms * MS),
            ..TxnRow::new(txn, verdict)
        };
        self.apply(|entry| entry.resolve(&[row]));
    }

    fn acknowledge(&mut self) {
        let upto = Timestamp((self.now_ms - self.random.range(0, 800)) * MS);
        let row = AcknowledgedRow {
            upto,
            shard: ShardId(2),
            reserved: 0,
        };
        self.apply(|entry| entry.acknowledged(&[row]));
        self.acknowledged = self.acknowledged.max(upto);
        self.committed.retain(|_, commit_ts| *commit_ts > upto);
    }

    /// Writes one while entries come; what it lets go of is not needed.
    fn checkpoint(&mut self) {
        let horizon_ms = (self.ledger.last_timestamp().0 / MS).saturating_sub(KEEP_MS);
        let acknowledged = self.acknowledged;
        self.ledger.begin_checkpoint();
        let mut next = self.store.clone();
        while let Some(part) = self.ledger.next_part() {
            next.take(part);
            self.one();
        }
        self.ledger.end_checkpoint();
        self.store = next;
        // A replica may delete files late. Nothing may depend on it.
        if self.random.range(0, 3) > 0 {
            for record in self.store.drop_rows() {
                self.dropped += 1;
                assert!(crate::ledger::rules::ulid_ms(record.id) < horizon_ms);
                assert!(record.applied_ts.0 / MS <= horizon_ms);
                let is_decision = record.coordinator == ShardId(0);
                let is_cross = is_decision && record.attempt != Attempt::default();
                assert!(!is_cross || record.commit_ts <= acknowledged, "{record:?}");
            }
        }
        self.check_decisions();
    }

    /// Whatever a participant may ask about is answered as it was decided.
    fn check_decisions(&mut self) {
        for txn in self.committed.keys() {
            let name = RecordName {
                coordinator: ShardId(0),
                id: TransferId(txn.id),
            };
            if self.ledger.history().debit(name.id) == Known::NotLoaded {
                self.ledger.learn(&[name], &self.store.answer(&[name]));
            }
            let decided = self.ledger.decided(*txn).expect("it is kept");
            assert_eq!(decided, self.twin.decided(*txn).expect("it keeps all"));
            assert_eq!(decided.parse().expect("a decision").1, Verdict::Commit);
        }
    }

    fn restart(&mut self) {
        let whole = self.random.range(0, 2) == 0;
        let restored = self
            .store
            .restore_as(&config(), whole)
            .expect("just written");
        // Entries came while it was written, so a restart goes back; only a quiet one can go on.
        if restored.applied() == self.ledger.applied() {
            assert_eq!(restored.digest(), self.ledger.digest());
            assert_eq!(restored.retention, self.ledger.retention);
            assert_eq!(
                restored.history().dropped(),
                self.ledger.history().dropped()
            );
            self.ledger = restored;
        }
    }

    fn quiet_checkpoint(&mut self) {
        self.ledger.begin_checkpoint();
        let mut next = self.store.clone();
        while let Some(part) = self.ledger.next_part() {
            next.take(part);
        }
        self.ledger.end_checkpoint();
        self.store = next;
        self.dropped += self.store.drop_rows().len();
    }
}

/// An id never takes effect twice, a recorded refusal stays one, and a participant is told what was decided: all
/// that is the twin's behaviour, which keeps everything.
#[test]
fn a_ledger_that_drops_history_decides_like_one_that_keeps_it() {
    let (mut too_old, mut forgotten, mut dropped) = (0, 0, 0);
    for seed in 0..40 {
        let mut drill = Drill::new(seed);
        for _ in 0..25 {
            for _ in 0..drill.random.range(5, 40) {
                drill.one();
            }
            drill.checkpoint();
            if drill.random.range(0, 3) == 0 {
                drill.quiet_checkpoint();
                drill.restart();
            }
        }
        too_old += drill.too_old;
        forgotten += drill.forgotten;
        dropped += drill.dropped;
    }
    assert!(too_old > 1_000, "{too_old} were too old");
    assert!(forgotten > 200, "{forgotten} had been used and dropped");
    assert!(dropped > 2_000, "{dropped} rows were dropped");
}

fn write_checkpoint(ledger: &mut Ledger) -> HistoryPosition {
    ledger.begin_checkpoint();
    while ledger.next_part().is_some() {}
    ledger.end_checkpoint();
    ledger.history().dropped().from
}

fn world() -> World {
    let mut world = World::new(1);
    world.ledger = Ledger::new(&config());
    world.clock = 50_000 * MS;
    world.create(1, AccountFlags::default());
    world.create(2, AccountFlags::default());
    world
}

/// A coordinator that let go of a commit told its participant "aborted" an hour later, when that one
/// had a leader again: the debit stood, the credit was gone.
#[test]
fn a_commit_is_kept_until_its_participant_has_acknowledged_it() {
    let mut world = world();
    let id = ulid(50_000, 1);
    let row = CommitRow {
        transfer: transfer(id.0, 1, 12, 3),
        attempt: attempt(1),
        participant: ShardId(2),
        kind: CommitKind::Prepared.to_u16(),
        code: 0,
        reserved: [0; 8],
    };
    world.apply(|entry| entry.commit(&[row]));
    let commit_ts = world.ledger.last_timestamp();
    let says = |world: &mut World, upto| {
        world.clock += 10 * KEEP_MS * MS;
        let row = AcknowledgedRow {
            upto,
            shard: ShardId(2),
            reserved: 0,
        };
        world.apply(|entry| entry.acknowledged(&[row]));
        write_checkpoint(&mut world.ledger)
    };
    let before = Timestamp(commit_ts.0 - 1);
    for _ in 0..3 {
        assert_eq!(says(&mut world, before), HistoryPosition::NONE);
    }
    let retention = world.ledger.retention.as_ref().expect("a duration");
    assert!(!retention.waits_for(ShardId(2), before));
    assert!(retention.waits_for(ShardId(2), commit_ts));
    assert_eq!(says(&mut world, commit_ts), HistoryPosition(2));
    let retention = world.ledger.retention.as_ref().expect("a duration");
    assert!(!retention.waits_for(ShardId(2), commit_ts));
}

/// What is in doubt here holds back what is said about its coordinator, and about no other.
#[test]
fn a_participant_acknowledges_up_to_what_is_in_doubt() {
    let mut world = world();
    let row = PrepareRow {
        transfer: transfer(ulid(50_000, 1).0, 11, 1, 1),
        attempt: attempt(1),
        coordinator: ShardId(2),
        reserved: [0; 12],
    };
    world.apply(|entry| entry.prepare(&[row]));
    let prepare_ts = world.ledger.last_timestamp();
    world.apply(|_| {});
    let last = world.ledger.last_timestamp();
    assert_eq!(world.ledger.resolved_upto(ShardId(2)).0, prepare_ts.0 - 1);
    assert_eq!(world.ledger.resolved_upto(ShardId(3)), last);
    let decided = TxnRow::new(row.txn(), Verdict::Abort);
    world.apply(|entry| entry.resolve(&[decided]));
    let last = world.ledger.last_timestamp();
    assert_eq!(world.ledger.resolved_upto(ShardId(2)), last);
}

/// Behind the horizon only what is known as used has another answer, and nothing is recorded.
#[test]
fn an_id_that_is_too_old_leaves_no_trace() {
    let mut world = world();
    let (used, unused) = (ulid(50_000, 1), ulid(50_000, 2));
    assert_eq!(world.transfer(used.0, 1, 2, 5), ResultCode::Ok);
    world.clock += (KEEP_MS - 100) * MS;
    assert_eq!(world.transfer(ulid(50_000, 3).0, 1, 2, 5), ResultCode::Ok);
    world.clock += 200 * MS;
    let rows = world.ledger.history().len();
    assert_eq!(world.transfer(used.0, 1, 2, 5), ResultCode::Exists);
    assert_eq!(world.transfer(unused.0, 1, 2, 5), ResultCode::IdTooOld);
    assert_eq!(world.ledger.history().len(), rows);
    let again: Option<&Record> = world.ledger.history().debit(unused).loaded();
    assert_eq!(again, None);
}

/// The disk holds what is kept and little more.
#[test]
fn what_is_held_is_in_proportion_to_what_is_kept() {
    let mut world = world();
    let mut random = 0;
    for checkpoint in 0..2_000 {
        for _ in 0..10 {
            random += 1;
            world.clock += MS;
            let id = ulid(world.clock / MS, random);
            assert_eq!(world.transfer(id.0, 1, 2, 1), ResultCode::Ok);
        }
        let from = write_checkpoint(&mut world.ledger);
        let held = world.ledger.history().next_position().0 - from.0;
        // A row each millisecond. One stretch is cut off late, and a checkpoint comes every 10 ms.
        let most = KEEP_MS + KEEP_MS / crate::limits::KEEP_STRETCHES + 40;
        assert!(checkpoint < 110 || held <= most, "{held} rows held");
    }
}
