//! Hosts in network namespaces (`scripts/netns-lab`), and a cluster on them that `scripts/launch-hosts` runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::binaries::binaries;
use crate::fixture::{Finished, run};
use crate::scratch::scratch;
use crate::wait::until_ok;

/// What `netns-lab` ends with where there can be no laboratory.
const UNSUPPORTED: i32 = 77;
/// And where another one stands, of a test of another tree perhaps.
const TAKEN: i32 = 3;
/// So long such a test may take.
const TURN_WITHIN: Duration = Duration::from_secs(300);

/// A laboratory of as many hosts as nodes. Dropping it ends every process in it and removes it.
#[derive(Debug)]
pub struct Lab {
    directory: TempDir,
    hosts: u32,
}

impl Lab {
    /// Makes hosts; `None`, and a message, where namespaces are not allowed.
    ///
    /// # Panics
    /// If that fails for another reason.
    #[must_use]
    pub fn up(name: &str, hosts: u32) -> Option<Self> {
        // Built, if they have to be, while no laboratory stands.
        let _ = binaries();
        let directory = scratch(name);
        let lab = Self { directory, hosts };
        let mut command = lab.netns_lab();
        command
            .args(["up", &hosts.to_string()])
            // Should this process be killed, the next `up` takes the laboratory down.
            .env("QUORATE_LAB_OWNER", process::id().to_string());
        let (done, _) = until_ok(TURN_WITHIN, "turn", || {
            let done = finish(&mut command);
            match done.code {
                Some(TAKEN) => Err(done.stderr),
                _ => Ok(done),
            }
        });
        if done.code == Some(UNSUPPORTED) {
            eprintln!("skipped: {}", done.stderr.trim_end());
            return None;
        }
        assert_eq!(done.code, Some(0), "{done:?}");
        Some(lab)
    }

    /// Writes the topology of a cluster with one node on each host.
    ///
    /// # Panics
    /// If `cluster init` fails.
    pub fn init(&self, shards: u32, replicas: u8) {
        let addresses: Vec<String> = (1..=self.hosts).map(address).collect();
        let done = run(
            &binaries().quorate,
            [
                "cluster",
                "init",
                "--shards",
                &shards.to_string(),
                "--replicas",
                &replicas.to_string(),
                "--nodes",
                &self.hosts.to_string(),
                "--addresses",
                &addresses.join(","),
                "--dir",
                &self.path("nodes").to_string_lossy(),
                "--key-file",
                &self.path("cluster.key").to_string_lossy(),
            ],
        );
        assert_eq!(done.code, Some(0), "{done:?}");
        fs::write(self.file(), done.stdout).expect("write the topology file");
    }

    /// `scripts/netns-lab ARGS`.
    pub fn netns<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Finished {
        finish(self.netns_lab().args(args))
    }

    /// `scripts/launch-hosts ARGS` against the hosts. Each has a directory of its own for what is installed.
    pub fn launch<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Finished {
        let mut command = Command::new(script("launch-hosts"));
        command.arg("-f").arg(self.file());
        command.arg("-F").arg(self.state().join("ssh_config"));
        command.arg("--binary").arg(&binaries().quorate);
        command
            .arg("--root-for-host")
            .arg(self.state().join("%h"))
            .args(args);
        finish(&mut command)
    }

    /// As [`Self::launch`], which must succeed.
    ///
    /// # Panics
    /// If it does not.
    pub fn launched<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Finished {
        let args: Vec<&str> = args.into_iter().collect();
        let done = self.launch(args.iter().copied());
        assert_eq!(done.code, Some(0), "{args:?}: {done:?}\n{}", self.logs());
        done
    }

    /// `quorate ARGS -f cluster.toml`, from outside of the hosts.
    pub fn quorate<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Finished {
        finish(
            Command::new(&binaries().quorate)
                .args(args)
                .arg("-f")
                .arg(self.file()),
        )
    }

    /// The document of `quorate status --json`, also where no replica answers.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn status(&self) -> Value {
        let done = self.quorate(["status", "--json"]);
        assert!(matches!(done.code, Some(0 | 1)), "{done:?}");
        done.json()
    }

    /// `quorate-bench` in the namespace of the clients.
    #[must_use]
    pub fn bench(&self) -> Command {
        let mut command = self.netns_lab();
        command.args(["exec", "client"]).arg(&binaries().bench);
        command
    }

    /// The process that a pid file of a host's node names.
    ///
    /// # Panics
    /// If there is no such file.
    #[must_use]
    pub fn noted_pid(&self, node: u32, file: &str) -> i32 {
        let run = format!("{}/run/quorate/n{node}.{file}", address(node));
        let path = self.state().join(run);
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let pid = text
            .split_whitespace()
            .next()
            .and_then(|it| it.parse().ok());
        pid.unwrap_or_else(|| panic!("no pid: {text}"))
    }

    /// The topology file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.path("cluster.toml")
    }

    /// A file of the test's own directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The test's own directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The end of every node's log.
    #[must_use]
    pub fn logs(&self) -> String {
        self.launch(["logs", "--lines", "15"]).stdout
    }

    fn state(&self) -> PathBuf {
        self.path("lab")
    }

    fn netns_lab(&self) -> Command {
        let mut command = Command::new(script("netns-lab"));
        command.env("QUORATE_LAB_DIR", self.state());
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let state = format!("state: {}", self.state().display());
        // Not another's laboratory, for which `up` failed or was skipped.
        let shown = self.netns(["status"]);
        if !shown.stdout.contains(&state) {
            return;
        }
        if std::thread::panicking() {
            eprintln!("{}\n{}", shown.stdout, self.logs());
        }
        let done = self.netns(["down"]);
        if done.code != Some(0) {
            eprintln!("the laboratory may be left: {done:?}");
        }
    }
}

/// Of a node's host.
fn address(node: u32) -> String {
    format!("10.77.0.{node}")
}

/// A file of the scripts' directory.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../scripts")
        .join(name)
}

fn finish(command: &mut Command) -> Finished {
    let output: Output = command
        .env_remove("QUORATE_CLUSTER")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Finished::from(&output)
}
