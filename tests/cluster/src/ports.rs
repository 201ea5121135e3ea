//! Free ports: a base port such that every port of every node can be bound now.

use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the kernel's range for outgoing connections, which starts at 32768.
const FIRST: u16 = 11_000;
const LAST: u16 = 31_000;
const NODE_DISTANCE: u16 = 100;
const ADMINISTRATION: u16 = 90;

/// A base port for `nodes` nodes with at most `shards` replicas each.
///
/// Another program may take a port between this look and its use; the server then says so and the
/// test fails with that reason. Starting points differ per process, so that two test runs on one
/// machine do not meet.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_base_port(nodes: u16, shards: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = (LAST - FIRST) / NODE_DISTANCE;
    let start = u16::try_from(process::id() % u32::from(span)).expect("below span");
    for _ in 0..span {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let base = FIRST + (start + step % span) % span * NODE_DISTANCE;
        let free = (0..nodes).all(|node| {
            let node_base = base + node * NODE_DISTANCE;
            (0..shards)
                .chain([ADMINISTRATION])
                .all(|offset| TcpListener::bind((Ipv4Addr::LOCALHOST, node_base + offset)).is_ok())
        });
        if free {
            NEXT.fetch_add(nodes, Ordering::Relaxed);
            return base;
        }
    }
    panic!("no free ports for {nodes} nodes between {FIRST} and {LAST}");
}
