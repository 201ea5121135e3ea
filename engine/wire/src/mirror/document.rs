//! Mirrors of what a catalog answers.

use quorate_protocol::client::DocumentRow;
use quorate_protocol::ids::DocumentKey;
use quorate_protocol::limits::{DOCUMENTS_MAX, FRAME_PAYLOAD_MAX};
use quorate_protocol::shard::catalog::{Document, PutAnswer};
use rkyv::{Archive, Serialize};

#[derive(Archive, Serialize)]
pub(crate) enum PutMirror {
    Written { version: u64 },
    Conflict { version: u64 },
    Full,
}

impl PutMirror {
    pub fn of(answer: PutAnswer) -> Self {
        match answer {
            PutAnswer::Written { version } => Self::Written { version },
            PutAnswer::Conflict { version } => Self::Conflict { version },
            PutAnswer::Full => Self::Full,
        }
    }
}

impl ArchivedPutMirror {
    pub fn read(&self) -> PutAnswer {
        match self {
            Self::Written { version } => PutAnswer::Written {
                version: version.to_native(),
            },
            Self::Conflict { version } => PutAnswer::Conflict {
                version: version.to_native(),
            },
            Self::Full => PutAnswer::Full,
        }
    }
}

#[derive(Archive, Serialize)]
pub(crate) struct DocumentMirror {
    version: u64,
    bytes: Vec<u8>,
}

impl DocumentMirror {
    pub fn of(document: &Document) -> Self {
        Self {
            version: document.version,
            bytes: document.bytes.clone(),
        }
    }
}

impl ArchivedDocumentMirror {
    pub fn read(&self) -> Document {
        Document {
            version: self.version.to_native(),
            bytes: self.bytes.as_slice().to_vec(),
        }
    }
}

#[derive(Archive, Serialize)]
pub(crate) struct DocumentRowMirror {
    key: u128,
    version: u64,
    bytes: u32,
}

// A list of all fits a frame.
const _: () = assert!(DOCUMENTS_MAX * size_of::<ArchivedDocumentRowMirror>() <= FRAME_PAYLOAD_MAX);

impl DocumentRowMirror {
    pub fn of(row: &DocumentRow) -> Self {
        Self {
            key: row.key.0,
            version: row.version,
            bytes: row.bytes,
        }
    }
}

impl ArchivedDocumentRowMirror {
    pub fn read(&self) -> DocumentRow {
        DocumentRow {
            key: DocumentKey(self.key.to_native()),
            version: self.version.to_native(),
            bytes: self.bytes.to_native(),
        }
    }
}
