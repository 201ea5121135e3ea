//! Named documents in a shard's replicated state, changed by compare-and-set.
//!
//! What an operator's tools have to remember about a cluster is kept by the cluster: a plan of moves that is being
//! carried out survives the tool that carries it out. The core never reads what is in them.
//!
//! | `expected` | the document is | effect |
//! | --- | --- | --- |
//! | its version | there | replaced, or removed if the new bytes are none |
//! | the version of what is not there | not there | written |
//! | anything else | either | none; the answer names its version |
//!
//! A version is the number of a write to this catalog. What is not there has one as well: that of the last removal, of
//! whatever document. So no version of a key occurs twice with something else in between, and a write that comes late, or twice, cannot
//! bring back what was removed (`a_late_write_does_not_bring_back_what_was_removed`). Whoever did not hear the answer to a write finds out
//! by reading: it has happened if and only if the bytes are there.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::checkpoint::restore::RestoreError;
use crate::checkpoint::side::{Decoder, Encoder};
use crate::client::DocumentRow;
use crate::ids::DocumentKey;
use crate::limits::{CATALOG_BYTES_MAX, DOCUMENT_BYTES_MAX, DOCUMENTS_MAX};
use crate::planted::{Bug, planted};
use crate::table::hash128;
use crate::words::{WORD_SIZE, Word};

/// The fixed part of [`crate::entry::Section::PutDocument`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DocumentHead {
    pub key: DocumentKey,
    /// The version that it must have.
    pub expected: u64,
    /// Length of the bytes that follow; 0 removes it.
    pub bytes: u32,
    pub reserved: u32,
}

const _: () = assert!(size_of::<DocumentHead>() == 32);

/// A write, and what it is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentSection<'a> {
    pub head: &'a DocumentHead,
    pub bytes: &'a [u8],
}

impl<'a> DocumentSection<'a> {
    /// Reads the head and the bytes, which zeros fill up to whole words. `None` if they do not fit.
    #[must_use]
    pub fn parse(section: &'a [u8]) -> Option<Self> {
        let (head, rest) = DocumentHead::ref_from_prefix(section).ok()?;
        let (bytes, padding) = rest.split_at_checked(usize::try_from(head.bytes).ok()?)?;
        let is_whole = padding.len() < WORD_SIZE && padding.iter().all(|&byte| byte == 0);
        (is_whole && head.reserved == 0).then_some(Self { head, bytes })
    }
}

/// Bytes that a write of so many takes in an entry, without the section's header.
#[must_use]
pub fn section_bytes(bytes: usize) -> usize {
    size_of::<DocumentHead>() + bytes.next_multiple_of(WORD_SIZE)
}

/// The same as words.
pub(crate) fn push_section(words: &mut Vec<Word>, head: &DocumentHead, bytes: &[u8]) {
    let [first, second] = zerocopy::transmute!(*head);
    words.extend::<[Word; 2]>([first, second]);
    words.extend(bytes.chunks(WORD_SIZE).map(|chunk| {
        let mut word = Word::default();
        word.0[..chunk.len()].copy_from_slice(chunk);
        word
    }));
}

/// A document as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    pub version: u64,
    /// None: it is not there.
    pub bytes: Vec<u8>,
}

impl Document {
    /// Whether there is one.
    #[must_use]
    pub fn is_there(&self) -> bool {
        !self.bytes.is_empty()
    }
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutAnswer {
    /// It is done, as this version.
    Written { version: u64 },
    /// Nothing was done: it has this version.
    Conflict { version: u64 },
    /// Nothing was done: there are [`DOCUMENTS_MAX`], or they would have more than [`CATALOG_BYTES_MAX`] bytes.
    Full,
}

/// The documents of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    documents: BTreeMap<DocumentKey, Document>,
    /// So far.
    writes: u64,
    /// Version of what is not there: the last write that removed a document.
    removed: u64,
    /// Of all documents.
    bytes: usize,
    /// Wrapping sum of [`digest_of`] over the documents.
    digest: u128,
}

impl Catalog {
    /// A document, with the version that it has even if it is not there.
    #[must_use]
    pub fn get(&self, key: DocumentKey) -> Document {
        let there = self.documents.get(&key).cloned();
        there.unwrap_or(Document {
            version: self.removed,
            bytes: Vec::new(),
        })
    }

    /// What there is, without contents, in the order of keys.
    #[must_use]
    pub fn list(&self) -> Vec<DocumentRow> {
        let rows = self.documents.iter().map(|(&key, document)| DocumentRow {
            key,
            version: document.version,
            bytes: length(&document.bytes),
        });
        rows.collect()
    }

    /// Carries a write out.
    pub(crate) fn put(&mut self, head: &DocumentHead, bytes: &[u8]) -> PutAnswer {
        let there = self.documents.get(&head.key);
        let version = there.map_or(self.removed, |document| document.version);
        if version != head.expected && !planted(Bug::PutIgnoresVersion) {
            return PutAnswer::Conflict { version };
        }
        let freed = there.map_or(0, |document| document.bytes.len());
        let is_new = there.is_none();
        let is_full = is_new && self.documents.len() >= DOCUMENTS_MAX
            || self.bytes - freed + bytes.len() > CATALOG_BYTES_MAX
            || bytes.len() > DOCUMENT_BYTES_MAX;
        if is_full && !bytes.is_empty() {
            return PutAnswer::Full;
        }
        self.writes += 1;
        let version = self.writes;
        self.remove(head.key);
        if bytes.is_empty() {
            self.removed = version;
        } else {
            let bytes = bytes.to_vec();
            self.add(head.key, Document { version, bytes });
        }
        PutAnswer::Written { version }
    }

    fn add(&mut self, key: DocumentKey, document: Document) {
        self.bytes += document.bytes.len();
        self.digest = self.digest.wrapping_add(digest_of(key, &document));
        self.documents.insert(key, document);
    }

    fn remove(&mut self, key: DocumentKey) {
        if let Some(document) = self.documents.remove(&key) {
            self.bytes -= document.bytes.len();
            self.digest = self.digest.wrapping_sub(digest_of(key, &document));
        }
    }

    /// Digest of all of it.
    pub(crate) fn digest(&self) -> u128 {
        let parts = [u128::from(self.writes), u128::from(self.removed)];
        let writes = hash128(parts.as_bytes()).rotate_left(7);
        match self.writes {
            0 => 0,
            _ => self.digest.wrapping_add(writes),
        }
    }

    /// `writes u64, removed u64, count u32`, then for each document in the order of keys `key u128, version u64, length u32, bytes`.
    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.put(&self.writes);
        out.put(&self.removed);
        out.count(self.documents.len());
        for (key, document) in &self.documents {
            out.put(key);
            out.put(&document.version);
            out.rows(&document.bytes);
        }
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, RestoreError> {
        let what = "documents";
        let mut catalog = Self {
            writes: from.take(what)?,
            removed: from.take(what)?,
            ..Self::default()
        };
        if catalog.removed > catalog.writes {
            return Err(RestoreError::Side { what });
        }
        for _ in 0..from.count(what, 28)? {
            let key = from.take(what)?;
            let version = from.take(what)?;
            let bytes = from.rows(what)?;
            let is_sound = !catalog.documents.contains_key(&key)
                && (1..=catalog.writes).contains(&version)
                && (1..=DOCUMENT_BYTES_MAX).contains(&bytes.len());
            if !is_sound {
                return Err(RestoreError::Side { what });
            }
            catalog.add(key, Document { version, bytes });
        }
        Ok(catalog)
    }
}

fn digest_of(key: DocumentKey, document: &Document) -> u128 {
    let parts = [key.0, document.version.into(), hash128(&document.bytes)];
    hash128(parts.as_bytes()).rotate_left(3)
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("bounded by DOCUMENT_BYTES_MAX")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: DocumentKey = DocumentKey(7);

    fn put(catalog: &mut Catalog, key: DocumentKey, expected: u64, bytes: &[u8]) -> PutAnswer {
        let head = DocumentHead {
            key,
            expected,
            bytes: length(bytes),
            reserved: 0,
        };
        catalog.put(&head, bytes)
    }

    fn round_trip(catalog: &Catalog) -> Catalog {
        let mut out = Encoder::default();
        catalog.encode(&mut out);
        let bytes = out.into_bytes();
        let mut from = Decoder::new(&bytes);
        let back = Catalog::decode(&mut from).unwrap();
        assert!(from.is_empty());
        back
    }

    #[test]
    fn only_who_knows_the_version_changes_a_document() {
        let mut catalog = Catalog::default();
        assert_eq!(
            put(&mut catalog, KEY, 3, b"a"),
            PutAnswer::Conflict { version: 0 }
        );
        assert_eq!(
            put(&mut catalog, KEY, 0, b"a"),
            PutAnswer::Written { version: 1 }
        );
        for expected in [0, 2] {
            let answer = put(&mut catalog, KEY, expected, b"b");
            assert_eq!(answer, PutAnswer::Conflict { version: 1 });
        }
        assert_eq!(
            put(&mut catalog, KEY, 1, b"b"),
            PutAnswer::Written { version: 2 }
        );
        assert_eq!(catalog.get(KEY).bytes, b"b");
        assert_eq!(round_trip(&catalog), catalog);
    }

    /// What is not there had version 0 whenever that was. A request that created a document came a second time, behind the
    /// removal of that document, and created it again: what its tool had been told to be gone was back.
    #[test]
    fn a_late_write_does_not_bring_back_what_was_removed() {
        let mut catalog = Catalog::default();
        put(&mut catalog, KEY, 0, b"a");
        assert_eq!(
            put(&mut catalog, KEY, 1, b""),
            PutAnswer::Written { version: 2 }
        );
        assert_eq!(
            put(&mut catalog, KEY, 0, b"a"),
            PutAnswer::Conflict { version: 2 }
        );
        let gone = catalog.get(KEY);
        assert_eq!((gone.is_there(), gone.version), (false, 2));
        assert_eq!(
            put(&mut catalog, KEY, 2, b"c"),
            PutAnswer::Written { version: 3 }
        );
        for expected in [0, 1, 2] {
            let answer = put(&mut catalog, KEY, expected, b"d");
            assert_eq!(answer, PutAnswer::Conflict { version: 3 });
        }
        // Of a document that was never there the version has risen, too.
        let other = DocumentKey(8);
        assert_eq!(catalog.get(other).version, 2);
        assert_eq!(
            put(&mut catalog, other, 0, b"e"),
            PutAnswer::Conflict { version: 2 }
        );
        assert_eq!(round_trip(&catalog), catalog);
    }

    #[test]
    fn a_full_catalog_takes_nothing_more_and_gives_room_back() {
        let mut catalog = Catalog::default();
        let large = alloc::vec![1; DOCUMENT_BYTES_MAX];
        let documents = u128::try_from(CATALOG_BYTES_MAX / DOCUMENT_BYTES_MAX).unwrap();
        for key in 0..documents {
            let answer = put(&mut catalog, DocumentKey(key), 0, &large);
            assert!(matches!(answer, PutAnswer::Written { .. }), "{key}");
        }
        assert_eq!(
            put(&mut catalog, DocumentKey(999), 0, b"x"),
            PutAnswer::Full
        );
        assert!(matches!(
            put(&mut catalog, DocumentKey(0), 1, b"small"),
            PutAnswer::Written { .. }
        ));
        assert!(matches!(
            put(&mut catalog, DocumentKey(999), 0, b"x"),
            PutAnswer::Written { .. }
        ));
    }

    #[test]
    fn the_digest_is_that_of_the_contents() {
        let (mut one, mut other) = (Catalog::default(), Catalog::default());
        assert_eq!(one.digest(), 0);
        put(&mut one, KEY, 0, b"a");
        put(&mut other, KEY, 0, b"b");
        assert_ne!(one.digest(), other.digest());
        put(&mut one, KEY, 1, b"c");
        put(&mut other, KEY, 1, b"c");
        assert_eq!(one.digest(), other.digest());
        put(&mut one, KEY, 2, b"");
        assert_ne!(one.digest(), other.digest());
    }

    #[test]
    fn sections_are_whole_or_refused() {
        for bytes in [&b""[..], b"a", &[5; 16], &[6; 17]] {
            let head = DocumentHead {
                key: KEY,
                expected: 4,
                bytes: length(bytes),
                reserved: 0,
            };
            let mut words = Vec::new();
            push_section(&mut words, &head, bytes);
            assert_eq!(words.as_bytes().len(), section_bytes(bytes.len()));
            let section = DocumentSection::parse(words.as_bytes()).unwrap();
            assert_eq!((section.head, section.bytes), (&head, bytes));
            words.push(Word::default());
            assert_eq!(DocumentSection::parse(words.as_bytes()), None);
        }
        let mut words = Vec::new();
        let head = DocumentHead {
            key: KEY,
            expected: 4,
            bytes: 3,
            reserved: 0,
        };
        push_section(&mut words, &head, b"abcd");
        assert_eq!(DocumentSection::parse(words.as_bytes()), None);
    }
}
