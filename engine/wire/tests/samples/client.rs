//! What clients ask, and what they are answered.

use quorate_protocol::client::{
    AccountAnswer, CutAnswer, CutSums, DocumentRow, FormerOwner, HistoryAnswer, HistoryEntry,
    HistoryHead, HistoryPage, HistoryQuery, HistoryStart, InDoubtRow, LedgerSums, MapPlace,
    MoveAnswer, OperationsRow, PairRow, RecordedTransfer, ReplyBody, RequestBody, RequestLatency,
    Role, Status, TelemetryWindow, TransferAnswer,
};
use quorate_protocol::ids::{
    AccountId, Ballot, DocumentKey, MoveId, ReplicaId, ShardId, Slot, TransferId,
};
use quorate_protocol::ledger::{ResultCode, ResultRow, Total};
use quorate_protocol::shard::catalog::{Document, PutAnswer};
use quorate_protocol::time::Timestamp;
use quorate_protocol::words::Rows;

use super::{account, attempt, routes, transfer};

pub fn requests() -> Vec<(&'static str, RequestBody)> {
    let ids = [AccountId(1), AccountId(u128::MAX)];
    let at = Timestamp(1_760_000_000_500_000_000);
    vec![
        (
            "create_accounts",
            RequestBody::CreateAccounts(Rows::from_slice(&[account(1), account(2)])),
        ),
        (
            "create_transfers",
            RequestBody::CreateTransfers(Rows::from_slice(&[transfer(1), transfer(5)])),
        ),
        (
            "create_transfers_none",
            RequestBody::CreateTransfers(Rows::empty()),
        ),
        (
            "lookup_accounts",
            RequestBody::LookupAccounts(Rows::from_slice(&ids)),
        ),
        (
            "lookup_transfers",
            RequestBody::LookupTransfers(Rows::from_slice(&[TransferId(3)])),
        ),
        (
            "account_history",
            RequestBody::AccountHistory(HistoryQuery {
                account: AccountId(1 << 100),
                start: HistoryStart::Newest { passed: at },
                ts_first: Timestamp(7),
                ts_last: Timestamp(u64::MAX),
                limit: 100,
            }),
        ),
        (
            "account_history_page",
            RequestBody::AccountHistory(HistoryQuery {
                account: AccountId(5),
                start: HistoryStart::Position(1 << 47),
                ts_first: Timestamp::ZERO,
                ts_last: at,
                limit: 1024,
            }),
        ),
        (
            "list_accounts",
            RequestBody::ListAccounts {
                after: AccountId(1 << 127),
                limit: 1000,
            },
        ),
        ("status", RequestBody::Status),
        ("in_doubt", RequestBody::InDoubt),
        (
            "move_accounts",
            RequestBody::MoveAccounts {
                id: MoveId(1 << 99),
                target: ShardId(3),
                accounts: Rows::from_slice(&ids),
            },
        ),
        ("cut_register", RequestBody::CutRegister { at }),
        ("cut_sums", RequestBody::CutSums { at }),
        ("cut_digest", RequestBody::CutDigest { at }),
        (
            "observe",
            RequestBody::Observe {
                from: 4096,
                limit: 64,
            },
        ),
        (
            "observe_operations",
            RequestBody::ObserveOperations {
                from: 8192,
                limit: 8192,
            },
        ),
        ("begin_window", RequestBody::BeginWindow),
        ("observe_reset", RequestBody::ObserveReset),
        (
            "put_document",
            RequestBody::PutDocument {
                key: DocumentKey(1 << 100),
                expected: 7,
                bytes: b"a plan".to_vec(),
            },
        ),
        (
            "get_document",
            RequestBody::GetDocument {
                key: DocumentKey(9),
            },
        ),
        ("list_documents", RequestBody::ListDocuments),
        (
            "transfer_leadership",
            RequestBody::TransferLeadership { to: ReplicaId(2) },
        ),
        (
            "map_changes",
            RequestBody::MapChanges {
                place: MapPlace {
                    epoch: 8,
                    account: AccountId(u128::MAX),
                },
                limit: 4096,
            },
        ),
    ]
}

fn status(role: Role) -> Status {
    Status {
        shard: ShardId(2),
        replica: ReplicaId(3),
        role,
        ballot: Ballot::new(8, ReplicaId(2)),
        leader: Some(ReplicaId(2)),
        serving: role == Role::Leader,
        chosen_upto: Slot(100),
        applied_upto: Slot(99),
        epoch: 1,
        accounts: 3000,
        transfers: 1 << 40,
        in_doubt: 2,
        committed_local: 30,
        committed_cross: 4,
        latency: RequestLatency {
            requests: 5,
            p50_us: 6,
            p99_us: 7,
        },
        reason: "segment 3: header is corrupt".to_owned(),
    }
}

fn sums() -> CutSums {
    let ledger = |ledger| LedgerSums {
        ledger,
        debits_posted: Total::from_parts(3, 1 << 90),
        credits_posted: Total::from_parts(4, 1 << 91),
        transferred: Total::from_parts(5, 1 << 89),
    };
    CutSums {
        at: Timestamp(1_760_000_000_500_000_000),
        ledgers: vec![ledger(1), ledger(7)],
        owned: 3001,
        owned_hash: u128::MAX / 3,
        created: 3000,
        created_hash: u128::MAX / 5,
        transfers: 12_345,
        in_doubt: 6,
    }
}

fn history_page(recorded: RecordedTransfer) -> ReplyBody {
    let entry = HistoryEntry {
        position: 1 << 40,
        recorded,
        applied_ts: Timestamp(19),
        coordinator: ShardId(2),
    };
    let head = HistoryHead {
        account: account(3),
        owners: vec![FormerOwner {
            shard: ShardId(1),
            left: Timestamp(12),
            last: 43,
        }],
    };
    ReplyBody::History(HistoryAnswer::Page(HistoryPage {
        head: Some(Box::new(head)),
        rows: vec![entry; 2],
        next: 77,
        dropped: true,
    }))
}

pub fn replies() -> Vec<(&'static str, ReplyBody)> {
    let recorded = RecordedTransfer {
        transfer: transfer(4),
        code: ResultCode::Ok as u16,
        slot: Slot(17),
        commit_ts: Timestamp(18),
        attempt: attempt(),
    };
    let answer = |debit, credits| TransferAnswer {
        id: TransferId(4),
        debit,
        credits,
    };
    let results = [
        ResultRow {
            flags: ResultRow::CROSS_SHARD,
            ..ResultRow::logged(ResultCode::Ok, Timestamp(77))
        },
        ResultRow::moved(ShardId(3)),
    ];
    let pair = PairRow {
        a: AccountId(1),
        b: AccountId(2),
        counts: [33, 0, 1, 2, 3, 4],
        reserved: 0,
    };
    let in_doubt = InDoubtRow {
        id: 1 << 110,
        is_move: true,
        coordinator: ShardId(3),
        attempt: attempt(),
        prepare_ts: Timestamp(5),
        slot: Slot(6),
    };
    let mut replies = vec![
        ("results", ReplyBody::Results(Rows::from_slice(&results))),
        (
            "accounts",
            ReplyBody::Accounts(vec![
                AccountAnswer::Found(account(3)),
                AccountAnswer::NotFound,
                AccountAnswer::Moved(ShardId(2)),
                AccountAnswer::Contended,
            ]),
        ),
        (
            "transfers",
            ReplyBody::Transfers(vec![
                answer(Some(recorded), vec![]),
                answer(None, vec![recorded; 2]),
                answer(None, vec![]),
            ]),
        ),
        ("history_page", history_page(recorded)),
        (
            "history_moved",
            ReplyBody::History(HistoryAnswer::Moved(ShardId(3))),
        ),
        (
            "history_not_found",
            ReplyBody::History(HistoryAnswer::NotFound),
        ),
        (
            "account_list",
            ReplyBody::AccountList(Rows::from_slice(&[AccountId(4)])),
        ),
        ("in_doubt", ReplyBody::InDoubt(vec![in_doubt; 2])),
        (
            "pairs",
            ReplyBody::Pairs {
                rows: Rows::from_slice(&[pair; 2]),
                next: 2,
                windows: vec![TelemetryWindow {
                    began: Timestamp(1 << 60),
                    local: 50,
                    cross: 9,
                    dropped: 1,
                }],
            },
        ),
        (
            "operations",
            ReplyBody::Operations {
                rows: Rows::from_slice(&[OperationsRow {
                    account: AccountId(7),
                    operations: 12,
                    reserved: 0,
                }]),
                next: 0,
            },
        ),
        (
            "map_changes",
            ReplyBody::MapChanges {
                rows: routes(),
                next: MapPlace {
                    epoch: 9,
                    account: AccountId(7),
                },
                has_more: true,
            },
        ),
        ("done", ReplyBody::Done),
        (
            "not_leader",
            ReplyBody::NotLeader {
                ballot: Ballot::new(8, ReplicaId(2)),
                leader: Some(ReplicaId(2)),
            },
        ),
        ("busy", ReplyBody::Busy),
        ("unknown", ReplyBody::Unknown),
        (
            "bad_request",
            ReplyBody::BadRequest("9000 rows, 8190 at most".to_owned()),
        ),
    ];
    let roles = [
        ("status_leader", Role::Leader),
        ("status_follower", Role::Follower),
        ("status_candidate", Role::Candidate),
        ("status_recovering", Role::Recovering),
        ("status_stopped", Role::Stopped),
    ];
    replies.extend(roles.map(|(name, role)| (name, ReplyBody::Status(status(role)))));
    replies.extend(
        [
            (
                "move_moved",
                MoveAnswer::Moved {
                    accounts: 12,
                    commit_ts: Timestamp(3),
                    freeze_ns: 450_000,
                },
            ),
            ("move_contended", MoveAnswer::Contended),
            (
                "move_not_owned",
                MoveAnswer::NotOwned {
                    account: AccountId(9),
                    shard: ShardId(1),
                },
            ),
            ("move_refused", MoveAnswer::Refused),
        ]
        .map(|(name, answer)| (name, ReplyBody::Move(answer))),
    );
    replies.extend(
        [
            ("cut_registered", CutAnswer::Registered),
            ("cut_refused", CutAnswer::Refused),
            ("cut_sums", CutAnswer::Sums(sums())),
            (
                "cut_digest",
                CutAnswer::Digest {
                    slot: Slot(5),
                    digest: u128::MAX / 7,
                },
            ),
            ("cut_not_known", CutAnswer::NotKnown),
        ]
        .map(|(name, answer)| (name, ReplyBody::Cut(answer))),
    );
    replies.extend([
        (
            "document_written",
            ReplyBody::PutDocument(PutAnswer::Written { version: 8 }),
        ),
        (
            "document_conflict",
            ReplyBody::PutDocument(PutAnswer::Conflict { version: 9 }),
        ),
        ("catalog_full", ReplyBody::PutDocument(PutAnswer::Full)),
        (
            "document",
            ReplyBody::Document(Document {
                version: 8,
                bytes: b"a plan".to_vec(),
            }),
        ),
        ("no_document", ReplyBody::Document(Document::default())),
        (
            "documents",
            ReplyBody::Documents(vec![DocumentRow {
                key: DocumentKey(1 << 100),
                version: 8,
                bytes: 6,
            }]),
        ),
    ]);
    replies
}
