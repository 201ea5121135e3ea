//! Checkers: separate observers that share no code with the core.
//!
//! [`agreement`] and [`room`] watch while a run goes on; the others judge what clients were told (the [`History`])
//! and what was chosen (the logs) against the [`FinalState`] that is left once the cluster is healed and
//! quiet.
//!
//! | checker | promise | judges by |
//! | --- | --- | --- |
//! | [`agreement`] | a slot is chosen once, equal logs make equal states | applied entries, digests |
//! | [`durability`] | what was acknowledged stays, refusals included | answers, final records |
//! | [`exactly_once`] | an id takes effect once, on both sides or on none | final records, balances |
//! | [`conservation`] | debits equal credits, at every timestamp | final balances, cuts, logs |
//! | [`ownership`] | one owner per account, at every timestamp | final accounts, logs, moves |
//! | [`denials`] | what was denied had no effect | answers, final records |
//! | [`routes`] | the way to an account leads to its owner from everywhere | stubs, logs |
//! | [`answers`] | malformed and repeated requests get the one right code | answers, final records |
//! | [`replay`] | results and balances are what the rules make of the logs | logs, final state |
//! | [`decisions`] | the logs of the shards agree about transactions between them | logs |
//! | [`cuts`] | a cut is the state at its timestamp, and agrees with real time | cuts, logs |
//! | [`reads`] | a value that was read is one that the account had | reads, logs |
//! | [`order`] | strict serializability: effects, reads and real time in one order | all of it |
//! | [`liveness`] | every request ends, nothing stays open | answers, logs |
//! | [`histories`] | an account's history is what happened to it, a past balance is final | histories, logs |
//! | [`documents`] | a document is written once, over the version that was named | answers, logs |
//! | [`room`] | who knows its disk to be full begins nothing new | proposed entries, sendings |
//!
//! Several of them see the same error from different sides on purpose: one that reads only what clients
//! see does not depend on the observer of the logs, and the other way round. `matrix.rs` is the
//! table of altered histories and of who must reject which, `recorded.rs` alters a recorded run.
//!
//! A client that was never answered proves little: its transfer may have happened or not. So nothing is
//! demanded of such a transfer itself, but everything of its effects: they are in the logs.

pub mod agreement;
pub mod answers;
pub mod conservation;
pub mod cuts;
pub mod decisions;
pub mod denials;
pub mod documents;
pub mod durability;
pub mod exactly_once;
pub mod forgotten;
pub mod histories;
pub mod liveness;
pub mod log;
pub mod model;
pub mod order;
pub mod ownership;
pub mod reads;
pub mod records;
pub mod replay;
pub mod replays;
pub mod room;
pub mod routes;

use std::collections::BTreeMap;
use std::fmt;

use quorate_protocol::client::TransferAnswer;
use quorate_protocol::ids::ShardId;
use quorate_protocol::ledger::Account;
use quorate_protocol::txn::record::RouteRow;

use crate::history::History;
use log::Logs;
use model::rules::Rules;
use records::Records;
use replays::Replays;
use routes::ShardMap;

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

/// What the healed and quiet cluster holds, and what its logs say.
#[derive(Clone, Debug, Default)]
pub struct FinalState {
    /// Every account at every shard that lists it as its own.
    pub accounts: Vec<(ShardId, Account)>,
    /// What every shard knows of every transfer id that was sent.
    pub records: Vec<(ShardId, TransferAnswer)>,
    /// Every slot of every shard.
    pub logs: Logs,
    /// What each shard holds of where its accounts went.
    pub maps: BTreeMap<ShardId, ShardMap>,
    /// What each shard told of that when it was asked, perhaps a while before.
    pub told: Vec<(ShardId, RouteRow)>,
    pub rules: Rules,
}

/// Runs every checker that judges a finished run.
#[must_use]
pub fn check_all(history: &History, state: &FinalState) -> Vec<Violation> {
    let replays = Replays::new(&state.logs, state.rules);
    let state = &forgotten::give_back(state, &replays);
    let records = Records::new(state);
    let mut violations = Vec::new();
    durability::check(history, &records, &mut violations);
    exactly_once::check(history, state, &records, &mut violations);
    conservation::check(history, state, &replays, &mut violations);
    ownership::check(history, state, &replays, &mut violations);
    routes::check(state, &replays, &mut violations);
    answers::check(history, &records, &mut violations);
    denials::check(history, &records, &mut violations);
    replay::check(history, state, &replays, &mut violations);
    decisions::check(&replays, &mut violations);
    cuts::check(history, &replays, &mut violations);
    let placed = reads::check(history, &replays, &mut violations);
    order::check(history, &replays, &placed, &mut violations);
    histories::check(history, &replays, &mut violations);
    documents::check(history, &replays, &mut violations);
    liveness::check(history, &replays, &mut violations);
    violations
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod recorded;
