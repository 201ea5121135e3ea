//! A cluster on hosts of its own, run by `scripts/launch-hosts`: the links between hosts are cut, a host's processes are killed,
//! and all nodes are restarted one after the other, under load that comes from a fourth host.
//!
//! The hosts are network namespaces of this machine (`scripts/netns-lab`), each with an sshd. Where they are not allowed the tests
//! say so and pass.

#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use quorate_cluster_tests::{Lab, Load, LoadReport, patience, until, until_ok};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const HOSTS: u32 = 3;
const SHARDS: u64 = 3;
/// A shard that has lost its leader is led again, and a host that is reached again takes part again.
const WHOLE_WITHIN: Duration = Duration::from_secs(10);
/// Bytes per acknowledged transfer: a line of some 38 digits.
const ACKED_LINE: u64 = 39;
/// Transfers that show that the cluster goes on under a fault: of 2,000 a second those of four seconds, several election timeouts.
const GOES_ON: u64 = 8_000;
/// The money ran out, or is in other payments; the rest would be a fault of the cluster.
const OWN_CODES: [&str; 2] = ["exceeds_credits", "contended"];

/// Open loop, so that a stall is seen in the latencies.
const LOAD: [&str; 12] = [
    "--workload",
    "uniform",
    "--accounts",
    "3000",
    "--mode",
    "open",
    "--rate",
    "2000",
    "--batch",
    "20",
    "--clients",
    "64",
];

#[test]
fn three_hosts_survive_a_cut_link_a_kill_and_a_rolling_restart() {
    let Some(lab) = Lab::up("hosts", HOSTS) else {
        return;
    };
    let start = Instant::now();
    lab.init(3, 3);
    let installed = lab.launched(["install"]);
    eprintln!("{}", installed.stdout.trim_end());
    let refused = lab.launch(["uninstall"]);
    assert_eq!(refused.code, Some(2), "without --yes: {refused:?}");
    lab.launched(["start"]);
    told(start, "started");

    let report = faults(&lab, start);
    assert_nothing_lost(&lab, &report);
    let report = rolling_restart(&lab, start);
    assert_nothing_lost(&lab, &report);
    assert_sound(&lab);
    told(start, "verified");

    lab.launched(["stop"]);
    assert_all_say(&lab, "stopped");
    lab.launched(["uninstall", "--yes", "--purge-data"]);
    assert_all_say(&lab, "absent");
    assert!(!lab.path("nodes/n1").exists(), "data was to be purged");
    let down = lab.netns(["down"]);
    assert_eq!(down.code, Some(0), "{down:?}");
    assert_eq!(lab.netns(["down"]).code, Some(0), "a second time");
    assert_eq!(lab.netns(["status"]).code, Some(1), "nothing is left");
    told(start, "down");
}

/// One direction of a link is cut and healed, then a host's server and supervisor are killed and started again.
fn faults(lab: &Lab, start: Instant) -> LoadReport {
    // Then the leaders of two shards hear nothing of each other, whoever would have led by chance.
    leads_at_home(lab);
    let mut load = load(lab, "faults", 30);
    load.wait_for_acks();
    let cut = lab.netns(["partition", "h1", "h2", "--one-way"]);
    assert_eq!(cut.code, Some(0), "{cut:?}");
    told(start, "h2 hears nothing of h1");
    goes_on(&mut load);
    let healed = lab.netns(["heal"]);
    assert_eq!(healed.code, Some(0), "{healed:?}");
    becomes_whole(lab);
    told(start, "healed");

    // The supervisor first: it would start another server.
    for file in ["supervisor.pid", "pid"] {
        let pid = Pid::from_raw(lab.noted_pid(HOSTS, file)).expect("a pid is not 0");
        kill_process(pid, Signal::KILL).expect("a process to kill");
    }
    until(WHOLE_WITHIN, "status of the killed node", || {
        let shown = lab.launch(["status", "--node", "3"]).stdout;
        shown.contains("stopped").then_some(())
    });
    told(start, "server and supervisor of h3 killed");
    goes_on(&mut load);
    let refused = lab.launch(["rolling-restart"]);
    assert_eq!(refused.code, Some(1), "a node is down: {refused:?}");
    assert!(
        refused.stderr.contains("nothing is restarted"),
        "{refused:?}"
    );
    lab.launched(["start", "--node", "3"]);
    becomes_whole(lab);
    told(start, "started again");
    load.finish()
}

/// Every node is restarted under load, and no request fails.
fn rolling_restart(lab: &Lab, start: Instant) -> LoadReport {
    let mut load = load(lab, "rolling", 25);
    load.wait_for_acks();
    told(start, "rolling restart");
    let before = load.acked_bytes();
    let done = lab.launched(["rolling-restart"]);
    eprintln!("{}", done.stdout.trim_end());
    assert!(load.is_running(), "the restart outlasted the load");
    assert!(
        load.acked_bytes() > before,
        "nothing was acknowledged meanwhile"
    );
    told(start, "restarted");
    let report = load.finish();
    assert_eq!(report.run["unknown"], 0, "{}", report.run);
    for (code, count) in report.run["rejected"].as_object().into_iter().flatten() {
        assert!(OWN_CODES.contains(&code.as_str()), "{count} of {code}");
    }
    assert_eq!(report.code, Some(0), "{}", report.run);
    eprintln!(
        "committed {} at {} a second, dropped {}, rejected {}, p99 {} us, max {} us",
        report.committed(),
        report.run["throughput_tps"],
        report.run["dropped"],
        report.run["rejected"],
        report.run["latency_us"]["p99"],
        report.run["latency_us"]["max"]
    );
    report
}

fn load(lab: &Lab, name: &str, seconds: u64) -> Load {
    let place = (lab.directory(), name);
    Load::run(lab.bench(), &lab.file(), place, seconds, &LOAD)
}

/// Transfers are acknowledged from now on.
fn goes_on(load: &mut Load) {
    let before = load.acked_bytes();
    until_ok(patience(WHOLE_WITHIN), "acknowledged transfers", || {
        assert!(load.is_running(), "the load is over");
        let more = (load.acked_bytes() - before) / ACKED_LINE;
        match more >= GOES_ON {
            true => Ok(()),
            false => Err(format!("only {more}")),
        }
    });
}

/// Every shard is led by its preferred leader: shard 1 on h1, shard 2 on h2.
fn leads_at_home(lab: &Lab) {
    until_ok(patience(WHOLE_WITHIN), "preferred leaders", || {
        let status = lab.status();
        let rows = status["replicas"].as_array().map_or(&[][..], Vec::as_slice);
        let is_home = |row: &&Value| row["serving"] == true && row["shard"] == row["node"];
        match rows.iter().filter(is_home).count() {
            3 => Ok(()),
            _ => Err(status.to_string()),
        }
    });
}

/// Every shard has a leader that serves, and every replica of every node takes part.
fn becomes_whole(lab: &Lab) {
    until_ok(patience(WHOLE_WITHIN), "whole cluster", || {
        let status = lab.status();
        let rows = status["replicas"].as_array().map_or(&[][..], Vec::as_slice);
        let leads = |row: &&Value| row["role"] == "leader" && row["serving"] == true;
        let follows = |row: &&Value| row["role"] == "follower" && row["leader"].is_u64();
        let leaders = rows.iter().filter(leads).count();
        let followers = rows.iter().filter(follows).count();
        let replicas = usize::try_from(SHARDS).unwrap_or(0) * 3;
        match leaders == replicas / 3 && leaders + followers == replicas {
            true => Ok(()),
            false => Err(status.to_string()),
        }
    });
}

fn assert_nothing_lost(lab: &Lab, report: &LoadReport) {
    let audit = lab
        .bench()
        .args(["audit", "--json", "-f"])
        .arg(lab.file())
        .arg("--acked")
        .arg(&report.acked)
        .output()
        .expect("quorate-bench runs");
    LoadReport::assert_audited(&(&audit).into());
}

fn assert_sound(lab: &Lab) {
    until_ok(patience(WHOLE_WITHIN), "answer to verify", || {
        let done = lab.quorate(["verify", "--json", "--wait", "5s"]);
        assert_ne!(done.code, Some(4), "{}", done.stdout);
        match done.code {
            Some(0) => Ok(()),
            _ => Err(done.stderr),
        }
    });
}

fn assert_all_say(lab: &Lab, word: &str) {
    let shown = lab.launch(["status"]).stdout;
    let (hosts, _) = shown.split_once("\n\n").expect("hosts, then replicas");
    let saying = hosts.lines().filter(|line| line.contains(word)).count();
    assert_eq!(saying, 3, "{shown}");
}

fn told(start: Instant, what: &str) {
    eprintln!("{:5.1} s: {what}", start.elapsed().as_secs_f32());
}

/// The unit, filled in as an install does, is one that systemd understands.
#[test]
fn systemd_accepts_the_unit() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let unit = fs::read_to_string(root.join("scripts/units/quorate@.service")).expect("the unit");
    let directory = tempfile::tempdir().expect("a directory");
    let unit = unit
        .replace("@BINARY@", "/bin/true")
        .replace("@CLUSTER@", "/etc/quorate/cluster.toml")
        .replace("@TUNABLES@", "glibc.malloc.tcache_count=8192")
        .replace("@DATA_DIRS@", "/var/lib/quorate/n1");
    assert!(
        !unit.contains("@BINARY@") && !unit.contains("@DATA"),
        "{unit}"
    );
    let path = directory.path().join("quorate@1.service");
    fs::write(&path, unit).expect("write the unit");
    match Command::new("systemd-analyze")
        .arg("verify")
        .arg(&path)
        .output()
    {
        Ok(done) => assert!(done.status.success() && done.stderr.is_empty(), "{done:?}"),
        Err(error) => eprintln!("skipped: no systemd-analyze: {error}"),
    }
}
