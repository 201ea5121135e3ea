//! Telling the homes of accounts where they went, so that stubs which nobody needs can go: the former owner's leader, and the
//! home's. Volatile.
//!
//! ```text
//!   former owner                               home
//!        | Forwards (account, shard, epoch) ---> |  its log has as much: known
//!        |                                       |  else: log Forward
//!        | <------------------- ForwardsKnown -- |  the rows that are known, possibly none
//!        |  log DropStubs                        |
//! ```
//!
//! One batch of stubs is asked about at a time, again and again until all of it is known: nobody waits for it, and a home that
//! is down for an hour has the same batch asked then. Stubs are taken in the order of their last change, so whatever changes
//! meanwhile comes later. A new leader begins at the front again: what the one before it was told is lost with it, and the stubs that
//! are left are few.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::ids::{AccountId, ReplicaAddress, ShardId};
use crate::limits::{FORWARDS_MAX, PREPARE_RESEND_NS};
use crate::message::PeerBody;
use crate::planted::{Bug, planted};
use crate::replica::Replica;
use crate::txn::message::Message;
use crate::txn::record::RouteRow;
use crate::words::Rows;

/// The front of the order of changes.
const FRONT: (u32, AccountId) = (0, AccountId(0));

/// What a leader has told of its stubs.
#[derive(Debug)]
pub(crate) struct Forwarding {
    /// Up to where stubs were taken, in the order of their last change.
    upto: (u32, AccountId),
    /// Told, and not known to be known.
    open: BTreeMap<AccountId, RouteRow>,
    /// Homes of those, and possibly of some that are known since.
    homes: BTreeSet<ShardId>,
    sent_ns: u64,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            upto: FRONT,
            open: BTreeMap::new(),
            homes: BTreeSet::new(),
            sent_ns: 0,
        }
    }
}

impl Replica {
    /// Timers of the former owner.
    pub(crate) fn drive_forwarding(&mut self) {
        if self.forwarding.open.is_empty() {
            // What answers bring would have to wait for the log.
            if self.is_overloaded() {
                return;
            }
            self.take_stubs();
        } else if self.is_resend_due() {
            for home in self.forwarding.homes.clone() {
                self.suspect(home, PREPARE_RESEND_NS);
            }
        } else {
            return;
        }
        self.forwarding.sent_ns = self.now.mono_ns;
        let rows: Vec<RouteRow> = self.forwarding.open.values().copied().collect();
        for row in rows {
            let home = self.home_of(row.account);
            if let Some(route) = self.route(home) {
                route.forwards.push(&row);
            }
        }
    }

    fn is_resend_due(&self) -> bool {
        let homes = &self.forwarding.homes;
        self.now.mono_ns >= self.forwarding.sent_ns + PREPARE_RESEND_NS
            || homes.iter().any(|&home| self.route_changed(home))
    }

    /// The next batch; a bounded number of stubs is looked at.
    fn take_stubs(&mut self) {
        self.forwarding.homes.clear();
        let (rows, _) = self.ledger.map_changes(self.forwarding.upto, FORWARDS_MAX);
        for row in rows {
            self.forwarding.upto = (row.epoch, row.account);
            if planted(Bug::StubDroppedUnasked) || planted(Bug::HomeStubDropped) {
                self.proposals.push_drop_stub(row);
            } else if !self.ledger.is_home(row.account) {
                self.forwarding.open.insert(row.account, row);
                self.forwarding.homes.insert(self.home_of(row.account));
            }
        }
    }

    fn home_of(&self, account: AccountId) -> ShardId {
        self.config.placement.home(account, self.config.shards)
    }

    /// The home's half: into the log what it does not know; what it knows is said at once. Who asks again before the
    /// log has what he said adds nothing.
    pub(crate) fn on_forwards(&mut self, from: ReplicaAddress, rows: &[RouteRow]) {
        let may_log = !self.is_overloaded() && !self.proposals.has_forwards();
        let mut known = Vec::new();
        for row in rows {
            if self.ledger.knows_of(row.account, row.ownership_epoch) {
                known.push(*row);
            } else if may_log && self.ledger.is_news(row) {
                self.proposals.push_forward(*row);
            }
        }
        let known = Rows::from_slice(&known);
        self.send(from, PeerBody::Txn(Message::ForwardsKnown(known)));
    }

    /// A home knows as much.
    pub(crate) fn on_forwards_known(&mut self, from: ReplicaAddress, rows: &[RouteRow]) {
        for row in rows {
            let asked = self.forwarding.open.get(&row.account);
            let is_asked = asked.is_some_and(|it| it.ownership_epoch == row.ownership_epoch);
            if is_asked && from.shard == self.home_of(row.account) {
                self.forwarding.open.remove(&row.account);
                self.proposals.push_drop_stub(*row);
            }
        }
    }
}
