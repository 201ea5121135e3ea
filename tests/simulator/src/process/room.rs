//! Room on the disk, as `engine/runtime/src/room.rs` looks after it: what follows from what it sees is in
//! `quorate_durable::room`.

use quorate_durable::room::{Marks, Room, ends_process};
use quorate_protocol::time::Now;
use quorate_storage::wal::Operation;

use super::{Effect, Process};
use crate::disk::SimDisk;

/// The room of one replica's disk, and what its core was not told yet.
#[derive(Debug)]
pub(super) struct RoomTask {
    known: Room,
    news: Option<bool>,
    /// What the core was told last.
    told: bool,
}

impl RoomTask {
    /// A start: makes the reserve if there is room, and has the core told how it stands.
    pub(super) fn begin(marks: Marks, disk: &mut SimDisk) -> Self {
        let known = Room::new(marks, disk.has_reserve(marks.reserve));
        let mut room = Self {
            known,
            news: None,
            told: false,
        };
        room.make_room(disk);
        room.look(disk);
        room.news = Some(room.known.is_full());
        room
    }

    /// What the core is to be told.
    pub(super) fn take_news(&mut self) -> Option<bool> {
        let news = self.news.take()?;
        self.told = news;
        Some(news)
    }

    pub(super) fn has_news(&self) -> bool {
        self.news.is_some()
    }

    /// Whether the core takes no new work.
    pub(super) fn is_told_full(&self) -> bool {
        self.told && self.news.is_none()
    }

    /// Finds out ahead of a write that it would take the last room.
    pub(super) fn look(&mut self, disk: &mut SimDisk) {
        if self.known.look(disk.free()) {
            self.news = Some(true);
            disk.give_back();
        }
    }

    /// A write found no room. True if the reserve was given back.
    pub(super) fn note_full(&mut self, disk: &mut SimDisk) -> bool {
        if self.known.note_full() {
            self.news = Some(true);
        }
        disk.give_back()
    }

    /// A segment of the log found no room. False if the process ends of it.
    pub(super) fn outlives(&mut self, is_starved: bool, disk: &mut SimDisk) -> bool {
        let given_back = self.note_full(disk);
        !ends_process(is_starved, given_back)
    }

    pub(super) fn holds_back(&self, operation: Operation, is_starved: bool) -> bool {
        self.known.holds_back(operation, is_starved)
    }

    /// What is done every now and then.
    fn watch(&mut self, disk: &mut SimDisk) {
        if !self.known.is_full() {
            return self.look(disk);
        }
        self.make_room(disk);
        if !self.known.is_full() {
            self.news = Some(false);
        }
    }

    fn make_room(&mut self, disk: &mut SimDisk) {
        let enough = self.known.is_full() && self.known.is_enough(disk.free());
        if enough && disk.keep_back(self.known.marks().reserve) {
            self.known.note_reserve();
        }
    }
}

impl Process {
    /// Looks at the disk, as is due every now and then.
    pub fn watch_room(&mut self, now: Now) -> Vec<Effect> {
        if let Some(rebuild) = &mut self.rebuild {
            rebuild.room.watch(&mut self.disk);
            return Vec::new();
        }
        let running = self.running.as_mut().expect("checked by the world");
        running.room.watch(&mut self.disk);
        self.go_on(now)
    }

    /// How much room counts as what.
    #[must_use]
    pub fn marks(&self) -> Marks {
        let weight = self.config.checkpoint_weight.unwrap_or(0);
        Marks::new(self.superblock.identity.segment_bytes, weight)
    }
}
