//! The seeds of every day with checkpoints: the store beside the log, the log released behind it, and
//! replicas that were away for so long that only a checkpoint of their group helps them.
//!
//! The runtime takes no checkpoints yet, so the ordinary draws have none either; here the same worlds get
//! them. All checkers judge as ever.

#![forbid(unsafe_code)]

use quorate_protocol::time::SECOND;
use quorate_simulator::parameters::Parameters;
use quorate_simulator::phases;
use quorate_simulator::runner::{SeedResult, Summary};
use quorate_simulator::trace::Trace;

/// Half a minute of them.
const SEEDS: std::ops::Range<u64> = 0..24;

#[test]
fn clusters_with_checkpoints_survive_the_usual_faults() {
    let mut summary = Summary::default();
    for seed in SEEDS {
        let mut parameters = Parameters::draw(seed);
        parameters.checkpoint_weight = Some([100_000, 300_000][usize::from(seed % 2 == 0)]);
        // Nothing that is applied stays in memory: whoever is behind is served from the log, or not at all.
        parameters.tail_bytes_max = 0;
        // Of most accounts, only the store knows the balances.
        parameters.accounts_in_memory_max =
            [0, 8, 64][usize::try_from(seed % 3).expect("below three")];
        parameters.intervals.left_behind_ns = 6 * SECOND;
        let result = SeedResult::Finished(Box::new(phases::run(parameters, Trace::default())));
        assert!(
            result.problems().is_empty(),
            "{seed}: {:?}",
            result.problems()
        );
        summary.add(&result);
    }
    let counts = &summary.to_json()["rare_events"];
    for name in [
        "checkpoint_published",
        "start_from_checkpoint",
        "history_read_from_disk",
        "replica_rebuilt",
    ] {
        assert!(counts[name].as_u64() > Some(0), "{name}: {counts}");
    }
}
