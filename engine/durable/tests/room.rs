//! A checkpoint that waits for room waits for a write, never for itself; and for few of them.
//!
//! The first story: the bytes of extents that were still being filled counted as waiting to be written. Three files are
//! written at once, so up to three such extents; with more than two extents' bytes in them and none of them full,
//! the keeper asked for nothing more, nothing was there to be written, and the shard stood still for good once
//! the next checkpoint was due. Found on a real cluster with checkpoints of a few hundred kilobytes.
//!
//! The second: a write took 256 KiB and no more, and a loop under full load turns 80 times a second. So a leader's
//! checkpoints took longer than the log took to the next one, and apply stood still for half a second at each.

mod support;

use quorate_durable::keeper::{Keeper, READY_BYTES_MAX, Step};
use quorate_protocol::checkpoint::rows::{AccountRow, ContextRow, HistoryRow, Mark};
use quorate_protocol::ids::{AccountId, Ballot, Slot, TransferId};
use quorate_protocol::input::Input;
use quorate_protocol::ledger::{Account, AccountFlags};
use quorate_protocol::output::CheckpointPart;
use quorate_storage::store::{AccountIndex, Binding, EXTENT_BYTES, Operation, open};

use support::Files;

const BINDING: Binding = Binding {
    cluster: 1,
    shard: 1,
};
/// Rows of one part.
const PART: usize = 256;

/// A checkpoint with so many accounts, rows of history and kibibytes of side tables.
fn parts(accounts: u64, history: u64, side: usize) -> Vec<CheckpointPart> {
    let account = |id: u64| {
        let account = Account::new(AccountId(id.into()), 1, 1, AccountFlags::default());
        let row = AccountRow {
            account,
            id_max: 0,
            version: 1,
            last: 0,
        };
        (row, false)
    };
    let transfer = |id: u64| {
        let row = HistoryRow {
            id: TransferId(id.into()),
            debit_account_id: AccountId(1),
            credit_account_id: AccountId(2),
            amount: 1,
            user_data: 0,
            ledger: 1,
            context: 0,
            code: 1,
            result: 0,
            debit_before: [0; 6],
            credit_before: [0; 6],
        };
        (row, id)
    };
    let mut parts = vec![CheckpointPart::Begin {
        number: 1,
        slot: Slot(10),
        accounts: u32::try_from(accounts).expect("few"),
    }];
    let accounts: Vec<_> = (1..=accounts).map(account).collect();
    let rows = accounts.chunks(PART).map(<[_]>::to_vec);
    parts.extend(rows.map(CheckpointPart::Accounts));
    let transfers: Vec<_> = (1..=history).map(transfer).collect();
    let rows = transfers.chunks(PART).map(<[_]>::to_vec);
    parts.extend(rows.map(CheckpointPart::History));
    if history > 0 {
        parts.push(CheckpointPart::Contexts(vec![ContextRow::default()]));
    }
    for _ in 0..side {
        parts.push(CheckpointPart::Side(vec![9; 1 << 10]));
    }
    parts.push(CheckpointPart::End(Mark {
        slot: Slot(10),
        highest_origin: Ballot(0),
        digest: [0; 2],
        side: 0,
        history_from: 0,
    }));
    parts
}

/// A keeper that has taken the first part, and the others.
fn begun(
    parts: Vec<CheckpointPart>,
    files: &mut Files,
) -> (Keeper, std::vec::IntoIter<CheckpointPart>) {
    let store = open(&[], files, BINDING).expect("an empty store").store;
    let mut keeper = Keeper::new(store, AccountIndex::new());
    let mut parts = parts.into_iter();
    let begin = parts.next().expect("the begin");
    keeper.take(begin, files).expect("readable");
    (keeper, parts)
}

/// Carries out operations only when the keeper waits for one; how many, and how many bytes they wrote.
fn checkpoint(parts: Vec<CheckpointPart>, ready_bytes_max: usize) -> (usize, usize) {
    let files = &mut Files::default();
    let (mut keeper, mut parts) = begun(parts, files);
    keeper.set_ready_bytes_max(ready_bytes_max);
    let (mut operations, mut bytes) = (0, 0);
    loop {
        match keeper.step() {
            Step::Told(Input::CheckpointRoom) => {
                let part = parts.next().expect("the end is not asked for more");
                keeper.take(part, files).expect("readable");
            }
            Step::Told(Input::CheckpointDurable { number: 1 }) => return (operations, bytes),
            Step::Worked => {}
            Step::Waits => {
                let operation = keeper.next_operation().expect("something to wait for");
                files.carry_out(&operation);
                operations += 1;
                if let Operation::Write { bytes: written, .. } = &operation {
                    bytes += written.len();
                }
                keeper.finish_operation(operation);
            }
            other => panic!("{other:?}"),
        }
        assert!(keeper.store().ready_bytes() <= ready_bytes_max + EXTENT_BYTES);
    }
}

#[test]
fn extents_that_are_being_filled_are_not_waited_for() {
    // Accounts lie 25 to a block of 4 KiB, transfers 42: up to just below an extent, and beyond.
    for accounts in [1, 1_500, 1_599, 1_700, 4_700] {
        for history in [0, 2_500, 2_680, 2_700, 8_000] {
            for side in [0, 100, 250, 600] {
                checkpoint(parts(accounts, history, side), READY_BYTES_MAX);
            }
        }
    }
}

/// Whoever carries operations out looks for one after a part, a step that was none of waiting, and an operation: never
/// else. The step that finished the files said that it waited; if what came before had just been written, nobody wrote
/// them.
fn checkpoint_by_wake_ups(parts: Vec<CheckpointPart>) {
    let files = &mut Files::default();
    let (mut keeper, mut parts) = begun(parts, files);
    loop {
        match keeper.step() {
            Step::Told(Input::CheckpointRoom) => {
                let part = parts.next().expect("the end is not asked for more");
                keeper.take(part, files).expect("readable");
            }
            Step::Told(Input::CheckpointDurable { number: 1 }) => return,
            Step::Worked => {}
            other => panic!("{other:?} though nothing is open"),
        }
        while let Some(operation) = keeper.next_operation() {
            files.carry_out(&operation);
            keeper.finish_operation(operation);
        }
    }
}

#[test]
fn a_step_that_leaves_an_operation_says_so() {
    for accounts in [0, 1, 1_700, 4_700] {
        for history in [0, 2_700, 8_000] {
            checkpoint_by_wake_ups(parts(accounts, history, 100));
        }
    }
}

/// An operation takes all that waits: what a checkpoint costs in turns of a slow loop does not depend on the size of a
/// write.
#[test]
fn few_operations_are_waited_for() {
    // For each of three files a create, a sync, and what is left of it when the next one begins to fill and at its end;
    // the names, and the manifest.
    const BESIDE: usize = 3 * 4 + 2;
    const WAITING: usize = 2 << 20;
    let mut written = Vec::new();
    for (accounts, history, side) in [(40_000, 0, 0), (0, 200_000, 0), (30_000, 150_000, 9_000)] {
        let (operations, bytes) = checkpoint(parts(accounts, history, side), WAITING);
        let most = bytes / WAITING + BESIDE;
        assert!(operations <= most, "{operations} for {bytes} bytes");
        written.push(bytes / WAITING);
    }
    assert!(written.iter().all(|&writes| writes >= 1), "{written:?}");
}
