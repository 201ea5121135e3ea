//! A temporary directory for a cluster, on a file system with direct IO.

use std::env;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::bail;
use rustix::fs::{OFlags, statfs};
use tempfile::TempDir;

/// Below `TMPDIR`, else `/var/tmp`, else the current directory: the first that takes direct IO.
/// `/tmp` is not tried by itself, because it is often a tmpfs.
pub fn scratch(prefix: &str) -> anyhow::Result<TempDir> {
    let mut places: Vec<PathBuf> = env::var_os("TMPDIR")
        .into_iter()
        .map(PathBuf::from)
        .collect();
    places.push("/var/tmp".into());
    places.extend(env::current_dir());
    for place in &places {
        let made = tempfile::Builder::new().prefix(prefix).tempdir_in(place);
        if let Ok(made) = made
            && takes_direct_io(made.path())
        {
            return Ok(made);
        }
    }
    bail!("no directory with direct IO among {places:?}; set TMPDIR to one (not tmpfs)")
}

/// tmpfs takes the flag since Linux 6.6 without meaning it, so it is refused by name.
fn takes_direct_io(directory: &Path) -> bool {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    let kind = statfs(directory).map(|found| found.f_type.cast_unsigned());
    if kind.is_ok_and(|kind| kind == TMPFS_MAGIC) {
        return false;
    }
    let flags = i32::try_from(OFlags::DIRECT.bits()).expect("a flag of open(2) is an int");
    let probe = directory.join("probe");
    let opened = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .custom_flags(flags)
        .open(&probe);
    // The directory is removed as a whole anyway.
    let _ = fs::remove_file(&probe);
    opened.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_is_passed_over() {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            assert!(!takes_direct_io(memory));
        }
        assert!(scratch("quorate-test-").is_ok());
    }
}
