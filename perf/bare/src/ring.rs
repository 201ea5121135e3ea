//! The log: files of zeros, written from the first to the last and then again from the first.
//!
//! Writes are O_DIRECT and O_DSYNC, and change no metadata because every block was written before. What
//! was there is overwritten without being read: this log is never recovered.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, anyhow, ensure};
use glommio::io::{DmaBuffer, DmaFile, OpenOptions};

/// Alignment of direct IO.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// O_DSYNC of x86-64, AArch64 and RISC-V. rustix 1.1 gives O_SYNC under that name, which may also wait for
/// the times in the inode; on ext4 without a journal the two measured the same.
const O_DSYNC: i32 = 0o10000;
/// Bytes of one write while a file is filled with zeros.
const ZERO_BYTES: usize = 1 << 20;

/// Where the next group goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    segment: usize,
    offset: u64,
}

/// Open files, used in turn.
pub(crate) struct Ring {
    segments: Vec<(PathBuf, DmaFile)>,
    segment_bytes: u64,
    next: Cell<Position>,
}

impl Ring {
    /// Creates (or fills again) the files in `directory`.
    pub(crate) async fn create(
        directory: &Path,
        segments: usize,
        segment_bytes: u64,
    ) -> anyhow::Result<Self> {
        probe(directory).await?;
        let mut files = Vec::new();
        for number in 0..segments {
            let path = directory.join(format!("bare-{number:02}.log"));
            let opened = open_zeroed(&path, segment_bytes).await;
            let file = opened.with_context(|| path.display().to_string())?;
            files.push((path, file));
        }
        let polled = glommio::executor().io_stats().poll_ring.file_writes().0;
        ensure!(polled == 0, "{polled} writes went through the poll ring");
        Ok(Self {
            segments: files,
            segment_bytes,
            next: Cell::new(Position {
                segment: 0,
                offset: 0,
            }),
        })
    }

    /// A buffer that [`Self::append`] takes.
    pub(crate) fn buffer(&self, bytes: usize) -> DmaBuffer {
        self.segments[0].1.alloc_dma_buffer(bytes)
    }

    /// Writes a whole buffer of whole blocks; it is durable when this returns.
    pub(crate) async fn append(&self, buffer: DmaBuffer) -> anyhow::Result<()> {
        let bytes = buffer.len();
        let length = u64::try_from(bytes).expect("a usize fits 64 bits");
        let at = place(
            self.next.get(),
            length,
            self.segments.len(),
            self.segment_bytes,
        );
        self.next.set(Position {
            offset: at.offset + length,
            ..at
        });
        let (path, file) = &self.segments[at.segment];
        let written = file.write_at(buffer, at.offset).await;
        let written = written.map_err(|error| anyhow!("{}: {error}", path.display()))?;
        ensure!(
            written == bytes,
            "{}: {written} of {bytes} bytes written at {}",
            path.display(),
            at.offset
        );
        Ok(())
    }
}

/// Where `length` bytes go: behind the last ones, or in the next file if there they do not fit.
fn place(next: Position, length: u64, segments: usize, segment_bytes: u64) -> Position {
    assert!(length <= segment_bytes, "{length} bytes fit no segment");
    if next.offset + length <= segment_bytes {
        return next;
    }
    Position {
        segment: (next.segment + 1) % segments,
        offset: 0,
    }
}

/// Opens a file with a block in it first. glommio 0.9 probes a device with a read of the first file that
/// an executor opens on it; if that is empty the device is taken for pollable, and writes are polled for
/// at full CPU.
async fn probe(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let path = directory.join("bare.probe");
    std::fs::write(&path, [b'\n'; BLOCK_BYTES]).with_context(|| path.display().to_string())?;
    let opened = async { DmaFile::open(&path).await?.close().await };
    opened
        .await
        .map_err(|error| anyhow!("{}: {error}", path.display()))
}

async fn open_zeroed(path: &Path, bytes: u64) -> anyhow::Result<DmaFile> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(O_DSYNC)
        .dma_open(path)
        .await;
    let file = opened.map_err(|error| anyhow!("{error}"))?;
    let step = u64::try_from(ZERO_BYTES).expect("a usize fits 64 bits");
    ensure!(bytes.is_multiple_of(step), "{bytes} bytes are no mebibytes");
    let mut zeros = file.alloc_dma_buffer(ZERO_BYTES);
    zeros.as_bytes_mut().fill(0);
    let zeros = Rc::new(zeros);
    for number in 0..bytes / step {
        let written = file.write_rc_at(Rc::clone(&zeros), number * step).await;
        let written = written.map_err(|error| anyhow!("{error}"))?;
        ensure!(written == ZERO_BYTES, "{written} of {ZERO_BYTES} zeros");
    }
    // The size and the map of blocks are metadata of their own.
    file.fdatasync().await.map_err(|error| anyhow!("{error}"))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: usize, offset: u64) -> Position {
        Position { segment, offset }
    }

    #[test]
    fn a_group_lies_in_one_file_and_the_first_follows_the_last() {
        assert_eq!(place(at(0, 0), 100, 4, 100), at(0, 0));
        assert_eq!(place(at(0, 40), 60, 4, 100), at(0, 40));
        assert_eq!(place(at(0, 41), 60, 4, 100), at(1, 0));
        assert_eq!(place(at(3, 100), 1, 4, 100), at(0, 0));
        assert_eq!(place(at(0, 99), 2, 1, 100), at(0, 0));
    }

    #[test]
    #[should_panic(expected = "fit no segment")]
    fn what_fits_no_file_is_a_bug() {
        place(at(0, 0), 101, 4, 100);
    }
}
