//! `server` under a service manager, played by this test: what it is told, and when.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use quorate_config::{ClusterConfig, GenerateOptions};
use quorate_protocol::ids::ClusterId;
use quorate_protocol::shard::map::Placement;
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(30);

/// A node that does not outlive its test.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It has ended if all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_service_manager_hears_of_the_start_of_life_and_of_the_end() {
    let here = std::env::current_exe().unwrap();
    let root = tempfile::tempdir_in(here.parent().unwrap()).unwrap();
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port().min(65_000)
    };
    let config = ClusterConfig::generate(&GenerateOptions {
        cluster_id: ClusterId(7),
        shards: 1,
        replicas: 1,
        nodes: 1,
        directory: root.path().join("data"),
        base_port: port,
        placement: Placement::Hash,
        host_cores: 1,
    })
    .unwrap();
    let file = root.path().join("cluster.toml");
    fs::write(&file, config.to_toml()).unwrap();
    // A path of a socket has at most 107 bytes.
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    // The manager names the process that it means, which `exec` keeps.
    let node = Command::new("sh")
        .args([
            "-c",
            "WATCHDOG_PID=$$ exec \"$0\" server --node 1 -f \"$1\"",
        ])
        .arg(env!("CARGO_BIN_EXE_quorate"))
        .arg(&file)
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "400000")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut node = Guard(node);
    let hear = || {
        let mut message = [0; 256];
        let bytes = manager.recv(&mut message).unwrap();
        String::from_utf8(message[..bytes].to_vec()).unwrap()
    };
    assert_eq!(hear().trim(), "READY=1");
    for _ in 0..3 {
        assert_eq!(hear().trim(), "WATCHDOG=1");
    }
    let id = Pid::from_child(&node.0);
    kill_process(id, Signal::TERM).unwrap();
    let mut last = hear();
    while last.trim() == "WATCHDOG=1" {
        last = hear();
    }
    assert_eq!(last.trim(), "STOPPING=1");
    assert!(node.0.wait().unwrap().success());
}
