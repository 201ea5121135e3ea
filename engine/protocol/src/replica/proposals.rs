//! Admitted commands that wait for a slot, and who waits for those in flight. Volatile.
//!
//! Commands that end something (resolutions, commits) go first: they free what others wait for.
//!
//! A row whose request has ended is never proposed: its client was told `unknown`, asks again, and
//! under overload the log would be filled with what nobody waits for any more.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::entry::{ENTRY_HEADER_BYTES, EntryBuilder, MoveSection, SECTION_HEADER_BYTES};
use crate::ids::{DocumentKey, Slot};
use crate::ledger::{Account, Transfer};
use crate::limits::{PROPOSAL_BYTES_MAX, QUEUE_DELAY_NS_MAX};
use crate::replica::queue_age::QueueAge;
use crate::replica::requests::{RequestKey, Requests, Waiter};
use crate::shard::catalog::{DocumentHead, section_bytes};
use crate::time::Timestamp;
use crate::txn::record::{
    AcknowledgedRow, CommitRow, MoveHead, MoveVersionRow, PrepareRow, RouteRow, TxnRow,
};
use crate::words::{Row, Words};

/// Consecutive rows of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    request: RequestKey,
    first: u32,
    rows: u32,
}

impl Span {
    /// The rows, one by one.
    pub fn waiters(self) -> impl Iterator<Item = Waiter> {
        (self.first..self.first + self.rows).map(move |row| Waiter {
            request: self.request,
            row,
        })
    }
}

/// Records of one kind with the rows that wait for them.
#[derive(Debug)]
struct Queue<T> {
    rows: VecDeque<T>,
    spans: VecDeque<Span>,
    age: QueueAge,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            rows: VecDeque::new(),
            spans: VecDeque::new(),
            age: QueueAge::default(),
        }
    }
}

impl<T: Row> Queue<T> {
    fn push(&mut self, row: T, waiter: Waiter, now_ns: u64) {
        self.rows.push_back(row);
        self.age.pushed(now_ns);
        if let Some(last) = self.spans.back_mut()
            && last.request == waiter.request
            && last.first + last.rows == waiter.row
        {
            last.rows += 1;
            return;
        }
        self.spans.push_back(Span {
            request: waiter.request,
            first: waiter.row,
            rows: 1,
        });
    }

    fn take_spans(&mut self, count: usize) -> Vec<Span> {
        let mut left = u32::try_from(count).expect("bounded by the entry size");
        let mut taken = Vec::new();
        while left > 0 {
            let front = self.spans.front_mut().expect("every row has a span");
            let rows = front.rows.min(left);
            taken.push(Span { rows, ..*front });
            front.first += rows;
            front.rows -= rows;
            left -= rows;
            if front.rows == 0 {
                self.spans.pop_front();
            }
        }
        self.age.taken(count);
        taken
    }

    /// Drops rows from the front until one is waited for; returns how many.
    fn drop_ended(&mut self, requests: &Requests) -> usize {
        let mut dropped = 0;
        while let Some(front) = self.spans.front()
            && requests.get(front.request).is_none()
        {
            dropped += usize::try_from(front.rows).expect("a u32 fits");
            self.spans.pop_front();
        }
        self.rows.drain(..dropped);
        self.age.taken(dropped);
        dropped
    }

    /// Rows at the front that are waited for, without a gap; at least `enough` or all there are.
    fn open_run(&self, requests: &Requests, enough: usize) -> usize {
        let mut rows = 0;
        for span in &self.spans {
            if rows >= enough || requests.get(span.request).is_none() {
                break;
            }
            rows += usize::try_from(span.rows).expect("a u32 fits");
        }
        rows
    }

    /// Moves rows that are waited for to the entry, as many as fit.
    fn drain_to(
        &mut self,
        room: &mut Room,
        requests: &Requests,
        mut add: impl FnMut(&[T]),
    ) -> Drained {
        let mut drained = Drained::default();
        loop {
            drained.dropped += self.drop_ended(requests);
            let run = self.open_run(requests, room.left / size_of::<T>());
            let rows = room.drain(&mut self.rows, run, &mut add);
            if rows == 0 {
                return drained;
            }
            drained.rows += rows;
            drained.spans.extend(self.take_spans(rows));
        }
    }
}

/// What became of the rows at the front of a queue.
#[derive(Default)]
struct Drained {
    rows: usize,
    spans: Vec<Span>,
    dropped: usize,
}

/// Who waits for the results of an entry in flight.
#[derive(Debug)]
pub(crate) struct Proposed {
    pub slot: Slot,
    pub accounts: Vec<Span>,
    pub transfers: Vec<Span>,
    /// One for each document that it writes.
    pub documents: Vec<RequestKey>,
    /// Commands enqueued up to and including this entry's.
    pub commands_end: u64,
}

impl Proposed {
    /// An entry for which nobody waits.
    pub fn empty(slot: Slot, commands_end: u64) -> Self {
        Self {
            slot,
            accounts: Vec::new(),
            transfers: Vec::new(),
            documents: Vec::new(),
            commands_end,
        }
    }
}

/// A write to the catalog.
#[derive(Debug)]
struct Write {
    request: RequestKey,
    key: DocumentKey,
    expected: u64,
    bytes: Vec<u8>,
}

/// A command of a consistent cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CutCommand {
    Register(Timestamp),
    Pass(Timestamp),
}

/// The queues.
#[derive(Debug, Default)]
pub(crate) struct Proposals {
    accounts: Queue<Account>,
    transfers: Queue<Transfer>,
    prepares: VecDeque<PrepareRow>,
    prepares_age: QueueAge,
    commits: VecDeque<CommitRow>,
    resolves: VecDeque<TxnRow>,
    prepare_moves: VecDeque<Words>,
    commit_moves: VecDeque<(MoveHead, Vec<MoveVersionRow>)>,
    cuts: VecDeque<CutCommand>,
    acknowledged: VecDeque<AcknowledgedRow>,
    forwards: VecDeque<RouteRow>,
    dropped_stubs: VecDeque<RouteRow>,
    documents: VecDeque<Write>,
    bytes: usize,
    /// Local transfers and prepares: all that a freeze has to wait for.
    enqueued: u64,
    taken: u64,
}

impl Proposals {
    /// Whether nothing more is taken in: this many bytes wait, or something has waited for long. A
    /// bound in bytes alone lets everybody wait beyond their deadlines when entries are slow.
    pub fn is_full(&self, bytes_max: usize, now_ns: u64) -> bool {
        let ages = [&self.accounts.age, &self.transfers.age, &self.prepares_age];
        self.bytes >= bytes_max.min(PROPOSAL_BYTES_MAX)
            || ages
                .into_iter()
                .any(|age| age.of_oldest(now_ns) > QUEUE_DELAY_NS_MAX)
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether the waiting commands are worth an entry of their own beside one that is on its way to the
    /// disk: half of one that has at most `bytes_max` bytes.
    pub fn fills_entry(&self, bytes_max: usize) -> bool {
        self.bytes >= bytes_max / 2
    }

    /// Local transfers and prepares enqueued so far.
    pub fn enqueued(&self) -> u64 {
        self.enqueued
    }

    pub fn push_account(&mut self, account: Account, waiter: Waiter, now_ns: u64) {
        self.bytes += size_of::<Account>();
        self.accounts.push(account, waiter, now_ns);
    }

    pub fn push_transfer(&mut self, transfer: Transfer, waiter: Waiter, now_ns: u64) {
        self.bytes += size_of::<Transfer>();
        self.enqueued += 1;
        self.transfers.push(transfer, waiter, now_ns);
    }

    pub fn push_prepare(&mut self, row: PrepareRow, now_ns: u64) {
        self.bytes += size_of::<PrepareRow>();
        self.enqueued += 1;
        self.prepares_age.pushed(now_ns);
        self.prepares.push_back(row);
    }

    pub fn push_commit(&mut self, row: CommitRow) {
        self.bytes += size_of::<CommitRow>();
        self.commits.push_back(row);
    }

    pub fn push_resolve(&mut self, row: TxnRow) {
        self.bytes += size_of::<TxnRow>();
        self.resolves.push_back(row);
    }

    pub fn push_prepare_move(&mut self, parts: Words) {
        self.bytes += parts.as_bytes().len();
        self.prepare_moves.push_back(parts);
    }

    pub fn push_commit_move(&mut self, head: MoveHead, accounts: Vec<MoveVersionRow>) {
        self.bytes += commit_move_bytes(&accounts);
        self.commit_moves.push_back((head, accounts));
    }

    pub fn push_cut(&mut self, cut: CutCommand) {
        self.bytes += CUT_BYTES;
        self.cuts.push_back(cut);
    }

    pub fn push_acknowledged(&mut self, row: AcknowledgedRow) {
        self.bytes += size_of::<AcknowledgedRow>();
        self.acknowledged.push_back(row);
    }

    pub fn push_forward(&mut self, row: RouteRow) {
        self.bytes += size_of::<RouteRow>();
        self.forwards.push_back(row);
    }

    /// Whether some of those wait.
    pub fn has_forwards(&self) -> bool {
        !self.forwards.is_empty()
    }

    pub fn push_drop_stub(&mut self, row: RouteRow) {
        self.bytes += size_of::<RouteRow>();
        self.dropped_stubs.push_back(row);
    }

    pub fn push_document(
        &mut self,
        request: RequestKey,
        key: DocumentKey,
        expected: u64,
        bytes: Vec<u8>,
    ) {
        self.bytes += section_bytes(bytes.len());
        self.documents.push_back(Write {
            request,
            key,
            expected,
            bytes,
        });
    }

    /// Takes as many commands as fit one entry of `bytes_max`. Nothing may be left to take: all that
    /// waited may have been rows of requests that ended.
    pub fn take(&mut self, bytes_max: usize, requests: &Requests) -> (EntryBuilder, Proposed) {
        let mut builder =
            EntryBuilder::with_room(bytes_max.min(self.bytes + ENTRY_FRAME_BYTES_MAX));
        let mut room = Room {
            left: bytes_max - ENTRY_HEADER_BYTES,
            taken: 0,
        };
        let mut documents = Documents::default();
        // Resolutions and commits may fill every entry for as long as a load lasts. Ahead of them goes what lets frozen
        // accounts go, and one each of what others wait for by the second.
        self.take_commit_moves(&mut room, &mut builder);
        self.take_prepare_moves(1, &mut room, &mut builder);
        self.take_documents(1, requests, &mut room, &mut builder, &mut documents);
        room.drain(&mut self.resolves, usize::MAX, |rows| builder.resolve(rows));
        room.drain(&mut self.commits, usize::MAX, |rows| builder.commit(rows));
        self.take_prepare_moves(usize::MAX, &mut room, &mut builder);
        room.drain(&mut self.acknowledged, usize::MAX, |rows| {
            builder.acknowledged(rows);
        });
        room.drain(&mut self.forwards, usize::MAX, |rows| builder.forward(rows));
        room.drain(&mut self.dropped_stubs, usize::MAX, |rows| {
            builder.drop_stubs(rows);
        });
        while let Some(cut) = self.cuts.front() {
            if !room.take(CUT_BYTES) {
                break;
            }
            match *cut {
                CutCommand::Register(at) => builder.cut_register(at),
                CutCommand::Pass(at) => builder.cut_pass(at),
            }
            self.cuts.pop_front();
        }
        self.take_documents(
            usize::MAX,
            requests,
            &mut room,
            &mut builder,
            &mut documents,
        );
        // Other shards can send prepares faster than entries take them; local commands must not
        // wait for their end.
        let local = !self.accounts.rows.is_empty() || !self.transfers.rows.is_empty();
        let held_back = if local { room.left / 2 } else { 0 };
        room.left -= held_back;
        let prepares = room.drain(&mut self.prepares, usize::MAX, |rows| builder.prepare(rows));
        self.prepares_age.taken(prepares);
        room.left += held_back;
        let accounts = self
            .accounts
            .drain_to(&mut room, requests, |rows| builder.create_accounts(rows));
        let transfers = self
            .transfers
            .drain_to(&mut room, requests, |rows| builder.transfers(rows));
        let gone = room.taken
            + documents.bytes_dropped
            + accounts.dropped * size_of::<Account>()
            + transfers.dropped * size_of::<Transfer>();
        assert!(gone > 0, "what was let in fits an entry");
        self.bytes -= gone;
        self.taken += wide(prepares + transfers.rows + transfers.dropped);
        let proposed = Proposed {
            slot: Slot::ZERO,
            accounts: accounts.spans,
            transfers: transfers.spans,
            documents: documents.written,
            commands_end: self.taken,
        };
        (builder, proposed)
    }

    fn take_commit_moves(&mut self, room: &mut Room, builder: &mut EntryBuilder) {
        while let Some((head, accounts)) = self.commit_moves.front() {
            if !room.take(commit_move_bytes(accounts)) {
                return;
            }
            builder.commit_move(head, accounts);
            self.commit_moves.pop_front();
        }
    }

    fn take_prepare_moves(&mut self, most: usize, room: &mut Room, builder: &mut EntryBuilder) {
        for _ in 0..most.min(self.prepare_moves.len()) {
            let words = self.prepare_moves.front().expect("there are so many");
            if !room.take(words.as_bytes().len()) {
                return;
            }
            let parts = MoveSection::parse(words.as_bytes()).expect("checked when it was queued");
            builder.prepare_move(parts);
            self.prepare_moves.pop_front();
        }
    }

    fn take_documents(
        &mut self,
        most: usize,
        requests: &Requests,
        room: &mut Room,
        builder: &mut EntryBuilder,
        taken: &mut Documents,
    ) {
        for _ in 0..most.min(self.documents.len()) {
            let write = self.documents.front().expect("there are so many");
            let bytes = section_bytes(write.bytes.len());
            if requests.get(write.request).is_none() {
                taken.bytes_dropped += bytes;
            } else if room.take(bytes) {
                let length = u32::try_from(write.bytes.len()).expect("bounded by the request");
                let head = DocumentHead {
                    key: write.key,
                    expected: write.expected,
                    bytes: length,
                    reserved: 0,
                };
                builder.put_document(&head, &write.bytes);
                taken.written.push(write.request);
            } else {
                return;
            }
            self.documents.pop_front();
        }
    }
}

/// The documents of one entry.
#[derive(Debug, Default)]
struct Documents {
    written: Vec<RequestKey>,
    /// Of those that nobody waits for any more.
    bytes_dropped: usize,
}

const CUT_BYTES: usize = 16;
/// Headers of an entry whose queues are ring buffers: two sections of each of the eight kinds of rows. More of them, such as
/// around rows that nobody waits for any more, and moves and cuts let it grow.
const ENTRY_FRAME_BYTES_MAX: usize = ENTRY_HEADER_BYTES + 16 * SECTION_HEADER_BYTES;

fn wide(rows: usize) -> u64 {
    u64::try_from(rows).expect("a usize fits 64 bits")
}

fn commit_move_bytes(accounts: &[MoveVersionRow]) -> usize {
    size_of::<MoveHead>() + size_of_val(accounts)
}

/// Bytes that an entry still has room for, and what was taken from the queues.
struct Room {
    left: usize,
    taken: usize,
}

impl Room {
    fn take(&mut self, bytes: usize) -> bool {
        if bytes + SECTION_HEADER_BYTES > self.left {
            return false;
        }
        self.left -= bytes + SECTION_HEADER_BYTES;
        self.taken += bytes;
        true
    }

    /// Moves at most `limit` rows to the entry; returns how many. A ring buffer has two runs: two
    /// sections at most.
    fn drain<T: Row>(
        &mut self,
        rows: &mut VecDeque<T>,
        limit: usize,
        mut add: impl FnMut(&[T]),
    ) -> usize {
        let mut count = 0;
        for _ in 0..2 {
            let (run, _) = rows.as_slices();
            let fit = self.left.saturating_sub(SECTION_HEADER_BYTES) / size_of::<T>();
            let fit = fit.min(run.len()).min(limit - count);
            if fit == 0 {
                break;
            }
            add(&run[..fit]);
            rows.drain(..fit);
            let taken = self.take(fit * size_of::<T>());
            assert!(taken, "the room was measured");
            count += fit;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::entry::Section;
    use crate::ids::{
        AccountId, Ballot, ConnectionId, DocumentKey, MoveId, RequestId, ShardId, TransferId,
    };
    use crate::limits::ENTRY_BYTES_MAX;
    use crate::replica::requests::Requests;
    use crate::txn::record::Attempt;

    fn transfer(id: u128) -> Transfer {
        Transfer::new(TransferId(id), AccountId(1), AccountId(2), 1, 1, 1)
    }

    /// With more prepares waiting than an entry holds, local transfers got no room at all for as
    /// long as other shards kept sending.
    #[test]
    fn prepares_do_not_crowd_out_local_transfers() {
        let mut proposals = Proposals::default();
        for id in 1..=20_000 {
            proposals.push_prepare(
                PrepareRow {
                    transfer: transfer(id),
                    attempt: Attempt::default(),
                    coordinator: ShardId(2),
                    reserved: [0; 12],
                },
                0,
            );
        }
        let mut requests = Requests::default();
        let pending = Requests::results(1);
        let request = requests.open(ConnectionId(1), RequestId(1), 0, 1, pending);
        proposals.push_transfer(transfer(99_999), Waiter { request, row: 0 }, 0);
        let (builder, proposed) = proposals.take(ENTRY_BYTES_MAX, &requests);
        assert_eq!(proposed.transfers.len(), 1);
        let entry = builder.finish(Ballot(257), Timestamp(1), 0);
        let (mut prepares, mut transfers) = (0, 0);
        for section in entry.sections() {
            match section {
                Section::Prepare(rows) => prepares += rows.len(),
                Section::Transfers(rows) => transfers += rows.len(),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(transfers, 1);
        assert!(prepares > 3_000, "{prepares}");
        // Nobody else waits: the whole entry is theirs.
        let (builder, _) = proposals.take(ENTRY_BYTES_MAX, &requests);
        assert!(builder.bytes() > ENTRY_BYTES_MAX - 1_000);
    }

    fn ids_of(builder: EntryBuilder) -> Vec<u128> {
        let entry = builder.finish(Ballot(257), Timestamp(1), 0);
        let mut ids = Vec::new();
        for section in entry.sections() {
            match section {
                Section::Transfers(rows) => ids.extend(rows.iter().map(|row| row.id.0)),
                other => panic!("{other:?}"),
            }
        }
        ids
    }

    /// With six times the load that fits their deadlines, clients gave up and asked again while
    /// their first rows still waited; the log took five times what anybody heard of.
    #[test]
    fn rows_of_requests_that_have_ended_are_not_proposed() {
        let mut proposals = Proposals::default();
        let mut requests = Requests::default();
        let keys: Vec<RequestKey> = (1..=5)
            .map(|id| requests.open(ConnectionId(1), RequestId(id), 0, 1, Requests::results(3)))
            .collect();
        for (request, base) in keys.iter().copied().zip((0..).step_by(3)) {
            for row in 0..3 {
                let waiter = Waiter { request, row };
                proposals.push_transfer(transfer(1 + base + u128::from(row)), waiter, 0);
            }
        }
        for ended in [0, 2, 4] {
            requests.close(keys[ended]);
        }
        let (builder, proposed) = proposals.take(ENTRY_BYTES_MAX, &requests);
        assert_eq!(ids_of(builder), [4, 5, 6, 10, 11, 12]);
        let waiters: Vec<Waiter> = proposed
            .transfers
            .into_iter()
            .flat_map(Span::waiters)
            .collect();
        let expected = [keys[1], keys[3]]
            .into_iter()
            .flat_map(|request| (0..3).map(move |row| Waiter { request, row }));
        assert_eq!(waiters, expected.collect::<Vec<_>>());
        // A freeze that waits for all fifteen need not wait for those that nobody sends.
        assert_eq!(proposed.commands_end, proposals.enqueued());
        assert!(proposals.is_empty());
    }

    /// A shard that only pays others has more commits waiting than entries take, for as long as that lasts: a move that was
    /// voted for stayed behind them with its accounts frozen, and no plan could be paused.
    #[test]
    fn commits_do_not_keep_accounts_frozen_nor_documents_waiting() {
        let mut proposals = Proposals::default();
        for id in 1..=20_000 {
            proposals.push_commit(CommitRow {
                transfer: transfer(id),
                attempt: Attempt::default(),
                participant: ShardId(2),
                kind: 1,
                code: 0,
                reserved: [0; 8],
            });
        }
        let mut requests = Requests::default();
        for id in 1..=3 {
            let pending = Requests::results(1);
            let request = requests.open(ConnectionId(1), RequestId(id), 0, 1, pending);
            proposals.push_document(request, DocumentKey(1), 0, vec![7; 100]);
        }
        for number in 1..=3 {
            let head = MoveHead {
                id: MoveId(number),
                attempt: Attempt::default(),
                source: ShardId(1),
                target: ShardId(2),
                accounts: 0,
                owners: 0,
            };
            proposals.push_commit_move(head, Vec::new());
        }
        let counts = |builder: EntryBuilder| {
            let entry = builder.finish(Ballot(257), Timestamp(1), 0);
            let (mut commits, mut moves, mut documents) = (0, 0, 0);
            for section in entry.sections() {
                match section {
                    Section::Commit(rows) => commits += rows.len(),
                    Section::CommitMove { .. } => moves += 1,
                    Section::PutDocument(_) => documents += 1,
                    other => panic!("{other:?}"),
                }
            }
            (commits, moves, documents)
        };
        let (builder, _) = proposals.take(ENTRY_BYTES_MAX, &requests);
        let (commits, moves, documents) = counts(builder);
        assert_eq!((moves, documents), (3, 1));
        assert!(commits > 6_000, "{commits}");
        let (builder, _) = proposals.take(ENTRY_BYTES_MAX, &requests);
        assert_eq!(counts(builder).2, 1);
        while !proposals.is_empty() {
            let _ = proposals.take(ENTRY_BYTES_MAX, &requests);
        }
    }

    #[test]
    fn an_old_queue_is_full_whatever_its_size() {
        let mut proposals = Proposals::default();
        let mut requests = Requests::default();
        let request = requests.open(ConnectionId(1), RequestId(1), 0, 1, Requests::results(1));
        proposals.push_transfer(transfer(1), Waiter { request, row: 0 }, 1_000);
        let old_ns = 1_000 + QUEUE_DELAY_NS_MAX;
        assert!(!proposals.is_full(PROPOSAL_BYTES_MAX, old_ns));
        assert!(proposals.is_full(PROPOSAL_BYTES_MAX, old_ns + 1));
        assert!(proposals.is_full(1, 1_000), "by its size");
        let _ = proposals.take(ENTRY_BYTES_MAX, &requests);
        assert!(!proposals.is_full(PROPOSAL_BYTES_MAX, u64::MAX));
    }
}
