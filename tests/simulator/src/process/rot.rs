//! Rot in what a process has on its disk, and what the fault budget has to know of it.

use quorate_storage::BLOCK_BYTES;
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
