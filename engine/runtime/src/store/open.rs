//! From the files of a data directory to a store and the ledger that it holds. Blocks the executor:
//! nothing is served yet.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use quorate_durable::restore::{Index, LoadError, load_index, load_ledger};
use quorate_protocol::checkpoint::restore::{RestoreError, RestoredLedger};
use quorate_protocol::config::ReplicaConfig;
use quorate_protocol::ids::AccountId;
use quorate_storage::store::{Binding, Operation, Read, Store, Unreadable, open};
use rustix::fs::{Advice, fadvise};
use rustix::process::getpid;
use rustix::thread::{sched_getaffinity, sched_setaffinity};

use crate::directory::DataDirectory;
use crate::fatal::Fatal;

/// Reads by name; what cannot be read is logged.
pub(crate) struct Files {
    directory: PathBuf,
    open: BTreeMap<String, File>,
}

impl Files {
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            open: BTreeMap::new(),
        }
    }

    fn file(&mut self, name: &str) -> io::Result<&File> {
        if !self.open.contains_key(name) {
            let file = File::open(self.directory.join(name))?;
            self.open.insert(name.to_owned(), file);
        }
        Ok(&self.open[name])
    }

    fn read_exact(&mut self, name: &str, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file(name)?.read_exact_at(out, offset)
    }
}

impl Files {
    fn advise(&mut self, name: &str, offset: u64, bytes: u64) -> io::Result<()> {
        let file = self.file(name)?;
        Ok(fadvise(
            file,
            offset,
            NonZero::new(bytes),
            Advice::WillNeed,
        )?)
    }
}

impl Read for Files {
    fn expect(&mut self, name: &str, offset: u64, bytes: u64) {
        if let Err(error) = self.advise(name, offset, bytes) {
            tracing::debug!(name, offset, "not read ahead: {error}");
        }
    }

    fn read(&mut self, name: &str, offset: u64, out: &mut [u8]) -> Result<(), Unreadable> {
        self.read_exact(name, offset, out).map_err(|error| {
            let path = self.directory.join(name);
            tracing::error!(path = %path.display(), offset, "not read: {error}");
            Unreadable
        })
    }
}

/// Opens the store of a replica, and makes what has to be repaired before it is used.
pub(crate) fn open_store(directory: &DataDirectory, binding: Binding) -> Result<Store, Fatal> {
    let path = directory.path();
    let listing = listing(path)?;
    let opened =
        open(&listing, &mut Files::new(path), binding).map_err(|error| corrupt(path, &error))?;
    for damage in &opened.damage {
        tracing::warn!(path = %path.display(), "{damage}");
    }
    for repair in &opened.repairs {
        match repair {
            Operation::SyncDirectory => directory.sync()?,
            Operation::Remove { file } => {
                let path = path.join(file.file_name());
                std::fs::remove_file(&path).map_err(|error| Fatal::write(&path, error))?;
            }
            Operation::Create { .. }
            | Operation::Write { .. }
            | Operation::Sync { .. }
            | Operation::Publish { .. }
            | Operation::Retract { .. } => unreachable!("no repair: {repair:?}"),
        }
    }
    Ok(opened.store)
}

/// An index that is being loaded.
pub(crate) struct Indexing {
    path: PathBuf,
    thread: JoinHandle<Result<(Store, Index, Duration), LoadError>>,
}

impl Indexing {
    /// Loads the index of an opened store beside whatever the caller does meanwhile, on whichever core is free.
    pub(crate) fn begin(path: &Path, store: Store) -> Result<Self, Fatal> {
        let mut files = Files::new(path);
        let load = move || {
            // The executor's thread, which began this one, is bound to its core.
            if let Err(error) =
                sched_getaffinity(Some(getpid())).and_then(|cores| sched_setaffinity(None, &cores))
            {
                tracing::debug!("the index is loaded on the executor's core: {error}");
            }
            let started = Instant::now();
            let index = load_index(&store, &mut files)?;
            Ok((store, index, started.elapsed()))
        };
        let thread = Builder::new().name("index".to_owned()).spawn(load);
        Ok(Self {
            path: path.to_owned(),
            thread: thread.map_err(|error| Fatal::read(path, error))?,
        })
    }

    /// Waits for it.
    pub(crate) fn end(self) -> Result<(Store, Index, Duration), Fatal> {
        let loaded = self.thread.join().expect("it does not panic");
        loaded.map_err(|error| corrupt(&self.path, &error))
    }
}

/// The newest checkpoint of an opened store, with the accounts in memory that the log touches above it.
pub(crate) fn load_checkpoint(
    path: &Path,
    (store, index, indexed): (&Store, &Index, Duration),
    config: &ReplicaConfig,
    touched: &[AccountId],
) -> Result<Option<RestoredLedger>, Fatal> {
    let started = Instant::now();
    let wrong = |error: LoadError| match error {
        // Whole, but of another program: nobody in the group has a checkpoint that this one reads.
        LoadError::Restore(error @ RestoreError::SideVersion { .. }) => Fatal::DataDirectory {
            path: path.to_owned(),
            problem: error.to_string(),
        },
        error => corrupt(path, &error),
    };
    let mut files = Files::new(path);
    let loaded = load_ledger(store, index, config, touched, &mut files).map_err(wrong)?;
    if let Some(first) = &loaded.unread.first {
        let blocks = loaded.unread.blocks;
        tracing::warn!(replica = %config.address, blocks, "left for whoever needs them: {first}");
    }
    let manifest = store.manifest();
    tracing::info!(
        replica = %config.address,
        checkpoint = manifest.number,
        slot = manifest.slot,
        accounts = index.accounts.len(),
        touched = touched.len(),
        index_milliseconds = indexed.as_millis(),
        milliseconds = started.elapsed().as_millis(),
        "checkpoint loaded"
    );
    Ok(loaded.ledger)
}

fn corrupt(path: &Path, error: &dyn std::fmt::Display) -> Fatal {
    Fatal::StoreCorrupt {
        path: path.to_owned(),
        problem: error.to_string(),
    }
}

fn listing(path: &Path) -> Result<Vec<(String, u64)>, Fatal> {
    let failed = |error| Fatal::read(path, error);
    let mut listing = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let bytes = entry.metadata().map_err(failed)?.len();
        // A name that is no text is none of the store's.
        if let Ok(name) = entry.file_name().into_string() {
            listing.push((name, bytes));
        }
    }
    Ok(listing)
}
