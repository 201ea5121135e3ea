//! The clients: what is sent when, and what is recorded of it.
//!
//! A closed loop has every client send its next batch when the last is answered; an open loop sends
//! at times fixed before (`schedule`) and charges the cluster for every delay from then on. A batch
//! is split by the debit accounts' shards, each part is a request of its own.
//!
//! ```text
//!   0            warm-up            warm-up + seconds           last answer
//!   |--- not counted ---|----------- counted -----------|--- drain ---|
//! ```
//! A request is counted by the time at which it was meant to be sent, and then whatever becomes of
//! it: leaving out those that were under way at the end would leave out the slowest.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quorate_protocol::ids::{AccountId, ShardId, TransferId};
use quorate_protocol::ledger::result::CodeKind;
use quorate_protocol::ledger::{ResultRow, Transfer};
use quorate_protocol::words::Rows;

use crate::acked::FLUSH_EVERY;
use crate::backlog::Backlog;
use crate::cpu::CpuShare;
use crate::figures::float;
use crate::files::Files;
use crate::reads::{Batch, Operations};
use crate::recorder::{Recorder, SecondRow};
use crate::schedule::{Arrivals, Schedule};
use crate::setup::{CODE, LEDGER};

/// Times that a replayed transfer is sent again after an answer that decides nothing; with the
/// session's own deadline of seconds each, more than any leader change takes.
const REPLAY_ROUNDS_MAX: u32 = 12;
/// An open loop looks at its schedule no more often: a timer costs as much as a request. Latency counts from the
/// intended time, so this is in it.
const RELEASE_NS: u64 = 100_000;
/// An open loop keeps at most this much of its schedule waiting for a free client.
const BACKLOG_NS: u64 = 1_000_000_000;

/// What the clients need of a cluster; the real one is in `link`.
pub trait Cluster: 'static {
    /// Number of shards.
    fn shards(&self) -> u32;
    /// Where `account` lives as far as the client knows.
    fn shard_of(&self, account: AccountId) -> ShardId;
    /// A fresh id.
    fn next_id(&self) -> TransferId;
    /// Sends transfers whose debit accounts share `shard`; their final results in the same order.
    fn create_transfers(
        &self,
        shard: ShardId,
        transfers: Rows<Transfer>,
    ) -> impl Future<Output = Vec<ResultRow>>;
    /// Looks at accounts; how many of them were not told by the deadline.
    fn read_accounts(&self, ids: Rows<AccountId>) -> impl Future<Output = u64>;
}

/// How the load is offered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Closed,
    /// `rate` transfers a second.
    Open {
        rate: f64,
        arrivals: Arrivals,
    },
}

impl Mode {
    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
        }
    }
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub mode: Mode,
    pub clients: usize,
    /// Connections to each shard, at most one for each client.
    pub connections: usize,
    pub batch: usize,
    pub warmup: Duration,
    /// Counted time; `None`: until stopped or the feed is exhausted.
    pub seconds: Option<Duration>,
    pub seed: u64,
}

/// To which part of a run a second belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Warmup,
    Measured,
}

/// What a run measured.
#[derive(Debug)]
pub struct Measured {
    pub recorder: Recorder,
    /// The end of the warm-up by the wall clock, in nanoseconds since 1970.
    pub measured_from_unix_ns: u64,
    /// From the end of the warm-up to the end of sending, or to the last commit if that was later.
    pub measured_ns: u64,
    /// From the start of the warm-up to the end of sending: what drift has had of this load.
    pub sent_ns: u64,
    /// Committed transfers a second while every client has a batch under way: what a load too short for whole seconds can tell.
    /// `None` in an open loop, and if no batch was counted.
    pub closed_tps: Option<f64>,
    /// Share of one core that this thread used while measuring.
    pub generator_cpu: f64,
    /// The stop flag ended it.
    pub interrupted: bool,
}

/// Runs the load to its end on the current glommio executor. `clusters` are dealt to the clients
/// in turn. `progress` gets every second that ended, with its phase.
pub async fn drive<C: Cluster>(
    clusters: &[Rc<C>],
    operations: impl Into<Operations>,
    options: Options,
    files: Files,
    stop: Arc<AtomicBool>,
    progress: impl FnMut(Phase, &SecondRow),
) -> (Measured, Files) {
    assert!(!clusters.is_empty() && options.clients > 0 && options.batch > 0);
    let run = Rc::new(Run::new(options, operations.into(), files, stop));
    let mut clients = Vec::with_capacity(options.clients);
    for (client, cluster) in (0..options.clients).zip(clusters.iter().cycle()) {
        let (run, cluster) = (Rc::clone(&run), Rc::clone(cluster));
        clients.push(glommio::spawn_local(async move {
            match &run.backlog {
                None => closed_loop(&run, &*cluster, client).await,
                Some(backlog) => open_loop(&run, backlog, &*cluster, client).await,
            }
        }));
    }
    let running = Rc::new(Cell::new(true));
    let ticker = {
        let (run, running) = (Rc::clone(&run), Rc::clone(&running));
        async move { run.tick(&running, progress).await }
    };
    let work = async {
        run.arrivals().await;
        for client in clients {
            client.await;
        }
        running.set(false);
    };
    futures_lite::future::zip(work, ticker).await;
    let run = Rc::into_inner(run).expect("every client has ended");
    run.finish()
}

/// What the clients of one run share.
struct Run {
    options: Options,
    start: Instant,
    /// `start` by the wall clock: only who samples the servers from outside needs it.
    start_unix_ns: u64,
    warmup_ns: u64,
    /// When sending ends.
    end_ns: u64,
    /// When sending ended, once it has: at its time, at the end of the feed, or stopped.
    ended_ns: Cell<Option<u64>>,
    stop: Arc<AtomicBool>,
    backlog: Option<Backlog>,
    operations: RefCell<Operations>,
    recorders: RefCell<Recorders>,
    /// How long the counted batches of a closed loop were under way, summed up.
    under_way_ns: Cell<u64>,
    files: RefCell<Files>,
    rounds_max: u32,
    cpu: RefCell<CpuShare>,
}

/// Warm-up and measurement, each with its own zero of time.
#[derive(Default)]
struct Recorders {
    warmup: Recorder,
    measured: Recorder,
}

impl Run {
    fn new(options: Options, operations: Operations, files: Files, stop: Arc<AtomicBool>) -> Self {
        let start_unix_ns = wall_clock_ns();
        let warmup_ns = nanos(options.warmup);
        let mut recorders = Recorders::default();
        if let Some(intervals) = &files.intervals {
            let from_unix_ns = start_unix_ns.saturating_add(warmup_ns);
            recorders
                .measured
                .keep_seconds(intervals.begin(from_unix_ns));
        }
        let length_ns = options.seconds.map_or(u64::MAX, nanos);
        let rounds_max = if operations.is_replay() {
            REPLAY_ROUNDS_MAX
        } else {
            1
        };
        Self {
            start: Instant::now(),
            start_unix_ns,
            warmup_ns,
            end_ns: warmup_ns.saturating_add(length_ns),
            ended_ns: Cell::new(None),
            stop,
            backlog: match options.mode {
                Mode::Closed => None,
                Mode::Open { rate, arrivals } => {
                    let highest = arrivals.rate_from().map_or(rate, |from| rate.max(from));
                    Some(Backlog::new(backlog_limit(&options, highest)))
                }
            },
            operations: RefCell::new(operations),
            recorders: RefCell::new(recorders),
            under_way_ns: Cell::new(0),
            files: RefCell::new(files),
            rounds_max,
            cpu: RefCell::default(),
            options,
        }
    }

    fn now_ns(&self) -> u64 {
        nanos(self.start.elapsed())
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether nothing more is to be sent at this time.
    fn is_over(&self, now_ns: u64) -> bool {
        let over =
            now_ns >= self.end_ns || self.stopped() || self.operations.borrow().is_exhausted();
        if over && self.ended_ns.get().is_none() {
            self.ended_ns.set(Some(now_ns.min(self.end_ns)));
        }
        over
    }

    fn take(&self, client: usize, intended_ns: u64) -> Batch {
        let mut operations = self.operations.borrow_mut();
        operations.take(client, self.options.batch, intended_ns)
    }

    /// In an open loop, puts what is due into the backlog until the end.
    async fn arrivals(&self) {
        let (Some(backlog), Mode::Open { rate, arrivals }) = (&self.backlog, self.options.mode)
        else {
            return;
        };
        let batch = to_f64(self.options.batch);
        let arrivals = match arrivals {
            Arrivals::Ramp { from } => Arrivals::Ramp { from: from / batch },
            Arrivals::Constant | Arrivals::Poisson => arrivals,
        };
        let mut schedule = Schedule::new(
            arrivals,
            rate / batch,
            self.options.warmup,
            self.options.seconds.unwrap_or_default(),
            self.options.seed,
        );
        loop {
            let now_ns = self.now_ns();
            while let Some(intended_ns) = schedule.due(now_ns.min(self.end_ns - 1)) {
                if !backlog.push(intended_ns) {
                    self.drop_unsent(intended_ns, 1);
                }
            }
            if self.is_over(now_ns) {
                break;
            }
            // A stop is noticed within one flush interval, however low the rate.
            let wait_ns = schedule
                .peek()
                .saturating_sub(now_ns)
                .clamp(RELEASE_NS, nanos(FLUSH_EVERY));
            glommio::timer::sleep(Duration::from_nanos(wait_ns)).await;
        }
        // What was due just now is for the clients to take.
        futures_lite::future::yield_now().await;
        let left = backlog.close();
        self.drop_unsent(self.now_ns(), left);
    }

    fn drop_unsent(&self, intended_ns: u64, requests: usize) {
        let transfers = u64::try_from(requests * self.options.batch).expect("a usize fits a u64");
        if let Some(at_ns) = intended_ns.checked_sub(self.warmup_ns) {
            let mut recorders = self.recorders.borrow_mut();
            recorders.measured.drop_unsent(at_ns, transfers);
        } else {
            let mut recorders = self.recorders.borrow_mut();
            recorders.warmup.drop_unsent(intended_ns, transfers);
        }
    }

    /// A request that was meant to be sent at `intended_ns` has its final results.
    fn answered(&self, intended_ns: u64, ids: &[TransferId], rows: &[ResultRow]) {
        let now_ns = self.now_ns();
        let latency_ns = now_ns.saturating_sub(intended_ns);
        if let Some(acked) = &mut self.files.borrow_mut().acked {
            for (id, row) in ids.iter().zip(rows) {
                if row.result().is_some_and(|code| code.is_success()) {
                    acked.push(*id);
                }
            }
        }
        let mut recorders = self.recorders.borrow_mut();
        if intended_ns >= self.warmup_ns {
            let at_ns = now_ns - self.warmup_ns;
            recorders.measured.request(at_ns, latency_ns, rows);
        } else {
            recorders.warmup.request(now_ns, latency_ns, rows);
        }
    }

    /// A look at so many accounts, meant to be asked at `intended_ns`, has its answer.
    fn looked(&self, intended_ns: u64, accounts: u64, unknown: u64) {
        let latency_ns = self.now_ns().saturating_sub(intended_ns);
        let mut recorders = self.recorders.borrow_mut();
        if intended_ns >= self.warmup_ns {
            recorders.measured.look(latency_ns, accounts, unknown);
        }
    }

    /// A client of a closed loop has nothing under way until it sends again, which is at once.
    fn batch_ended(&self, sent_ns: u64) {
        if sent_ns >= self.warmup_ns {
            let took_ns = self.now_ns().saturating_sub(sent_ns);
            self.under_way_ns.set(self.under_way_ns.get() + took_ns);
        }
    }

    /// Until `running` is false: flushes acknowledged ids, hands out the seconds that ended.
    async fn tick(&self, running: &Cell<bool>, mut progress: impl FnMut(Phase, &SecondRow)) {
        let (mut warmup_seen, mut measured_seen) = (0, 0);
        while running.get() {
            glommio::timer::sleep(FLUSH_EVERY).await;
            if let Some(acked) = &mut self.files.borrow_mut().acked {
                acked.flush();
            }
            let now_ns = self.now_ns();
            // Notes the time of a stop while every client waits for an answer.
            let _ = self.is_over(now_ns);
            self.cpu
                .borrow_mut()
                .sample(now_ns, self.warmup_ns, self.end_ns);
            let mut recorders = self.recorders.borrow_mut();
            let warmup_end = now_ns.min(self.warmup_ns);
            let rows = recorders.warmup.close_until(warmup_end);
            for row in &recorders.warmup.series()[warmup_seen..rows] {
                progress(Phase::Warmup, row);
            }
            warmup_seen = rows;
            if let Some(at_ns) = now_ns.checked_sub(self.warmup_ns) {
                let rows = recorders.measured.close_until(at_ns);
                for row in &recorders.measured.series()[measured_seen..rows] {
                    progress(Phase::Measured, row);
                }
                measured_seen = rows;
            }
        }
    }

    fn finish(self) -> (Measured, Files) {
        let mut recorder = self.recorders.into_inner().measured;
        recorder.finish();
        let ended_ns = self.ended_ns.get().unwrap_or(self.end_ns);
        let measured = Measured {
            measured_from_unix_ns: self.start_unix_ns.saturating_add(self.warmup_ns),
            measured_ns: ended_ns
                .saturating_sub(self.warmup_ns)
                .max(recorder.last_commit_ns()),
            sent_ns: ended_ns,
            closed_tps: closed_tps(
                recorder.tally().committed(),
                self.options.clients,
                self.under_way_ns.get(),
            ),
            recorder,
            generator_cpu: self.cpu.borrow().share(),
            interrupted: self.stop.load(Ordering::Relaxed) && ended_ns < self.end_ns,
        };
        (measured, self.files.into_inner())
    }
}

async fn closed_loop<C: Cluster>(run: &Run, cluster: &C, client: usize) {
    loop {
        let now_ns = run.now_ns();
        if run.is_over(now_ns) {
            return;
        }
        let batch = run.take(client, now_ns);
        send(run, cluster, now_ns, batch).await;
        run.batch_ended(now_ns);
    }
}

async fn open_loop<C: Cluster>(run: &Run, backlog: &Backlog, cluster: &C, client: usize) {
    while let Some(intended_ns) = backlog.pop().await {
        let batch = run.take(client, intended_ns);
        send(run, cluster, intended_ns, batch).await;
    }
}

/// Sends one batch, each shard's part as a request of its own, and waits for all of them.
async fn send<C: Cluster>(run: &Run, cluster: &C, intended_ns: u64, batch: Batch) {
    let shards = usize::try_from(cluster.shards()).expect("a u32 fits a usize");
    let mut parts: Vec<Vec<Transfer>> = vec![Vec::new(); shards];
    for draw in &batch.payments {
        let shard = cluster.shard_of(draw.debit);
        let part = usize::try_from(shard.0 - 1).expect("a u32 fits a usize");
        let id = cluster.next_id();
        let transfer = Transfer::new(id, draw.debit, draw.credit, draw.amount, LEDGER, CODE);
        parts[part].push(transfer);
    }
    let requests = (1..)
        .map(ShardId)
        .zip(parts)
        .filter(|(_, part)| !part.is_empty())
        .map(|(shard, part)| request(run, cluster, intended_ns, shard, part));
    let looks = async {
        if !batch.reads.is_empty() {
            look(run, cluster, intended_ns, &batch.reads).await;
        }
    };
    futures_lite::future::zip(join_all(requests), looks).await;
}

async fn look<C: Cluster>(run: &Run, cluster: &C, intended_ns: u64, accounts: &[AccountId]) {
    let count = u64::try_from(accounts.len()).expect("a usize fits a u64");
    let unknown = cluster.read_accounts(Rows::from_slice(accounts)).await;
    run.looked(intended_ns, count, unknown);
}

async fn request<C: Cluster>(
    run: &Run,
    cluster: &C,
    intended_ns: u64,
    shard: ShardId,
    transfers: Vec<Transfer>,
) {
    let ids: Vec<TransferId> = transfers.iter().map(|transfer| transfer.id).collect();
    let transfers = Rows::from_slice(&transfers);
    let mut rows = cluster.create_transfers(shard, transfers.clone()).await;
    assert_eq!(rows.len(), ids.len(), "one result per transfer");
    for _ in 1..run.rounds_max {
        let open: Vec<usize> = (0..rows.len()).filter(|&n| is_open(&rows[n])).collect();
        if open.is_empty() || run.stopped() {
            break;
        }
        let again: Vec<Transfer> = open.iter().map(|&n| transfers[n]).collect();
        let again = Rows::from_slice(&again);
        let answers = cluster.create_transfers(shard, again).await;
        for (n, row) in open.into_iter().zip(answers) {
            rows[n] = row;
        }
    }
    run.answered(intended_ns, &ids, &rows);
}

/// The same id may be tried again.
fn is_open(row: &ResultRow) -> bool {
    row.result()
        .is_some_and(|code| code.kind() == CodeKind::Unlogged)
}

/// Runs a few futures to their ends; there are at most as many as shards.
async fn join_all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut open: Vec<Pin<Box<_>>> = futures.map(Box::pin).collect();
    poll_fn(|context| {
        open.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if open.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// Clients that always have a batch under way commit this many transfers a second (Little's law). Nothing in it depends on where
/// the ends of a load cut the first and the last batch of a client.
fn closed_tps(committed: u64, clients: usize, under_way_ns: u64) -> Option<f64> {
    (under_way_ns > 0).then(|| float(committed) * to_f64(clients) * 1e9 / float(under_way_ns))
}

/// The requests of [`BACKLOG_NS`], and never less than one for each client.
fn backlog_limit(options: &Options, rate: f64) -> usize {
    let requests = rate / to_f64(options.batch) * Duration::from_nanos(BACKLOG_NS).as_secs_f64();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float cast saturates, and the rate is positive"
    )]
    let requests = requests.ceil() as usize;
    requests.max(options.clients)
}

fn to_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("clients and a batch's transfers are bounded options"))
}

/// The wall clock, in nanoseconds since 1970.
pub(crate) fn wall_clock_ns() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    nanos(since_1970.unwrap_or_default())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
