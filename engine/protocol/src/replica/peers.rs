//! Messages to the other shards: collected during a step, sent together at its end; and what is
//! known of who leads there.

use alloc::vec::Vec;
use core::fmt::Debug;

use crate::client::RecordedTransfer;
use crate::ids::{ReplicaAddress, ReplicaId, ShardId};
use crate::message::{PeerBody, PeerMessage};
use crate::output::Output;
use crate::replica::Replica;
use crate::txn::message::{LookUpRow, LookedUpRow, Message};
use crate::txn::record::{PrepareRow, RouteRow, TxnRow};
use crate::words::{Row, Rows, RowsBuilder, Words};

/// Rows per message: the widest row times this is well below a frame.
pub(crate) const ROWS_PER_MESSAGE: usize = 4096;
const _: () =
    assert!(ROWS_PER_MESSAGE * size_of::<PrepareRow>() <= crate::limits::FRAME_PAYLOAD_MAX);
const _: () =
    assert!(ROWS_PER_MESSAGE * size_of::<LookedUpRow>() <= crate::limits::FRAME_PAYLOAD_MAX);

/// What is known of, and waits to be sent to, one shard.
#[derive(Debug)]
pub(crate) struct Route {
    /// The replica that is believed to lead.
    pub leader: ReplicaId,
    /// Since when a question has been open that the shard has answered in no way.
    pub asked_ns: Option<u64>,
    /// The belief changed: send open questions again without waiting.
    pub changed: bool,
    pub prepares: RowsBuilder<PrepareRow>,
    pub prepare_moves: Vec<Words>,
    pub votes: RowsBuilder<TxnRow>,
    pub decides: RowsBuilder<TxnRow>,
    pub queries: RowsBuilder<TxnRow>,
    pub look_ups: RowsBuilder<LookUpRow>,
    pub forwards: RowsBuilder<RouteRow>,
}

impl Route {
    pub fn new(leader: ReplicaId) -> Self {
        Self {
            leader,
            asked_ns: None,
            changed: false,
            prepares: RowsBuilder::new(ROWS_PER_MESSAGE),
            prepare_moves: Vec::new(),
            votes: RowsBuilder::new(ROWS_PER_MESSAGE),
            decides: RowsBuilder::new(ROWS_PER_MESSAGE),
            queries: RowsBuilder::new(ROWS_PER_MESSAGE),
            look_ups: RowsBuilder::new(ROWS_PER_MESSAGE),
            forwards: RowsBuilder::new(ROWS_PER_MESSAGE),
        }
    }
}

impl Replica {
    /// The route to a shard; `None` if there is no such shard, or it is this one.
    pub(crate) fn route(&mut self, shard: ShardId) -> Option<&mut Route> {
        if shard == self.config.address.shard {
            return None;
        }
        let index = usize::try_from(shard.0).ok()?.checked_sub(1)?;
        self.routes.get_mut(index)
    }

    /// Takes note that `from` acted as leader of its shard.
    pub(crate) fn heard_leader(&mut self, from: ReplicaAddress) {
        if let Some(route) = self.route(from.shard) {
            route.asked_ns = None;
            route.changed |= route.leader != from.replica;
            route.leader = from.replica;
        }
    }

    /// `from` does not lead: follow its hint, or go round.
    pub(crate) fn on_not_leading(&mut self, from: ReplicaAddress, leader: Option<ReplicaId>) {
        let replicas = self.config.replicas;
        if let Some(route) = self.route(from.shard) {
            if route.leader != from.replica {
                return;
            }
            let hint = leader.filter(|hint| (1..=replicas).contains(&hint.0));
            route.leader = hint.unwrap_or(next_replica(route.leader, replicas));
            // Without a hint it has no leader: sending everything again at once would only be
            // refused again, thousands of rows at a time while it elects one.
            route.changed |= hint.is_some();
            // The shard has spoken: its hint is asked before anyone suspects it.
            route.asked_ns = None;
        }
    }

    /// Whether the belief about a shard's leader changed since timers were last looked after.
    pub(crate) fn route_changed(&self, shard: ShardId) -> bool {
        let index = usize::try_from(shard.0).unwrap_or(0).wrapping_sub(1);
        self.routes.get(index).is_some_and(|route| route.changed)
    }

    /// What is sent to the shard in this step is a question, whatever it looks like.
    pub(crate) fn expect_answer(&mut self, shard: ShardId) {
        let now_ns = self.now.mono_ns;
        if let Some(route) = self.route(shard) {
            route.asked_ns.get_or_insert(now_ns);
        }
    }

    /// Goes round at a shard that has left a question open for `silence_ns`.
    pub(crate) fn suspect(&mut self, shard: ShardId, silence_ns: u64) {
        let (now_ns, replicas) = (self.now.mono_ns, self.config.replicas);
        if let Some(route) = self.route(shard)
            && route
                .asked_ns
                .is_some_and(|asked_ns| now_ns.saturating_sub(asked_ns) >= silence_ns)
        {
            route.asked_ns = None;
            route.leader = next_replica(route.leader, replicas);
        }
    }

    /// Sends what was collected.
    pub(crate) fn flush_routes(&mut self) {
        for index in 0..self.routes.len() {
            let now_ns = self.now.mono_ns;
            let route = &mut self.routes[index];
            let asks = !(route.prepares.is_empty()
                && route.prepare_moves.is_empty()
                && route.queries.is_empty()
                && route.look_ups.is_empty()
                && route.forwards.is_empty());
            if asks && route.asked_ns.is_none() {
                route.asked_ns = Some(now_ns);
            }
            let shard = ShardId(u32::try_from(index + 1).expect("shards are counted in 32 bits"));
            let to = ReplicaAddress {
                shard,
                replica: route.leader,
            };
            let mut messages = Vec::new();
            drain(&mut route.decides, &mut messages, Message::Decides);
            drain(&mut route.votes, &mut messages, Message::Votes);
            drain(&mut route.prepares, &mut messages, Message::PrepareTxn);
            messages.extend(route.prepare_moves.drain(..).map(Message::PrepareMove));
            drain(&mut route.queries, &mut messages, Message::QueryDecisions);
            drain(&mut route.look_ups, &mut messages, Message::LookUps);
            drain(&mut route.forwards, &mut messages, Message::Forwards);
            for message in messages {
                self.send(to, PeerBody::Txn(message));
            }
        }
    }

    pub(crate) fn send(&mut self, to: ReplicaAddress, body: PeerBody) {
        let message = PeerMessage {
            clock: self.clock.last(),
            body,
        };
        self.outputs.push_back(Output::Send { to, message });
    }
}

fn drain<T: Row + Debug>(
    rows: &mut RowsBuilder<T>,
    out: &mut Vec<Message>,
    wrap: fn(Rows<T>) -> Message,
) {
    out.extend(rows.take().into_iter().map(wrap));
}

fn next_replica(replica: ReplicaId, replicas: u8) -> ReplicaId {
    ReplicaId(replica.0 % replicas + 1)
}

/// Answer to a look-up, as a row.
pub(crate) fn looked_up(row: &LookUpRow, record: Option<RecordedTransfer>) -> LookedUpRow {
    let mut transfer = crate::ledger::Transfer::new(
        row.transfer_id,
        row.account,
        crate::ids::AccountId(0),
        0,
        0,
        0,
    );
    let (mut code, mut timestamp) = (0, crate::time::Timestamp::ZERO);
    if let Some(record) = record {
        transfer = crate::ledger::Transfer {
            timestamp: crate::time::Timestamp::ZERO,
            ..record.transfer
        };
        (code, timestamp) = (record.code, record.commit_ts);
    }
    LookedUpRow {
        transfer,
        account: row.account,
        timestamp,
        ownership_epoch: row.ownership_epoch,
        code,
        found: u16::from(record.is_some()),
    }
}
