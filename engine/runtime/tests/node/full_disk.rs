//! A disk that fills up under a node: a file system of its own on a loop device.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use quorate_protocol::client::{ReplyBody, RequestBody};
use quorate_protocol::ids::AccountId;
use quorate_protocol::ledger::{Account, AccountFlags};
use quorate_protocol::words::Rows;

use crate::harness::{Client, PATIENCE, changed, config, leader, replica, scratch, start};

const DISK_BYTES: u64 = 96 << 20;

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
        self.fill_as("filler")
    }

    fn fill_as(&self, name: &str) -> PathBuf {
        let path = self.place.join(name);
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

fn create(client: &mut Client, batch: u128) -> ReplyBody {
    let ids = batch * 8_000 + 1..batch * 8_000 + 8_001;
    let account = |id| Account::new(AccountId(id), 1, 1, AccountFlags::default());
    let accounts: Vec<Account> = ids.map(account).collect();
    client.ask(RequestBody::CreateAccounts(Rows::from_slice(&accounts)))
}

/// Waits until the replica says that its disk is full, or that it is not.
fn until_full(client: &mut Client, is_full: bool) {
    let started = Instant::now();
    loop {
        let reason = client.status().reason;
        if reason.contains("disk is full") == is_full {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{reason}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A node died when it could not prepare the segment after next, though the log had room in those that
/// were there; and again at each start, so that a node with a full disk could not even be read. And one that
/// went on took in new work until it died of it.
#[test]
fn a_node_with_a_full_disk_takes_no_new_work_is_read_and_starts_again() {
    let directory = scratch();
    let Some(disk) = SmallDisk::mount(directory.path()) else {
        eprintln!("skipped: no loop device to be had");
        return;
    };
    // 1 MB each, and a segment of 4 MiB.
    let config = config(&disk.place, 1, 1, 1);
    let config = changed(&config, "keep = ", "checkpoint_bytes = 1048576\nkeep = ");
    let only = [replica(1, 1)];
    let node = start(&config, 1);
    let (_, mut client) = leader(&config, &only);
    for batch in 0..2 {
        assert!(matches!(create(&mut client, batch), ReplyBody::Results(_)));
    }
    let reserve = config.data_dir_of(only[0]).join("reserve");
    assert!(reserve.exists());
    let filler = disk.fill();
    until_full(&mut client, true);
    assert!(!reserve.exists());
    assert_eq!(create(&mut client, 2), ReplyBody::Busy);
    assert_eq!(client.balance(16_000), (0, 0));
    // What the reserve gave goes, too.
    let second = disk.fill_as("second");
    node.stop().unwrap();

    let node = start(&config, 1);
    let (_, mut client) = leader(&config, &only);
    until_full(&mut client, true);
    assert_eq!(client.status().accounts, 16_000);
    assert_eq!(client.balance(16_000), (0, 0));
    assert_eq!(create(&mut client, 2), ReplyBody::Busy);
    std::fs::remove_file(filler).unwrap();
    std::fs::remove_file(second).unwrap();
    until_full(&mut client, false);
    assert!(reserve.exists());
    assert!(matches!(create(&mut client, 2), ReplyBody::Results(_)));
    node.stop().unwrap();

    let node = start(&config, 1);
    let (_, mut client) = leader(&config, &only);
    assert!(matches!(create(&mut client, 3), ReplyBody::Results(_)));
    assert_eq!(client.status().accounts, 32_000);
    node.stop().unwrap();
}
