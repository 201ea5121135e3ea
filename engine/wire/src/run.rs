//! Bulk payloads: a run of 16-byte words inside an archive, copied once in each direction.
//!
//! An archived run is the same bytes as the [`Words`] it came from, aligned to 16. Serialising it is
//! one `memcpy` into the outgoing buffer, reading it one into a new `Words`; no record is touched by
//! itself.

use quorate_protocol::words::{Row, Rows, Words};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Fallible;
use rkyv::ser::{Allocator, Writer};
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::with::{ArchiveWith, SerializeWith};
use rkyv::{Archive, Place, Portable, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::FrameError;

/// A word as archives hold it: its own archived form.
#[derive(
    Clone,
    Copy,
    Debug,
    Archive,
    Serialize,
    Portable,
    CheckBytes,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[bytecheck(crate = rkyv::bytecheck)]
#[rkyv(as = Self)]
#[repr(C, align(16))]
pub(crate) struct WireWord([u8; 16]);

const _: () = assert!(
    WireWord::COPY_OPTIMIZATION.is_enabled(),
    "runs are copied as a whole"
);

/// Archives a `Words` as a run.
pub(crate) struct Run;

pub(crate) type ArchivedRun = ArchivedVec<WireWord>;

fn wire_words(words: &Words) -> &[WireWord] {
    <[WireWord]>::ref_from_bytes(words.as_bytes()).expect("words are 16 bytes, aligned to 16")
}

impl ArchiveWith<Words> for Run {
    type Archived = ArchivedRun;
    type Resolver = VecResolver;

    fn resolve_with(field: &Words, resolver: VecResolver, out: Place<ArchivedRun>) {
        ArchivedVec::resolve_from_len(field.as_slice().len(), resolver, out);
    }
}

impl<S: Fallible + Allocator + Writer + ?Sized> SerializeWith<Words, S> for Run {
    fn serialize_with(field: &Words, serializer: &mut S) -> Result<VecResolver, S::Error> {
        ArchivedVec::serialize_from_slice(wire_words(field), serializer)
    }
}

/// Copies a run out of an archive.
pub(crate) fn words(run: &ArchivedRun) -> Words {
    Words::from_bytes(run.as_slice().as_bytes()).expect("a run is whole words")
}

/// Copies a run out of an archive as records of `T`; `name` is theirs, in the plural.
pub(crate) fn rows<T: Row>(run: &ArchivedRun, name: &'static str) -> Result<Rows<T>, FrameError> {
    let bytes = size_of_val(run.as_slice());
    // The length is known before anything is copied.
    if !bytes.is_multiple_of(size_of::<T>()) {
        return Err(FrameError::Rows { rows: name, bytes });
    }
    Rows::from_words(words(run)).ok_or(FrameError::Rows { rows: name, bytes })
}

/// One record of `N` words inside a message.
pub(crate) type Record<const N: usize> = [WireWord; N];

/// A record as words.
pub(crate) fn record<T: Row, const N: usize>(row: &T) -> Record<N> {
    const { assert!(size_of::<T>() == N * size_of::<WireWord>()) };
    Record::read_from_bytes(row.as_bytes()).expect("sizes agree")
}

/// A record out of words.
pub(crate) fn row<T: Row, const N: usize>(record: &Record<N>) -> T {
    const { assert!(size_of::<T>() == N * size_of::<WireWord>()) };
    T::read_from_bytes(record.as_bytes()).expect("sizes agree")
}
