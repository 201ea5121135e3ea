//! The clients against a cluster made of a few lines, in real time.

use super::*;
use crate::feed::{Feed, Replay};
use crate::reads::{Look, Reads};
use crate::workload::Draw;
use crate::workload::{
    Communities, Drift, DriftingCommunities, DriftingPayments, Payments, Shape, Uniform,
};
use quorate_protocol::ledger::ResultCode;
use quorate_protocol::time::Timestamp;
use std::collections::BTreeMap;

/// Two shards by parity; answers after a fixed time, one request at a time if `serial`.
struct Fake {
    answer_after: Duration,
    serial: bool,
    busy_until: Cell<Option<Instant>>,
    next_id: Cell<u128>,
    /// How often each id was sent.
    seen: RefCell<BTreeMap<TransferId, u32>>,
    /// Answers `unknown` to the first this many times that an id is sent.
    unknown_times: u32,
    requests_open: Cell<usize>,
    requests_open_max: Cell<usize>,
    /// Who paid whom, in the order of sending.
    pairs: RefCell<Vec<(AccountId, AccountId)>>,
    /// Accounts that were looked at.
    read: Cell<usize>,
}

impl Fake {
    fn new(answer_after: Duration) -> Self {
        Self {
            answer_after,
            serial: false,
            busy_until: Cell::new(None),
            next_id: Cell::new(1),
            seen: RefCell::default(),
            unknown_times: 0,
            requests_open: Cell::new(0),
            requests_open_max: Cell::new(0),
            pairs: RefCell::default(),
            read: Cell::new(0),
        }
    }
}

impl Cluster for Fake {
    fn shards(&self) -> u32 {
        2
    }

    fn shard_of(&self, account: AccountId) -> ShardId {
        ShardId(if account.0.is_multiple_of(2) { 1 } else { 2 })
    }

    fn next_id(&self) -> TransferId {
        self.next_id.set(self.next_id.get() + 1);
        TransferId(self.next_id.get())
    }

    async fn read_accounts(&self, ids: Rows<AccountId>) -> u64 {
        glommio::timer::sleep(self.answer_after).await;
        self.read.set(self.read.get() + ids.len());
        0
    }

    async fn create_transfers(&self, shard: ShardId, transfers: Rows<Transfer>) -> Vec<ResultRow> {
        self.requests_open.set(self.requests_open.get() + 1);
        let open = self.requests_open.get();
        self.requests_open_max
            .set(self.requests_open_max.get().max(open));
        let pair = |it: &Transfer| (it.debit_account_id, it.credit_account_id);
        self.pairs.borrow_mut().extend(transfers.iter().map(pair));
        let now = Instant::now();
        let from = match self.busy_until.get() {
            Some(until) if self.serial => until.max(now),
            Some(_) | None => now,
        };
        let done = from + self.answer_after;
        self.busy_until.set(Some(done));
        glommio::timer::sleep(done - now).await;
        self.requests_open.set(self.requests_open.get() - 1);
        let answer = |transfer: &Transfer| {
            assert_eq!(self.shard_of(transfer.debit_account_id), shard);
            let mut seen = self.seen.borrow_mut();
            let times = seen.entry(transfer.id).or_default();
            *times += 1;
            if *times <= self.unknown_times {
                return ResultRow::unlogged(ResultCode::Unknown);
            }
            let mut row = ResultRow::logged(ResultCode::Ok, Timestamp(1));
            if self.shard_of(transfer.credit_account_id) != shard {
                row.flags = ResultRow::CROSS_SHARD;
            }
            row
        };
        transfers.iter().map(answer).collect()
    }
}

fn options() -> Options {
    Options {
        mode: Mode::Closed,
        clients: 4,
        connections: 1,
        batch: 10,
        warmup: Duration::ZERO,
        seconds: Some(Duration::from_millis(300)),
        seed: 1,
    }
}

fn endless(clients: u64) -> Feed {
    let shape = Arc::new(Shape::Uniform(Uniform::new(100)));
    let stream = |client| Payments::new(Arc::clone(&shape), None, 1, client);
    Feed::Endless((0..clients).map(stream).collect())
}

fn list(length: u128) -> Feed {
    let draw = |n| Draw {
        debit: AccountId(n),
        credit: AccountId(n + 1),
        amount: 1,
    };
    Feed::Replay(Replay::once((1..=length).map(draw).collect()))
}

/// Runs on an executor of its own; the cluster is made there because it is single-threaded.
fn run<O: Into<Operations>>(
    make: impl FnOnce() -> Fake + Send + 'static,
    feed: impl FnOnce() -> O + Send + 'static,
    options: Options,
    stop: Arc<AtomicBool>,
) -> (Measured, BTreeMap<TransferId, u32>, usize) {
    let (measured, fake) = run_on(make, feed, options, stop);
    let open_max = fake.requests_open_max.get();
    (measured, fake.seen.into_inner(), open_max)
}

/// The same, with all that the cluster saw.
fn run_on<O: Into<Operations>>(
    make: impl FnOnce() -> Fake + Send + 'static,
    feed: impl FnOnce() -> O + Send + 'static,
    options: Options,
    stop: Arc<AtomicBool>,
) -> (Measured, Fake) {
    glommio::LocalExecutorBuilder::new(glommio::Placement::Fixed(0))
        .spawn(move || async move {
            let cluster = Rc::new(make());
            let clusters = [Rc::clone(&cluster)];
            let (measured, _) = drive(
                &clusters,
                feed(),
                options,
                Files::default(),
                stop,
                |_, _| {},
            )
            .await;
            let [only] = clusters;
            drop(only);
            (measured, Rc::into_inner(cluster).expect("nobody else"))
        })
        .unwrap()
        .join()
        .unwrap()
}

fn never() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(false))
}

#[test]
fn a_closed_loop_keeps_one_batch_per_client_in_flight() {
    let (measured, seen, open_max) = run(
        || Fake::new(Duration::from_millis(5)),
        || endless(4),
        options(),
        never(),
    );
    // A batch of four clients splits into at most two requests each.
    assert!(open_max <= 8, "{open_max}");
    let committed = measured.recorder.tally().committed();
    assert_eq!(committed, seen.len() as u64);
    assert!(seen.values().all(|&times| times == 1));
    // 60 rounds of 5 ms at most, and surely some even on a busy machine.
    assert!((40..=2_400).contains(&committed), "{committed}");
    assert!(measured.recorder.tally().committed_cross > 0);
    assert!(measured.recorder.all().min() >= 4_900_000);
    assert!(!measured.interrupted);
}

/// Batches of 90 ms do not fill 200 ms: by the clock, either two or three of them would count. Nor does it matter that the last
/// answers come behind the end.
#[test]
fn a_short_closed_loop_tells_its_throughput_whatever_its_ends_cut() {
    let short = Options {
        warmup: Duration::from_millis(50),
        seconds: Some(Duration::from_millis(200)),
        ..options()
    };
    let slow = || Fake::new(Duration::from_millis(90));
    let (measured, _, _) = run(slow, || endless(4), short, never());
    let tps = measured.closed_tps.expect("batches were counted");
    // 4 clients with 10 transfers in 90 ms each, or in more on a busy machine.
    assert!((200.0..=444.5).contains(&tps), "{tps}");
    let none = Options {
        seconds: Some(Duration::from_millis(20)),
        ..short
    };
    let (measured, _, _) = run(slow, || endless(4), none, never());
    assert_eq!(measured.closed_tps, None);
}

/// A cluster that takes 20 ms for each request and is offered 100 requests a second falls behind by
/// a second every second. A generator that only timed its requests would report 20 ms.
#[test]
fn an_open_loop_charges_the_wait_before_sending() {
    let options = Options {
        mode: Mode::Open {
            rate: 100.0,
            arrivals: Arrivals::Constant,
        },
        clients: 1,
        batch: 1,
        seconds: Some(Duration::from_millis(600)),
        ..options()
    };
    let slow = || Fake {
        serial: true,
        ..Fake::new(Duration::from_millis(20))
    };
    let (measured, seen, open_max) = run(slow, || endless(1), options, never());
    assert_eq!(open_max, 1);
    let worst_ms = measured.recorder.all().max() / 1_000_000;
    assert!(worst_ms >= 200, "{worst_ms} ms");
    // 60 were due; whatever was not sent was dropped, none was forgotten.
    let sent = seen.len() as u64;
    assert_eq!(sent + measured.recorder.dropped(), 60);
    assert!(sent <= 31, "{sent}");
}

#[test]
fn an_open_loop_that_keeps_up_drops_nothing_and_sends_the_rate() {
    let options = Options {
        mode: Mode::Open {
            rate: 2_000.0,
            arrivals: Arrivals::Poisson,
        },
        clients: 64,
        batch: 10,
        seconds: Some(Duration::from_millis(500)),
        ..options()
    };
    let fast = || Fake::new(Duration::from_millis(1));
    let (measured, seen, _) = run(fast, || endless(64), options, never());
    assert_eq!(measured.recorder.dropped(), 0);
    // 100 batches due, standard deviation 10.
    assert!((600..1_400).contains(&seen.len()), "{}", seen.len());
}

/// A cluster that falls behind is still paid as it was meant to be: which period of drift a payment
/// belongs to follows from its intended time, not from when a client was free.
#[test]
fn drift_goes_by_the_intended_time_however_late_a_request_is() {
    let gap_ns = 10_000_000;
    let options = Options {
        mode: Mode::Open {
            rate: 100.0,
            arrivals: Arrivals::Constant,
        },
        clients: 1,
        batch: 1,
        seconds: Some(Duration::from_millis(600)),
        ..options()
    };
    let payments = || {
        let drift = Drift {
            percent: 100.0,
            every: Duration::from_millis(50),
        };
        let communities = Communities::new(1_000, 0.9, 1.0, 1);
        let shape = Arc::new(DriftingCommunities::new(communities, drift, 1));
        DriftingPayments::new(shape, 1, 0..1, 0)
    };
    // Four times as slow as it is paid: after 120 ms it gets what was meant for 30.
    let slow = || Fake {
        serial: true,
        ..Fake::new(Duration::from_millis(40))
    };
    let (_, fake) = run_on(slow, move || Feed::Drifting(payments()), options, never());
    let pairs = fake.pairs.into_inner();
    assert!(pairs.len() >= 4, "{}", pairs.len());
    let mut expected = payments();
    for (n, pair) in (0..).zip(pairs) {
        let meant = expected.take(0, 1, n * gap_ns)[0];
        assert_eq!(pair, (meant.debit, meant.credit), "request {n}");
    }
}

#[test]
fn reads_are_measured_apart_and_take_the_place_of_payments() {
    let options = Options {
        seconds: Some(Duration::from_millis(200)),
        ..options()
    };
    let operations = || {
        let reads = Reads::new(0.5, Look::Debit, endless(4), 1);
        Operations::new(endless(4), Some(reads))
    };
    let quick = || Fake::new(Duration::from_millis(5));
    let (measured, fake) = run_on(quick, operations, options, never());
    let recorder = &measured.recorder;
    let (looks, paid) = (recorder.looks(), fake.seen.borrow().len());
    assert_eq!(looks.accounts, u64::try_from(fake.read.get()).unwrap());
    assert_eq!(looks.unknown, 0);
    // Batches of ten operations, about half of which read.
    assert_eq!((fake.read.get() + paid) % 10, 0);
    assert!(fake.read.get() * 3 > paid && paid * 3 > fake.read.get());
    let committed = recorder.tally().committed();
    assert_eq!(committed, u64::try_from(paid).unwrap());
    assert!(recorder.read().min() >= 4_900_000);
    assert!(recorder.read().len() <= looks.accounts);
}

/// What samples the servers from outside finds the measured time by it.
#[test]
fn the_start_of_measuring_is_told_by_the_wall_clock() {
    let warmup = Duration::from_millis(100);
    let options = Options {
        warmup,
        ..options()
    };
    let before = wall_clock_ns();
    let quick = || Fake::new(Duration::from_millis(5));
    let (measured, _, _) = run(quick, || endless(4), options, never());
    let started = measured.measured_from_unix_ns - nanos(warmup);
    let ended = measured.measured_from_unix_ns + measured.measured_ns;
    assert!(
        before <= started && ended <= wall_clock_ns(),
        "{before} {started}"
    );
}

/// A replay promises that every transfer of its file takes effect: one whose outcome is unknown is
/// sent again under the same id.
#[test]
fn a_replay_commits_every_transfer_once_through_unknown_answers() {
    let flaky = || Fake {
        unknown_times: 2,
        ..Fake::new(Duration::from_millis(1))
    };
    let options = Options {
        seconds: None,
        ..options()
    };
    let (measured, seen, _) = run(flaky, || list(95), options, never());
    assert_eq!(measured.recorder.tally().committed(), 95);
    assert_eq!(measured.recorder.tally().unknown, 0);
    assert_eq!(seen.len(), 95);
    assert!(seen.values().all(|&times| times == 3));
}

/// Elsewhere an unknown outcome is an unknown outcome: counted, not tried until it looks good.
#[test]
fn an_unknown_outcome_is_counted_as_such() {
    let lost = || Fake {
        unknown_times: u32::MAX,
        ..Fake::new(Duration::from_millis(5))
    };
    let (measured, seen, _) = run(lost, || endless(4), options(), never());
    assert_eq!(measured.recorder.tally().committed(), 0);
    assert_eq!(measured.recorder.tally().unknown, seen.len() as u64);
    assert!(seen.values().all(|&times| times == 1));
}

#[test]
fn a_stop_ends_a_run_early_and_says_so() {
    let stop = never();
    let flag = Arc::clone(&stop);
    let options = Options {
        seconds: Some(Duration::from_secs(600)),
        ..options()
    };
    let stopping = move || {
        flag.store(true, Ordering::Relaxed);
        Fake::new(Duration::from_millis(1))
    };
    let (measured, seen, _) = run(stopping, || endless(4), options, stop);
    assert!(measured.interrupted);
    assert!(seen.is_empty());
}

#[test]
fn what_was_meant_to_be_sent_in_the_warm_up_is_not_counted() {
    let options = Options {
        warmup: Duration::from_millis(200),
        seconds: Some(Duration::from_millis(200)),
        ..options()
    };
    let (measured, seen, _) = run(
        || Fake::new(Duration::from_millis(10)),
        || endless(4),
        options,
        never(),
    );
    let committed = measured.recorder.tally().committed();
    assert!(committed > 0 && committed < seen.len() as u64);
    let seconds = measured.measured_ns;
    assert!(seconds >= 200_000_000, "{seconds}");
}
