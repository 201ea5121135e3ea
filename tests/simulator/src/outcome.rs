//! What a run came to.

use quorate_protocol::ledger::ResultCode;

use crate::checkers::Violation;
use crate::counters::Counters;
use crate::parameters::Parameters;
use crate::world::World;

/// The result of one seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub parameters: Parameters,
    pub violations: Vec<Violation>,
    pub simulated_ns: u64,
    /// Transfers that moved money.
    pub committed: u64,
    /// Transfers that were sent, reuses included.
    pub sent: u64,
    pub reads: u64,
    pub events: u64,
    pub faults: Counters,
    pub rare_events: Counters,
    pub trace_hash: u64,
}

impl Outcome {
    /// Collects it from a world that has ended.
    #[must_use]
    pub fn new(world: World) -> Self {
        let mut faults = world.faults;
        faults.merge(&world.network.faults);
        for actor in &world.actors {
            faults.merge(&actor.client.faults);
        }
        for process in &world.processes {
            faults.merge(&process.disk().faults);
        }
        let count = |length: usize| u64::try_from(length).expect("lengths fit 64 bits");
        let mut rare = world.rare;
        rare.add_many("entry_fenced", count(world.agreement.fenced()));
        let ok = ResultCode::Ok as u16;
        let debits = world.final_state.records.iter();
        let committed = debits.filter(|(_, answer)| answer.debit.is_some_and(|d| d.code == ok));
        Self {
            violations: world.violations,
            simulated_ns: world.queue.now_ns(),
            committed: count(committed.count()),
            sent: count(
                world
                    .history
                    .transfers
                    .iter()
                    .filter(|transfer| transfer.started_ns.is_some())
                    .count(),
            ),
            reads: count(world.history.reads.len()),
            events: world.events,
            faults,
            rare_events: rare,
            trace_hash: world.trace.hash(),
            parameters: world.parameters,
        }
    }
}
