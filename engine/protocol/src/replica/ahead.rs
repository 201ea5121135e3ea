//! Messages that were refused because the sender's clock is too far ahead of ours: counted, and told in
//! `status` while it lasts. Otherwise two hosts with bad clocks look like a network that is cut.

use alloc::format;
use alloc::string::String;

use crate::ids::ReplicaAddress;
use crate::time::{Now, SECOND, Timestamp};

/// How long after the last refusal `status` speaks of it. Peers send several messages a second.
const TOLD_NS: u64 = 10 * SECOND;

/// The last refusal, and how many there were since start.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    refused: u64,
    last: Option<Refusal>,
}

#[derive(Debug)]
struct Refusal {
    from: ReplicaAddress,
    ahead_ns: u64,
    at_ns: u64,
}

impl Ahead {
    pub fn note(&mut self, now: Now, from: ReplicaAddress, clock: Timestamp) {
        self.refused = self.refused.saturating_add(1);
        self.last = Some(Refusal {
            from,
            ahead_ns: clock.0.saturating_sub(now.wall_ns),
            at_ns: now.mono_ns,
        });
    }

    /// For people; empty if nothing was refused lately.
    pub fn reason(&self, now: Now) -> String {
        match &self.last {
            Some(last) if now.mono_ns.saturating_sub(last.at_ns) < TOLD_NS => format!(
                "clock of {} is {} s ahead of ours: {} messages refused",
                last.from,
                last.ahead_ns / SECOND,
                self.refused
            ),
            Some(_) | None => String::new(),
        }
    }
}
