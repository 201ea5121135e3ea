//! A keeper whose checkpoints move rows of older files: whatever a read takes, whatever else happens
//! meanwhile, and however often it starts anew, the same bytes are written.

mod support;

use std::collections::BTreeMap;

use quorate_durable::keeper::{Keeper, Step};
use quorate_protocol::checkpoint::rows::{AccountRow, Mark};
use quorate_protocol::ids::{AccountId, Slot};
use quorate_protocol::input::Input;
use quorate_protocol::ledger::{Account, AccountFlags};
use quorate_protocol::output::CheckpointPart;
use quorate_protocol::prng::Prng;
use quorate_storage::store::{
    AccountIndex, BeginError, Binding, BlockRun, IndexLoad, Operation, RowLoad, Store, open,
};
use zerocopy::FromBytes;

use support::Files;

const BINDING: Binding = Binding {
    cluster: 1,
    shard: 1,
};
const ACCOUNTS: u64 = 4_000;

fn row(id: u64, version: u64) -> AccountRow {
    AccountRow {
        account: Account::new(AccountId(id.into()), 1, 1, AccountFlags::default()),
        id_max: 0,
        version,
        last: 0,
    }
}

fn mark(slot: u64) -> Mark {
    Mark {
        slot: Slot(slot),
        highest_origin: quorate_protocol::ids::Ballot(0),
        digest: [0; 2],
        side: 0,
        history_from: 0,
    }
}

fn opened(files: &mut Files) -> Store {
    let opened = open(&files.listing(), files, BINDING).expect("a store that was only stopped");
    assert_eq!(opened.damage, []);
    for repair in &opened.repairs {
        files.carry_out(repair);
    }
    opened.store
}

fn started(files: &mut Files) -> Keeper {
    let store = opened(files);
    let mut load = IndexLoad::new(&store);
    while load.step(&store, files, 64).expect("as written") {}
    let (index, _) = load.finish();
    Keeper::new(store, index)
}

/// The version of each account.
fn versions(files: &mut Files) -> BTreeMap<u128, u64> {
    let store = opened(files);
    let mut load = IndexLoad::new(&store);
    while load.step(&store, files, 64).expect("as written") {}
    let (_, dead) = load.finish();
    let mut rows = RowLoad::new(&store, dead);
    let mut versions = BTreeMap::new();
    while rows
        .step(&store, files, 64, |_, row| {
            let row = AccountRow::read_from_bytes(row).expect("160 bytes");
            assert!(versions.insert(row.account.id.0, row.version).is_none());
        })
        .expect("as written")
    {}
    versions
}

/// The parts of a checkpoint in which these accounts changed and these left.
fn parts(number: u64, changed: &[(u64, bool)], gone: &[u64]) -> Vec<CheckpointPart> {
    let rows = changed
        .iter()
        .map(|(id, is_stored)| (row(*id, number), *is_stored));
    let rows: Vec<_> = rows.collect();
    let mut parts = vec![CheckpointPart::Begin {
        number,
        slot: Slot(number * 10),
        accounts: u32::try_from(changed.len()).expect("few"),
    }];
    let chunks = rows.chunks(100);
    parts.extend(chunks.map(|rows| CheckpointPart::Accounts(rows.to_vec())));
    let gone = gone.iter().map(|id| AccountId((*id).into()));
    parts.push(CheckpointPart::Gone(gone.collect()));
    parts.push(CheckpointPart::Side(vec![9; 100]));
    parts.push(CheckpointPart::End(mark(number * 10)));
    parts
}

/// Drives a keeper until its checkpoint is durable: reads are answered late, operations when chance says
/// so, and some reads bring rotten bytes first. How many reads there were.
fn checkpoint(
    keeper: &mut Keeper,
    files: &mut Files,
    parts: Vec<CheckpointPart>,
    random: &mut Prng,
) -> usize {
    let mut parts = parts.into_iter();
    let mut reading: Option<BlockRun> = None;
    let mut open: Option<Operation> = None;
    let mut reads = 0;
    keeper
        .take(parts.next().expect("the begin"), files)
        .expect("readable");
    loop {
        if random.range(0, 3) == 0
            && let Some(run) = reading.take()
        {
            let mut bytes = files.blocks(run);
            if random.range(0, 4) == 0 {
                let at = usize::try_from(random.range(0, bytes.len() as u64)).expect("small");
                bytes[at] ^= 1;
                let damage = keeper.feed(&bytes).expect_err("rotten").to_string();
                let name = run.first.file.file_name();
                assert!(damage.starts_with(&name), "{damage}");
            } else {
                keeper.feed(&bytes).expect("as written");
                reads += 1;
            }
        }
        if random.range(0, 2) == 0 {
            match open.take() {
                Some(operation) => keeper.finish_operation(operation),
                None => open = keeper.next_operation(),
            }
            if let Some(operation) = &open {
                files.carry_out(operation);
            }
        }
        match keeper.step() {
            Step::Told(Input::CheckpointRoom) => {
                if let Some(part) = parts.next() {
                    keeper.take(part, files).expect("readable");
                }
            }
            Step::Told(Input::CheckpointDurable { .. }) => break,
            Step::Told(other) => panic!("{other:?}"),
            Step::Read(run) => {
                assert!(reading.is_none(), "one read at a time");
                reading = Some(run);
            }
            Step::Worked | Step::Waits => {}
        }
    }
    assert!(reading.is_none() && open.is_none());
    while let Some(operation) = keeper.next_operation() {
        files.carry_out(&operation);
        keeper.finish_operation(operation);
    }
    reads
}

#[test]
fn the_bytes_do_not_depend_on_when_a_read_is_answered() {
    let random = &mut Prng::new(5);
    let (mut one, mut two) = (Files::default(), Files::default());
    let mut keeper = started(&mut one);
    let mut expected: BTreeMap<u128, u64> = BTreeMap::new();
    let (mut reads, mut left) = (0, 0);
    for number in 1..=60 {
        let (mut changed, mut gone) = (BTreeMap::new(), Vec::new());
        let count = if number == 1 { ACCOUNTS } else { 300 };
        for _ in 0..count {
            let id = match number {
                1 => changed.len() as u64 + 1,
                // Most go to few.
                _ if random.range(0, 5) > 0 => random.range(1, ACCOUNTS / 4),
                _ => random.range(1, ACCOUNTS),
            };
            changed.insert(id, expected.contains_key(&id.into()));
        }
        for id in (0..3).map(|_| random.range(1, ACCOUNTS)) {
            if number > 20 && expected.contains_key(&id.into()) && !gone.contains(&id) {
                changed.remove(&id);
                gone.push(id);
            }
        }
        let changed: Vec<_> = changed.into_iter().collect();
        for (id, _) in &changed {
            expected.insert((*id).into(), number);
        }
        for id in &gone {
            expected.remove(&u128::from(*id));
        }
        left += gone.len();
        let parts = || parts(number, &changed, &gone);
        reads += checkpoint(&mut keeper, &mut one, parts(), random);
        // The other one starts anew each time.
        let mut other = started(&mut two);
        checkpoint(&mut other, &mut two, parts(), random);
        assert!(one.0 == two.0, "checkpoint {number}");
    }
    let counters = keeper.store().counters();
    println!(
        "{reads} reads, {} rows moved, {left} accounts left",
        counters.rows_moved
    );
    assert!(reads > 50 && counters.rows_moved > 3_000 && left > 50);
    assert_eq!(versions(&mut one), expected);
}

/// The core goes on, and never hears that it is durable.
#[test]
fn a_checkpoint_that_has_no_room_is_dropped_part_by_part() {
    let mut files = Files::default();
    let mut keeper = Keeper::new(opened(&mut files), AccountIndex::new());
    let mut parts = parts(1, &[(1, false), (2, false)], &[]);
    parts[0] = CheckpointPart::Begin {
        number: 1,
        slot: Slot(10),
        accounts: u32::MAX,
    };
    let mut given = 0;
    for part in parts {
        keeper.take(part, &mut files).expect("nothing is read");
        given += 1;
        assert!(keeper.next_operation().is_none());
        match keeper.step() {
            Step::Told(Input::CheckpointRoom) => {}
            Step::Waits => break,
            step => panic!("{step:?}"),
        }
    }
    assert_eq!(given, 5, "all of them");
    assert!(matches!(keeper.step(), Step::Waits));
    assert!(matches!(keeper.refusal(), Some(BeginError::Rows { .. })));
    assert_eq!(keeper.store().counters().refused, 1);
    assert_eq!(files.listing(), []);
}
