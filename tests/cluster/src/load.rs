//! A load that runs beside the test: `quorate-bench run` as a child process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::binaries::binaries;
use crate::fixture::{Cluster, Finished};
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
        let bench = Command::new(&binaries().bench);
        let place = (cluster.directory(), name);
        Self::run(bench, cluster.file(), place, seconds, more)
    }

    /// As [`Self::start`], by a command that runs `quorate-bench` with what it is given. The files of the load are called `name`,
    /// in the directory of `place`.
    ///
    /// # Panics
    /// If the program does not start.
    #[must_use]
    pub fn run(
        mut bench: Command,
        cluster: &Path,
        place: (&Path, &str),
        seconds: u64,
        more: &[&str],
    ) -> Self {
        let (directory, name) = place;
        let report = directory.join(format!("{name}.json"));
        let acked = directory.join(format!("{name}.acked"));
        let child = bench
            .args(["run", "--seconds", &seconds.to_string(), "--warmup", "0"])
            .args(more)
            .arg("-f")
            .arg(cluster)
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
            (self.acked_bytes() > 0).then_some(())
        });
    }

    /// Size of the list of acknowledged transfers, which grows with each.
    #[must_use]
    pub fn acked_bytes(&self) -> u64 {
        fs::metadata(&self.acked).map_or(0, |file| file.len())
    }

    /// Whether the load has not ended.
    ///
    /// # Panics
    /// If that cannot be asked.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        let ended = self.child.try_wait().expect("the load can be waited for");
        ended.is_none()
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
        Self::assert_audited(&cluster.bench(["audit", "--json", "--acked", &acked]));
    }

    /// What `quorate-bench audit --json` said: each is there exactly once.
    ///
    /// # Panics
    /// If one is missing or there twice, or if there was nothing to look up.
    pub fn assert_audited(done: &Finished) {
        assert_eq!(done.code, Some(0), "audit: {done:?}");
        let audit = done.json();
        assert!(
            audit["acked"].as_u64().is_some_and(|acked| acked > 0),
            "{audit}"
        );
        assert_eq!(audit["acked"], audit["present"], "{audit}");
    }
}
