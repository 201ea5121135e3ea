//! Records that rot on disk while a replica is down: it names them, gets them back from its peers and
//! serves as before.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quorate_config::ClusterConfig;
use quorate_protocol::client::Role;
use quorate_protocol::ids::ReplicaAddress;
use quorate_storage::superblock::{Identity, Superblock};
use quorate_storage::wal::{Kind, Losses, LostRecord, SegmentNumber, frames, recover};

use crate::harness::{Client, PATIENCE, config, leader, replica, scratch, start};

/// The first segment of a replica's log, which is all of it in these tests.
struct LogFile {
    path: PathBuf,
    identity: Identity,
    bytes: Vec<u8>,
}

impl LogFile {
    fn read(directory: &Path) -> Self {
        let path = directory.join(SegmentNumber::FIRST.file_name());
        let superblock = std::fs::read(directory.join("superblock")).unwrap();
        Self {
            identity: Superblock::decode(&superblock).unwrap().identity,
            bytes: std::fs::read(&path).unwrap(),
            path,
        }
    }

    /// Turns a byte of the payload of the accepted record of this slot, on disk.
    fn rot(&self, slot: u64) {
        let of_slot = frames(&self.bytes, SegmentNumber::FIRST, self.identity.seal())
            .filter_map(|found| found.frame.ok())
            .filter(|frame| frame.header.name.kind == Kind::Accepted)
            .filter(|frame| frame.header.name.slot == slot);
        let newest = of_slot.last().expect("the slot was accepted");
        let at = u64::from(newest.header.offset) + 100;
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(&self.path)
            .unwrap();
        let byte = self.bytes[usize::try_from(at).unwrap()] ^ 0x10;
        file.write_all_at(&[byte], at).unwrap();
        file.sync_all().unwrap();
    }

    fn losses(&self) -> Losses {
        let files = [(SegmentNumber::FIRST, self.bytes.as_slice())];
        recover(&files, &self.identity).unwrap().losses()
    }
}

/// Waits until all replicas have applied the same slots, with the same accounts and transfers.
fn settle(config: &ClusterConfig, all: &[ReplicaAddress]) {
    let started = Instant::now();
    loop {
        let found: Vec<_> = all
            .iter()
            .map(|&address| Client::connect(config, address).status())
            .collect();
        for status in &found {
            assert_ne!(status.role, Role::Stopped, "{}", status.reason);
        }
        let state = |status: &quorate_protocol::client::Status| {
            (
                status.applied_upto,
                status.chosen_upto,
                status.accounts,
                status.transfers,
            )
        };
        let equal = found.iter().all(|status| state(status) == state(&found[0]));
        if equal && found[0].applied_upto.0 > 0 {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{found:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_rotten_record_of_a_follower_or_of_the_leader_is_fetched_back() {
    let directory = scratch();
    let config = config(directory.path(), 1, 3, 3);
    let all = [replica(1, 1), replica(1, 2), replica(1, 3)];
    let mut transfers = 0;
    for harm_leader in [false, true] {
        let nodes: Vec<_> = (1..=3).map(|node| start(&config, node)).collect();
        let (led, mut client) = leader(&config, &all);
        if transfers == 0 {
            assert_eq!(client.create_accounts([1, 2]), [0, 0]);
        }
        for _ in 0..5 {
            transfers += 1;
            assert_eq!(client.transfer(transfers, 1, 2, 1), 0);
        }
        settle(&config, &all);
        let last = client.status().applied_upto.0;
        nodes.into_iter().for_each(|node| node.stop().unwrap());

        let harmed = all
            .into_iter()
            .find(|&address| (address == led) == harm_leader)
            .unwrap();
        let data = config.data_dir_of(harmed);
        let slot = last - 2;
        LogFile::read(&data).rot(slot);
        let lost = LogFile::read(&data).losses();
        assert!(
            matches!(&lost, Losses::Records(records)
                if matches!(records[..], [LostRecord { slot: found, .. }] if found == slot)),
            "{lost:?}"
        );

        let nodes: Vec<_> = (1..=3).map(|node| start(&config, node)).collect();
        let (_, mut client) = leader(&config, &all);
        transfers += 1;
        assert_eq!(client.transfer(transfers, 1, 2, 1), 0);
        assert_eq!(client.balance(2), (0, transfers));
        settle(&config, &all);
        nodes.into_iter().for_each(|node| node.stop().unwrap());
        // Written anew: the next start has nothing to ask for.
        assert_eq!(LogFile::read(&data).losses(), Losses::Records(vec![]));
    }
}

#[test]
fn a_lone_replica_whose_record_rotted_stops_and_names_the_slot() {
    let directory = scratch();
    let config = config(directory.path(), 1, 1, 1);
    let node = start(&config, 1);
    let (_, mut client) = leader(&config, &[replica(1, 1)]);
    assert_eq!(client.create_accounts([1, 2]), [0, 0]);
    for id in 1..=3 {
        assert_eq!(client.transfer(id, 1, 2, 1), 0);
    }
    let slot = client.status().applied_upto.0 - 1;
    node.stop().unwrap();
    LogFile::read(&config.data_dir_of(replica(1, 1))).rot(slot);
    let node = start(&config, 1);
    let started = Instant::now();
    loop {
        let status = Client::connect(&config, replica(1, 1)).status();
        if status.role == Role::Stopped {
            let named = format!("slot {slot} ");
            assert!(status.reason.contains(&named), "{}", status.reason);
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{status:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    node.stop().unwrap();
}
