//! `doctor` on the host of this test: the document, the exit code that agrees with it, and that nothing is left
//! behind. What a host may lack is judged by unit tests, from facts; here are those that every host can show.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use quorate_config::{ClusterConfig, GenerateOptions};
use quorate_protocol::ids::ClusterId;
use quorate_protocol::shard::map::Placement;
use serde_json::Value;

const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Exit code, document and what stderr says.
fn doctor(arguments: &[&str]) -> (i32, Value, String) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_quorate"));
    process.env_remove("QUORATE_CLUSTER");
    let output = process
        .arg("doctor")
        .args(arguments)
        .arg("--json")
        .output()
        .unwrap();
    let document = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let errors = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), document, errors)
}

/// A topology of one shard and one node that nobody runs, with its data below `directory`.
fn topology(directory: &Path, change: impl FnOnce(String) -> String) -> PathBuf {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let config = ClusterConfig::generate(&GenerateOptions {
        cluster_id: ClusterId(7),
        shards: 1,
        replicas: 1,
        nodes: 1,
        directory: directory.join("data"),
        base_port: port.min(65_000),
        placement: Placement::Hash,
        host_cores: 1,
    })
    .unwrap();
    let path = directory.join("cluster.toml");
    fs::write(&path, change(config.to_toml())).unwrap();
    path
}

fn on_disk() -> tempfile::TempDir {
    let below = std::env::current_exe().unwrap();
    tempfile::tempdir_in(below.parent().unwrap()).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// The document has its keys, and `ok`, the verdicts, the hints and the exit code agree.
fn assert_sound(code: i32, document: &Value) {
    let checks = document["checks"].as_array().unwrap();
    for check in checks {
        let check = check.as_object().unwrap();
        let mut keys: Vec<&str> = check.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            ["check", "found", "hint", "needed", "node", "verdict"]
        );
        let verdict = check["verdict"].as_str().unwrap();
        assert!(["ok", "warning", "fault"].contains(&verdict));
        assert_eq!(check["hint"].is_null(), verdict == "ok", "{check:?}");
        assert!(check["found"].is_string() && check["needed"].is_string());
        assert!(check["node"].is_null() || check["node"] == 1);
    }
    let faults = checks.iter().filter(|check| check["verdict"] == "fault");
    let ok = faults.count() == 0;
    assert_eq!(document["ok"], ok);
    assert_eq!(code, if ok { 0 } else { 4 });
}

fn verdict<'a>(document: &'a Value, check: &str, node: &Value) -> &'a str {
    let mut checks = document["checks"].as_array().unwrap().iter();
    let found = checks.find(|it| it["check"] == check && it["node"] == *node);
    found
        .unwrap_or_else(|| panic!("no {check} of {node}: {document}"))
        .get("verdict")
        .unwrap()
        .as_str()
        .unwrap()
}

#[test]
fn without_a_topology_the_host_is_told_and_the_exit_code_agrees() {
    let (code, document, _) = doctor(&[]);
    assert_sound(code, &document);
    let checks = document["checks"].as_array().unwrap();
    let told: Vec<&str> = checks
        .iter()
        .map(|check| check["check"].as_str().unwrap())
        .collect();
    assert_eq!(told, ["kernel", "io_uring", "memlock", "nofile", "clock"]);
    assert!(checks.iter().all(|check| check["node"].is_null()));
    // Every test of a cluster needs as much.
    assert_eq!(verdict(&document, "io_uring", &Value::Null), "ok");
}

#[test]
fn with_a_topology_its_node_is_told_and_nothing_is_left_behind() {
    let root = on_disk();
    let file = topology(root.path(), |text| text);
    let (code, document, errors) = doctor(&["-f", file.to_str().unwrap()]);
    assert_sound(code, &document);
    let node = Value::from(1);
    for check in [
        "memlock",
        "nofile",
        "cores",
        "data_dir",
        "direct_io",
        "disk",
    ] {
        verdict(&document, check, &node);
    }
    assert_eq!(verdict(&document, "data_dir", &node), "ok");
    assert_eq!(verdict(&document, "cores", &node), "ok");
    // Nobody runs it.
    assert_eq!(verdict(&document, "version", &node), "warning", "{errors}");
    assert_eq!(names(root.path()), ["cluster.toml"]);
}

#[test]
fn a_cpu_that_is_not_there_is_a_fault() {
    let root = on_disk();
    let file = topology(root.path(), |text| {
        let changed = text.replace("cores = [0]", "cores = [1023]");
        assert_ne!(changed, text);
        changed
    });
    let (code, document, errors) = doctor(&["-f", file.to_str().unwrap()]);
    assert_sound(code, &document);
    assert_eq!(code, 4);
    assert_eq!(verdict(&document, "cores", &Value::from(1)), "fault");
    assert!(errors.contains("cores of node 1"), "{errors}");
}

#[test]
fn a_directory_in_memory_is_a_fault_of_direct_io() {
    let memory = Path::new("/dev/shm");
    if !rustix::fs::statfs(memory).is_ok_and(|found| found.f_type == TMPFS_MAGIC) {
        eprintln!("skipped: /dev/shm is no tmpfs here");
        return;
    }
    let root = tempfile::tempdir_in(memory).unwrap();
    let file = topology(root.path(), |text| text);
    let (code, document, errors) = doctor(&["-f", file.to_str().unwrap()]);
    assert_sound(code, &document);
    assert_eq!(code, 4);
    assert_eq!(verdict(&document, "direct_io", &Value::from(1)), "fault");
    assert!(errors.contains("direct_io of node 1"), "{errors}");
    assert_eq!(names(root.path()), ["cluster.toml"]);
}

#[test]
fn a_directory_that_cannot_be_made_is_a_fault() {
    let root = on_disk();
    fs::write(root.path().join("data"), b"a file").unwrap();
    let file = topology(root.path(), |text| text);
    let (code, document, _) = doctor(&["-f", file.to_str().unwrap()]);
    assert_sound(code, &document);
    assert_eq!(verdict(&document, "data_dir", &Value::from(1)), "fault");
    assert_eq!(fs::read(root.path().join("data")).unwrap(), b"a file");
}

#[test]
fn nodes_of_other_hosts_are_asked_and_not_looked_at() {
    let root = on_disk();
    // An address for documentation, which nobody has.
    let file = topology(root.path(), |text| {
        let changed = text.replace("127.0.0.1", "192.0.2.1");
        assert_ne!(changed, text);
        // Other hosts are spoken to under a key only.
        let key = root.path().join("secret");
        fs::write(&key, [b'k'; 32]).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        format!("key_file = \"secret\"\n{changed}")
    });
    let (code, document, errors) = doctor(&["-f", file.to_str().unwrap()]);
    assert_sound(code, &document);
    let checks = document["checks"].as_array().unwrap();
    let of_node: Vec<&str> = checks
        .iter()
        .filter(|check| check["node"] == 1)
        .map(|check| check["check"].as_str().unwrap())
        .collect();
    assert_eq!(of_node, ["version"]);
    assert!(errors.contains("no node of the topology"), "{errors}");
}

#[test]
fn a_file_that_makes_no_sense_is_named() {
    let root = on_disk();
    let file = topology(root.path(), |text| format!("{text}\nnonsense = 1\n"));
    let absent = root.path().join("absent.toml");
    for file in [&file, &absent] {
        let name = file.to_str().unwrap();
        let (code, document, errors) = doctor(&["-f", name]);
        assert_eq!((code, document), (2, Value::Null), "{errors}");
        assert!(errors.contains(name), "{errors}");
    }
}

#[test]
fn people_get_a_table() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_quorate"));
    process.env_remove("QUORATE_CLUSTER");
    let output = process.arg("doctor").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["check", "verdict", "found", "needed", "io_uring", "memlock"] {
        assert!(text.contains(word), "{text}");
    }
}
