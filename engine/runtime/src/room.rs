//! The room on the disk of one replica: watched, and a reserve of it kept back.
//!
//! A disk that is really full stops a replica in the middle of what it does. So a file of no content keeps
//! some room, and is given back when there is no other:
//!
//! ```text
//! enough --- free room below `low`, or a write found none ---> full: the reserve is removed,
//!    ^                                                         the core answers new work `busy`
//!    +--- free room for the reserve again, and more ---------- what is under way goes on
//! ```
//!
//! Whether there is room is for this module to say; what a replica does about it is the core's
//! (`Input::DiskFull`). Replicas that share a file system each have a reserve and see the same free room.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use glommio::timer::sleep;
use quorate_config::ClusterConfig;
use quorate_protocol::input::Input;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use crate::disk::create_zeroed;
use crate::fatal::Fatal;
use crate::inbox::Inbox;
use crate::limits::{RESERVE_SEGMENTS, ROOM_INTERVAL};

/// File of the reserve. Never read, and written only where room cannot be had otherwise.
const RESERVE_NAME: &str = "reserve";

/// How much room counts as what, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Marks {
    /// Kept back.
    reserve: u64,
    /// Below it the disk is full: less than the next segment of the log and a checkpoint of what the log
    /// holds by then, whose history takes about as much.
    low: u64,
    /// From here on it is not any more: the reserve fits again, and a segment beyond `low`, so that it does
    /// not fill up again at once.
    high: u64,
}

impl Marks {
    fn new(segment_bytes: u64, checkpoint_bytes: u64) -> Self {
        let reserve = RESERVE_SEGMENTS * segment_bytes;
        let low = segment_bytes + checkpoint_bytes;
        Self {
            reserve,
            low,
            high: reserve + low + segment_bytes,
        }
    }
}

/// The room of one replica's directory.
pub(crate) struct Room {
    directory: PathBuf,
    marks: Marks,
    is_full: Cell<bool>,
    inbox: Rc<Inbox>,
}

impl Room {
    /// Nothing is known yet.
    pub(crate) fn new(directory: &Path, cluster: &ClusterConfig, inbox: &Rc<Inbox>) -> Self {
        Self {
            directory: directory.to_owned(),
            marks: Marks::new(cluster.segment_bytes, cluster.checkpoint_bytes),
            is_full: Cell::new(false),
            inbox: Rc::clone(inbox),
        }
    }

    /// Makes the reserve if there is room, and tells the core that begins now how it stands.
    pub(crate) async fn begin(&self) {
        if !self.is_full.get() && !self.has_reserve() {
            self.is_full.set(true);
            self.make_room_if_there_is().await;
            if self.is_full.get() {
                tracing::warn!(path = %self.directory.display(), "{}", self.described());
            }
        }
        self.look();
        self.tell();
    }

    /// Looks after it for as long as the replica lives.
    pub(crate) async fn watch_for_ever(&self) {
        loop {
            sleep(ROOM_INTERVAL).await;
            if self.is_full.get() {
                self.make_room_if_there_is().await;
                if !self.is_full.get() {
                    tracing::info!(path = %self.directory.display(), "the disk has room again");
                    self.tell();
                }
            } else {
                self.look();
            }
        }
    }

    /// Whether nothing is begun that can wait.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.get()
    }

    /// Finds out ahead of a write that it would take the last room.
    pub(crate) fn look(&self) {
        if !self.is_full.get() && self.free().is_some_and(|free| free < self.marks.low) {
            self.note_full();
        }
    }

    /// A write found no room, or would not. True if the reserve was given back by this call: what failed
    /// may be tried again at once.
    pub(crate) fn note_full(&self) -> bool {
        if !self.is_full.replace(true) {
            tracing::warn!(path = %self.directory.display(), "{}", self.described());
            self.tell();
        }
        match std::fs::remove_file(self.reserve_path()) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                tracing::warn!(path = %self.reserve_path().display(), "not removed: {error}");
                false
            }
        }
    }

    async fn make_room_if_there_is(&self) {
        if self.free().is_none_or(|free| free < self.marks.high) {
            return;
        }
        match self.keep_back().await {
            Ok(()) => self.is_full.set(false),
            // Someone else took the room meanwhile: the next look comes soon.
            Err(fault) => tracing::debug!("no reserve: {fault}"),
        }
    }

    /// The file is there in full or not at all. Not synced: whether it survives a crash does not matter.
    async fn keep_back(&self) -> Result<(), Fatal> {
        let path = self.reserve_path();
        let beside = path.with_extension("new");
        let kept = match allocate(&beside, self.marks.reserve) {
            Err(error) if is_unsupported(&error) => {
                create_zeroed(&beside, self.marks.reserve).await
            }
            allocated => allocated.map_err(|error| Fatal::write(&beside, error)),
        };
        let renamed = kept.and_then(|()| {
            std::fs::rename(&beside, &path).map_err(|error| Fatal::write(&path, error))
        });
        if renamed.is_err()
            && let Err(error) = std::fs::remove_file(&beside)
        {
            tracing::debug!("{}: not removed: {error}", beside.display());
        }
        renamed
    }

    fn has_reserve(&self) -> bool {
        let found = std::fs::metadata(self.reserve_path());
        found.is_ok_and(|found| found.len() == self.marks.reserve)
    }

    /// Bytes that may still be written; `None` if the file system does not say.
    fn free(&self) -> Option<u64> {
        let found = statvfs(&self.directory).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn tell(&self) {
        let is_full = self.is_full.get();
        self.inbox.push_own(Input::DiskFull { is_full });
    }

    fn described(&self) -> String {
        let free = self.free().unwrap_or(0) >> 20;
        format!(
            "the disk is full: {free} MiB free, {} MiB needed; no new work is taken until {} MiB are free",
            self.marks.low >> 20,
            self.marks.high >> 20
        )
    }

    fn reserve_path(&self) -> PathBuf {
        self.directory.join(RESERVE_NAME)
    }
}

/// Takes room for a file without writing it: nobody reads it.
fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::create(path)?;
    fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
    Ok(())
}

fn is_unsupported(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code.is_some_and(|code| code == Errno::OPNOTSUPP.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_full_before_it_is_and_has_room_when_the_reserve_fits_twice_over() {
        let marks = Marks::new(64 << 20, 256 << 20);
        assert_eq!(marks.reserve, 128 << 20);
        assert_eq!(marks.low, 320 << 20);
        // With the reserve made again it is not full.
        assert!(marks.high - marks.reserve > marks.low);
    }
}
