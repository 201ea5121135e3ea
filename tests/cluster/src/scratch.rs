//! A temporary directory on a file system with O_DIRECT.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tempfile::TempDir;

/// A new directory below `QUORATE_TEST_DIR`, `TMPDIR` or `/var/tmp`, the first that takes direct IO.
///
/// # Panics
/// If none of them does: without O_DIRECT there is nothing to test.
#[must_use]
pub fn scratch(name: &str) -> TempDir {
    let wanted = ["QUORATE_TEST_DIR", "TMPDIR"].map(std::env::var_os);
    let mut places: Vec<PathBuf> = wanted.into_iter().flatten().map(PathBuf::from).collect();
    places.push("/var/tmp".into());
    places
        .iter()
        .find_map(|place| {
            let made = tempfile::Builder::new()
                .prefix(&format!("quorate-{name}-"))
                .tempdir_in(place)
                .ok()?;
            takes_direct_io(made.path()).then_some(made)
        })
        .unwrap_or_else(|| panic!("none of {places:?} has O_DIRECT; set QUORATE_TEST_DIR"))
}

/// tmpfs takes the flag since Linux 6.6 without meaning it, and hides errors of alignment.
fn takes_direct_io(directory: &Path) -> bool {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    let kind = rustix::fs::statfs(directory).map(|found| found.f_type.cast_unsigned());
    if kind.is_ok_and(|kind| kind == TMPFS_MAGIC) {
        return false;
    }
    let flags = i32::try_from(OFlags::DIRECT.bits()).expect("a flag of open(2) is an int");
    OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .custom_flags(flags)
        .open(directory.join("probe"))
        .is_ok()
}
