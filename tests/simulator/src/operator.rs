//! The operator: moves accounts by plans, hands leadership over, takes cuts, and dies in between.
//!
//! The tool that moves accounts keeps nothing (`engine/client/src/reshard/mod.rs`): it works off the
//! batches of its plan, one per source at a time, each under an id of its own. When it dies, a new one
//! starts the same plan from the beginning, with new ids, while moves of its predecessor may still
//! be under way.

use std::collections::VecDeque;

use quorate_protocol::client::MoveAnswer;
use quorate_protocol::ids::{AccountId, MoveId, ReplicaId, ShardId};
use quorate_protocol::time::{MS, SECOND, Timestamp};

use crate::client::ClientEffect;
use crate::documents;
use crate::faults::Fault;
use crate::history::{CutUse, MoveUse};
use crate::job::{Job, Want};
use crate::plots::{astray, late_move};
use crate::world::{Actor, Event, World};

/// How often the operator looks at its work.
const TICK_NS: u64 = 10 * MS;

/// Accounts that are to go together.
#[derive(Clone, Debug)]
struct Batch {
    source: ShardId,
    target: ShardId,
    accounts: Vec<AccountId>,
}

/// The move tool with its plan.
#[derive(Debug, Default)]
pub struct MoveTool {
    plan: Vec<Batch>,
    /// Batches that this life of the tool has not tried yet.
    left: VecDeque<Batch>,
    /// Moves that it waits for, as indices into the history.
    open: Vec<usize>,
    /// Dead until then.
    down_until_ns: u64,
    /// Dies as soon as it has a move under way.
    is_doomed: bool,
    /// Begins no batch before.
    waits_until_ns: u64,
}

impl MoveTool {
    /// Whether nothing is left to be done.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.left.is_empty() && self.open.is_empty()
    }
}

/// The operator thinks of something, and looks at what is under way.
pub fn operate(world: &mut World) {
    let operator = world.parameters.clients;
    let now_ns = world.now_ns();
    if now_ns >= world.tool.down_until_ns {
        let intervals = [
            world.parameters.workload.move_ns,
            world.parameters.workload.lead_ns,
            world.parameters.workload.cut_ns,
        ];
        use_documents(world);
        for (kind, mean_ns) in intervals.into_iter().enumerate() {
            if mean_ns == 0 {
                continue;
            }
            let ppm = (TICK_NS * 1_000_000 / mean_ns).min(1_000_000);
            let ppm = u32::try_from(ppm).expect("capped");
            if !world.actors[operator].stream.chance(ppm) {
                continue;
            }
            match kind {
                0 => begin_plan(world),
                1 => hand_over(world),
                _ => begin_cut(world),
            }
        }
        finish_cuts(world);
        work_off(world);
    }
    let at_ns = now_ns + TICK_NS;
    world.queue.push(at_ns, Event::Think { client: operator });
    world.wake(operator);
    let has_sent = |number: &usize| world.history.moves[*number].started_ns.is_some();
    if world.tool.is_doomed && world.tool.open.iter().any(has_sent) {
        perish(world);
    }
}

/// By chance of its own: in seeds without documents nothing else is drawn otherwise for them.
fn use_documents(world: &mut World) {
    let mean_ns = world.parameters.workload.document_ns;
    if mean_ns == 0 {
        return;
    }
    let ppm = (TICK_NS * 1_000_000 / mean_ns).min(1_000_000);
    let ppm = u32::try_from(ppm).expect("capped");
    while world.document_stream.chance(ppm.min(900_000)) {
        documents::use_one(world);
    }
}

/// The operator dies now, or as soon as it has a move under way.
pub fn die(world: &mut World) {
    let waits = world.tool.open.is_empty();
    if waits && world.fault_stream(Fault::OperatorDeath).chance(600_000) {
        world.tool.is_doomed = true;
    } else {
        perish(world);
    }
}

fn perish(world: &mut World) {
    let now_ns = world.now_ns();
    world.faults.add("operator_died");
    if !world.tool.open.is_empty() {
        world.faults.add("operator_died_in_move");
    }
    world.trace.line(now_ns, || "the operator dies".to_owned());
    let operator = world.parameters.clients;
    let closed = world.actors[operator].client.die();
    for effect in closed {
        let ClientEffect::Close { to, connection } = effect else {
            continue;
        };
        // A process that dies has its connections closed; a machine that dies says nothing.
        let stream = world.fault_stream(Fault::OperatorDeath);
        if stream.chance(700_000) {
            let delay_ns = stream.exponential(5 * MS);
            world.close_later(to, connection, delay_ns);
        }
    }
    let down_ns = world.fault_stream(Fault::OperatorDeath).below(SECOND);
    let tool = &mut world.tool;
    tool.left = tool.plan.iter().cloned().collect();
    tool.open.clear();
    tool.is_doomed = false;
    tool.down_until_ns = now_ns + down_ns;
}

/// Looks at the answers to moves and sends the next batch of every source that has none under way.
pub fn work_off(world: &mut World) {
    let operator = world.parameters.clients;
    for number in std::mem::take(&mut world.tool.open) {
        let client = &mut world.actors[operator].client;
        let waits = client.jobs().any(|job| job.want == Want::Move(number));
        if waits {
            world.tool.open.push(number);
            continue;
        }
        late_move::release(world, number);
        astray::on_moved(world, number);
        let client = &mut world.actors[operator].client;
        // Whoever is not there any more has arrived before, or the plan is out of date.
        if let Some(MoveAnswer::NotOwned { account, .. }) = client.move_answers.remove(&number) {
            let one = &world.history.moves[number];
            let accounts = one.accounts.iter().copied();
            let rest: Vec<AccountId> = accounts.filter(|id| *id != account).collect();
            if !rest.is_empty() {
                world.tool.left.push_front(Batch {
                    source: one.source,
                    target: one.target,
                    accounts: rest,
                });
            }
        }
    }
    if world.now_ns() < world.tool.waits_until_ns {
        return;
    }
    for source in (1..=world.parameters.shards).map(ShardId) {
        let busy = |number: &usize| world.history.moves[*number].source == source;
        if world.tool.open.iter().any(busy) {
            continue;
        }
        let next = world.tool.left.iter().position(|b| b.source == source);
        if let Some(batch) = next.and_then(|at| world.tool.left.remove(at)) {
            start(world, batch);
        }
    }
}

fn start(world: &mut World, batch: Batch) {
    let actor = &mut world.actors[world.parameters.clients];
    let number = world.history.moves.len();
    world.history.moves.push(MoveUse {
        id: MoveId(actor.stream.bits_128() | 1),
        source: batch.source,
        target: batch.target,
        accounts: batch.accounts,
        started_ns: None,
        moved: None,
        answered_ns: None,
    });
    let job = Job::new(Want::Move(number), batch.source);
    actor.client.submit(job);
    world.tool.open.push(number);
}

/// Draws a plan, unless one is being worked off.
fn begin_plan(world: &mut World) {
    if !world.tool.is_idle() {
        return;
    }
    let mut plan = way_back(world);
    if plan.is_empty() {
        let batches_max = world.parameters.workload.plan_batches_max;
        let batches = world.actors[world.parameters.clients]
            .stream
            .between(1, batches_max);
        plan = (0..batches).map(|_| draw_batch(world)).collect();
    }
    if let Some(delay_ns) = astray::begin(world, plan[0].source, plan[0].accounts[0]) {
        world.tool.waits_until_ns = world.now_ns() + delay_ns;
    }
    world.tool.left = plan.iter().cloned().collect();
    world.tool.plan = plan;
}

/// The last plan backwards, now and then: accounts are where they were before, under later epochs.
fn way_back(world: &mut World) -> Vec<Batch> {
    let ppm = world.parameters.workload.move_back_ppm;
    if ppm == 0 || !world.plots.stream.chance(ppm) {
        return Vec::new();
    }
    let operator = &world.actors[world.parameters.clients].client;
    let arrived = |batch: &&Batch| {
        let mut accounts = batch.accounts.iter();
        accounts.all(|account| operator.location(*account) == batch.target)
    };
    let arrived = world.tool.plan.iter().filter(arrived);
    arrived
        .map(|batch| Batch {
            source: batch.target,
            target: batch.source,
            accounts: batch.accounts.clone(),
        })
        .collect()
}

fn draw_batch(world: &mut World) -> Batch {
    let shards = u64::from(world.parameters.shards);
    let actor = &mut world.actors[world.parameters.clients];
    let count = actor
        .stream
        .between(1, world.parameters.workload.move_accounts_max);
    let first = world.workload.some_account(&mut actor.stream).id;
    let source = actor.client.location(first);
    let mut accounts = vec![first];
    for _ in 1..count {
        let account = world.workload.some_account(&mut actor.stream).id;
        if actor.client.location(account) == source && !accounts.contains(&account) {
            accounts.push(account);
        }
    }
    let away = 1 + actor.stream.below(shards - 1);
    let target = (u64::from(source.0) - 1 + away) % shards + 1;
    Batch {
        source,
        target: ShardId(u32::try_from(target).expect("a few shards")),
        accounts,
    }
}

fn hand_over(world: &mut World) {
    let operator = &mut world.actors[world.parameters.clients];
    let shard = ShardId(1 + below(operator, world.parameters.shards));
    let replica = 1 + below(operator, u32::from(world.parameters.replicas));
    let replica = ReplicaId(u8::try_from(replica).expect("a few replicas"));
    operator.client.submit(Job::new(Want::Lead(replica), shard));
}

fn below(actor: &mut Actor, end: u32) -> u32 {
    u32::try_from(actor.stream.below(u64::from(end))).expect("below a u32")
}

fn begin_cut(world: &mut World) {
    let now_ns = world.queue.now_ns();
    let operator = &mut world.actors[world.parameters.clients];
    let wall_ns = operator.clock.now(now_ns).wall_ns;
    let ahead_ns = operator.stream.between(100, 1_500) * MS;
    let at = Timestamp(wall_ns.max(operator.client.seen().0) + ahead_ns);
    let cut = world.history.cuts.len();
    world.history.cuts.push(CutUse {
        at,
        started_ns: now_ns,
        answered_ns: None,
        sums: Vec::new(),
    });
    for shard in 1..=world.parameters.shards {
        let job = Job::new(Want::CutRegister(cut), ShardId(shard));
        operator.client.submit(job);
    }
}

/// Asks for the sums of cuts that all shards have registered.
pub fn finish_cuts(world: &mut World) {
    let shards = world.parameters.shard_count();
    let operator = &mut world.actors[world.parameters.clients].client;
    let registered: Vec<usize> = operator
        .cuts_registered
        .iter()
        .filter(|(_, count)| **count == shards)
        .map(|(cut, _)| *cut)
        .collect();
    for cut in registered {
        operator.cuts_registered.remove(&cut);
        for shard in 1..=world.parameters.shards {
            operator.submit(Job::new(Want::CutSums(cut), ShardId(shard)));
        }
    }
}
