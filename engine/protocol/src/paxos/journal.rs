//! The way out: records to the WAL, messages to peers, and the rule between the two.
//!
//! Nothing that promises durability leaves before the core was told that it is durable: such a
//! message waits here until every record issued before it is on stable storage. The WAL is
//! sequential, so one number says how far that is.

use alloc::collections::VecDeque;

use super::message::Message;
use crate::entry::Entry;
use crate::ids::{Ballot, PersistSeq, ReplicaId, Slot};
use crate::limits::WITHHELD_MAX;
use crate::output::{Record, StopReason};
use crate::planted::{Bug, planted};

/// One thing that [`Consensus`](super::Consensus) wants done or wants known.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Append to the write-ahead log, in this order; `on_durable` reports it.
    Persist { seq: PersistSeq, record: Record },
    /// Send; may be lost.
    Send { to: ReplicaId, message: Message },
    /// Read the newest record of each slot of `from..=upto`; `on_log_read` answers. At most one is
    /// open at a time.
    ReadLog {
        from: Slot,
        upto: Slot,
        bytes_max: usize,
    },
    /// The write-ahead log need not hold slots below.
    ReleaseLog { below: Slot },
    /// What is missing here is not in the log of `from` any more, only in its checkpoints. Said again
    /// for as long as that is so.
    WantSnapshot { from: ReplicaId },
    /// Phase 1 is complete; see [`Consensus::needs_opening`](super::Consensus::needs_opening).
    BecameLeader { ballot: Ballot },
    /// The replica that had lost its disk is a voter again: its next start needs no `rejoins`.
    Rejoined,
    /// Leadership under this ballot is over. What was proposed may be chosen or not.
    Deposed { ballot: Ballot },
    /// The replica must not go on; nothing follows.
    Stop { reason: StopReason },
}

#[derive(Debug)]
struct Withheld {
    until: PersistSeq,
    to: ReplicaId,
    message: Message,
}

#[derive(Debug)]
pub(super) struct Journal {
    effects: VecDeque<Effect>,
    withheld: VecDeque<Withheld>,
    issued: PersistSeq,
    durable: PersistSeq,
    /// The highest ballot whose promise a record implies.
    promise_logged: Ballot,
    chosen_logged: Slot,
    /// The replica has stopped.
    closed: bool,
}

impl Journal {
    pub(super) fn new(promised: Ballot, chosen_upto: Slot) -> Self {
        Self {
            effects: VecDeque::new(),
            withheld: VecDeque::new(),
            issued: PersistSeq(0),
            durable: PersistSeq(0),
            promise_logged: promised,
            chosen_logged: chosen_upto,
            closed: false,
        }
    }

    /// The last record issued.
    pub(super) fn issued(&self) -> PersistSeq {
        self.issued
    }

    /// The last record known durable.
    pub(super) fn durable(&self) -> PersistSeq {
        self.durable
    }

    pub(super) fn chosen_logged(&self) -> Slot {
        self.chosen_logged
    }

    /// Makes sure that a record implies the promise of `ballot`.
    pub(super) fn log_promise(&mut self, ballot: Ballot) {
        if self.promise_logged < ballot && !planted(Bug::PromiseNotDurable) {
            self.promise_logged = ballot;
            self.persist(Record::Promise { ballot });
        }
    }

    pub(super) fn log_accepted(&mut self, ballot: Ballot, slot: Slot, entry: Entry) -> PersistSeq {
        self.promise_logged = self.promise_logged.max(ballot);
        self.persist(Record::Accepted {
            ballot,
            slot,
            entry,
        })
    }

    /// Writes the chosen watermark if it has moved by more than `lag` slots.
    pub(super) fn log_chosen(&mut self, upto: Slot, lag: u64) {
        assert!(self.chosen_logged <= upto);
        if upto.0 - self.chosen_logged.0 > lag {
            self.chosen_logged = upto;
            self.persist(Record::Chosen { upto });
        }
    }

    /// Sends at once: the message promises nothing that a crash could take back.
    pub(super) fn send(&mut self, to: ReplicaId, message: Message) {
        self.push(Effect::Send { to, message });
    }

    /// Sends once everything issued so far is durable.
    pub(super) fn send_durable(&mut self, to: ReplicaId, message: Message) {
        if self.issued == self.durable || planted(Bug::AcknowledgeBeforeWal) {
            self.send(to, message);
        } else if self.withheld.len() < WITHHELD_MAX {
            self.withheld.push_back(Withheld {
                until: self.issued,
                to,
                message,
            });
        }
    }

    pub(super) fn push(&mut self, effect: Effect) {
        if !self.closed {
            self.effects.push_back(effect);
        }
    }

    /// The last effect of all.
    pub(super) fn close(&mut self, reason: StopReason) {
        self.push(Effect::Stop { reason });
        self.withheld.clear();
        self.closed = true;
    }

    pub(super) fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Lets go what waited for records up to `upto`.
    pub(super) fn on_durable(&mut self, upto: PersistSeq) {
        assert!(upto <= self.issued, "{upto:?} was never issued");
        self.durable = self.durable.max(upto);
        while let Some(first) = self.withheld.front()
            && first.until <= self.durable
        {
            let Withheld { to, message, .. } = self.withheld.pop_front().expect("just seen");
            self.send(to, message);
        }
    }

    fn persist(&mut self, record: Record) -> PersistSeq {
        self.issued = PersistSeq(self.issued.0 + 1);
        let seq = self.issued;
        self.push(Effect::Persist { seq, record });
        seq
    }
}
