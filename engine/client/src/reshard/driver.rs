//! Carries out the plan that the cluster keeps, so that it can be watched, paused, taken over and undone by others.
//!
//! ```text
//! take over: write the record with an own nonce
//! leave out the accounts that are at their targets
//! move the rest, each source by a thread of its own (`apply`), while here, twice a second:
//!     what the leaders say of their latency -> the pause between batches
//!     read the record: paused, aborted, or driven by another -> stop behind the batches under way
//!     write how far it is
//! and now and then: the money
//! at the end: list who owns what, check the money, write what became of it
//! ```
//!
//! Who has not heard of the record for a while sends nothing: it may have been stopped, and somebody else may have carried the
//! plan out, and undone it, since.
//!
//! Safety does not hang on there being one driver: a move is a transaction of the shards, and two drivers at worst find
//! accounts where they were to go. The record does: only who is named in it, for the plan that it began with, writes it.
//! What became of the accounts is not taken from answers but from a listing of owners: a stub may point to
//! a shard that the account has left since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quorate_config::ClusterConfig;
use quorate_protocol::client::{RequestLatency, Role};
use quorate_protocol::ids::{AccountId, ShardId};
use thiserror::Error;

use super::pace::Pace;
use super::record::{Driver, Progress, Record, Status};
use super::reins::Reins;
use super::shelf::{self, Place, ShelfError, Shelved};
use super::{AccountMove, Applied, ApplyOptions, apply_as};
use crate::blocking::{BlockingClient, ClientOptions};
use crate::error::ClientError;
use crate::observe::{self, ObserveError};
use crate::ulid::os_random;

/// How often the record and the leaders are looked at.
const BEAT: Duration = Duration::from_millis(500);
/// How long a leader is waited for when it is asked for its latency: one that hangs must not hold up the beat.
const ASK_WITHIN: Duration = Duration::from_secs(1);
/// How often the money is checked, and how long that may take: no beat comes meanwhile.
const VERIFY_EVERY: Duration = Duration::from_secs(10);
const VERIFY_WITHIN: Duration = Duration::from_secs(8);
/// And at the end, when nobody waits for a beat.
const VERIFY_LAST_WITHIN: Duration = Duration::from_secs(30);
/// A record that has not changed for so long has no living driver: longer than a check of the money and a beat whose
/// questions and whose write are not answered.
pub const SILENCE: Duration = Duration::from_secs(20);
const _: () = assert!(SILENCE.as_secs() > VERIFY_WITHIN.as_secs() + ASK_WITHIN.as_secs() + 5);
/// How long the leaders are watched before the first batch.
pub const WATCH_BEFORE: Duration = Duration::from_secs(3);

/// Why a plan is not carried out any further.
#[derive(Debug, Error)]
pub enum DriveError {
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    Nonsense(String),
    #[error("another tool is carrying plan {0} out")]
    DrivenByAnother(u64),
    #[error("another tool has gone on with plan {0}, or with another plan")]
    Overtaken(u64),
    #[error("plan {0} is {1}")]
    Ended(u64, &'static str),
    #[error("plan {0} was aborted: the check of the money failed: {1}")]
    Money(u64, String),
}

/// Whether a driver lives, or a tool that prepares a plan: somebody writes the record while this watches it.
///
/// # Errors
/// There is no answer.
pub fn is_driven(client: &mut BlockingClient, seen: &Shelved) -> Result<bool, DriveError> {
    if seen.record.driver.is_none() {
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

/// Waits until the last plan, which has ended, has no driver any more: its batches under way would move accounts behind the
/// back of the next plan. Returns what the next plan is to be written over.
///
/// # Errors
/// There is no answer, or a plan is under way.
pub fn wait_for_last_driver(client: &mut BlockingClient) -> Result<Place, DriveError> {
    loop {
        let place = shelf::place(&mut client.catalog(shelf::SHARD))?;
        match &place.last {
            Some(last) if !last.status.has_ended() => {
                return Err(ShelfError::UnderWay(last.number).into());
            }
            Some(last) if last.driver.is_some() => {
                let seen = Shelved {
                    record: last.clone(),
                    version: place.version,
                };
                if !is_driven(client, &seen)? {
                    return Ok(place);
                }
            }
            Some(_) | None => return Ok(place),
        }
    }
}

/// A plan that was carried out, as far as it was.
#[derive(Clone, Debug)]
pub struct Driven {
    /// As it is left: done, paused or aborted by another tool, paused because accounts could not be moved, or running if this
    /// process was stopped.
    pub record: Record,
    /// What this process did, by the answers.
    pub applied: Applied,
    /// From before the first batch to behind the last one.
    pub moving: Moving,
}

/// When moves were made.
#[derive(Clone, Copy, Debug)]
pub struct Moving {
    /// By the wall clock, in nanoseconds since 1970.
    pub began_unix_ns: u64,
    pub ended_unix_ns: u64,
    /// By a clock that nobody sets.
    pub seconds: f64,
}

/// Carries the plan of now out, from wherever it is; `told` hears of progress, also when the last batch is done, and `stop`
/// ends it behind the batches under way as if this process had died.
///
/// # Errors
/// The plan has ended, another tool drives it, the money is not right, or the cluster does not answer.
pub fn drive(
    config: &ClusterConfig,
    options: ApplyOptions,
    stop: &AtomicBool,
    told: &mut dyn FnMut(&Record),
) -> Result<Driven, DriveError> {
    let mut client = BlockingClient::connect(config, ClientOptions::default());
    let seen = shelf::current(&mut client.catalog(shelf::SHARD))?.ok_or(ShelfError::Nothing)?;
    let Record { number, status, .. } = seen.record;
    if status.has_ended() || status == Status::Preparing {
        return Err(DriveError::Ended(number, status.name()));
    }
    if status == Status::Running && is_driven(&mut client, &seen)? {
        return Err(DriveError::DrivenByAnother(number));
    }
    let mut seat = Seat::take(client, config, seen)?;
    let moves = shelf::moves(&mut seat.client.catalog(shelf::SHARD), &seat.shelved.record)?;
    let owners = observe::owners(&mut seat.client, config.shard_ids())?.newest();
    let mut base = seat.shelved.record.progress.clone();
    let left = Whereabouts::of(&moves, &owners).note(&mut base);
    // Taking it over took a while, in which it may have been paused or aborted.
    if !seat.read_again()? {
        let now_unix_ns = unix_ns();
        return Ok(Driven {
            record: seat.finish(config, End::Told, &base)?,
            applied: Applied::default(),
            moving: Moving {
                began_unix_ns: now_unix_ns,
                ended_unix_ns: now_unix_ns,
                seconds: 0.0,
            },
        });
    }
    seat.work(config, options, (&moves, &left), &base, stop, told)
}

/// Where the accounts of a plan are.
struct Whereabouts {
    /// Moves of accounts that are not at their targets.
    left: Vec<AccountMove>,
    at_target: u64,
    at_source: u64,
}

impl Whereabouts {
    fn of(moves: &[AccountMove], owners: &BTreeMap<AccountId, ShardId>) -> Self {
        let owner = |planned: &AccountMove| owners.get(&planned.account).copied();
        let is_at = |planned: &AccountMove, shard| owner(planned) == Some(shard);
        let at_target = moves
            .iter()
            .filter(|planned| is_at(planned, planned.target));
        let at_source = moves
            .iter()
            .filter(|planned| is_at(planned, planned.source));
        Self {
            at_target: count(at_target.count()),
            at_source: count(at_source.count()),
            left: moves
                .iter()
                .filter(|planned| !is_at(planned, planned.target))
                .copied()
                .collect(),
        }
    }

    /// What became of the accounts: of those that were tried, or of all if `end` says that all were.
    fn settle(self, applied: &Applied, end: &End, progress: &mut Progress) {
        let among = |accounts: &[AccountId]| {
            let accounts: BTreeSet<&AccountId> = accounts.iter().collect();
            let left = self.left.iter();
            count(
                left.filter(|planned| accounts.contains(&planned.account))
                    .count(),
            )
        };
        progress.refused = among(&applied.refused);
        progress.moved = self.at_target;
        progress.given_up = match end {
            End::Tried => self.at_source.saturating_sub(progress.refused),
            End::Told | End::Money(_) => among(&applied.given_up),
        };
        progress.elsewhere = count(self.left.len()).saturating_sub(self.at_source);
    }

    /// Gives out what is left. All moves of a plan began with their accounts at the sources, so who is at a target was moved.
    fn note(self, progress: &mut Progress) -> Vec<AccountMove> {
        progress.moved = self.at_target;
        // A driver that died may have been told of an account on its way that it is nowhere.
        (progress.elsewhere, progress.refused, progress.given_up) = (0, 0, 0);
        self.left
    }
}

/// A driver at work.
struct Seat {
    client: BlockingClient,
    shelved: Shelved,
    /// The plan that it drives, whatever the record says later.
    number: u64,
    nonce: u64,
    pace: Pace,
    taken: Instant,
}

/// How the work ended.
enum End {
    /// All batches were tried.
    Tried,
    /// The record says so, or this process is to end.
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
        let before = seen.record.driver.map(|before| {
            Pace::resumed(before.p99_before_us, Duration::from_millis(before.pause_ms))
        });
        // First of all, or another tool would find nobody at work while the leaders are watched.
        let mut record = seen.record;
        record.status = Status::Running;
        record.reason = None;
        record.driver = Some(driver(nonce, before.unwrap_or_default()));
        let number = record.number;
        let taken = Instant::now();
        let shelved = shelf::replace(&mut client.catalog(shelf::SHARD), seen.version, record);
        let shelved = shelved.map_err(|error| match error {
            ShelfError::Changed => DriveError::Overtaken(number),
            other => other.into(),
        })?;
        let pace = before.unwrap_or_else(|| watch(&mut client));
        observe::begin_window(&mut client, config.shard_ids())?;
        Ok(Self {
            client,
            shelved,
            number,
            nonce,
            pace,
            taken,
        })
    }

    fn work(
        mut self,
        config: &ClusterConfig,
        options: ApplyOptions,
        (moves, left): (&[AccountMove], &[AccountMove]),
        base: &Progress,
        stop: &AtomicBool,
        told: &mut dyn FnMut(&Record),
    ) -> Result<Driven, DriveError> {
        let reins = Reins::new(self.taken);
        let latest = Mutex::new(Applied::default());
        let (began_unix_ns, start) = (unix_ns(), Instant::now());
        let (end, (applied, moving)) = thread::scope(|scope| {
            let moving = scope.spawn(|| {
                let connect = |_| {
                    let client = BlockingClient::connect(config, ClientOptions::default());
                    Ok::<_, std::convert::Infallible>(client)
                };
                let keep = |applied: &Applied| {
                    applied.clone_into(&mut latest.lock().unwrap_or_else(PoisonError::into_inner));
                };
                let Ok(applied) = apply_as(left, options, &reins, connect, keep);
                let moving = Moving {
                    began_unix_ns,
                    ended_unix_ns: unix_ns(),
                    seconds: start.elapsed().as_secs_f64(),
                };
                (applied, moving)
            });
            let mut verified = Instant::now();
            let end = loop {
                thread::sleep(BEAT);
                if moving.is_finished() {
                    break Ok(End::Tried);
                }
                if stop.load(Ordering::Relaxed) {
                    break Ok(End::Told);
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
            let moved = moving.join().expect("moving does not panic");
            (end, moved)
        });
        let mut end = end?;
        let mut progress = progress(base, &applied, Duration::from_secs_f64(moving.seconds));
        if self.shelved.record.number == self.number {
            told(&Record {
                progress: progress.clone(),
                ..self.shelved.record.clone()
            });
        }
        let owners = observe::owners(&mut self.client, config.shard_ids())?.newest();
        Whereabouts::of(moves, &owners).settle(&applied, &end, &mut progress);
        let report = self.client.verify(VERIFY_LAST_WITHIN)?;
        if !report.ok {
            end = End::Money(report.problems.join("; "));
        }
        let record = self.finish(config, end, &progress)?;
        Ok(Driven {
            record,
            applied,
            moving,
        })
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
        let asked = Instant::now();
        let catalog = &mut self.client.catalog(shelf::SHARD);
        match shelf::replace(catalog, self.shelved.version, record) {
            Ok(shelved) => self.shelved = shelved,
            Err(ShelfError::Changed) => {
                let is_own = self.read_again()?;
                if is_own {
                    reins.note_seen(asked);
                }
                return Ok(is_own);
            }
            // Whoever cannot hear of the record tries again, and sends nothing new before it has.
            Err(ShelfError::Client(_)) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        reins.note_seen(asked);
        Ok(true)
    }

    /// Somebody has written the record. True: it is still this one's to drive.
    fn read_again(&mut self) -> Result<bool, DriveError> {
        let catalog = &mut self.client.catalog(shelf::SHARD);
        let now = shelf::current(catalog)?.ok_or(ShelfError::Nothing)?;
        let is_own = now.record.number == self.number
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
        mut end: End,
        progress: &Progress,
    ) -> Result<Record, DriveError> {
        loop {
            let mut record = self.shelved.record.clone();
            let is_own = record
                .driver
                .is_some_and(|driver| driver.nonce == self.nonce);
            if record.number != self.number || !is_own {
                // Whoever has it now counts for itself.
                return Err(DriveError::Overtaken(self.number));
            }
            record.progress.clone_from(progress);
            record.driver = None;
            match &end {
                End::Tried if record.status == Status::Running => {
                    let is_settled = progress.given_up == 0;
                    record.status = if is_settled {
                        Status::Done
                    } else {
                        Status::Paused
                    };
                    record.reason = (!is_settled).then(|| left_over(progress.given_up));
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
            match (shelf::replace(catalog, self.shelved.version, record), end) {
                (Ok(_), End::Money(problems)) => {
                    return Err(DriveError::Money(self.number, problems));
                }
                (Ok(shelved), _) => return Ok(shelved.record),
                (Err(ShelfError::Changed), unfinished) => {
                    end = unfinished;
                    self.read_again()?;
                }
                (Err(error), _) => return Err(error.into()),
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

fn left_over(accounts: u64) -> String {
    format!("{accounts} accounts could not be moved in time; resume tries again")
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

/// What this driver has done on top of what was done before it, by the answers; a listing says at the end.
fn progress(base: &Progress, applied: &Applied, worked: Duration) -> Progress {
    let mut freeze = base.freeze.clone();
    for batch in &applied.batches {
        if let Some(freeze_ns) = batch.freeze_ns {
            freeze.add(batch.accounts.into(), freeze_ns);
        }
    }
    Progress {
        // Who is found at the target was sent there by a driver that has died since.
        moved: base.moved + applied.moved + applied.already_there,
        already_there: base.already_there,
        elsewhere_before: base.elsewhere_before,
        elsewhere: count(applied.elsewhere.len()),
        refused: count(applied.refused.len()),
        given_up: count(applied.given_up.len()),
        retries: base.retries + applied.retries,
        seconds: base.seconds + worked.as_secs_f64(),
        freeze,
    }
}

/// The latencies of all leaders that answer.
fn leaders(client: &mut BlockingClient) -> Vec<RequestLatency> {
    client.set_deadline(ASK_WITHIN);
    let status = client.status().into_iter();
    client.set_deadline(ClientOptions::default().deadline);
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

/// The same moves the other way round, in the same order.
#[must_use]
pub fn backwards(moves: &[AccountMove]) -> Vec<AccountMove> {
    let back = moves.iter().map(|planned| AccountMove {
        account: planned.account,
        source: planned.target,
        target: planned.source,
    });
    back.collect()
}

/// Why moves are none of a plan for this cluster: a shard that does not exist, no change, an account twice.
#[must_use]
pub fn nonsense(moves: &[AccountMove], shards: u32) -> Option<String> {
    let exists = |shard: ShardId| (1..=shards).contains(&shard.0);
    let mut seen = BTreeSet::new();
    moves.iter().find_map(|planned| {
        let AccountMove {
            account,
            source,
            target,
        } = *planned;
        let problem = if !exists(source) || !exists(target) {
            format!("the cluster has shards 1 to {shards}")
        } else if source == target {
            "that is no move".to_owned()
        } else if !seen.insert(account) {
            "it is planned twice".to_owned()
        } else {
            return None;
        };
        Some(format!(
            "account {account} from shard {source} to {target}: {problem}"
        ))
    })
}

/// The moves of accounts that are at their sources; how many of the others are at their targets, and how many elsewhere or
/// nowhere. Only what begins at its source can be said to have been moved, and be brought back.
#[must_use]
pub fn to_be_moved(
    moves: &[AccountMove],
    owners: &BTreeMap<AccountId, ShardId>,
) -> (Vec<AccountMove>, u64, u64) {
    let owner = |planned: &&AccountMove| owners.get(&planned.account).copied();
    let at_source = moves
        .iter()
        .filter(|planned| owner(planned) == Some(planned.source));
    let there = moves
        .iter()
        .filter(|planned| owner(planned) == Some(planned.target));
    let (at_source, there): (Vec<AccountMove>, u64) =
        (at_source.copied().collect(), count(there.count()));
    let elsewhere = count(moves.len()) - count(at_source.len()) - there;
    (at_source, there, elsewhere)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(account: u128, source: u32, target: u32) -> AccountMove {
        AccountMove {
            account: AccountId(account),
            source: ShardId(source),
            target: ShardId(target),
        }
    }

    /// A plan that was applied twice moved nothing the second time, and undoing it moved everything.
    #[test]
    fn only_accounts_at_their_sources_belong_to_a_plan() {
        let moves = [
            planned(1, 1, 2),
            planned(2, 1, 2),
            planned(3, 1, 2),
            planned(4, 1, 2),
        ];
        let owners = BTreeMap::from([
            (AccountId(1), ShardId(1)),
            (AccountId(2), ShardId(2)),
            (AccountId(3), ShardId(3)),
        ]);
        let (left, there, elsewhere) = to_be_moved(&moves, &owners);
        assert_eq!((left, there, elsewhere), (vec![moves[0]], 1, 2));
        let again = to_be_moved(&backwards(&moves[..1]), &owners);
        assert_eq!(again, (Vec::new(), 1, 0));
    }

    #[test]
    fn moves_that_make_no_sense_are_named() {
        assert_eq!(nonsense(&[planned(1, 1, 2), planned(2, 3, 1)], 3), None);
        for (moves, text) in [
            (vec![planned(1, 1, 4)], "shards 1 to 3"),
            (vec![planned(1, 0, 2)], "shards 1 to 3"),
            (vec![planned(1, 2, 2)], "no move"),
            (vec![planned(1, 1, 2), planned(1, 1, 3)], "planned twice"),
        ] {
            let problem = nonsense(&moves, 3).unwrap();
            assert!(
                problem.contains(text) && problem.contains("account 1"),
                "{problem}"
            );
        }
    }

    /// A plan that was paused told of accounts that "could not be moved", which nobody had tried.
    #[test]
    fn only_what_was_tried_can_be_given_up() {
        let moves = [planned(1, 1, 2), planned(2, 1, 2), planned(3, 1, 2)];
        let owners: BTreeMap<AccountId, ShardId> =
            (1..=3).map(|id| (AccountId(id), ShardId(1))).collect();
        let applied = Applied {
            given_up: vec![AccountId(2)],
            ..Applied::default()
        };
        let given_up = |end| {
            let mut progress = Progress::default();
            Whereabouts::of(&moves, &owners).settle(&applied, &end, &mut progress);
            progress.given_up
        };
        assert_eq!((given_up(End::Told), given_up(End::Tried)), (1, 3));
    }

    /// What a stub or an answer says of an account is out of date once it has moved on.
    #[test]
    fn whereabouts_are_those_of_the_owners() {
        let moves = [planned(1, 1, 2), planned(2, 1, 2), planned(3, 1, 2)];
        let owners = BTreeMap::from([(AccountId(1), ShardId(2)), (AccountId(2), ShardId(1))]);
        let now = Whereabouts::of(&moves, &owners);
        assert_eq!((now.at_target, now.at_source), (1, 1));
        let mut told = Progress {
            elsewhere: 1,
            refused: 1,
            elsewhere_before: 4,
            ..Progress::default()
        };
        assert_eq!(now.note(&mut told), moves[1..]);
        assert_eq!((told.moved, told.elsewhere, told.refused), (1, 0, 0));
        assert_eq!(told.elsewhere_before, 4);
    }
}
