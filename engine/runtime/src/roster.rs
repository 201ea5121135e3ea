//! Which replicas a node's directory was formatted for, and the formatting itself.
//!
//! A replica that was formatted where it should have been found votes as if it had never seen what it
//! acknowledged. So a node formats once in its life:
//!
//! | `replicas` file | the directory of a hosted replica | then |
//! | --- | --- | --- |
//! | absent | without a superblock | formatted: this is the first start, or the first one was interrupted |
//! | absent | with one | kept, as above |
//! | lists it | with a superblock | opened |
//! | lists it | without one | lost: that replica is out of service; under `--recover` it is formatted as a non-voter |
//! | lists others | whatever | refused: the configuration puts a replica here that was formatted elsewhere |
//!
//! And a directory that holds a formatted replica which the node does not host is another node's.
//!
//! The file is written behind the last superblock and before any replica serves. Under `--recover` it is
//! written first: the whole directory may be lost, and whatever is not formatted then must never be formatted
//! as if it were new, not even if this start is interrupted. A replica formatted under `--recover` is marked
//! as a non-voter before its superblock exists, so there is no moment at which it could vote. In a group
//! of one there is nobody to learn from, and it is refused.
//!
//! Everything here blocks and runs before the executors start.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_config::ClusterConfig;
use quorate_protocol::ids::ReplicaAddress;
use quorate_storage::BLOCK_BYTES;
use quorate_storage::superblock::{FILE_NAME, Identity, Superblock};
use quorate_storage::wal::SegmentNumber;

use crate::directory::{DataDirectory, publish};
use crate::fatal::Fatal;
use crate::recover::refuse_foreign_log;

/// Name of the file.
const ROSTER_NAME: &str = "replicas";
/// The text of the core finds room in the superblock.
const _: () = assert!(
    quorate_protocol::config::GENESIS_BYTES_MAX == quorate_storage::superblock::GENESIS_BYTES_MAX
);
/// Bytes of zeros per write.
const ZERO_BYTES: usize = 1 << 20;

/// What a node's directory says of its replicas.
#[derive(Debug)]
pub(crate) struct Roster {
    /// `None` until all were formatted.
    formatted: Option<BTreeSet<ReplicaAddress>>,
}

impl Roster {
    /// Reads it, and refuses a directory that is another node's.
    pub(crate) fn read(
        path: &Path,
        cluster: &ClusterConfig,
        hosted: &[ReplicaAddress],
    ) -> Result<Self, Fatal> {
        let wrong = |problem: String| Fatal::WrongIdentity {
            path: path.to_owned(),
            problem,
        };
        let found = formatted_below(path)?;
        for replica in &found {
            if let Some(problem) = other_genesis(path, cluster, *replica) {
                return Err(wrong(problem));
            }
        }
        if let Some(foreign) = found.iter().find(|replica| !hosted.contains(replica)) {
            let hosted = listed(hosted.iter());
            return Err(wrong(format!(
                "it holds {foreign}; by the config this node hosts {hosted}"
            )));
        }
        let file = path.join(ROSTER_NAME);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { formatted: None });
            }
            Err(error) => return Err(Fatal::read(&file, error)),
        };
        let formatted: Option<BTreeSet<ReplicaAddress>> =
            text.lines().map(ReplicaAddress::parse).collect();
        let formatted = formatted.ok_or_else(|| Fatal::LogCorrupt {
            path: file.clone(),
            problem: "holds something else than addresses of replicas".to_owned(),
        })?;
        match hosted.iter().find(|replica| !formatted.contains(replica)) {
            None => Ok(Self {
                formatted: Some(formatted),
            }),
            Some(added) => Err(wrong(format!(
                "the config puts {added} on this node, which was formatted for {}: it would begin \
                 empty, and vote; `layout` and the set of nodes are fixed",
                listed(formatted.iter())
            ))),
        }
    }

    /// Formats what has to be, or says what is lost. An error of the first start is the whole node's:
    /// nothing is served yet.
    pub(crate) fn settle(
        &self,
        path: &Path,
        cluster: &ClusterConfig,
        hosted: &[ReplicaAddress],
        opened: Vec<Result<DataDirectory, Fatal>>,
        recover: bool,
    ) -> Result<Vec<Result<DataDirectory, Fatal>>, Fatal> {
        let names: Vec<String> = hosted.iter().map(|name| format!("{name}\n")).collect();
        let names = names.concat();
        if self.formatted.is_none() && recover && cluster.replicas > 1 {
            publish(path, ROSTER_NAME, names.as_bytes())?;
        }
        if self.formatted.is_some() || recover {
            let found = hosted.iter().zip(opened).map(|(replica, opened)| {
                let directory = opened?;
                find_again(&directory, cluster, *replica, recover)?;
                Ok(directory)
            });
            return Ok(found.collect());
        }
        let opened: Vec<DataDirectory> = opened.into_iter().collect::<Result<_, _>>()?;
        for (replica, directory) in hosted.iter().zip(&opened) {
            if !directory.is_formatted() {
                format_replica(directory, cluster, *replica)?;
            }
        }
        publish(path, ROSTER_NAME, names.as_bytes())?;
        Ok(opened.into_iter().map(Ok).collect())
    }
}

/// A directory that was formatted in an earlier life; in place of a lost one, another.
fn find_again(
    directory: &DataDirectory,
    cluster: &ClusterConfig,
    replica: ReplicaAddress,
    recover: bool,
) -> Result<(), Fatal> {
    if directory.is_formatted() {
        return Ok(());
    }
    let lost = "it was formatted and has no superblock: what it held is lost";
    if cluster.replicas == 1 {
        let problem = format!("{lost}, and in a group of one there is nobody to recover it from");
        return Err(Fatal::corrupt(directory.path(), problem));
    }
    if !recover {
        let problem = format!("{lost}; start the node with `--recover` to learn it from the group");
        return Err(Fatal::corrupt(directory.path(), problem));
    }
    tracing::warn!(%replica, "its disk is lost: it begins empty, and votes when it has learnt enough");
    directory.note_rejoining()?;
    format_replica(directory, cluster, replica)
}

/// The superblock comes last: a directory that has one is complete.
fn format_replica(
    directory: &DataDirectory,
    cluster: &ClusterConfig,
    replica: ReplicaAddress,
) -> Result<(), Fatal> {
    refuse_foreign_log(directory.path())?;
    let created = SystemTime::now().duration_since(UNIX_EPOCH);
    let created_ns = created
        .ok()
        .and_then(|age| u64::try_from(age.as_nanos()).ok())
        .unwrap_or(0);
    let identity = Identity {
        cluster: cluster.cluster_id.0,
        shard: replica.shard.0,
        replica: replica.replica.0,
        segment_bytes: cluster.segment_bytes,
        created_ns,
    };
    let first = directory.path().join(SegmentNumber::FIRST.file_name());
    zeroed(&first, identity.segment_bytes)?;
    directory.sync()?;
    directory.write_superblock(cluster, identity)?;
    tracing::info!(%replica, path = %directory.path().display(), "data directory formatted");
    Ok(())
}

/// Every block is written, so that later writes change no metadata of the file system.
fn zeroed(path: &Path, bytes: u64) -> Result<(), Fatal> {
    let zeros = vec![0; ZERO_BYTES];
    let mut file = File::create(path).map_err(|error| Fatal::write(path, error))?;
    let mut left = bytes;
    while left > 0 {
        let length = usize::try_from(left).map_or(ZERO_BYTES, |left| left.min(ZERO_BYTES));
        file.write_all(&zeros[..length])
            .map_err(|error| Fatal::write(path, error))?;
        left -= u64::try_from(length).expect("a usize fits 64 bits");
    }
    file.sync_all().map_err(|error| Fatal::sync(path, error))
}

/// Replicas whose directories below are formatted, ascending.
fn formatted_below(path: &Path) -> Result<BTreeSet<ReplicaAddress>, Fatal> {
    let failed = |error| Fatal::directory(path, format!("cannot be listed: {error}"));
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if let Some(replica) = name.to_str().and_then(ReplicaAddress::parse)
            && entry.path().join(FILE_NAME).exists()
        {
            found.insert(replica);
        }
    }
    Ok(found)
}

/// What is wrong if a replica was formatted under another genesis. First of all: under another number of
/// shards other replicas are hosted, too. A superblock that cannot be read is its replica's fault.
fn other_genesis(path: &Path, cluster: &ClusterConfig, replica: ReplicaAddress) -> Option<String> {
    let superblock = path.join(replica.to_string()).join(FILE_NAME);
    let mut block = [0; BLOCK_BYTES as usize];
    let mut file = File::open(superblock).ok()?;
    file.read_exact(&mut block).ok()?;
    let found = Superblock::decode(&block).ok()?;
    let same_cluster = found.identity.cluster == cluster.cluster_id.0;
    let (here, config) = (found.genesis.to_string(), cluster.genesis().to_string());
    (same_cluster && here != config).then(|| {
        format!(
            "{replica} was formatted under `{here}`, the config says `{config}`: these settings are \
             fixed for the life of a cluster"
        )
    })
}

fn listed<'a>(replicas: impl Iterator<Item = &'a ReplicaAddress>) -> String {
    let names: Vec<String> = replicas.map(ToString::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use quorate_config::GenerateOptions;
    use quorate_protocol::ids::{ClusterId, NodeId};
    use quorate_protocol::shard::map::Placement;

    use super::*;

    fn cluster(shards: u32, below: &Path) -> ClusterConfig {
        ClusterConfig::generate(&GenerateOptions {
            cluster_id: ClusterId(7),
            shards,
            replicas: 3,
            nodes: 3,
            directory: below.to_owned(),
            base_port: 7000,
            placement: Placement::Hash,
            host_cores: 8,
        })
        .unwrap()
    }

    fn on_disk() -> tempfile::TempDir {
        let below = std::env::current_exe().unwrap();
        tempfile::tempdir_in(below.parent().unwrap()).unwrap()
    }

    type Opened = Vec<Result<DataDirectory, Fatal>>;

    /// Node 1 of the cluster, through the roster.
    fn start(cluster: &ClusterConfig) -> Result<(PathBuf, Opened), Fatal> {
        start_with(cluster, false)
    }

    fn start_with(cluster: &ClusterConfig, recover: bool) -> Result<(PathBuf, Opened), Fatal> {
        let node = cluster.node(NodeId(1)).unwrap();
        std::fs::create_dir_all(&node.data_dir).unwrap();
        let hosted = cluster.replicas_of(node.id);
        let roster = Roster::read(&node.data_dir, cluster, &hosted)?;
        let open = |replica| DataDirectory::open(&cluster.data_dir_of(replica));
        let opened: Opened = hosted.iter().map(|replica| open(*replica)).collect();
        let opened = roster.settle(&node.data_dir, cluster, &hosted, opened, recover)?;
        Ok((node.data_dir.clone(), opened))
    }

    #[test]
    fn a_node_formats_once() {
        let root = on_disk();
        let cluster = cluster(2, root.path());
        let (path, opened) = start(&cluster).unwrap();
        assert!(
            opened
                .iter()
                .all(|opened| opened.as_ref().unwrap().is_formatted())
        );
        drop(opened);
        let lost = cluster.replicas_of(NodeId(1))[1];
        std::fs::remove_dir_all(path.join(lost.to_string())).unwrap();
        let (_, opened) = start(&cluster).unwrap();
        let states: Vec<bool> = opened.iter().map(Result::is_ok).collect();
        assert_eq!(states, [true, false], "the other one serves");
        let error = opened[1].as_ref().unwrap_err();
        assert_eq!(error.exit_code(), 19, "{error}");
        assert!(error.to_string().contains("--recover"), "{error}");
    }

    fn rejoining(opened: &Opened) -> Vec<bool> {
        let rejoins = |opened: &Result<DataDirectory, Fatal>| {
            let directory = opened.as_ref().unwrap();
            assert!(directory.is_formatted());
            directory.rejoins()
        };
        opened.iter().map(rejoins).collect()
    }

    #[test]
    fn only_what_is_lost_is_formatted_for_recovery_and_stays_marked_until_it_has_rejoined() {
        let root = on_disk();
        let cluster = cluster(2, root.path());
        let (path, opened) = start_with(&cluster, false).unwrap();
        assert_eq!(rejoining(&opened), [false, false]);
        drop(opened);
        let lost = cluster.replicas_of(NodeId(1))[1];
        std::fs::remove_dir_all(path.join(lost.to_string())).unwrap();
        for recover in [true, false, true] {
            let (_, opened) = start_with(&cluster, recover).unwrap();
            assert_eq!(rejoining(&opened), [false, true], "recover {recover}");
        }
        let (_, opened) = start(&cluster).unwrap();
        opened[1].as_ref().unwrap().note_rejoined().unwrap();
        assert_eq!(rejoining(&opened), [false, false]);
        drop(opened);
        let (_, opened) = start_with(&cluster, true).unwrap();
        assert_eq!(rejoining(&opened), [false, false]);
    }

    /// Whatever is interrupted, no replica of a node whose whole directory was lost is formatted as new.
    #[test]
    fn a_node_that_lost_everything_formats_nothing_that_votes() {
        let root = on_disk();
        let cluster = cluster(2, root.path());
        let (path, opened) = start_with(&cluster, true).unwrap();
        assert_eq!(rejoining(&opened), [true, true]);
        drop(opened);
        let last = path.join(cluster.replicas_of(NodeId(1))[1].to_string());
        std::fs::remove_file(last.join(FILE_NAME)).unwrap();
        let (_, opened) = start(&cluster).unwrap();
        assert_eq!(opened[1].as_ref().unwrap_err().exit_code(), 19);
        drop(opened);
        let (_, opened) = start_with(&cluster, true).unwrap();
        assert_eq!(rejoining(&opened), [true, true]);
    }

    #[test]
    fn a_group_of_one_cannot_be_recovered() {
        let root = on_disk();
        let alone = ClusterConfig::generate(&GenerateOptions {
            cluster_id: ClusterId(7),
            shards: 1,
            replicas: 1,
            nodes: 1,
            directory: root.path().to_owned(),
            base_port: 7000,
            placement: Placement::Hash,
            host_cores: 8,
        })
        .unwrap();
        let (path, opened) = start_with(&alone, true).unwrap();
        let error = opened[0].as_ref().unwrap_err();
        assert!(error.to_string().contains("group of one"), "{error}");
        drop(opened);
        // It may be a first start after all.
        assert!(!path.join(ROSTER_NAME).exists());
        assert!(start(&alone).unwrap().1[0].is_ok());
    }

    #[test]
    fn a_first_start_that_was_interrupted_goes_on() {
        let root = on_disk();
        let cluster = cluster(2, root.path());
        let (path, opened) = start(&cluster).unwrap();
        drop(opened);
        let last = cluster.replicas_of(NodeId(1))[1];
        std::fs::remove_file(path.join(ROSTER_NAME)).unwrap();
        std::fs::remove_file(path.join(last.to_string()).join(FILE_NAME)).unwrap();
        let (_, opened) = start(&cluster).unwrap();
        assert!(opened.iter().all(Result::is_ok));
        assert!(path.join(ROSTER_NAME).exists());
    }

    /// Two of nine nodes were taken out of the file: others got the replicas of these by the default
    /// layout, formatted them empty, elected them, and acknowledged transfers were gone.
    #[test]
    fn a_replica_that_was_formatted_elsewhere_is_not_formatted_here() {
        let root = on_disk();
        let few = cluster(1, root.path());
        let (path, opened) = start(&few).unwrap();
        drop(opened);
        std::fs::write(path.join(ROSTER_NAME), "s1r2\n").unwrap();
        let error = start(&few).unwrap_err();
        assert_eq!(error.exit_code(), 16, "{error}");
        assert!(error.to_string().contains("formatted for s1r2"), "{error}");
        std::fs::write(path.join(ROSTER_NAME), "what\n").unwrap();
        assert_eq!(start(&few).unwrap_err().exit_code(), 19);
    }

    #[test]
    fn a_directory_of_another_node_or_genesis_is_refused_with_what_it_holds() {
        let root = on_disk();
        let wide = cluster(2, root.path());
        let (path, opened) = start(&wide).unwrap();
        drop(opened);
        let error = start(&cluster(1, root.path())).unwrap_err();
        assert_eq!(error.exit_code(), 16);
        for text in ["shards = 2", "shards = 1"] {
            assert!(error.to_string().contains(text), "{error}");
        }
        let own = wide.replicas_of(NodeId(1))[0].to_string();
        let other = wide.replicas_of(NodeId(2))[0].to_string();
        std::fs::rename(path.join(own), path.join(&other)).unwrap();
        let error = start(&wide).unwrap_err();
        assert_eq!(error.exit_code(), 16);
        assert!(
            error.to_string().contains(&format!("holds {other}")),
            "{error}"
        );
        // Directories without a superblock, and of other names, are nobody's.
        let root = on_disk();
        let wide = cluster(2, root.path());
        std::fs::create_dir_all(root.path().join("n1/s9r9")).unwrap();
        std::fs::create_dir_all(root.path().join("n1/lost+found")).unwrap();
        start(&wide).unwrap();
    }
}
