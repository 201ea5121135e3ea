//! A checkpoint of nothing but history rows, as the store takes it: rows in, indexes in the steps that a server makes,
//! and bytes that are written nowhere.

use quorate_storage::store::{Binding, Finish, HISTORY_ROW_BYTES, Read, Store, Unreadable, open};

/// Rows of a bucket of the index: a batch is so many buckets.
pub const BUCKET_ROWS: usize = 256;
/// Rows of one part of a checkpoint.
const PART_ROWS: u64 = 1024;
/// Rows of index work in one step of a server.
const STEP_ROWS: usize = 8192;
const BINDING: Binding = Binding {
    cluster: 1,
    shard: 1,
};

/// A store that takes one checkpoint. The next one has a new store: an old one remembers its files.
pub struct History {
    store: Store,
}

impl History {
    /// An empty store, and a checkpoint begun.
    pub fn new() -> Self {
        let mut store = open(&[], &mut Nothing, BINDING).expect("empty").store;
        store.begin(1, 0).expect("there is room");
        Self { store }
    }

    /// Takes so many rows of ids that are hashed, as a replica gives them.
    pub fn take(&mut self, rows: u64) {
        for part in (0..rows).step_by(usize::try_from(PART_ROWS).expect("few")) {
            for row in part..rows.min(part + PART_ROWS) {
                let fingerprint = hash(row);
                self.store
                    .history(&[7; HISTORY_ROW_BYTES], fingerprint, row.into());
            }
            self.write();
        }
        self.store.finish(Finish {
            mark: &[],
            history_from: 1,
        });
    }

    /// Builds the indexes and publishes the checkpoint.
    pub fn build(&mut self) {
        while self.store.step(STEP_ROWS) {
            self.write();
        }
        self.write();
        assert_eq!(self.store.manifest().number, 1);
    }

    fn write(&mut self) {
        while let Some(operation) = self.store.next_operation() {
            self.store.finish_operation(operation);
        }
    }
}

/// SplitMix64's last steps.
fn hash(row: u64) -> u64 {
    let mixed = row.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

/// An empty directory.
struct Nothing;

impl Read for Nothing {
    fn read(&mut self, _: &str, _: u64, _: &mut [u8]) -> Result<(), Unreadable> {
        Err(Unreadable)
    }
}
