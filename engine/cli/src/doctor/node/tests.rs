//! Verdicts on nodes, from facts that no machine here has.

use std::path::PathBuf;

use quorate_config::GenerateOptions;
use quorate_protocol::ids::ClusterId;
use quorate_protocol::shard::map::Placement;

use super::*;

const MIB: u64 = 1 << 20;

/// A node with three replicas that lacks nothing.
pub fn well(id: u32) -> NodeFacts {
    NodeFacts {
        id: NodeId(id),
        replicas: 3,
        needs: HostNeeds::of(3, false, 4096),
        cores: vec![0, 1, 2],
        directory: DirectoryFacts {
            path: PathBuf::from("/d/n"),
            nearest: PathBuf::from("/d/n"),
            access: Access::Direct,
            file_system: FileSystem::of(0xef53),
            device: 1,
            free_bytes: Some(1 << 40),
        },
        unformatted: 0,
        room: RoomNeeds {
            taken: 320 * MIB,
            low: 320 * MIB,
            ample: 2560 * MIB,
        },
    }
}

fn with(change: impl FnOnce(&mut NodeFacts)) -> NodeFacts {
    let mut node = well(1);
    change(&mut node);
    node
}

#[test]
fn a_node_is_described_by_its_topology() {
    let config = ClusterConfig::generate(&GenerateOptions {
        cluster_id: ClusterId(7),
        shards: 3,
        replicas: 3,
        nodes: 3,
        directory: "/d".into(),
        base_port: 7000,
        placement: Placement::Hash,
        host_cores: 2,
    })
    .unwrap();
    let node = config.node(NodeId(1)).unwrap();
    let facts = NodeFacts::of(&config, node, well(1).directory, 3);
    assert_eq!((facts.replicas, facts.unformatted), (3, 3));
    assert_eq!(facts.cores, [0, 1], "shared, each once");
    assert_eq!(facts.needs, HostNeeds::of(3, true, 4096));
    // Segments of 64 MiB and checkpoints after 256 MiB: a reserve of two, and three of the log.
    assert_eq!(facts.room.taken, (2 + 3) * 64 * MIB);
    assert_eq!(facts.room.low, (64 + 256) * MIB);
    assert_eq!(facts.room.ample, (512 + 2048) * MIB);
}

#[test]
fn every_cpu_that_is_named_has_to_be_there() {
    for (named, there, verdict) in [
        (vec![0, 1, 2], vec![0, 1, 2], Verdict::Ok),
        (vec![1], vec![0, 1, 2], Verdict::Ok),
        (vec![0, 1, 2], vec![0, 1], Verdict::Fault),
        (vec![8191], vec![0], Verdict::Fault),
        (vec![0], vec![], Verdict::Fault),
    ] {
        let node = with(|node| node.cores = named.clone());
        let finding = cores(&node, &there);
        assert_eq!(finding.verdict, verdict, "{named:?} of {there:?}");
    }
    let node = with(|node| node.cores = vec![0, 4, 5]);
    let finding = cores(&node, &[0, 1, 2, 3]);
    assert_eq!(finding.found, "CPUs 0-3");
    assert_eq!(finding.needed, "CPUs 0, 4-5");
    assert!(finding.hint.unwrap().contains("pinned to CPUs 4-5"));
}

#[test]
fn more_replicas_than_cpus_is_a_warning() {
    let nodes = [well(1), well(2), well(3)];
    for (cpus, verdict) in [(9, Verdict::Ok), (8, Verdict::Warning)] {
        let cpus: Vec<usize> = (0..cpus).collect();
        assert_eq!(cores_of_all(&nodes, &cpus).verdict, verdict);
    }
    let finding = cores_of_all(&nodes, &[0, 1]);
    assert_eq!(finding.found, "2 CPUs");
    assert_eq!(finding.needed, "9 CPUs, one for each replica here");
}

#[test]
fn a_directory_has_to_be_writable_wherever_it_begins() {
    let there = data_dir(&well(1));
    assert_eq!(there.verdict, Verdict::Ok);
    assert_eq!(there.found, "writable /d/n");
    let above = with(|node| node.directory.nearest = PathBuf::from("/d"));
    let above = data_dir(&above);
    assert_eq!(above.verdict, Verdict::Ok);
    assert_eq!(above.found, "writable /d, where /d/n is to be");
    let why = "Permission denied".to_owned();
    let refused = with(|node| node.directory.access = Access::NotWritable(why));
    let refused = data_dir(&refused);
    assert_eq!(refused.verdict, Verdict::Fault);
    assert_eq!(refused.found, "not writable (Permission denied) /d/n");
}

#[test]
fn direct_io_is_judged_by_what_takes_it() {
    let (direct, refused) = (Access::Direct, Access::NotDirect("EINVAL".to_owned()));
    let unwritable = Access::NotWritable("EACCES".to_owned());
    let (ext4, tmpfs, nfs) = (0xef53, 0x0102_1994, 0x6969);
    for (access, magic, verdict, found) in [
        (&direct, ext4, Verdict::Ok, "taken on ext4"),
        (&direct, nfs, Verdict::Warning, "taken on nfs"),
        // Since Linux 6.6 a tmpfs takes the flag.
        (&direct, tmpfs, Verdict::Fault, "taken on tmpfs"),
        (&refused, tmpfs, Verdict::Fault, "refused (EINVAL) on tmpfs"),
        (&refused, ext4, Verdict::Fault, "refused (EINVAL) on ext4"),
        (&refused, nfs, Verdict::Fault, "refused (EINVAL) on nfs"),
        (&unwritable, ext4, Verdict::Warning, "not tried on ext4"),
        (&unwritable, nfs, Verdict::Warning, "not tried on nfs"),
        (&unwritable, tmpfs, Verdict::Fault, "not tried on tmpfs"),
    ] {
        let node = with(|node| {
            node.directory.access = access.clone();
            node.directory.file_system = FileSystem::of(magic);
        });
        let finding = direct_io(&node);
        assert_eq!((finding.verdict, &*finding.found), (verdict, found));
    }
}

#[test]
fn a_disk_has_room_for_what_begins_there_and_for_work() {
    let of = |free: Option<u64>, unformatted: usize| {
        let node = with(|node| {
            node.directory.free_bytes = free;
            node.unformatted = unformatted;
        });
        disk(&node, std::slice::from_ref(&node))
    };
    for (free, unformatted, verdict) in [
        (Some(0), 0, Verdict::Fault),
        (Some(320 * MIB - 1), 0, Verdict::Fault),
        (Some(320 * MIB), 0, Verdict::Warning),
        (Some(2560 * MIB - 1), 0, Verdict::Warning),
        (Some(2560 * MIB), 0, Verdict::Ok),
        (Some(1280 * MIB - 1), 3, Verdict::Fault),
        (Some(1280 * MIB), 3, Verdict::Warning),
        (Some(3520 * MIB - 1), 3, Verdict::Warning),
        (Some(3520 * MIB), 3, Verdict::Ok),
        (Some(u64::MAX), 3, Verdict::Ok),
        (None, 3, Verdict::Warning),
    ] {
        let finding = of(free, unformatted);
        assert_eq!(finding.verdict, verdict, "{free:?}, {unformatted} begin");
    }
    let finding = of(Some(1000 * MIB), 3);
    assert_eq!(finding.found, "1000 MiB free");
    assert_eq!(
        finding.needed,
        "1280 MiB free: 320 MiB for each of 3 replicas that begin there, and 320 MiB beside"
    );
    assert_eq!(of(Some(0), 0).needed, "320 MiB free");
}

#[test]
fn nodes_on_one_file_system_share_its_room() {
    let beginning = |id: u32, device: u64| NodeFacts {
        id: NodeId(id),
        unformatted: 1,
        directory: DirectoryFacts {
            device,
            free_bytes: Some(960 * MIB),
            ..well(id).directory
        },
        ..well(id)
    };
    let apart = [beginning(1, 1), beginning(2, 2), beginning(3, 3)];
    let together = [beginning(1, 1), beginning(2, 1), beginning(3, 1)];
    for node in &apart {
        assert_eq!(disk(node, &apart).verdict, Verdict::Warning);
    }
    for node in &together {
        assert_eq!(disk(node, &together).verdict, Verdict::Fault);
    }
}

#[test]
fn cpus_are_told_in_runs() {
    for (cpus, text) in [
        (vec![], "no CPU"),
        (vec![3], "CPU 3"),
        (vec![0, 1], "CPUs 0-1"),
        (vec![0, 2, 3, 4, 7], "CPUs 0, 2-4, 7"),
    ] {
        assert_eq!(described(&cpus), text);
    }
}
