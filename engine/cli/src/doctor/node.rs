//! What the nodes of a topology need of the host that they run on: facts in, findings out, no IO.

use quorate_config::{ClusterConfig, NodeConfig};
use quorate_durable::room::Marks;
use quorate_protocol::ids::NodeId;
use quorate_runtime::HostNeeds;
use quorate_storage::wal::Options;

use super::check::{Check, Finding, Verdict};
use super::directory::{Access, DirectoryFacts, FileSystem};

/// One node of the topology that runs, or is to run, on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    pub id: NodeId,
    pub replicas: usize,
    pub needs: HostNeeds,
    /// CPUs that its replicas are pinned to, ascending, each once.
    pub cores: Vec<usize>,
    pub directory: DirectoryFacts,
    /// Replicas without a directory of their own yet.
    pub unformatted: usize,
    pub room: RoomNeeds,
}

impl NodeFacts {
    /// What the topology says of the node, with what was found at its directory.
    #[must_use]
    pub fn of(
        config: &ClusterConfig,
        node: &NodeConfig,
        directory: DirectoryFacts,
        unformatted: usize,
    ) -> Self {
        let hosted = config.replicas_of(node.id);
        let connections_limit = config.limits.connections_limit;
        Self {
            id: node.id,
            replicas: hosted.len(),
            needs: HostNeeds::of(hosted.len(), config.share_cores, connections_limit),
            cores: cores_of(config, node),
            directory,
            unformatted,
            room: RoomNeeds::of(config),
        }
    }
}

/// CPUs that a node's replicas are pinned to, ascending, each once.
#[must_use]
pub fn cores_of(config: &ClusterConfig, node: &NodeConfig) -> Vec<usize> {
    let hosted = config.replicas_of(node.id).into_iter();
    let mut cores: Vec<usize> = hosted.map(|replica| config.core_of(replica)).collect();
    cores.sort_unstable();
    cores.dedup();
    cores
}

/// What a replica needs of its disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomNeeds {
    /// Taken soon after its first start: the reserve, the first segment of the log and those ahead.
    pub taken: u64,
    /// With less free it takes no new work.
    pub low: u64,
    /// With less free a leader keeps no more of its log for members that are away.
    pub ample: u64,
}

impl RoomNeeds {
    fn of(config: &ClusterConfig) -> Self {
        let marks = Marks::new(config.segment_bytes, config.checkpoint_bytes);
        let ahead = u64::try_from(Options::default().segments_ahead).expect("a few");
        Self {
            taken: marks.reserve + (1 + ahead) * config.segment_bytes,
            low: marks.low,
            ample: marks.ample,
        }
    }
}

/// The CPUs of one node's replicas against those that there are.
pub fn cores(node: &NodeFacts, cpus: &[usize]) -> Finding {
    let finding = Finding::ok(
        Check::Cores,
        Some(node.id),
        described(cpus),
        described(&node.cores),
    );
    let mut missing = node.cores.clone();
    missing.retain(|core| !cpus.contains(core));
    match missing.is_empty() {
        true => finding,
        false => finding.but(
            Verdict::Fault,
            format!(
                "no thread can be pinned to {}: name others in `cores`, or widen the cpuset",
                described(&missing)
            ),
        ),
    }
}

/// All replicas of the host against its CPUs.
pub fn cores_of_all(nodes: &[NodeFacts], cpus: &[usize]) -> Finding {
    let replicas: usize = nodes.iter().map(|node| node.replicas).sum();
    let finding = Finding::ok(
        Check::Cores,
        None,
        count(cpus.len(), "CPU"),
        format!(
            "{}, one for each replica here",
            count(replicas.max(1), "CPU")
        ),
    );
    match replicas <= cpus.len() {
        true => finding,
        false => finding.but(
            Verdict::Warning,
            "replicas wait for each other's core time: use more hosts, or expect less throughput",
        ),
    }
}

pub fn data_dir(node: &NodeFacts) -> Finding {
    let directory = &node.directory;
    let (path, nearest) = (directory.path.display(), directory.nearest.display());
    let state = match &directory.access {
        Access::Direct | Access::NotDirect(_) => "writable".to_owned(),
        Access::NotWritable(problem) => format!("not writable ({problem})"),
    };
    let found = match directory.is_there() {
        true => format!("{state} {path}"),
        false => format!("{state} {nearest}, where {path} is to be"),
    };
    let finding = Finding::ok(Check::DataDir, Some(node.id), found, "a writable directory");
    match &directory.access {
        Access::Direct | Access::NotDirect(_) => finding,
        Access::NotWritable(_) => finding.but(
            Verdict::Fault,
            "create it and give it to the user that runs the node, and ask as that user",
        ),
    }
}

pub fn direct_io(node: &NodeFacts) -> Finding {
    let directory = &node.directory;
    let system = directory.file_system.name();
    let state = match &directory.access {
        Access::Direct => "taken".to_owned(),
        Access::NotDirect(problem) => format!("refused ({problem})"),
        Access::NotWritable(_) => "not tried".to_owned(),
    };
    let finding = Finding::ok(
        Check::DirectIo,
        Some(node.id),
        format!("{state} on {system}"),
        "taken on a disk",
    );
    match (&directory.access, &directory.file_system) {
        (_, FileSystem::Memory(_)) => finding.but(
            Verdict::Fault,
            "nothing there outlives the host, whether or not it takes the flag: put data_dir on a disk",
        ),
        (Access::NotDirect(_), FileSystem::Local(_) | FileSystem::Other(_)) => finding.but(
            Verdict::Fault,
            "put data_dir on a file system that takes O_DIRECT, such as ext4 or xfs",
        ),
        (Access::NotWritable(_), FileSystem::Local(_) | FileSystem::Other(_)) => {
            finding.but(Verdict::Warning, "see data_dir")
        }
        (Access::Direct, FileSystem::Other(_)) => finding.but(
            Verdict::Warning,
            "see yourself that what was synced there survives a power cut: ext4 and xfs on a local \
             disk are known to do so",
        ),
        (Access::Direct, FileSystem::Local(_)) => finding,
    }
}

/// The room at one node's directory, with those of the others that lie on the same file system.
pub fn disk(node: &NodeFacts, all: &[NodeFacts]) -> Finding {
    let beside = all
        .iter()
        .filter(|other| other.directory.device == node.directory.device);
    let unformatted: usize = beside.map(|other| other.unformatted).sum();
    let room = node.room;
    let taken = room.taken * u64::try_from(unformatted).expect("as many as the cluster has");
    let finding = |spare: u64| {
        let begins = match unformatted {
            0 => String::new(),
            _ => format!(
                ": {} for each of {} that begin there, and {} beside",
                mebibytes(room.taken),
                count(unformatted, "replica"),
                mebibytes(spare)
            ),
        };
        let found = node
            .directory
            .free_bytes
            .map_or("unknown".to_owned(), |free| {
                format!("{} free", mebibytes(free))
            });
        let needed = taken + spare;
        let needed = format!("{} free{begins}", mebibytes(needed));
        Finding::ok(Check::Disk, Some(node.id), found, needed)
    };
    match node.directory.free_bytes {
        None => finding(room.low).but(
            Verdict::Warning,
            "the file system does not tell how much is free: no replica there will find it full",
        ),
        Some(free) if free < taken + room.low => finding(room.low).but(
            Verdict::Fault,
            "free some, or use another disk: with less, replicas answer new work `busy`",
        ),
        Some(free) if free < taken + room.ample => finding(room.ample).but(
            Verdict::Warning,
            "with less, a leader keeps no log for members that are away, which then take whole \
             checkpoints",
        ),
        Some(_) => finding(room.ample),
    }
}

/// `CPUs 0-3, 8`.
fn described(cpus: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            Some(_) | None => runs.push((cpu, cpu)),
        }
    }
    let runs: Vec<String> = runs
        .iter()
        .map(|&(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    match cpus.len() {
        0 => "no CPU".to_owned(),
        1 => format!("CPU {}", runs.join(", ")),
        _ => format!("CPUs {}", runs.join(", ")),
    }
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
pub mod tests;
