//! A base port whose ports are all free now.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::anyhow;
use quorate_config::{ADMINISTRATION_PORT_OFFSET, NODE_PORT_DISTANCE};

/// Below the kernel's default range for outgoing connections, which starts at 32768.
const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;

/// A base port for `nodes` nodes on loopback, each with the ports of `shards` shards.
///
/// Another program may take one before the nodes do; they then say so. `seed` spreads the starting
/// points of programs that ask at the same time.
pub fn free_base_port(nodes: u16, shards: u16, seed: u16) -> anyhow::Result<u16> {
    let steps = (LAST - FIRST) / NODE_PORT_DISTANCE - nodes;
    (0..steps)
        .map(|step| FIRST + (seed % steps + step) % steps * NODE_PORT_DISTANCE)
        .find(|base| (0..nodes).all(|node| is_free(base + node * NODE_PORT_DISTANCE, shards)))
        .ok_or_else(|| anyhow!("no free ports for {nodes} nodes between {FIRST} and {LAST}"))
}

fn is_free(node_base: u16, shards: u16) -> bool {
    (0..shards)
        .chain([ADMINISTRATION_PORT_OFFSET])
        .all(|offset| TcpListener::bind((Ipv4Addr::LOCALHOST, node_base + offset)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_passed_over() {
        let first = free_base_port(3, 3, 7).unwrap();
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first + NODE_PORT_DISTANCE)).unwrap();
        let second = free_base_port(3, 3, 7).unwrap();
        assert!(
            second > first + NODE_PORT_DISTANCE || second < first,
            "{first} {second}"
        );
    }
}
