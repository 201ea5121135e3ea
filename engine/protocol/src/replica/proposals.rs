//! Admitted commands that wait for a slot, and who waits for those in flight. Volatile.
//!
//! Commands that end something (resolutions, commits) go first: they free what others wait for.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::entry::{ENTRY_HEADER_BYTES, EntryBuilder, MoveSection, SECTION_HEADER_BYTES};
use crate::ids::Slot;
use crate::ledger::{Account, Transfer};
use crate::limits::{ENTRY_BYTES_MAX, PROPOSAL_BYTES_MAX};
use crate::replica::requests::{RequestKey, Waiter};
use crate::time::Timestamp;
use crate::txn::record::{CommitRow, MoveHead, MoveVersionRow, PrepareRow, TxnRow};
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
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            rows: VecDeque::new(),
            spans: VecDeque::new(),
        }
    }
}

impl<T: Row> Queue<T> {
    fn push(&mut self, row: T, waiter: Waiter) {
        self.rows.push_back(row);
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
        taken
    }
}

/// Who waits for the results of an entry in flight.
#[derive(Debug)]
pub(crate) struct Proposed {
    pub slot: Slot,
    pub accounts: Vec<Span>,
    pub transfers: Vec<Span>,
    /// Commands enqueued up to and including this entry's.
    pub commands_end: u64,
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
    commits: VecDeque<CommitRow>,
    resolves: VecDeque<TxnRow>,
    prepare_moves: VecDeque<Words>,
    commit_moves: VecDeque<(MoveHead, Vec<MoveVersionRow>)>,
    cuts: VecDeque<CutCommand>,
    bytes: usize,
    /// Local transfers and prepares: all that a freeze has to wait for.
    enqueued: u64,
    taken: u64,
}

impl Proposals {
    /// Whether nothing more is taken in, with this many bytes waiting at most.
    pub fn is_full(&self, bytes_max: usize) -> bool {
        self.bytes >= bytes_max.min(PROPOSAL_BYTES_MAX)
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether the waiting commands fill an entry.
    pub fn fills_entry(&self) -> bool {
        self.bytes >= ENTRY_BYTES_MAX / 2
    }

    /// Local transfers and prepares enqueued so far.
    pub fn enqueued(&self) -> u64 {
        self.enqueued
    }

    pub fn push_account(&mut self, account: Account, waiter: Waiter) {
        self.bytes += size_of::<Account>();
        self.accounts.push(account, waiter);
    }

    pub fn push_transfer(&mut self, transfer: Transfer, waiter: Waiter) {
        self.bytes += size_of::<Transfer>();
        self.enqueued += 1;
        self.transfers.push(transfer, waiter);
    }

    pub fn push_prepare(&mut self, row: PrepareRow) {
        self.bytes += size_of::<PrepareRow>();
        self.enqueued += 1;
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

    /// Takes as many commands as fit one entry of `bytes_max`.
    pub fn take(&mut self, bytes_max: usize) -> (EntryBuilder, Proposed) {
        let mut builder = EntryBuilder::new();
        let mut room = Room {
            left: bytes_max - ENTRY_HEADER_BYTES,
            taken: 0,
        };
        room.drain(&mut self.resolves, |rows| builder.resolve(rows));
        room.drain(&mut self.commits, |rows| builder.commit(rows));
        while let Some((head, accounts)) = self.commit_moves.front() {
            if !room.take(commit_move_bytes(accounts)) {
                break;
            }
            builder.commit_move(head, accounts);
            self.commit_moves.pop_front();
        }
        while let Some(words) = self.prepare_moves.front() {
            if !room.take(words.as_bytes().len()) {
                break;
            }
            let parts = MoveSection::parse(words.as_bytes()).expect("checked when it was queued");
            builder.prepare_move(parts);
            self.prepare_moves.pop_front();
        }
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
        // Other shards can send prepares faster than entries take them; local commands must not
        // wait for their end.
        let local = !self.accounts.rows.is_empty() || !self.transfers.rows.is_empty();
        let held_back = if local { room.left / 2 } else { 0 };
        room.left -= held_back;
        let prepares = room.drain(&mut self.prepares, |rows| builder.prepare(rows));
        room.left += held_back;
        let accounts = room.drain(&mut self.accounts.rows, |rows| {
            builder.create_accounts(rows)
        });
        let transfers = room.drain(&mut self.transfers.rows, |rows| builder.transfers(rows));
        self.bytes -= room.taken;
        self.taken += u64::try_from(prepares + transfers).expect("bounded by the entry size");
        let proposed = Proposed {
            slot: Slot::ZERO,
            accounts: self.accounts.take_spans(accounts),
            transfers: self.transfers.take_spans(transfers),
            commands_end: self.taken,
        };
        (builder, proposed)
    }
}

const CUT_BYTES: usize = 16;

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

    /// Moves rows to the entry; returns how many. A ring buffer has two runs: two sections at most.
    fn drain<T: Row>(&mut self, rows: &mut VecDeque<T>, mut add: impl FnMut(&[T])) -> usize {
        let mut count = 0;
        for _ in 0..2 {
            let (run, _) = rows.as_slices();
            let fit = self.left.saturating_sub(SECTION_HEADER_BYTES) / size_of::<T>();
            let fit = fit.min(run.len());
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
    use super::*;
    use crate::entry::Section;
    use crate::ids::{AccountId, Ballot, ConnectionId, RequestId, ShardId, TransferId};
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
            proposals.push_prepare(PrepareRow {
                transfer: transfer(id),
                attempt: Attempt::default(),
                coordinator: ShardId(2),
                reserved: [0; 12],
            });
        }
        let mut requests = Requests::default();
        let pending = Requests::results(1);
        let request = requests.open(ConnectionId(1), RequestId(1), 1, pending);
        proposals.push_transfer(transfer(99_999), Waiter { request, row: 0 });
        let (builder, proposed) = proposals.take(ENTRY_BYTES_MAX);
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
        let (builder, _) = proposals.take(ENTRY_BYTES_MAX);
        assert!(builder.bytes() > ENTRY_BYTES_MAX - 1_000);
    }
}
