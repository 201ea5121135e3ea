//! The room on the disk of one replica: watched, and a reserve of it kept back, as a file of no content.
//!
//! What counts as full, and what follows, is in [`quorate_durable::room`], which the simulator runs as well;
//! here are the looks at the file system and the reserve. Replicas that share a file system each have a reserve
//! and see the same free room.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use glommio::timer::sleep;
use quorate_config::ClusterConfig;
use quorate_durable::room::{Marks, Room as Known, ends_process};
use quorate_protocol::input::Input;
use quorate_storage::wal::Operation;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use crate::disk::create_zeroed;
use crate::fatal::Fatal;
use crate::inbox::Inbox;
use crate::limits::ROOM_INTERVAL;

/// File of the reserve. Never read, and written only where room cannot be had otherwise.
const RESERVE_NAME: &str = "reserve";

/// The room of one replica's directory.
pub(crate) struct Room {
    directory: PathBuf,
    known: Cell<Known>,
    is_ample: Cell<bool>,
    inbox: Rc<Inbox>,
}

impl Room {
    /// Nothing is known yet.
    pub(crate) fn new(directory: &Path, cluster: &ClusterConfig, inbox: &Rc<Inbox>) -> Self {
        let marks = Marks::new(cluster.segment_bytes, cluster.checkpoint_bytes);
        Self {
            directory: directory.to_owned(),
            known: Cell::new(Known::new(marks, true)),
            is_ample: Cell::default(),
            inbox: Rc::clone(inbox),
        }
    }

    /// Makes the reserve if there is room, and tells the core that begins now how it stands.
    pub(crate) async fn begin(&self) {
        if !self.is_full() && !self.has_reserve() {
            self.known.set(Known::new(self.marks(), false));
            self.make_room_if_there_is().await;
            if self.is_full() {
                tracing::warn!(path = %self.directory.display(), "{}", self.described());
            }
        }
        self.look();
        self.tell();
        self.is_ample.set(false);
        self.look_whether_ample();
    }

    /// Looks after it for as long as the replica lives.
    pub(crate) async fn watch_for_ever(&self) {
        loop {
            sleep(ROOM_INTERVAL).await;
            if self.is_full() {
                self.make_room_if_there_is().await;
                if !self.is_full() {
                    tracing::info!(path = %self.directory.display(), "the disk has room again");
                    self.tell();
                }
            } else {
                self.look();
            }
            self.look_whether_ample();
        }
    }

    /// Whether nothing is begun that can wait.
    pub(crate) fn is_full(&self) -> bool {
        self.known.get().is_full()
    }

    /// Whether an operation of the log leaves the room that is left to others.
    pub(crate) fn holds_back(&self, operation: Operation, is_starved: bool) -> bool {
        self.known.get().holds_back(operation, is_starved)
    }

    /// Finds out ahead of a write that it would take the last room.
    pub(crate) fn look(&self) {
        if let Some(free) = self.free()
            && self.change(|known| known.look(free))
        {
            self.is_found_full();
        }
    }

    /// A write found no room, or would not. True if the reserve was given back by this call: what failed
    /// may be tried again at once.
    pub(crate) fn note_full(&self) -> bool {
        match self.change(Known::note_full) {
            true => self.is_found_full(),
            false => self.give_back(),
        }
    }

    /// A segment of the log found no room. False if the process ends of it.
    pub(crate) fn outlives(&self, is_starved: bool) -> bool {
        let given_back = self.note_full();
        !ends_process(is_starved, given_back)
    }

    fn change(&self, change: impl FnOnce(&mut Known) -> bool) -> bool {
        let mut known = self.known.get();
        let changed = change(&mut known);
        self.known.set(known);
        changed
    }

    fn is_found_full(&self) -> bool {
        tracing::warn!(path = %self.directory.display(), "{}", self.described());
        self.tell();
        self.give_back()
    }

    /// True if there was a reserve.
    fn give_back(&self) -> bool {
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
        let known = self.known.get();
        if self.free().is_none_or(|free| !known.is_enough(free)) {
            return;
        }
        match self.keep_back().await {
            Ok(()) => {
                self.change(|known| {
                    known.note_reserve();
                    true
                });
            }
            // Someone else took the room meanwhile: the next look comes soon.
            Err(fault) => tracing::debug!("no reserve: {fault}"),
        }
    }

    /// The file is there in full or not at all. Not synced: whether it survives a crash does not matter.
    async fn keep_back(&self) -> Result<(), Fatal> {
        let path = self.reserve_path();
        let beside = path.with_extension("new");
        let kept = match allocate(&beside, self.marks().reserve) {
            Err(error) if is_unsupported(&error) => {
                create_zeroed(&beside, self.marks().reserve, async |_| ()).await
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
        found.is_ok_and(|found| found.len() == self.marks().reserve)
    }

    /// Bytes that may still be written; `None` if the file system does not say.
    fn free(&self) -> Option<u64> {
        let found = statvfs(&self.directory).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn tell(&self) {
        let is_full = self.is_full();
        self.inbox.push_own(Input::DiskFull { is_full });
    }

    /// A core that begins was told nothing, which means that it is not.
    fn look_whether_ample(&self) {
        let known = self.known.get();
        let is_ample = self.free().is_some_and(|free| known.is_ample(free));
        if self.is_ample.replace(is_ample) != is_ample {
            self.inbox.push_own(Input::RoomForLog { is_ample });
        }
    }

    fn described(&self) -> String {
        let free = self.free().unwrap_or(0) >> 20;
        format!(
            "the disk is full: {free} MiB free, {} MiB needed; no new work is taken until {} MiB are free",
            self.marks().low >> 20,
            self.marks().high >> 20
        )
    }

    fn marks(&self) -> Marks {
        self.known.get().marks()
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
