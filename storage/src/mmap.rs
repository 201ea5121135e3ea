//! A read-only map of one segment file: what recovery and inspection hand to [`crate::wal`].
//!
//! For files that nobody writes while the map lives: sealed segments, or the whole log before a
//! replica starts and after it has stopped (the shell holds the directory's lock). A cold page stalls
//! the caller, so a serving core reads through the shell's direct reads instead.

#![expect(
    unsafe_code,
    reason = "mapping a file is unsafe by nature; this is the one place"
)]

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::{Advice, Mmap};

/// The bytes of one file.
#[derive(Debug)]
pub struct Map(Mmap);

impl Map {
    /// Maps `path` for one sequential read.
    ///
    /// The caller promises that no process writes, truncates or recycles the file while the map
    /// lives. Drop the map before the log is resumed.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: a map is sound as long as the file is neither changed nor truncated under it. The
        // caller of `open` upholds it: it holds the advisory lock of the data directory and either
        // no writer runs, or the segment is sealed, and sealed segments are immutable until they are
        // recycled, which the caller excludes.
        let map = unsafe { Mmap::map(&file)? };
        map.advise(Advice::Sequential)?;
        Ok(Self(map))
    }
}

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_what_the_file_holds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("segment");
        std::fs::write(&path, [7; 5000]).unwrap();
        assert_eq!(Map::open(&path).unwrap().as_ref(), &[7; 5000][..]);
        assert!(Map::open(&directory.path().join("absent")).is_err());
    }
}
