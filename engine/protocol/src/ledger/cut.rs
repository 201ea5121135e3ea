//! Consistent cuts: what the account records were at a timestamp, while serving goes on.
//!
//! A cut at S is *registered* by an entry with a timestamp below S and *passed* by one above S. From
//! registration on, every effect with a commit timestamp above S is also noted here. The records are summed as
//! of the entry that passes the cut, when a checkpoint writes them or else by a scan that begins there
//! ([`super::scan`]). When nothing prepared at or before S is in doubt any more, every effect at or before S
//! has been applied; the few that came behind the passing were noted as late. So `records when it was passed -
//! effects above S + late ones` are the records as of S. The records themselves are summed, not transfers
//! as they come: such a counter would agree with a wrong record for ever. That the store still holds what was
//! summed is for its checksums to say.
//!
//! What was open when the cut was passed is counted at that very entry, like the digest, so that every
//! replica counts the same. It is no fault: whatever of it was prepared at or before S has ended when
//! the sums are given.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use zerocopy::IntoBytes;

use crate::checkpoint::restore::RestoreError;
use crate::checkpoint::side::{Decoder, Encoder};
use crate::client::{CutSums, LedgerSums};
use crate::ids::{AccountId, Slot};
use crate::ledger::scan::Found;
use crate::ledger::state::Ledger;
use crate::ledger::{Account, Total};
use crate::limits::CUTS_MAX;
use crate::table::hash128;
use crate::time::Timestamp;

/// Sums with wrapping arithmetic: a difference may be "negative" on one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    debits_posted: Total,
    credits_posted: Total,
    transferred: Total,
}

impl Sums {
    /// An account's balances come in.
    fn add(&mut self, account: &Account) {
        self.debits_posted = self
            .debits_posted
            .wrapping_add(account.debits_posted.into());
        self.credits_posted = self
            .credits_posted
            .wrapping_add(account.credits_posted.into());
    }

    /// An account's balances go.
    fn take(&mut self, account: &Account) {
        self.debits_posted = self
            .debits_posted
            .wrapping_sub(account.debits_posted.into());
        self.credits_posted = self
            .credits_posted
            .wrapping_sub(account.credits_posted.into());
    }
}

/// Counts over accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    owned: u64,
    owned_hash: u128,
    created: u64,
    created_hash: u128,
    transfers: u64,
}

/// Sums and counts over accounts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    ledgers: BTreeMap<u32, Sums>,
    counts: Counts,
}

impl Tally {
    /// The ledgers of which something is left. Whether one is named of which nothing is left depends on what came and
    /// went before: a replica that was restored names none. So none is in what replicas compare or give each other.
    fn ledgers(&self) -> impl Iterator<Item = (&u32, &Sums)> {
        let ledgers = self.ledgers.iter();
        ledgers.filter(|(_, sums)| **sums != Sums::default())
    }

    fn words(&self, words: &mut Vec<u128>) {
        for (ledger, sums) in self.ledgers() {
            words.push((*ledger).into());
            for sum in [sums.debits_posted, sums.credits_posted, sums.transferred] {
                words.extend(<[u128; 2]>::from(sum.parts()));
            }
        }
        let counts = &self.counts;
        words.extend([
            counts.owned.into(),
            counts.owned_hash,
            counts.created.into(),
            counts.created_hash,
            counts.transfers.into(),
        ]);
    }
}

impl Tally {
    /// An account comes in, with its balances.
    pub(crate) fn add_account(&mut self, account: &Account) {
        self.ledgers.entry(account.ledger).or_default().add(account);
        let hash = hash128(account.id.as_bytes());
        self.counts.owned = self.counts.owned.wrapping_add(1);
        self.counts.owned_hash = self.counts.owned_hash.wrapping_add(hash);
    }

    /// An account goes, with its balances.
    pub(crate) fn take_account(&mut self, account: &Account) {
        self.ledgers
            .entry(account.ledger)
            .or_default()
            .take(account);
        let hash = hash128(account.id.as_bytes());
        self.counts.owned = self.counts.owned.wrapping_sub(1);
        self.counts.owned_hash = self.counts.owned_hash.wrapping_sub(hash);
    }

    /// Everything that the other one counts goes.
    pub(crate) fn minus(&mut self, other: &Self) {
        self.combine(
            other,
            Total::wrapping_sub,
            u64::wrapping_sub,
            u128::wrapping_sub,
        );
    }

    /// Everything that the other one counts comes in.
    fn plus(&mut self, other: &Self) {
        self.combine(
            other,
            Total::wrapping_add,
            u64::wrapping_add,
            u128::wrapping_add,
        );
    }

    fn combine(
        &mut self,
        other: &Self,
        total: fn(Total, Total) -> Total,
        count: fn(u64, u64) -> u64,
        hash: fn(u128, u128) -> u128,
    ) {
        for (ledger, others) in &other.ledgers {
            let sums = self.ledgers.entry(*ledger).or_default();
            *sums = Sums {
                debits_posted: total(sums.debits_posted, others.debits_posted),
                credits_posted: total(sums.credits_posted, others.credits_posted),
                transferred: total(sums.transferred, others.transferred),
            };
        }
        let (counts, others) = (self.counts, other.counts);
        self.counts = Counts {
            owned: count(counts.owned, others.owned),
            owned_hash: hash(counts.owned_hash, others.owned_hash),
            created: count(counts.created, others.created),
            created_hash: hash(counts.created_hash, others.created_hash),
            transfers: count(counts.transfers, others.transfers),
        };
    }

    /// Whether both count the same.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        let words = |tally: &Self| {
            let mut words = Vec::new();
            tally.words(&mut words);
            words
        };
        words(self) == words(other)
    }

    /// Accounts that it counts.
    pub(crate) fn owned(&self) -> u64 {
        self.counts.owned
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.count(self.ledgers().count());
        for (ledger, sums) in self.ledgers() {
            out.put(ledger);
            for sum in [sums.debits_posted, sums.credits_posted, sums.transferred] {
                let (high, low) = sum.parts();
                out.put(&high);
                out.put(&low);
            }
        }
        let counts = &self.counts;
        out.put(&counts.owned);
        out.put(&counts.owned_hash);
        out.put(&counts.created);
        out.put(&counts.created_hash);
        out.put(&counts.transfers);
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, RestoreError> {
        let mut tally = Self::default();
        for _ in 0..from.count("sums", 100)? {
            let ledger = from.take("sums")?;
            let mut sum = || -> Result<Total, RestoreError> {
                Ok(Total::from_parts(from.take("sums")?, from.take("sums")?))
            };
            let sums = Sums {
                debits_posted: sum()?,
                credits_posted: sum()?,
                transferred: sum()?,
            };
            tally.ledgers.insert(ledger, sums);
        }
        tally.counts = Counts {
            owned: from.take("counts")?,
            owned_hash: from.take("counts")?,
            created: from.take("counts")?,
            created_hash: from.take("counts")?,
            transfers: from.take("counts")?,
        };
        Ok(tally)
    }
}

/// The state that the passing of a cut found.
#[derive(Clone, Copy, Debug)]
struct Passed {
    slot: Slot,
    /// Prepared and undecided then: credits, and batches of accounts that have arrived.
    in_doubt: u64,
}

/// One followed cut.
#[derive(Debug)]
struct Cut {
    at: Timestamp,
    passed: Option<Passed>,
    /// Effects above the cut since it was registered.
    after: Tally,
    /// Volatile: effects at or below the cut since it was passed.
    late: Tally,
    /// Volatile: what the scan that began when it was passed has found.
    counted: Option<Found>,
}

/// The cuts that a shard follows, and its totals over all time.
#[derive(Debug, Default)]
pub struct Cuts {
    open: Vec<Cut>,
    /// Transfers committed as debit side, and accounts created, since ever.
    totals: Tally,
}

impl Cuts {
    /// The slot whose entry passed the cut, and this replica's digest as of it, once it has been counted.
    #[must_use]
    pub fn digest(&self, at: Timestamp) -> Option<(Slot, u128)> {
        let cut = self.open.iter().find(|cut| cut.at == at)?;
        Some((cut.passed?.slot, cut.counted.as_ref()?.digest))
    }

    /// The cuts that are counted here, with slot and digest.
    pub fn counted(&self) -> impl Iterator<Item = (Timestamp, Slot, u128)> {
        self.open.iter().filter_map(|cut| {
            let (passed, counted) = (cut.passed?, cut.counted.as_ref()?);
            Some((cut.at, passed.slot, counted.digest))
        })
    }

    /// Digest of the totals and of every followed cut.
    pub(crate) fn state_digest(&self) -> u128 {
        let mut words = Vec::new();
        self.totals.words(&mut words);
        for cut in &self.open {
            words.push(cut.at.0.into());
            if let Some(passed) = cut.passed {
                words.extend([u128::from(passed.slot.0), passed.in_doubt.into()]);
            }
            cut.after.words(&mut words);
        }
        hash128(words.as_bytes())
    }

    /// Transfers that this shard has committed as debit side.
    #[must_use]
    pub fn transfers(&self) -> u64 {
        self.totals.counts.transfers
    }

    /// Whether the cut is registered.
    #[must_use]
    pub fn is_registered(&self, at: Timestamp) -> bool {
        self.open.iter().any(|cut| cut.at == at)
    }

    /// Follows a new cut, forgetting the oldest beyond the bound.
    pub(crate) fn register(&mut self, at: Timestamp) {
        if self.is_registered(at) {
            return;
        }
        if self.open.len() == CUTS_MAX {
            self.open.remove(0);
        }
        self.open.push(Cut {
            at,
            passed: None,
            after: Tally::default(),
            late: Tally::default(),
            counted: None,
        });
    }

    /// Whether the cut is passed.
    pub(crate) fn is_passed(&self, at: Timestamp) -> bool {
        let mut open = self.open.iter();
        open.any(|cut| cut.at == at && cut.passed.is_some())
    }

    /// A scan has ended: what it found, effects above the cut taken off. The cut may be forgotten by now.
    pub(crate) fn count(&mut self, found: Found) {
        if let Some(cut) = self.open.iter_mut().find(|cut| cut.at == found.at) {
            cut.counted = Some(found);
        }
    }

    /// A transfer's debit leg was posted here.
    pub(crate) fn on_debit(&mut self, commit_ts: Timestamp, ledger: u32, amount: u128) {
        self.note(commit_ts, true, |tally| {
            let sums = tally.ledgers.entry(ledger).or_default();
            sums.debits_posted = sums.debits_posted.wrapping_add(amount.into());
            sums.transferred = sums.transferred.wrapping_add(amount.into());
            tally.counts.transfers = tally.counts.transfers.wrapping_add(1);
        });
    }

    /// A transfer's credit leg was posted here.
    pub(crate) fn on_credit(&mut self, commit_ts: Timestamp, ledger: u32, amount: u128) {
        self.note(commit_ts, false, |tally| {
            let sums = tally.ledgers.entry(ledger).or_default();
            sums.credits_posted = sums.credits_posted.wrapping_add(amount.into());
        });
    }

    /// An account was created here.
    pub(crate) fn on_create(&mut self, commit_ts: Timestamp, id: AccountId) {
        let hash = hash128(id.as_bytes());
        self.note(commit_ts, true, |tally| {
            let counts = &mut tally.counts;
            counts.created = counts.created.wrapping_add(1);
            counts.created_hash = counts.created_hash.wrapping_add(hash);
            counts.owned = counts.owned.wrapping_add(1);
            counts.owned_hash = counts.owned_hash.wrapping_add(hash);
        });
    }

    /// An account arrived by a move.
    pub(crate) fn on_arrival(&mut self, commit_ts: Timestamp, account: &Account) {
        self.note(commit_ts, false, |tally| tally.add_account(account));
    }

    /// An account left by a move.
    pub(crate) fn on_departure(&mut self, commit_ts: Timestamp, account: &Account) {
        self.note(commit_ts, false, |tally| tally.take_account(account));
    }

    /// Totals and followed cuts, for a checkpoint.
    ///
    /// ```text
    /// totals, count u32, then per cut: at u64, passed u32, slot u64, in doubt u64, after
    /// a tally: count u32, then per ledger: ledger u32, three sums of 256 bits; owned u64, owned hash u128,
    ///          created u64, created hash u128, transfers u64
    /// ```
    pub(crate) fn encode(&self, out: &mut Encoder) {
        self.totals.encode(out);
        out.count(self.open.len());
        for cut in &self.open {
            out.put(&cut.at);
            let passed = cut.passed.unwrap_or(Passed {
                slot: Slot::ZERO,
                in_doubt: 0,
            });
            out.put(&u32::from(cut.passed.is_some()));
            out.put(&passed.slot);
            out.put(&passed.in_doubt);
            cut.after.encode(out);
        }
    }

    /// Reads what [`Self::encode`] wrote.
    pub(crate) fn decode(&mut self, from: &mut Decoder<'_>) -> Result<(), RestoreError> {
        self.totals = Tally::decode(from)?;
        for _ in 0..from.count("cuts", 28)? {
            let at = from.take("cut")?;
            let is_passed: u32 = from.take("cut")?;
            let passed = Passed {
                slot: from.take("cut")?,
                in_doubt: from.take("cut")?,
            };
            self.open.push(Cut {
                at,
                passed: (is_passed == 1).then_some(passed),
                after: Tally::decode(from)?,
                late: Tally::default(),
                counted: None,
            });
        }
        Ok(())
    }

    fn note(&mut self, commit_ts: Timestamp, total: bool, change: impl Fn(&mut Tally)) {
        if total {
            change(&mut self.totals);
        }
        for cut in &mut self.open {
            if commit_ts > cut.at {
                change(&mut cut.after);
            } else if cut.passed.is_some() {
                change(&mut cut.late);
            }
        }
    }
}

impl Ledger {
    /// The entry of `slot` passes the cut: what the accounts are now begins to be counted, once per cut, however
    /// many ask.
    pub(crate) fn pass_cut(&mut self, at: Timestamp, slot: Slot) {
        let beside = self.digest_beside_accounts();
        let in_doubt = self.in_doubt.len() + self.staged.len();
        let is_open = |cut: &&mut Cut| cut.at == at && cut.passed.is_none();
        let Some(cut) = self.cuts.open.iter_mut().find(is_open) else {
            return;
        };
        cut.passed = Some(Passed {
            slot,
            in_doubt: u64::try_from(in_doubt).expect("a count fits 64 bits"),
        });
        let after = cut.after.clone();
        self.begin_scan(at, beside, after);
    }

    /// Whether this replica will never know what the accounts were when the cut was passed: it began later.
    pub(crate) fn has_missed(&self, at: Timestamp) -> bool {
        let mut open = self.cuts.open.iter();
        let is_uncounted =
            open.any(|cut| cut.at == at && cut.passed.is_some() && cut.counted.is_none());
        is_uncounted && self.scan.running() != Some(at)
    }

    /// The sums as of a cut; `None` until it is passed and counted, and nothing prepared at or before it is in
    /// doubt.
    #[must_use]
    pub fn cut_sums(&self, at: Timestamp) -> Option<CutSums> {
        let cut = self.cuts.open.iter().find(|cut| cut.at == at)?;
        let passed = cut.passed?;
        let undecided = self.in_doubt.iter().map(|prepared| prepared.prepare_ts);
        let arriving = self.staged.values().map(|staged| staged.prepare_ts);
        if undecided.chain(arriving).any(|prepare_ts| prepare_ts <= at) {
            return None;
        }
        let mut accounts = cut.counted.as_ref()?.accounts.clone();
        accounts.plus(&cut.late);
        Some(self.as_of(cut, passed, &accounts))
    }

    fn as_of(&self, cut: &Cut, passed: Passed, accounts: &Tally) -> CutSums {
        let totals = &self.cuts.totals;
        let mut names: Vec<u32> = accounts
            .ledgers
            .keys()
            .chain(totals.ledgers.keys())
            .copied()
            .collect();
        names.sort_unstable();
        names.dedup();
        let of = |tally: &Tally, ledger| tally.ledgers.get(&ledger).copied().unwrap_or_default();
        let ledgers = names.into_iter().map(|ledger| {
            let (then, total) = (of(accounts, ledger), of(totals, ledger));
            let after = of(&cut.after, ledger);
            LedgerSums {
                ledger,
                debits_posted: then.debits_posted,
                credits_posted: then.credits_posted,
                transferred: total.transferred.wrapping_sub(after.transferred),
            }
        });
        let after = cut.after.counts;
        CutSums {
            at: cut.at,
            ledgers: ledgers.collect(),
            owned: accounts.counts.owned,
            owned_hash: accounts.counts.owned_hash,
            created: totals.counts.created.wrapping_sub(after.created),
            created_hash: totals.counts.created_hash.wrapping_sub(after.created_hash),
            transfers: totals.counts.transfers.wrapping_sub(after.transfers),
            in_doubt: passed.in_doubt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::AccountFlags;

    fn encoded(tally: &Tally) -> Encoder {
        let mut out = Encoder::default();
        tally.encode(&mut out);
        out
    }

    /// All accounts of a ledger had changed, so nothing of it was left in the sums over accounts as they were written.
    /// A replica that had run all the time still named it there, one that was restored did not: their checkpoints
    /// differed in a hundred bytes, and a block that one was given by the other did not fit its file.
    #[test]
    fn a_ledger_of_which_nothing_is_left_is_in_no_checkpoint_and_in_no_digest() {
        let mut account = Account::new(AccountId(1), 7, 1, AccountFlags::default());
        account.credits_posted = 5;
        let (mut ran, restored) = (Tally::default(), Tally::default());
        ran.add_account(&account);
        assert_ne!(encoded(&ran), encoded(&restored));
        assert!(!ran.agrees(&restored));
        ran.take_account(&account);
        assert_eq!(encoded(&ran), encoded(&restored));
        assert!(ran.agrees(&restored));
    }
}
