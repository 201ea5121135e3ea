//! Mirrors of a question about an account's history, and of its answer.

use quorate_protocol::client::{
    FormerOwner, HistoryAnswer, HistoryEntry, HistoryHead, HistoryPage, HistoryQuery, HistoryStart,
};
use quorate_protocol::ids::{AccountId, ShardId};
use quorate_protocol::limits::{FRAME_PAYLOAD_MAX, HISTORY_ROWS_MAX};
use quorate_protocol::time::Timestamp;
use rkyv::{Archive, Serialize};

use super::reply::RecordedMirror;
use crate::run::{self, Record};

#[derive(Archive, Serialize)]
pub(crate) struct HistoryQueryMirror {
    account: u128,
    start: StartMirror,
    ts_first: u64,
    ts_last: u64,
    limit: u32,
}

#[derive(Archive, Serialize)]
enum StartMirror {
    Newest { passed: u64 },
    Position(u64),
}

impl HistoryQueryMirror {
    pub fn of(query: &HistoryQuery) -> Self {
        Self {
            account: query.account.0,
            start: match query.start {
                HistoryStart::Newest { passed } => StartMirror::Newest { passed: passed.0 },
                HistoryStart::Position(position) => StartMirror::Position(position),
            },
            ts_first: query.ts_first.0,
            ts_last: query.ts_last.0,
            limit: query.limit,
        }
    }
}

impl ArchivedHistoryQueryMirror {
    pub fn read(&self) -> HistoryQuery {
        HistoryQuery {
            account: AccountId(self.account.to_native()),
            start: match &self.start {
                ArchivedStartMirror::Newest { passed } => HistoryStart::Newest {
                    passed: Timestamp(passed.to_native()),
                },
                ArchivedStartMirror::Position(position) => {
                    HistoryStart::Position(position.to_native())
                }
            },
            ts_first: Timestamp(self.ts_first.to_native()),
            ts_last: Timestamp(self.ts_last.to_native()),
            limit: self.limit.to_native(),
        }
    }
}

#[derive(Archive, Serialize)]
pub(crate) enum HistoryAnswerMirror {
    Page(PageMirror),
    NotFound,
    Moved(u32),
}

#[derive(Archive, Serialize)]
pub(crate) struct PageMirror {
    head: Option<Box<HeadMirror>>,
    rows: Vec<EntryMirror>,
    next: u64,
    dropped: bool,
}

#[derive(Archive, Serialize)]
struct HeadMirror {
    account: Record<8>,
    owners: Vec<OwnerMirror>,
}

#[derive(Archive, Serialize)]
struct OwnerMirror {
    shard: u32,
    left: u64,
    last: u64,
}

#[derive(Archive, Serialize)]
struct EntryMirror {
    recorded: RecordedMirror,
    position: u64,
    applied_ts: u64,
    coordinator: u32,
}

// Beside the rows: a head, and as many former owners as there are shards.
const _: () = assert!(
    HISTORY_ROWS_MAX * size_of::<ArchivedEntryMirror>() + 65_536 <= FRAME_PAYLOAD_MAX,
    "a page fits one frame"
);

impl HistoryAnswerMirror {
    pub fn of(answer: &HistoryAnswer) -> Self {
        match answer {
            HistoryAnswer::Page(page) => Self::Page(PageMirror::of(page)),
            HistoryAnswer::NotFound => Self::NotFound,
            HistoryAnswer::Moved(shard) => Self::Moved(shard.0),
        }
    }
}

impl ArchivedHistoryAnswerMirror {
    pub fn read(&self) -> HistoryAnswer {
        match self {
            Self::Page(page) => HistoryAnswer::Page(page.read()),
            Self::NotFound => HistoryAnswer::NotFound,
            Self::Moved(shard) => HistoryAnswer::Moved(ShardId(shard.to_native())),
        }
    }
}

impl PageMirror {
    fn of(page: &HistoryPage) -> Self {
        Self {
            head: page
                .head
                .as_deref()
                .map(|head| Box::new(HeadMirror::of(head))),
            rows: page.rows.iter().map(EntryMirror::of).collect(),
            next: page.next,
            dropped: page.dropped,
        }
    }
}

impl HeadMirror {
    fn of(head: &HistoryHead) -> Self {
        let owners = head.owners.iter();
        let owners = owners.map(|owner| OwnerMirror {
            shard: owner.shard.0,
            left: owner.left.0,
            last: owner.last,
        });
        Self {
            account: run::record(&head.account),
            owners: owners.collect(),
        }
    }
}

impl ArchivedPageMirror {
    fn read(&self) -> HistoryPage {
        HistoryPage {
            head: self.head.as_ref().map(|head| {
                Box::new(HistoryHead {
                    account: run::row(&head.account),
                    owners: head
                        .owners
                        .iter()
                        .map(|owner| FormerOwner {
                            shard: ShardId(owner.shard.to_native()),
                            left: Timestamp(owner.left.to_native()),
                            last: owner.last.to_native(),
                        })
                        .collect(),
                })
            }),
            rows: self.rows.iter().map(ArchivedEntryMirror::read).collect(),
            next: self.next.to_native(),
            dropped: self.dropped,
        }
    }
}

impl EntryMirror {
    fn of(entry: &HistoryEntry) -> Self {
        Self {
            recorded: RecordedMirror::of(&entry.recorded),
            position: entry.position,
            applied_ts: entry.applied_ts.0,
            coordinator: entry.coordinator.0,
        }
    }
}

impl ArchivedEntryMirror {
    fn read(&self) -> HistoryEntry {
        HistoryEntry {
            position: self.position.to_native(),
            recorded: self.recorded.read(),
            applied_ts: Timestamp(self.applied_ts.to_native()),
            coordinator: ShardId(self.coordinator.to_native()),
        }
    }
}
