//! A plan of a thousand moves under load, and at a random moment of it kill -9: of the tool, of the source's leader, of the
//! target's, of every node. It ends with every account at its target, one owner each, and no transfer lost.

#![forbid(unsafe_code)]

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quorate_client::observe;
use quorate_client::reshard::AccountMove;
use quorate_client::reshard::begin::begin;
use quorate_client::{BlockingClient, ClientOptions};
use quorate_cluster_tests::{Cluster, Load, Shape, binaries, full, patience, until};
use quorate_config::ClusterConfig;
use quorate_protocol::ids::{AccountId, ShardId};
use serde_json::Value;

const MOVES: usize = 1_000;
const LOAD: [&str; 8] = [
    "--workload",
    "uniform",
    "--accounts",
    "4000",
    "--clients",
    "8",
    "--batch",
    "10",
];
/// A thousand accounts in a few seconds, so that there is a plan to hit.
const SMALL: [&str; 4] = ["--batch", "10", "--rest", "3"];
/// A tool that finds a silent one before it waits for that, and then has a thousand accounts to move.
const RESUMED_WITHIN: Duration = Duration::from_secs(180);

#[derive(Clone, Copy, Debug)]
enum Victim {
    Tool,
    SourceLeader,
    TargetLeader,
    EveryNode,
    ToolAndEveryNode,
}

const VICTIMS: [Victim; 5] = [
    Victim::ToolAndEveryNode,
    Victim::SourceLeader,
    Victim::TargetLeader,
    Victim::EveryNode,
    Victim::Tool,
];

impl Victim {
    fn is_tool(self) -> bool {
        matches!(self, Self::Tool | Self::ToolAndEveryNode)
    }
}

#[test]
fn a_plan_ends_where_it_was_to_end_whoever_is_killed() {
    let rounds = if full() { 50 } else { 3 };
    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |since| since.as_secs());
    eprintln!("moments drawn from {seed}");
    let cluster = Cluster::start("plan-kills", Shape::USUAL);
    let config = ClusterConfig::load(cluster.file()).expect("the topology file");
    let mut load = Load::start(&cluster, "load", 15 * rounds, &LOAD);
    load.wait_for_acks();

    for round in 0..rounds {
        let moment = Duration::from_millis(20 + draw(seed, round) % 600);
        let at = usize::try_from(round).expect("few") % VICTIMS.len();
        let moves = begin_plan(&config, round);
        let hit = Hit {
            cluster: &cluster,
            victim: VICTIMS[at],
            moves: &moves,
        };
        eprintln!("round {round}: {:?} after {moment:?}", hit.victim);
        hit.carry_out(moment);
        check(&config, &moves);
    }

    let report = load.finish();
    report.assert_nothing_lost(&cluster);
    cluster.assert_nothing_in_doubt(SystemTime::now(), patience(Duration::from_secs(5)));
    let sound = cluster.assert_sound(patience(Duration::from_secs(5)));
    assert_eq!(sound["owners_unique"], true, "{sound}");
}

/// splitmix64, so that a round that failed can be run again.
fn draw(seed: u64, round: u64) -> u64 {
    let z = seed.wrapping_add((round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

fn client(config: &ClusterConfig) -> BlockingClient {
    let options = ClientOptions {
        deadline: patience(Duration::from_secs(6)),
        ..ClientOptions::default()
    };
    BlockingClient::connect(config, options)
}

/// A thousand accounts of one shard to the next, kept in the cluster; nobody carries it out yet.
fn begin_plan(config: &ClusterConfig, round: u64) -> Vec<AccountMove> {
    let shards = u64::from(config.shards);
    let number = |at: u64| ShardId(u32::try_from(at % shards).expect("few") + 1);
    let (source, target) = (number(round), number(round + 1));
    let mut client = client(config);
    let owners = observe::owners(&mut client, config.shard_ids())
        .expect("the shards answer")
        .newest();
    // System accounts, which no plan moves, have ids far above.
    let movable = |account: &AccountId| account.0 <= 4_000;
    let here = owners.into_iter().filter(|&(_, owner)| owner == source);
    let moves: Vec<AccountMove> = here
        .map(|(account, _)| account)
        .filter(movable)
        .take(MOVES)
        .map(|account| AccountMove {
            account,
            source,
            target,
        })
        .collect();
    assert_eq!(moves.len(), MOVES, "shard {source} has that many");
    begin(&mut client, config, &moves, None, None).expect("the plan begins");
    moves
}

/// Every account is listed by its target, and by nobody else.
fn check(config: &ClusterConfig, moves: &[AccountMove]) {
    let owners = observe::owners(&mut client(config), config.shard_ids())
        .expect("the shards answer")
        .unique()
        .expect("one owner each");
    for planned in moves {
        assert_eq!(
            owners.get(&planned.account),
            Some(&planned.target),
            "{planned:?}"
        );
    }
}

struct Hit<'a> {
    cluster: &'a Cluster,
    victim: Victim,
    moves: &'a [AccountMove],
}

impl Hit<'_> {
    /// Drives the plan, kills at the moment, brings everybody back, and sees the plan to its end.
    fn carry_out(&self, moment: Duration) {
        let mut tool = self.tool();
        // The driver watches its leaders before it moves anything.
        let (moved, _) = until(patience(Duration::from_secs(10)), "the first move", || {
            let ended = tool.try_wait().expect("the tool can be waited for");
            assert!(ended.is_none(), "the tool ended: {ended:?}");
            let status = self.status()?;
            (status["moved"].as_u64() > Some(0)).then_some(status)
        });
        assert_eq!(moved["status"], "running", "{moved}");
        thread::sleep(moment);
        let ended = tool.try_wait().expect("the tool can be waited for");
        assert!(ended.is_none(), "the plan ended before it was hit");
        if self.victim.is_tool() {
            tool.kill().expect("kill -9");
        }
        self.kill_nodes();
        self.cluster.start_nodes();
        let (code, _) = until(RESUMED_WITHIN, "end of the tool", || {
            tool.try_wait().expect("the tool can be waited for")
        });
        if self.victim.is_tool() {
            assert_eq!(code.code(), None, "it was killed");
        }
        self.see_to_its_end();
    }

    fn tool(&self) -> Child {
        Command::new(&binaries().quorate)
            .args(["reshard", "resume"])
            .args(SMALL)
            .arg("-f")
            .arg(self.cluster.file())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the tool starts")
    }

    fn kill_nodes(&self) {
        let leader = |shard: ShardId| {
            let what = "a leader to kill";
            let shard = u64::from(shard.0);
            let (node, _) = until(patience(Duration::from_secs(5)), what, || {
                self.cluster.leader_node(shard)
            });
            self.cluster.act("kill", node);
        };
        match self.victim {
            Victim::Tool => {}
            Victim::SourceLeader => leader(self.moves[0].source),
            Victim::TargetLeader => leader(self.moves[0].target),
            Victim::EveryNode | Victim::ToolAndEveryNode => self.cluster.kill_all(),
        }
    }

    fn status(&self) -> Option<Value> {
        let done = self.cluster.quorate(["reshard", "status", "--json"]);
        (done.code == Some(0)).then(|| done.json())
    }

    /// A tool that outlived the nodes may have left accounts for a later attempt, or have given up.
    fn see_to_its_end(&self) {
        until(RESUMED_WITHIN, "end of the plan", || {
            let status = self.status()?;
            if status["status"] == "done" {
                assert_eq!(status["elsewhere"], 0, "{status}");
                return Some(());
            }
            let mut resume = vec!["reshard", "resume"];
            resume.extend(SMALL);
            self.cluster.quorate_within(RESUMED_WITHIN, resume);
            None
        });
    }
}
