//! The directory of a node, and of each of its replicas: created, locked, checked for direct IO,
//! identified.
//!
//! ```text
//! <data_dir>/lock               advisory lock of the node's process, taken before anything else
//! <data_dir>/replicas           whose directories were formatted here; written once, behind the last of them
//! <data_dir>/s1r2/lock          advisory lock of the replica's process
//! <data_dir>/s1r2/superblock    whose directory this is; written last when it is formatted
//! <data_dir>/s1r2/rejoins       its disk was lost, and it is no voter yet; there before the superblock is
//! <data_dir>/s1r2/wal-...       segments of the write-ahead log
//! ```
//!
//! Everything here blocks and runs before the replica's executor starts.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use quorate_config::ClusterConfig;
use quorate_protocol::ids::ReplicaAddress;
use quorate_storage::BLOCK_BYTES;
use quorate_storage::superblock::{FILE_NAME, Genesis, Identity, IdentityError, Superblock};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::disk::LOG_FLAGS;
use crate::fatal::Fatal;

/// File that carries the advisory lock.
const LOCK_NAME: &str = "lock";
/// While this file is there, every start is that of a non-voter.
const REJOINS_NAME: &str = "rejoins";
/// `f_type` of a tmpfs, which takes O_DIRECT and ignores it: nothing on it is durable.
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// A node's directory, which no other process runs on until the value is dropped.
///
/// The locks of the replicas do not suffice: of two processes that start at once each would get some
/// of them, and the node would go on with the other replicas parked for ever.
#[derive(Debug)]
pub(crate) struct NodeLock {
    _file: File,
}

impl NodeLock {
    /// Creates the directory if it is not there, and takes its lock.
    pub(crate) fn take(path: &Path) -> Result<Self, Fatal> {
        create(path)?;
        Ok(Self { _file: lock(path)? })
    }
}

/// A data directory that this process owns until the value is dropped.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    /// Holds the advisory lock.
    _lock: File,
}

impl DataDirectory {
    /// Creates the directory if it is not there, takes its lock and probes it for direct IO.
    pub(crate) fn open(path: &Path) -> Result<Self, Fatal> {
        create(path)?;
        refuse_tmpfs(path)?;
        let lock = lock(path)?;
        remove_unfinished(path)?;
        probe_direct_io(path)?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file of one whole block on the log's device, there before the first segment is.
    ///
    /// An executor has to open such a file before any other: glommio 0.9 probes the device with a
    /// read of the first file, takes it for pollable if that file is empty, and then every later
    /// write and read goes wrong.
    pub(crate) fn block_path(&self) -> PathBuf {
        self.path.join(LOCK_NAME)
    }

    pub(crate) fn superblock_path(&self) -> PathBuf {
        self.path.join(FILE_NAME)
    }

    /// Whether it was formatted.
    pub(crate) fn is_formatted(&self) -> bool {
        self.superblock_path().exists()
    }

    /// Whether it was formatted in place of a lost one, and the replica does not vote yet.
    pub(crate) fn rejoins(&self) -> bool {
        self.path.join(REJOINS_NAME).exists()
    }

    /// From now on it does not vote, for good before it can be started at all.
    pub(crate) fn note_rejoining(&self) -> Result<(), Fatal> {
        assert!(!self.is_formatted(), "what it promised is there");
        let text = b"formatted in place of a lost disk; no voter before it has learnt enough\n";
        publish(&self.path, REJOINS_NAME, text)
    }

    /// It is a voter again, in all lives to come.
    pub(crate) fn note_rejoined(&self) -> Result<(), Fatal> {
        let path = self.path.join(REJOINS_NAME);
        std::fs::remove_file(&path).map_err(|error| Fatal::write(&path, error))?;
        self.sync()
    }

    /// The identity on disk, checked against the configured one; `None` if the directory was never
    /// formatted. A damaged superblock says nothing of whose directory it is.
    pub(crate) fn identity(
        &self,
        cluster: &ClusterConfig,
        replica: ReplicaAddress,
    ) -> Result<Option<Identity>, Fatal> {
        let path = self.superblock_path();
        let mut block = Vec::new();
        match File::open(&path) {
            Ok(file) => {
                let limit = 2 * u64::from(BLOCK_BYTES);
                file.take(limit)
                    .read_to_end(&mut block)
                    .map_err(|error| Fatal::read(&path, error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Fatal::read(&path, error)),
        }
        let wrong = |problem: String| Fatal::WrongIdentity {
            path: self.path.clone(),
            problem,
        };
        let found = Superblock::decode(&block).map_err(|error| match error {
            IdentityError::Version { .. } => wrong(error.to_string()),
            damaged => Fatal::LogCorrupt {
                path: path.clone(),
                problem: damaged.to_string(),
            },
        })?;
        let expected = superblock(
            cluster,
            Identity {
                cluster: cluster.cluster_id.0,
                shard: replica.shard.0,
                replica: replica.replica.0,
                ..found.identity
            },
        );
        found
            .check(&expected)
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Some(found.identity))
    }

    pub(crate) fn write_superblock(
        &self,
        cluster: &ClusterConfig,
        identity: Identity,
    ) -> Result<(), Fatal> {
        let block = superblock(cluster, identity);
        publish(&self.path, FILE_NAME, &block.encode())
    }

    /// Makes creations, renames and removals durable.
    pub(crate) fn sync(&self) -> Result<(), Fatal> {
        sync_directory(&self.path)
    }
}

/// Writes a file that is there as a whole or not at all: beside, sync, rename, sync the directory.
pub(crate) fn publish(directory: &Path, name: &str, content: &[u8]) -> Result<(), Fatal> {
    let beside = directory.join(format!("{name}.new"));
    let write = |path: &Path| -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write(&beside).map_err(|error| Fatal::write(&beside, error))?;
    let path = directory.join(name);
    std::fs::rename(&beside, &path).map_err(|error| Fatal::write(&path, error))?;
    sync_directory(directory)
}

fn sync_directory(path: &Path) -> Result<(), Fatal> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| Fatal::sync(path, error))
}

fn superblock(cluster: &ClusterConfig, identity: Identity) -> Superblock {
    Superblock {
        identity,
        genesis: Genesis::of(&cluster.genesis().to_string()),
    }
}

/// Also makes the new entries durable, up to the first directory that was there before.
fn create(path: &Path) -> Result<(), Fatal> {
    let failed = |error: io::Error| Fatal::directory(path, format!("cannot be created: {error}"));
    let missing: Vec<&Path> = path.ancestors().take_while(|part| !part.exists()).collect();
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o750)
        .create(path)
        .map_err(failed)?;
    for created in missing {
        if let Some(parent) = created
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            let synced = File::open(parent).and_then(|directory| directory.sync_all());
            synced.map_err(failed)?;
        }
    }
    Ok(())
}

fn refuse_tmpfs(path: &Path) -> Result<(), Fatal> {
    let status = rustix::fs::statfs(path)
        .map_err(|error| Fatal::directory(path, format!("cannot be examined: {error}")))?;
    if status.f_type == TMPFS_MAGIC {
        return Err(Fatal::directory(
            path,
            "lies on a tmpfs, where nothing is durable and direct IO does not exist; use a disk",
        ));
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, Fatal> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o640)
        .open(path.join(LOCK_NAME))
        .map_err(|error| Fatal::directory(path, format!("is not writable: {error}")))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            return Err(Fatal::DirectoryLocked {
                path: path.to_owned(),
            });
        }
        Err(error) => {
            return Err(Fatal::directory(path, format!("cannot be locked: {error}")));
        }
    }
    fill_lock_file(&file)
        .map_err(|error| Fatal::directory(path, format!("is not writable: {error}")))?;
    Ok(file)
}

/// One whole block that names the owner. Its size matters: see [`DataDirectory::block_path`].
fn fill_lock_file(file: &File) -> io::Result<()> {
    let mut block = format!("locked by process {}\n", std::process::id()).into_bytes();
    block.resize(BLOCK_BYTES as usize, b'\n');
    file.write_all_at(&block, 0)?;
    file.sync_all()
}

/// Files that a process which died had not given their names yet: they hold nothing, and take room.
fn remove_unfinished(path: &Path) -> Result<(), Fatal> {
    let failed = |error| Fatal::directory(path, format!("cannot be tidied: {error}"));
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let found = entry.map_err(failed)?.path();
        if found
            .extension()
            .is_some_and(|extension| extension == "new")
        {
            std::fs::remove_file(&found).map_err(failed)?;
        }
    }
    Ok(())
}

/// Opens a file as the log will be opened.
fn probe_direct_io(path: &Path) -> Result<(), Fatal> {
    let probe = path.join("direct-io-probe");
    let flags = OFlag::O_DIRECT | LOG_FLAGS;
    let opened = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .custom_flags(flags.bits())
        .open(&probe);
    let removed = std::fs::remove_file(&probe);
    opened.map_err(|error| Fatal::directory(path, format!("does not take direct IO: {error}")))?;
    removed.map_err(|error| Fatal::directory(path, format!("is not writable: {error}")))
}

#[cfg(test)]
mod tests {
    use quorate_config::GenerateOptions;
    use quorate_protocol::ids::{ClusterId, ReplicaId, ShardId};
    use quorate_protocol::shard::map::Placement;

    use super::*;

    const REPLICA: ReplicaAddress = ReplicaAddress {
        shard: ShardId(2),
        replica: ReplicaId(3),
    };

    const IDENTITY: Identity = Identity {
        cluster: 7,
        shard: 2,
        replica: 3,
        segment_bytes: 64 << 10,
        created_ns: 5,
    };

    fn cluster(id: u64, placement: Placement) -> ClusterConfig {
        ClusterConfig::generate(&GenerateOptions {
            cluster_id: ClusterId(id),
            shards: 3,
            replicas: 3,
            nodes: 3,
            directory: "unused".into(),
            base_port: 7000,
            placement,
            host_cores: 1,
        })
        .unwrap()
    }

    fn on_disk() -> tempfile::TempDir {
        let below = std::env::current_exe().unwrap();
        tempfile::tempdir_in(below.parent().unwrap()).unwrap()
    }

    #[test]
    fn a_second_owner_is_refused_while_the_first_lives() {
        let root = on_disk();
        let path = root.path().join("a/b/s2r3");
        let first = DataDirectory::open(&path).unwrap();
        let second = DataDirectory::open(&path).unwrap_err();
        assert_eq!(second.exit_code(), 15, "{second}");
        drop(first);
        DataDirectory::open(&path).unwrap();
    }

    #[test]
    fn a_node_has_one_owner_whichever_replicas_it_has() {
        let root = on_disk();
        let path = root.path().join("n1");
        let first = NodeLock::take(&path).unwrap();
        // The replicas' locks are others.
        drop(DataDirectory::open(&path.join("s2r3")).unwrap());
        let second = NodeLock::take(&path).unwrap_err();
        assert_eq!(second.exit_code(), 15, "{second}");
        drop(first);
        NodeLock::take(&path).unwrap();
    }

    #[test]
    fn files_that_were_not_finished_are_removed() {
        let root = on_disk();
        for name in ["wal-0000000000000002.new", "superblock.new", "superblock"] {
            std::fs::write(root.path().join(name), [0; 512]).unwrap();
        }
        drop(DataDirectory::open(root.path()).unwrap());
        let left = std::fs::read_dir(root.path()).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["lock", "superblock"]);
    }

    #[test]
    fn an_unformatted_directory_has_no_identity_and_a_formatted_one_its_own() {
        let root = on_disk();
        let directory = DataDirectory::open(root.path()).unwrap();
        let cluster = cluster(7, Placement::Hash);
        assert_eq!(directory.identity(&cluster, REPLICA).unwrap(), None);
        directory.write_superblock(&cluster, IDENTITY).unwrap();
        assert_eq!(
            directory.identity(&cluster, REPLICA).unwrap(),
            Some(IDENTITY)
        );
    }

    #[test]
    fn the_directory_of_another_replica_is_refused_with_both_values() {
        let root = on_disk();
        let directory = DataDirectory::open(root.path()).unwrap();
        let own = cluster(7, Placement::Hash);
        directory.write_superblock(&own, IDENTITY).unwrap();
        let other = cluster(9, Placement::Hash);
        let error = directory.identity(&other, REPLICA).unwrap_err();
        assert_eq!(error.exit_code(), 16);
        assert!(
            error
                .to_string()
                .contains("cluster id 7 on disk, 9 in config"),
            "{error}"
        );
        let range = Placement::Range {
            accounts_per_shard: 1000,
        };
        let error = directory.identity(&cluster(7, range), REPLICA).unwrap_err();
        assert_eq!(error.exit_code(), 16);
        for text in ["placement = hash", "accounts_per_shard = 1000"] {
            assert!(error.to_string().contains(text), "{error}");
        }
        std::fs::write(directory.superblock_path(), b"short").unwrap();
        let error = directory.identity(&own, REPLICA).unwrap_err();
        assert_eq!(error.exit_code(), 19, "{error}");
    }

    #[test]
    fn a_directory_that_cannot_be_made_or_is_no_disk_is_refused() {
        let root = on_disk();
        let file = root.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let error = DataDirectory::open(&file.join("s1r1")).unwrap_err();
        assert_eq!(error.exit_code(), 14, "{error}");
        let memory = Path::new("/dev/shm");
        if rustix::fs::statfs(memory).is_ok_and(|found| found.f_type == TMPFS_MAGIC) {
            let root = tempfile::tempdir_in(memory).unwrap();
            let error = DataDirectory::open(root.path()).unwrap_err();
            assert_eq!(error.exit_code(), 14);
            assert!(error.to_string().contains("tmpfs"), "{error}");
        }
    }
}
