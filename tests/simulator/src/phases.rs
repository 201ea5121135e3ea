//! The phases of a run: work under faults, healing, answers, rest, audit; and what clients think of.

use std::collections::BTreeMap;

use quorate_protocol::client::MapPlace;
use quorate_protocol::ids::{AccountId, ShardId, Slot};
use quorate_protocol::ledger::state::Ledger;
use quorate_protocol::time::{MS, SECOND, Timestamp};

use crate::checkers::model::Gone;
use crate::checkers::model::rules::Rules;
use crate::checkers::routes::ShardMap;
use crate::checkers::{FinalState, check_all};
use crate::faults;
use crate::history::HistoryUse;
use crate::job::{Job, Want};
use crate::operator;
use crate::outcome::Outcome;
use crate::parameters::Parameters;
use crate::trace::Trace;
use crate::world::{Event, World};

/// How often the phases are looked after.
const WATCH_NS: u64 = 20 * MS;
/// Clients start transfers when all accounts are created, or this late.
const CREATION_NS: u64 = 6 * SECOND;
/// A reader reads often: a stale value can be seen only while two replicas believe to lead.
const READER_THINK_NS: u64 = 10 * MS;
/// Faults may keep the clients from their work; this many times the planned duration is enough.
const OVERTIME_FACTOR: u64 = 4;
/// Bound of each phase after healing.
const LIVENESS_NS: u64 = 60 * SECOND;
/// Rows per page of a history that is audited: some turn pages.
const AUDIT_LIMIT: u32 = 50;

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Faults,
    /// Every request is answered.
    Answers {
        since_ns: u64,
    },
    /// All replicas apply everything.
    Rest {
        since_ns: u64,
    },
    /// Accounts are listed.
    Listing {
        since_ns: u64,
    },
    /// Accounts and records are read.
    Reading {
        since_ns: u64,
    },
    Done,
}

/// Runs a seed's world to its end.
#[must_use]
pub fn run(parameters: Parameters, trace: Trace) -> Outcome {
    Outcome::new(play(parameters, trace))
}

/// The world of a seed at its end, judged.
pub(crate) fn play(parameters: Parameters, trace: Trace) -> World {
    let mut world = World::new(parameters, trace);
    while world.phase != Phase::Done && world.violations.is_empty() && world.advance() {}
    if world.violations.is_empty() {
        judge(&mut world);
    }
    world
}

/// A client's next operation, and the time of the one after it.
pub fn think(world: &mut World, client: usize) {
    if world.healed {
        return;
    }
    let clients = world.parameters.clients;
    if client == clients {
        operator::operate(world);
        return;
    }
    if world.history.creations.is_empty() {
        create_accounts(world);
    }
    let ready =
        world.now_ns() > CREATION_NS || world.history.creations.iter().all(|c| c.answer.is_some());
    let settings = &world.parameters.workload;
    let batch = usize::try_from(settings.batch_max).expect("small");
    let actor = &mut world.actors[client];
    if ready
        && !world.workload.is_exhausted()
        && actor.client.jobs_open() < settings.open_max * batch
    {
        let wall_ns = actor.clock.now(world.queue.now_ns()).wall_ns;
        let times = (wall_ns, actor.client.seen());
        let stream = &mut actor.stream;
        let workload = &mut world.workload;
        let wants = workload.operation(client, stream, times, &mut world.history);
        submit_all(world, client, &wants);
    }
    let actor = &mut world.actors[client];
    let settings = &world.parameters.workload;
    let think_ns = if client == 0 && settings.reader {
        READER_THINK_NS
    } else {
        settings.think_ns
    };
    let pause_ns = actor.stream.exponential(think_ns);
    let at_ns = world.queue.now_ns() + pause_ns;
    world.queue.push(at_ns, Event::Think { client });
    world.wake(client);
}

fn create_accounts(world: &mut World) {
    let clients = world.parameters.clients;
    for client in 0..clients {
        let stream = &mut world.actors[client].stream;
        let wants = world
            .workload
            .creations(client, clients, stream, &mut world.history);
        submit_all(world, client, &wants);
        world.wake(client);
    }
}

fn submit_all(world: &mut World, client: usize, wants: &[Want]) {
    let parameters = &world.parameters;
    let actor = &mut world.actors[client];
    for &want in wants {
        let shard = match want {
            Want::Create(number) => {
                let id = world.history.creations[number].account.id;
                parameters.placement.home(id, parameters.shards)
            }
            Want::Transfer(number) => {
                let transfer = &world.history.transfers[number].transfer;
                actor.client.location(transfer.debit_account_id)
            }
            Want::History(number) => {
                let account = world.history.histories[number].account;
                actor.client.location(account)
            }
            Want::Read(number) => actor.client.location(world.history.reads[number].account),
            _ => unreachable!("the workload makes no other wants"),
        };
        actor.client.submit(Job::new(want, shard));
    }
}

/// Looks whether the present phase is over, or has lasted too long.
pub fn watch(world: &mut World) {
    let now_ns = world.now_ns();
    let idle = world.actors.iter().all(|a| a.client.jobs_open() == 0);
    let next = match world.phase {
        Phase::Faults => {
            let exhausted = world.workload.is_exhausted();
            let duration_ns = world.parameters.duration_ns;
            let over = exhausted && (idle || now_ns >= duration_ns)
                || now_ns >= duration_ns * OVERTIME_FACTOR;
            over.then(|| {
                faults::heal(world);
                Phase::Answers { since_ns: now_ns }
            })
        }
        Phase::Answers { since_ns } => {
            operator::finish_cuts(world);
            operator::work_off(world);
            wake_all(world);
            (idle && world.tool.is_idle())
                .then_some(Phase::Rest { since_ns: now_ns })
                .or_else(|| too_long(world, since_ns, "requests without an answer"))
        }
        Phase::Rest { since_ns } => match unrest(world) {
            None => {
                begin_listing(world);
                Some(Phase::Listing { since_ns: now_ns })
            }
            Some(problem) => too_long(world, since_ns, &problem),
        },
        Phase::Listing { since_ns } => {
            if idle {
                begin_reading(world);
                Some(Phase::Reading { since_ns: now_ns })
            } else {
                too_long(world, since_ns, "the audit lists accounts")
            }
        }
        Phase::Reading { since_ns } if !idle => too_long(world, since_ns, "the audit reads"),
        // A copy of a message may have come seconds late, and with it something new to be decided.
        Phase::Reading { since_ns } => match unrest(world) {
            None => Some(Phase::Done),
            Some(problem) => too_long(world, since_ns, &problem),
        },
        Phase::Done => None,
    };
    if let Some(phase) = next {
        world.trace.line(now_ns, || format!("phase {phase:?}"));
        world.phase = phase;
    }
    world.queue.push(now_ns + WATCH_NS, Event::Watch);
}

fn wake_all(world: &mut World) {
    for client in 0..world.actors.len() {
        world.wake(client);
    }
}

fn too_long(world: &mut World, since_ns: u64, problem: &str) -> Option<Phase> {
    if world.now_ns() - since_ns < LIVENESS_NS {
        return None;
    }
    let jobs: Vec<String> = world
        .actors
        .iter()
        .flat_map(|actor| actor.client.jobs())
        .take(5)
        .map(|job| format!("{job:?}"))
        .collect();
    let replicas: Vec<String> = world
        .processes
        .iter()
        .filter_map(|process| process.status())
        .map(|s| {
            format!(
                "s{}r{} {} {} chosen {} applied {} in doubt {}",
                s.shard,
                s.replica,
                s.role.name(),
                s.ballot,
                s.chosen_upto,
                s.applied_upto,
                s.in_doubt
            )
        })
        .collect();
    let text = format!("{problem} after healing; jobs {jobs:?}; replicas {replicas:?}");
    world.violate("liveness", text);
    None
}

/// Why the cluster is not at rest; `None` if every replica has applied the same.
fn unrest(world: &mut World) -> Option<String> {
    let replicas = usize::from(world.parameters.replicas);
    for group in world.processes.chunks(replicas) {
        let mut reached: Option<Slot> = None;
        let mut is_led = false;
        for process in group {
            // Corrupt or lost: nobody waits for it.
            if process.is_parked() && process.health().is_harmed() {
                continue;
            }
            let Some(status) = process.status() else {
                return Some(format!("{} is down", process.address()));
            };
            if process.is_rejoining() {
                return Some(format!("{} is no voter yet", process.address()));
            }
            if status.in_doubt > 0 {
                return Some(format!("{} has transactions in doubt", process.address()));
            }
            let kept = process.ledger().and_then(|ledger| {
                let mut stubs = ledger.stubs();
                stubs.find(|&(account, _)| !ledger.is_home(account))
            });
            if let Some((account, _)) = kept {
                let address = process.address();
                return Some(format!("{address} keeps a stub of {account}"));
            }
            is_led |= status.serving;
            if let Some(place) = process.rotten_block() {
                return Some(format!(
                    "{place:?} of {} is not repaired",
                    process.address()
                ));
            }
            let slot = *reached.get_or_insert(status.applied_upto);
            if slot != status.applied_upto || slot != status.chosen_upto {
                return Some(format!("{} is behind or ahead", process.address()));
            }
        }
        // Entries above everybody's watermark may have been chosen by a leader that died: only its
        // successor finds them.
        if reached.is_some() && !is_led {
            return Some(format!("nobody leads the group of {}", group[0].address()));
        }
    }
    for index in 0..world.processes.len() {
        let process = &world.processes[index];
        let Some((slot, digest)) = process.digest() else {
            continue;
        };
        let address = process.address();
        if let Err(violation) = world.agreement.digest(address, slot, digest) {
            world.violate(violation.checker, violation.text);
        }
    }
    None
}

fn begin_listing(world: &mut World) {
    let operator = &mut world.actors[world.parameters.clients].client;
    for shard in 1..=world.parameters.shards {
        operator.submit(Job::new(Want::List(AccountId(0)), ShardId(shard)));
        operator.submit(Job::new(Want::Changes(MapPlace::default()), ShardId(shard)));
    }
    wake_all(world);
}

fn begin_reading(world: &mut World) {
    let operator = &mut world.actors[world.parameters.clients].client;
    for (shard, account) in operator.audit.listed.clone() {
        operator.submit(Job::new(Want::Inspect(account), shard));
    }
    for (shard, account) in operator.audit.listed.clone() {
        world.history.histories.push(HistoryUse {
            account,
            first: Timestamp::ZERO,
            last: Timestamp(u64::MAX),
            passed: Timestamp::ZERO,
            limit: AUDIT_LIMIT,
            pages_left: u32::MAX,
            is_audit: true,
            head: None,
            parts: Vec::new(),
        });
        let number = world.history.histories.len() - 1;
        operator.submit(Job::new(Want::History(number), shard));
    }
    for id in world.history.transfer_ids() {
        for shard in 1..=world.parameters.shards {
            operator.submit(Job::new(Want::Records(id), ShardId(shard)));
        }
    }
    wake_all(world);
}

/// What the most advanced replica of each shard holds of where its accounts went.
fn maps(world: &World) -> BTreeMap<ShardId, ShardMap> {
    let running = world.processes.iter().filter_map(|process| {
        let ledger = process.ledger()?;
        Some((process.address().shard, ledger))
    });
    let mut foremost: BTreeMap<ShardId, &Ledger> = BTreeMap::new();
    for (shard, ledger) in running {
        let known = foremost.entry(shard).or_insert(ledger);
        if known.applied() < ledger.applied() {
            *known = ledger;
        }
    }
    let map = |ledger: &Ledger| ShardMap {
        epoch: ledger.map_epoch(),
        stubs: ledger
            .stubs()
            .map(|(account, stub)| {
                let gone = Gone {
                    to: stub.shard,
                    ownership_epoch: stub.ownership_epoch,
                    changed: stub.changed,
                };
                (account, gone)
            })
            .collect(),
    };
    foremost
        .into_iter()
        .map(|(shard, ledger)| (shard, map(ledger)))
        .collect()
}

fn judge(world: &mut World) {
    let holes: Vec<_> = world.agreement.holes().collect();
    for (shard, slot) in holes {
        world.violate(
            "agreement",
            format!("nobody was seen to apply slot {slot} of shard {shard}"),
        );
    }
    let shards = world.parameters.shard_count();
    world.history.cuts.retain(|cut| cut.sums.len() == shards);
    for client in 0..world.actors.len() {
        for problem in std::mem::take(&mut world.actors[client].client.audit.problems) {
            world.violate("client", problem);
        }
    }
    let audit = std::mem::take(&mut world.actors[world.parameters.clients].client.audit);
    let state = FinalState {
        accounts: audit.accounts,
        records: audit.records,
        logs: world.agreement.logs(),
        maps: maps(world),
        told: audit.told,
        rules: Rules {
            shards: world.parameters.shards,
            placement: world.parameters.placement,
            ids: world.parameters.ids,
            keep_ns: world.parameters.keep_ns,
        },
    };
    let violations = check_all(&world.history, &state);
    world.violations.extend(violations);
    world.final_state = state;
}
