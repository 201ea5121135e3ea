//! A directed graph of plain numbers: strongly connected components (Tarjan, 1972) and a shortest
//! cycle through a node. Both without recursion: chains of real time are thousands of nodes long.

/// A node, numbered from 0.
pub type Node = u32;

/// Edges while they are collected.
#[derive(Debug, Default)]
pub struct GraphBuilder {
    nodes: Node,
    edges: Vec<(Node, Node)>,
}

impl GraphBuilder {
    /// A new node.
    ///
    /// # Panics
    /// Beyond 2^32 of them.
    pub fn node(&mut self) -> Node {
        let node = self.nodes;
        self.nodes = node.checked_add(1).expect("a run has thousands of nodes");
        node
    }

    /// `before` comes before `after`.
    pub fn edge(&mut self, before: Node, after: Node) {
        self.edges.push((before, after));
    }

    /// Arranges the edges by their start.
    #[must_use]
    pub fn finish(self) -> Graph {
        let nodes = index(self.nodes);
        let mut starts = vec![0_u32; nodes + 1];
        for (before, _) in &self.edges {
            starts[index(*before) + 1] += 1;
        }
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        let mut next = starts.clone();
        let mut targets = vec![0; self.edges.len()];
        for (before, after) in self.edges {
            let at = &mut next[index(before)];
            targets[index(*at)] = after;
            *at += 1;
        }
        Graph { starts, targets }
    }
}

/// The graph, ready to be walked.
#[derive(Debug)]
pub struct Graph {
    starts: Vec<u32>,
    targets: Vec<Node>,
}

const UNSEEN: u32 = u32::MAX;

impl Graph {
    fn nodes(&self) -> usize {
        self.starts.len() - 1
    }

    /// What comes directly after a node.
    #[must_use]
    pub fn after(&self, node: Node) -> &[Node] {
        let node = index(node);
        &self.targets[index(self.starts[node])..index(self.starts[node + 1])]
    }

    /// All strongly connected components of more than one node.
    #[must_use]
    pub fn cyclic_components(&self) -> Vec<Vec<Node>> {
        let mut walk = Walk {
            graph: self,
            order: vec![UNSEEN; self.nodes()],
            low: vec![UNSEEN; self.nodes()],
            closed: vec![false; self.nodes()],
            open: Vec::new(),
            path: Vec::new(),
            found: Vec::new(),
            visited: 0,
        };
        for node in 0..self.nodes() {
            if walk.order[node] == UNSEEN {
                walk.from(number(node));
            }
        }
        walk.found
    }

    /// The shortest way from a node back to itself; `None` if there is none.
    #[must_use]
    pub fn shortest_cycle(&self, start: Node) -> Option<Vec<Node>> {
        let mut came_from = vec![UNSEEN; self.nodes()];
        let mut reached = std::collections::VecDeque::from([start]);
        while let Some(node) = reached.pop_front() {
            for &next in self.after(node) {
                if next == start {
                    let mut cycle = vec![node];
                    while cycle[cycle.len() - 1] != start {
                        cycle.push(came_from[index(cycle[cycle.len() - 1])]);
                    }
                    cycle.reverse();
                    return Some(cycle);
                }
                if came_from[index(next)] == UNSEEN {
                    came_from[index(next)] = node;
                    reached.push_back(next);
                }
            }
        }
        None
    }
}

/// Tarjan's walk with its stack of calls made explicit.
struct Walk<'a> {
    graph: &'a Graph,
    order: Vec<u32>,
    low: Vec<u32>,
    /// Its component is complete.
    closed: Vec<bool>,
    open: Vec<Node>,
    /// Nodes being visited, each with the number of edges that were followed.
    path: Vec<(Node, usize)>,
    found: Vec<Vec<Node>>,
    visited: u32,
}

impl Walk<'_> {
    fn enter(&mut self, node: Node) {
        self.order[index(node)] = self.visited;
        self.low[index(node)] = self.visited;
        self.visited += 1;
        self.open.push(node);
        self.path.push((node, 0));
    }

    fn from(&mut self, root: Node) {
        self.enter(root);
        while let Some((node, followed)) = self.path.last_mut() {
            let node = *node;
            let next = self.graph.after(node).get(*followed).copied();
            *followed += 1;
            match next {
                Some(next) if self.order[index(next)] == UNSEEN => self.enter(next),
                Some(next) if !self.closed[index(next)] => {
                    let low = self.order[index(next)];
                    self.low[index(node)] = self.low[index(node)].min(low);
                }
                Some(_) => {}
                None => self.leave(node),
            }
        }
    }

    fn leave(&mut self, node: Node) {
        self.path.pop();
        let low = self.low[index(node)];
        if let Some((parent, _)) = self.path.last() {
            let parent = index(*parent);
            self.low[parent] = self.low[parent].min(low);
        }
        if low != self.order[index(node)] {
            return;
        }
        let mut component = Vec::new();
        while let Some(member) = self.open.pop() {
            self.closed[index(member)] = true;
            component.push(member);
            if member == node {
                break;
            }
        }
        if component.len() > 1 {
            self.found.push(component);
        }
    }
}

fn index(node: Node) -> usize {
    usize::try_from(node).expect("a u32 fits")
}

fn number(node: usize) -> Node {
    Node::try_from(node).expect("nodes are numbered with u32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Concern, Stream};

    fn graph(nodes: u32, edges: &[(Node, Node)]) -> Graph {
        let mut builder = GraphBuilder::default();
        for _ in 0..nodes {
            builder.node();
        }
        for &(before, after) in edges {
            builder.edge(before, after);
        }
        builder.finish()
    }

    #[test]
    fn a_long_chain_has_no_cycle_and_one_edge_back_closes_it() {
        let mut edges: Vec<(Node, Node)> = (0..99_999).map(|node| (node, node + 1)).collect();
        assert!(graph(100_000, &edges).cyclic_components().is_empty());
        edges.push((99_999, 5));
        let components = graph(100_000, &edges).cyclic_components();
        assert_eq!(components.len(), 1);
        assert_eq!(components[0].len(), 99_995);
    }

    #[test]
    fn the_shortest_cycle_is_found() {
        let graph = graph(5, &[(0, 1), (1, 2), (2, 3), (3, 0), (2, 0), (4, 0)]);
        assert_eq!(graph.shortest_cycle(0), Some(vec![0, 1, 2]));
        assert_eq!(graph.shortest_cycle(4), None);
    }

    /// Against the definition: two nodes are in one component if each reaches the other.
    #[test]
    fn components_agree_with_reachability_in_small_random_graphs() {
        let mut stream = Stream::new(1, Concern::Workload, 0);
        for _ in 0..500 {
            let nodes = u32::try_from(stream.between(1, 8)).unwrap();
            let edges: Vec<(Node, Node)> = (0..stream.below(14))
                .map(|_| {
                    let mut draw = || u32::try_from(stream.below(u64::from(nodes))).unwrap();
                    (draw(), draw())
                })
                .collect();
            let size = nodes as usize;
            let mut reach = vec![vec![false; size]; size];
            for &(a, b) in &edges {
                reach[a as usize][b as usize] = true;
            }
            for via in 0..size {
                for a in 0..size {
                    for b in 0..size {
                        reach[a][b] |= reach[a][via] && reach[via][b];
                    }
                }
            }
            let mut expected: Vec<Vec<Node>> = Vec::new();
            for a in 0..nodes {
                let members: Vec<Node> = (0..nodes)
                    .filter(|&b| {
                        a == b || reach[a as usize][b as usize] && reach[b as usize][a as usize]
                    })
                    .collect();
                if members.len() > 1 && members[0] == a {
                    expected.push(members);
                }
            }
            let mut found = graph(nodes, &edges).cyclic_components();
            found
                .iter_mut()
                .for_each(|component| component.sort_unstable());
            found.sort();
            assert_eq!(found, expected, "{edges:?}");
        }
    }
}
