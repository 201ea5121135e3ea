//! stub
use crate::client::Role;
use crate::config::*;
use crate::entry::Entry;
use crate::ids::*;
use crate::output::*;
use crate::paxos::message::*;
use crate::time::*;
use alloc::vec::Vec;
#[derive(Debug)]
pub struct Consensus;
pub enum Effect {
    Persist {
        seq: PersistSeq,
        record: Record,
    },
    Send {
        to: ReplicaId,
        message: Message,
    },
    ReadLog {
        from: Slot,
        upto: Slot,
        bytes_max: usize,
    },
    Stop {
        reason: StopReason,
    },
}
impl Consensus {
    pub fn new(_c: &ReplicaConfig, _r: Recovered, _n: Now) -> Self {
        Self
    }
    pub fn on_message(&mut self, _n: Now, _f: ReplicaId, _m: Message) {}
    pub fn on_durable(&mut self, _n: Now, _u: PersistSeq) {}
    pub fn on_tick(&mut self, _n: Now) {}
    pub fn on_log_read(&mut self, _n: Now, _f: Slot, _e: Vec<LoggedEntry>) {}
    pub fn can_propose(&self) -> bool {
        false
    }
    pub fn own_flush_open(&self) -> bool {
        false
    }
    pub fn propose(&mut self, _n: Now, _e: Entry) -> Slot {
        Slot(0)
    }
    pub fn next_chosen(&mut self) -> Option<(Slot, Entry)> {
        None
    }
    pub fn poll_effect(&mut self) -> Option<Effect> {
        None
    }
    pub fn role(&self) -> Role {
        Role::Follower
    }
    pub fn ballot(&self) -> Ballot {
        Ballot::ZERO
    }
    pub fn leader(&self) -> Option<ReplicaId> {
        None
    }
    pub fn chosen_upto(&self) -> Slot {
        Slot(0)
    }
    pub fn leading(&self) -> Option<Ballot> {
        None
    }
    pub fn serving(&self) -> Option<Ballot> {
        None
    }
    pub fn lease_valid(&self, _n: Now) -> bool {
        false
    }
    pub fn start_read_round(&mut self, _n: Now) -> u64 {
        0
    }
    pub fn confirmed_round(&self) -> u64 {
        0
    }
    pub fn transfer_leadership(&mut self, _n: Now, _t: ReplicaId) -> bool {
        false
    }
    pub fn deadline_ns(&self) -> u64 {
        0
    }
    pub fn timestamp_max(&self) -> Timestamp {
        Timestamp::ZERO
    }
}
