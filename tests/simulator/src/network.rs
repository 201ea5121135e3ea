//! `SimNetwork`: what becomes of the bytes that one host sends to another.
//!
//! Loss, duplication, delay, reordering, corruption and partitions, all drawn from its own stream.
//! It knows hosts (nodes first, then clients) and bytes; it does not know what the bytes mean, and it
//! keeps no queue: it answers when copies of a message arrive, and the world plans their delivery.

use std::collections::{BTreeMap, BTreeSet};

use quorate_protocol::time::SECOND;
use quorate_protocol::words::Words;
use quorate_storage::BLOCK_BYTES;
use serde::Serialize;

use crate::counters::Counters;
use crate::random::Stream;

/// A machine on the network: nodes are numbered from 0, clients follow them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host(pub usize);

/// How bad the network is; probabilities in parts per million.
#[derive(Clone, Debug, Serialize)]
pub struct NetworkSettings {
    pub loss_ppm: u32,
    pub duplicate_ppm: u32,
    pub corrupt_ppm: u32,
    /// A message that does not wait for the ones sent before it.
    pub reorder_ppm: u32,
    pub delay_min_ns: u64,
    /// Mean of the exponential part of the delay.
    pub delay_mean_ns: u64,
    /// A message that hangs somewhere: its delay is drawn up to `slow_ns`.
    pub slow_ppm: u32,
    pub slow_ns: u64,
    /// Campaigns at which the present leader is cut off from its group.
    pub rival_ppm: u32,
    /// Second copies that come seconds later.
    pub late_copy_ppm: u32,
    /// Moves of which a copy comes when the accounts have left the target again.
    pub late_move_ppm: u32,
    /// Chunks of a snapshot whose bytes are others than those that were read, under a frame that holds.
    pub chunk_ppm: u32,
}

impl NetworkSettings {
    /// A network that does its work.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            loss_ppm: 0,
            duplicate_ppm: 0,
            corrupt_ppm: 0,
            reorder_ppm: 0,
            delay_min_ns: 30_000,
            delay_mean_ns: 50_000,
            slow_ppm: 0,
            slow_ns: 0,
            rival_ppm: 0,
            late_copy_ppm: 0,
            late_move_ppm: 0,
            chunk_ppm: 0,
        }
    }
}

/// What kind of cut the links get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// The hosts fall into two halves.
    Symmetric,
    /// One direction between two groups of hosts is lost.
    OneWay,
    /// One node hears nobody and is heard by nobody.
    Isolate,
    /// Two nodes do not see each other; everybody else sees both.
    Bridge,
    /// In each group of replicas every node hears a majority, and no two hear the same.
    Ring,
}

/// The kinds, for drawing.
pub const PARTITIONS: [Partition; 5] = [
    Partition::Symmetric,
    Partition::OneWay,
    Partition::Isolate,
    Partition::Bridge,
    Partition::Ring,
];

/// Names of this module's counters.
pub const FAULT_NAMES: [&str; 13] = [
    "chunk_altered",
    "message_copied_late",
    "message_corrupted",
    "message_delayed_long",
    "message_duplicated",
    "message_lost",
    "message_partitioned",
    "message_reordered",
    "partition_bridge",
    "partition_isolate",
    "partition_one_way",
    "partition_ring",
    "partition_symmetric",
];

/// One copy of a message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub at_ns: u64,
    pub bytes: Vec<u8>,
    /// The bytes are not what was sent.
    pub corrupted: bool,
}

/// The network.
#[derive(Debug)]
pub struct SimNetwork {
    settings: NetworkSettings,
    stream: Stream,
    /// Directed links that lose everything.
    cut: BTreeSet<(Host, Host)>,
    /// When the last ordered message of a link arrives.
    last_ns: BTreeMap<(Host, Host), u64>,
    pub faults: Counters,
}

impl SimNetwork {
    /// A whole network with these settings.
    #[must_use]
    pub fn new(settings: NetworkSettings, stream: Stream) -> Self {
        Self {
            settings,
            stream,
            cut: BTreeSet::new(),
            last_ns: BTreeMap::new(),
            faults: Counters::with_names(&FAULT_NAMES),
        }
    }

    /// Ends all cuts and all faults, for good.
    pub fn calm_down(&mut self) {
        self.cut.clear();
        self.settings = NetworkSettings::calm();
    }

    /// Whether any link is cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        !self.cut.is_empty()
    }

    /// Mends all links.
    pub fn mend(&mut self) {
        self.cut.clear();
    }

    /// Cuts links between `nodes` nodes (and the clients up to `hosts`), in place of earlier cuts.
    /// `victim` is the node that an isolation or a broken bridge is about, `groups` are the nodes
    /// that vote together.
    pub fn cut(
        &mut self,
        kind: Partition,
        victim: usize,
        nodes: usize,
        hosts: usize,
        groups: &[Vec<usize>],
    ) {
        self.cut.clear();
        match kind {
            Partition::Symmetric => {
                self.faults.add("partition_symmetric");
                let side = self.sides(hosts);
                self.cut_where(hosts, |from, to| side[from] != side[to]);
            }
            Partition::OneWay => {
                self.faults.add("partition_one_way");
                let side = self.sides(hosts);
                self.cut_where(hosts, |from, to| side[from] && !side[to]);
            }
            Partition::Isolate => {
                self.faults.add("partition_isolate");
                let lonely = victim;
                let clients_too = self.stream.chance(300_000);
                let reach = if clients_too { hosts } else { nodes };
                self.cut_where(reach, |from, to| (from == lonely) != (to == lonely));
            }
            Partition::Bridge => {
                self.faults.add("partition_bridge");
                let (a, b) = (victim, self.stream.index(nodes));
                self.cut_where(nodes, |from, to| {
                    from != to && (from, to) == (a, b) || (from, to) == (b, a) && a != b
                });
            }
            Partition::Ring => {
                self.faults.add("partition_ring");
                for group in groups {
                    self.cut_ring(group);
                }
            }
        }
    }

    /// Cuts the links between two nodes, beside what is cut already.
    pub fn cut_off(&mut self, one: usize, other: usize) {
        if one != other {
            self.cut.insert((Host(one), Host(other)));
            self.cut.insert((Host(other), Host(one)));
        }
    }

    /// When copies of a message arrive; none if it is lost.
    pub fn send(&mut self, now_ns: u64, from: Host, to: Host, bytes: Vec<u8>) -> Vec<Delivery> {
        if from == to {
            // Replicas of one process talk through memory.
            return vec![Delivery {
                at_ns: now_ns + self.settings.delay_min_ns.min(1_000),
                bytes,
                corrupted: false,
            }];
        }
        if self.cut.contains(&(from, to)) {
            self.faults.add("message_partitioned");
            return Vec::new();
        }
        if self.hit(self.settings.loss_ppm, "message_lost") {
            return Vec::new();
        }
        let mut deliveries = Vec::with_capacity(1);
        if self.hit(self.settings.duplicate_ppm, "message_duplicated") {
            let mut copy = self.deliver(now_ns, from, to, bytes.clone());
            if self.stream.chance(self.settings.late_copy_ppm) {
                // Of a connection that was long thought dead.
                self.faults.add("message_copied_late");
                copy.at_ns += self.stream.below(5 * SECOND);
            }
            deliveries.push(copy);
        }
        deliveries.push(self.deliver(now_ns, from, to, bytes));
        deliveries
    }

    fn deliver(&mut self, now_ns: u64, from: Host, to: Host, mut bytes: Vec<u8>) -> Delivery {
        let mut delay_ns =
            self.settings.delay_min_ns + self.stream.exponential(self.settings.delay_mean_ns);
        if self.hit(self.settings.slow_ppm, "message_delayed_long") {
            delay_ns += self.stream.below(self.settings.slow_ns + 1);
        }
        let mut at_ns = now_ns + delay_ns;
        let last_ns = self.last_ns.entry((from, to)).or_default();
        if at_ns < *last_ns {
            if self.stream.chance(self.settings.reorder_ppm) {
                self.faults.add("message_reordered");
            } else {
                at_ns = *last_ns;
            }
        }
        *last_ns = (*last_ns).max(at_ns);
        let corrupted =
            !bytes.is_empty() && self.hit(self.settings.corrupt_ppm, "message_corrupted");
        if corrupted {
            self.corrupt(&mut bytes);
        }
        Delivery {
            at_ns,
            bytes,
            corrupted,
        }
    }

    /// Flips one to three bits, or cuts the message short.
    fn corrupt(&mut self, bytes: &mut Vec<u8>) {
        if self.stream.chance(200_000) {
            bytes.truncate(self.stream.index(bytes.len()));
            return;
        }
        // Distinct bytes, so that flips cannot cancel out.
        let first = self.stream.index(bytes.len());
        for step in 0..self.stream.index(3) + 1 {
            let at = (first + step * 7) % bytes.len();
            if step > 0 && at == first {
                break;
            }
            bytes[at] ^= 1 << self.stream.below(8);
        }
    }

    /// The bytes of a chunk of a snapshot, perhaps altered before a frame sealed them: by a sender's
    /// memory, or by its disk.
    pub fn alter_chunk(&mut self, bytes: &Words) -> Option<Words> {
        if bytes.as_bytes().is_empty() || !self.hit(self.settings.chunk_ppm, "chunk_altered") {
            return None;
        }
        let mut altered = bytes.as_bytes().to_vec();
        let block = usize::try_from(BLOCK_BYTES).expect("a block is small");
        if altered.len() > block && self.stream.chance(300_000) {
            // Each block is whole, and none is where it belongs.
            altered.rotate_left(block);
        } else {
            let at = self.stream.index(altered.len());
            altered[at] ^= 1 << self.stream.below(8);
        }
        Words::from_bytes(&altered)
    }

    fn hit(&mut self, ppm: u32, name: &'static str) -> bool {
        let hit = ppm > 0 && self.stream.chance(ppm);
        if hit {
            self.faults.add(name);
        }
        hit
    }

    fn sides(&mut self, hosts: usize) -> Vec<bool> {
        (0..hosts).map(|_| self.stream.chance(500_000)).collect()
    }

    /// Every node hears itself and those that follow it in the ring, up to a majority: with three
    /// nodes each link works in one direction only.
    fn cut_ring(&mut self, group: &[usize]) {
        let count = group.len();
        let first = self.stream.index(count);
        let turned = self.stream.chance(500_000);
        for from in 0..count {
            for to in 0..count {
                let (a, b) = if turned { (to, from) } else { (from, to) };
                if (count + a - b) % count > count / 2 {
                    let host = |at: usize| Host(group[(at + first) % count]);
                    self.cut.insert((host(from), host(to)));
                }
            }
        }
    }

    fn cut_where(&mut self, hosts: usize, cut: impl Fn(usize, usize) -> bool) {
        for from in 0..hosts {
            for to in 0..hosts {
                if cut(from, to) {
                    self.cut.insert((Host(from), Host(to)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Concern;

    fn network(change: impl Fn(&mut NetworkSettings)) -> SimNetwork {
        let mut settings = NetworkSettings::calm();
        change(&mut settings);
        SimNetwork::new(settings, Stream::new(11, Concern::Network, 0))
    }

    fn arrivals(network: &mut SimNetwork, count: u8) -> Vec<Delivery> {
        (0..count)
            .flat_map(|n| network.send(u64::from(n), Host(0), Host(1), vec![n; 40]))
            .collect()
    }

    #[test]
    fn a_calm_network_delivers_everything_once_in_order() {
        let all = arrivals(&mut network(|_| ()), 200);
        assert_eq!(all.len(), 200);
        assert!(all.windows(2).all(|pair| pair[0].at_ns <= pair[1].at_ns));
        assert!(
            all.iter()
                .enumerate()
                .all(|(n, d)| usize::from(d.bytes[0]) == n)
        );
    }

    #[test]
    fn each_fault_fires_and_is_counted() {
        let mut lossy = network(|s| s.loss_ppm = 500_000);
        let arrived = arrivals(&mut lossy, 200).len() as u64;
        assert_eq!(arrived + lossy.faults.count("message_lost"), 200);
        assert!(arrived > 50 && arrived < 150);

        let mut doubling = network(|s| s.duplicate_ppm = 500_000);
        let arrived = arrivals(&mut doubling, 200).len() as u64;
        assert_eq!(arrived, 200 + doubling.faults.count("message_duplicated"));
        assert!(arrived > 250);

        let mut reordering = network(|s| s.reorder_ppm = 1_000_000);
        let all = arrivals(&mut reordering, 200);
        assert!(all.windows(2).any(|pair| pair[0].at_ns > pair[1].at_ns));
        assert!(reordering.faults.count("message_reordered") > 10);

        let mut corrupting = network(|s| s.corrupt_ppm = 1_000_000);
        for (n, delivery) in arrivals(&mut corrupting, 200).iter().enumerate() {
            assert!(delivery.corrupted);
            assert_ne!(delivery.bytes, vec![u8::try_from(n).unwrap(); 40]);
        }

        let mut altering = network(|s| s.chunk_ppm = 500_000);
        let blocks = [1; 4096].into_iter().chain([2; 4096]);
        let chunk = Words::from_bytes(&blocks.collect::<Vec<u8>>()).unwrap();
        let altered: Vec<Words> = (0..200)
            .filter_map(|_| altering.alter_chunk(&chunk))
            .collect();
        let count = altered.len() as u64;
        assert_eq!(altering.faults.count("chunk_altered"), count);
        assert!(count > 50 && count < 150);
        for other in altered {
            assert_ne!(other, chunk);
            assert_eq!(other.as_bytes().len(), chunk.as_bytes().len());
        }
    }

    #[test]
    fn cuts_have_their_shapes_and_end() {
        for kind in PARTITIONS {
            for seed in 100..120 {
                let mut net = network(|_| ());
                net.stream = Stream::new(seed, Concern::Network, 1);
                net.cut(kind, 1, 3, 5, &[vec![0, 1, 2]]);
                let lost: Vec<(usize, usize)> = (0..5)
                    .flat_map(|from| (0..5).map(move |to| (from, to)))
                    .filter(|&(from, to)| net.send(0, Host(from), Host(to), vec![1]).is_empty())
                    .collect();
                let mirrored = lost.iter().all(|&(a, b)| lost.contains(&(b, a)));
                let one_way = matches!(kind, Partition::OneWay | Partition::Ring);
                assert_eq!(one_way && !lost.is_empty(), !mirrored);
                if kind == Partition::Bridge {
                    assert!(lost.len() <= 2);
                }
                if kind == Partition::Ring {
                    for to in 0..3 {
                        let deaf = lost.iter().filter(|&&(_, b)| b == to).count();
                        assert_eq!(deaf, 1, "two of three are a majority");
                    }
                }
                net.mend();
                assert!(!net.is_cut());
                assert_eq!(net.send(0, Host(0), Host(1), vec![1]).len(), 1);
            }
        }
    }
}
