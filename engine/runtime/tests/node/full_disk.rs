//! A disk that fills up under a node: a file system of its own on a loop device.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{config, leader, replica, scratch, start};

const DISK_BYTES: u64 = 32 << 20;

/// A small file system; unmounted when it goes out of scope.
struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    /// `None` where it cannot be made: that takes root, loop devices and the tools.
    fn mount(below: &Path) -> Option<Self> {
        let image = below.join("image");
        let place = below.join("disk");
        std::fs::File::create(&image)
            .unwrap()
            .set_len(DISK_BYTES)
            .unwrap();
        std::fs::create_dir(&place).unwrap();
        let made = run(
            "mkfs.ext4",
            &[
                "-q".as_ref(),
                "-O".as_ref(),
                "^has_journal".as_ref(),
                &image,
            ],
        );
        let mounted = made && run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &place]);
        mounted.then_some(Self { place })
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.place.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        let block = vec![1; 64 << 10];
        while file.write_all(&block).is_ok() {}
        file.sync_all().unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the kernel may still be closing the files of an executor that has ended.
        if !run("umount", &["-l".as_ref(), &self.place]) {
            eprintln!("{} is still mounted", self.place.display());
        }
    }
}

fn run(program: &str, args: &[&Path]) -> bool {
    let status = Command::new(program)
        .args(args)
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// A node died when it could not prepare the segment after next, though the log had room in those that
/// were there; and again at each start, so that a node with a full disk could not even be read.
#[test]
fn a_node_with_a_full_disk_goes_on_in_the_segments_it_has_and_starts_again() {
    let directory = scratch();
    let Some(disk) = SmallDisk::mount(directory.path()) else {
        eprintln!("skipped: no loop device to be had");
        return;
    };
    let config = config(&disk.place, 1, 1, 1);
    let only = [replica(1, 1)];
    let node = start(&config, 1);
    let (_, mut client) = leader(&config, &only);
    // 1 MB each, and a segment of 4 MiB: the third batch is written with the disk full, the fifth in
    // the second segment.
    let create = |client: &mut crate::harness::Client, batch: u128| {
        let first = batch * 8_000 + 1;
        let codes = client.create_accounts(first..first + 8_000);
        assert!(codes.iter().all(|&code| code == 0));
    };
    create(&mut client, 0);
    create(&mut client, 1);
    let filler = disk.fill();
    for batch in 2..5 {
        create(&mut client, batch);
    }
    node.stop().unwrap();

    let node = start(&config, 1);
    let (_, mut client) = leader(&config, &only);
    assert_eq!(client.status().accounts, 40_000);
    assert_eq!(client.balance(40_000), (0, 0));
    std::fs::remove_file(filler).unwrap();
    node.stop().unwrap();

    let node = start(&config, 1);
    let (_, mut client) = leader(&config, &only);
    for batch in 5..9 {
        create(&mut client, batch);
    }
    assert_eq!(client.status().accounts, 72_000);
    node.stop().unwrap();
}
