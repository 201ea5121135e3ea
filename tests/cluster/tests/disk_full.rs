//! A real disk that is full: new work is answered `busy`, nothing that was acknowledged is lost, the replica
//! goes on or ends in order, and serves again once there is room.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use quorate_cluster_tests::{Cluster, Finished, Load, Shape, patience, until};

const DISK_BYTES: u64 = 192 << 20;
/// Left free beside the reserve: above it the disk counts as full (one segment and a checkpoint).
const FREE_BYTES: u64 = 5 << 20;
const FULL_WITHIN: Duration = Duration::from_secs(15);
const SOUND_WITHIN: Duration = Duration::from_secs(5);

const LOAD: [&str; 8] = [
    "--workload",
    "uniform",
    "--accounts",
    "3000",
    "--clients",
    "4",
    "--batch",
    "500",
];

/// Work that is quickly looked up again.
const LITTLE: [&str; 8] = [
    "--workload",
    "uniform",
    "--accounts",
    "100",
    "--clients",
    "1",
    "--batch",
    "20",
];

/// A file system in a file; unmounted when it goes out of scope.
struct Disk {
    place: PathBuf,
}

impl Disk {
    /// `None` where it cannot be made: that takes root, loop devices and the tools.
    fn mount(image: &Path, place: &Path) -> Option<Self> {
        let file = File::create(image).expect("an image");
        file.set_len(DISK_BYTES).expect("a sparse file");
        std::fs::create_dir_all(place).expect("a place");
        let made = run("mkfs.ext4", &["-q".as_ref(), "-m0".as_ref(), image]);
        let mounted = made && run("mount", &["-o".as_ref(), "loop".as_ref(), image, place]);
        mounted.then(|| Self {
            place: place.to_owned(),
        })
    }

    fn free_bytes(&self) -> u64 {
        let found = rustix::fs::statvfs(&self.place).expect("a file system");
        found.f_bavail * found.f_frsize
    }

    /// Takes all room but `left`.
    fn fill(&self, name: &str, left: u64) -> PathBuf {
        let path = self.place.join(name);
        let mut file = File::create(&path).expect("room for a name");
        let block = vec![1; 64 << 10];
        while self.free_bytes() > left && file.write_all(&block).is_ok() {}
        // A full disk may say so once more.
        let _ = file.sync_all();
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the processes are killed behind this.
        if !run("umount", &["-l".as_ref(), &self.place]) {
            eprintln!("{} is still mounted", self.place.display());
        }
    }
}

fn run(program: &str, args: &[&Path]) -> bool {
    let status = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// The smallest segments and checkpoints there are.
fn small(text: String) -> String {
    let text = text.replacen("keep = ", "checkpoint_bytes = 1048576\nkeep = ", 1);
    text.replacen("segment_bytes = 67108864", "segment_bytes = 2097152", 1)
}

fn is_full(cluster: &Cluster) -> Option<()> {
    let status = cluster.look(["status"]);
    let reason = status["replicas"][0]["reason"].as_str()?;
    reason.contains("disk is full").then_some(())
}

fn serves(cluster: &Cluster) -> Option<()> {
    let status = cluster.look(["status"]);
    let replica = &status["replicas"][0];
    (replica["serving"] == true && replica["reason"] == "").then_some(())
}

fn create(cluster: &Cluster, id: &str) -> Finished {
    let args = [
        "account", "create", "--ids", id, "--ledger", "1", "--code", "1",
    ];
    cluster.quorate_within(Duration::from_secs(3), args)
}

#[test]
fn a_full_disk_ends_new_work_and_nothing_else() {
    let cluster = Cluster::init_with("disk-full", Shape::SINGLE, small);
    let nodes = cluster.directory().join("nodes");
    // The node's log and lock stay on the other disk.
    let place = nodes.join("n1/s1r1");
    let Some(disk) = Disk::mount(&cluster.directory().join("image"), &place) else {
        eprintln!("skipped: no file system can be mounted here (it takes root and a loop device)");
        return;
    };
    cluster.start_nodes();
    let ballast = disk.fill("ballast", FREE_BYTES);
    let mut load = Load::start(&cluster, "filling", 8, &LOAD);
    load.wait_for_acks();
    until(patience(FULL_WITHIN), "full disk", || is_full(&cluster));
    let report = load.finish();
    assert!(report.committed() > 0, "{}", report.run);
    report.assert_nothing_lost(&cluster);
    cluster.assert_sound(patience(SOUND_WITHIN));
    let refused = create(&cluster, "900001");
    assert_ne!(refused.code, Some(0), "{refused:?}");

    // Not a byte left, not even those of the reserve.
    let rest = disk.fill("rest", 0);
    assert!(std::fs::metadata(&rest).expect("it is there").size() > 0);
    cluster.assert_sound(patience(SOUND_WITHIN));
    cluster.kill_all();
    cluster.start_nodes();
    report.assert_nothing_lost(&cluster);
    let logs = cluster.quorate(["cluster", "logs", "-n", "100000"]).stdout;
    assert!(logs.contains("the disk is full"), "{logs}");

    for filler in [ballast, rest] {
        std::fs::remove_file(filler).expect("it is there");
    }
    until(patience(SOUND_WITHIN), "room again", || serves(&cluster));
    let created = create(&cluster, "900001");
    assert_eq!(created.code, Some(0), "{created:?}");
    let after = Load::start(&cluster, "after", 1, &LITTLE).finish();
    assert_eq!(after.code, Some(0), "{}", after.run);
    after.assert_nothing_lost(&cluster);
    cluster.assert_sound(patience(SOUND_WITHIN));
    cluster.act("stop", 1);
}
