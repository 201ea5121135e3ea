//! The store: checkpoint files in, rows out, and back after a crash.
//!
//! ```text
//!           begin, rows .., finish         Operation: create, write, sync, publish, remove
//!   caller ------------------------> Store ------------------------------------------------> shell
//!           Published                      finish_operation
//!          <---------------------------------------------------------------------------------
//!           Lookup, RowAt, moving          read blocks
//!          ------------------------>       ------------------------------------------------->
//! ```
//!
//! A checkpoint writes up to three data files (what changed of the accounts, what took effect since the
//! checkpoint before, and the caller's other tables) and then a manifest that names every file needed. Into
//! its accounts file it also moves rows of older ones that hold little else that counts (`compaction`).
//!
//! # Invariants
//!
//! 1. **A function of what it is told.** Files hold nothing of a replica, a clock or chance: replicas
//!    that are told the same write the same bytes, so they can compare checkpoints, and give each other
//!    files and single blocks. What is compacted follows from the manifest alone.
//! 2. **Published or not there.** A data file counts only through a manifest. Files are written, synced,
//!    and their names synced, before the manifest is published, which is one rename; so a crash at any
//!    moment leaves the last checkpoint that was published or the one before, never a mixture
//!    (`tests/store_crash.rs`).
//! 3. **Files are never changed.** A published file is read and, when no generation on disk lists it any
//!    more, removed. Removal comes only after the publishing that dropped it is durable. A row that is moved
//!    is copied: the file that it was in says nothing of it.
//! 4. **Two generations.** Checkpoint `n` goes to `manifest-(n mod 2)`. The one before stays whole with
//!    all its files, so rot of one manifest, or of a file that only the newest lists, costs one
//!    checkpoint and no data, if the log is kept from the older one's slot on ([`Store::log_needed_from`]).
//! 5. **Bound to a place.** A block names its file and place, under a checksum that starts at cluster and
//!    shard: nothing is valid anywhere but where it was written.
//! 6. **Never silently empty.** A store without any readable manifest is empty only if nothing says that
//!    there was one ([`open`]).
//!
//! What the store does not do: it does not read, write, wait or retry. It knows of rows their length, of
//! account rows that they begin with a 16-byte id, and of both the 64-bit fingerprint that it is told.

mod accounts;
mod block;
mod buckets;
mod checkpoint;
mod chunks;
mod compaction;
mod damage;
mod filter;
mod footer;
mod history;
mod index;
mod lookup;
mod manifest;
mod name;
mod open;
mod operation;
mod places;
mod rows;
mod state;
mod table;
mod walk;
mod writer;

pub use accounts::{DeadRows, IndexLoad, RowLoad};
pub use block::{
    ACCOUNT_ROW_BYTES, Block, BlockError, BlockRef, CONTEXT_BYTES, ContentSum, HISTORY_ROW_BYTES,
    ID_BYTES, PAYLOAD_AT, PAYLOAD_BYTES, Section, decode as decode_block,
};
pub use buckets::HISTORY_ROWS_MAX;
pub use compaction::MOVE_BLOCKS_MAX;
pub use damage::{DAMAGE_LISTED_MAX, Damage, OpenError};
pub use filter::FILTER_BYTES_MAX;
pub use footer::{Footer, FooterError, RowAt, SectionExtent};
pub use index::AccountIndex;
pub use lookup::{BlockRun, Candidate, LOOKUP_BLOCKS_MAX, Lookup, LookupStep};
pub use manifest::{
    FILES_MAX, Listed, MANIFEST_BYTES_MAX, MARK_BYTES_MAX, Manifest, ManifestError,
};
pub use name::{Binding, FileId, FileKind, Generation};
pub use open::{Opened, Read, Unreadable, open};
pub use operation::Operation;
pub use places::Place;
pub use rows::AccountFile;
pub use state::{BeginError, Counters, Finish, Published, Store};
pub use table::OpenRow;
pub use walk::RowWalk;
pub use writer::EXTENT_BYTES;
