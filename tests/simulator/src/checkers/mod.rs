//! Checkers: separate observers that share no code with the core.
//!
//! [`agreement`] watches while a run goes on; the others judge the [`History`] of what clients were
//! told against the [`FinalState`] that is left once the cluster is healed and quiet. Each has tests
//! with altered histories that it must reject.

pub mod agreement;
pub mod answers;
pub mod conservation;
pub mod durability;
pub mod exactly_once;
pub mod ownership;
pub mod reads;
pub mod records;

use std::collections::BTreeMap;
use std::fmt;

use quorate_protocol::client::TransferAnswer;
use quorate_protocol::ids::{ShardId, Slot};
use quorate_protocol::ledger::Account;
use quorate_protocol::time::Timestamp;

use crate::history::History;
use agreement::PreparedSlots;
use records::Records;

/// A broken promise of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub checker: &'static str,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.checker, self.text)
    }
}

/// What the healed and quiet cluster holds.
#[derive(Clone, Debug, Default)]
pub struct FinalState {
    /// Every account at every shard that lists it as its own.
    pub accounts: Vec<(ShardId, Account)>,
    /// What every shard knows of every transfer id that was sent.
    pub records: Vec<(ShardId, TransferAnswer)>,
    /// When all entries with an effect took it.
    pub entry_times: BTreeMap<(ShardId, Slot), Timestamp>,
    /// Which slots prepared which attempts at participants.
    pub prepared: PreparedSlots,
}

/// Runs every checker that judges a finished run.
#[must_use]
pub fn check_all(history: &History, state: &FinalState) -> Vec<Violation> {
    let records = Records::new(state);
    let mut violations = Vec::new();
    durability::check(history, &records, &mut violations);
    exactly_once::check(history, state, &records, &mut violations);
    conservation::check(history, state, &mut violations);
    ownership::check(history, state, &mut violations);
    answers::check(history, state, &records, &mut violations);
    reads::check(history, state, &records, &mut violations);
    violations
}

#[cfg(test)]
pub(crate) mod fixture;
