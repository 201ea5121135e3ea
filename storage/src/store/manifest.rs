//! The manifest: which files make up the store as of one checkpoint.
//!
//! ```text
//! at   bytes  field
//!   0    8    magic "QMANIFST"
//!   8    1    version 2
//!   9    1    zero
//!  10    2    bytes of the mark, at most 256
//!  12    4    shard
//!  16    8    cluster
//!  24    8    number: of the checkpoint, from 1; 0 is a store that was begun and holds nothing
//!  32    8    slot: the last one whose effects are in it
//!  40    8    history_next: position of the next history row, from 1
//!  48    4    number of files
//!  52    4    length of the manifest in bytes
//!  56    8    zero
//!  64  256    mark, opaque, then zeros
//! 320  32 n   per file, ascending by kind and number:
//!               0  2  kind       2  2  zero       4  4  blocks
//!               8  8  number    16  8  content
//!              24  4  live rows (accounts), else 0
//!              28  4  swept: so many of the first row blocks hold no live row (accounts), else 0
//!  ..    ..   zeros up to a multiple of 4,096, less four bytes
//! end-4  4    crc32 of everything before
//! ```
//!
//! When may it be trusted: magic and checksum hold over the whole file. A field is then what a writer
//! wrote; cluster and shard are compared with the directory's, the number with the name it lies under.
//! The files it names are trusted through it: a file is the right one if its footer has the same content.

use thiserror::Error;

use super::footer::ROWS_MAX;
use super::name::{Binding, FileId, FileKind, NUMBER_MAX};
use crate::BLOCK_BYTES;
use crate::bytes::{is_zero, put, round_up, u8_at, u16_at, u32_at, u64_at};

const MAGIC: u64 = u64::from_le_bytes(*b"QMANIFST");
const VERSION: u8 = 2;
const MARK_AT: usize = 64;
const FILES_AT: usize = 320;
const FILE_BYTES: usize = 32;
const CRC_BYTES: usize = 4;

/// Bytes that the caller may keep in a manifest.
pub const MARK_BYTES_MAX: usize = 256;
/// Files that one generation may list: the manifest stays within 2 MiB, and reading every footer at
/// open within seconds.
pub const FILES_MAX: usize = 1 << 16;
/// No manifest is longer.
pub const MANIFEST_BYTES_MAX: usize =
    (FILES_AT + FILES_MAX * FILE_BYTES + CRC_BYTES).next_multiple_of(BLOCK_BYTES as usize);

const _: () = assert!(MARK_AT + MARK_BYTES_MAX == FILES_AT);

/// A file as a manifest names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    pub file: FileId,
    /// Blocks, the footer included.
    pub blocks: u32,
    /// Checksum of its content, as its footer has it.
    pub content: u64,
    /// Accounts: rows that are the newest of their account. Else 0.
    pub live: u64,
    /// Accounts: so many of the first blocks of rows hold no live row, and compaction goes on behind them.
    /// Else 0.
    pub swept: u32,
}

/// The store as of one checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub binding: Binding,
    /// Of the checkpoint.
    pub number: u64,
    /// The last slot whose effects are in it.
    pub slot: u64,
    /// Position that the next history row gets, from 1.
    pub history_next: u64,
    /// The caller's.
    pub mark: Vec<u8>,
    /// Ascending.
    pub files: Vec<Listed>,
}

/// Why bytes are not a manifest of this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ManifestError {
    #[error("{found} bytes cannot be a manifest")]
    Length { found: u64 },
    #[error("unreadable")]
    Unreadable,
    #[error("magic {found:016x}, must be {MAGIC:016x}")]
    Magic { found: u64 },
    #[error("checksum {computed:08x} computed, {stored:08x} stored")]
    Crc { computed: u32, stored: u32 },
    #[error("manifest version {found}, {VERSION} supported")]
    Version { found: u8 },
    #[error("cluster id {found} on disk, {expected} in config")]
    Cluster { found: u64, expected: u64 },
    #[error("shard {found} on disk, {expected} in config")]
    Shard { found: u32, expected: u32 },
    /// The checksum holds over a field that no writer writes.
    #[error("impossible {field}: {found}")]
    Field { field: &'static str, found: u64 },
}

impl Manifest {
    /// A store that was begun and holds nothing.
    #[must_use]
    pub fn empty(binding: Binding) -> Self {
        Self {
            binding,
            number: 0,
            slot: 0,
            history_next: 1,
            mark: Vec::new(),
            files: Vec::new(),
        }
    }

    /// The files of one kind, ascending by number.
    pub fn files_of(&self, kind: FileKind) -> impl DoubleEndedIterator<Item = &Listed> {
        self.files
            .iter()
            .filter(move |listed| listed.file.kind == kind)
    }

    /// Whether it names the file.
    #[must_use]
    pub fn lists(&self, file: FileId) -> bool {
        self.find(file).is_some()
    }

    /// The file as it names it.
    #[must_use]
    pub fn find(&self, file: FileId) -> Option<&Listed> {
        let at = self.files.binary_search_by_key(&file, |listed| listed.file);
        Some(&self.files[at.ok()?])
    }

    /// The manifest's file.
    ///
    /// # Panics
    /// If it is not one that [`Manifest::decode`] accepts: the store could not be opened again.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.check().expect("a writer writes what it can read");
        let bytes = FILES_AT + self.files.len() * FILE_BYTES + CRC_BYTES;
        let mut out = vec![0; round_up(bytes, BLOCK_BYTES)];
        let u32_of = |count: usize| u32::try_from(count).expect("at most 2 MiB");
        let mark_bytes = u16::try_from(self.mark.len()).expect("at most 256");
        put(&mut out, 0, &MAGIC.to_le_bytes());
        put(&mut out, 8, &[VERSION]);
        put(&mut out, 10, &mark_bytes.to_le_bytes());
        put(&mut out, 12, &self.binding.shard.to_le_bytes());
        put(&mut out, 16, &self.binding.cluster.to_le_bytes());
        put(&mut out, 24, &self.number.to_le_bytes());
        put(&mut out, 32, &self.slot.to_le_bytes());
        put(&mut out, 40, &self.history_next.to_le_bytes());
        put(&mut out, 48, &u32_of(self.files.len()).to_le_bytes());
        let length = u32_of(out.len());
        put(&mut out, 52, &length.to_le_bytes());
        put(&mut out, MARK_AT, &self.mark);
        for (index, listed) in self.files.iter().enumerate() {
            let at = FILES_AT + index * FILE_BYTES;
            put(&mut out, at, &listed.file.kind.code().to_le_bytes());
            put(&mut out, at + 4, &listed.blocks.to_le_bytes());
            put(&mut out, at + 8, &listed.file.number.to_le_bytes());
            put(&mut out, at + 16, &listed.content.to_le_bytes());
            let live = u32::try_from(listed.live).expect("checked above");
            put(&mut out, at + 24, &live.to_le_bytes());
            put(&mut out, at + 28, &listed.swept.to_le_bytes());
        }
        let crc_at = out.len() - CRC_BYTES;
        let crc = crc32fast::hash(&out[..crc_at]);
        put(&mut out, crc_at, &crc.to_le_bytes());
        out
    }

    /// Reads a manifest of any store.
    ///
    /// # Errors
    /// Says which field is wrong. Whose it is, is for [`Manifest::check_owner`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let length = ManifestError::Length {
            found: bytes.len() as u64,
        };
        if !length_valid(bytes.len() as u64) {
            return Err(length);
        }
        if u64_at(bytes, 0) != MAGIC {
            return Err(ManifestError::Magic {
                found: u64_at(bytes, 0),
            });
        }
        let crc_at = bytes.len() - CRC_BYTES;
        let (computed, stored) = (crc32fast::hash(&bytes[..crc_at]), u32_at(bytes, crc_at));
        if computed != stored {
            return Err(ManifestError::Crc { computed, stored });
        }
        if u8_at(bytes, 8) != VERSION {
            return Err(ManifestError::Version {
                found: u8_at(bytes, 8),
            });
        }
        let field = |field, found| ManifestError::Field { field, found };
        let (mark_bytes, files) = (usize::from(u16_at(bytes, 10)), u32_at(bytes, 48) as usize);
        if mark_bytes > MARK_BYTES_MAX {
            return Err(field("mark", mark_bytes as u64));
        }
        let end = FILES_AT + files.min(FILES_MAX) * FILE_BYTES;
        if files > FILES_MAX || round_up(end + CRC_BYTES, BLOCK_BYTES) != bytes.len() {
            return Err(field("number of files", files as u64));
        }
        let zeros = [
            &bytes[9..10],
            &bytes[56..MARK_AT],
            &bytes[MARK_AT + mark_bytes..FILES_AT],
            &bytes[end..crc_at],
        ];
        if u32_at(bytes, 52) as usize != bytes.len() || zeros.iter().any(|zeros| !is_zero(zeros)) {
            return Err(field("padding", 1));
        }
        let rows = bytes[FILES_AT..end].chunks(FILE_BYTES);
        let manifest = Self {
            binding: Binding {
                cluster: u64_at(bytes, 16),
                shard: u32_at(bytes, 12),
            },
            number: u64_at(bytes, 24),
            slot: u64_at(bytes, 32),
            history_next: u64_at(bytes, 40),
            mark: bytes[MARK_AT..MARK_AT + mark_bytes].to_vec(),
            files: rows.map(decode_file).collect::<Result<_, _>>()?,
        };
        manifest.check()?;
        Ok(manifest)
    }

    /// Whether this is the store that the directory's superblock means.
    ///
    /// # Errors
    /// Names the first difference, with both values.
    pub fn check_owner(&self, expected: &Binding) -> Result<(), ManifestError> {
        if self.binding.cluster != expected.cluster {
            return Err(ManifestError::Cluster {
                found: self.binding.cluster,
                expected: expected.cluster,
            });
        }
        if self.binding.shard != expected.shard {
            return Err(ManifestError::Shard {
                found: self.binding.shard,
                expected: expected.shard,
            });
        }
        Ok(())
    }

    /// Whether a writer can have written these fields.
    fn check(&self) -> Result<(), ManifestError> {
        let field = |field, found| ManifestError::Field { field, found };
        if self.mark.len() > MARK_BYTES_MAX {
            return Err(field("mark", self.mark.len() as u64));
        }
        if self.files.len() > FILES_MAX {
            return Err(field("number of files", self.files.len() as u64));
        }
        if self.number >= NUMBER_MAX {
            return Err(field("number", self.number));
        }
        if self.history_next == 0 {
            return Err(field("history_next", 0));
        }
        for listed in &self.files {
            if !listed.file.is_possible() || listed.file.number > self.number {
                return Err(field("number of a file", listed.file.number));
            }
            if listed.blocks == 0 {
                return Err(field("blocks of a file", 0));
            }
            let counted = listed.live != 0 || listed.swept != 0;
            if counted && listed.file.kind != FileKind::Accounts || listed.live > ROWS_MAX {
                return Err(field("live rows", listed.live));
            }
            if listed.swept >= listed.blocks {
                return Err(field("swept blocks", u64::from(listed.swept)));
            }
        }
        match self.files.is_sorted_by(|a, b| a.file < b.file) {
            true => Ok(()),
            false => Err(field("order of files", 0)),
        }
    }
}

/// Whether a manifest can have this many bytes.
pub(crate) fn length_valid(bytes: u64) -> bool {
    bytes > 0 && bytes.is_multiple_of(u64::from(BLOCK_BYTES)) && bytes <= MANIFEST_BYTES_MAX as u64
}

fn decode_file(row: &[u8]) -> Result<Listed, ManifestError> {
    let field = |field, found| ManifestError::Field { field, found };
    let code = u16_at(row, 0);
    if u16_at(row, 2) != 0 {
        return Err(field("padding", u64::from(u16_at(row, 2))));
    }
    let kind = FileKind::from_code(code).ok_or_else(|| field("kind", u64::from(code)))?;
    Ok(Listed {
        file: FileId {
            kind,
            number: u64_at(row, 8),
        },
        blocks: u32_at(row, 4),
        content: u64_at(row, 16),
        live: u64::from(u32_at(row, 24)),
        swept: u32_at(row, 28),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let listed = |kind, number, live| Listed {
            file: FileId { kind, number },
            blocks: 9,
            content: 0x1234 + number,
            live,
            swept: 0,
        };
        Manifest {
            binding: Binding {
                cluster: 7,
                shard: 2,
            },
            number: 5,
            slot: 900,
            history_next: 77,
            mark: b"digest".to_vec(),
            files: vec![
                listed(FileKind::Accounts, 3, 4),
                listed(FileKind::Accounts, 5, 40),
                listed(FileKind::History, 5, 0),
                listed(FileKind::Side, 5, 0),
            ],
        }
    }

    fn resealed(change: impl FnOnce(&mut Vec<u8>)) -> Result<Manifest, ManifestError> {
        let mut bytes = manifest().encode();
        change(&mut bytes);
        let crc_at = bytes.len() - CRC_BYTES;
        let crc = crc32fast::hash(&bytes[..crc_at]);
        put(&mut bytes, crc_at, &crc.to_le_bytes());
        Manifest::decode(&bytes)
    }

    #[test]
    fn decodes_what_it_encodes() {
        assert_eq!(Manifest::decode(&manifest().encode()), Ok(manifest()));
        let empty = Manifest::empty(manifest().binding);
        assert_eq!(Manifest::decode(&empty.encode()), Ok(empty));
        let file = manifest().files[1];
        assert_eq!(manifest().find(file.file), Some(&file));
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_refused() {
        let bytes = manifest().encode();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(Manifest::decode(&bad).is_err(), "byte {at}");
            assert!(Manifest::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn what_no_writer_writes_is_refused_although_its_checksum_holds() {
        let refused = |at: usize, byte: u8| {
            let decoded = resealed(|bytes| bytes[at] = byte);
            decoded.unwrap_err().to_string()
        };
        assert_eq!(refused(8, 3), "manifest version 3, 2 supported");
        assert_eq!(refused(9, 1), "impossible padding: 1");
        assert_eq!(refused(11, 2), "impossible mark: 518");
        assert_eq!(refused(31, 1), "impossible number: 72057594037927941");
        assert_eq!(refused(24, 4), "impossible number of a file: 5");
        assert_eq!(refused(40, 0), "impossible history_next: 0");
        assert_eq!(refused(51, 1), "impossible number of files: 16777220");
        assert_eq!(refused(50, 0xFF), "impossible number of files: 16711684");
        assert_eq!(refused(53, 0), "impossible padding: 1");
        assert_eq!(refused(FILES_AT, 9), "impossible kind: 9");
        assert_eq!(refused(FILES_AT, 3), "impossible live rows: 4");
        assert_eq!(refused(FILES_AT + 2, 9), "impossible padding: 9");
        assert_eq!(refused(FILES_AT + 4, 0), "impossible blocks of a file: 0");
        assert_eq!(refused(FILES_AT + 8, 5), "impossible order of files: 0");
        assert_eq!(
            refused(FILES_AT + 27, 0x41),
            "impossible live rows: 1090519044"
        );
        assert_eq!(refused(FILES_AT + 28, 9), "impossible swept blocks: 9");
    }

    #[test]
    fn the_wrong_owner_is_refused_with_both_values() {
        let manifest = manifest();
        let wrong = |cluster, shard| {
            let expected = Binding { cluster, shard };
            manifest.check_owner(&expected).unwrap_err().to_string()
        };
        assert_eq!(wrong(8, 2), "cluster id 7 on disk, 8 in config");
        assert_eq!(wrong(7, 1), "shard 2 on disk, 1 in config");
        assert_eq!(manifest.check_owner(&manifest.binding), Ok(()));
    }
}
