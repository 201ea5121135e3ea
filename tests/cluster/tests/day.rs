//! A day in short: a mixed load, and at random moments a node is killed, paused, cut off or restarted, or accounts move.
//!
//! ```text
//! cargo test -p quorate-cluster-tests --test day                        half a minute
//! cargo test -p quorate-cluster-tests --test day -- --hours 1 [--seed N]
//! ```
//! One node is disturbed at a time, so that every shard keeps a majority. After each disturbance the cluster is whole again
//! within its bound, and the money is checked; at the end nothing acknowledged is lost, nothing is in doubt, and neither
//! memory nor descriptors have grown with time. The figures are printed.

#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quorate_cluster_tests::{Cluster, Load, Shape, patience, until};

const NAME: &str = "a_day_of_disturbances_loses_nothing_and_leaks_nothing";
const SHORT: Duration = Duration::from_secs(30);
/// Whatever was done to one node of three.
const WHOLE_WITHIN: Duration = Duration::from_secs(20);
/// A segment of the load: its document and what it has acknowledged are looked at behind it.
const LOAD_MAX: Duration = Duration::from_secs(300);
/// Beyond what two intervals between checkpoints hold, memory has no reason to grow.
const GROWTH_MAX: f64 = 1.25;
/// Connections of tools come and go.
const FILES_MORE_MAX: u64 = 64;

/// What is done to one node, or with accounts.
#[derive(Clone, Copy, Debug)]
enum Disturbance {
    Kill,
    Pause,
    Isolate,
    Restart,
    Move,
}

const DISTURBANCES: [Disturbance; 5] = [
    Disturbance::Kill,
    Disturbance::Pause,
    Disturbance::Isolate,
    Disturbance::Restart,
    Disturbance::Move,
];

/// As typed behind `--`. What else the test runner passes on is for harnesses of its own kind.
#[derive(Debug)]
struct Options {
    length: Duration,
    seed: u64,
    lists: bool,
    runs: bool,
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut options = Self {
            length: SHORT,
            seed: now.map_or(1, |since| since.as_secs()),
            lists: false,
            runs: true,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} wants a value"));
            match &*word {
                "--hours" => {
                    let text = value()?;
                    let hours: f64 = text.parse().map_err(|error| format!("{text}: {error}"))?;
                    if !(0.001..=240.0).contains(&hours) {
                        return Err(format!("--hours {text}: not between 0.001 and 240"));
                    }
                    options.length = Duration::from_secs_f64(hours * 3600.0);
                }
                "--seed" => {
                    let text = value()?;
                    options.seed = text.parse().map_err(|error| format!("{text}: {error}"))?;
                }
                "--list" => options.lists = true,
                // Only the ignored tests are wanted, and this is none.
                "--ignored" => options.runs = false,
                // A filter: this test's name may contain it.
                filter if !filter.starts_with('-') => options.runs &= NAME.contains(filter),
                _ => {}
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    if options.lists {
        println!("{NAME}: test\n\n1 test, 0 benchmarks");
        return ExitCode::SUCCESS;
    }
    let tests = u8::from(options.runs);
    println!("\nrunning {tests} test");
    let begun = Instant::now();
    let is_well = !options.runs || catch_unwind(|| day(&options)).is_ok();
    let (verdict, passed) = if is_well {
        ("ok", tests)
    } else {
        ("FAILED", 0)
    };
    if options.runs {
        println!("test {NAME} ... {verdict}");
    }
    println!(
        "\ntest result: {verdict}. {passed} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        u8::from(!is_well),
        1 - tests,
        begun.elapsed().as_secs_f64()
    );
    // The code of the standard harness.
    if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(101)
    }
}

fn day(options: &Options) {
    println!("seed {}, {:?}", options.seed, options.length);
    let cluster = Cluster::start("day", Shape::USUAL);
    let end = Instant::now() + options.length;
    let mut dice = Dice(options.seed);
    let mut counts = [0_u64; DISTURBANCES.len()];
    let (mut committed, mut unknown, mut segments) = (0, 0, 0);
    let mut growth = Growth::default();
    while Instant::now() < end {
        let left = end.saturating_duration_since(Instant::now());
        let length = left.clamp(Duration::from_secs(15), LOAD_MAX);
        let name = format!("load-{segments}");
        let mut load = Load::start(&cluster, &name, length.as_secs(), &mix(&mut dice));
        load.wait_for_acks();
        let until_then = Instant::now() + length.saturating_sub(Duration::from_secs(5));
        while Instant::now() < until_then {
            let at = dice.below(DISTURBANCES.len());
            disturb(&cluster, DISTURBANCES[at], &mut dice);
            counts[at] += 1;
            cluster.assert_sound(patience(WHOLE_WITHIN));
            growth.look(&cluster);
            thread::sleep(Duration::from_millis(500 + dice.up_to(2_000)));
        }
        let report = load.finish();
        report.assert_nothing_lost(&cluster);
        committed += report.committed();
        unknown += report.run["unknown"].as_u64().unwrap_or(0);
        segments += 1;
        println!(
            "{segments} loads, {committed} committed, {unknown} unknown, {counts:?} of {DISTURBANCES:?}; {growth}"
        );
    }
    let before = SystemTime::now();
    cluster.assert_nothing_in_doubt(before, patience(WHOLE_WITHIN));
    let report = cluster.assert_sound(patience(WHOLE_WITHIN));
    println!("verify: {report}");
    assert!(committed > 0, "nothing was committed");
    growth.judge();
}

/// Each segment's own mix: who pays whom, how much across shards, how many at once.
fn mix(dice: &mut Dice) -> Vec<&'static str> {
    const MIXES: [&[&str]; 5] = [
        &[
            "--workload",
            "communities",
            "--clients",
            "8",
            "--batch",
            "20",
        ],
        &["--workload", "uniform", "--clients", "16", "--batch", "5"],
        &[
            "--workload",
            "zipf",
            "--theta",
            "0.9",
            "--clients",
            "8",
            "--batch",
            "10",
        ],
        &["--workload", "hot-set", "--clients", "4", "--batch", "50"],
        &["--workload", "smallbank", "--clients", "8", "--batch", "10"],
    ];
    let mut words = MIXES[dice.below(MIXES.len())].to_vec();
    words.extend(["--accounts", "3000"]);
    words
}

fn disturb(cluster: &Cluster, what: Disturbance, dice: &mut Dice) {
    let node = 1 + u64::try_from(dice.below(3)).expect("few");
    let moment = Duration::from_millis(200 + dice.up_to(4_000));
    match what {
        Disturbance::Kill => {
            cluster.act("kill", node);
            thread::sleep(moment);
            cluster.start_nodes();
        }
        Disturbance::Pause => {
            cluster.act("pause", node);
            thread::sleep(moment);
            cluster.act("resume", node);
        }
        Disturbance::Isolate => {
            cluster.act("isolate", node);
            thread::sleep(moment);
            cluster.act("heal", node);
        }
        Disturbance::Restart => {
            let done = cluster.quorate(["cluster", "restart", "--node", &node.to_string()]);
            assert_eq!(done.code, Some(0), "{done:?}");
        }
        Disturbance::Move => move_accounts(cluster),
    }
    until(patience(WHOLE_WITHIN), "every shard served", || {
        (1..=cluster.shards())
            .all(|shard| cluster.leader_node(shard).is_some())
            .then_some(())
    });
}

/// What the planner makes of the traffic so far, if it would pay; else what the last plan moved goes back.
fn move_accounts(cluster: &Cluster) {
    let applied = cluster.quorate(["reshard", "apply", "--rest", "1"]);
    match applied.code {
        Some(0) => {}
        // Refused: it would not pay; there is something to bring back, or there is not.
        Some(3) => {
            let undone = cluster.quorate(["reshard", "undo", "--rest", "1"]);
            assert!(matches!(undone.code, Some(0 | 2)), "{undone:?}");
        }
        _ => panic!("{applied:?}"),
    }
}

/// Memory and descriptors of all nodes together, over time.
#[derive(Debug, Default)]
struct Growth {
    looks: Vec<(u64, u64)>,
}

impl Growth {
    fn look(&mut self, cluster: &Cluster) {
        let nodes = (0..cluster.nodes()).map(|node| {
            let offset = u16::try_from(node * 100 + 90).expect("few nodes");
            let page = metrics(cluster.base_port() + offset);
            (
                value(&page, "process_resident_memory_bytes "),
                value(&page, "process_open_fds "),
            )
        });
        let sum = nodes.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        self.looks.push(sum);
    }

    /// The second and the last quarter: by then all tables have the size that they keep.
    fn judge(&self) {
        let quarter = self.looks.len() / 4;
        if quarter < 10 {
            println!("too few looks to judge growth by");
            return;
        }
        let most = |looks: &[(u64, u64)]| {
            let bytes = looks.iter().map(|look| look.0).max().unwrap_or(0);
            let files = looks.iter().map(|look| look.1).max().unwrap_or(0);
            (bytes, files)
        };
        let early = most(&self.looks[quarter..2 * quarter]);
        let late = most(&self.looks[3 * quarter..]);
        println!("second quarter {early:?}, last quarter {late:?} (bytes, descriptors)");
        let grown = mib(late.0) / mib(early.0);
        assert!(grown <= GROWTH_MAX, "memory grew by a factor of {grown:.2}");
        assert!(late.1 <= early.1 + FILES_MORE_MAX, "descriptors grew");
    }
}

impl std::fmt::Display for Growth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.looks.last() {
            None => f.write_str("not looked at"),
            Some((bytes, files)) => write!(f, "{:.0} MiB, {files} descriptors", mib(*bytes)),
        }
    }
}

fn mib(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) / 1024.0
}

fn metrics(port: u16) -> String {
    let (page, _) = until(patience(WHOLE_WITHIN), "metrics", || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        page.starts_with("HTTP/1.1 200").then_some(page)
    });
    page
}

fn value(page: &str, begins: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(begins));
    let line = line.unwrap_or_else(|| panic!("{begins} is not in\n{page}"));
    line.trim().parse().expect("a whole number")
}

/// splitmix64: a day that failed can be run again, as far as real processes allow.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn up_to(&mut self, most: u64) -> u64 {
        self.next() % (most + 1)
    }

    fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).expect("few");
        usize::try_from(self.next() % count).expect("few")
    }
}
