//! A plan that the cluster keeps: carried out, paused, taken over from a tool that was killed, undone, aborted, told about.

#![forbid(unsafe_code)]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use quorate_cluster_tests::{Cluster, Load, Shape, binaries, full, patience, until};
use serde_json::Value;

const LOAD: [&str; 10] = [
    "--workload",
    "communities",
    "--accounts",
    "3000",
    "--clients",
    "4",
    "--batch",
    "100",
    "--seed",
    "7",
];
/// One account per move and rests of ten times as long, so that a plan takes long enough to be interfered with on any machine:
/// one was through 1,946 moves in a second and a half.
const SLOWLY: [&str; 4] = ["--batch", "1", "--rest", "10"];

/// `quorate reshard ...` in the background.
struct Tool(Child);

impl Tool {
    fn start(cluster: &Cluster, args: &[&str]) -> Self {
        let child = Command::new(&binaries().quorate)
            .arg("reshard")
            .args(args)
            .args(SLOWLY)
            .arg("--json")
            .arg("-f")
            .arg(cluster.file())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        Self(child)
    }

    /// Waits until it has moved more accounts of a plan than `moved`, and is not through.
    fn wait_for_moves(&self, cluster: &Cluster, plan: u64, moved: u64) -> u64 {
        let what = "progress of the plan";
        let (now, _) = until(Duration::from_secs(60), what, || {
            let status = status(cluster);
            if status["number"] != plan {
                return None;
            }
            let now = status["moved"].as_u64()?;
            assert_ne!(status["status"], "done", "too quick to interfere: {status}");
            (now > moved).then_some(now)
        });
        now
    }

    fn end(mut self) -> (Option<i32>, String) {
        let (code, _) = until(Duration::from_secs(90), "end of the tool", || {
            self.0.try_wait().expect("the tool can be waited for")
        });
        let output = self.0.wait_with_output().expect("its output");
        (
            code.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    fn kill(mut self) {
        self.0.kill().expect("kill -9");
        self.0.wait().expect("it is gone");
    }
}

fn status(cluster: &Cluster) -> Value {
    cluster.json(["reshard", "status"])
}

/// Shard of each account of the load, in their order.
fn owners(cluster: &Cluster) -> Vec<u64> {
    let ids: Vec<String> = (1..=3_000).map(|id| id.to_string()).collect();
    let shown = cluster.json(
        ["account", "show"]
            .into_iter()
            .chain(ids.iter().map(String::as_str)),
    );
    let accounts = shown.as_array().expect("an array");
    let shard = |account: &Value| account["shard"].as_u64().expect("a number");
    assert_eq!(accounts.len(), ids.len());
    accounts.iter().map(shard).collect()
}

fn refused(cluster: &Cluster, args: &[&str], code: i32, why: &str) {
    let done = cluster.quorate(args.iter().copied());
    assert_eq!(done.code, Some(code), "{args:?}: {done:?}");
    assert!(done.stderr.contains(why), "{args:?}: {done:?}");
}

fn load(cluster: &Cluster, name: &str) {
    let report = Load::start(cluster, name, 5, &LOAD).finish();
    assert_eq!(report.code, Some(0), "{}", report.run);
}

/// Loads until the leaders have counted so many transfers: what a few thousand predict is chance.
fn load_until_counted(cluster: &Cluster, transfers: u64) {
    for round in 1.. {
        assert!(round < 20, "no machine is that slow");
        load(cluster, &format!("before-{round}"));
        let total = &cluster.json(["reshard", "observe"])["total"];
        let counted = total["local"].as_u64().zip(total["cross"].as_u64());
        if counted.is_some_and(|(local, cross)| local + cross >= transfers) {
            return;
        }
    }
}

#[test]
fn every_command_acts_on_the_plan_that_the_cluster_keeps() {
    let cluster = Cluster::start("reshard", Shape::USUAL);
    assert_eq!(status(&cluster), Value::Null);
    assert_eq!(cluster.json(["reshard", "history"]), serde_json::json!([]));
    for command in ["report", "pause", "resume", "abort", "undo"] {
        refused(&cluster, &["reshard", command], 2, "no plan");
    }

    load_until_counted(&cluster, 30_000);
    let seen = cluster.json(["reshard", "observe"]);
    assert!(seen["pairs"].as_u64() > Some(1_000), "{seen}");
    assert!(
        seen["total"]["cross_shard_ratio"].as_f64() > Some(0.5),
        "{seen}"
    );
    let hottest = &seen["hottest"][0];
    assert!(hottest["operations"].as_u64() > Some(10), "{seen}");

    let file = cluster.directory().join("plan.json");
    let path = file.to_string_lossy();
    let plan = cluster.json(["reshard", "plan", "-o", &path]);
    assert_eq!(plan["decision"], "apply", "{plan}");
    let moves = plan["moves"].as_array().map_or(0, Vec::len);
    let at_home = owners(&cluster);
    assert!(moves > 500, "{moves} moves");

    // Paused by another tool.
    let apply = Tool::start(&cluster, &["apply", "--plan", &path]);
    apply.wait_for_moves(&cluster, 1, 0);
    refused(
        &cluster,
        &["reshard", "apply", "--plan", &path],
        2,
        "plan 1 is under way",
    );
    refused(&cluster, &["reshard", "undo"], 2, "plan 1 is under way");
    refused(&cluster, &["reshard", "report"], 2, "once it has ended");
    cluster.json(["reshard", "pause"]);
    let (code, stderr) = apply.end();
    assert_eq!(code, Some(1), "{stderr}");
    let paused = status(&cluster);
    assert_eq!(paused["status"], "paused", "{paused}");
    assert_eq!(paused["driver"], Value::Null, "{paused}");
    let moved = paused["moved"].as_u64().expect("a count");
    assert!(moved > 0 && moved < moves as u64, "{paused}");

    // The next tool is killed, and a third one goes on.
    let resume = Tool::start(&cluster, &["resume"]);
    let later = resume.wait_for_moves(&cluster, 1, moved);
    resume.kill();
    assert_eq!(status(&cluster)["status"], "running");
    let done = cluster.json(["reshard", "resume"]);
    assert_eq!(done["status"], "done", "{done}");
    assert_eq!(done["verify"]["ok"], true, "{done}");
    assert_eq!(done["settled"], done["planned"], "{done}");
    assert!(done["moved"].as_u64() > Some(later), "{done}");
    refused(&cluster, &["reshard", "resume"], 2, "plan 1 is done");

    // What it promised against what it brought.
    load(&cluster, "after");
    let report = cluster.json(["reshard", "report"]);
    let ratio = &report["cross_shard_ratio"];
    let of = |name: &str| ratio[name].as_f64().expect("a ratio");
    assert!(of("before") > 0.6 && of("achieved") <= 0.12, "{report}");
    assert!((of("achieved") - of("predicted")).abs() <= 0.03, "{report}");
    let throughput = &report["throughput_tps"];
    for name in ["before", "predicted", "after"] {
        assert!(throughput[name].as_f64() > Some(0.0), "{name}: {report}");
    }
    let seen = cluster.json(["reshard", "observe"]);
    assert!(
        seen["total"]["cross_shard_ratio"].as_f64() < Some(0.5),
        "{seen}"
    );

    // Back, account by account, and the same again without its end.
    assert_ne!(owners(&cluster), at_home);
    let undone = cluster.json(["reshard", "undo"]);
    assert_eq!(owners(&cluster), at_home);
    assert_eq!(
        (&undone["status"], &undone["undoes"]),
        (&"done".into(), &1.into())
    );
    let apply = Tool::start(&cluster, &["apply", "--plan", &path]);
    apply.wait_for_moves(&cluster, 3, 0);
    cluster.json(["reshard", "abort"]);
    let (code, stderr) = apply.end();
    assert_eq!(code, Some(1), "{stderr}");
    assert_eq!(status(&cluster)["status"], "aborted");
    let back = cluster.json(["reshard", "undo"]);
    assert_eq!(back["status"], "done", "{back}");

    let history = cluster.json(["reshard", "history"]);
    let told: Vec<(u64, &str)> = history
        .as_array()
        .expect("an array")
        .iter()
        .map(|plan| {
            let number = plan["number"].as_u64().expect("a number");
            (number, plan["status"].as_str().expect("a name"))
        })
        .collect();
    assert_eq!(
        told,
        [(1, "done"), (2, "done"), (3, "aborted"), (4, "done")]
    );
    let sound = cluster.assert_sound(patience(Duration::from_secs(5)));
    assert_eq!(sound["owners_unique"], true, "{sound}");
}

/// New accounts go beside the one they will trade with, as far as the cap allows; those that have been used stay.
#[test]
fn new_accounts_are_put_near_another_and_used_ones_stay() {
    let cluster = Cluster::start("near", Shape::USUAL);
    let create = |ids: &str, near: &[&str]| {
        let kind = ["--ledger", "1", "--code", "1", "--ids", ids];
        let create = ["account", "create"].into_iter().chain(kind);
        cluster.json(create.chain(near.iter().copied()))
    };
    let shards = |ids: &[u64]| -> Vec<u64> {
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        let args = ["account", "show"]
            .into_iter()
            .chain(ids.iter().map(String::as_str));
        let shown = cluster.json(args);
        let rows = shown.as_array().expect("an array").iter();
        rows.map(|row| row["shard"].as_u64().expect("a number"))
            .collect()
    };
    create("1..31", &[]);
    let ids: Vec<u64> = (1..=31).collect();
    let at = shards(&ids);
    let home = at[0];
    let elsewhere: Vec<u64> = (ids.into_iter().zip(&at))
        .filter(|&(_, &shard)| shard != home)
        .map(|(id, _)| id)
        .collect();
    let (used, paid, unused) = (elsewhere[0], elsewhere[1], elsewhere[2]);
    cluster.json([
        "transfer",
        "--debit",
        &used.to_string(),
        "--credit",
        &paid.to_string(),
        "--amount",
        "1",
        "--ledger",
        "1",
        "--code",
        "1",
    ]);

    let near = ["--near", "1"];
    let created = create("1001..1060", &near);
    assert_eq!(created["created"], 60, "{created}");
    assert_eq!(created["shard"], home, "{created}");
    let moved = created["moved"].as_u64().expect("a count");
    // Two thirds have their homes elsewhere, give or take six standard deviations.
    assert!((18..=60).contains(&moved), "{created}");
    let all: Vec<u64> = (1001..=1060).collect();
    assert!(shards(&all).iter().all(|&shard| shard == home));

    // Those that were there already: the one nobody has used is put there, the other left.
    let before = shards(&[used])[0];
    let again = create(&unused.to_string(), &near);
    assert_eq!((&again["existed"], &again["moved"]), (&1.into(), &1.into()));
    let again = create(&used.to_string(), &near);
    assert_eq!(
        (&again["moved"], &again["left_in_use"]),
        (&0.into(), &1.into()),
        "{again}"
    );
    assert_eq!(shards(&[used, unused]), [before, home]);

    let nobody = cluster.quorate([
        "account", "create", "--ledger", "1", "--code", "1", "--ids", "2000", "--near", "999999",
    ]);
    assert_eq!(nobody.code, Some(2), "{nobody:?}");
    cluster.assert_sound(patience(Duration::from_secs(5)));
}

#[test]
fn auto_carries_out_what_pays_and_then_leaves_it() {
    let cluster = Cluster::start("reshard-auto", Shape::USUAL);
    load(&cluster, "before");
    let auto = cluster.json([
        "reshard",
        "auto",
        "--interval",
        "100ms",
        "--confirm",
        "2",
        "--cooldown",
        "0s",
        "--plans",
        "2",
    ]);
    assert_eq!(auto["plans"], 2, "{auto}");
    assert_eq!(auto["carried_out"][0]["status"], "done", "{auto}");
    load(&cluster, "after");
    let report = cluster.json(["reshard", "report"]);
    assert!(
        report["cross_shard_ratio"]["achieved"].as_f64() < Some(0.2),
        "{report}"
    );
    let auto = cluster.json(["reshard", "auto", "--interval", "100ms", "--plans", "1"]);
    assert_eq!(auto["carried_out"], serde_json::json!([]), "{auto}");
    cluster.assert_sound(patience(Duration::from_secs(5)));
}

/// A twentieth of the accounts changes community every ten seconds; the map follows.
#[test]
fn auto_follows_a_load_that_drifts() {
    if !full() {
        eprintln!("skipped: takes a minute; set QUORATE_CLUSTER_FULL=1");
        return;
    }
    let cluster = Cluster::init_with("reshard-drift", Shape::USUAL, |text| {
        format!("telemetry_window = \"3s\"\n{text}")
    });
    cluster.start_nodes();
    let drifting: Vec<&str> = LOAD
        .into_iter()
        .chain(["--drift", "5", "--drift-every", "10"])
        .collect();
    let mut load = Load::start(&cluster, "drifting", 60, &drifting);
    load.wait_for_acks();
    let auto = cluster.json([
        "reshard",
        "auto",
        "--interval",
        "6s",
        "--confirm",
        "1",
        "--cooldown",
        "0s",
        "--plans",
        "5",
    ]);
    let report = load.finish();
    assert_eq!(report.code, Some(0), "{}", report.run);
    let carried_out = auto["carried_out"].as_array().map_or(0, Vec::len);
    assert!(carried_out >= 3, "{auto}");
    // Behind the first map none moves more than a twentieth of the accounts, of which there are 3,000 and those that fund them.
    for later in auto["carried_out"].as_array().into_iter().flatten().skip(1) {
        assert!(later["planned"].as_u64() <= Some(151), "{later}");
    }
    let series = report.run["series"].as_array().expect("a row a second");
    let of_last = series.iter().rev().skip(1).take(20);
    let ratios: Vec<f64> = of_last
        .filter_map(|row| row["cross_shard_ratio"].as_f64())
        .collect();
    let mean = ratios.iter().sum::<f64>() / f64::from(u32::try_from(ratios.len()).expect("few"));
    assert!(mean < 0.3, "{mean}: {ratios:?}");
    cluster.assert_sound(patience(Duration::from_secs(5)));
}
