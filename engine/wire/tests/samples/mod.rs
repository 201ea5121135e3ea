//! At least one example of every message variant, always the same ones.

mod client;

use quorate_protocol::client::{Reply, Request};
use quorate_protocol::entry::{Entry, EntryBuilder, MoveSection};
use quorate_protocol::ids::{
    AccountId, Ballot, MoveId, ReplicaAddress, ReplicaId, RequestId, ShardId, Slot, TransferId,
};
use quorate_protocol::ledger::history::HistoryPosition;
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, Transfer};
use quorate_protocol::message::{PeerBody, PeerMessage};
use quorate_protocol::paxos::message::{LoggedEntry, Message as Paxos, SlotRecord, SlotReport};
use quorate_protocol::snapshot::{Message as Snapshot, Part};
use quorate_protocol::time::Timestamp;
use quorate_protocol::txn::message::{LookUpRow, LookedUpRow, Message as Txn};
use quorate_protocol::txn::record::{
    AcknowledgedRow, Attempt, MoveHead, MovedAccountRow, PrepareRow, PreviousOwnerRow, RouteRow,
    Subject, TxnId, TxnRow, Verdict,
};
use quorate_protocol::words::{Rows, Words};
use quorate_wire::{
    Challenge, Frame, Hello, HelloAck, NONCE_BYTES, Origin, PROOF_BYTES, Proof, Refusal, Refused,
    Relayed,
};

use self::client::{replies, requests};

/// Name and frame of every example.
pub fn all() -> Vec<(String, Frame)> {
    let mut samples = handshake();
    let clock = Timestamp(1_760_000_000_000_000_007);
    samples.extend(paxos().into_iter().map(|(name, message)| {
        let body = PeerBody::Paxos(message);
        (
            format!("paxos_{name}"),
            Frame::Peer(PeerMessage { clock, body }),
        )
    }));
    samples.extend(txn().into_iter().map(|(name, message)| {
        let body = PeerBody::Txn(message);
        (
            format!("txn_{name}"),
            Frame::Peer(PeerMessage { clock, body }),
        )
    }));
    let (_, vote) = txn().swap_remove(0);
    samples.push((
        "relayed".to_owned(),
        Frame::Relayed(Relayed {
            from: address(1, 2),
            to: address(2, 3),
            clock,
            message: vote,
        }),
    ));
    samples.extend(snapshot().into_iter().map(|(name, message)| {
        let body = PeerBody::Snapshot(message);
        (
            format!("snapshot_{name}"),
            Frame::Peer(PeerMessage { clock, body }),
        )
    }));
    samples.extend(requests().into_iter().map(|(name, body)| {
        let request = Request {
            id: RequestId(0x0102_0304_0506_0708),
            deadline_ms: 5000,
            seen: Timestamp(17),
            body,
        };
        (format!("request_{name}"), Frame::Request(request))
    }));
    samples.extend(replies().into_iter().map(|(name, body)| {
        let reply = Reply {
            id: RequestId(0x0102_0304_0506_0708),
            clock,
            body,
        };
        (format!("reply_{name}"), Frame::Reply(reply))
    }));
    samples
}

fn snapshot() -> Vec<(&'static str, Snapshot)> {
    let file = Part::File {
        kind: 2,
        number: 0x0102_0304_0506,
    };
    vec![
        (
            "ask_newest",
            Snapshot::Ask {
                part: Part::Newest,
                offset: 0,
            },
        ),
        (
            "ask_file",
            Snapshot::Ask {
                part: file,
                offset: 1 << 40,
            },
        ),
        (
            "chunk",
            Snapshot::Chunk {
                part: Part::Manifest { number: 7 },
                offset: 4096,
                total: 8192,
                bytes: Words::from_bytes(&[0x5a; 48]).unwrap(),
            },
        ),
        ("gone", Snapshot::Gone { part: file }),
    ]
}

pub fn address(shard: u32, replica: u8) -> ReplicaAddress {
    ReplicaAddress {
        shard: ShardId(shard),
        replica: ReplicaId(replica),
    }
}

fn handshake() -> Vec<(String, Frame)> {
    let hello = |origin| {
        Frame::Hello(Hello {
            origin,
            target: address(2, 3),
            genesis: "shards = 3, replicas = 3, placement = hash, ids = ulid, lease = 400ms"
                .to_owned(),
            nonce: [7; NONCE_BYTES],
        })
    };
    let mut samples = vec![
        ("hello_peer".to_owned(), hello(Origin::Peer(address(1, 2)))),
        (
            "hello_client".to_owned(),
            hello(Origin::Client { id: 77 << 64 }),
        ),
        (
            "challenge".to_owned(),
            Frame::Challenge(Challenge {
                nonce: [8; NONCE_BYTES],
                proof: [9; PROOF_BYTES],
            }),
        ),
        (
            "proof".to_owned(),
            Frame::Proof(Proof {
                proof: [10; PROOF_BYTES],
            }),
        ),
        (
            "hello_ack".to_owned(),
            Frame::HelloAck(HelloAck {
                replica: address(2, 3),
            }),
        ),
    ];
    for &refusal in Refusal::ALL {
        let refused = Refused {
            refusal,
            reason: "s2r3 listens here, s1r3 was asked for".to_owned(),
        };
        samples.push((
            format!("refused_{}", refusal.name()),
            Frame::Refused(refused),
        ));
    }
    samples
}

pub fn transfer(id: u128) -> Transfer {
    let mut transfer = Transfer::new(
        TransferId(id),
        AccountId(id + 1),
        AccountId(id + 2),
        1_000_000_007,
        1,
        10,
    );
    transfer.user_data = 99;
    transfer
}

pub fn account(id: u128) -> Account {
    let flags = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
    let mut account = Account::new(AccountId(id), 1, 10, flags);
    account.credits_posted = 1 << 100;
    account
}

fn attempt() -> Attempt {
    Attempt {
        ballot: Ballot::new(9, ReplicaId(2)),
        counter: 41,
    }
}

pub fn entry(transfers: u128) -> Entry {
    let rows: Vec<Transfer> = (1..=transfers).map(transfer).collect();
    let mut builder = EntryBuilder::new();
    if !rows.is_empty() {
        builder.transfers(&rows);
    }
    builder.finish(Ballot::new(3, ReplicaId(1)), Timestamp(1234), 5)
}

fn logged(slot: u64, transfers: u128) -> LoggedEntry {
    LoggedEntry {
        slot: Slot(slot),
        accepted: Ballot::new(4, ReplicaId(3)),
        entry: entry(transfers),
    }
}

fn paxos() -> Vec<(&'static str, Paxos)> {
    let ballot = Ballot::new(7, ReplicaId(1));
    let other = Ballot::new(6, ReplicaId(3));
    let lost = |slot| SlotReport {
        slot: Slot(slot),
        record: SlotRecord::Lost { accepted: other },
    };
    let promise = |part, report| Paxos::Promise {
        ballot,
        chosen_upto: Slot(20),
        log_start: Slot(1),
        part,
        parts: 3,
        report,
    };
    let entries = |entries, report| Paxos::Entries {
        entries,
        chosen_upto: Slot(22),
        log_start: Slot(2),
        report,
    };
    vec![
        (
            "pre_vote",
            Paxos::PreVote {
                ballot,
                chosen_upto: Slot(20),
                transfer_of: Ballot::ZERO,
            },
        ),
        (
            "pre_vote_reply",
            Paxos::PreVoteReply {
                ballot,
                granted: true,
                promised: other,
            },
        ),
        (
            "prepare",
            Paxos::Prepare {
                ballot,
                from: Slot(21),
                transfer_of: other,
            },
        ),
        ("promise_empty", promise(0, None)),
        ("promise", promise(1, Some(logged(21, 2).into()))),
        ("promise_lost", promise(2, Some(lost(22)))),
        (
            "reject",
            Paxos::Reject {
                ballot,
                promised: other,
            },
        ),
        (
            "accept",
            Paxos::Accept {
                ballot,
                slot: Slot(21),
                chosen_upto: Slot(20),
                entry: entry(3),
            },
        ),
        (
            "accepted",
            Paxos::Accepted {
                ballot,
                slot: Slot(21),
            },
        ),
        (
            "heartbeat",
            Paxos::Heartbeat {
                ballot,
                round: 12,
                chosen_upto: Slot(21),
            },
        ),
        (
            "heartbeat_reply",
            Paxos::HeartbeatReply {
                ballot,
                round: 12,
                chosen_upto: Slot(19),
            },
        ),
        (
            "catch_up",
            Paxos::CatchUp {
                from: Slot(3),
                upto: Slot(9),
            },
        ),
        ("entries_none", entries(Vec::new(), None)),
        ("entries_lost", entries(Vec::new(), Some(lost(3)))),
        (
            "entries_nothing",
            entries(
                Vec::new(),
                Some(SlotReport {
                    slot: Slot(3),
                    record: SlotRecord::Nothing,
                }),
            ),
        ),
        (
            "entries_accepted",
            entries(Vec::new(), Some(logged(3, 1).into())),
        ),
        (
            "entries",
            entries(vec![logged(3, 0), logged(4, 1), logged(5, 2)], None),
        ),
        ("lead_now", Paxos::LeadNow { ballot }),
        (
            "rejoin",
            Paxos::Rejoin {
                nonce: 0x1234_5678_9abc_def0,
                floor: other,
            },
        ),
        (
            "rejoin_reply",
            Paxos::RejoinReply {
                nonce: 0x1234_5678_9abc_def0,
                promised: ballot,
            },
        ),
    ]
}

fn statement(verdict: Verdict) -> TxnRow {
    let txn = TxnId {
        coordinator: ShardId(1),
        subject: Subject::Transfer,
        id: 0xabcd << 80,
        attempt: attempt(),
    };
    TxnRow {
        timestamp: Timestamp(55),
        shard: ShardId(3),
        code: ResultCode::CreditAccountNotFound as u16,
        ..TxnRow::new(txn, verdict)
    }
}

pub fn move_words() -> Words {
    let head = MoveHead {
        id: MoveId(5 << 90),
        attempt: attempt(),
        source: ShardId(1),
        target: ShardId(2),
        accounts: 1,
        owners: 1,
    };
    let accounts = [MovedAccountRow {
        account: account(8),
        id_max: 7 << 100,
        version: 3,
        last: HistoryPosition(41),
    }];
    let owners = [PreviousOwnerRow {
        account: AccountId(8),
        id_max: 6 << 100,
        commit_ts: Timestamp(44),
        shard: ShardId(3),
        ownership_epoch: 0,
        last: HistoryPosition(42),
        reserved: 0,
    }];
    MoveSection {
        head: &head,
        accounts: &accounts,
        owners: &owners,
    }
    .to_words()
}

fn txn() -> Vec<(&'static str, Txn)> {
    let prepare = PrepareRow {
        transfer: transfer(900),
        attempt: attempt(),
        coordinator: ShardId(1),
        reserved: [0; 12],
    };
    let votes = [
        Verdict::Yes,
        Verdict::No,
        Verdict::Contended,
        Verdict::Moved,
    ]
    .map(statement);
    let decides = [Verdict::Commit, Verdict::Abort, Verdict::Pending].map(statement);
    let look_up = LookUpRow {
        transfer_id: TransferId(900),
        account: AccountId(901),
        ownership_epoch: 2,
        reserved: 0,
        left: Timestamp(1_760_000_000_000_000_006),
    };
    let looked_up = LookedUpRow {
        transfer: transfer(900),
        account: AccountId(901),
        timestamp: Timestamp(66),
        ownership_epoch: 2,
        code: ResultCode::ExceedsCredits as u16,
        found: 1,
    };
    vec![
        (
            "prepare_txn",
            Txn::PrepareTxn(Rows::from_slice(&[prepare; 2])),
        ),
        ("prepare_move", Txn::PrepareMove(move_words())),
        ("votes", Txn::Votes(Rows::from_slice(&votes))),
        ("decides", Txn::Decides(Rows::from_slice(&decides))),
        (
            "query_decisions",
            Txn::QueryDecisions(Rows::from_slice(&[statement(Verdict::None)])),
        ),
        ("look_ups", Txn::LookUps(Rows::from_slice(&[look_up; 3]))),
        ("looked_up", Txn::LookedUp(Rows::from_slice(&[looked_up]))),
        (
            "not_leading",
            Txn::NotLeading {
                shard: ShardId(2),
                ballot: Ballot::new(8, ReplicaId(2)),
                leader: Some(ReplicaId(2)),
            },
        ),
        (
            "not_leading_unknown",
            Txn::NotLeading {
                shard: ShardId(2),
                ballot: Ballot::ZERO,
                leader: None,
            },
        ),
        (
            "acknowledged",
            Txn::Acknowledged(Rows::from_slice(&[AcknowledgedRow {
                upto: Timestamp(77),
                shard: ShardId(2),
                reserved: 0,
            }])),
        ),
        ("forwards", Txn::Forwards(routes())),
        ("forwards_known", Txn::ForwardsKnown(routes())),
        ("forwards_known_none", Txn::ForwardsKnown(Rows::empty())),
    ]
}

fn routes() -> Rows<RouteRow> {
    let row = RouteRow {
        account: AccountId(u128::MAX - 1),
        shard: ShardId(3),
        ownership_epoch: 4,
        epoch: 9,
        reserved: 0,
    };
    Rows::from_slice(&[row, row])
}
