//! Carries out a move plan: batches, hottest first, retried until each is done or given up.
//!
//! One source shard is worked off by one thread, so a cluster has as many moves in flight as it has
//! sources. A batch goes from one source to one target and has an id of its own. The same id is
//! sent again until the answer is final; a batch that stays contended is split, because one busy
//! account holds up all others of its batch.
//!
//! The state of a move is in the cluster, not here: whoever dies between two batches may start the
//! same plan again, and accounts that have arrived count as `already_there`. This part neither
//! plans nor checks the money. The plan itself is kept by the cluster, too: [`record`] says what is known of one, [`shelf`]
//! where, and [`driver`] carries it out so that another tool can go on with it.

pub mod begin;
pub mod cost;
pub mod driver;
pub mod pace;
pub mod record;
mod reins;
pub mod shelf;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use quorate_protocol::client::MoveAnswer;
use quorate_protocol::ids::{AccountId, MoveId, ShardId};
use quorate_protocol::limits::MOVE_ACCOUNTS_MAX;

/// Contended answers after which a batch is split.
const CONTENDED_BEFORE_SPLIT: u32 = 3;
/// An account is frozen until the last of its batch is free of what was open on it, so the more travel together, the longer each waits.
const BATCH: usize = 32;
/// With the hottest accounts of three sources held in turn, clients that touch all of them lose a fifth of their time at worst.
const REST: u32 = 15;
/// A batch that takes more than a sixteenth of this says more about a fault than about the load.
const REST_MAX: Duration = Duration::from_secs(10);
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(200);

/// One account's change of shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountMove {
    pub account: AccountId,
    pub source: ShardId,
    pub target: ShardId,
}

/// How the plan is carried out.
#[derive(Clone, Copy, Debug)]
pub struct ApplyOptions {
    /// Accounts per move, at most `MOVE_ACCOUNTS_MAX`. Only the batch in flight waits.
    pub batch_max: usize,
    /// A batch that is not done by then is given up.
    pub patience: Duration,
    /// A source is left alone for this many times as long as its last batch took, held or in vain, so accounts of it are held
    /// for one part in `rest + 1` of the time whatever that costs under the load of now; but not for longer than 10 s.
    pub rest: u32,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self {
            batch_max: BATCH,
            patience: Duration::from_secs(30),
            rest: REST,
        }
    }
}

/// What a transport says about one sending of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveReply {
    /// The source's leader answered.
    Answer(MoveAnswer),
    /// The source does not take it now: the same id may be sent again.
    Busy,
    /// No leader, no connection, or no answer in time: the same id may be sent again.
    NoAnswer,
}

/// Sends `MoveAccounts` to the leader of the source.
pub trait MoveSender {
    /// One request and its reply, within the transport's own deadline.
    fn move_accounts(
        &mut self,
        source: ShardId,
        id: MoveId,
        target: ShardId,
        accounts: &[AccountId],
    ) -> MoveReply;

    /// An id that was never used.
    fn new_move_id(&mut self) -> MoveId;
}

/// Who is asked before each batch.
pub trait Conduct: Sync {
    /// Waits for as long as moves are to be slower, `rest` at least. False ends the work of this source.
    fn may_go_on(&self, rest: Duration) -> bool;
}

/// Goes on until all is done.
#[derive(Clone, Copy, Debug)]
pub struct Unhindered;

impl Conduct for Unhindered {
    fn may_go_on(&self, rest: Duration) -> bool {
        thread::sleep(rest);
        true
    }
}

/// One batch that has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovedBatch {
    pub accounts: u32,
    /// How long nobody served the batch's accounts; `None` if the leader that says so did not see it.
    pub freeze_ns: Option<u64>,
}

/// What became of a plan, so far or in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub planned: u64,
    pub moved: u64,
    /// Found at their target before they were moved.
    pub already_there: u64,
    /// Neither at their source nor at their target: the plan is older than the cluster's state.
    pub elsewhere: Vec<AccountId>,
    /// Still at their source when patience ended, or outcome not known.
    pub given_up: Vec<AccountId>,
    /// Refused by the cluster: system accounts, or a target that does not exist.
    pub refused: Vec<AccountId>,
    pub batches: Vec<MovedBatch>,
    /// Requests that were sent again.
    pub retries: u64,
}

impl Applied {
    /// Whether every planned account is at its target.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.moved + self.already_there == self.planned
    }

    /// Accounts whose fate is settled.
    #[must_use]
    pub fn settled(&self) -> u64 {
        let left = self.elsewhere.len() + self.given_up.len() + self.refused.len();
        let left = u64::try_from(left).expect("lists fit memory");
        self.moved + self.already_there + left
    }

    /// Freeze time per account in nanoseconds: (p50, p99, maximum); `None` if nothing moved.
    #[must_use]
    pub fn freeze_quantiles_ns(&self) -> Option<(u64, u64, u64)> {
        let timed = self.batches.iter();
        let mut frozen: Vec<(u64, u64)> = timed
            .filter_map(|batch| Some((batch.freeze_ns?, batch.accounts.into())))
            .collect();
        frozen.sort_unstable();
        let total: u64 = frozen.iter().map(|(_, accounts)| accounts).sum();
        let at = |per_mille: u64| {
            let rank = (total * per_mille).div_ceil(1000).max(1);
            let mut seen = 0;
            frozen.iter().find_map(|(freeze_ns, accounts)| {
                seen += accounts;
                (seen >= rank).then_some(*freeze_ns)
            })
        };
        Some((at(500)?, at(990)?, frozen.last()?.0))
    }
}

#[derive(Debug)]
struct Batch {
    target: ShardId,
    accounts: Vec<AccountId>,
}

/// Moves every account of the plan; `progress` is told after each batch.
///
/// `connect` makes one sender per source shard; its error ends the work before anything moved.
///
/// # Panics
/// If `batch_max` is 0 or above `MOVE_ACCOUNTS_MAX`.
pub fn apply<S, E>(
    moves: &[AccountMove],
    options: ApplyOptions,
    connect: impl FnMut(ShardId) -> Result<S, E>,
    progress: impl Fn(&Applied) + Sync,
) -> Result<Applied, E>
where
    S: MoveSender + Send,
{
    apply_as(moves, options, &Unhindered, connect, progress)
}

/// The same at the pace of `conduct`, which may also end it early.
///
/// # Errors
/// A sender cannot be made.
///
/// # Panics
/// If `batch_max` is 0 or above `MOVE_ACCOUNTS_MAX`.
pub fn apply_as<S, E>(
    moves: &[AccountMove],
    options: ApplyOptions,
    conduct: &impl Conduct,
    mut connect: impl FnMut(ShardId) -> Result<S, E>,
    progress: impl Fn(&Applied) + Sync,
) -> Result<Applied, E>
where
    S: MoveSender + Send,
{
    assert!((1..=MOVE_ACCOUNTS_MAX).contains(&options.batch_max));
    let mut sources = Vec::new();
    for (source, batches) in batches_of(moves, options.batch_max) {
        sources.push((source, batches, connect(source)?));
    }
    let shared = Mutex::new(Applied {
        planned: u64::try_from(moves.len()).expect("a slice's length fits"),
        ..Applied::default()
    });
    thread::scope(|scope| {
        for (source, batches, sender) in sources {
            let (shared, progress) = (&shared, &progress);
            scope.spawn(move || {
                let mut worker = Worker {
                    source,
                    sender,
                    options,
                    shared,
                    unheard: Unheard::default(),
                };
                worker.run(batches, conduct, progress);
            });
        }
    });
    Ok(shared.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Batches per source in the order of their hottest account.
fn batches_of(moves: &[AccountMove], batch_max: usize) -> BTreeMap<ShardId, VecDeque<Batch>> {
    let mut sources: BTreeMap<ShardId, VecDeque<Batch>> = BTreeMap::new();
    let mut open: BTreeMap<(ShardId, ShardId), usize> = BTreeMap::new();
    for planned in moves
        .iter()
        .filter(|planned| planned.source != planned.target)
    {
        let batches = sources.entry(planned.source).or_default();
        let at = open
            .entry((planned.source, planned.target))
            .or_insert(usize::MAX);
        match batches.get_mut(*at) {
            Some(batch) if batch.accounts.len() < batch_max => batch.accounts.push(planned.account),
            _ => {
                *at = batches.len();
                batches.push_back(Batch {
                    target: planned.target,
                    accounts: vec![planned.account],
                });
            }
        }
    }
    sources
}

/// Works off the batches of one source.
struct Worker<'a, S> {
    source: ShardId,
    sender: S,
    options: ApplyOptions,
    shared: &'a Mutex<Applied>,
    unheard: Unheard,
}

/// Requests without an answer since the last one: how many, and how long they were waited for.
#[derive(Clone, Copy, Debug, Default)]
struct Unheard {
    requests: u32,
    waited: Duration,
}

impl Unheard {
    /// Whether the source is silent, not just one answer lost or this process stopped for a while. Between requests there are
    /// pauses, and the last one may have begun just before the end of patience, so half of that is enough.
    fn is_silence(self, patience: Duration) -> bool {
        self.requests > 1 && self.waited >= patience / 2
    }
}

/// What is to be done after a batch was tried.
enum Tried {
    /// Nothing more comes of it.
    Done,
    /// Given up, as the source is silent; the next batch would wait as long for nothing.
    Silent,
    /// It is not to go on.
    Stopped,
    /// These parts are to be tried next, each with an id of its own.
    Again(Vec<Batch>),
}

impl<S: MoveSender> Worker<'_, S> {
    fn run(
        &mut self,
        mut batches: VecDeque<Batch>,
        conduct: &impl Conduct,
        progress: &impl Fn(&Applied),
    ) {
        let mut rest = Duration::ZERO;
        while let Some(batch) = batches.pop_front() {
            let mut deadline = Instant::now() + self.options.patience;
            let mut parts = VecDeque::from([batch]);
            while let Some(part) = parts.pop_front() {
                let asked = Instant::now();
                if !conduct.may_go_on(rest) {
                    return;
                }
                // Waiting on purpose is not what patience is for.
                deadline += asked.elapsed();
                let began = Instant::now();
                let tried = self.try_batch(part, deadline, conduct);
                rest = (began.elapsed() * self.options.rest).min(REST_MAX);
                match tried {
                    Tried::Done => {}
                    Tried::Stopped => return,
                    Tried::Silent => {
                        let left = parts.into_iter().chain(batches);
                        self.note(|applied| {
                            applied
                                .given_up
                                .extend(left.flat_map(|batch| batch.accounts));
                            progress(applied);
                        });
                        return;
                    }
                    Tried::Again(smaller) => {
                        for part in smaller.into_iter().rev() {
                            parts.push_front(part);
                        }
                    }
                }
                self.note(|applied| progress(applied));
            }
        }
    }

    /// Sends one batch until its answer is final, or the deadline has passed.
    fn try_batch(&mut self, batch: Batch, deadline: Instant, conduct: &impl Conduct) -> Tried {
        let Batch { target, accounts } = batch;
        let id = self.sender.new_move_id();
        let mut backoff = BACKOFF_MIN;
        let mut contended = 0;
        loop {
            let asked = Instant::now();
            let reply = self
                .sender
                .move_accounts(self.source, id, target, &accounts);
            let past = Instant::now() >= deadline;
            self.unheard = match reply {
                MoveReply::NoAnswer => Unheard {
                    requests: self.unheard.requests + 1,
                    waited: self.unheard.waited + asked.elapsed(),
                },
                MoveReply::Answer(_) | MoveReply::Busy => Unheard::default(),
            };
            match reply {
                MoveReply::Answer(MoveAnswer::Moved {
                    accounts: moved,
                    freeze_ns,
                    ..
                }) => {
                    self.note(|applied| {
                        applied.moved += u64::from(moved);
                        applied.batches.push(MovedBatch {
                            accounts: moved,
                            freeze_ns: (freeze_ns > 0).then_some(freeze_ns),
                        });
                    });
                    return Tried::Done;
                }
                MoveReply::Answer(MoveAnswer::NotOwned { account, shard })
                    if accounts.contains(&account) =>
                {
                    self.note(|applied| match shard == target {
                        true => applied.already_there += 1,
                        false => applied.elsewhere.push(account),
                    });
                    let rest = without(accounts, account);
                    return Tried::Again(parts_of(target, rest));
                }
                MoveReply::Answer(MoveAnswer::Refused) if accounts.len() == 1 => {
                    self.note(|applied| applied.refused.extend(accounts));
                    return Tried::Done;
                }
                // One of them is the reason; halves find it.
                MoveReply::Answer(MoveAnswer::Refused) => return halves(target, accounts),
                MoveReply::Answer(MoveAnswer::Contended) => contended += 1,
                // An answer about an account that was not asked for is none.
                MoveReply::Answer(MoveAnswer::NotOwned { .. })
                | MoveReply::Busy
                | MoveReply::NoAnswer => {}
            }
            if past {
                self.note(|applied| applied.given_up.extend(accounts));
                return match self.unheard.is_silence(self.options.patience) {
                    true => Tried::Silent,
                    false => Tried::Done,
                };
            }
            self.note(|applied| applied.retries += 1);
            if contended == CONTENDED_BEFORE_SPLIT && accounts.len() > 1 {
                return halves(target, accounts);
            }
            if !conduct.may_go_on(backoff) {
                return Tried::Stopped;
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    fn note(&self, change: impl FnOnce(&mut Applied)) {
        let mut applied = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut applied);
    }
}

fn without(accounts: Vec<AccountId>, gone: AccountId) -> Vec<AccountId> {
    accounts
        .into_iter()
        .filter(|&account| account != gone)
        .collect()
}

fn parts_of(target: ShardId, accounts: Vec<AccountId>) -> Vec<Batch> {
    match accounts.is_empty() {
        true => Vec::new(),
        false => vec![Batch { target, accounts }],
    }
}

fn halves(target: ShardId, mut accounts: Vec<AccountId>) -> Tried {
    let second = accounts.split_off(accounts.len() / 2);
    let mut parts = parts_of(target, accounts);
    parts.extend(parts_of(target, second));
    Tried::Again(parts)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quorate_protocol::time::Timestamp;

    use super::*;

    const ONE: ShardId = ShardId(1);
    const TWO: ShardId = ShardId(2);
    const THREE: ShardId = ShardId(3);

    /// A source that answers by rules, and remembers what it was sent.
    struct Scripted {
        ids: u128,
        sent: Vec<(MoveId, Vec<u128>)>,
        /// Contended as long as a batch with more than one account contains it.
        busy: BTreeSet<u128>,
        gone: BTreeMap<u128, ShardId>,
        system: BTreeSet<u128>,
        silent: u32,
        takes: Duration,
    }

    impl Scripted {
        fn new() -> Self {
            Self {
                ids: 0,
                sent: Vec::new(),
                busy: BTreeSet::new(),
                gone: BTreeMap::new(),
                system: BTreeSet::new(),
                silent: 0,
                takes: Duration::ZERO,
            }
        }
    }

    impl MoveSender for &mut Scripted {
        fn move_accounts(
            &mut self,
            source: ShardId,
            id: MoveId,
            target: ShardId,
            accounts: &[AccountId],
        ) -> MoveReply {
            assert_ne!(source, target);
            thread::sleep(self.takes);
            self.sent.push((id, accounts.iter().map(|a| a.0).collect()));
            if self.silent > 0 {
                self.silent -= 1;
                return MoveReply::NoAnswer;
            }
            if accounts.iter().any(|a| self.system.contains(&a.0)) {
                return MoveReply::Answer(MoveAnswer::Refused);
            }
            if let Some(account) = accounts.iter().find(|a| self.gone.contains_key(&a.0)) {
                return MoveReply::Answer(MoveAnswer::NotOwned {
                    account: *account,
                    shard: self.gone[&account.0],
                });
            }
            if accounts.len() > 1 && accounts.iter().any(|a| self.busy.contains(&a.0)) {
                return MoveReply::Answer(MoveAnswer::Contended);
            }
            MoveReply::Answer(MoveAnswer::Moved {
                accounts: u32::try_from(accounts.len()).unwrap(),
                commit_ts: Timestamp(1),
                freeze_ns: 1000 * accounts.len() as u64,
            })
        }

        fn new_move_id(&mut self) -> MoveId {
            self.ids += 1;
            MoveId(self.ids)
        }
    }

    fn moves(accounts: impl IntoIterator<Item = u128>, target: ShardId) -> Vec<AccountMove> {
        let planned = |account| AccountMove {
            account: AccountId(account),
            source: ONE,
            target,
        };
        accounts.into_iter().map(planned).collect()
    }

    fn run(script: &mut Scripted, plan: &[AccountMove], options: ApplyOptions) -> Applied {
        let mut script = Some(script);
        apply(
            plan,
            options,
            |_| Ok::<_, ()>(script.take().expect("one source")),
            |_| (),
        )
        .unwrap()
    }

    fn batches(batch_max: usize) -> ApplyOptions {
        ApplyOptions {
            batch_max,
            patience: Duration::from_millis(100),
            rest: 0,
        }
    }

    #[test]
    fn batches_keep_the_order_and_have_one_target() {
        let mut plan = moves([9, 8, 7], TWO);
        plan.extend(moves([6, 5], THREE));
        plan.extend(moves([4], TWO));
        let mut script = Scripted::new();
        let applied = run(&mut script, &plan, batches(2));
        let sent: Vec<Vec<u128>> = script.sent.into_iter().map(|(_, sent)| sent).collect();
        assert_eq!(sent, [vec![9, 8], vec![7, 4], vec![6, 5]]);
        assert!(applied.is_complete());
        assert_eq!(applied.moved, 6);
        assert_eq!(applied.freeze_quantiles_ns(), Some((2000, 2000, 2000)));
    }

    #[test]
    fn silence_is_answered_with_the_same_id() {
        let mut script = Scripted::new();
        script.silent = 2;
        let applied = run(&mut script, &moves([1, 2], TWO), batches(8));
        let ids: Vec<u128> = script.sent.iter().map(|(id, _)| id.0).collect();
        assert_eq!(ids, [1, 1, 1]);
        assert_eq!((applied.moved, applied.retries), (2, 2));
    }

    #[test]
    fn a_busy_account_holds_up_only_itself() {
        let mut script = Scripted::new();
        script.busy.insert(3);
        let options = ApplyOptions {
            patience: Duration::from_secs(60),
            ..batches(8)
        };
        let applied = run(&mut script, &moves(1..=4, TWO), options);
        assert!(applied.is_complete(), "{applied:?}");
        assert!(
            script.sent.contains(&(MoveId(2), vec![1, 2])),
            "{:?}",
            script.sent
        );
    }

    #[test]
    fn accounts_that_are_gone_are_told_apart() {
        let mut script = Scripted::new();
        script.gone = BTreeMap::from([(1, TWO), (2, THREE)]);
        let applied = run(&mut script, &moves(1..=3, TWO), batches(8));
        assert_eq!((applied.moved, applied.already_there), (1, 1));
        assert_eq!(applied.elsewhere, [AccountId(2)]);
        assert!(!applied.is_complete());
        assert_eq!(applied.settled(), 3);
    }

    #[test]
    fn a_system_account_is_refused_alone() {
        let mut script = Scripted::new();
        script.system.insert(2);
        let applied = run(&mut script, &moves(1..=5, TWO), batches(8));
        assert_eq!(applied.moved, 4);
        assert_eq!(applied.refused, [AccountId(2)]);
    }

    #[test]
    fn a_source_is_left_alone_in_proportion_to_what_it_was_held() {
        #[derive(Default)]
        struct Told(Mutex<Vec<Duration>>);

        impl Conduct for Told {
            fn may_go_on(&self, rest: Duration) -> bool {
                self.0.lock().unwrap().push(rest);
                true
            }
        }

        const TAKES: Duration = Duration::from_millis(3);
        let mut script = Scripted::new();
        script.takes = TAKES;
        let mut script = Some(&mut script);
        let told = Told::default();
        let options = ApplyOptions {
            rest: 10,
            ..batches(4)
        };
        let connect = |_| Ok::<_, ()>(script.take().expect("one source"));
        let applied = apply_as(&moves(1..=10, TWO), options, &told, connect, |_| ());
        assert!(applied.unwrap().is_complete());
        let rests = told.0.into_inner().unwrap();
        assert_eq!((rests.len(), rests[0]), (3, Duration::ZERO));
        assert!(
            rests[1..].iter().all(|rest| *rest >= TAKES * 10),
            "{rests:?}"
        );
    }

    #[test]
    fn a_source_that_never_answers_is_given_up() {
        let mut script = Scripted::new();
        script.silent = u32::MAX;
        script.takes = Duration::from_millis(30);
        let applied = run(&mut script, &moves(1..=5, TWO), batches(2));
        // The batches behind the first one are not waited for, too.
        assert_eq!(applied.given_up.len(), 5);
        assert!(script.sent.iter().all(|(id, _)| id.0 == 1));
    }
}
