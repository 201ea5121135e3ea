//! A made-up cluster: polls with chosen answers, a second apart, of which a model is made.

use std::time::Duration;

use quorate_client::reshard::record::{Driver, Predicted, Progress, Record, Status as PlanStatus};
use quorate_client::reshard::record::{FreezeTimes, Traffic};
use quorate_config::{ClusterConfig, GenerateOptions, Hosts};
use quorate_protocol::client::{RequestLatency, Role, Status};
use quorate_protocol::ids::{Ballot, ClusterId, ReplicaAddress, ReplicaId, ShardId, Slot};
use quorate_protocol::shard::map::Placement;

use super::model::Model;
use super::sample::{Answer, CoreTicks, Sample};

/// Between two polls.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Answers that change from poll to poll, and the model that takes them in.
#[derive(Debug)]
pub struct Fake {
    pub config: ClusterConfig,
    pub model: Model,
    pub at: Duration,
    /// In the order of the topology.
    pub answers: Vec<Result<Status, String>>,
    pub plan: Result<Option<Record>, String>,
    pub cores: Vec<CoreTicks>,
}

impl Fake {
    /// Every preferred leader leads; nobody has been asked yet.
    pub fn new(shards: u32, replicas: u8, nodes: u32) -> Self {
        Self::of(config(shards, replicas, nodes, &Hosts::default()))
    }

    pub fn of(config: ClusterConfig) -> Self {
        let answers = config.all_replicas().map(|it| Ok(status(&config, it)));
        Self {
            model: Model::new(&config, INTERVAL),
            at: Duration::ZERO,
            answers: answers.collect(),
            plan: Ok(None),
            cores: (0..4).map(idle).collect(),
            config,
        }
    }

    /// One poll, a second after the one before.
    pub fn poll(&mut self) {
        self.at += INTERVAL;
        let answers = self.answers.iter().cloned();
        let answers = answers.map(|status| Answer {
            at: self.at,
            status,
        });
        self.model.absorb(Sample {
            at: self.at,
            answers: answers.collect(),
            plan: self.plan.clone(),
            cores: self.cores.clone(),
        });
    }

    /// A second of load: each leader commits so much, and the followers come along.
    pub fn work(&mut self, local: u64, cross: u64) {
        for status in self.answers.iter_mut().flatten() {
            status.chosen_upto.0 += local + cross;
            status.applied_upto.0 = status.chosen_upto.0;
            if status.role == Role::Leader {
                let shard = u64::from(status.shard.0);
                status.committed_local += local / shard;
                status.committed_cross += cross / shard;
                status.latency = latency(status.shard, 100);
            }
        }
        for core in &mut self.cores {
            core.busy += 20 * (core.core as u64 + 1);
            core.total += 100;
        }
    }

    pub fn status(&mut self, shard: u32, replica: u8) -> &mut Status {
        let address = ReplicaAddress {
            shard: ShardId(shard),
            replica: ReplicaId(replica),
        };
        let index = self.config.all_replicas().position(|it| it == address);
        let answer = &mut self.answers[index.expect("a replica of the fixture")];
        answer.as_mut().expect("it answers")
    }

    /// No replica of the node answers any more.
    pub fn kill(&mut self, node: u32) {
        let hosts: Vec<ReplicaAddress> = self.config.all_replicas().collect();
        for (address, answer) in hosts.into_iter().zip(&mut self.answers) {
            if self.config.node_of(address).id.0 == node {
                *answer = Err("cannot connect to 127.0.0.1:33200: Connection refused".to_owned());
            }
        }
    }

    /// The replica leads its shard, with the next ballot; whoever led follows.
    pub fn elect(&mut self, shard: u32, replica: u8) {
        let of_shard = |it: &&mut Status| it.shard.0 == shard;
        let statuses = || self.answers.iter().flatten();
        let rounds = statuses().filter(|it| it.shard.0 == shard);
        let round = rounds.map(|it| it.ballot.round()).max().unwrap_or(0) + 1;
        for status in self.answers.iter_mut().flatten().filter(of_shard) {
            let leads = status.replica.0 == replica;
            status.role = if leads { Role::Leader } else { Role::Follower };
            status.serving = leads;
            status.ballot = Ballot::new(round, ReplicaId(replica));
            status.leader = Some(ReplicaId(replica));
            status.committed_local = 0;
            status.committed_cross = 0;
            status.latency = RequestLatency::default();
        }
    }
}

fn latency(shard: ShardId, requests: u32) -> RequestLatency {
    RequestLatency {
        requests,
        p50_us: 700,
        p99_us: 1_900 + 100 * shard.0,
    }
}

/// Ticks of a CPU that has done nothing so far.
fn idle(core: usize) -> CoreTicks {
    CoreTicks {
        core,
        busy: 0,
        total: 1_000,
    }
}

pub fn config(shards: u32, replicas: u8, nodes: u32, hosts: &Hosts) -> ClusterConfig {
    let options = GenerateOptions {
        cluster_id: ClusterId(7),
        shards,
        replicas,
        nodes,
        directory: "/tmp/made-up".into(),
        base_port: 33_000,
        placement: Placement::Hash,
        host_cores: 4,
    };
    ClusterConfig::generate_on(&options, hosts).expect("a topology")
}

fn status(config: &ClusterConfig, address: ReplicaAddress) -> Status {
    let leader = config.preferred_leader(address.shard);
    let leads = leader == address.replica;
    Status {
        shard: address.shard,
        replica: address.replica,
        role: if leads { Role::Leader } else { Role::Follower },
        ballot: Ballot::new(3, leader),
        leader: Some(leader),
        serving: leads,
        chosen_upto: Slot(1_000),
        applied_upto: Slot(1_000),
        epoch: 2,
        accounts: 3_000,
        transfers: 40_000,
        in_doubt: 0,
        committed_local: 0,
        committed_cross: 0,
        latency: latency(address.shard, 0),
        reason: String::new(),
    }
}

/// A plan of 4000 moves of which so many are done.
pub fn plan(status: PlanStatus, moved: u64) -> Record {
    let mut freeze = FreezeTimes::default();
    freeze.add(moved, 900_000);
    Record {
        number: 3,
        undoes: None,
        status,
        reason: None,
        created_unix_ns: 1,
        ended_unix_ns: None,
        predicted: Some(Predicted {
            cross_shard_ratio: 0.1,
            load_max_over_avg: 1.1,
            accounts_max_over_avg: 1.1,
            gain: 0.3,
        }),
        before: Traffic::default(),
        moves: 4_000,
        chunks: 1,
        chunks_named: 1,
        progress: Progress {
            moved,
            retries: 12,
            freeze,
            ..Progress::default()
        },
        driver: Some(Driver {
            nonce: 1,
            pause_ms: 5,
            p99_before_us: 2_000,
            p99_now_us: 2_100,
        }),
        windows_after: Vec::new(),
    }
}
