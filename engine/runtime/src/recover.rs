//! From a locked data directory to a log and what it holds, or to the reason why not.
//!
//! The segments are mapped and read by `quorate_storage::wal::recover`; its repairs are carried out before
//! anything is acted upon. A record that may have been acknowledged and cannot be read any more is
//! named to the core, which gets it back from its peers. If it cannot be named the log is not opened:
//! this replica must not vote as if it had never seen it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use glommio::io::DmaFile;
use quorate_config::ClusterConfig;
use quorate_durable::log::{self, Touched, entry_of};
use quorate_protocol::config::{LostRecord, Recovered};
use quorate_protocol::ids::{AccountId, Ballot, ReplicaAddress, Slot};
use quorate_protocol::paxos::message::LoggedEntry;
use quorate_protocol::words::Words;
use quorate_storage::mmap::Map;
use quorate_storage::wal::{
    Damage, Frame, Harm, Location, Losses, Options, Recovery, Repair, SegmentNumber, Wal, recover,
};

use crate::directory::DataDirectory;
use crate::fatal::Fatal;
use crate::log::SegmentFiles;

/// A log that is ready to go on, and what the core has to know of it.
pub(crate) struct RecoveredLog {
    pub(crate) wal: Wal<Words>,
    pub(crate) files: SegmentFiles,
    pub(crate) recovered: Recovered,
    /// What its entries above the checkpoint touch, ascending.
    pub(crate) touched: Vec<AccountId>,
}

/// Recovers the log of a replica whose state begins with a checkpoint; zero: with none. Blocks the
/// executor: nothing is served yet.
pub(crate) async fn open_log(
    directory: &DataDirectory,
    cluster: &ClusterConfig,
    replica: ReplicaAddress,
    checkpoint: Slot,
) -> Result<RecoveredLog, Fatal> {
    let identity = directory.identity(cluster, replica)?;
    let identity = identity.expect("the node has formatted it");
    let started = Instant::now();
    let maps = map_segments(directory.path())?;
    let segments: Vec<(SegmentNumber, &[u8])> = maps
        .iter()
        .map(|(&number, map)| (number, map.as_ref()))
        .collect();
    let recovery = recover(&segments, &identity)
        .map_err(|error| Fatal::corrupt(directory.path(), error.to_string()))?;
    let lost = lost_records(directory.path(), &recovery)?;
    let known = checkpoint.0.max(recovery.chosen_upto);
    let recovered = Recovered {
        checkpoint,
        log_start: log::log_start(&recovery.index, &lost, checkpoint),
        promised: Ballot(recovery.promised),
        chosen_upto: Slot(recovery.chosen_upto),
        tail: read_tail(directory.path(), &recovery, &maps, known)?,
        lost,
        rejoins: false,
    };
    let touched = touched(&recovery, &maps, checkpoint);
    drop(segments);
    drop(maps);
    repair(directory, &recovery.repairs)?;
    tracing::info!(
        %replica,
        frames = recovery.frames,
        promised = %recovered.promised,
        chosen_upto = recovered.chosen_upto.0,
        tail = recovered.tail.len(),
        lost = recovered.lost.len(),
        ended = ?recovery.tail,
        clean = recovery.clean,
        milliseconds = started.elapsed().as_millis(),
        "log recovered"
    );
    let files = SegmentFiles::new(directory.path().to_owned(), identity.segment_bytes);
    Ok(RecoveredLog {
        wal: Wal::resume(recovery, Options::default()),
        files,
        recovered,
        touched,
    })
}

/// The first slot that the log holds; a store that is taken anew must reach up to the one before. Blocks.
pub(crate) fn first_slot(
    directory: &DataDirectory,
    cluster: &ClusterConfig,
    replica: ReplicaAddress,
) -> Result<Slot, Fatal> {
    let identity = directory.identity(cluster, replica)?;
    let identity = identity.expect("the node has formatted it");
    let maps = map_segments(directory.path())?;
    let segments: Vec<(SegmentNumber, &[u8])> = maps
        .iter()
        .map(|(&number, map)| (number, map.as_ref()))
        .collect();
    let recovery = recover(&segments, &identity)
        .map_err(|error| Fatal::corrupt(directory.path(), error.to_string()))?;
    let first = recovery.index.iter().next();
    Ok(Slot(first.map_or(0, |(slot, _)| slot)))
}

/// See [`DataDirectory::block_path`]. Also proves that the device is not used through the poll ring.
pub(crate) async fn open_block_first(directory: &DataDirectory) -> Result<(), Fatal> {
    let path = directory.block_path();
    let file = DmaFile::open(&path)
        .await
        .map_err(|error| Fatal::read(&path, error))?;
    let read = file
        .read_at_aligned(0, quorate_storage::BLOCK_BYTES as usize)
        .await;
    let read = read.map_err(|error| Fatal::read(&path, error))?;
    assert_eq!(
        read.len(),
        quorate_storage::BLOCK_BYTES as usize,
        "written when it was locked"
    );
    let polled = glommio::executor().io_stats().poll_ring;
    assert_eq!(polled.file_reads().0, 0, "the device is taken for pollable");
    drop(read);
    file.close()
        .await
        .map_err(|error| Fatal::read(&path, error))
}

/// Segments without a superblock are left by a format that was interrupted, and then all zero.
/// Anything else is somebody's log, and formatting would destroy it.
pub(crate) fn refuse_foreign_log(path: &Path) -> Result<(), Fatal> {
    for (number, map) in map_segments(path)? {
        if map.as_ref().iter().any(|&byte| byte != 0) {
            let problem = format!("{number} holds a log, but there is no superblock");
            return Err(Fatal::corrupt(path, problem));
        }
    }
    Ok(())
}

fn map_segments(path: &Path) -> Result<BTreeMap<SegmentNumber, Map>, Fatal> {
    let mut maps = BTreeMap::new();
    let failed = |error| Fatal::read(path, error);
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if let Some(number) = name.to_str().and_then(SegmentNumber::from_file_name) {
            let path = entry.path();
            let map = Map::open(&path).map_err(|error| Fatal::read(&path, error))?;
            maps.insert(number, map);
        }
    }
    Ok(maps)
}

/// The records that are damaged, by name; each damage is logged.
fn lost_records(path: &Path, recovery: &Recovery) -> Result<Vec<LostRecord>, Fatal> {
    for damage in &recovery.damage {
        let (path, text) = (path.display(), described(damage));
        match damage.harm() {
            Harm::Nothing => tracing::info!(%path, "{text}"),
            Harm::Slot { .. } | Harm::Replica => tracing::warn!(%path, "{text}"),
        }
    }
    match recovery.losses() {
        Losses::Records(records) => Ok(log::lost_records(&records)),
        Losses::Unknown => {
            let unnamed = recovery
                .damage
                .iter()
                .find(|damage| damage.harm() == Harm::Replica);
            let first = unnamed.map_or_else(|| "too many damages".to_owned(), described);
            Err(Fatal::corrupt(path, first))
        }
    }
}

fn described(damage: &Damage) -> String {
    let place = match damage.segment {
        SegmentNumber(0) => "at the start of the log".to_owned(),
        segment => format!("{segment} behind {}", damage.offset),
    };
    match damage.harm() {
        Harm::Nothing => format!("{place}: {:?}, nothing is lost", damage.row),
        Harm::Slot { slot, ballot } => {
            let ballot = Ballot(ballot);
            format!("{place}: the record of slot {slot} under ballot {ballot} is lost")
        }
        Harm::Replica => format!("{place}: records are lost: {:?}", damage.row),
    }
}

/// The accepted entries above what is known to be chosen, while the maps are there.
fn read_tail(
    path: &Path,
    recovery: &Recovery,
    maps: &BTreeMap<SegmentNumber, Map>,
    known: u64,
) -> Result<Vec<LoggedEntry>, Fatal> {
    let above = recovery.index.iter().filter(|(slot, _)| *slot > known);
    above
        .map(|(slot, location)| entry_at(path, recovery, maps, slot, &location))
        .collect()
}

/// What the entries touch that will be applied again. What cannot be read is for the replay to find.
fn touched(
    recovery: &Recovery,
    maps: &BTreeMap<SegmentNumber, Map>,
    checkpoint: Slot,
) -> Vec<AccountId> {
    let mut touched = Touched::default();
    if checkpoint > Slot::ZERO {
        let above = recovery.index.iter();
        for (slot, location) in above.filter(|(slot, _)| *slot > checkpoint.0) {
            if let Ok(logged) = read_entry(recovery, maps, slot, &location) {
                touched.add(&logged.entry);
            }
        }
    }
    touched.into_accounts()
}

fn entry_at(
    path: &Path,
    recovery: &Recovery,
    maps: &BTreeMap<SegmentNumber, Map>,
    slot: u64,
    location: &Location,
) -> Result<LoggedEntry, Fatal> {
    read_entry(recovery, maps, slot, location).map_err(|problem| {
        let place = format!("{} at {}", location.segment, location.offset);
        Fatal::corrupt(path, format!("{place}: slot {slot}: {problem}"))
    })
}

fn read_entry(
    recovery: &Recovery,
    maps: &BTreeMap<SegmentNumber, Map>,
    slot: u64,
    location: &Location,
) -> Result<LoggedEntry, String> {
    let map = maps.get(&location.segment).ok_or("its segment is gone")?;
    let start = usize::try_from(location.offset).expect("a u32 fits a usize here");
    let bytes = map.as_ref().get(start..).ok_or("beyond the segment")?;
    let seal = recovery.identity.seal();
    let frame = Frame::decode(bytes, location.segment, location.offset, seal)
        .map_err(|error| error.to_string())?;
    Ok(LoggedEntry {
        slot: Slot(slot),
        accepted: Ballot(location.ballot),
        entry: entry_of(frame.payload)?,
    })
}

fn repair(directory: &DataDirectory, repairs: &[Repair]) -> Result<(), Fatal> {
    let open = |segment: SegmentNumber| -> Result<(PathBuf, File), Fatal> {
        let path = directory.path().join(segment.file_name());
        let file = OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(|error| Fatal::write(&path, error))?;
        Ok((path, file))
    };
    for repair in repairs {
        match repair {
            Repair::Write {
                segment,
                offset,
                bytes,
            } => {
                let (path, file) = open(*segment)?;
                file.write_all_at(bytes, *offset)
                    .map_err(|error| Fatal::write(&path, error))?;
            }
            Repair::Sync { segment } => {
                let (path, file) = open(*segment)?;
                file.sync_data()
                    .map_err(|error| Fatal::sync(&path, error))?;
            }
            Repair::SyncDirectory => directory.sync()?,
        }
    }
    Ok(())
}
