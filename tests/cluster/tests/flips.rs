//! One byte of one replica's files is another than was written, in any file: the replica starts and serves,
//! repairs itself from its group, or says what is wrong and is begun anew; nothing is lost, and no other
//! replica is harmed.

#![forbid(unsafe_code)]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use quorate_cluster_tests::{Cluster, Load, Shape, full, patience, until, with_small_checkpoints};
use quorate_protocol::prng::Prng;
use serde_json::Value;

const LOAD: [&str; 12] = [
    "--workload",
    "uniform",
    "--accounts",
    "3000",
    "--clients",
    "8",
    "--batch",
    "100",
    "--mode",
    "open",
    "--rate",
    "20000",
];
/// The node whose files are changed.
const HARMED: u64 = 3;
const SOUND_WITHIN: Duration = Duration::from_secs(5);
/// A replica begun anew, or repaired, has what its group has.
const BACK_WITHIN: Duration = Duration::from_secs(20);

fn directory(cluster: &Cluster) -> PathBuf {
    cluster.directory().join("nodes/n3/s1r3")
}

/// Changes a byte somewhere; each kind of file has the same chance, a place in the first blocks a good one.
fn flip(cluster: &Cluster, random: &mut Prng) -> String {
    let kinds = [
        "wal-",
        "superblock",
        "manifest-",
        "accounts-",
        "history-",
        "side-",
    ];
    let kind = kinds[usize::try_from(random.range(0, kinds.len() as u64)).expect("six")];
    let files = fs::read_dir(directory(cluster)).expect("the replica's directory");
    let mut files: Vec<PathBuf> = files
        .map(|entry| entry.expect("readable").path())
        .filter(|path| {
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            name.is_some_and(|name| name.starts_with(kind))
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no {kind} file");
    let path = &files[usize::try_from(random.range(0, files.len() as u64)).expect("a few")];
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.expect("it was listed");
    let length = file.metadata().expect("it is open").len();
    let end = match random.range(0, 2) {
        0 => length.min(16_384),
        _ => length,
    };
    let at = random.range(0, end);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("inside the file");
    byte[0] ^= 1 << random.range(0, 8);
    file.write_all_at(&byte, at).expect("inside the file");
    format!("{} at {at}", path.display())
}

fn row(cluster: &Cluster, node: u64) -> Option<Value> {
    let status = cluster.look(["status"]);
    let rows = status["replicas"].as_array()?;
    rows.iter().find(|row| row["node"] == node).cloned()
}

/// Whether the harmed replica follows, a few entries behind at most.
fn is_back(cluster: &Cluster) -> Option<()> {
    let (own, leader) = (row(cluster, HARMED)?, cluster.leader_node(1)?);
    let newest = row(cluster, leader)?["chosen_upto"].as_u64()?;
    let serves = own["role"] == "follower" || own["role"] == "leader";
    (serves && own["applied_upto"].as_u64()? + 64 >= newest).then_some(())
}

#[test]
fn a_byte_that_changed_in_any_file_harms_nothing() {
    let rounds = if full() { 100 } else { 4 };
    let cluster = Cluster::init_with("flips", Shape::GROUP, with_small_checkpoints);
    cluster.start_nodes();
    let mut random = Prng::new(23);
    let (mut begun_anew, mut served) = (0, 0);
    for round in 0..rounds {
        let load = Load::start(&cluster, &format!("round-{round}"), 2, &LOAD);
        let report = load.finish();
        cluster.act("kill", HARMED);
        let flipped = flip(&cluster, &mut random);
        let node = HARMED.to_string();
        let started = cluster.quorate(["cluster", "start", "--node", &node, "--wait", "60s"]);
        if started.code == Some(0) {
            served += 1;
        } else {
            // It says what it found, and takes part in nothing.
            assert!(
                matches!(started.code, Some(1 | 19)) && !started.stderr.is_empty(),
                "{flipped}: {started:?}"
            );
            eprintln!("round {round}: {flipped}: {}", started.stderr.trim());
            let _ = cluster.quorate(["cluster", "kill", "--node", &node]);
            fs::remove_dir_all(directory(&cluster)).expect("the directory is there");
            let again = [
                "cluster",
                "start",
                "--node",
                &node,
                "--recover",
                "--wait",
                "60s",
            ];
            let again = cluster.quorate(again);
            assert_eq!(
                again.code,
                Some(0),
                "{flipped}: {again:?}\n{}",
                cluster.logs()
            );
            begun_anew += 1;
        }
        until(
            patience(BACK_WITHIN),
            &format!("replica with {flipped}"),
            || is_back(&cluster),
        );
        for node in (1..=3).filter(|node| *node != HARMED) {
            let role = row(&cluster, node).map(|row| row["role"].clone());
            assert_ne!(role, Some(Value::from("stopped")), "{flipped}: node {node}");
        }
        cluster.assert_sound(patience(SOUND_WITHIN));
        report.assert_nothing_lost(&cluster);
    }
    eprintln!("{served} started with it, {begun_anew} were begun anew");
}

/// The story: an account was looked up in a file that ended before it. That counted as a file that was dropped
/// meanwhile, the same block was wanted again, and the replica read it for ever without a word: it applied nothing any
/// more, and as the leader it answered nothing.
#[test]
fn accounts_files_that_end_early_are_repaired_or_taken_anew() {
    let cluster = Cluster::init_with("ends", Shape::GROUP, with_small_checkpoints);
    cluster.start_nodes();
    let before = Load::start(&cluster, "before", 3, &LOAD).finish();
    for round in 0..3 {
        let files = fs::read_dir(directory(&cluster)).expect("the replica's directory");
        let files = files.map(|entry| entry.expect("readable").path());
        for path in files.filter(|path| path.to_string_lossy().contains("/accounts-")) {
            // The running replica may have dropped it since.
            if let Ok(file) = OpenOptions::new().write(true).open(path) {
                file.set_len(4096).expect("a disk that works");
            }
        }
        let during = Load::start(&cluster, &format!("during-{round}"), 3, &LOAD).finish();
        let what = format!("round {round}: replica with short files");
        until(patience(BACK_WITHIN), &what, || is_back(&cluster));
        cluster.assert_sound(patience(SOUND_WITHIN));
        during.assert_nothing_lost(&cluster);
    }
    before.assert_nothing_lost(&cluster);
}

/// The story: the first file that the executor opened was then one that the fetch had just created, and glommio
/// took the device for one that can be polled. The checkpoint came over, and the replica that should have gone on from
/// it could not read its own directory.
#[test]
fn a_replica_whose_store_lacks_a_file_takes_it_anew_and_goes_on() {
    let cluster = Cluster::init_with("lacks", Shape::GROUP, with_small_checkpoints);
    cluster.start_nodes();
    let report = Load::start(&cluster, "before", 3, &LOAD).finish();
    cluster.act("kill", HARMED);
    let files = fs::read_dir(directory(&cluster)).expect("the replica's directory");
    let files = files.map(|entry| entry.expect("readable").path());
    let history = files.filter(|path| path.to_string_lossy().contains("/history-"));
    // Not the newest: the checkpoint before would do without it.
    let oldest = history.min().expect("checkpoints were taken");
    fs::remove_file(&oldest).expect("it was listed");
    let node = HARMED.to_string();
    let started = cluster.quorate(["cluster", "start", "--node", &node, "--wait", "60s"]);
    assert_eq!(started.code, Some(0), "{started:?}");
    let what = format!("replica without {}", oldest.display());
    until(patience(BACK_WITHIN), &what, || is_back(&cluster));
    assert!(cluster.logs().contains("checkpoint taken"));
    cluster.assert_sound(patience(SOUND_WITHIN));
    report.assert_nothing_lost(&cluster);
}
