//! A load that runs beside the test: `quorate-bench run` as a child process.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::binaries::binaries;
use crate::fixture::Cluster;
use crate::wait::until;

/// A running load. Dropping it kills it.
#[derive(Debug)]
pub struct Load {
    child: Child,
    report: PathBuf,
    acked: PathBuf,
    seconds: u64,
}

/// What a load reported at its end.
#[derive(Debug)]
pub struct LoadReport {
    pub code: Option<i32>,
    pub run: Value,
    /// The acknowledged ids, for `quorate-bench audit`.
    pub acked: PathBuf,
}

impl Load {
    /// Starts a closed-loop load that notes every acknowledged id.
    ///
    /// # Panics
    /// If the program does not start.
    #[must_use]
    pub fn start(cluster: &Cluster, name: &str, seconds: u64, more: &[&str]) -> Self {
        let report = cluster.directory().join(format!("{name}.json"));
        let acked = cluster.directory().join(format!("{name}.acked"));
        let child = Command::new(&binaries().bench)
            .args(["run", "--seconds", &seconds.to_string(), "--warmup", "0"])
            .args(more)
            .arg("-f")
            .arg(cluster.file())
            .arg("--json")
            .arg(&report)
            .arg("--acked")
            .arg(&acked)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("quorate-bench starts");
        Self {
            child,
            report,
            acked,
            seconds,
        }
    }

    /// Waits until the load has transfers acknowledged: set-up is over and the engine works.
    ///
    /// # Panics
    /// If that does not happen, or the load ends before.
    pub fn wait_for_acks(&mut self) {
        until(Duration::from_secs(90), "acknowledged transfer", || {
            let ended = self.child.try_wait().expect("the load can be waited for");
            assert!(
                ended.is_none(),
                "the load ended before its first acknowledgement: {ended:?}"
            );
            let size = fs::metadata(&self.acked).map_or(0, |file| file.len());
            (size > 0).then_some(())
        });
    }

    /// Waits for the end and reads the report.
    ///
    /// # Panics
    /// If it does not end, or reports nothing.
    #[must_use]
    pub fn finish(mut self) -> LoadReport {
        let patience = Duration::from_secs(self.seconds + 120);
        let (status, _) = until(patience, "end of the load", || {
            self.child.try_wait().expect("the load can be waited for")
        });
        let text = fs::read_to_string(&self.report).expect("a report is written however it ends");
        LoadReport {
            code: status.code(),
            run: serde_json::from_str(&text).expect("the report is JSON"),
            acked: self.acked.clone(),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // After `finish` the child is gone and both calls say so.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl LoadReport {
    /// Transfers acknowledged as committed.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.run["committed"].as_u64().unwrap_or(0)
    }

    /// Looks every acknowledged id up: each must be there exactly once.
    ///
    /// # Panics
    /// If one is missing or there twice, or if there was nothing to look up.
    pub fn assert_nothing_lost(&self, cluster: &Cluster) {
        let acked = self.acked.to_string_lossy();
        let done = cluster.bench(["audit", "--json", "--acked", &acked]);
        assert_eq!(done.code, Some(0), "audit: {done:?}");
        let audit = done.json();
        assert!(
            audit["acked"].as_u64().is_some_and(|acked| acked > 0),
            "{audit}"
        );
        assert_eq!(audit["acked"], audit["present"], "{audit}");
    }
}
