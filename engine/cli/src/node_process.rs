//! One node as a detached process of this host: its pid file, its log file, its signals.
//!
//! Both files lie in the node's data directory, so whoever has the topology file finds them. The
//! pid file holds the pid, the process's start time, so that a reused pid is never signalled, and the node. It
//! changes only under an advisory lock of the data directory itself: of two commands that start a
//! node at once the second finds the process of the first.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::SplitWhitespace;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use quorate_config::NodeConfig;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use crate::failure::Failure;
use crate::logging::LogFormat;

/// Exit code of a node that cannot use its data directory.
const DATA_DIRECTORY: u8 = 14;
/// How often a wait looks again.
pub const POLL: Duration = Duration::from_millis(20);
/// Bytes of a log's end that are read to show its last lines.
const LOG_END_BYTES: u64 = 64 << 10;

/// What a node's process is told beside its place in the topology.
#[derive(Clone, Copy, Debug)]
pub struct StartOptions {
    pub format: LogFormat,
    /// See `server --recover`.
    pub recover: bool,
}

/// A process that is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    pub pid: u32,
    /// Clock ticks since boot, field 22 of `/proc/PID/stat`.
    started: u64,
}

/// Where the pid of a node's process is noted.
fn pid_file(node: &NodeConfig) -> PathBuf {
    node.data_dir.join("node.pid")
}

/// Where a node's process logs to.
#[must_use]
pub fn log_file(node: &NodeConfig) -> PathBuf {
    node.data_dir.join("node.log")
}

/// The node's process, if its pid file names one that is alive.
#[must_use]
pub fn running(node: &NodeConfig) -> Option<Running> {
    noted(node).filter(|noted| noted.is_alive())
}

fn noted(node: &NodeConfig) -> Option<Running> {
    let text = fs::read_to_string(pid_file(node)).ok()?;
    let mut words = text.split_whitespace();
    let (pid, started) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    // Directories may have changed places in the file: the process of another node is none of this one.
    let is_own = words.next()? == node.id.to_string();
    is_own.then_some(Running { pid, started })
}

/// Starts the node's process and notes its pid; `None` if it runs already. Also says how many bytes its
/// log had before.
pub fn start_once(
    cluster: &Path,
    node: &NodeConfig,
    options: StartOptions,
) -> Result<Option<(Child, u64)>, Failure> {
    prepare_directory(node)?;
    let _lock = lock_pid_file(node)?;
    if running(node).is_some() {
        return Ok(None);
    }
    let log_bytes = fs::metadata(log_file(node)).map_or(0, |log| log.len());
    let mut child = spawn(cluster, node, options)?;
    match note_pid(node, child.id()) {
        Ok(()) => Ok(Some((child, log_bytes))),
        Err(error) => {
            // Nothing would ever find it again.
            child.kill().context("end it")?;
            child.wait().context("end it")?;
            Err(error.into())
        }
    }
}

/// The directory has to take the log file, as the node will have to write there: its fault of the
/// environment is told as the node tells it.
fn prepare_directory(node: &NodeConfig) -> Result<(), Failure> {
    let opened = fs::create_dir_all(&node.data_dir).and_then(|()| {
        let mut options = OpenOptions::new();
        options.create(true).append(true).open(log_file(node))
    });
    match opened {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Environment {
            code: DATA_DIRECTORY,
            message: format!(
                "node {}: data directory {} is not writable: {error}",
                node.id,
                node.data_dir.display()
            ),
        }),
    }
}

/// Removes the pid file of a process that is gone, unless another was started meanwhile.
pub fn forget(node: &NodeConfig, gone: Running) -> anyhow::Result<()> {
    let _lock = lock_pid_file(node)?;
    let path = pid_file(node);
    if noted(node) == Some(gone) {
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

/// Held until it is dropped. Whoever holds it is quick, so this waits.
fn lock_pid_file(node: &NodeConfig) -> anyhow::Result<File> {
    let lock = || -> std::io::Result<File> {
        let directory = File::open(&node.data_dir)?;
        flock(&directory, FlockOperation::LockExclusive)?;
        Ok(directory)
    };
    lock().with_context(|| format!("node {}: lock {}", node.id, node.data_dir.display()))
}

/// Runs `quorate server` in a process group of its own, so that the terminal's Ctrl-C does not reach
/// it.
fn spawn(cluster: &Path, node: &NodeConfig, options: StartOptions) -> anyhow::Result<Child> {
    let log_path = log_file(node);
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)
        .with_context(|| format!("node {}: open {}", node.id, log_path.display()))?;
    let own = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(own);
    if std::env::var_os(ALLOCATOR_VARIABLE).is_none() {
        command.env(ALLOCATOR_VARIABLE, ALLOCATOR_SETTINGS);
    }
    command
        .arg("server")
        .arg("-f")
        .arg(cluster)
        .args(["--node", &node.id.to_string()])
        .args(["--log-format", options.format.name()])
        .args(options.recover.then_some("--recover"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share the log file")?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("node {}: start", node.id))
}

/// glibc takes these at the start of a process only. Its own values give memory back as soon as 128 KiB are free, and a
/// buffer that is needed again a moment later costs a page fault for every 4 KiB: a tenth of a loaded replica's time.
/// With these, blocks below 32 MiB come from the heaps, of which each keeps 64 MiB. And a thread keeps seven blocks of a
/// size at hand; a thousand requests of one transfer under way need and free thousands: an eighth of their throughput.
/// 8,192 blocks of each of the 64 sizes (up to 1,032 bytes) are at most 270 MiB per thread, of what it had in use.
const ALLOCATOR_VARIABLE: &str = "GLIBC_TUNABLES";
const ALLOCATOR_SETTINGS: &str = "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=67108864:\
     glibc.malloc.tcache_count=8192";

fn note_pid(node: &NodeConfig, pid: u32) -> anyhow::Result<()> {
    // A child that died at once is a zombie until it is waited for, and still has a start time.
    let (_, started) = state_and_start(pid)
        .ok_or_else(|| anyhow!("node {}: process {pid} is not there", node.id))?;
    let path = pid_file(node);
    fs::write(&path, format!("{pid} {started} {}\n", node.id))
        .with_context(|| format!("node {}: write {}", node.id, path.display()))
}

impl Running {
    /// Sends a signal. A process that ended meanwhile is no error.
    pub fn signal(self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| anyhow!("{} is not a pid", self.pid))?;
        if !self.is_alive() {
            return Ok(());
        }
        match kill_process(pid, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            other => other.with_context(|| format!("signal process {}", self.pid)),
        }
    }

    /// Whether this very process still runs; a zombie does not.
    #[must_use]
    pub fn is_alive(self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// Waits until the process is gone and its ports are free. False if that is not so at the
    /// deadline. The kernel lets go of an io_uring and its sockets only after the process has ended.
    #[must_use]
    pub fn wait_gone(self, ports: &[SocketAddr], deadline: Instant) -> bool {
        let is_held = |port: &SocketAddr| {
            TcpListener::bind(port).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
        };
        while self.is_alive() || ports.iter().any(is_held) {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }

    /// Waits until no thread of the process runs after a SIGSTOP, which each takes for itself: on a busy machine some run on for
    /// tens of milliseconds. At the deadline, those that still may run.
    pub fn wait_stopped(self, deadline: Instant) -> Result<(), Vec<String>> {
        loop {
            let unstopped = unstopped(self.pid);
            if unstopped.is_empty() || !self.is_alive() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(unstopped);
            }
            thread::sleep(POLL);
        }
    }
}

/// The start time of a live process. A zombie, whose parent has not waited for it, runs no more;
/// but a killed process shows its first thread as a zombie while others are still being ended.
fn start_time(pid: u32) -> Option<u64> {
    let (state, started) = state_and_start(pid)?;
    let ended = matches!(state, 'Z' | 'X') && threads(pid) <= 1;
    (!ended).then_some(started)
}

fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// The threads of a process that are neither stopped nor gone. One in an uninterruptible sleep (`D`) is among them: it runs
/// on when its disk has answered, and stops only then.
fn unstopped(pid: u32) -> Vec<String> {
    let look = || -> Vec<String> {
        let threads = fs::read_dir(format!("/proc/{pid}/task"));
        let threads = threads.into_iter().flatten().flatten();
        let unstopped = threads.filter_map(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).ok()?;
            let (name, state, _) = fields(&stat)?;
            (!matches!(state, 'T' | 't' | 'Z' | 'X')).then(|| format!("{name} ({state})"))
        });
        unstopped.collect()
    };
    // No thread starts another once one of them has stopped: the second look misses none that was started during the first.
    Some(look())
        .filter(|some| !some.is_empty())
        .unwrap_or_else(look)
}

fn state_and_start(pid: u32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, state, mut fields) = fields(&stat)?;
    // Field 22 of the line; `state` was field 3.
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

/// Name and state in the `stat` line of a process or a thread, and the fields behind them.
fn fields(stat: &str) -> Option<(&str, char, SplitWhitespace<'_>)> {
    // The second field is the program's name in parentheses and may contain anything.
    let (before, behind) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let mut fields = behind.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((name, state, fields))
}

/// The last lines of the node's log behind the first `offset` bytes, oldest first; empty without a log.
#[must_use]
pub fn log_end(node: &NodeConfig, offset: u64, lines: usize) -> Vec<String> {
    read_end(&log_file(node), offset, lines).unwrap_or_default()
}

fn read_end(path: &Path, offset: u64, lines: usize) -> std::io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(
        length.saturating_sub(LOG_END_BYTES).max(offset),
    ))?;
    let mut bytes = Vec::new();
    file.take(LOG_END_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    let first = all.len().saturating_sub(lines);
    Ok(all[first..].iter().map(|&line| line.to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_has_a_start_time_and_a_gone_one_has_none() {
        let own = std::process::id();
        assert!(start_time(own).is_some());
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert_eq!(start_time(pid), None);
    }

    /// The state of a thread that sleeps is not `T`, and it is named.
    #[test]
    fn a_process_has_stopped_when_its_threads_have() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let started = start_time(child.id()).unwrap();
        let process = Running {
            pid: child.id(),
            started,
        };
        assert_eq!(process.wait_stopped(Instant::now()).unwrap_err().len(), 1);
        process.signal(Signal::STOP).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        assert_eq!(process.wait_stopped(deadline), Ok(()));
        assert_eq!(unstopped(child.id()), Vec::<String>::new());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(process.wait_stopped(Instant::now()), Ok(()));
    }

    #[test]
    fn a_name_in_parentheses_hides_no_state() {
        let stat = "17 (a) T (b) D 1 2 3";
        let (name, state, rest) = fields(stat).unwrap();
        assert_eq!((name, state), ("a) T (b", 'D'));
        assert_eq!(rest.collect::<Vec<_>>(), ["1", "2", "3"]);
    }

    #[test]
    fn a_reused_pid_is_not_taken_for_the_node() {
        let directory = tempfile::tempdir().unwrap();
        let node = NodeConfig {
            id: quorate_protocol::ids::NodeId(1),
            address: "127.0.0.1".parse().unwrap(),
            base_port: 1,
            cores: vec![0],
            data_dir: directory.path().to_path_buf(),
        };
        let own = std::process::id();
        let started = start_time(own).unwrap();
        note_pid(&node, own).unwrap();
        assert_eq!(running(&node).map(|running| running.pid), Some(own));
        fs::write(pid_file(&node), format!("{own} {} 1\n", started + 1)).unwrap();
        assert_eq!(running(&node), None);
        // Two directories changed places: the process is the other node's.
        fs::write(pid_file(&node), format!("{own} {started} 2\n")).unwrap();
        assert_eq!(running(&node), None);
    }

    #[test]
    fn the_end_of_a_log_is_its_last_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "a\nb\nc\n").unwrap();
        assert_eq!(read_end(&path, 0, 2).unwrap(), ["b", "c"]);
        assert_eq!(read_end(&path, 0, 9).unwrap(), ["a", "b", "c"]);
        // What an earlier life said is not shown.
        assert_eq!(read_end(&path, 4, 9).unwrap(), ["c"]);
    }
}
