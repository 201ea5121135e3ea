//! The dashboard of a real cluster: what it prints for scripts, and that it gives a terminal back.

#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use quorate_cluster_tests::{Cluster, Shape, binaries, patience, until};
use serde_json::Value;

const ALTERNATE_SCREEN: &str = "\x1b[?1049h";
const MAIN_SCREEN: &str = "\x1b[?1049l";

/// `s1 r2 n3`, as the window of the shards begins its rows, of every shard.
fn leaders(cluster: &Cluster) -> Vec<String> {
    let status = cluster.json(["status"]);
    let replicas = status["replicas"].as_array().expect("replicas");
    let leads = |row: &&Value| row["role"] == "leader";
    let rows = replicas.iter().filter(leads);
    rows.map(|row| format!("s{} r{} n{}", row["shard"], row["replica"], row["node"]))
        .collect()
}

/// The words of a screen's lines, without frames.
fn lines(screen: &str) -> Vec<String> {
    let words = |line: &str| {
        let line: String = line.chars().filter(char::is_ascii).collect();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    screen.lines().map(words).collect()
}

#[test]
fn one_screen_shows_every_shard_with_its_leader_and_a_node_that_is_down() {
    let cluster = Cluster::start("top", Shape::USUAL);
    let once = ["top", "--once", "--size", "120x40"];
    // A leader may change between the two looks.
    until(
        patience(Duration::from_secs(10)),
        "screen that shows the leaders",
        || {
            let leaders = leaders(&cluster);
            let done = cluster.quorate_within(Duration::from_secs(20), once);
            assert_eq!(done.code, Some(0), "{done:?}");
            assert_eq!(done.stdout.lines().count(), 40, "{}", done.stdout);
            let lines = lines(&done.stdout);
            let is_shown = |it: &String| lines.iter().any(|line| line.starts_with(&**it));
            let are_shown = leaders.len() == 3 && leaders.iter().all(is_shown);
            let is_up = lines
                .iter()
                .any(|line| line.starts_with("nodes 3/3 up shards 3/3 serve"));
            (are_shown && is_up).then_some(())
        },
    );
    let small = cluster.quorate(["top", "--once", "--size", "40x10"]);
    assert_eq!(small.code, Some(0), "{small:?}");
    assert!(small.stdout.contains("needs 80x24"), "{}", small.stdout);

    cluster.act("kill", 3);
    let done = cluster.quorate_within(Duration::from_secs(20), once);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("nodes 2/3 up"), "{}", done.stdout);
    assert!(
        done.stdout.contains("never answered: n3"),
        "{}",
        done.stdout
    );

    cluster.kill_all();
    let done = cluster.quorate_within(Duration::from_secs(20), once);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stdout.contains("nodes 0/3 up"), "{}", done.stdout);
}

#[test]
fn without_a_terminal_it_points_to_what_scripts_use() {
    let cluster = Cluster::init_with("top-script", Shape::SINGLE, |text| text);
    let done = cluster.quorate(["top"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("quorate status"), "{}", done.stderr);
    assert_eq!(done.stdout, "");
    let done = cluster.quorate(["top", "--once", "--json"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    let done = cluster.quorate(["top", "--size", "80x24"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    let done = cluster.quorate(["top", "--once", "--interval", "1ms"]);
    assert_eq!(done.code, Some(2), "{done:?}");
}

/// Nobody has to answer for that: the cluster is not started.
#[test]
fn a_key_ends_it_and_the_terminal_is_as_before() {
    let cluster = Cluster::init_with("top-keys", Shape::SINGLE, |text| text);
    let quorate = binaries().quorate.display();
    let file = cluster.file().display();
    // `script` gives it a terminal; its own input is a pipe.
    let command =
        format!("stty cols 100 rows 30; '{quorate}' top -f '{file}'; code=$?; stty -a; exit $code");
    let mut session = Command::new("timeout")
        .args([
            "60",
            "script",
            "--quiet",
            "--return",
            "--flush",
            "--command",
            &command,
            "/dev/null",
        ])
        .env_remove("QUORATE_CLUSTER")
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script runs");
    let mut input = session.stdin.take().expect("piped");
    let mut output = session.stdout.take().expect("piped");
    let (sender, shown) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(1..) = output.read(&mut bytes).inspect(|&count| {
            let _ = sender.send(String::from_utf8_lossy(&bytes[..count]).into_owned());
        }) {}
    });
    let mut screen = String::new();
    let mut see = |wanted: &str| {
        while !screen.contains(wanted) {
            let more = shown.recv_timeout(patience(Duration::from_secs(10)));
            screen.push_str(
                &more.unwrap_or_else(|error| panic!("no {wanted:?} ({error}): {screen}")),
            );
        }
    };
    see(ALTERNATE_SCREEN);
    see("never answered");
    input.write_all(b"?").expect("a key");
    see("this help");
    input.write_all(b"q").expect("a key");
    see(MAIN_SCREEN);
    // Lines and echo are the terminal's again.
    see(" icanon");
    see(" echo ");
    let code = session.wait().expect("it ends");
    assert_eq!(code.code(), Some(0));
}
