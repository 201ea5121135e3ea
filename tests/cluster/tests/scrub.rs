//! Blocks of the store that rot while a replica is down: found without being asked for, and repaired from
//! peers, to the byte.

#![forbid(unsafe_code)]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use quorate_cluster_tests::{Cluster, Load, Shape, patience, until};

const BLOCK: u64 = 4096;
const SOUND_WITHIN: Duration = Duration::from_secs(5);
const REPAIRED_WITHIN: Duration = Duration::from_secs(10);

const LOAD: [&str; 8] = [
    "--workload",
    "uniform",
    "--accounts",
    "3000",
    "--clients",
    "2",
    "--batch",
    "200",
];

/// The smallest checkpoints there are, and few accounts in memory.
fn small(text: String) -> String {
    let settings = "checkpoint_bytes = 1048576\ncached_accounts = 500";
    let text = text.replacen("keep = ", &format!("{settings}\nkeep = "), 1);
    text.replacen("segment_bytes = 67108864", "segment_bytes = 2097152", 1)
}

fn directory_of(cluster: &Cluster, node: u64) -> PathBuf {
    let nodes = cluster.directory().join("nodes");
    nodes.join(format!("n{node}/s1r{node}"))
}

/// Files of accounts and of history, by name.
fn data_files(cluster: &Cluster, node: u64) -> Vec<PathBuf> {
    let found = fs::read_dir(directory_of(cluster, node)).expect("a directory");
    let files = found.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = files
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("accounts-") || name.starts_with("history-")
        })
        .collect();
    files.sort();
    files
}

/// Turns one bit of the first block of every file, and of its third one: rows, which no start reads.
fn rot(files: &[PathBuf]) -> u64 {
    let mut turned = 0;
    for path in files {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.expect("a data file");
        let blocks = file.metadata().expect("its size").len() / BLOCK;
        for block in [0, 2].into_iter().filter(|block| block + 8 < blocks) {
            let (at, mut byte) = (block * BLOCK + 100, [0]);
            file.read_exact_at(&mut byte, at).expect("a byte");
            file.write_all_at(&[byte[0] ^ 4], at).expect("a byte");
            turned += 1;
        }
        file.sync_all().expect("synced");
    }
    turned
}

#[test]
fn blocks_that_rotted_are_repaired_from_peers() {
    let shape = Shape {
        shards: 1,
        replicas: 3,
        nodes: 3,
    };
    let cluster = Cluster::init_with("scrub", shape, small);
    cluster.start_nodes();
    let report = Load::start(&cluster, "load", 2, &LOAD).finish();
    assert_eq!(report.code, Some(0), "{}", report.run);
    cluster.assert_sound(patience(SOUND_WITHIN));
    let leader = until(patience(SOUND_WITHIN), "leader", || cluster.leader_node(1)).0;
    let harmed = 1 + leader % 3;
    cluster.act("stop", harmed);
    let files = data_files(&cluster, harmed);
    let turned = rot(&files);
    assert!(turned > 2, "{files:?}");
    cluster.start_nodes();

    // Files of the checkpoint before the newest one are rotten as well, and nobody reads them.
    let (logs, _) = until(patience(REPAIRED_WITHIN), "round with repairs", || {
        let logs = logs_of(&cluster);
        let found = logs.lines().any(|line| {
            line.contains("store scrubbed") && number_in(line, "damaged=").is_some_and(|it| it > 2)
        });
        found.then_some(logs)
    });
    for line in logs.lines().filter(|line| line.contains("store scrubbed")) {
        let (damaged, repaired) = (number_in(line, "damaged="), number_in(line, "repaired="));
        assert_eq!(damaged, repaired, "{line}");
    }
    assert!(!logs.contains("takes a checkpoint of its group"), "{logs}");
    cluster.assert_sound(patience(SOUND_WITHIN));
    report.assert_nothing_lost(&cluster);
    // To the byte: with a whole copy nobody has to be asked any more.
    let mut compared = 0;
    for path in &files {
        let name = path.file_name().expect("a name").to_string_lossy();
        let is_repaired = |line: &str| line.contains("block repaired") && line.contains(&*name);
        if logs.lines().any(is_repaired) {
            let other = directory_of(&cluster, leader).join(&*name);
            let (own, theirs) = (fs::read(path), fs::read(other));
            assert!(own.expect("own") == theirs.expect("theirs"), "{name}");
            compared += 1;
        }
    }
    assert!(compared > 0, "{logs}");
}

/// The number behind a name in a line of the log.
fn number_in(line: &str, name: &str) -> Option<u64> {
    let (_, rest) = line.split_once(name)?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn logs_of(cluster: &Cluster) -> String {
    cluster.quorate(["cluster", "logs", "-n", "100000"]).stdout
}
