//! The parts of a fresh world: formatted replicas, the machines they are on, and clients.

use quorate_protocol::config::{Admission, ReplicaConfig};
use quorate_protocol::ids::{ReplicaAddress, ReplicaId, ShardId};
use quorate_protocol::limits::ENTRY_BYTES_MAX;
use quorate_storage::wal::payload_bytes_max;

use crate::client::{Client, ClientSettings};
use crate::clock::SimClock;
use crate::disk::SimDisk;
use crate::node::Node;
use crate::parameters::Parameters;
use crate::process::Process;
use crate::random::{Concern, Stream};
use crate::world::{Actor, CLUSTER, Event};

/// The index of a replica's process.
pub(crate) fn process_index(parameters: &Parameters, address: ReplicaAddress) -> usize {
    let shard = usize::try_from(address.shard.0 - 1).expect("a few shards");
    shard * usize::from(parameters.replicas) + usize::from(address.replica.0 - 1)
}

/// All replicas with empty disks, and the node of each.
pub(crate) fn format_processes(parameters: &Parameters) -> (Vec<Process>, Vec<usize>) {
    let (mut processes, mut node_of) = (Vec::new(), Vec::new());
    for shard in 1..=parameters.shards {
        for replica in 1..=parameters.replicas {
            let number = processes.len();
            let replicas = u32::from(parameters.replicas);
            let preferred = u8::try_from((shard - 1) % replicas + 1).expect("a few replicas");
            let config = ReplicaConfig {
                cluster: CLUSTER,
                address: ReplicaAddress {
                    shard: ShardId(shard),
                    replica: ReplicaId(replica),
                },
                shards: parameters.shards,
                replicas: parameters.replicas,
                placement: parameters.placement,
                reads: parameters.reads,
                ids: parameters.ids,
                keep_ns: parameters.keep_ns,
                preferred_leader: ReplicaId(preferred),
                timing: parameters.timing,
                entry_bytes_max: payload_bytes_max(parameters.disk.segment_bytes)
                    .min(ENTRY_BYTES_MAX),
                admission: Admission {
                    requests_max: parameters.workload.admitted_requests_max,
                    proposal_bytes_max: parameters.workload.admitted_bytes_max,
                },
                tail_bytes_max: parameters.tail_bytes_max,
                checkpoint_weight: parameters.checkpoint_weight,
                accounts_in_memory_max: parameters.accounts_in_memory_max,
                scan_places: parameters.scan_places,
                apply_bytes: parameters.apply_bytes,
                telemetry_window_ns: quorate_protocol::limits::TELEMETRY_WINDOW_NS,
                seed: 0,
            };
            let stream = Stream::new(parameters.seed, Concern::Disk, wide(number));
            let faults = Stream::new(parameters.seed, Concern::DiskFault, wide(number));
            let disk = SimDisk::new(parameters.disk.sector_bytes, stream).with_fault_stream(faults);
            let mut process = Process::format(config, parameters.disk.segment_bytes, disk);
            process.allow_waste(parameters.waste_blocks);
            if parameters.keeps_blocks {
                process.keep_blocks();
            }
            processes.push(process);
            node_of.push(if parameters.colocated {
                usize::from(replica - 1)
            } else {
                number
            });
        }
    }
    (processes, node_of)
}

/// The machines.
pub(crate) fn make_nodes(
    parameters: &Parameters,
    node_of: &[usize],
    clocks: &mut Stream,
) -> Vec<Node<Event>> {
    (0..parameters.nodes())
        .map(|node| {
            let processes = (0..node_of.len())
                .filter(|&process| node_of[process] == node)
                .collect();
            Node::new(draw_clock(parameters, clocks), processes)
        })
        .collect()
}

/// The clients with a workload and, last, the operator.
pub(crate) fn make_actors(parameters: &Parameters, clocks: &mut Stream) -> Vec<Actor> {
    (0..=parameters.clients)
        .map(|number| {
            let operator = number == parameters.clients;
            let batch = usize::try_from(parameters.workload.batch_max).expect("small");
            let settings = ClientSettings {
                number: wide(number),
                shards: parameters.shards,
                replicas: parameters.replicas,
                placement: parameters.placement,
                // Some clients are patient where others have long gone elsewhere.
                patience_ns: parameters.workload.patience_ns << (number % 3),
                abandon_ppm: if operator {
                    0
                } else {
                    parameters.workload.abandon_ppm
                },
                give_up_ppm: if operator {
                    0
                } else {
                    parameters.workload.give_up_ppm
                },
                wander_ppm: if number + 1 == parameters.clients {
                    parameters.workload.wander_ppm
                } else {
                    0
                },
                batch_max: batch,
            };
            let member = wide(number) * 2;
            Actor {
                client: Client::new(
                    settings,
                    Stream::new(parameters.seed, Concern::Workload, member + 1),
                ),
                clock: draw_clock(parameters, clocks),
                stream: Stream::new(parameters.seed, Concern::Workload, member + 2),
                wake_ns: None,
            }
        })
        .collect()
}

fn draw_clock(parameters: &Parameters, clocks: &mut Stream) -> SimClock {
    SimClock::draw(
        clocks,
        parameters.clock_drift_ppm,
        parameters.clock_offset_ns,
    )
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).expect("a usize fits 64 bits")
}
