//! The check of the money at a consistent cut, while the cluster serves.
//!
//! ```text
//! S = max(all clocks) + margin
//! CutRegister(S) -> every shard      logged below S; `Refused` if the shard is past S: larger margin
//! CutSums(S)     -> every shard      the account records themselves, as of S
//! CutDigest(S)   -> every replica    the whole state when the passing of S was applied
//! ```
//!
//! What must hold, over all shards together: per ledger the posted debits, the posted credits and
//! the amounts of committed transfers are one sum; the accounts owned are the accounts created, each
//! once; and the replicas of a shard have the same digest at the same slot. [`combine`] decides that
//! from the answers alone; a replica that gives no answer is named in `unchecked`, not accused.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quorate_protocol::client::{CutAnswer, CutSums, ReplyBody, RequestBody};
use quorate_protocol::ids::{ReplicaAddress, ShardId, Slot};
use quorate_protocol::ledger::Total;
use quorate_protocol::time::{MS, SECOND, Timestamp};

use crate::blocking::BlockingClient;
use crate::error::{ClientError, Target};
use crate::session::{Cause, Outcome, Work};

/// First distance of the cut from the newest clock: a few rounds of replication.
const MARGIN_NS: u64 = 100 * MS;
/// A cut may not lie further ahead than a message's clock may.
const MARGIN_NS_MAX: u64 = 5 * SECOND;
/// How long the digests of lagging replicas are waited for.
const DIGEST_PATIENCE: Duration = Duration::from_secs(5);
const DIGEST_PAUSE: Duration = Duration::from_millis(50);

/// What the check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// No problem was found.
    pub ok: bool,
    /// The cut.
    pub at: Timestamp,
    pub ledgers: Vec<LedgerReport>,
    /// Transactions that the shards held prepared and undecided when they passed the cut. Under load
    /// there are some, and `ok` does not depend on them: those prepared at or before the cut were
    /// waited for, the others are no part of it.
    pub in_doubt: u64,
    pub digests_equal: bool,
    pub owners_unique: bool,
    pub accounts: u64,
    pub transfers: u64,
    /// Violations, for people; empty if `ok`.
    pub problems: Vec<String>,
    /// Replicas whose digest could not be compared, and why.
    pub unchecked: Vec<String>,
}

/// Sums of one ledger over all shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerReport {
    pub ledger: u32,
    pub debits_posted: Total,
    pub credits_posted: Total,
    /// Sum of the amounts of all committed transfers.
    pub transferred: Total,
}

/// One replica's answer to `CutDigest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DigestAnswer {
    Digest {
        slot: Slot,
        digest: u128,
    },
    /// No digest, for this reason.
    None(String),
}

impl BlockingClient {
    /// Checks the money at a consistent cut, within `patience`.
    ///
    /// # Errors
    /// If a shard gives no sums in time. A violation is no error but in the report.
    pub fn verify(&mut self, patience: Duration) -> Result<VerifyReport, ClientError> {
        let end = Instant::now() + patience;
        let mut margin_ns = MARGIN_NS;
        let mut detail = "; every cut was refused or forgotten";
        loop {
            let at = self.next_cut(margin_ns, end);
            if let Some(sums) = self.sums_at(at, end)? {
                let digests = self.digests_at(at, end);
                let report = combine(at, &sums, &digests);
                if is_conclusive(&report, &sums, &digests) {
                    return Ok(report);
                }
                detail = "; a shard has told its sums, but no replica of it a digest";
            }
            if Instant::now() >= end {
                return Err(ClientError::NoAnswer {
                    target: Target::Cluster,
                    cause: Cause::TimedOut,
                    detail: detail.to_owned(),
                });
            }
            margin_ns = (margin_ns * 2).min(MARGIN_NS_MAX);
        }
    }

    /// A timestamp ahead of all clocks.
    fn next_cut(&mut self, margin_ns: u64, end: Instant) -> Timestamp {
        let works = self
            .topology()
            .all_replicas()
            .map(|replica| Work::Replica(replica, RequestBody::Status))
            .collect();
        // The clock of each reply is what matters; who does not answer brings none.
        let _ = self.run_until(works, end);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        let wall_ns = since_1970.map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        });
        Timestamp(self.seen().0.max(wall_ns).saturating_add(margin_ns))
    }

    /// The sums of every shard; `None` if a shard refused or has forgotten the cut.
    fn sums_at(
        &mut self,
        at: Timestamp,
        end: Instant,
    ) -> Result<Option<Vec<(ShardId, CutSums)>>, ClientError> {
        for (shard, answer) in self.ask_shards(&RequestBody::CutRegister { at }, end)? {
            match answer {
                CutAnswer::Registered => {}
                CutAnswer::Refused | CutAnswer::NotKnown => return Ok(None),
                other @ (CutAnswer::Sums(_) | CutAnswer::Digest { .. }) => {
                    return Err(unexpected(shard, "cut_register", &other));
                }
            }
        }
        let mut all = Vec::new();
        for (shard, answer) in self.ask_shards(&RequestBody::CutSums { at }, end)? {
            match answer {
                CutAnswer::Sums(sums) if sums.at == at => all.push((shard, sums)),
                CutAnswer::Refused | CutAnswer::NotKnown => return Ok(None),
                other @ (CutAnswer::Sums(_) | CutAnswer::Registered | CutAnswer::Digest { .. }) => {
                    return Err(unexpected(shard, "cut_sums", &other));
                }
            }
        }
        Ok(Some(all))
    }

    fn ask_shards(
        &mut self,
        body: &RequestBody,
        end: Instant,
    ) -> Result<Vec<(ShardId, CutAnswer)>, ClientError> {
        let shards: Vec<ShardId> = self.topology().shard_ids().collect();
        let works = shards
            .iter()
            .map(|&shard| Work::Shard(shard, body.clone()))
            .collect();
        let outcomes = self.run_until(works, end);
        shards
            .into_iter()
            .zip(outcomes)
            .map(|(shard, outcome)| match outcome {
                Outcome::Reply(ReplyBody::Cut(answer)) => Ok((shard, answer)),
                other => Err(self.error(Target::Shard(shard), "a cut", other)),
            })
            .collect()
    }

    /// The digest of every replica; waits a while for those that lag.
    fn digests_at(&mut self, at: Timestamp, end: Instant) -> Vec<(ReplicaAddress, DigestAnswer)> {
        let end = end.min(Instant::now() + DIGEST_PATIENCE);
        let mut answers: BTreeMap<ReplicaAddress, DigestAnswer> = BTreeMap::new();
        let mut missing: Vec<ReplicaAddress> = self.topology().all_replicas().collect();
        loop {
            let works = missing
                .iter()
                .map(|&replica| Work::Replica(replica, RequestBody::CutDigest { at }))
                .collect();
            let mut lagging = Vec::new();
            for (replica, outcome) in missing.into_iter().zip(self.run_until(works, end)) {
                let answer = match outcome {
                    Outcome::Reply(ReplyBody::Cut(CutAnswer::Digest { slot, digest })) => {
                        DigestAnswer::Digest { slot, digest }
                    }
                    Outcome::Reply(ReplyBody::Cut(CutAnswer::NotKnown)) => {
                        lagging.push(replica);
                        DigestAnswer::None("does not know the state at the cut".to_owned())
                    }
                    other => {
                        let error = self.error(Target::Replica(replica), "cut_digest", other);
                        DigestAnswer::None(error.reason())
                    }
                };
                answers.insert(replica, answer);
            }
            if lagging.is_empty() || Instant::now() + DIGEST_PAUSE >= end {
                return answers.into_iter().collect();
            }
            thread::sleep(DIGEST_PAUSE);
            missing = lagging;
        }
    }
}

fn unexpected(shard: ShardId, request: &'static str, answer: &CutAnswer) -> ClientError {
    ClientError::Unexpected {
        target: Target::Shard(shard),
        request,
        reply: format!("{answer:?}"),
    }
}

/// Judges the answers of all shards and replicas about one cut.
#[must_use]
pub fn combine(
    at: Timestamp,
    sums: &[(ShardId, CutSums)],
    digests: &[(ReplicaAddress, DigestAnswer)],
) -> VerifyReport {
    let mut problems = Vec::new();
    let ledgers = add_ledgers(sums, &mut problems);
    for ledger in &ledgers {
        check_ledger(ledger, &mut problems);
    }
    let owners_unique = check_owners(sums, &mut problems);
    let mut unchecked = Vec::new();
    let digests_equal = check_digests(sums, digests, &mut problems, &mut unchecked);
    // Counts come from the network: a wrong one must not end the caller.
    let total = |field: fn(&CutSums) -> u64| {
        let values = sums.iter().map(|(_, sums)| field(sums));
        values.fold(0, u64::saturating_add)
    };
    VerifyReport {
        ok: problems.is_empty(),
        at,
        ledgers,
        in_doubt: total(|sums| sums.in_doubt),
        digests_equal,
        owners_unique,
        accounts: total(|sums| sums.owned),
        transfers: total(|sums| sums.transfers),
        problems,
        unchecked,
    }
}

fn add_ledgers(sums: &[(ShardId, CutSums)], problems: &mut Vec<String>) -> Vec<LedgerReport> {
    let mut ledgers: BTreeMap<u32, LedgerReport> = BTreeMap::new();
    for (shard, sums) in sums {
        for row in &sums.ledgers {
            let total = ledgers.entry(row.ledger).or_insert(LedgerReport {
                ledger: row.ledger,
                debits_posted: Total::ZERO,
                credits_posted: Total::ZERO,
                transferred: Total::ZERO,
            });
            for (total, addend) in [
                (&mut total.debits_posted, row.debits_posted),
                (&mut total.credits_posted, row.credits_posted),
                (&mut total.transferred, row.transferred),
            ] {
                // No honest shards get there: what it bounds is a wrong answer.
                match total.checked_add(addend) {
                    Some(sum) => *total = sum,
                    None => problems.push(format!(
                        "ledger {}: {total} + {addend} of shard {shard} exceeds 256 bits",
                        row.ledger
                    )),
                }
            }
        }
    }
    ledgers.into_values().collect()
}

fn check_ledger(ledger: &LedgerReport, problems: &mut Vec<String>) {
    let LedgerReport {
        ledger,
        debits_posted,
        credits_posted,
        transferred,
    } = ledger;
    if debits_posted != credits_posted {
        problems.push(format!(
            "ledger {ledger}: debits posted {debits_posted}, credits posted {credits_posted}"
        ));
    }
    if debits_posted != transferred {
        problems.push(format!(
            "ledger {ledger}: debits posted {debits_posted}, transfers committed {transferred}"
        ));
    }
}

fn check_owners(sums: &[(ShardId, CutSums)], problems: &mut Vec<String>) -> bool {
    let mut owned = (0_u64, 0_u128);
    let mut created = (0_u64, 0_u128);
    for (_, sums) in sums {
        owned.0 = owned.0.saturating_add(sums.owned);
        owned.1 = owned.1.wrapping_add(sums.owned_hash);
        created.0 = created.0.saturating_add(sums.created);
        created.1 = created.1.wrapping_add(sums.created_hash);
    }
    if owned.0 != created.0 {
        problems.push(format!(
            "{} accounts created, {} accounts owned",
            created.0, owned.0
        ));
    } else if owned.1 != created.1 {
        problems.push(format!(
            "{} accounts created and as many owned, but not the same ones",
            created.0
        ));
    }
    owned == created
}

/// Whether the report says something about the money. That no replica of a shard has told its digest in time does not: one that
/// began after the passing never knows the state at it, and the next cut tells.
fn is_conclusive(
    report: &VerifyReport,
    sums: &[(ShardId, CutSums)],
    digests: &[(ReplicaAddress, DigestAnswer)],
) -> bool {
    let is_known = |shard: ShardId| {
        digests.iter().any(|(replica, answer)| {
            replica.shard == shard && matches!(answer, DigestAnswer::Digest { .. })
        })
    };
    let silent = sums.iter().filter(|&&(shard, _)| !is_known(shard)).count();
    // Each silent shard is one of the problems.
    silent == 0 || report.problems.len() > silent
}

fn check_digests(
    sums: &[(ShardId, CutSums)],
    digests: &[(ReplicaAddress, DigestAnswer)],
    problems: &mut Vec<String>,
    unchecked: &mut Vec<String>,
) -> bool {
    let mut equal = true;
    for (shard, _) in sums {
        let mut first: Option<(ReplicaAddress, Slot, u128)> = None;
        for (replica, answer) in digests
            .iter()
            .filter(|(replica, _)| replica.shard == *shard)
        {
            match (answer, first) {
                (DigestAnswer::None(reason), _) => unchecked.push(format!("{replica}: {reason}")),
                (&DigestAnswer::Digest { slot, digest }, None) => {
                    first = Some((*replica, slot, digest));
                }
                (&DigestAnswer::Digest { slot, digest }, Some((other, other_slot, expected))) => {
                    if (slot, digest) != (other_slot, expected) {
                        equal = false;
                        problems.push(format!(
                            "digest of {replica} at slot {slot} is {digest:032x}, of {other} at \
                             slot {other_slot} {expected:032x}"
                        ));
                    }
                }
            }
        }
        if first.is_none() {
            equal = false;
            problems.push(format!("no replica of shard {shard} has a digest"));
        }
    }
    equal
}

#[cfg(test)]
mod tests {
    use quorate_protocol::client::LedgerSums;
    use quorate_protocol::ids::ReplicaId;

    use super::*;

    const AT: Timestamp = Timestamp(1000);

    fn sums(debits: u128, credits: u128, transferred: u128) -> CutSums {
        CutSums {
            at: AT,
            ledgers: vec![LedgerSums {
                ledger: 7,
                debits_posted: debits.into(),
                credits_posted: credits.into(),
                transferred: transferred.into(),
            }],
            owned: 10,
            owned_hash: 5,
            created: 10,
            created_hash: 5,
            transfers: 3,
            in_doubt: 0,
        }
    }

    /// Money flows between the shards: only the totals agree.
    fn honest() -> Vec<(ShardId, CutSums)> {
        let mut first = sums(100, 40, 100);
        let mut second = sums(0, 60, 0);
        // One account was created at shard 1 and moved to shard 2.
        (first.owned, first.owned_hash) = (9, u128::MAX - 1);
        (second.owned, second.owned_hash) = (11, 12);
        vec![(ShardId(1), first), (ShardId(2), second)]
    }

    fn digest(shard: u32, replica: u8, slot: u64, digest: u128) -> (ReplicaAddress, DigestAnswer) {
        let address = ReplicaAddress {
            shard: ShardId(shard),
            replica: ReplicaId(replica),
        };
        let slot = Slot(slot);
        (address, DigestAnswer::Digest { slot, digest })
    }

    fn honest_digests() -> Vec<(ReplicaAddress, DigestAnswer)> {
        vec![
            digest(1, 1, 8, 80),
            digest(1, 2, 8, 80),
            digest(2, 1, 9, 90),
            digest(2, 2, 9, 90),
        ]
    }

    #[test]
    fn an_honest_cluster_passes() {
        let report = combine(AT, &honest(), &honest_digests());
        assert!(report.ok && report.digests_equal && report.owners_unique);
        assert_eq!(report.problems, Vec::<String>::new());
        assert_eq!(report.unchecked, Vec::<String>::new());
        assert_eq!(
            (report.accounts, report.transfers, report.in_doubt),
            (20, 6, 0)
        );
        assert_eq!(
            report.ledgers,
            [LedgerReport {
                ledger: 7,
                debits_posted: 100.into(),
                credits_posted: 100.into(),
                transferred: 100.into()
            }]
        );
    }

    /// Each edit is one way to lose or make money, or to be in two places.
    #[test]
    fn every_violation_is_found() {
        type Edit = fn(&mut Vec<(ShardId, CutSums)>);
        let edits: [(&str, Edit); 7] = [
            ("credits posted 99", |all| {
                all[1].1.ledgers[0].credits_posted = 59.into();
            }),
            ("transfers committed 101", |all| {
                all[1].1.ledgers[0].transferred = 1.into();
            }),
            ("20 accounts created, 21 accounts owned", |all| {
                all[0].1.owned += 1;
            }),
            ("not the same ones", |all| all[0].1.owned_hash += 1),
            ("exceeds 256 bits", |all| {
                all[1].1.ledgers[0].transferred = Total::MAX;
            }),
            // What 128 bits do not show: 2^128 too much.
            (
                "credits posted 340282366920938463463374607431768211556",
                |all| {
                    all[1].1.ledgers[0].credits_posted = Total::from_parts(1, 60);
                },
            ),
            ("ledger 8: debits posted 1", |all| {
                let mut row = all[0].1.ledgers[0];
                row.ledger = 8;
                (row.debits_posted, row.credits_posted) = (1.into(), 0.into());
                all[0].1.ledgers.push(row);
            }),
        ];
        for (expected, edit) in edits {
            let mut all = honest();
            edit(&mut all);
            let report = combine(AT, &all, &honest_digests());
            assert!(!report.ok);
            let text = report.problems.join("; ");
            assert!(text.contains(expected), "{text} lacks {expected}");
        }
    }

    /// Two payments of 2^128 - 1 between unlimited accounts: everyone may make them, nobody made
    /// money.
    #[test]
    fn sums_above_128_bits_are_added_up() {
        let most = u128::MAX;
        let first = sums(most, most, most);
        let second = sums(most, most, most);
        let all = vec![(ShardId(1), first), (ShardId(2), second)];
        let report = combine(AT, &all, &honest_digests());
        assert_eq!(report.problems, Vec::<String>::new());
        assert_eq!(
            report.ledgers[0].credits_posted.to_string(),
            "680564733841876926926749214863536422910"
        );
    }

    /// Open transactions are what a busy cluster has: reported as the shards told them, no problem.
    #[test]
    fn what_is_in_doubt_is_added_up_and_accuses_nobody() {
        let mut all = honest();
        (all[0].1.in_doubt, all[1].1.in_doubt) = (1_392, 648);
        let report = combine(AT, &all, &honest_digests());
        assert_eq!((report.ok, report.in_doubt), (true, 2_040));
    }

    #[test]
    fn replicas_that_differ_are_named() {
        for differing in [digest(1, 2, 8, 81), digest(1, 2, 7, 80)] {
            let mut digests = honest_digests();
            digests[1] = differing;
            let report = combine(AT, &honest(), &digests);
            assert!(!report.ok && !report.digests_equal);
            assert!(report.problems[0].contains("s1r2"), "{:?}", report.problems);
        }
    }

    #[test]
    fn a_silent_replica_is_unchecked_but_a_silent_shard_is_a_problem() {
        let mut digests = honest_digests();
        digests[1].1 = DigestAnswer::None("no connection".to_owned());
        let report = combine(AT, &honest(), &digests);
        assert!(report.ok && report.digests_equal);
        assert_eq!(report.unchecked, ["s1r2: no connection"]);
        digests[0].1 = DigestAnswer::None("no connection".to_owned());
        let report = combine(AT, &honest(), &digests);
        assert!(!report.ok && !report.digests_equal);
    }

    /// A check that ran out of time between the sums and the digests was told as money that is wrong: plans were aborted for it.
    #[test]
    fn missing_digests_of_a_shard_say_nothing_about_the_money() {
        let conclusive = |sums: &[(ShardId, CutSums)], digests: &[_]| {
            is_conclusive(&combine(AT, sums, digests), sums, digests)
        };
        let mut digests = honest_digests();
        assert!(conclusive(&honest(), &digests));
        let silent = DigestAnswer::None("no connection".to_owned());
        digests[0].1 = silent.clone();
        assert!(conclusive(&honest(), &digests));
        digests[1].1 = silent.clone();
        assert!(!conclusive(&honest(), &digests));
        // Of wrong sums no digest makes right ones.
        let mut wrong = honest();
        wrong[0].1.ledgers[0].debits_posted = 101.into();
        assert!(conclusive(&wrong, &digests));
        let none: Vec<_> = (digests.into_iter())
            .map(|(replica, _)| (replica, silent.clone()))
            .collect();
        assert!(!conclusive(&honest(), &none));
        assert!(conclusive(&wrong, &none));
    }
}
