//! One block that is not what was written, asked of the group.
//!
//! ```text
//! this replica                          a replica of the group
//!   Ask File, the block's offset ------------>
//!   <---------------- Chunk: its first block | Gone, or nothing: the next one is asked
//! ```
//!
//! All replicas of a shard write the same files, so a block that verifies for its place is the block. How long
//! an answer is waited for, and what is done with the block, is the shell's.

use std::collections::BTreeMap;

use quorate_protocol::ids::ReplicaId;
use quorate_protocol::snapshot::{Message, Part};
use quorate_storage::BLOCK_BYTES;
use quorate_storage::planted::{Bug, planted};
use quorate_storage::store::{BlockRef, Store};

/// How often each peer is asked: one may just be connected to again, or be a checkpoint behind.
const ROUNDS: usize = 2;

/// The questions for one block.
#[derive(Debug)]
pub struct Repair {
    place: BlockRef,
    group: Vec<ReplicaId>,
    /// Questions so far.
    asked: usize,
    /// The last one is not answered yet.
    is_open: bool,
}

/// What a message comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It answers something else.
    Other,
    /// There is no such block there.
    Nothing,
    /// What is said to be the block.
    Block(Vec<u8>),
}

impl Repair {
    /// Begins to ask the other members of the group.
    #[must_use]
    pub fn new(place: BlockRef, group: Vec<ReplicaId>) -> Self {
        Self {
            place,
            group,
            asked: 0,
            is_open: false,
        }
    }

    /// The block.
    #[must_use]
    pub fn place(&self) -> BlockRef {
        self.place
    }

    /// Whom to ask next, and what. Who was asked before is not waited for any more. `None`: nobody is left.
    pub fn next_question(&mut self) -> Option<(ReplicaId, Message)> {
        self.is_open = false;
        if self.asked == ROUNDS * self.group.len() {
            return None;
        }
        let to = self.group[self.asked % self.group.len()];
        self.asked += 1;
        self.is_open = true;
        let (part, offset) = (self.part(), self.place.offset());
        Some((to, Message::Ask { part, offset }))
    }

    /// What a replica said.
    pub fn answer(&mut self, from: ReplicaId, message: &Message) -> Answer {
        if !self.is_open || self.group[(self.asked - 1) % self.group.len()] != from {
            return Answer::Other;
        }
        let answer = match message {
            Message::Chunk {
                part,
                offset,
                bytes,
                ..
            } if (*part, *offset) == (self.part(), self.place.offset()) => {
                let block = bytes.as_bytes().get(..BLOCK_BYTES as usize);
                block.map_or(Answer::Nothing, |block| Answer::Block(block.to_vec()))
            }
            Message::Gone { part } if *part == self.part() => Answer::Nothing,
            Message::Chunk { .. } | Message::Gone { .. } | Message::Ask { .. } => Answer::Other,
        };
        self.is_open = answer == Answer::Other;
        answer
    }

    fn part(&self) -> Part {
        Part::File {
            kind: self.place.file.kind.code(),
            number: self.place.file.number,
        }
    }
}

/// How a repair ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repaired {
    /// It is whole on disk now.
    Written,
    /// It was whole when it was read again.
    Whole,
    /// Its file was dropped: nothing in it is wanted any more.
    Dropped,
    /// Nobody could give it.
    Not,
}

/// The last block that each reader took for damaged and that was whole.
#[derive(Debug)]
pub struct FoundWhole<R>(BTreeMap<R, BlockRef>);

impl<R: Ord> Default for FoundWhole<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R: Ord> FoundWhole<R> {
    /// The reader got what it wanted.
    pub fn note_taken(&mut self, reader: &R) {
        self.0.remove(reader);
    }

    /// Whether the reader for whom a repair ended may read the block again. What verifies and still makes no sense to
    /// the same reader is no damage of a block.
    pub fn may_read_again(&mut self, reader: R, place: BlockRef, repaired: Repaired) -> bool {
        match repaired {
            Repaired::Written | Repaired::Dropped => {
                self.note_taken(&reader);
                true
            }
            Repaired::Whole => self.0.insert(reader, place) != Some(place),
            Repaired::Not => false,
        }
    }
}

/// Whether what a peer sent is the block of this place.
#[must_use]
pub fn is_the_block(store: &Store, place: BlockRef, bytes: &[u8]) -> bool {
    let (file, block) = (place.file, place.block);
    let checked = store.check_block(file.kind, file.number, block, bytes);
    checked.is_ok() || planted(Bug::RepairUnchecked) && store.has(file)
}

#[cfg(test)]
mod tests {
    use quorate_protocol::words::Words;
    use quorate_storage::store::{FileId, FileKind};

    use super::*;

    /// Seed 1365: a third had repaired a block for which two waited. The second of them was told that it makes no sense, and
    /// took its store for lost.
    #[test]
    fn several_readers_may_find_a_block_whole_and_one_may_once() {
        let file = FileId {
            kind: FileKind::Accounts,
            number: 2,
        };
        let (here, there) = (BlockRef { file, block: 1 }, BlockRef { file, block: 2 });
        let mut found = FoundWhole::default();
        assert!(found.may_read_again("question", here, Repaired::Whole));
        assert!(found.may_read_again("page", here, Repaired::Whole));
        assert!(!found.may_read_again("page", here, Repaired::Whole));
        assert!(found.may_read_again("page", there, Repaired::Whole));
        found.note_taken(&"question");
        assert!(found.may_read_again("question", here, Repaired::Whole));
        assert!(found.may_read_again("question", here, Repaired::Written));
        assert!(
            found.may_read_again("question", here, Repaired::Whole),
            "it rotted again"
        );
        assert!(!found.may_read_again("question", here, Repaired::Not));
    }

    fn chunk(part: Part, offset: u64, first: u8) -> Message {
        let mut bytes = vec![first; 2 * BLOCK_BYTES as usize];
        bytes[BLOCK_BYTES as usize..].fill(0);
        Message::Chunk {
            part,
            offset,
            total: 1 << 20,
            bytes: Words::from_bytes(&bytes).expect("whole words"),
        }
    }

    #[test]
    fn peers_are_asked_in_turn_and_only_the_one_that_was_asked_last_is_heard() {
        let file = FileId {
            kind: FileKind::History,
            number: 7,
        };
        let place = BlockRef { file, block: 3 };
        let (one, two) = (ReplicaId(1), ReplicaId(2));
        let mut repair = Repair::new(place, vec![one, two]);
        let (to, question) = repair.next_question().expect("nobody was asked");
        let Message::Ask { part, offset } = question else {
            panic!("{question:?}");
        };
        assert_eq!((to, offset), (one, 3 * 4096));
        let whole = chunk(part, offset, 9);
        // Another replica, another place, another file.
        assert_eq!(repair.answer(two, &whole), Answer::Other);
        assert_eq!(repair.answer(one, &chunk(part, 0, 9)), Answer::Other);
        let newest = Message::Gone { part: Part::Newest };
        assert_eq!(repair.answer(one, &newest), Answer::Other);
        assert_eq!(repair.answer(one, &Message::Gone { part }), Answer::Nothing);
        assert_eq!(repair.answer(one, &whole), Answer::Other, "answered");
        assert_eq!(repair.next_question().map(|(to, _)| to), Some(two));
        assert_eq!(repair.answer(one, &whole), Answer::Other, "too late");
        let block = vec![9; BLOCK_BYTES as usize];
        assert_eq!(repair.answer(two, &whole), Answer::Block(block));
        let left = std::iter::from_fn(|| repair.next_question().map(|(to, _)| to));
        assert_eq!(left.collect::<Vec<_>>(), [one, two]);
    }
}
