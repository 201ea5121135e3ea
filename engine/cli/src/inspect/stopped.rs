//! Directories of replicas that do not run, held still while they are looked at.
//!
//! The advisory lock of each is taken, shared, for as long as something is read: a server that would start
//! on it meanwhile ends with "another process runs on the data directory", and one that runs makes the
//! command refuse. So files may be mapped, and what is shown is one state. Nothing is ever written, not
//! even a repair that a start would make.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use quorate_config::ClusterConfig;
use quorate_protocol::ids::{ReplicaAddress, ReplicaId, ShardId};
use quorate_storage::mmap::Map;
use quorate_storage::store::{Binding, Read, Unreadable};
use quorate_storage::superblock::{FILE_NAME, Identity, IdentityError, Superblock};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::Context;
use crate::failure::{Failure, Outcome};

/// The server's, see `engine/runtime/src/directory.rs`.
const LOCK_NAME: &str = "lock";

/// Which directories.
#[derive(Args, Clone, Debug)]
pub struct StoppedArgs {
    /// Topology of the cluster (see `quorate cluster init`): its replicas on this host
    #[arg(
        short = 'f',
        long = "file",
        value_name = "cluster.toml",
        env = "QUORATE_CLUSTER",
        hide_env_values = true,
        required_unless_present = "dir"
    )]
    pub file: Option<PathBuf>,
    /// With a topology: only the replicas of this node
    #[arg(long, value_name = "N")]
    pub node: Option<u32>,
    /// With a topology: only the replicas of this shard
    #[arg(long, value_name = "S")]
    pub shard: Option<u32>,
    /// Without a topology: one replica's directory, say a copy; may come several times
    #[arg(long, value_name = "DIR")]
    pub dir: Vec<PathBuf>,
}

/// One replica's directory, locked.
#[derive(Debug)]
pub struct Stopped {
    pub directory: PathBuf,
    pub replica: ReplicaAddress,
    pub identity: Identity,
    /// By the topology.
    node: Option<u32>,
    genesis: String,
    _lock: File,
}

/// What a look at one directory found.
#[derive(Debug)]
pub struct Seen {
    /// Its keys are added to the replica's.
    pub document: Value,
    pub text: String,
    /// What is not as it was written.
    pub damaged: bool,
}

/// Why a directory was not looked at.
#[derive(Debug)]
enum Unread {
    /// A process runs on it.
    Locked(String),
    /// It is not the one that is meant, or none.
    Foreign(String),
    Damaged(String),
    Failed(String),
}

/// Looks at each directory, prints all that was seen, and ends as the worst of it says.
pub fn each(
    args: &StoppedArgs,
    context: Context,
    look: impl Fn(&Stopped) -> Result<Seen, anyhow::Error>,
) -> Outcome {
    let mut documents = Vec::new();
    let mut texts = Vec::new();
    let mut unread = Vec::new();
    let mut damaged = Vec::new();
    for (directory, expected) in args.directories()? {
        let opened = Stopped::open(&directory, expected);
        let looked = opened.and_then(|stopped| match look(&stopped) {
            Ok(seen) => Ok((stopped, seen)),
            Err(error) => Err(Unread::Failed(format!("{error:#}"))),
        });
        match looked {
            Ok((stopped, seen)) => {
                if seen.damaged {
                    damaged.push(directory.display().to_string());
                }
                documents.push(stopped.document(seen.document));
                texts.push(format!("{}\n{}", stopped.title(), seen.text.trim_end()));
            }
            Err(reason) => unread.push((directory, reason)),
        }
    }
    let not_read: Vec<Value> = unread
        .iter()
        .map(|(path, reason)| {
            json!({ "directory": path.display().to_string(), "reason": reason.text() })
        })
        .collect();
    let document = json!({ "replicas": documents, "not_read": not_read });
    context.output.print(&document, || {
        let reasons = unread
            .iter()
            .map(|(path, reason)| format!("not read: {}: {}", path.display(), reason.text()));
        let parts: Vec<String> = texts.iter().cloned().chain(reasons).collect();
        parts.join("\n\n")
    })?;
    verdict(&damaged, &unread)
}

fn verdict(damaged: &[String], unread: &[(PathBuf, Unread)]) -> Outcome {
    if !damaged.is_empty() {
        let places = damaged.join(", ");
        return Err(Failure::CheckFailed(format!("damage in {places}")));
    }
    let worst = unread.iter().max_by_key(|(_, reason)| reason.rank());
    let Some((path, reason)) = worst else {
        return Ok(());
    };
    let message = format!("{}: {}", path.display(), reason.text());
    Err(match reason {
        Unread::Locked(_) => Failure::Refused(message),
        Unread::Foreign(_) => Failure::usage(message),
        Unread::Damaged(_) => Failure::CheckFailed(message),
        Unread::Failed(_) => Failure::Other(anyhow::anyhow!(message)),
    })
}

impl Unread {
    fn text(&self) -> &str {
        match self {
            Self::Locked(text) | Self::Foreign(text) | Self::Damaged(text) | Self::Failed(text) => {
                text
            }
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Failed(_) => 0,
            Self::Locked(_) => 1,
            Self::Foreign(_) => 2,
            Self::Damaged(_) => 3,
        }
    }
}

/// Who should own a directory, by the topology.
struct Expected {
    config: ClusterConfig,
    replica: ReplicaAddress,
}

impl StoppedArgs {
    fn directories(&self) -> Result<Vec<(PathBuf, Option<Expected>)>, Failure> {
        let Some(file) = self.file.as_ref().filter(|_| self.dir.is_empty()) else {
            return Ok(self.dir.iter().map(|dir| (dir.clone(), None)).collect());
        };
        let config = ClusterConfig::load(file)?;
        let wanted = |replica: &ReplicaAddress| {
            let node = config.node_of(*replica).id.0;
            self.node.is_none_or(|wanted| wanted == node)
                && self.shard.is_none_or(|wanted| wanted == replica.shard.0)
        };
        let mut found = Vec::new();
        for replica in config.all_replicas().filter(wanted) {
            let directory = config.data_dir_of(replica);
            // Those of other hosts are not here.
            if directory.is_dir() {
                let config = config.clone();
                found.push((directory, Some(Expected { config, replica })));
            }
        }
        match found.is_empty() {
            false => Ok(found),
            true => Err(Failure::usage(format!(
                "{}: none of these replicas has a directory on this host",
                file.display()
            ))),
        }
    }
}

impl Stopped {
    fn open(directory: &Path, expected: Option<Expected>) -> Result<Self, Unread> {
        let lock = lock(directory)?;
        let block = match fs::read(directory.join(FILE_NAME)) {
            Ok(block) => block,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Unread::Damaged("there is no superblock".to_owned()));
            }
            Err(error) => return Err(Unread::Failed(format!("superblock: {error}"))),
        };
        let found = Superblock::decode(&block).map_err(|error| match error {
            IdentityError::Version { .. } => Unread::Foreign(error.to_string()),
            damaged => Unread::Damaged(damaged.to_string()),
        })?;
        let identity = found.identity;
        if let Some(expected) = &expected {
            let identity = Identity {
                cluster: expected.config.cluster_id.0,
                shard: expected.replica.shard.0,
                replica: expected.replica.replica.0,
                ..identity
            };
            let checked = found.identity.check(&identity);
            checked.map_err(|error| Unread::Foreign(error.to_string()))?;
        }
        Ok(Self {
            directory: directory.to_owned(),
            replica: ReplicaAddress {
                shard: ShardId(identity.shard),
                replica: ReplicaId(identity.replica),
            },
            identity,
            node: expected.map(|expected| expected.config.node_of(expected.replica).id.0),
            genesis: found.genesis.to_string(),
            _lock: lock,
        })
    }

    /// One replica's directory by its place in a topology.
    ///
    /// # Errors
    /// A process runs on it, or it is not this replica's, or cannot be read.
    pub fn of(config: &ClusterConfig, replica: ReplicaAddress) -> anyhow::Result<Self> {
        let directory = config.data_dir_of(replica);
        let expected = Expected {
            config: config.clone(),
            replica,
        };
        Self::open(&directory, Some(expected))
            .map_err(|reason| anyhow::anyhow!("{}: {}", directory.display(), reason.text()))
    }

    /// Whose blocks the store's are.
    pub fn binding(&self) -> Binding {
        Binding {
            cluster: self.identity.cluster,
            shard: self.identity.shard,
        }
    }

    /// Every file with its length, by name.
    pub fn listing(&self) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if let Some(name) = entry.file_name().to_str() {
                found.push((name.to_owned(), entry.metadata()?.len()));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Maps a file. Sound because the directory is locked, and mapped for as long as it is.
    pub fn map(&self, name: &str) -> io::Result<Map> {
        Map::open(&self.directory.join(name))
    }

    /// The store's files, to read from.
    pub fn files(&self) -> Files<'_> {
        Files {
            stopped: self,
            maps: BTreeMap::new(),
        }
    }

    fn document(&self, seen: Value) -> Value {
        let mut document = json!({
            "shard": self.replica.shard.0,
            "replica": self.replica.replica.0,
            "node": self.node,
            "directory": self.directory.display().to_string(),
            "cluster": self.identity.cluster.to_string(),
            "genesis": self.genesis,
        });
        if let (Value::Object(document), Value::Object(seen)) = (&mut document, seen) {
            document.extend(seen);
        }
        document
    }

    fn title(&self) -> String {
        format!("{} in {}", self.replica, self.directory.display())
    }
}

/// Maps of a directory's files, each made when it is first read.
pub struct Files<'a> {
    stopped: &'a Stopped,
    maps: BTreeMap<String, Map>,
}

impl Read for Files<'_> {
    fn read(&mut self, name: &str, offset: u64, out: &mut [u8]) -> Result<(), Unreadable> {
        if !self.maps.contains_key(name) {
            let map = self.stopped.map(name).map_err(|_| Unreadable)?;
            self.maps.insert(name.to_owned(), map);
        }
        let start = usize::try_from(offset).map_err(|_| Unreadable)?;
        let end = start.checked_add(out.len()).ok_or(Unreadable)?;
        let bytes = self.maps[name].as_ref().get(start..end);
        out.copy_from_slice(bytes.ok_or(Unreadable)?);
        Ok(())
    }
}

/// The lock file is never made here: where there is none, no server has ever run.
fn lock(directory: &Path) -> Result<File, Unread> {
    let file = match File::open(directory.join(LOCK_NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let reason = "there is no lock file, so it is no replica's directory";
            return Err(Unread::Foreign(reason.to_owned()));
        }
        Err(error) => return Err(Unread::Failed(format!("lock: {error}"))),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(Unread::Locked(
            "a process runs on it; stop the node first".to_owned(),
        )),
        Err(error) => Err(Unread::Failed(format!("lock: {error}"))),
    }
}
