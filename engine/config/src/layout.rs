//! Which node hosts which replica, and which replica of each shard is preferred as its leader.
//!
//! By default replica r of shard s goes to node number `((s - 1) * replicas + r - 1) mod nodes`: 3
//! nodes with 3 shards of 3 host one replica of each shard, of 9 nodes the first three hold shard 1,
//! and any other number of nodes is loaded evenly to within one replica. Leaders are dealt out to
//! the node that leads fewest so far.

use std::collections::BTreeMap;

use quorate_protocol::ids::{NodeId, ReplicaAddress, ReplicaId, ShardId};

/// Row s - 1 holds the nodes of shard s by replica number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    rows: Vec<Vec<NodeId>>,
    leaders: Vec<ReplicaId>,
    explicit: bool,
}

impl Layout {
    /// The default layout over these nodes, or why there is none.
    pub(crate) fn spread(shards: u32, replicas: u8, nodes: &[NodeId]) -> Result<Self, String> {
        let group = usize::from(replicas);
        if nodes.len() < group {
            return Err(format!(
                "{} nodes cannot host {replicas} replicas of one shard: a node hosts at most one \
                 replica of a shard",
                nodes.len()
            ));
        }
        let shards = usize::try_from(shards).expect("a u32 fits a usize here");
        if nodes.len() > shards * group {
            return Err(format!(
                "{} nodes are more than the {} replicas of {shards} shards",
                nodes.len(),
                shards * group
            ));
        }
        let node_at = |position: usize| nodes[position % nodes.len()];
        let rows: Vec<Vec<NodeId>> = (0..shards)
            .map(|shard| (0..group).map(|r| node_at(shard * group + r)).collect())
            .collect();
        let leaders = deal_leaders(&rows);
        Ok(Self {
            rows,
            leaders,
            explicit: false,
        })
    }

    /// A layout from the file, checked by the caller; the first node of a row is to lead.
    pub(crate) fn explicit(rows: Vec<Vec<NodeId>>) -> Self {
        Self {
            leaders: vec![ReplicaId(1); rows.len()],
            rows,
            explicit: true,
        }
    }

    /// The rows, if they have to be written into the file.
    pub(crate) fn explicit_rows(&self) -> Option<&[Vec<NodeId>]> {
        self.explicit.then_some(&self.rows)
    }

    pub(crate) fn node_of(&self, replica: ReplicaAddress) -> NodeId {
        self.row(replica.shard)[usize::from(replica.replica.0) - 1]
    }

    pub(crate) fn preferred_leader(&self, shard: ShardId) -> ReplicaId {
        let index = index_of(shard);
        assert!(
            index < self.leaders.len(),
            "no shard {shard} in the cluster"
        );
        self.leaders[index]
    }

    fn row(&self, shard: ShardId) -> &[NodeId] {
        &self.rows[index_of(shard)]
    }
}

fn index_of(shard: ShardId) -> usize {
    let number = usize::try_from(shard.0).expect("a u32 fits a usize here");
    number.checked_sub(1).expect("shards count from 1")
}

fn deal_leaders(rows: &[Vec<NodeId>]) -> Vec<ReplicaId> {
    let mut led = BTreeMap::<NodeId, u32>::new();
    let mut leaders = Vec::with_capacity(rows.len());
    for row in rows {
        let (number, &node) = (1_u8..)
            .zip(row)
            .min_by_key(|(number, node)| (led.get(node).copied().unwrap_or(0), *number))
            .expect("a group has members");
        *led.entry(node).or_default() += 1;
        leaders.push(ReplicaId(number));
    }
    leaders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: u32) -> Vec<NodeId> {
        (1..=count).map(NodeId).collect()
    }

    fn numbers(layout: &Layout) -> Vec<Vec<u32>> {
        let row = |row: &Vec<NodeId>| row.iter().map(|node| node.0).collect();
        layout.rows.iter().map(row).collect()
    }

    #[test]
    fn three_nodes_host_one_replica_of_each_shard_and_lead_one_each() {
        let layout = Layout::spread(3, 3, &nodes(3)).unwrap();
        assert_eq!(numbers(&layout), [[1, 2, 3], [1, 2, 3], [1, 2, 3]]);
        assert_eq!(layout.leaders, [ReplicaId(1), ReplicaId(2), ReplicaId(3)]);
    }

    #[test]
    fn nine_nodes_hold_one_replica_each_and_the_first_of_each_shard_leads() {
        let layout = Layout::spread(3, 3, &nodes(9)).unwrap();
        assert_eq!(numbers(&layout), [[1, 2, 3], [4, 5, 6], [7, 8, 9]]);
        assert_eq!(layout.leaders, [ReplicaId(1); 3]);
    }

    #[test]
    fn any_number_of_nodes_is_loaded_evenly_in_replicas_and_leaders() {
        for shards in 1..=7_u32 {
            for replicas in [1_u8, 3, 5] {
                let most = shards * u32::from(replicas);
                for count in u32::from(replicas)..=most {
                    let layout = Layout::spread(shards, replicas, &nodes(count)).unwrap();
                    let mut hosted = vec![0_u32; count as usize];
                    let mut led = hosted.clone();
                    for (row, leader) in layout.rows.iter().zip(&layout.leaders) {
                        let mut distinct = row.clone();
                        distinct.sort_unstable();
                        distinct.dedup();
                        assert_eq!(distinct.len(), usize::from(replicas));
                        row.iter().for_each(|node| hosted[node.0 as usize - 1] += 1);
                        led[row[usize::from(leader.0) - 1].0 as usize - 1] += 1;
                    }
                    let (least, most) = (hosted.iter().min(), hosted.iter().max());
                    assert!(most.unwrap() - least.unwrap() <= 1, "{hosted:?}");
                    let fair = shards.div_ceil(count);
                    assert!(*led.iter().max().unwrap() <= fair + 1, "{led:?}");
                }
            }
        }
    }

    #[test]
    fn too_few_and_too_many_nodes_are_refused() {
        assert!(
            Layout::spread(3, 3, &nodes(2))
                .unwrap_err()
                .contains("2 nodes cannot host 3")
        );
        assert!(
            Layout::spread(1, 3, &nodes(4))
                .unwrap_err()
                .contains("4 nodes are more than")
        );
    }
}
