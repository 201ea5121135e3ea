//! From the files of a process that is down to its store and its log.

use std::collections::BTreeMap;

use quorate_durable::log::{self, Touched, entry_of};
use quorate_protocol::config::LostRecord;
use quorate_protocol::ids::{AccountId, Ballot, Slot};
use quorate_protocol::paxos::message::LoggedEntry;
use quorate_storage::store::{self as files, Binding, Opened};
use quorate_storage::superblock::{FILE_NAME, Superblock};
use quorate_storage::wal::{self, Losses, Recovery, Repair, SegmentNumber};

use super::store::{self, Files};
use super::{Process, length};
use crate::disk::SimDisk;

impl Process {
    /// Opens the store from its files, repairs what has to be.
    pub(super) fn open_store(&mut self) -> Result<Opened, String> {
        let listing: Vec<(String, u64)> = self.disk.sizes().collect();
        let identity = self.superblock.identity;
        let binding = Binding {
            cluster: identity.cluster,
            shard: identity.shard,
        };
        let mut opened = files::open(&listing, &mut Files(&self.disk), binding)
            .map_err(|error| error.to_string())?;
        for repair in &opened.repairs {
            store::repair(repair, &mut self.disk);
        }
        opened.store.allow_waste(self.waste_blocks);
        Ok(opened)
    }

    pub(super) fn recover(&self) -> Result<(Recovery, BTreeMap<Slot, LoggedEntry>), String> {
        let superblock = self.disk.open(FILE_NAME).ok_or("the superblock is gone")?;
        let found =
            Superblock::decode(self.disk.bytes(superblock)).map_err(|error| error.to_string())?;
        found
            .check(&self.superblock)
            .map_err(|error| error.to_string())?;
        let identity = found.identity;
        let segments: Vec<(SegmentNumber, &[u8])> = self
            .disk
            .names()
            .filter_map(|name| {
                let number = SegmentNumber::from_file_name(name)?;
                Some((number, self.disk.bytes(self.disk.open(name)?)))
            })
            .collect();
        let recovery = wal::recover(&segments, &identity).map_err(|error| error.to_string())?;
        let mut log = BTreeMap::new();
        for (slot, location) in recovery.index.iter() {
            let bytes = segments
                .iter()
                .find(|(number, _)| *number == location.segment)
                .map_or(&[][..], |(_, bytes)| bytes);
            let at = usize::try_from(location.offset).expect("a u32 fits");
            let frame = wal::Frame::decode(
                bytes.get(at..).unwrap_or(&[]),
                location.segment,
                location.offset,
                identity.seal(),
            )
            .map_err(|error| format!("slot {slot}: {error}"))?;
            let entry = entry_of(frame.payload).map_err(|error| format!("slot {slot}: {error}"))?;
            let logged = LoggedEntry {
                slot: Slot(slot),
                accepted: Ballot(location.ballot),
                entry,
            };
            log.insert(logged.slot, logged);
        }
        Ok((recovery, log))
    }

    pub(super) fn repair(&mut self, repairs: &[Repair]) -> Result<(), String> {
        let open = |disk: &SimDisk, segment: &SegmentNumber| {
            disk.open(&segment.file_name())
                .ok_or("a segment to repair is gone")
        };
        for repair in repairs {
            match repair {
                Repair::Write {
                    segment,
                    offset,
                    bytes,
                } => {
                    let file = open(&self.disk, segment)?;
                    self.disk.write(file, length(*offset), bytes);
                }
                Repair::Sync { segment } => {
                    let file = open(&self.disk, segment)?;
                    let mark = self.disk.mark();
                    self.disk.synced(file, mark);
                }
                Repair::SyncDirectory => {
                    let mark = self.disk.mark();
                    self.disk.directory_synced(mark);
                }
            }
        }
        Ok(())
    }
}

/// What recovery cannot read any more, by name.
pub(super) fn lost_records(recovery: &Recovery) -> Result<Vec<LostRecord>, String> {
    match recovery.losses() {
        Losses::Records(records) => Ok(log::lost_records(&records)),
        Losses::Unknown => Err(format!("damage without a name: {:?}", recovery.damage)),
    }
}

/// What the log touches above the checkpoint; in every other start nothing, so that the replay asks for it.
pub(super) fn touched(
    log: &BTreeMap<Slot, LoggedEntry>,
    checkpoint: Slot,
    seed: u64,
) -> Vec<AccountId> {
    let mut touched = Touched::default();
    if seed.is_multiple_of(2) {
        let above = log.values().filter(|logged| logged.slot > checkpoint);
        above.for_each(|logged| touched.add(&logged.entry));
    }
    touched.into_accounts()
}
