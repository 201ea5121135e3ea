//! The room on the disk of one replica: how much counts as what, and what it means for the log.
//!
//! A disk that is really full stops a replica in the middle of what it does. So a reserve keeps some
//! room, and is given back when there is no other:
//!
//! ```text
//! enough --- free room below `low`, or a write found none ---> full: the reserve is removed,
//!    ^                                                         the core answers new work `busy`
//!    +--- free room for the reserve again, and more ---------- what is under way goes on
//! ```
//!
//! The shell looks at the disk and keeps the reserve; here is what follows from what it sees. What a replica
//! does about it is the core's (`Input::DiskFull`).

use quorate_protocol::limits::KEPT_FOR_MEMBERS;
use quorate_storage::planted::{Bug, planted};
use quorate_storage::wal::Operation;

/// Segments whose room a replica keeps back: what is under way when the disk turns out to be full (at most
/// `PROPOSAL_BYTES_MAX` of commands) is logged in one, and a checkpoint goes on in the other.
pub const RESERVE_SEGMENTS: u64 = 2;

/// How much room counts as what, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Kept back.
    pub reserve: u64,
    /// Below it the disk is full: less than the next segment of the log and a checkpoint of what the log
    /// holds by then, whose history takes about as much.
    pub low: u64,
    /// From here on it is not any more: the reserve fits again, and a segment beyond `low`, so that it does
    /// not fill up again at once.
    pub high: u64,
    /// From here on there is room for the log that a leader keeps for members that are away, and as much as for
    /// `high` behind it: such log is not given back to the file system, so it must never be what fills the disk.
    pub ample: u64,
}

impl Marks {
    /// The marks of a replica with segments of this size and checkpoints of so much log.
    #[must_use]
    pub fn new(segment_bytes: u64, checkpoint_bytes: u64) -> Self {
        let reserve = RESERVE_SEGMENTS * segment_bytes;
        let low = segment_bytes + checkpoint_bytes;
        let high = reserve + low + segment_bytes;
        Self {
            reserve,
            low,
            high,
            ample: high + KEPT_FOR_MEMBERS * checkpoint_bytes,
        }
    }
}

/// What is known of the room. Whenever it changes the core is to be told, and whenever the disk is found full
/// the reserve is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    marks: Marks,
    is_full: bool,
}

impl Room {
    /// The disk counts as full until there is a reserve.
    #[must_use]
    pub fn new(marks: Marks, has_reserve: bool) -> Self {
        Self {
            marks,
            is_full: !has_reserve,
        }
    }

    /// How much counts as what.
    #[must_use]
    pub fn marks(&self) -> Marks {
        self.marks
    }

    /// Whether so much free room lets a leader keep more log for members that are away.
    #[must_use]
    pub fn is_ample(&self, free: u64) -> bool {
        !self.is_full && free >= self.marks.ample
    }

    /// Whether nothing is begun that can wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// So much is free ahead of a write that would take some, or now and then. True if the disk is full
    /// from now on.
    pub fn look(&mut self, free: u64) -> bool {
        free < self.marks.low && self.note_full()
    }

    /// A write found no room. True if the disk is full from now on; false if that was known.
    pub fn note_full(&mut self) -> bool {
        !std::mem::replace(&mut self.is_full, true)
    }

    /// Whether so much free room is enough to make the reserve again, and to take new work.
    #[must_use]
    pub fn is_enough(&self, free: u64) -> bool {
        free >= self.marks.high && !planted(Bug::RoomNotSeen)
    }

    /// The reserve is there again.
    pub fn note_reserve(&mut self) {
        self.is_full = false;
    }

    /// Whether an operation of the log leaves what room there is to others: the log has segments with room,
    /// unless records wait for one (`is_starved`).
    #[must_use]
    pub fn holds_back(&self, operation: Operation, is_starved: bool) -> bool {
        match operation {
            Operation::Recycle { .. } => false,
            Operation::Prepare { .. } => self.is_full && !is_starved,
        }
    }
}

/// Whether the process ends because a segment found no room: records wait for it, and no reserve was there to
/// be given back. Anything else is tried again.
#[must_use]
pub fn ends_process(is_starved: bool, given_back: bool) -> bool {
    is_starved && !given_back
}

#[cfg(test)]
mod tests {
    use quorate_storage::wal::SegmentNumber;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_disk_is_full_before_it_is_and_has_room_when_the_reserve_fits_twice_over() {
        let marks = Marks::new(64 * MIB, 256 * MIB);
        assert_eq!(marks.reserve, 128 * MIB);
        assert_eq!(marks.low, 320 * MIB);
        assert_eq!(marks.ample, marks.high + 2048 * MIB);
        // With the reserve made again it is not full.
        assert!(marks.high - marks.reserve > marks.low);
    }

    #[test]
    fn it_is_news_once_and_only_enough_room_with_a_reserve_ends_it() {
        let mut room = Room::new(Marks::new(MIB, 4 * MIB), true);
        assert!(!room.look(room.marks().low) && !room.is_full());
        assert!(room.look(room.marks().low - 1) && room.is_full());
        assert!(!room.look(0) && !room.note_full());
        assert!(!room.is_enough(room.marks().high - 1) && room.is_enough(room.marks().high));
        assert!(room.is_full(), "the reserve is not made yet");
        room.note_reserve();
        assert!(!room.is_full() && room.note_full());
    }

    #[test]
    fn only_a_starved_log_takes_the_last_room_and_only_without_a_reserve_it_ends() {
        let one = SegmentNumber::FIRST;
        let prepare = Operation::Prepare { segment: one };
        let recycle = Operation::Recycle { from: one, to: one };
        let mut room = Room::new(Marks::new(MIB, 4 * MIB), false);
        assert!(room.holds_back(prepare, false) && !room.holds_back(prepare, true));
        assert!(!room.holds_back(recycle, false));
        room.note_reserve();
        assert!(!room.holds_back(prepare, false));
        for (is_starved, given_back) in [(false, false), (false, true), (true, true)] {
            assert!(!ends_process(is_starved, given_back));
        }
        assert!(ends_process(true, false));
    }
}
