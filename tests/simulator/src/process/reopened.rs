//! What a start of the process would find at this moment, against what the running one knows of its accounts.
//!
//! A wrong list of files shows at a start only, and few runs crash just then; so each published checkpoint is
//! opened beside the process that wrote it. What a loss of power would leave is not looked at: crashes do that.

use std::collections::BTreeSet;

use quorate_durable::keeper::Keeper;
use quorate_durable::restore::load_index;
use quorate_storage::store::{self as files, AccountIndex, RowAt, Store};

use super::store::Files;
use crate::disk::SimDisk;

/// Opens the checkpoint that was published last, and compares where the accounts lie.
///
/// # Errors
/// What a start would do wrong.
pub(super) fn compare(keeper: &Keeper, disk: &SimDisk) -> Result<(), String> {
    let listing: Vec<(String, u64)> = disk.sizes().collect();
    let disk = &mut Files(disk);
    let opened = files::open(&listing, disk, keeper.store().binding());
    let opened = opened.map_err(|error| error.to_string())?;
    let (found, known) = (opened.store.manifest(), keeper.store().manifest());
    if found.number != known.number || !opened.damage.is_empty() {
        let (row, damage) = (opened.row, opened.damage);
        return Err(format!(
            "would start from checkpoint {} instead of {}: {row:?}, {damage:?}",
            found.number, known.number
        ));
    }
    let index = load_index(&opened.store, disk).map_err(|error| error.to_string())?;
    let found = rows(&opened.store, &index.accounts);
    let known = rows(keeper.store(), keeper.index());
    let (risen, missing) = (
        found.difference(&known).count(),
        known.difference(&found).count(),
    );
    match risen + missing {
        0 => Ok(()),
        _ => Err(format!(
            "would start with {risen} account rows that are not the newest, and without {missing} that are"
        )),
    }
}

/// Fingerprints, and where the rows lie. Places are numbers of each store's own.
fn rows(store: &Store, index: &AccountIndex) -> BTreeSet<(u64, Option<RowAt>)> {
    let row = |(fingerprint, place)| (fingerprint, store.locate_account(place));
    index.entries().map(row).collect()
}
