//! What a model makes of polls: rates, changes of leaders, events.

use std::time::Duration;

use quorate_client::reshard::record::Status as PlanStatus;
use quorate_protocol::client::Role;

use super::fixture::{Fake, plan};
use super::model::{Grade, Model, Plan, Rate, Total};
use super::sample::CoreTicks;

fn texts(model: &Model) -> Vec<&str> {
    model.events.iter().map(|event| &*event.text).collect()
}

/// The replica that leads a shard.
fn leader(fake: &Fake, shard: usize) -> u8 {
    fake.model.shards[shard - 1].leader.expect("led").replica.0
}

#[test]
fn before_the_first_poll_and_between_two_nothing_is_made_up() {
    let mut fake = Fake::new(2, 3, 3);
    let model = &fake.model;
    assert_eq!((model.nodes_up(), model.shards_serving()), (None, None));
    assert_eq!((model.epoch(), model.accounts()), (None, None));
    fake.work(100, 0);
    fake.poll();
    let model = &fake.model;
    assert_eq!(
        (model.nodes_up(), model.shards_serving()),
        (Some(3), Some(2))
    );
    assert_eq!((model.epoch(), model.accounts()), (Some(4), Some(6_000)));
    assert_eq!(model.total(), None, "a rate lies between two polls");
    assert_eq!(model.cross_share_now(), None);
    assert!(model.cores.iter().all(|core| core.busy.is_none()));
    assert_eq!(texts(model), [""; 0]);
}

#[test]
fn rates_are_what_the_leaders_counted_in_the_time_between_two_polls() {
    let mut fake = Fake::new(2, 3, 3);
    fake.poll();
    fake.work(300, 100);
    fake.at += Duration::from_secs(1);
    fake.poll();
    let rates: Vec<Option<Rate>> = fake.model.shards.iter().map(|it| it.rate).collect();
    let rate = |per_second, local, cross| {
        Some(Rate {
            per_second,
            local,
            cross,
        })
    };
    assert_eq!(rates, [rate(200, 300, 100), rate(100, 150, 50)]);
    let total = Total {
        per_second: 300,
        shards: 2,
    };
    assert_eq!(fake.model.total(), Some(total));
    assert_eq!(fake.model.cross_share_now(), Some(250));
    assert_eq!(fake.model.throughput.highest(), Some(300));
    let p99 = fake.model.worst_p99().map(|(us, shard)| (us, shard.0));
    assert_eq!(p99, Some((2_100, 2)));
}

#[test]
fn a_new_leader_counts_from_zero_and_its_first_rate_is_not_known() {
    let mut fake = Fake::new(1, 3, 3);
    fake.poll();
    fake.work(500, 0);
    fake.poll();
    let other = leader(&fake, 1) % 3 + 1;
    fake.elect(1, other);
    // More than the leader before had counted: the difference alone would not show it.
    fake.work(900, 0);
    fake.poll();
    assert_eq!(fake.model.shards[0].rate, None);
    assert_eq!(fake.model.total(), None);
    fake.work(250, 0);
    fake.poll();
    assert_eq!(fake.model.total().map(|it| it.per_second), Some(250));
    // The same replica under another ballot has begun anew, too.
    fake.elect(1, other);
    fake.work(900, 0);
    fake.poll();
    assert_eq!(fake.model.total(), None);
    // And counters that go back are of no use.
    fake.status(1, other).committed_local = 3;
    fake.poll();
    assert_eq!(fake.model.total(), None);
}

#[test]
fn changes_of_leaders_are_counted_and_told() {
    let mut fake = Fake::new(1, 3, 3);
    fake.poll();
    let first = leader(&fake, 1);
    let other = first % 3 + 1;
    fake.elect(1, other);
    fake.poll();
    fake.poll();
    fake.elect(1, other);
    fake.poll();
    let shard = &fake.model.shards[0];
    assert_eq!((shard.leader_changes, shard.ballot_changes), (1, 2));
    let node = shard.leader.expect("led").node;
    let expected = [
        format!(
            "shard 1: r{other} on node {node} leads again, with ballot 5.{other} after 4.{other}"
        ),
        format!("shard 1: r{other} on node {node} leads with ballot 4.{other}, r{first} before"),
    ];
    assert_eq!(texts(&fake.model), expected);
}

#[test]
fn of_two_that_say_that_they_lead_the_higher_ballot_does() {
    let mut fake = Fake::new(1, 3, 3);
    fake.poll();
    let old = leader(&fake, 1);
    let other = old % 3 + 1;
    fake.elect(1, other);
    let deposed = fake.status(1, old);
    deposed.role = Role::Leader;
    deposed.ballot = quorate_protocol::ids::Ballot::new(3, deposed.replica);
    fake.poll();
    assert_eq!(leader(&fake, 1), other);
}

#[test]
fn a_node_that_goes_and_comes_back_is_told_and_its_numbers_are_not_kept() {
    let mut fake = Fake::new(1, 3, 3);
    fake.poll();
    let leads = fake.model.shards[0].leader.expect("led");
    let answers = fake.answers.clone();
    fake.kill(leads.node.0);
    fake.poll();
    fake.poll();
    let model = &fake.model;
    assert_eq!(
        (model.nodes_up(), model.shards_serving()),
        (Some(2), Some(0))
    );
    assert_eq!((model.in_doubt_now(), model.accounts()), (None, None));
    let silent = model.replicas.iter().find(|it| it.node == leads.node);
    let silent = silent.expect("a replica of the node");
    assert!(silent.status.is_none());
    assert_eq!(silent.answered, Some(Duration::from_secs(1)));
    assert_eq!(model.lag(silent), (None, None));
    let follower = model.replicas.iter().find(|it| it.node != leads.node);
    let lag = model.lag(follower.expect("a replica of another"));
    assert_eq!(lag, (Some(0), None), "behind nobody knows whom");
    fake.answers = answers;
    fake.work(600, 0);
    fake.poll();
    let (node, replica) = (leads.node, leads.replica);
    let refused = "cannot connect to 127.0.0.1:33200: Connection refused";
    let expected = [
        format!("node {node} is up again after 3s"),
        format!("shard 1: r{replica} on node {node} leads as before"),
        format!("node {node} is down: {refused}"),
        "shard 1 has no leader".to_owned(),
    ];
    assert_eq!(texts(&fake.model), expected);
    let grades: Vec<Grade> = fake.model.events.iter().map(|it| it.grade).collect();
    assert_eq!(grades, [Grade::Good, Grade::Good, Grade::Bad, Grade::Bad]);
    // It went on counting while nobody heard it: three seconds.
    assert_eq!(fake.model.total().map(|it| it.per_second), Some(200));
}

#[test]
fn lag_is_what_is_not_applied_and_what_is_not_known_yet() {
    let mut fake = Fake::new(1, 3, 3);
    fake.poll();
    let follower = leader(&fake, 1) % 3 + 1;
    let status = fake.status(1, follower);
    status.chosen_upto.0 -= 7;
    status.applied_upto.0 -= 12;
    fake.poll();
    let replica = &fake.model.replicas[usize::from(follower) - 1];
    assert_eq!(fake.model.lag(replica), (Some(5), Some(7)));
}

#[test]
fn what_stays_in_doubt_has_a_beginning() {
    let mut fake = Fake::new(1, 3, 3);
    fake.poll();
    let replica = leader(&fake, 1);
    for in_doubt in [3, 1] {
        fake.status(1, replica).in_doubt = in_doubt;
        fake.poll();
    }
    let since = fake.model.shards[0].in_doubt_since;
    assert_eq!(since, Some(Duration::from_secs(2)));
    assert_eq!(fake.model.in_doubt_now(), Some(1));
    fake.status(1, replica).in_doubt = 0;
    fake.poll();
    assert_eq!(fake.model.shards[0].in_doubt_since, None);
    assert_eq!(fake.model.in_doubt.highest(), Some(3));
}

#[test]
fn a_plan_is_news_when_it_changes_and_not_when_it_had_ended_before() {
    let mut fake = Fake::new(1, 3, 3);
    fake.plan = Ok(Some(plan(PlanStatus::Done, 4_000)));
    fake.poll();
    assert_eq!(texts(&fake.model), [""; 0]);
    let mut next = plan(PlanStatus::Running, 10);
    next.number = 4;
    fake.plan = Ok(Some(next.clone()));
    fake.poll();
    fake.plan = Err("shard 1 does not answer".to_owned());
    fake.poll();
    assert!(matches!(&fake.model.plan, Plan::Unknown(why) if why == "shard 1 does not answer"));
    next.status = PlanStatus::Paused;
    next.reason = Some("40 moves were given up".to_owned());
    fake.plan = Ok(Some(next));
    fake.poll();
    let expected = [
        "plan 4 is paused: 40 moves were given up",
        "plan 4 is running",
    ];
    assert_eq!(texts(&fake.model), expected);
}

#[test]
fn a_replica_out_of_service_and_a_change_of_the_map_are_told_once() {
    let mut fake = Fake::new(1, 3, 3);
    fake.poll();
    let follower = leader(&fake, 1) % 3 + 1;
    let status = fake.status(1, follower);
    status.role = Role::Stopped;
    status.reason = "a block is damaged".to_owned();
    status.epoch = 3;
    fake.poll();
    fake.poll();
    let expected = [
        "the map is at epoch 3".to_owned(),
        format!("s1r{follower} is out of service: a block is damaged"),
    ];
    assert_eq!(texts(&fake.model), expected);
}

#[test]
fn load_of_a_core_lies_between_two_polls_and_is_only_told_of_cores_with_replicas() {
    let mut fake = Fake::new(1, 3, 3);
    fake.poll();
    for core in &mut fake.cores {
        core.busy += 25;
        core.total += 100;
    }
    fake.cores.push(CoreTicks {
        core: 9,
        busy: 1,
        total: 1,
    });
    fake.poll();
    let loads: Vec<_> = fake
        .model
        .cores
        .iter()
        .map(|it| (it.core, it.busy))
        .collect();
    assert_eq!(loads, [(0, Some(250)), (1, Some(250)), (2, Some(250))]);
    fake.cores.clear();
    fake.poll();
    assert!(fake.model.cores.iter().all(|core| core.busy.is_none()));
}
