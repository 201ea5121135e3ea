//! Which findings there are, in which order, and what is printed of them.

use quorate_runtime::HostLimits;

use super::*;

fn facts(nodes: Vec<NodeFacts>, answers: Vec<(NodeId, Answer)>) -> Facts {
    Facts {
        host: host::tests::well(),
        nodes,
        answers,
    }
}

fn subjects(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(Finding::subject).collect()
}

#[test]
fn without_a_topology_the_host_alone_is_judged() {
    let findings = judge(&facts(Vec::new(), Vec::new()));
    assert_eq!(
        subjects(&findings),
        ["kernel", "io_uring", "memlock", "nofile", "clock"]
    );
    assert!(findings.iter().all(|it| it.verdict == Verdict::Ok));
    assert!(findings.iter().all(|it| it.hint.is_none()));
}

#[test]
fn with_one_each_node_here_is_judged_and_every_node_asked() {
    let nodes = vec![node::tests::well(1), node::tests::well(2)];
    let answers = vec![
        (NodeId(1), Answer::Welcome),
        (NodeId(2), Answer::Welcome),
        (NodeId(3), Answer::Silent("no route".to_owned())),
    ];
    let findings = judge(&facts(nodes, answers));
    assert_eq!(
        subjects(&findings),
        [
            "kernel",
            "io_uring",
            "memlock",
            "memlock of node 1",
            "memlock of node 2",
            "nofile of node 1",
            "nofile of node 2",
            "clock",
            "cores",
            "cores of node 1",
            "cores of node 2",
            "data_dir of node 1",
            "data_dir of node 2",
            "direct_io of node 1",
            "direct_io of node 2",
            "disk of node 1",
            "disk of node 2",
            "version of node 1",
            "version of node 2",
            "version of node 3",
        ]
    );
    let not_well: Vec<String> = findings
        .iter()
        .filter(|it| it.verdict != Verdict::Ok)
        .map(Finding::sentence)
        .collect();
    assert_eq!(not_well.len(), 2, "{not_well:?}");
    assert!(not_well[0].starts_with("warning: cores: found 4 CPUs, needed 6 CPUs"));
    assert!(not_well[1].starts_with("warning: version of node 3: found not reachable (no route)"));
}

#[test]
fn locked_memory_for_each_node_may_not_do_for_all() {
    let mut facts = facts(vec![node::tests::well(1), node::tests::well(2)], Vec::new());
    let needed = facts.nodes[0].needs.memlock_bytes;
    for (limit, of_all, of_each) in [
        (2 * needed, Verdict::Ok, Verdict::Ok),
        (2 * needed - 1, Verdict::Warning, Verdict::Ok),
        (needed - 1, Verdict::Warning, Verdict::Fault),
    ] {
        facts.host.limits = HostLimits {
            memlock_bytes: Some(limit),
            files: None,
        };
        let verdicts: Vec<Verdict> = judge_one(Check::Memlock, &facts)
            .iter()
            .map(|it| it.verdict)
            .collect();
        assert_eq!(verdicts, [of_all, of_each, of_each], "{limit}");
    }
    // One node is all of them.
    facts.nodes.truncate(1);
    let findings = judge_one(Check::Memlock, &facts);
    assert_eq!(subjects(&findings), ["memlock of node 1"]);
}

#[test]
fn people_read_what_to_do_below_the_table() {
    let mut facts = facts(Vec::new(), Vec::new());
    facts.host.kernel = "5.4.0".to_owned();
    let text = people(&judge(&facts));
    assert!(text.contains("verdict"), "{text}");
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with("fault: kernel: found 5.4.0, needed 5.8 or newer: "),
        "{text}"
    );
    let document = document(&judge(&facts), false);
    assert_eq!(document["ok"], false);
    assert_eq!(document["checks"][0]["verdict"], "fault");
    assert_eq!(document["checks"][1]["hint"], Value::Null);
}
