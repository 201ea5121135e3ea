//! All shards replayed, and the life of every account through them: who touched it in which order.

use std::collections::BTreeMap;

use quorate_protocol::ids::{AccountId, ShardId, Slot};
use quorate_protocol::txn::record::{CommitKind, Subject, TxnId};

use super::log::Logs;
use super::model::rules::Rules;
use super::model::{Actor, Decision, Refusal, Replay, Step, replay};

/// What the model says about a run.
#[derive(Clone, Debug, Default)]
pub struct Replays {
    pub shards: BTreeMap<ShardId, Replay>,
    /// Per account, oldest first.
    pub lives: BTreeMap<AccountId, Vec<Step>>,
}

/// A place in an account's life: its ownership epoch, and a slot of the shard that owned it then.
pub type Moment = (u32, Slot);

impl Step {
    /// When it took effect.
    #[must_use]
    pub fn moment(&self) -> Moment {
        (self.ownership_epoch, self.last)
    }

    /// When it began.
    #[must_use]
    pub fn begin(&self) -> Moment {
        (self.ownership_epoch, self.first)
    }
}

impl Replays {
    /// Replays every shard's log.
    #[must_use]
    pub fn new(logs: &Logs, rules: Rules) -> Self {
        let shards: BTreeMap<ShardId, Replay> = logs
            .iter()
            .map(|(&shard, log)| (shard, replay(shard, rules, log)))
            .collect();
        let mut lives: BTreeMap<AccountId, Vec<Step>> = BTreeMap::new();
        let refusals = refusals(&shards);
        let steps = shards.values().flat_map(|replay| &replay.steps);
        for step in steps.chain(&refusals) {
            lives.entry(step.account).or_default().push(*step);
        }
        for life in lives.values_mut() {
            // Stable: within a slot the order of its commands stays.
            life.sort_by_key(Step::moment);
        }
        Self { shards, lives }
    }

    /// The replay of a shard, if it has a log.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> Option<&Replay> {
        self.shards.get(&shard)
    }

    /// All decisions with the shard that made them.
    pub fn decisions(&self) -> impl Iterator<Item = (ShardId, &Decision)> {
        self.shards.iter().flat_map(|(&shard, replay)| {
            let decisions = replay.decisions.values();
            decisions.map(move |decision| (shard, decision))
        })
    }
}

/// The transaction of a decision that was made across shards.
#[must_use]
pub fn txn_of(coordinator: ShardId, decision: &Decision) -> TxnId {
    TxnId {
        coordinator,
        subject: Subject::Transfer,
        id: decision.transfer.id.0,
        attempt: decision.attempt,
    }
}

/// A participant's final `no` looked at the credit account; it counts where it decided a transfer.
fn refusals(shards: &BTreeMap<ShardId, Replay>) -> Vec<Step> {
    let mut steps = Vec::new();
    for (&coordinator, replay) in shards {
        for decision in replay.decisions.values() {
            let Some((shard, CommitKind::Refuse)) = decision.across else {
                continue;
            };
            let txn = txn_of(coordinator, decision);
            let participant = shards.get(&shard);
            let refusals = participant.and_then(|other| other.refusals.get(&txn));
            let decisive = |refusal: &&Refusal| refusal.code == decision.result;
            let mut refusals = refusals.into_iter().flatten().filter(decisive);
            // Two equal ones: either may have decided, so neither says when.
            let (Some(refusal), None) = (refusals.next(), refusals.next()) else {
                continue;
            };
            steps.push(Step {
                account: refusal.account,
                ownership_epoch: refusal.ownership_epoch,
                shard,
                first: refusal.slot,
                last: refusal.slot,
                actor: Actor::Transfer(decision.transfer.id),
                sums: None,
            });
        }
    }
    steps
}
