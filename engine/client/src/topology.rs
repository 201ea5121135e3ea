//! What routing needs of a cluster's configuration.

use quorate_config::ClusterConfig;
use quorate_protocol::ids::{ClusterId, ReplicaAddress, ReplicaId, ShardId};
use quorate_protocol::limits::REDIRECTS_MAX;
use quorate_protocol::shard::map::Placement;

/// Shards, replicas and default placement. Every value was checked when the configuration was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    pub cluster: ClusterId,
    pub shards: u32,
    /// Replicas of every shard.
    pub replicas: u8,
    pub placement: Placement,
    /// The replica that each shard should be led by; where a search for the leader starts.
    pub preferred_leaders: Vec<ReplicaId>,
}

impl Topology {
    /// The topology of a configured cluster.
    #[must_use]
    pub fn of(config: &ClusterConfig) -> Self {
        Self {
            cluster: config.cluster_id,
            shards: config.shards,
            replicas: config.replicas,
            placement: config.placement,
            preferred_leaders: config
                .shard_ids()
                .map(|shard| config.preferred_leader(shard))
                .collect(),
        }
    }

    /// Whether the cluster has this shard.
    #[must_use]
    pub fn has_shard(&self, shard: ShardId) -> bool {
        (1..=self.shards).contains(&shard.0)
    }

    /// Redirects that are followed for one request. The way to an account leads to later and later owners, or to its home and
    /// from there to later ones: with nothing moving meanwhile no shard comes up twice.
    #[must_use]
    pub fn redirects_max(&self) -> u32 {
        self.shards.max(REDIRECTS_MAX)
    }

    /// Whether the cluster has this replica.
    #[must_use]
    pub fn has_replica(&self, address: ReplicaAddress) -> bool {
        self.has_shard(address.shard) && (1..=self.replicas).contains(&address.replica.0)
    }

    /// All shards, ascending.
    pub fn shard_ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        (1..=self.shards).map(ShardId)
    }

    /// All replicas, by shard and number.
    pub fn all_replicas(&self) -> impl Iterator<Item = ReplicaAddress> + use<> {
        let replicas = self.replicas;
        self.shard_ids().flat_map(move |shard| {
            (1..=replicas).map(move |replica| ReplicaAddress {
                shard,
                replica: ReplicaId(replica),
            })
        })
    }

    /// Position of a shard in tables.
    pub(crate) fn shard_index(&self, shard: ShardId) -> usize {
        assert!(self.has_shard(shard), "no shard {shard} in the cluster");
        usize::try_from(shard.0 - 1).expect("a u32 fits a usize here")
    }

    /// Position of a replica in tables.
    pub(crate) fn replica_index(&self, address: ReplicaAddress) -> usize {
        assert!(
            self.has_replica(address),
            "no replica {address} in the cluster"
        );
        self.shard_index(address.shard) * usize::from(self.replicas)
            + usize::from(address.replica.0 - 1)
    }
}
