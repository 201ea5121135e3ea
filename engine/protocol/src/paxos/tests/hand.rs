//! One replica in hand: messages go in one by one, effects come out, nothing happens by itself.

use alloc::vec::Vec;

use crate::config::{IdRule, Reads, Recovered, ReplicaConfig};
use crate::entry::Entry;
use crate::ids::{Ballot, ClusterId, PersistSeq, ReplicaAddress, ReplicaId, ShardId, Slot};
use crate::limits::TIMING;
use crate::output::Record;
use crate::paxos::message::{LoggedEntry, Message};
use crate::paxos::{Consensus, Effect};
use crate::shard::map::Placement;
use crate::time::{Now, SECOND, Timestamp};

/// Replica 1 of a group.
pub struct Hand {
    pub core: Consensus,
    pub now_ns: u64,
    issued: PersistSeq,
}

pub const OWN: ReplicaId = ReplicaId(1);
pub const B: ReplicaId = ReplicaId(2);
pub const C: ReplicaId = ReplicaId(3);

pub fn ballot(round: u64, replica: ReplicaId) -> Ballot {
    Ballot::new(round, replica)
}

/// Entries differ by their stamps.
pub fn entry(origin: Ballot, stamp: u64) -> Entry {
    Entry::noop(origin, Timestamp(stamp))
}

pub fn logged(slot: u64, accepted: Ballot, entry: &Entry) -> LoggedEntry {
    LoggedEntry {
        slot: Slot(slot),
        accepted,
        entry: entry.clone(),
    }
}

pub fn accept(ballot: Ballot, slot: u64, chosen_upto: u64, entry: &Entry) -> Message {
    Message::Accept {
        ballot,
        slot: Slot(slot),
        chosen_upto: Slot(chosen_upto),
        entry: entry.clone(),
    }
}

pub fn heartbeat(ballot: Ballot, chosen_upto: u64) -> Message {
    Message::Heartbeat {
        ballot,
        round: 1,
        chosen_upto: Slot(chosen_upto),
    }
}

pub fn prepare(ballot: Ballot) -> Message {
    Message::Prepare {
        ballot,
        from: Slot(1),
        transfer_of: Ballot::ZERO,
    }
}

/// The messages among effects.
pub fn sent(effects: &[Effect]) -> Vec<Message> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { message, .. } => Some(message.clone()),
            _ => None,
        })
        .collect()
}

/// The records among effects.
pub fn persisted(effects: &[Effect]) -> Vec<Record> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Persist { record, .. } => Some(record.clone()),
            _ => None,
        })
        .collect()
}

impl Hand {
    /// Started long ago: its wait is over, its election timeout not.
    pub fn new(replicas: u8, recovered: Recovered) -> Self {
        let mut hand = Self::just_started(replicas, recovered);
        if replicas > 1 {
            hand.now_ns += TIMING.lease_ns;
        }
        hand
    }

    pub fn just_started(replicas: u8, recovered: Recovered) -> Self {
        let config = ReplicaConfig {
            cluster: ClusterId(1),
            address: ReplicaAddress {
                shard: ShardId(1),
                replica: OWN,
            },
            shards: 1,
            replicas,
            placement: Placement::Hash,
            reads: Reads::Lease,
            ids: IdRule::Any,
            preferred_leader: B,
            timing: TIMING,
            entry_bytes_max: crate::limits::ENTRY_BYTES_MAX,
            admission: crate::config::Admission::default(),
            tail_bytes_max: crate::limits::LOG_TAIL_BYTES_MAX,
            keep_ns: None,
            checkpoint_weight: None,
            accounts_in_memory_max: crate::limits::ACCOUNTS_IN_MEMORY_MAX,
            scan_places: crate::limits::SCAN_PLACES,
            apply_bytes: crate::limits::APPLY_BYTES,
            telemetry_window_ns: crate::limits::TELEMETRY_WINDOW_NS,
            seed: 7,
        };
        let now_ns = 100 * SECOND;
        Self {
            core: Consensus::new(&config, recovered, at(now_ns)),
            now_ns,
            issued: PersistSeq(0),
        }
    }

    /// A leader of a group whose replica 2 answered everything; its ballot.
    pub fn leader(replicas: u8) -> (Self, Ballot) {
        let mut hand = Self::new(replicas, Recovered::default());
        let ballot = hand.campaign();
        for peer in (2..=replicas)
            .map(ReplicaId)
            .take(usize::from(replicas) / 2)
        {
            hand.say(peer, promise(ballot, 0, (0, 1), None));
        }
        assert_eq!(hand.core.leading(), Some(ballot));
        (hand, ballot)
    }

    /// Times out, wins the pre-vote, makes its ballot durable; the ballot.
    pub fn campaign(&mut self) -> Ballot {
        let asked = self.time_out();
        let Some(Message::PreVote { ballot, .. }) = sent(&asked).first().cloned() else {
            panic!("no pre-vote in {asked:?}");
        };
        for peer in [2, 3, 4, 5].map(ReplicaId) {
            self.say(
                peer,
                Message::PreVoteReply {
                    ballot,
                    granted: true,
                    promised: Ballot::ZERO,
                },
            );
        }
        let out = self.durable();
        assert!(
            matches!(sent(&out).first(), Some(Message::Prepare { .. })),
            "{out:?}"
        );
        ballot
    }

    /// Lets the next deadline come.
    pub fn time_out(&mut self) -> Vec<Effect> {
        self.now_ns = self.now_ns.max(self.core.deadline_ns());
        self.core.on_tick(at(self.now_ns));
        self.drain()
    }

    pub fn say(&mut self, from: ReplicaId, message: Message) -> Vec<Effect> {
        self.core.on_message(at(self.now_ns), from, message);
        self.drain()
    }

    /// Everything issued so far is durable.
    pub fn durable(&mut self) -> Vec<Effect> {
        let mut effects = self.drain();
        self.core.on_durable(at(self.now_ns), self.issued);
        effects.extend(self.drain());
        effects
    }

    pub fn propose(&mut self, stamp: u64) -> (Slot, Entry) {
        let entry = entry(self.core.leading().expect("leads"), stamp);
        let slot = self.core.propose(self.now(), entry.clone());
        (slot, entry)
    }

    pub fn applied(&mut self) -> Vec<(Slot, Entry)> {
        core::iter::from_fn(|| self.core.next_chosen()).collect()
    }

    pub fn now(&self) -> Now {
        at(self.now_ns)
    }

    pub fn drain(&mut self) -> Vec<Effect> {
        let effects: Vec<_> = core::iter::from_fn(|| self.core.poll_effect()).collect();
        for effect in &effects {
            if let Effect::Persist { seq, .. } = effect {
                assert_eq!(seq.0, self.issued.0 + 1, "records are numbered in order");
                self.issued = *seq;
            }
        }
        effects
    }
}

pub fn promise(
    ballot: Ballot,
    chosen_upto: u64,
    (part, parts): (u32, u32),
    accepted: Option<LoggedEntry>,
) -> Message {
    Message::Promise {
        ballot,
        chosen_upto: Slot(chosen_upto),
        log_start: Slot(1),
        part,
        parts,
        report: accepted.map(Into::into),
    }
}

fn at(mono_ns: u64) -> Now {
    Now {
        mono_ns,
        wall_ns: 0,
    }
}
