//! The frames of one replica's write-ahead log, read beside whatever runs: files are read, never mapped or locked, so a frame
//! that is being written may be missed.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use quorate_protocol::entry::Entry;
use quorate_protocol::words::Words;
use quorate_storage::superblock::{FILE_NAME, Superblock};
use quorate_storage::wal::{Frame, FrameError, SegmentNumber, frames};

/// Hands every whole frame to `take`, and returns the stretches that are neither frames nor padding, for people.
/// `None` if the directory holds no log.
pub fn walk(
    directory: &Path,
    mut take: impl FnMut(&Frame<'_>) -> Result<(), String>,
) -> anyhow::Result<Option<Vec<String>>> {
    let superblock = directory.join(FILE_NAME);
    if !superblock.exists() {
        return Ok(None);
    }
    let block = fs::read(&superblock).with_context(|| superblock.display().to_string())?;
    let found =
        Superblock::decode(&block).map_err(|error| anyhow!("{}: {error}", superblock.display()))?;
    let seal = found.identity.seal();
    let mut unreadable = Vec::new();
    for segment in segments(directory)? {
        let path = directory.join(segment.file_name());
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            // Recycled under its new name since the directory was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        for item in frames(&bytes, segment, seal) {
            let taken = match item.frame {
                Ok(frame) => take(&frame),
                // Padding too short for a header: the walk sees the next block's bytes behind it.
                Err(FrameError::Magic { found: 0 }) => Ok(()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = taken {
                unreadable.push(format!("{segment} at {}: {error}", item.offset));
            }
        }
    }
    Ok(Some(unreadable))
}

/// The entry that an accepted frame holds.
pub fn entry_of(frame: &Frame<'_>) -> Result<Entry, String> {
    let words = Words::from_bytes(frame.payload).ok_or("entry: not whole words")?;
    Entry::from_words(words).map_err(|error| format!("entry: {error}"))
}

fn segments(directory: &Path) -> anyhow::Result<Vec<SegmentNumber>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        found.extend(name.to_str().and_then(SegmentNumber::from_file_name));
    }
    found.sort_unstable();
    Ok(found)
}
