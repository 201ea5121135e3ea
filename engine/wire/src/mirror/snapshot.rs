//! Mirror of `snapshot::Message`.

use quorate_protocol::snapshot::{Message, Part};
use quorate_protocol::words::Words;
use rkyv::{Archive, Serialize};

use crate::run::{self, Run};

#[derive(Archive, Serialize)]
pub(crate) enum SnapshotMirror {
    Ask {
        part: PartMirror,
        offset: u64,
    },
    Chunk {
        part: PartMirror,
        offset: u64,
        total: u64,
        #[rkyv(with = Run)]
        bytes: Words,
    },
    Gone {
        part: PartMirror,
    },
}

#[derive(Archive, Serialize)]
pub(crate) enum PartMirror {
    Newest,
    Manifest { number: u64 },
    File { kind: u16, number: u64 },
}

impl SnapshotMirror {
    pub fn of(message: &Message) -> Self {
        match message {
            Message::Ask { part, offset } => Self::Ask {
                part: PartMirror::of(*part),
                offset: *offset,
            },
            Message::Chunk {
                part,
                offset,
                total,
                bytes,
            } => Self::Chunk {
                part: PartMirror::of(*part),
                offset: *offset,
                total: *total,
                bytes: bytes.clone(),
            },
            Message::Gone { part } => Self::Gone {
                part: PartMirror::of(*part),
            },
        }
    }
}

impl ArchivedSnapshotMirror {
    pub fn read(&self) -> Message {
        match self {
            Self::Ask { part, offset } => Message::Ask {
                part: part.read(),
                offset: offset.to_native(),
            },
            Self::Chunk {
                part,
                offset,
                total,
                bytes,
            } => Message::Chunk {
                part: part.read(),
                offset: offset.to_native(),
                total: total.to_native(),
                bytes: run::words(bytes),
            },
            Self::Gone { part } => Message::Gone { part: part.read() },
        }
    }
}

impl PartMirror {
    fn of(part: Part) -> Self {
        match part {
            Part::Newest => Self::Newest,
            Part::Manifest { number } => Self::Manifest { number },
            Part::File { kind, number } => Self::File { kind, number },
        }
    }
}

impl ArchivedPartMirror {
    fn read(&self) -> Part {
        match self {
            Self::Newest => Part::Newest,
            Self::Manifest { number } => Part::Manifest {
                number: number.to_native(),
            },
            Self::File { kind, number } => Part::File {
                kind: kind.to_native(),
                number: number.to_native(),
            },
        }
    }
}
