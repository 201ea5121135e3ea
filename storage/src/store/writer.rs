//! Writes one data file: rows in, sealed blocks out, in extents of at least 256 KiB.
//!
//! Sections are written one behind the other: a row of a later section ends the one before. A block is
//! sealed when no further row fits; the last block of a section may hold fewer. What the writer hands
//! out is final: extents follow each other without a gap, and no byte is written twice.
//!
//! An extent is whatever is sealed when it is asked for. Whoever carries writes out one at a time and has no
//! time for many gets few large ones, so the file keeps up with its rows however seldom it is written to.

use super::block::{self, BlockRef, ContentSum, PAYLOAD_AT, PAYLOAD_BYTES, Section};
use super::footer::{Footer, SectionExtent};
use super::name::{Binding, FileId};
use crate::BLOCK_BYTES;

/// Bytes of the smallest write but for the last of a file: large enough for full bandwidth, small enough not to hold
/// up the log's flushes.
pub const EXTENT_BYTES: usize = 256 << 10;
const BLOCK: usize = BLOCK_BYTES as usize;

const _: () = assert!(EXTENT_BYTES.is_multiple_of(BLOCK));

/// What only history files have: where their rows lie among all, and the range of their keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keyed {
    pub(crate) base: u64,
    pub(crate) key_min: u128,
    pub(crate) key_max: u128,
}

/// One file being written.
#[derive(Debug)]
pub(crate) struct FileWriter {
    file: FileId,
    binding: Binding,
    binding_crc: u32,
    /// The sections of the kind, as far as they are written.
    sections: Vec<SectionExtent>,
    /// Which of them is being written.
    current: usize,
    /// Sealed blocks that are not handed out, and the one being filled.
    waiting: Vec<u8>,
    /// Bytes of rows in the block being filled; 0 = there is none.
    used: usize,
    /// Blocks sealed.
    blocks: u32,
    content: ContentSum,
    is_finished: bool,
    /// Bytes handed out.
    handed_out: u64,
    /// The buffer of an extent that is written: one is open at a time.
    spare: Vec<u8>,
}

impl FileWriter {
    pub(crate) fn new(file: FileId, binding: Binding) -> Self {
        let sections = Section::of(file.kind).iter();
        let empty = |&section| SectionExtent {
            section,
            first: 0,
            blocks: 0,
            rows: 0,
        };
        Self {
            file,
            binding,
            binding_crc: binding.crc(),
            sections: sections.map(empty).collect(),
            current: 0,
            waiting: Vec::new(),
            used: 0,
            blocks: 0,
            content: ContentSum::default(),
            is_finished: false,
            handed_out: 0,
            spare: Vec::new(),
        }
    }

    pub(crate) fn file(&self) -> FileId {
        self.file
    }

    /// Rows written to a section so far.
    pub(crate) fn rows(&self, section: Section) -> u64 {
        let mut sections = self.sections.iter();
        let found = sections.find(|extent| extent.section == section);
        found.map_or(0, |extent| extent.rows)
    }

    /// Bytes of the next extent; 0 if there are too few for one. Beside them there is at most a block being filled.
    pub(crate) fn ready_bytes(&self) -> usize {
        let being_filled = if self.used > 0 { BLOCK } else { 0 };
        let sealed = self.waiting.len() - being_filled;
        match self.is_finished || sealed >= EXTENT_BYTES {
            true => sealed,
            false => 0,
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If a later section was begun, the file's kind has no such section, or the length is wrong.
    pub(crate) fn push(&mut self, section: Section, row: &[u8]) {
        assert_eq!(row.len(), section.row_bytes());
        self.enter(section);
        self.append(row);
        self.sections[self.current].rows += 1;
        if self.used + section.row_bytes() > PAYLOAD_BYTES {
            self.seal();
        }
    }

    /// Adds bytes to a section of one-byte rows.
    pub(crate) fn push_bytes(&mut self, section: Section, mut bytes: &[u8]) {
        assert_eq!(section.row_bytes(), 1);
        self.enter(section);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PAYLOAD_BYTES - self.used));
            self.append(now);
            self.sections[self.current].rows += now.len() as u64;
            if self.used == PAYLOAD_BYTES {
                self.seal();
            }
            bytes = later;
        }
    }

    /// Writes the footer. Only taking extents may follow.
    pub(crate) fn finish(&mut self, keyed: Keyed) -> Footer {
        while self.current + 1 < self.sections.len() {
            self.next_section();
        }
        self.seal();
        let footer = Footer {
            file: self.file,
            sections: self.sections.clone(),
            blocks: self.blocks + 1,
            content: self.content.value(),
            base: keyed.base,
            key_min: keyed.key_min,
            key_max: keyed.key_max,
        };
        let at = self.open_block();
        footer.encode(&mut self.waiting[at..], &self.binding);
        self.blocks += 1;
        self.is_finished = true;
        footer
    }

    /// The next extent to write: offset in the file, and whole blocks.
    pub(crate) fn take(&mut self) -> Option<(u64, Vec<u8>)> {
        let ready = self.ready_bytes();
        if ready == 0 {
            return None;
        }
        let mut extent = std::mem::replace(&mut self.waiting, std::mem::take(&mut self.spare));
        self.waiting.extend_from_slice(&extent[ready..]);
        extent.truncate(ready);
        let offset = self.handed_out;
        self.handed_out += ready as u64;
        Some((offset, extent))
    }

    /// The buffer of an extent that is written.
    pub(crate) fn give_back(&mut self, mut bytes: Vec<u8>) {
        bytes.clear();
        self.spare = bytes;
    }

    fn enter(&mut self, section: Section) {
        while self.sections[self.current].section != section {
            assert!(
                self.current + 1 < self.sections.len(),
                "{section:?} is over, or none of {}",
                self.file
            );
            self.next_section();
        }
    }

    fn next_section(&mut self) {
        self.seal();
        self.current += 1;
        self.sections[self.current].first = self.blocks;
    }

    fn append(&mut self, bytes: &[u8]) {
        let at = match self.used {
            0 => self.open_block(),
            _ => self.waiting.len() - BLOCK,
        };
        let from = at + PAYLOAD_AT + self.used;
        self.waiting[from..from + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }

    /// Appends a block of zeros; where it begins.
    fn open_block(&mut self) -> usize {
        let at = self.waiting.len();
        self.waiting.resize(at + BLOCK, 0);
        at
    }

    /// Seals the block being filled, if there is one.
    fn seal(&mut self) {
        if self.used == 0 {
            return;
        }
        let place = BlockRef {
            file: self.file,
            block: self.blocks,
        };
        let section = self.sections[self.current].section;
        let at = self.waiting.len() - BLOCK;
        let block = &mut self.waiting[at..];
        let crc = block::seal(block, self.binding_crc, place, section, self.used);
        self.content.add(crc);
        self.used = 0;
        self.blocks = self.blocks.checked_add(1).expect("2^32 blocks in a file");
        self.sections[self.current].blocks += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::name::FileKind;

    const BINDING: Binding = Binding {
        cluster: 7,
        shard: 2,
    };

    fn written(writer: &mut FileWriter, footer: &Footer) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some((offset, extent)) = writer.take() {
            assert_eq!(offset, bytes.len() as u64);
            bytes.extend_from_slice(&extent);
            writer.give_back(extent);
        }
        assert_eq!(bytes.len(), footer.blocks as usize * BLOCK);
        assert_eq!(writer.ready_bytes(), 0);
        bytes
    }

    #[test]
    fn rows_are_found_where_the_footer_says() {
        let file = FileId {
            kind: FileKind::Accounts,
            number: 4,
        };
        let mut writer = FileWriter::new(file, BINDING);
        let rows = 25 * 64 + 3;
        for row in 0..rows {
            writer.push(
                Section::AccountRows,
                &[u8::try_from(row % 251).unwrap(); 160],
            );
        }
        assert_eq!(writer.ready_bytes(), 64 * BLOCK);
        writer.push(Section::Gone, &[9; 16]);
        for _ in 0..=rows {
            writer.push(Section::AccountIndex, &[3; 12]);
        }
        let footer = writer.finish(Keyed::default());
        let bytes = written(&mut writer, &footer);
        let last = &bytes[bytes.len() - BLOCK..];
        assert_eq!(
            Footer::decode(last, &BINDING, file, footer.blocks),
            Ok(footer.clone())
        );

        let mut content = ContentSum::default();
        for (index, block) in bytes.chunks(BLOCK).enumerate() {
            let index = u32::try_from(index).unwrap();
            let block = footer.decode_block(index, block, &BINDING).unwrap();
            if block.section != Section::Footer {
                content.add(block.crc);
            }
        }
        assert_eq!(content.value(), footer.content);

        for row in 0..rows {
            let at = footer.locate(Section::AccountRows, row).unwrap();
            let from = usize::try_from(at.place.offset()).unwrap() + PAYLOAD_AT + at.at;
            assert_eq!(bytes[from], u8::try_from(row % 251).unwrap());
        }
        assert_eq!(footer.locate(Section::AccountRows, rows), None);
        assert_eq!(footer.locate(Section::Side, 0), None);
    }

    /// Whoever is slow is given more at once, and never less than is worth a write.
    #[test]
    fn an_extent_is_all_that_is_sealed() {
        let kind = FileKind::Accounts;
        let mut writer = FileWriter::new(FileId { kind, number: 4 }, BINDING);
        let row = [7; 160];
        let push = |writer: &mut FileWriter, blocks: usize| {
            for _ in 0..blocks * 25 {
                writer.push(Section::AccountRows, &row);
            }
        };
        push(&mut writer, 63);
        assert_eq!((writer.ready_bytes(), writer.take()), (0, None));
        push(&mut writer, 1_000);
        // The block being filled is not part of it.
        writer.push(Section::AccountRows, &row);
        assert_eq!(writer.ready_bytes(), 1_063 * BLOCK);
        let (offset, extent) = writer.take().unwrap();
        assert_eq!((offset, extent.len()), (0, 1_063 * BLOCK));
        assert_eq!((writer.ready_bytes(), writer.take()), (0, None));
        writer.give_back(extent);
        for _ in 0..=1_063 * 25 {
            writer.push(Section::AccountIndex, &[3; 12]);
        }
        let footer = writer.finish(Keyed::default());
        let (offset, extent) = writer.take().unwrap();
        assert_eq!(offset, 1_063 * BLOCK as u64);
        assert_eq!(
            footer
                .decode_block(1_063, &extent[..BLOCK], &BINDING)
                .unwrap()
                .rows,
            row
        );
        assert_eq!((writer.ready_bytes(), writer.take()), (0, None));
    }

    #[test]
    fn bytes_of_any_length_are_split_over_blocks() {
        let file = FileId {
            kind: FileKind::Side,
            number: 1,
        };
        for length in [
            0,
            1,
            PAYLOAD_BYTES - 1,
            PAYLOAD_BYTES,
            PAYLOAD_BYTES + 1,
            300_000,
        ] {
            let side: Vec<u8> = (0..length)
                .map(|at| u8::try_from(at % 249).unwrap())
                .collect();
            let mut writer = FileWriter::new(file, BINDING);
            for part in side.chunks(1_000) {
                writer.push_bytes(Section::Side, part);
            }
            let footer = writer.finish(Keyed::default());
            let bytes = written(&mut writer, &footer);
            let read: Vec<u8> = (0..footer.section(Section::Side).blocks)
                .flat_map(|index| {
                    let block = &bytes[index as usize * BLOCK..][..BLOCK];
                    footer.decode_block(index, block, &BINDING).unwrap().rows
                })
                .copied()
                .collect();
            assert!(read == side, "{length} bytes");
        }
    }

    #[test]
    #[should_panic(expected = "AccountRows is over, or none of accounts-0000000000000004")]
    fn a_section_that_is_over_stays_over() {
        let kind = FileKind::Accounts;
        let mut writer = FileWriter::new(FileId { kind, number: 4 }, BINDING);
        writer.push(Section::Gone, &[9; 16]);
        writer.push(Section::AccountRows, &[9; 160]);
    }
}
