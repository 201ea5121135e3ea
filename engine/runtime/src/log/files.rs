//! The segment files of one log: opened when needed, kept open while recent, created ahead of need.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use glommio::io::Directory;
use quorate_storage::wal::SegmentNumber;

use crate::disk::{SegmentFile, create_zeroed};
use crate::fatal::Fatal;

/// Files kept open: the active one, those ahead, and some for catch-up reads.
const OPEN_MAX: usize = 16;

/// Segment files by number.
pub(crate) struct SegmentFiles {
    directory: PathBuf,
    segment_bytes: u64,
    open: RefCell<BTreeMap<SegmentNumber, SegmentFile>>,
}

impl SegmentFiles {
    pub(crate) fn new(directory: PathBuf, segment_bytes: u64) -> Self {
        Self {
            directory,
            segment_bytes,
            open: RefCell::new(BTreeMap::new()),
        }
    }

    /// The file of a segment that exists.
    pub(crate) async fn get(&self, segment: SegmentNumber) -> Result<SegmentFile, Fatal> {
        if let Some(file) = self.open.borrow().get(&segment) {
            return Ok(file.clone());
        }
        let file = SegmentFile::open(&self.path_of(segment)).await?;
        let evicted = {
            let mut open = self.open.borrow_mut();
            open.insert(segment, file.clone());
            // The newest take the writes; the oldest is needed least, unless somebody is reading just that one.
            let oldest = open.keys().copied().find(|other| *other != segment);
            let oldest = oldest.filter(|_| open.len() > OPEN_MAX);
            oldest.and_then(|oldest| open.remove(&oldest))
        };
        if let Some(evicted) = evicted {
            evicted.close().await;
        }
        Ok(file)
    }

    /// Creates a segment of zeros under a temporary name, then gives it its own. Before each write `may_write` is
    /// waited for.
    pub(crate) async fn prepare(
        &self,
        segment: SegmentNumber,
        may_write: impl AsyncFn(u64),
    ) -> Result<(), Fatal> {
        let path = self.path_of(segment);
        let beside = path.with_extension("new");
        if let Err(fault) = create_zeroed(&beside, self.segment_bytes, may_write).await {
            // What is there of it would keep a full disk full.
            if let Err(error) = std::fs::remove_file(&beside) {
                tracing::debug!("{}: not removed: {error}", beside.display());
            }
            return Err(fault);
        }
        self.rename(beside, path).await?;
        self.get(segment).await?;
        Ok(())
    }

    /// Gives a free segment a new number.
    pub(crate) async fn recycle(
        &self,
        from: SegmentNumber,
        to: SegmentNumber,
    ) -> Result<(), Fatal> {
        let closed = self.open.borrow_mut().remove(&from);
        if let Some(file) = closed {
            file.close().await;
        }
        self.rename(self.path_of(from), self.path_of(to)).await?;
        self.get(to).await?;
        Ok(())
    }

    fn path_of(&self, segment: SegmentNumber) -> PathBuf {
        self.directory.join(segment.file_name())
    }

    async fn rename(&self, from: PathBuf, to: PathBuf) -> Result<(), Fatal> {
        // Blocks, but only for a change of the directory in memory: a helper thread would have to wake
        // this one, see `engine/net/src/turn.rs`.
        std::fs::rename(from, &to).map_err(|error| Fatal::write(&to, error))?;
        let sync = async {
            let directory = Directory::open(&self.directory).await?;
            directory.sync().await?;
            directory.close().await
        };
        sync.await
            .map_err(|error| Fatal::sync(&self.directory, error))
    }
}
