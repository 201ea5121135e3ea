//! A cluster of real processes in a temporary directory.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

use crate::binaries::binaries;
use crate::ports::free_base_port;
use crate::scratch::scratch;
use crate::wait::until_ok;

/// One cluster at a time.
static TURN: Mutex<()> = Mutex::new(());

/// What a cluster consists of.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub shards: u16,
    pub replicas: u16,
    pub nodes: u16,
}

impl Shape {
    /// Three shards, three replicas, three processes.
    pub const USUAL: Self = Self {
        shards: 3,
        replicas: 3,
        nodes: 3,
    };
    /// One shard on three nodes.
    pub const GROUP: Self = Self {
        shards: 1,
        replicas: 3,
        nodes: 3,
    };
    /// One shard of one replica: the least that answers.
    pub const SINGLE: Self = Self {
        shards: 1,
        replicas: 1,
        nodes: 1,
    };
}

/// A topology file whose replicas write the smallest checkpoints there are, and keep few accounts in memory.
#[must_use]
pub fn with_small_checkpoints(text: String) -> String {
    let keys = ["segment_bytes", "checkpoint_bytes", "cached_accounts"];
    let is_set = |line: &&str| keys.iter().any(|key| line.starts_with(key));
    let others: Vec<&str> = text.lines().filter(|line| !is_set(line)).collect();
    let set = "checkpoint_bytes = 1048576\nsegment_bytes = 2097152\ncached_accounts = 500";
    format!("{set}\n{}\n", others.join("\n"))
}

/// A cluster. Dropping it kills its processes and removes its files.
#[derive(Debug)]
pub struct Cluster {
    directory: TempDir,
    file: PathBuf,
    shape: Shape,
    base_port: u16,
    _turn: MutexGuard<'static, ()>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<&Output> for Finished {
    fn from(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Finished {
    /// The document on stdout.
    ///
    /// # Panics
    /// If it is not one.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no document on stdout ({error}): {self:?}"))
    }
}

impl Cluster {
    /// Writes the topology file and starts nothing. `edit` may change the file's text.
    ///
    /// # Panics
    /// If `cluster init` fails.
    #[must_use]
    pub fn init_with(name: &str, shape: Shape, edit: impl FnOnce(String) -> String) -> Self {
        // A test that failed while it held its turn has already said so.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = scratch(name);
        let base_port = free_base_port(shape.nodes, shape.shards);
        let done = run(
            &binaries().quorate,
            [
                "cluster",
                "init",
                "--shards",
                &shape.shards.to_string(),
                "--replicas",
                &shape.replicas.to_string(),
                "--nodes",
                &shape.nodes.to_string(),
                "--base-port",
                &base_port.to_string(),
                "--dir",
                &directory.path().join("nodes").to_string_lossy(),
            ],
        );
        assert_eq!(done.code, Some(0), "{done:?}");
        let file = directory.path().join("cluster.toml");
        fs::write(&file, edit(done.stdout)).expect("write the topology file");
        Self {
            directory,
            file,
            shape,
            base_port,
            _turn: turn,
        }
    }

    /// Writes the topology file, starts every node and waits until every shard serves.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn start(name: &str, shape: Shape) -> Self {
        let cluster = Self::init_with(name, shape, |text| text);
        cluster.start_nodes();
        cluster
    }

    /// `cluster start`, for all nodes that do not run.
    ///
    /// # Panics
    /// If it fails.
    pub fn start_nodes(&self) {
        let done = self.quorate(["cluster", "start", "--wait", "60s"]);
        assert_eq!(done.code, Some(0), "{done:?}\n{}", self.logs());
    }

    /// Runs `quorate ... -f cluster.toml`.
    pub fn quorate<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Finished {
        let args: Vec<&str> = args.into_iter().collect();
        run(&binaries().quorate, self.with_file(&args))
    }

    /// As [`Self::quorate`], but ends it with exit code 124 if it runs for longer.
    pub fn quorate_within<'a>(
        &self,
        limit: Duration,
        args: impl IntoIterator<Item = &'a str>,
    ) -> Finished {
        let args: Vec<&str> = args.into_iter().collect();
        let program = binaries().quorate.clone();
        let limited = [OsString::from(limit.as_secs().to_string()), program.into()];
        let args = self.with_file(&args).into_iter().map(OsString::from);
        run(Path::new("timeout"), limited.into_iter().chain(args))
    }

    /// Runs `quorate ...` without the topology file.
    pub fn quorate_plain<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Finished {
        run(&binaries().quorate, args)
    }

    /// Runs `quorate-bench ... -f cluster.toml`.
    pub fn bench<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Finished {
        let args: Vec<&str> = args.into_iter().collect();
        run(&binaries().bench, self.with_file(&args))
    }

    /// Runs `quorate ... -f cluster.toml --json`, which must succeed.
    ///
    /// # Panics
    /// If it does not.
    pub fn json<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Value {
        let args: Vec<&str> = args.into_iter().chain(["--json"]).collect();
        let done = self.quorate(args.iter().copied());
        assert_eq!(done.code, Some(0), "{args:?}: {done:?}");
        done.json()
    }

    /// The document of a command that prints it even if replicas are silent, and then exits 1.
    ///
    /// # Panics
    /// If there is none.
    pub fn look<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Value {
        let args: Vec<&str> = args.into_iter().chain(["--json"]).collect();
        let done = self.quorate(args.iter().copied());
        assert!(matches!(done.code, Some(0 | 1)), "{args:?}: {done:?}");
        done.json()
    }

    /// `cluster ACTION --node NODE`, which must succeed.
    ///
    /// # Panics
    /// If it does not.
    pub fn act(&self, action: &str, node: u64) {
        let done = self.quorate(["cluster", action, "--node", &node.to_string()]);
        assert_eq!(done.code, Some(0), "{action} {node}: {done:?}");
    }

    /// Kills every process with SIGKILL.
    ///
    /// # Panics
    /// If that fails.
    pub fn kill_all(&self) {
        let done = self.quorate(["cluster", "kill"]);
        assert_eq!(done.code, Some(0), "{done:?}");
    }

    /// The node whose replica leads and serves the shard, if there is one now.
    #[must_use]
    pub fn leader_node(&self, shard: u64) -> Option<u64> {
        let status = self.look(["status"]);
        let replicas = status["replicas"].as_array()?;
        replicas
            .iter()
            .find(|row| row["shard"] == shard && row["role"] == "leader" && row["serving"] == true)
            .and_then(|row| row["node"].as_u64())
    }

    /// Checks money, digests and ownership at a consistent cut, within `deadline`; a load may run.
    ///
    /// # Panics
    /// If a check fails, or cannot be made in time.
    pub fn assert_sound(&self, deadline: Duration) -> Value {
        let (report, _) = until_ok(deadline, "answer to verify", || {
            let done = self.quorate(["verify", "--json", "--wait", "5s"]);
            assert_ne!(done.code, Some(4), "{}", done.stdout);
            match done.code {
                Some(0) => Ok(done.json()),
                _ => Err(format!("{} of {}", done.stderr, self.look(["status"]))),
            }
        });
        assert_eq!(report["ok"], true, "{report}");
        report
    }

    /// Waits until no replica holds a transaction that was prepared before `before`.
    ///
    /// # Panics
    /// If one is left at the deadline.
    pub fn assert_nothing_in_doubt(&self, before: SystemTime, deadline: Duration) {
        let before = before
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_nanos();
        let is_old = |row: &Value| {
            let prepared = row["prepare_ts"]
                .as_str()
                .and_then(|text| text.parse::<u128>().ok());
            prepared.is_none_or(|prepared| prepared < before)
        };
        until_ok(deadline, "end of every transaction prepared before", || {
            let found = self.look(["inspect", "in-doubt"]);
            let silent = found["no_answer"].as_array().map_or(1, Vec::len);
            let rows = found["in_doubt"].as_array().map_or(&[][..], Vec::as_slice);
            let old: Vec<&Value> = rows.iter().filter(|row| is_old(row)).collect();
            match (silent, old.first()) {
                (0, None) => Ok(()),
                (0, Some(first)) => Err(format!(
                    "{} rows, the first one {first}, of {}",
                    old.len(),
                    self.look(["status"])
                )),
                _ => Err(found["no_answer"].to_string()),
            }
        });
    }

    /// Number of shards.
    #[must_use]
    pub fn shards(&self) -> u64 {
        self.shape.shards.into()
    }

    /// Number of nodes.
    #[must_use]
    pub fn nodes(&self) -> u64 {
        self.shape.nodes.into()
    }

    /// Port of the first node's replica of shard 1.
    #[must_use]
    pub fn base_port(&self) -> u16 {
        self.base_port
    }

    /// The topology file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A directory for the test's own files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The end of every node's log.
    #[must_use]
    pub fn logs(&self) -> String {
        self.quorate(["cluster", "logs", "-n", "20"]).stdout
    }

    fn with_file(&self, args: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        all.push("-f".to_owned());
        all.push(self.file.to_string_lossy().into_owned());
        all
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
            if std::env::var_os("QUORATE_KEEP").is_some() {
                self.directory.disable_cleanup(true);
                eprintln!("kept, running: {}", self.file.display());
                return;
            }
        }
        let killed = self.quorate(["cluster", "kill"]);
        if killed.code != Some(0) {
            eprintln!("processes may be left: {killed:?}");
        }
    }
}

/// Runs a program to its end.
pub(crate) fn run(program: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Finished {
    let output = Command::new(program)
        .args(args)
        .env_remove("QUORATE_CLUSTER")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    Finished::from(&output)
}
