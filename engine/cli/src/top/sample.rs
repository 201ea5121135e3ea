//! What one poll has found. Values only: who collects them is `poll`, who understands them `model`.
//!
//! Times are since the start of the program; only differences of them mean anything.

use std::time::Duration;

use quorate_client::reshard::record::Record;
use quorate_protocol::client::Status;

/// One look at everything.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When the last answer was there, or given up.
    pub at: Duration,
    /// One per replica, in the order of the topology.
    pub answers: Vec<Answer>,
    /// The plan of now or the last one, or why that is not known.
    pub plan: Result<Option<Record>, String>,
    /// Of every CPU of this host; empty where the kernel does not tell.
    pub cores: Vec<CoreTicks>,
}

/// What one replica said of itself, or why it said nothing.
#[derive(Clone, Debug)]
pub struct Answer {
    /// When it was there: counters are compared with those of the answer before.
    pub at: Duration,
    pub status: Result<Status, String>,
}

/// What a CPU has done since the host's start, in ticks of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreTicks {
    pub core: usize,
    pub busy: u64,
    pub total: u64,
}

/// Reads `/proc/stat`: a line `cpu3 user nice system idle iowait irq softirq steal guest guest_nice`
/// per CPU. Guests are in `user` already. Lines of another shape are left out.
#[must_use]
pub fn parse_cores(text: &str) -> Vec<CoreTicks> {
    text.lines().filter_map(core_ticks).collect()
}

fn core_ticks(line: &str) -> Option<CoreTicks> {
    let mut words = line.split_ascii_whitespace();
    // The sum of all CPUs has no number.
    let core = words.next()?.strip_prefix("cpu")?.parse().ok()?;
    let ticks: Vec<u64> = words.take(8).map_while(|word| word.parse().ok()).collect();
    let &[user, nice, system, idle, iowait, ref rest @ ..] = &ticks[..] else {
        return None;
    };
    let busy = user + nice + system + rest.iter().sum::<u64>();
    Some(CoreTicks {
        core,
        busy,
        total: busy + idle + iowait,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ticks_of_every_cpu_are_read_and_nothing_else() {
        let text = "cpu  30 0 30 340 20 0 0 0 9 0\n\
                    cpu0 10 1 20 150 15 2 3 4 9 0\n\
                    cpu11 20 0 10 190 5\n\
                    cpu12 20 0 x\n\
                    intr 17 0 0\n";
        let expected = [(0, 40, 205), (11, 30, 225)];
        let expected = expected.map(|(core, busy, total)| CoreTicks { core, busy, total });
        assert_eq!(parse_cores(text), expected);
        assert_eq!(parse_cores(""), []);
    }
}
