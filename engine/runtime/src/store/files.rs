//! The store's files: what it wants done to them, by direct IO, and reads of whole blocks.
//!
//! Data files are written from front to back, synced once, and never changed but for a damaged block that is
//! repaired; so they are opened without `O_DSYNC`. Opens of files that exist are kept; whoever finds one
//! removed is told so.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use futures_lite::future;
use glommio::io::{Directory, DmaFile, OpenOptions, ReadResult};
use glommio::timer::sleep;
use quorate_storage::BLOCK_BYTES;
use quorate_storage::store::{BlockRun, FileId, Operation};

use crate::fatal::Fatal;
use crate::limits::FULL_DISK_PAUSE;
use crate::room::Room;
use crate::wakeup::Wakeup;

/// Files kept open: those that are written, and some of which rows are read.
const OPEN_MAX: usize = 64;

/// Runs of look-ups that are kept, in each of two generations: 4 to 16 KiB each. Direct reads know no page
/// cache, and neighbouring ids share the blocks of their rows and contexts.
const KEPT_MAX: usize = 2048;

/// Blocks that were read lately and found to be what was written; published files never change.
#[derive(Default)]
struct Kept {
    newer: BTreeMap<(FileId, u32, u32), Rc<[u8]>>,
    older: BTreeMap<(FileId, u32, u32), Rc<[u8]>>,
}

/// The data files and manifests of one replica.
pub(crate) struct StoreFiles {
    directory: PathBuf,
    kept: RefCell<Kept>,
    open: RefCell<BTreeMap<FileId, Rc<DmaFile>>>,
}

impl StoreFiles {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            kept: RefCell::default(),
            open: RefCell::default(),
        }
    }

    pub(crate) fn path_of(&self, file: FileId) -> PathBuf {
        self.directory.join(file.file_name())
    }

    /// Carries an operation out; what it says is then as durable as it says.
    pub(crate) async fn carry_out(&self, operation: &Operation) -> Result<(), Fatal> {
        match operation {
            Operation::Create { file } => self.create(*file).await,
            Operation::Write {
                file,
                offset,
                bytes,
            } => self.write(*file, *offset, bytes).await,
            Operation::Sync { file } => {
                let opened = self.existing(*file).await?;
                let path = self.path_of(*file);
                let synced = opened.fdatasync().await;
                synced.map_err(|error| Fatal::sync(&path, error))
            }
            Operation::SyncDirectory => self.sync_directory().await,
            Operation::Publish { generation, bytes } => {
                let path = self.directory.join(generation.file_name());
                let beside = path.with_extension("new");
                write_whole(&beside, bytes).await?;
                // Blocks for a change in memory, as a rename of the log's does.
                std::fs::rename(&beside, &path).map_err(|error| Fatal::write(&path, error))?;
                self.sync_directory().await
            }
            Operation::Retract { generation } => {
                remove(&self.directory.join(generation.file_name()))?;
                self.sync_directory().await
            }
            Operation::Remove { file } => {
                let closed = self.open.borrow_mut().remove(file);
                if let Some(closed) = closed {
                    close(closed, &self.path_of(*file)).await;
                }
                remove(&self.path_of(*file))
            }
        }
    }

    /// As [`Self::carry_out`], but where there is no room it is tried again until there is, first with that of
    /// the reserve. Nothing that was written counts before it is published, so a write may be repeated; a
    /// sync is not. False if the store closes first: it was not carried out.
    pub(crate) async fn carry_out_with_room(
        &self,
        operation: &Operation,
        (room, closing): (&Room, &Wakeup),
    ) -> Result<bool, Fatal> {
        loop {
            match self.carry_out(operation).await {
                Err(fault) if fault.is_full_disk() => {}
                carried_out => return carried_out.map(|()| true),
            }
            if room.note_full() {
                continue;
            }
            let pause = async {
                sleep(FULL_DISK_PAUSE).await;
                false
            };
            let closes = async {
                closing.wait().await;
                true
            };
            if future::or(closes, pause).await {
                return Ok(false);
            }
        }
    }

    /// Whole blocks of a file; `None` if the file was removed, or ends before.
    pub(crate) async fn read(
        &self,
        file: FileId,
        offset: u64,
        bytes: usize,
    ) -> Result<Option<ReadResult>, Fatal> {
        let Some(opened) = self.open(file).await? else {
            return Ok(None);
        };
        let read = opened.read_at_aligned(offset, bytes).await;
        let read = read.map_err(|error| Fatal::read(&self.path_of(file), error))?;
        Ok((read.len() >= bytes).then_some(read))
    }

    /// Writes blocks of a published file anew, durably: only with the bytes that were written there before.
    /// False if the file was removed.
    pub(crate) async fn write_over(
        &self,
        file: FileId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<bool, Fatal> {
        let Some(opened) = self.open(file).await? else {
            return Ok(false);
        };
        let path = self.path_of(file);
        write_at(&opened, &path, offset, bytes).await?;
        let synced = opened.fdatasync().await;
        synced.map_err(|error| Fatal::sync(&path, error))?;
        Ok(true)
    }

    /// As [`Self::read`], unless the blocks were kept.
    pub(crate) async fn read_kept(&self, run: BlockRun) -> Result<Option<Rc<[u8]>>, Fatal> {
        let found = self.kept.borrow_mut().get(key_of(run));
        if found.is_some() {
            return Ok(found);
        }
        let bytes = run.blocks as usize * BLOCK_BYTES as usize;
        let read = self.read(run.first.file, run.first.offset(), bytes).await?;
        Ok(read.map(|read| Rc::from(&read[..])))
    }

    /// Keeps blocks that were found to be what was written: what is damaged must be read again once it is
    /// repaired.
    pub(crate) fn remember(&self, run: BlockRun, bytes: Rc<[u8]>) {
        self.kept.borrow_mut().insert(key_of(run), bytes);
    }

    async fn create(&self, file: FileId) -> Result<(), Fatal> {
        let path = self.path_of(file);
        let created = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .dma_open(&path)
            .await
            .map_err(|error| Fatal::write(&path, error))?;
        self.keep(file, Rc::new(created)).await;
        Ok(())
    }

    async fn write(&self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), Fatal> {
        let opened = self.existing(file).await?;
        write_at(&opened, &self.path_of(file), offset, bytes).await
    }

    /// A file that this process has created, or that a manifest lists.
    async fn existing(&self, file: FileId) -> Result<Rc<DmaFile>, Fatal> {
        self.open(file).await?.ok_or_else(|| {
            Fatal::read(
                &self.path_of(file),
                io::Error::from(io::ErrorKind::NotFound),
            )
        })
    }

    /// Opens a file ahead of several reads at once; `None` if it was removed.
    pub(crate) async fn open(&self, file: FileId) -> Result<Option<Rc<DmaFile>>, Fatal> {
        let kept = self.open.borrow().get(&file).cloned();
        if kept.is_some() {
            return Ok(kept);
        }
        let path = self.path_of(file);
        // Opening shows whether it is there, but an error of glommio's does not say so.
        if !path.exists() {
            return Ok(None);
        }
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .dma_open(&path)
            .await
            .map_err(|error| Fatal::read(&path, error))?;
        let opened = Rc::new(opened);
        self.keep(file, Rc::clone(&opened)).await;
        Ok(Some(opened))
    }

    async fn keep(&self, file: FileId, opened: Rc<DmaFile>) {
        let evicted = {
            let mut open = self.open.borrow_mut();
            open.insert(file, opened);
            // The oldest is needed least, but for the one that is wanted now; it is opened again when it is.
            let others = open.keys().filter(|other| **other != file);
            let oldest = others.min_by_key(|file| file.number).copied();
            (open.len() > OPEN_MAX)
                .then(|| oldest.and_then(|oldest| open.remove_entry(&oldest)))
                .flatten()
        };
        if let Some((file, evicted)) = evicted {
            close(evicted, &self.path_of(file)).await;
        }
    }

    async fn sync_directory(&self) -> Result<(), Fatal> {
        let sync = async {
            let directory = Directory::open(&self.directory).await?;
            directory.sync().await?;
            directory.close().await
        };
        sync.await
            .map_err(|error| Fatal::sync(&self.directory, error))
    }
}

async fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Fatal> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .dma_open(path)
        .await
        .map_err(|error| Fatal::write(path, error))?;
    write_at(&file, path, 0, bytes).await?;
    let synced = file.fdatasync().await;
    synced.map_err(|error| Fatal::sync(path, error))?;
    file.close().await.map_err(|error| Fatal::sync(path, error))
}

async fn write_at(file: &DmaFile, path: &Path, offset: u64, bytes: &[u8]) -> Result<(), Fatal> {
    let mut buffer = file.alloc_dma_buffer(bytes.len());
    buffer.as_bytes_mut().copy_from_slice(bytes);
    match file.write_at(buffer, offset).await {
        Ok(written) if written == bytes.len() => Ok(()),
        Ok(written) => {
            // A file that grows is written in part only where the room ends.
            let problem = format!("{written} of {} bytes written at {offset}", bytes.len());
            let error = io::Error::new(io::ErrorKind::StorageFull, problem);
            Err(Fatal::write(path, error))
        }
        Err(error) => Err(Fatal::write(path, error)),
    }
}

async fn close(file: Rc<DmaFile>, path: &Path) {
    if let Err(error) = file.close_rc().await {
        tracing::warn!(path = %path.display(), "close failed: {error}");
    }
}

/// Blocks for a change in memory; the file may be absent.
fn remove(path: &Path) -> Result<(), Fatal> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Fatal::write(path, error)),
        _ => Ok(()),
    }
}

fn key_of(run: BlockRun) -> (FileId, u32, u32) {
    (run.first.file, run.first.block, run.blocks)
}

impl Kept {
    fn get(&mut self, key: (FileId, u32, u32)) -> Option<Rc<[u8]>> {
        if let Some(bytes) = self.newer.get(&key) {
            return Some(Rc::clone(bytes));
        }
        let bytes = self.older.remove(&key)?;
        self.insert(key, Rc::clone(&bytes));
        Some(bytes)
    }

    fn insert(&mut self, key: (FileId, u32, u32), bytes: Rc<[u8]>) {
        if self.newer.len() >= KEPT_MAX {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(key, bytes);
    }
}
