//! Which CPU carries how much of a cluster.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use quorate_protocol::ids::ReplicaAddress;

use crate::ClusterConfig;

/// What a replica costs its CPU beside another one, measured with full batches and three replicas of a shard: 0.87 us a
/// transfer where it leads, 0.58 us where it follows.
const LEADER: u32 = 3;
const FOLLOWER: u32 = 2;

impl ClusterConfig {
    /// What the nodes on this host's loopback addresses put on a CPU while the preferred replicas lead: 0 for one that they
    /// leave alone. Only good to be compared.
    #[must_use]
    pub fn load_of_core(&self, core: usize) -> u32 {
        self.all_replicas()
            .filter(|&replica| self.node_of(replica).address.is_loopback())
            .filter(|&replica| self.core_of(replica) == core)
            .map(|replica| self.weight_of(replica))
            .sum()
    }

    fn weight_of(&self, replica: ReplicaAddress) -> u32 {
        match self.preferred_leader(replica.shard) == replica.replica {
            true => LEADER,
            false => FOLLOWER,
        }
    }
}

/// Replicas of the host that has most.
pub(crate) fn most_on_a_host(config: &ClusterConfig) -> usize {
    let mut hosts = BTreeMap::<IpAddr, usize>::new();
    for replica in config.all_replicas() {
        *hosts.entry(config.node_of(replica).address).or_default() += 1;
    }
    hosts.into_values().max().unwrap_or(0)
}

/// Deals the CPUs of each host out to all replicas of its nodes. Where each can have one of its own they are dealt in turn.
/// Else, leaders first, each goes to the CPU that has the fewest followers of its shard, and of these to the one that has
/// least to do: an entry waits for the first follower, and two on one CPU would be as slow as each other.
pub(crate) fn deal(config: &mut ClusterConfig, host_cores: usize) {
    let mut replicas: Vec<ReplicaAddress> = (config.nodes.keys())
        .flat_map(|&node| config.replicas_of(node))
        .collect();
    if config.share_cores {
        replicas.sort_by_key(|&replica| (Reverse(config.weight_of(replica)), replica));
    }
    let mut loads = BTreeMap::<(IpAddr, usize), u32>::new();
    let mut dealt: Vec<(ReplicaAddress, usize)> = Vec::with_capacity(replicas.len());
    for replica in replicas {
        let host = config.node_of(replica).address;
        let followers_on = |core: usize| {
            let on_it = dealt.iter().filter(|&&(other, its)| {
                its == core
                    && config.node_of(other).address == host
                    && other.shard == replica.shard
                    && config.weight_of(other) == FOLLOWER
            });
            on_it.count()
        };
        let core = (0..host_cores)
            .min_by_key(|&core| {
                let load = loads.get(&(host, core)).copied();
                (followers_on(core), load.unwrap_or(0))
            })
            .expect("a host has a CPU");
        *loads.entry((host, core)).or_default() += config.weight_of(replica);
        dealt.push((replica, core));
    }
    // The order in which a node lists its CPUs.
    dealt.sort();
    for (id, node) in &mut config.nodes {
        let hosted = dealt
            .iter()
            .filter(|(replica, _)| config.layout.node_of(*replica) == *id);
        node.cores = hosted.map(|&(_, core)| core).collect();
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::ids::ShardId;

    use crate::generate::tests::options;

    use super::*;

    fn generated(shards: u32, replicas: u8, nodes: u32, cores: usize) -> ClusterConfig {
        ClusterConfig::generate(&options(shards, replicas, nodes, cores)).unwrap()
    }

    /// Every node listed CPUs 0 and 1 in the order of the shards, so that two of three shards had all their replicas on
    /// CPU 0: it was at its limit while CPU 1 stood still for 28 % of the time.
    #[test]
    fn no_core_of_a_host_that_is_too_small_has_much_more_to_do_than_another() {
        for (shards, replicas) in [(1, 3), (2, 3), (3, 3), (6, 3), (3, 1), (5, 5), (9, 3)] {
            let total = shards * u32::from(replicas);
            for nodes in u32::from(replicas)..=total {
                for cores in 1..4 {
                    let config = generated(shards, replicas, nodes, cores);
                    let loads: Vec<u32> =
                        (0..cores).map(|core| config.load_of_core(core)).collect();
                    let weight = shards * LEADER + (total - shards) * FOLLOWER;
                    assert_eq!(loads.iter().sum::<u32>(), weight, "all of it");
                    let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
                    assert!(most - least <= LEADER, "{shards} x {replicas}: {loads:?}");
                }
            }
        }
    }

    /// With both followers of a shard on one CPU, and its leader alone on the other, both stood still for a quarter of the
    /// time, and a lone shard was a fifth slower.
    #[test]
    fn followers_of_a_shard_are_on_different_cores() {
        for (shards, nodes) in [(1, 3), (3, 3), (3, 9), (6, 3)] {
            let config = generated(shards, 3, nodes, 2);
            for shard in (1..=shards).map(ShardId) {
                let leader = config.preferred_leader(shard);
                let followers = config.members_of(shard).filter(|it| it.replica != leader);
                let cores: Vec<usize> = followers.map(|it| config.core_of(it)).collect();
                assert!(matches!(cores[..], [0, 1] | [1, 0]), "{shards}: {cores:?}");
            }
        }
    }

    #[test]
    fn leaders_spread_over_the_cores() {
        for nodes in [3, 9] {
            let config = generated(3, 3, nodes, 2);
            let led_on_0 = (1..=3).map(ShardId).filter(|&shard| {
                let leader = config.preferred_leader(shard);
                let member = config.members_of(shard).nth(usize::from(leader.0) - 1);
                config.core_of(member.unwrap()) == 0
            });
            let led_on_0 = led_on_0.count();
            assert!((1..=2).contains(&led_on_0), "{nodes} nodes: {led_on_0}");
        }
    }

    #[test]
    fn replicas_with_cores_of_their_own_get_them_node_by_node() {
        let config = generated(3, 3, 3, 16);
        let cores: Vec<&[usize]> = config.nodes().map(|node| &node.cores[..]).collect();
        assert_eq!(cores, [&[0, 1, 2], &[3, 4, 5], &[6, 7, 8]]);
        assert_eq!(config.load_of_core(9), 0);
    }

    #[test]
    fn nodes_of_other_hosts_are_no_load_here() {
        let mut config = generated(3, 3, 3, 2);
        for node in config.nodes.values_mut() {
            node.address = "192.0.2.1".parse().unwrap();
        }
        assert_eq!(config.load_of_core(0), 0);
    }
}
