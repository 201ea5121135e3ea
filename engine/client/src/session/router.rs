//! Where requests go: the believed leader of each shard, the believed shard of each account.
//!
//! Everything here is a hint that answers correct. It outlives a session, so that a client learns
//! the cluster once.

use quorate_protocol::client::{MapPlace, ReplyBody};
use quorate_protocol::ids::{AccountId, Ballot, ReplicaAddress, ReplicaId, RequestId, ShardId};
use quorate_protocol::shard::map::splitmix64;
use quorate_protocol::time::{MS, Timestamp};

use super::learnt::Learnt;
use crate::topology::Topology;

const BACKOFF_NS_MIN: u64 = 10 * MS;
const BACKOFF_NS_MAX: u64 = 200 * MS;

/// What a client has learnt about its cluster.
#[derive(Debug)]
pub struct Router {
    topology: Topology,
    /// By shard.
    routes: Vec<Route>,
    learnt: Learnt,
    /// By shard.
    maps: Vec<ShardMap>,
    seen: Timestamp,
    /// Request ids are never used twice, whatever connection they go to.
    last_request: u64,
    random: u64,
}

#[derive(Clone, Copy, Debug)]
struct Route {
    target: ReplicaId,
    /// The highest ballot that an answer named; older hints are ignored.
    ballot: Ballot,
}

/// What is known of a shard's map, and whether it is worth asking for more.
#[derive(Clone, Copy, Debug, Default)]
struct ShardMap {
    /// Up to where it has told its changes.
    place: MapPlace,
    /// Rows that it has redirected since.
    redirected: u32,
}

/// Redirected rows for which a shard is asked what else has left it: a plan that is carried out moves accounts by the
/// hundred, a single move is not worth a question.
const REDIRECTED_MAX: u32 = 8;

impl Router {
    /// Knows nothing but the configuration. `seed` spreads the backoff of clients.
    #[must_use]
    pub fn new(topology: Topology, seed: u64) -> Self {
        let routes: Vec<Route> = topology
            .preferred_leaders
            .iter()
            .map(|&target| Route {
                target,
                ballot: Ballot::ZERO,
            })
            .collect();
        let maps = vec![ShardMap::default(); routes.len()];
        Self {
            topology,
            routes,
            maps,
            learnt: Learnt::default(),
            seen: Timestamp::ZERO,
            last_request: 0,
            random: seed,
        }
    }

    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Where the account lives as far as the answers so far tell.
    #[must_use]
    pub fn shard_of(&self, account: AccountId) -> ShardId {
        self.learnt
            .shard_of(account)
            .unwrap_or_else(|| self.home(account))
    }

    /// The replica that is believed to lead the shard.
    #[must_use]
    pub fn leader(&self, shard: ShardId) -> ReplicaAddress {
        ReplicaAddress {
            shard,
            replica: self.routes[self.topology.shard_index(shard)].target,
        }
    }

    /// The highest timestamp in any answer.
    #[must_use]
    pub fn seen(&self) -> Timestamp {
        self.seen
    }

    pub(super) fn observe(&mut self, clock: Timestamp) {
        self.seen = self.seen.max(clock);
    }

    pub(super) fn next_request(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }

    /// The shard has answered as the account's owner, under this epoch.
    pub(super) fn found(&mut self, account: AccountId, shard: ShardId, ownership_epoch: u32) {
        self.learnt.found(account, shard, ownership_epoch);
    }

    /// The shard has sent the account elsewhere.
    pub(super) fn redirected(&mut self, by: ShardId, account: AccountId, to: ShardId) {
        let map = &mut self.maps[self.topology.shard_index(by)];
        map.redirected = map.redirected.saturating_add(1);
        self.learnt.learn(account, to);
    }

    /// Up to where the shard has told what has left it, if it is time to ask for more.
    pub(super) fn asks_for_changes(&self, shard: ShardId) -> Option<MapPlace> {
        let map = self.maps[self.topology.shard_index(shard)];
        (map.redirected >= REDIRECTED_MAX).then_some(map.place)
    }

    /// The shard was asked what has left it, and gave this answer, if any. With more behind it the next redirect asks again.
    pub(super) fn learn_changes(&mut self, shard: ShardId, answer: Option<&ReplyBody>) {
        let index = self.topology.shard_index(shard);
        let map = &mut self.maps[index];
        let Some(ReplyBody::MapChanges {
            rows,
            next,
            has_more,
        }) = answer
        else {
            map.redirected = 0;
            return;
        };
        map.place = map.place.max(*next);
        if !has_more {
            map.redirected = 0;
        }
        for row in rows.iter() {
            if self.topology.has_shard(row.shard) {
                self.learnt
                    .learn_change(shard, row.account, row.shard, row.ownership_epoch);
            }
        }
    }

    /// `from` does not lead. True if its hint names another target than so far.
    pub(super) fn not_leader(
        &mut self,
        from: ReplicaAddress,
        ballot: Ballot,
        leader: Option<ReplicaId>,
    ) -> bool {
        let index = self.topology.shard_index(from.shard);
        let route = &mut self.routes[index];
        let known = leader.filter(|&replica| {
            replica != from.replica && (1..=self.topology.replicas).contains(&replica.0)
        });
        match known {
            Some(leader) if ballot > route.ballot || route.target == from.replica => {
                route.ballot = route.ballot.max(ballot);
                route.target = leader;
                true
            }
            // Someone else has moved the target on since this request was sent.
            _ if route.target != from.replica => true,
            _ => {
                self.go_round(from);
                false
            }
        }
    }

    /// `from` did not answer: asks the next one, unless the target is another one already.
    pub(super) fn go_round(&mut self, from: ReplicaAddress) {
        let index = self.topology.shard_index(from.shard);
        let route = &mut self.routes[index];
        if route.target == from.replica {
            route.target = ReplicaId(from.replica.0 % self.topology.replicas + 1);
        }
    }

    /// How long to wait before try number `tries` (from 0): doubling, with jitter over its upper half.
    pub(super) fn backoff_ns(&mut self, tries: u32) -> u64 {
        let full = (BACKOFF_NS_MIN << tries.min(8)).min(BACKOFF_NS_MAX);
        self.random = self.random.wrapping_add(1);
        full / 2 + splitmix64(self.random) % (full / 2 + 1)
    }

    fn home(&self, account: AccountId) -> ShardId {
        self.topology.placement.home(account, self.topology.shards)
    }
}
