//! The participant's side, and the dispatch of messages between shards.

use crate::entry::MoveSection;
use crate::ids::{ReplicaAddress, ReplicaId, ShardId};
use crate::ledger::ResultCode;
use crate::limits::{ACKNOWLEDGE_NS_MAX, KEEP_STRETCHES};
use crate::message::PeerBody;
use crate::planted::{Bug, planted};
use crate::replica::Replica;
use crate::replica::waiting::Item;
use crate::table::LOOK_AHEAD;
use crate::txn::message::Message;
use crate::txn::record::{AcknowledgedRow, PrepareRow, Subject, TxnId, TxnRow, Verdict};
use crate::txn::under_way::UnderWay;
use crate::words::{Rows, Words};

/// What is to be prepared and on its way into the log here: asked again, it is not proposed again. Otherwise a busy
/// participant would be asked more the slower it gets. (What is to be resolved carries a mark.) Volatile.
#[derive(Debug, Default)]
pub(crate) struct Participant {
    preparing: UnderWay,
    /// When coordinators are told next what is out of doubt.
    acknowledge_ns: u64,
}

impl Participant {
    /// The prepare was applied and this is its vote.
    pub fn note_vote(&mut self, vote: &TxnRow) {
        if let Some((txn, _)) = vote.parse() {
            self.preparing.remove(&txn);
        }
    }
}

impl Replica {
    pub(crate) fn on_txn(&mut self, from: ReplicaAddress, message: Message) {
        let Some(message) = self.park_for_load(from, message) else {
            return;
        };
        // These are answered from applied state by any replica, or are about the sender.
        let message = match message {
            Message::LookUps(rows) => {
                self.answer_look_ups(from, &rows);
                return;
            }
            Message::NotLeading { leader, .. } => {
                self.on_not_leading(from, leader);
                return;
            }
            // Sent to all replicas, whoever leads.
            Message::Acknowledged(rows) => {
                rows.iter().for_each(|row| self.on_acknowledged(from, row));
                return;
            }
            message => message,
        };
        if self.consensus.serving().is_none() {
            self.refuse_txn(from, &message);
            return;
        }
        match message {
            Message::PrepareTxn(rows) => {
                self.heard_leader(from);
                rows.iter()
                    .filter(|row| row.coordinator == from.shard)
                    .for_each(|row| {
                        self.admit_prepare(row);
                    });
            }
            Message::PrepareMove(words) => {
                self.heard_leader(from);
                self.admit_prepare_move(from, words);
            }
            Message::Votes(rows) => {
                self.heard_leader(from);
                for rows in rows.chunks(LOOK_AHEAD) {
                    self.on_votes(from, rows);
                }
            }
            Message::Decides(rows) => {
                self.heard_leader(from);
                for rows in rows.chunks(LOOK_AHEAD) {
                    self.on_decides(from, rows);
                }
            }
            Message::QueryDecisions(rows) => {
                self.heard_leader(from);
                for row in rows.iter() {
                    let answer = row.parse().and_then(|(txn, _)| self.answer_query(txn));
                    if let (Some(answer), Some(route)) = (answer, self.route(from.shard)) {
                        route.decides.push(&answer);
                    }
                }
            }
            Message::LookedUp(rows) => {
                if let Some(route) = self.route(from.shard) {
                    route.asked_ns = None;
                }
                rows.iter().for_each(|row| self.on_looked_up(from, row));
            }
            Message::Forwards(rows) => {
                self.heard_leader(from);
                self.on_forwards(from, &rows);
            }
            Message::ForwardsKnown(rows) => {
                self.heard_leader(from);
                self.on_forwards_known(from, &rows);
            }
            Message::LookUps(_) | Message::NotLeading { .. } | Message::Acknowledged(_) => {}
        }
    }

    /// Tells the sender of a question that somebody else leads; answers need no answer.
    fn refuse_txn(&mut self, from: ReplicaAddress, message: &Message) {
        let question = match message {
            Message::PrepareTxn(_)
            | Message::PrepareMove(_)
            | Message::QueryDecisions(_)
            | Message::Votes(_)
            | Message::Decides(_)
            | Message::Forwards(_) => true,
            Message::LookUps(_)
            | Message::LookedUp(_)
            | Message::NotLeading { .. }
            | Message::Acknowledged(_)
            | Message::ForwardsKnown(_) => false,
        };
        if question {
            let reply = Message::NotLeading {
                shard: self.config.address.shard,
                ballot: self.consensus.ballot(),
                leader: self
                    .consensus
                    .leader()
                    .filter(|&l| l != self.config.address.replica),
            };
            self.send(from, PeerBody::Txn(reply));
        }
    }

    /// A transfer to prepare: answered from replicated state if it is known, else proposed, unless
    /// something else comes first on its account.
    pub(crate) fn admit_prepare(&mut self, row: &PrepareRow) {
        let txn = row.txn();
        let account = row.transfer.credit_account_id;
        if self
            .ledger
            .history()
            .credit(row.coordinator, row.transfer.id)
            .if_loaded()
            .is_some()
        {
            let vote = TxnRow::new(txn, Verdict::No);
            return self.send_vote(TxnRow {
                code: ResultCode::Exists as u16,
                ..vote
            });
        }
        if let Some(prepared) = self.ledger.in_doubt().of(&txn) {
            let vote = TxnRow::new(txn, Verdict::Yes);
            return self.send_vote(TxnRow {
                timestamp: prepared.prepare_ts,
                ..vote
            });
        }
        if self.participant.preparing.contains(&txn) {
            // Its vote comes with its apply. Another one now would be taken back by that.
            return;
        }
        if self.is_overloaded() || self.waiting.is_starving(account) {
            return self.vote_contended(row);
        }
        if self.is_blocked(account) || self.has_barrier(account) {
            return self.wait(account, Item::Prepare(*row));
        }
        self.participant.preparing.insert(&txn);
        self.proposals.push_prepare(*row, self.now.mono_ns);
    }

    fn admit_prepare_move(&mut self, from: ReplicaAddress, words: Words) {
        let Some(parts) = MoveSection::parse(words.as_bytes()) else {
            return;
        };
        let txn = parts.head.txn();
        if txn.coordinator != from.shard {
            return;
        }
        if let Some(staged) = self.ledger.staged().get(&txn) {
            let vote = TxnRow::new(txn, Verdict::Yes);
            return self.send_vote(TxnRow {
                timestamp: staged.prepare_ts,
                ..vote
            });
        }
        if self.participant.preparing.contains(&txn) {
            return;
        }
        // Larger than any source sends, it might fit no entry and stay at the head of the queue.
        if words.as_bytes().len() > self.config.entry_bytes_max / 2 || self.is_overloaded() {
            return self.send_vote(TxnRow::new(txn, Verdict::Contended));
        }
        self.participant.preparing.insert(&txn);
        self.proposals.push_prepare_move(words);
    }

    pub(crate) fn vote_contended(&mut self, row: &PrepareRow) {
        self.send_vote(TxnRow::new(row.txn(), Verdict::Contended));
    }

    pub(crate) fn send_vote(&mut self, vote: TxnRow) {
        if let Some(route) = self.route(vote.coordinator) {
            route.votes.push(&vote);
        }
    }

    /// At most [`LOOK_AHEAD`] votes of a participant.
    fn on_votes(&mut self, from: ReplicaAddress, rows: &[TxnRow]) {
        let places = self.coordinator.places(rows);
        for (row, place) in rows.iter().zip(places) {
            match row.parse() {
                Some((txn, _)) if txn.subject == Subject::Transfer => {
                    if let Some(place) = place {
                        self.on_vote(from, txn, row, place);
                    }
                }
                Some((txn, verdict)) => self.on_move_vote(from, txn, verdict),
                None => {}
            }
        }
    }

    /// At most [`LOOK_AHEAD`] decisions, pushed or as the answers to queries: into the log, if they are about something
    /// open.
    fn on_decides(&mut self, from: ReplicaAddress, rows: &[TxnRow]) {
        let Some(ballot) = self.leading else { return };
        let txns = rows.iter().filter_map(TxnRow::parse);
        let places = self.ledger.in_doubt.places(txns.map(|(txn, _)| txn));
        let parsed = rows.iter().filter_map(|row| Some((row, row.parse()?)));
        for ((row, (txn, verdict)), place) in parsed.zip(places) {
            let decided = matches!(verdict, Verdict::Commit | Verdict::Abort);
            let stranger = txn.coordinator != from.shard && !planted(Bug::TxnIdWithoutCoordinator);
            if stranger || !decided {
                continue;
            }
            if let Some(resolving) = self.ledger.resolving(txn, place) {
                if core::mem::replace(resolving, ballot) != ballot {
                    self.proposals.push_resolve(*row);
                }
            } else if txn.subject == Subject::Move
                && let Some(arrived) = self.ledger.arrived(txn)
            {
                self.send_vote(arrived);
            }
        }
    }

    /// Who knows how a transaction ended: its coordinator, whoever owns the debit account by now.
    fn whom_to_ask(&self, txn: TxnId) -> ShardId {
        let prepared = self.ledger.in_doubt().of(&txn);
        match prepared.filter(|_| planted(Bug::TxnIdWithoutCoordinator)) {
            Some(prepared) => {
                let debit = prepared.transfer.debit_account_id;
                self.config.placement.home(debit, self.config.shards)
            }
            None => txn.coordinator,
        }
    }

    /// Tells every coordinator what is out of doubt here, so that it may let go of its decisions. To all its
    /// replicas: nothing waits for an answer, so nothing would show that one of them does not lead.
    pub(crate) fn acknowledge_resolved(&mut self) {
        let Some(keep_ns) = self.config.keep_ns else {
            return;
        };
        if self.now.mono_ns < self.participant.acknowledge_ns {
            return;
        }
        let pause_ns = (keep_ns / KEEP_STRETCHES).min(ACKNOWLEDGE_NS_MAX);
        self.participant.acknowledge_ns = self.now.mono_ns + pause_ns;
        let own = self.config.address.shard;
        for shard in (1..=self.config.shards).map(ShardId) {
            if shard == own {
                continue;
            }
            let row = AcknowledgedRow {
                upto: self.ledger.resolved_upto(shard),
                shard: own,
                reserved: 0,
            };
            let rows = Rows::from_slice(&[row]);
            for replica in (1..=self.config.replicas).map(ReplicaId) {
                let to = ReplicaAddress { shard, replica };
                self.send(to, PeerBody::Txn(Message::Acknowledged(rows.clone())));
            }
        }
    }

    /// A participant says what is out of doubt there: into the log, if something is held back for it.
    fn on_acknowledged(&mut self, from: ReplicaAddress, row: &AcknowledgedRow) {
        let Some(retention) = &self.ledger.retention else {
            return;
        };
        let is_its_own = row.shard == from.shard;
        if is_its_own
            && self.consensus.serving().is_some()
            && retention.waits_for(row.shard, row.upto)
        {
            self.proposals.push_acknowledged(*row);
        }
    }

    /// Scans the replicated in-doubt tables and asks the coordinators about what is old.
    pub(crate) fn query_in_doubt(&mut self) {
        if planted(Bug::NeverAsk) {
            return;
        }
        let age = self.config.timing.in_doubt_query_after_ns;
        let before = self
            .clock
            .last()
            .0
            .max(self.now.wall_ns)
            .saturating_sub(age);
        let transfers = self
            .ledger
            .in_doubt()
            .iter()
            .map(|prepared| (prepared.txn(), prepared.prepare_ts));
        let moves = self
            .ledger
            .staged()
            .iter()
            .map(|(txn, s)| (*txn, s.prepare_ts));
        let old: alloc::vec::Vec<TxnId> = moves
            .chain(transfers)
            .filter(|(_, prepare_ts)| prepare_ts.0 <= before)
            .map(|(txn, _)| txn)
            .collect();
        for txn in old {
            let asked = self.whom_to_ask(txn);
            self.suspect(asked, age);
            if let Some(route) = self.route(asked) {
                route.queries.push(&TxnRow::new(txn, Verdict::None));
            }
        }
    }
}
