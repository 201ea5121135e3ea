//! What a replica gives of its store to one of its group that rebuilds. Nothing is kept in mind between
//! two questions.

use quorate_protocol::snapshot::{CHUNK_BYTES, Message, Part};
use quorate_protocol::words::Words;
use quorate_storage::BLOCK_BYTES;
use quorate_storage::store::{FileId, FileKind, Store};

/// How a question is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// At once.
    Say(Message),
    /// With bytes of a file: read them, then say [`FileRead::chunk`], or [`FileRead::gone`] if the file has
    /// gone meanwhile.
    Read(FileRead),
}

/// Bytes that are to be read from a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRead {
    pub file: FileId,
    /// In bytes.
    pub offset: u64,
    pub bytes: usize,
    total: u64,
}

/// The answer to `Ask`.
#[must_use]
pub fn answer(store: &Store, part: Part, offset: u64) -> Answer {
    let found = match part {
        Part::Newest => newest(store),
        Part::Manifest { number } => manifest(store, number, offset),
        Part::File { kind, number } => file(store, kind, number, offset),
    };
    found.unwrap_or(Answer::Say(Message::Gone { part }))
}

fn newest(store: &Store) -> Option<Answer> {
    match store.manifest().number {
        0 => None,
        number => manifest(store, number, 0),
    }
}

fn manifest(store: &Store, number: u64, offset: u64) -> Option<Answer> {
    let manifest = store.manifests().find(|found| found.number == number)?;
    let encoded = manifest.encode();
    let start = usize::try_from(offset).ok()?;
    let rest = encoded.get(start..).filter(|rest| !rest.is_empty())?;
    Some(Answer::Say(Message::Chunk {
        part: Part::Manifest { number },
        offset,
        total: u64::try_from(encoded.len()).expect("a manifest is small"),
        bytes: Words::from_bytes(&rest[..rest.len().min(CHUNK_BYTES)])?,
    }))
}

fn file(store: &Store, kind: u16, number: u64, offset: u64) -> Option<Answer> {
    let kind = FileKind::from_code(kind)?;
    let file = FileId { kind, number };
    let listed = store.manifests().find_map(|manifest| {
        let listed = manifest.files_of(kind).find(|listed| listed.file == file);
        listed.copied()
    })?;
    let total = u64::from(listed.blocks) * u64::from(BLOCK_BYTES);
    let left = total.checked_sub(offset).filter(|left| *left > 0)?;
    let is_aligned = offset.is_multiple_of(u64::from(BLOCK_BYTES));
    is_aligned.then(|| {
        Answer::Read(FileRead {
            file,
            offset,
            bytes: usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES)),
            total,
        })
    })
}

impl FileRead {
    /// The answer, once the bytes are there.
    ///
    /// # Panics
    /// If these are not as many as were to be read.
    #[must_use]
    pub fn chunk(&self, bytes: &[u8]) -> Message {
        assert_eq!(bytes.len(), self.bytes);
        Message::Chunk {
            part: self.part(),
            offset: self.offset,
            total: self.total,
            bytes: Words::from_bytes(bytes).expect("whole blocks"),
        }
    }

    /// The answer if the file has gone.
    #[must_use]
    pub fn gone(&self) -> Message {
        Message::Gone { part: self.part() }
    }

    fn part(&self) -> Part {
        Part::File {
            kind: self.file.kind.code(),
            number: self.file.number,
        }
    }
}
