//! Aligned bytes, shared without copying: the currency between core, log and wire.
//!
//! [`Words`] is an immutable run of 16-byte words behind a reference count; [`Rows`] reads one as a
//! slice of fixed-size records. A batch of transfers received from a client, written to the log,
//! sent to a follower and applied is the same run of words throughout.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Sixteen bytes, aligned to sixteen.
#[derive(Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(16))]
pub struct Word(pub [u8; 16]);

/// Bytes per word, and the alignment of every record.
pub const WORD_SIZE: usize = size_of::<Word>();
const _: () = assert!(WORD_SIZE == 16 && align_of::<Word>() == 16);

/// What a record needs to be readable in place.
pub trait Row: FromBytes + IntoBytes + Immutable + KnownLayout + Copy + 'static {}
impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Copy + 'static> Row for T {}

/// An immutable, shared, 16-byte aligned run of bytes. Cloning copies a pointer.
#[derive(Clone, PartialEq, Eq)]
pub struct Words(Rc<Vec<Word>>);

impl Words {
    /// The empty run.
    #[must_use]
    pub fn empty() -> Self {
        Self(Rc::new(Vec::new()))
    }

    /// Takes a buffer over without copying it.
    #[must_use]
    pub fn from_vec(words: Vec<Word>) -> Self {
        Self(Rc::new(words))
    }

    /// Copies bytes in. `None` if their number is not a multiple of 16. Any alignment is accepted.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if !bytes.len().is_multiple_of(WORD_SIZE) {
            return None;
        }
        if let Ok(words) = <[Word]>::ref_from_bytes(bytes) {
            return Some(Self::from_vec(words.to_vec()));
        }
        let mut words = alloc::vec![Word::default(); bytes.len() / WORD_SIZE];
        words.as_mut_bytes().copy_from_slice(bytes);
        Some(Self::from_vec(words))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The words.
    #[must_use]
    pub fn as_slice(&self) -> &[Word] {
        &self.0
    }
}

impl AsRef<[u8]> for Words {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Words({} bytes)", self.as_bytes().len())
    }
}

/// A run of words known to hold whole records of type `T`.
pub struct Rows<T> {
    words: Words,
    row: PhantomData<T>,
}

impl<T: Row> Rows<T> {
    const CHECK: () =
        assert!(size_of::<T>().is_multiple_of(WORD_SIZE) && align_of::<T>() <= WORD_SIZE);

    /// No records.
    #[must_use]
    pub fn empty() -> Self {
        Self::from_slice(&[])
    }

    /// Copies records in.
    #[must_use]
    pub fn from_slice(rows: &[T]) -> Self {
        let () = Self::CHECK;
        let words = Words::from_bytes(rows.as_bytes()).expect("records are whole words");
        Self {
            words,
            row: PhantomData,
        }
    }

    /// Reads a run as records. `None` if a part of a record is left over.
    #[must_use]
    pub fn from_words(words: Words) -> Option<Self> {
        let () = Self::CHECK;
        words
            .as_bytes()
            .len()
            .is_multiple_of(size_of::<T>())
            .then_some(Self {
                words,
                row: PhantomData,
            })
    }

    /// The run behind the records.
    #[must_use]
    pub fn words(&self) -> &Words {
        &self.words
    }
}

/// Rows as they come, cut into runs of at most so many: none is copied again when they are done.
#[derive(Debug)]
pub(crate) struct RowsBuilder<T: Row + fmt::Debug> {
    rows_max: usize,
    full: Vec<Rows<T>>,
    open: Vec<Word>,
    /// Words of the last run: the next one is made with room for a few more.
    expected: usize,
}

impl<T: Row + fmt::Debug> RowsBuilder<T> {
    const CHECK: () = assert!(align_of::<T>() == WORD_SIZE, "rows are read as words");

    /// Runs of at most `rows_max`.
    pub fn new(rows_max: usize) -> Self {
        let () = Self::CHECK;
        Self {
            rows_max,
            full: Vec::new(),
            open: Vec::new(),
            expected: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.full.is_empty() && self.open.is_empty()
    }

    pub fn push(&mut self, row: &T) {
        let words = <[Word]>::ref_from_bytes(row.as_bytes()).expect("records are whole words");
        if self.open.is_empty() {
            let room = self.expected + self.expected / 8;
            self.open.reserve_exact(room.max(words.len()));
        }
        self.open.extend_from_slice(words);
        if self.open.len() == self.rows_max * words.len() {
            self.cut();
        }
    }

    /// Gives out all of them, and is empty.
    pub fn take(&mut self) -> Vec<Rows<T>> {
        if !self.open.is_empty() {
            self.cut();
        }
        core::mem::take(&mut self.full)
    }

    fn cut(&mut self) {
        self.expected = self.open.len();
        let words = Words::from_vec(core::mem::take(&mut self.open));
        let rows = Rows::from_words(words).expect("whole records");
        self.full.push(rows);
    }
}

impl<T: Row> Deref for Rows<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        <[T]>::ref_from_bytes(self.words.as_bytes()).expect("checked when the rows were made")
    }
}

impl<T> Clone for Rows<T> {
    fn clone(&self) -> Self {
        Self {
            words: self.words.clone(),
            row: PhantomData,
        }
    }
}

impl<T> PartialEq for Rows<T> {
    fn eq(&self, other: &Self) -> bool {
        self.words == other.words
    }
}

impl<T> Eq for Rows<T> {}

impl<T: Row + fmt::Debug> fmt::Debug for Rows<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_into_runs_and_keep_their_order() {
        let mut builder = RowsBuilder::<u128>::new(3);
        for count in [0, 1, 3, 7, 2] {
            assert!(builder.is_empty());
            (0..count).for_each(|row| builder.push(&row));
            assert_eq!(builder.is_empty(), count == 0);
            let runs = builder.take();
            assert!(runs.iter().all(|run| (1..=3).contains(&run.len())));
            let rows: Vec<u128> = runs.iter().flat_map(|run| run.iter().copied()).collect();
            assert_eq!(rows, (0..count).collect::<Vec<_>>());
        }
    }
}
