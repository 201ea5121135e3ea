//! Loading accounts when a store is opened (skeleton).

use super::{AccountIndex, Damage, Place, Read, Store};

/// Which account rows are not the newest of their account: a bit per place.
#[derive(Clone, Debug)]
pub struct DeadRows {}

/// Builds the [`AccountIndex`] from the index sections, oldest file first, without reading rows (but for
/// fingerprints that several ids share).
#[derive(Debug)]
pub struct IndexLoad {}

impl IndexLoad {
    /// Begins.
    #[must_use]
    pub fn new(_store: &Store) -> Self {
        unimplemented!()
    }

    /// Reads at most `blocks_max` further blocks. True once all are read.
    ///
    /// # Errors
    /// The block that is not what was written; repair it, and call again.
    pub fn step(
        &mut self,
        _store: &Store,
        _disk: &mut impl Read,
        _blocks_max: usize,
    ) -> Result<bool, Damage> {
        unimplemented!()
    }

    /// The index, and which rows it does not point to.
    ///
    /// # Panics
    /// If [`IndexLoad::step`] did not say that all is read.
    #[must_use]
    pub fn finish(self) -> (AccountIndex, DeadRows) {
        unimplemented!()
    }
}

/// Reads every row that is the newest of its account, in file order.
#[derive(Debug)]
pub struct RowLoad {}

impl RowLoad {
    /// Begins.
    #[must_use]
    pub fn new(_dead: DeadRows) -> Self {
        unimplemented!()
    }

    /// Reads at most `blocks_max` further blocks and hands their live rows over. True once all are read.
    ///
    /// # Errors
    /// The block that is not what was written; no row of it was handed over. Repair it, and call again.
    pub fn step(
        &mut self,
        _store: &Store,
        _disk: &mut impl Read,
        _blocks_max: usize,
        _each: impl FnMut(Place, &[u8]),
    ) -> Result<bool, Damage> {
        unimplemented!()
    }
}
