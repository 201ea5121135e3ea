//! Carries out the plan that the cluster keeps, so that it can be watched, paused, taken over and undone by others.
//!
//! ```text
//! take over: write the record with an own nonce
//! skip the accounts that are at their targets
//! move the rest, each source by a thread of its own (`apply`), while here, twice a second:
//!     what the leaders say of their latency -> the pause between batches
//!     read the record: paused, aborted, or driven by another -> stop behind the batches under way
//!     write how far it is
//! and now and then: the money
//! at the end: write what became of it
//! ```
//!
//! Safety does not hang on there being one driver: a move is a transaction of the shards, and two drivers at worst find
//! accounts where they were to go. So a driver that was thought dead does no harm.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quorate_config::ClusterConfig;
use quorate_protocol::client::{RequestLatency, Role};
use quorate_protocol::ids::{AccountId, ShardId};
use thiserror::Error;

use super::pace::Pace;
use super::record::{Driver, Progress, Record, Status};
use super::shelf::{self, ShelfError, Shelved};
use super::{AccountMove, Applied, ApplyOptions, Conduct, apply_as};
use crate::blocking::{BlockingClient, ClientOptions};
use crate::error::ClientError;
use crate::observe::{self, ObserveError};
use crate::ulid::os_random;

/// How often the record and the leaders are looked at.
const BEAT: Duration = Duration::from_millis(500);
/// A record that has not changed for so long has no living driver.
pub const SILENCE: Duration = Duration::from_secs(5);
/// How often the money is checked, and how long that may take.
const VERIFY_EVERY: Duration = Duration::from_secs(10);
const VERIFY_WITHIN: Duration = Duration::from_secs(10);
/// How long the leaders are watched before the first batch.
const WATCH_BEFORE: Duration = Duration::from_secs(3);

/// Why a plan is not carried out any further.
#[derive(Debug, Error)]
pub enum DriveError {
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("another tool is carrying plan {0} out")]
    DrivenByAnother(u64),
    #[error("plan {0} is {1}")]
    Ended(u64, &'static str),
}

/// Whether a driver lives: somebody writes the record while this watches it.
///
/// # Errors
/// There is no answer.
pub fn is_driven(client: &mut BlockingClient, seen: &Shelved) -> Result<bool, DriveError> {
    if seen.record.status != Status::Running || seen.record.driver.is_none() {
        return Ok(false);
    }
    let end = Instant::now() + SILENCE;
    while Instant::now() < end {
        thread::sleep(BEAT);
        let now = shelf::current(&mut client.catalog(shelf::SHARD))?;
        if now.is_none_or(|now| now.version != seen.version) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What workers ask between batches.
#[derive(Debug, Default)]
struct Reins {
    is_stopped: AtomicBool,
    pause_ms: AtomicU64,
}

impl Conduct for Reins {
    fn may_go_on(&self) -> bool {
        let pause = Duration::from_millis(self.pause_ms.load(Ordering::Relaxed));
        let end = Instant::now() + pause;
        loop {
            if self.is_stopped.load(Ordering::Relaxed) {
                return false;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}

/// Carries the plan of now out, from wherever it is; `told` hears of progress. Returns the record as it is left: done,
/// paused or aborted by another tool, or paused because accounts could not be moved.
///
/// # Errors
/// The plan has ended, another tool drives it, or the cluster does not answer.
pub fn drive(
    config: &ClusterConfig,
    batch_max: usize,
    told: &mut dyn FnMut(&Record),
) -> Result<Record, DriveError> {
    let mut client = BlockingClient::connect(config, ClientOptions::default());
    let seen = shelf::current(&mut client.catalog(shelf::SHARD))?.ok_or(ShelfError::Nothing)?;
    let Record { number, status, .. } = seen.record;
    if status.has_ended() {
        return Err(DriveError::Ended(number, status.name()));
    }
    if is_driven(&mut client, &seen)? {
        return Err(DriveError::DrivenByAnother(number));
    }
    let mut seat = Seat::take(client, config, seen)?;
    let moves = shelf::moves(&mut seat.client.catalog(shelf::SHARD), &seat.shelved.record)?;
    let owners = observe::owners(&mut seat.client, config.shard_ids())?.newest();
    let is_there = |planned: &&AccountMove| owners.get(&planned.account) == Some(&planned.target);
    let there = count(moves.iter().filter(is_there).count());
    let mut base = seat.shelved.record.progress.clone();
    match base.seconds > 0.0 {
        true => base.moved = there.saturating_sub(base.already_there),
        false => base.already_there = there,
    }
    (base.elsewhere, base.refused, base.given_up) = (0, 0, 0);
    let left: Vec<AccountMove> = moves
        .iter()
        .filter(|planned| !is_there(planned))
        .copied()
        .collect();
    seat.work(config, batch_max, &left, &base, told)
}

/// A driver at work.
struct Seat {
    client: BlockingClient,
    shelved: Shelved,
    nonce: u64,
    pace: Pace,
}

/// How the work ended.
enum End {
    /// All batches were tried.
    Tried,
    /// The record says so.
    Told,
    /// The check of the money failed.
    Money(String),
}

impl Seat {
    fn take(
        mut client: BlockingClient,
        config: &ClusterConfig,
        seen: Shelved,
    ) -> Result<Self, DriveError> {
        let nonce = os_random();
        let pace = match seen.record.driver {
            Some(before) => {
                Pace::resumed(before.p99_before_us, Duration::from_millis(before.pause_ms))
            }
            None => watch(&mut client),
        };
        observe::begin_window(&mut client, config.shard_ids())?;
        let mut record = seen.record;
        record.status = Status::Running;
        record.reason = None;
        record.driver = Some(driver(nonce, pace));
        let shelved = shelf::replace(&mut client.catalog(shelf::SHARD), seen.version, record)?;
        Ok(Self {
            client,
            shelved,
            nonce,
            pace,
        })
    }

    fn work(
        mut self,
        config: &ClusterConfig,
        batch_max: usize,
        left: &[AccountMove],
        base: &Progress,
        told: &mut dyn FnMut(&Record),
    ) -> Result<Record, DriveError> {
        let reins = Reins::default();
        let latest = Mutex::new(Applied::default());
        let options = ApplyOptions {
            batch_max,
            ..ApplyOptions::default()
        };
        let start = Instant::now();
        let (end, applied) = thread::scope(|scope| {
            let moving = scope.spawn(|| {
                let connect = |_| {
                    let client = BlockingClient::connect(config, ClientOptions::default());
                    Ok::<_, std::convert::Infallible>(client)
                };
                let keep = |applied: &Applied| {
                    applied.clone_into(&mut latest.lock().unwrap_or_else(PoisonError::into_inner));
                };
                match apply_as(left, options, &reins, connect, keep) {
                    Ok(applied) => applied,
                    Err(never) => match never {},
                }
            });
            let mut verified = Instant::now();
            let end = loop {
                thread::sleep(BEAT);
                if moving.is_finished() {
                    break Ok(End::Tried);
                }
                let applied = latest
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                let progress = progress(base, &applied, start.elapsed());
                match self.beat(&reins, progress, told) {
                    Ok(true) => {}
                    Ok(false) => break Ok(End::Told),
                    Err(error) => break Err(error),
                }
                if verified.elapsed() >= VERIFY_EVERY {
                    verified = Instant::now();
                    // A check that has no answer is tried again; one that fails ends the plan.
                    if let Ok(report) = self.client.verify(VERIFY_WITHIN)
                        && !report.ok
                    {
                        break Ok(End::Money(report.problems.join("; ")));
                    }
                }
            };
            reins.is_stopped.store(true, Ordering::Relaxed);
            let applied = moving.join().expect("moving does not panic");
            (end, applied)
        });
        let end = end?;
        self.finish(
            config,
            end,
            progress(base, &applied, start.elapsed()),
            &applied,
        )
    }

    /// Looks at the leaders and at the record, and writes how far it is. False: it is to stop.
    fn beat(
        &mut self,
        reins: &Reins,
        progress: Progress,
        told: &mut dyn FnMut(&Record),
    ) -> Result<bool, DriveError> {
        self.pace.observe(&leaders(&mut self.client));
        let pause_ms = u64::try_from(self.pace.pause().as_millis()).unwrap_or(u64::MAX);
        reins.pause_ms.store(pause_ms, Ordering::Relaxed);
        let mut record = self.shelved.record.clone();
        record.progress = progress;
        record.driver = Some(driver(self.nonce, self.pace));
        told(&record);
        let catalog = &mut self.client.catalog(shelf::SHARD);
        match shelf::replace(catalog, self.shelved.version, record) {
            Ok(shelved) => self.shelved = shelved,
            Err(ShelfError::Changed) => return self.read_again(),
            // Whoever cannot be heard for a while drives on: the moves themselves wait for answers.
            Err(ShelfError::Client(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// Somebody has written the record. True: it is still this one's to drive.
    fn read_again(&mut self) -> Result<bool, DriveError> {
        let catalog = &mut self.client.catalog(shelf::SHARD);
        let now = shelf::current(catalog)?.ok_or(ShelfError::Nothing)?;
        let is_own = now.record.number == self.shelved.record.number
            && now.record.status == Status::Running
            && now
                .record
                .driver
                .is_some_and(|driver| driver.nonce == self.nonce);
        self.shelved = now;
        Ok(is_own)
    }

    fn finish(
        mut self,
        config: &ClusterConfig,
        end: End,
        progress: Progress,
        applied: &Applied,
    ) -> Result<Record, DriveError> {
        let number = self.shelved.record.number;
        loop {
            let mut record = self.shelved.record.clone();
            let driven_by = record.driver.map(|driver| driver.nonce);
            if record.number != number || driven_by.is_some_and(|nonce| nonce != self.nonce) {
                // Another tool has it now, and counts for itself.
                return Ok(record);
            }
            record.progress = progress.clone();
            record.driver = None;
            match &end {
                End::Tried if record.status == Status::Running => {
                    let is_settled = progress.settled() >= record.moves;
                    record.status = if is_settled {
                        Status::Done
                    } else {
                        Status::Paused
                    };
                    record.reason = (!is_settled).then(|| left_over(&applied.given_up));
                }
                End::Money(problems) => {
                    record.status = Status::Aborted;
                    record.reason = Some(format!("the check of the money failed: {problems}"));
                }
                End::Tried | End::Told => {}
            }
            if record.status.has_ended() {
                record.ended_unix_ns = Some(unix_ns());
                record.windows_after = begin_windows(&mut self.client, config)?;
            }
            let catalog = &mut self.client.catalog(shelf::SHARD);
            match shelf::replace(catalog, self.shelved.version, record) {
                Ok(shelved) => return Ok(shelved.record),
                Err(ShelfError::Changed) => {
                    self.read_again()?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Begins a window at every leader; when it began there.
///
/// # Errors
/// A shard does not answer.
pub fn begin_windows(
    client: &mut BlockingClient,
    config: &ClusterConfig,
) -> Result<Vec<(u32, u64)>, ObserveError> {
    observe::begin_window(client, config.shard_ids())?;
    let windows = observe::windows(client, config.shard_ids())?;
    let began = windows.iter().filter_map(|(shard, windows)| {
        let present = windows.first()?;
        Some((shard.0, present.began.0))
    });
    Ok(began.collect())
}

fn left_over(given_up: &[AccountId]) -> String {
    match given_up.first() {
        None => "not all accounts are at their targets; resume tries again".to_owned(),
        Some(first) => format!(
            "{} accounts could not be moved in time, the first one {first}; resume tries again",
            given_up.len()
        ),
    }
}

fn driver(nonce: u64, pace: Pace) -> Driver {
    let (before_us, now_us) = pace.p99_us();
    Driver {
        nonce,
        pause_ms: u64::try_from(pace.pause().as_millis()).unwrap_or(u64::MAX),
        p99_before_us: before_us,
        p99_now_us: now_us,
    }
}

/// What this driver has done on top of what was done before it.
fn progress(base: &Progress, applied: &Applied, worked: Duration) -> Progress {
    let mut freeze = base.freeze.clone();
    for batch in &applied.batches {
        freeze.add(batch.accounts.into(), batch.freeze_ns);
    }
    Progress {
        // Who is found at the target was sent there by a driver before this one.
        moved: base.moved + applied.moved + applied.already_there,
        already_there: base.already_there,
        elsewhere: base.elsewhere + count(applied.elsewhere.len()),
        refused: base.refused + count(applied.refused.len()),
        given_up: count(applied.given_up.len()),
        retries: base.retries + applied.retries,
        seconds: base.seconds + worked.as_secs_f64(),
        freeze,
    }
}

/// The latencies of all leaders that answer.
fn leaders(client: &mut BlockingClient) -> Vec<RequestLatency> {
    let status = client.status().into_iter();
    let leaders = status.filter_map(|(_, status)| status.ok().filter(|s| s.role == Role::Leader));
    leaders.map(|status| status.latency).collect()
}

/// The pace from what the leaders are like before the first batch: the highest of some seconds.
fn watch(client: &mut BlockingClient) -> Pace {
    let end = Instant::now() + WATCH_BEFORE;
    let mut seen = leaders(client);
    while Instant::now() < end {
        thread::sleep(BEAT);
        seen.extend(leaders(client));
    }
    Pace::new(&seen)
}

/// Nanoseconds since 1970 by this host.
#[must_use]
pub fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

/// Changes the plan of now, whoever else writes it meanwhile.
///
/// # Errors
/// There is none, `change` refuses, or there is no answer.
pub fn change(
    client: &mut BlockingClient,
    mut change: impl FnMut(&mut Record) -> Result<(), DriveError>,
) -> Result<Record, DriveError> {
    loop {
        let catalog = &mut client.catalog(shelf::SHARD);
        let Shelved {
            mut record,
            version,
        } = shelf::current(catalog)?.ok_or(ShelfError::Nothing)?;
        change(&mut record)?;
        match shelf::replace(catalog, version, record) {
            Ok(shelved) => return Ok(shelved.record),
            Err(ShelfError::Changed) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn count(items: usize) -> u64 {
    u64::try_from(items).expect("a usize fits 64 bits")
}

/// Moves that bring back what a plan has moved, in its order.
#[must_use]
pub fn backwards(moves: &[AccountMove]) -> Vec<AccountMove> {
    let back = moves.iter().map(|planned| AccountMove {
        account: planned.account,
        source: planned.target,
        target: planned.source,
    });
    back.collect()
}

/// The shard that a move leaves is one of the cluster's, and so is the other.
#[must_use]
pub fn fits(planned: &AccountMove, shards: u32) -> bool {
    let exists = |shard: ShardId| (1..=shards).contains(&shard.0);
    exists(planned.source) && exists(planned.target)
}
