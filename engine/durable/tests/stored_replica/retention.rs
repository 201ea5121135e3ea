//! History that is kept for a time, and the disk behind it.

use quorate_durable::question::{Question, Wanted};
use quorate_protocol::client::{HistoryQuery, HistoryStart, RequestBody};
use quorate_protocol::config::{IdRule, ReplicaConfig};
use quorate_protocol::ids::{AccountId, ShardId, TransferId};
use quorate_protocol::ledger::history::{ChainQuestion, HistoryPosition, RecordName};
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, ResultRow, Transfer};
use quorate_protocol::prng::Prng;
use quorate_protocol::time::{MS, Timestamp};
use quorate_protocol::words::Rows;

use crate::machine::{Machine, WALL_NS, config};
use crate::support::Files;

/// How many rows of history lie on the disk, and which is the first.
fn held(machine: &Machine) -> (u64, u64) {
    let (first, end) = machine.keeper.store().history_positions();
    (end - first, first)
}

fn aged_transfers(ms: u64, first: u64, rows: u64) -> RequestBody {
    let rows: Vec<Transfer> = (first..first + rows)
        .map(|number| {
            let id = TransferId(u128::from(ms) << 80 | u128::from(number));
            Transfer::new(id, AccountId(1), AccountId(2), 1, 1, 1)
        })
        .collect();
    RequestBody::CreateTransfers(Rows::from_slice(&rows))
}

/// What is kept for a time leaves the disk behind it. An id of then is refused, in every life; one that is
/// kept is known.
#[test]
fn history_that_is_old_leaves_the_disk_and_its_ids_stay_refused() {
    const ROWS: u64 = 10;
    let config = ReplicaConfig {
        ids: IdRule::Ulid,
        keep_ns: Some(1_000 * MS),
        // A young ledger has an interval of a quarter of it.
        ..config(Some(160_000))
    };
    let random = &mut Prng::new(5);
    let mut machine = Machine::start(config, Files::default(), Vec::new(), 0);
    let accounts = [1, 2].map(|id| Account::new(AccountId(id), 1, 1, AccountFlags::default()));
    let create = RequestBody::CreateAccounts(Rows::from_slice(&accounts));
    machine.results(&create, random);
    let codes = |rows: Vec<ResultRow>| -> Vec<Option<ResultCode>> {
        rows.iter().map(ResultRow::result).collect()
    };
    let all = |code| vec![Some(code); usize::try_from(ROWS).expect("small")];
    let mut sent = Vec::new();
    for round in 0..300 {
        machine.now_ns += 20 * MS;
        let body = aged_transfers((WALL_NS + machine.now_ns) / MS, round * ROWS, ROWS);
        let told = codes(machine.results(&body, random));
        assert!(told == all(ResultCode::Ok) || told == all(ResultCode::Exists));
        sent.push(body);
        if round % 37 == 0 {
            machine = machine.killed();
        }
        let (rows, _) = held(&machine);
        assert!(rows < 900, "{rows} rows held in round {round}");
    }
    machine.settle(random);
    let (rows, first) = held(&machine);
    assert!(
        rows > 250 && first > 1_500,
        "{rows} rows held from {first} on"
    );
    let files = machine
        .files
        .0
        .keys()
        .filter(|name| name.starts_with("history"));
    assert!(files.count() < 10);
    for _ in 0..2 {
        let told = codes(machine.results(&sent[0], random));
        assert_eq!(told, all(ResultCode::IdTooOld));
        let told = codes(machine.results(&sent[295], random));
        assert_eq!(told, all(ResultCode::Exists));
        machine = machine.killed();
    }
    let mut query = HistoryQuery {
        account: AccountId(1),
        start: HistoryStart::Newest {
            passed: Timestamp::ZERO,
        },
        ts_first: Timestamp::ZERO,
        ts_last: Timestamp(u64::MAX),
        limit: 100,
    };
    let mut shown = 0;
    loop {
        let page = machine.page(query, random);
        shown += page.rows.len();
        if page.dropped {
            break;
        }
        assert!(page.next >= first, "the end was not told of");
        query.start = HistoryStart::Position(page.next);
    }
    assert!((250..1_000).contains(&shown), "{shown} rows shown");
}

/// A file is dropped while a question reads from it, and what was read may come before or after that. Once a
/// row whose context was being read was taken for damage, or asked for again for ever.
#[test]
fn a_question_passes_over_what_is_dropped_while_it_reads() {
    let config = ReplicaConfig {
        ids: IdRule::Ulid,
        keep_ns: Some(100 * MS),
        ..config(Some(20_000))
    };
    let random = &mut Prng::new(6);
    let mut machine = Machine::start(config, Files::default(), Vec::new(), 0);
    let accounts = [1, 2].map(|id| Account::new(AccountId(id), 1, 1, AccountFlags::default()));
    let create = RequestBody::CreateAccounts(Rows::from_slice(&accounts));
    machine.results(&create, random);
    let mut sent = 0;
    let mut send = |machine: &mut Machine, random: &mut Prng| {
        machine.now_ns += 5 * MS;
        let ms = (WALL_NS + machine.now_ns) / MS;
        machine.results(&aged_transfers(ms, sent, 10), random);
        sent += 10;
        TransferId(u128::from(ms) << 80 | u128::from(sent - 1))
    };
    for reads in 0..4 {
        for is_chain in [false, true] {
            for is_fed_late in [false, true] {
                let id = send(&mut machine, random);
                let position = machine.replica.ledger().history().next_position().0 - 1;
                while held(&machine).1 + held(&machine).0 <= position {
                    send(&mut machine, random);
                }
                let coordinator = ShardId(0);
                let mut question = match is_chain {
                    false => Question::new(1, vec![RecordName { coordinator, id }], Vec::new()),
                    true => Question::chain(
                        1,
                        ChainQuestion {
                            account: AccountId(1),
                            from: HistoryPosition(position),
                            rows_max: 2,
                        },
                    ),
                };
                for _ in 0..reads {
                    let (store, index) = (machine.keeper.store(), machine.keeper.index());
                    if let Wanted::Blocks(run) = question.wanted(store, index) {
                        let bytes = machine.files.blocks(run);
                        question.feed(store, &bytes).expect("as written");
                    }
                }
                let wanted = question.wanted(machine.keeper.store(), machine.keeper.index());
                let late = match wanted {
                    Wanted::Blocks(run) if is_fed_late => Some(machine.files.blocks(run)),
                    _ => None,
                };
                while held(&machine).1 <= position {
                    send(&mut machine, random);
                }
                if let Some(bytes) = late {
                    let fed = question.feed(machine.keeper.store(), &bytes);
                    fed.expect("what is dropped is not damaged");
                }
                let (store, index) = (machine.keeper.store(), machine.keeper.index());
                assert_eq!(question.wanted(store, index), Wanted::Nothing);
            }
        }
    }
}
