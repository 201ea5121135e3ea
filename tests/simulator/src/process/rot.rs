//! Rot in what a process has on its disk, and what the fault budget has to know of it.

use quorate_storage::BLOCK_BYTES;
use quorate_storage::store::{BlockRef, FileId, Generation};
use quorate_storage::superblock::FILE_NAME;
use quorate_storage::wal::{Location, SegmentNumber};

use super::{Process, length};
use crate::random::Stream;

/// Until a record that is to rot has.
const ROT_TRIES: usize = 8;

impl Process {
    /// Lets some place of the log rot, or seldom the superblock. False if nothing was hit.
    pub fn rot(&mut self, stream: &mut Stream) -> bool {
        if stream.chance(20_000) {
            let hit = self.disk.open(FILE_NAME).is_some_and(|file| {
                let whole = 0..self.disk.bytes(file).len();
                self.disk.rot(file, whole)
            });
            if hit {
                self.health.harmed_elsewhere();
            }
            return hit;
        }
        let newest = self.health.newest().map_or(1, |(segment, _)| segment.0);
        let segment = SegmentNumber(stream.between(1, newest));
        let Some(file) = self.disk.open(&segment.file_name()) else {
            return false;
        };
        let block = length(u64::from(BLOCK_BYTES));
        let blocks = self.disk.bytes(file).len() / block;
        let start = stream.index(blocks) * block;
        let hit = self.disk.rot(file, start..start + block);
        if hit {
            let end = u64::try_from(start + block).expect("files are small");
            let runs = self.is_running();
            self.health.harmed_before(segment, end, runs);
        }
        hit
    }

    /// Lets some place of the store rot: mostly of a file that is in use, seldom of a manifest. False if nothing was
    /// hit.
    pub fn rot_store(&mut self, stream: &mut Stream) -> bool {
        let wants_manifest = stream.chance(50_000);
        let is_wanted = |name: &&str| match wants_manifest {
            true => Generation::from_file_name(name).is_some(),
            false => FileId::from_file_name(name).is_some(),
        };
        let is_published = |name: &&str| {
            let running = self.running.as_ref();
            let file = FileId::from_file_name(name);
            file.is_none_or(|file| running.is_none_or(|it| it.store.keeper.store().has(file)))
        };
        let names = self.disk.names().filter(is_wanted).filter(is_published);
        let files: Vec<_> = names.filter_map(|name| self.disk.open(name)).collect();
        if files.is_empty() {
            return false;
        }
        let file = stream.pick(&files);
        let block = length(u64::from(BLOCK_BYTES));
        let blocks = self.disk.bytes(file).len() / block;
        if blocks == 0 {
            return false;
        }
        let start = stream.index(blocks) * block;
        let hit = self.disk.rot_known(file, start..start + block);
        if hit {
            self.health.harmed_elsewhere();
        }
        hit
    }

    /// A block of the published files that is not what was written there.
    #[must_use]
    pub fn rotten_block(&self) -> Option<BlockRef> {
        let store = self.running.as_ref()?.store.keeper.store();
        let blocks = store
            .files()
            .flat_map(|(file, blocks)| (0..blocks).map(move |block| BlockRef { file, block }));
        let mut blocks = blocks;
        blocks.find(|place| self.is_rotten(*place))
    }

    /// Whether a block on disk is not what was written there; also if its file is gone.
    #[must_use]
    pub fn is_rotten(&self, place: BlockRef) -> bool {
        let start = length(place.offset());
        let range = start..start + length(u64::from(BLOCK_BYTES));
        let file = self.disk.open(&place.file.file_name());
        file.is_none_or(|file| self.disk.is_rotten(file, &range))
    }

    /// Lets the first record rot whose entry is not known here to be chosen. A later flush must prove
    /// that it was there. False if there is none.
    pub fn rot_unchosen(&mut self) -> bool {
        let (Some(running), Some(newest)) = (&self.running, self.health.newest()) else {
            return false;
        };
        let chosen_upto = running.replica.status().chosen_upto;
        let unchosen = running.log.range(chosen_upto.next()..);
        let locations = unchosen.filter_map(|(slot, _)| running.wal.locate(slot.0));
        let proven = |location: &Location| (location.segment, end_of(location)) <= newest;
        let Some(location) = locations.into_iter().find(proven) else {
            return false;
        };
        let Some(file) = self.disk.open(&location.segment.file_name()) else {
            return false;
        };
        let end = end_of(&location);
        let place = length(u64::from(location.offset))..length(end);
        let before = self.disk.bytes(file)[place.clone()].to_vec();
        // Bits that flip elsewhere in the sector may miss the record.
        let is_rotten = (0..ROT_TRIES).any(|_| {
            self.disk.rot(file, place.clone());
            self.disk.bytes(file)[place.clone()] != before
        });
        self.health.harmed_before(location.segment, end, true);
        is_rotten
    }
}

/// Where a record ends in its segment.
fn end_of(location: &Location) -> u64 {
    u64::from(location.offset) + u64::from(location.length)
}
