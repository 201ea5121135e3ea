//! Every refusal names its line and field; what is accepted means what it says.

use std::path::Path;

use quorate_protocol::ids::{ReplicaId, ShardId};

use super::*;

const GOOD: &str = r#"cluster_id = 7
shards = 2
replicas = 3
placement = "hash"
share_cores = true
reads = "quorum"
keep = "30d"
ids = "ulid"
segment_bytes = 67108864

[[node]]
id = 1
address = "127.0.0.1"
base_port = 4000
cores = [0, 1]
data_dir = "/d/n1"

[[node]]
id = 2
address = "127.0.0.1"
base_port = 4100
cores = [0, 1]
data_dir = "/d/n2"

[[node]]
id = 3
address = "127.0.0.1"
base_port = 4200
cores = [0, 1]
data_dir = "/d/n3"
"#;

fn error_of(text: &str) -> String {
    ClusterConfig::parse(text, "c.toml")
        .unwrap_err()
        .to_string()
}

/// Replaces `old` (once) by `new` in the good file and returns the error.
fn changed(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old} is not in the file");
    error_of(&GOOD.replacen(old, new, 1))
}

fn address(shard: u32, replica: u8) -> ReplicaAddress {
    ReplicaAddress {
        shard: ShardId(shard),
        replica: ReplicaId(replica),
    }
}

#[test]
fn other_hosts_are_served_only_with_a_key() {
    let address = "address = \"127.0.0.1\"";
    let elsewhere = "address = \"192.0.2.7\"";
    let error = changed(address, elsewhere);
    let expected = "c.toml:13: address: 192.0.2.7 is not loopback: other hosts need a key_file";
    assert_eq!(error, expected);
    let with_key = format!("key_file = \"secret\"\n{GOOD}").replacen(address, elsewhere, 1);
    let config = ClusterConfig::parse(&with_key, "c.toml").unwrap();
    assert_eq!(config.key.unwrap().path(), Path::new("secret"));
    let empty = format!("key_file = \"\"\n{GOOD}");
    assert_eq!(error_of(&empty), "c.toml:1: key_file: must not be empty");
}

#[test]
fn the_key_is_read_with_its_file_or_refused_with_its_line() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.toml");
    std::fs::write(&file, format!("key_file = \"secret\"\n{GOOD}")).unwrap();
    let secret = directory.path().join("secret");
    let error = || ClusterConfig::load(&file).unwrap_err().to_string();
    assert!(error().contains("c.toml:1: key_file: "), "{}", error());
    std::fs::write(&secret, [7; 40]).unwrap();
    let rights = |mode| {
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    rights(0o644);
    assert!(error().contains("mode 644"), "{}", error());
    rights(0o600);
    let config = ClusterConfig::load(&file).unwrap();
    let key = config.key.unwrap();
    assert_eq!(key.path(), secret);
    assert_eq!(format!("{:?}", key.key()), "Key");
}

#[test]
fn a_good_file_means_what_it_says() {
    let config = ClusterConfig::parse(GOOD, "c.toml").unwrap();
    assert_eq!(config.cluster_id, ClusterId(7));
    assert_eq!(config.reads, Reads::Quorum);
    assert_eq!(config.ids, IdRule::Ulid);
    assert_eq!(config.keep, Keep::For(Duration::from_secs(30 * 86_400)));
    assert_eq!(
        config.address_of(address(2, 3)).to_string(),
        "127.0.0.1:4201"
    );
    let administration = config.administration_address_of(NodeId(3)).unwrap();
    assert_eq!(administration.port(), 4290);
    assert_eq!(config.data_dir_of(address(2, 3)), Path::new("/d/n3/s2r3"));
    assert_eq!(
        config.replicas_of(NodeId(1)),
        [address(1, 1), address(2, 1)]
    );
    assert_eq!(config.preferred_leader(ShardId(2)), ReplicaId(2));
    assert_eq!(
        (config.core_of(address(1, 1)), config.core_of(address(2, 1))),
        (0, 1)
    );
    assert!(!config.contains(address(3, 1)) && !config.contains(address(0, 1)));
    let core = config.replica_config(address(2, 1), 9);
    assert_eq!(
        (core.seed, core.preferred_leader, core.replicas),
        (9, ReplicaId(2), 3)
    );
    assert_eq!(
        ClusterConfig::parse(&config.to_toml(), "again").unwrap(),
        config
    );
}

/// The settings that all replicas must share name how long ids are kept, so that no two of them differ.
#[test]
fn how_long_ids_are_kept_is_bounded_needs_ulids_and_is_shared() {
    let config = ClusterConfig::parse(GOOD, "c.toml").unwrap();
    let month_ns = 30 * 86_400 * SECOND;
    let core = config.replica_config(address(1, 1), 9);
    assert_eq!(core.keep_ns, Some(month_ns));
    assert_eq!(config.request_deadline_max(), Duration::from_secs(60));
    let short = ClusterConfig::parse(&GOOD.replacen("\"30d\"", "\"30s\"", 1), "c.toml").unwrap();
    assert_eq!(short.request_deadline_max(), Duration::from_secs(5));
    assert_eq!(core.genesis(), config.genesis());
    assert!(config.genesis().to_string().ends_with(", keep = 2592000s"));

    let short = changed("\"30d\"", "\"29s\"");
    assert!(
        short.starts_with("c.toml:7: keep: 29s is not whole seconds between 30s and"),
        "{short}"
    );
    assert!(changed("\"30d\"", "\"1000y\"").starts_with("c.toml:7: keep: "));
    let any = changed("ids = \"ulid\"", "ids = \"any\"");
    assert!(
        any.starts_with("c.toml:7: keep: a duration needs ids"),
        "{any}"
    );

    let all = GOOD.replacen("\"30d\"", "\"all\"", 1);
    let all = ClusterConfig::parse(&all.replacen("\"ulid\"", "\"any\"", 1), "c.toml").unwrap();
    assert_eq!((all.keep, all.ids), (Keep::All, IdRule::Any));
    assert!(!all.genesis().to_string().contains("keep"));
}

#[test]
fn a_file_with_every_optional_part_is_written_back_unchanged() {
    let parts = "checkpoint_bytes = 1048576\ncached_accounts = 1000\nlayout = [[3, 1, 2], [2, 1, 3]]\n[timing]\nlease = \"300ms\"\ndrift = \"1500us\"\n\
                 [limits]\nconnections = 64\nidle_timeout = \"2s\"\n[[node]]";
    let config = ClusterConfig::parse(&GOOD.replacen("[[node]]", parts, 1), "c.toml").unwrap();
    assert_eq!(config.preferred_leader(ShardId(1)), ReplicaId(1));
    assert_eq!(config.node_of(address(1, 1)).id, NodeId(3));
    assert_eq!(config.timing.lease_ns, 300_000_000);
    assert_eq!(config.timing.heartbeat_ns, TIMING.heartbeat_ns);
    assert_eq!(config.limits.connections_limit, 64);
    assert_eq!(config.checkpoint_bytes, 1 << 20);
    assert_eq!(config.cached_accounts, 1000);
    assert_eq!(
        ClusterConfig::parse(&config.to_toml(), "again").unwrap(),
        config
    );
}

#[test]
fn unknown_keys_name_file_line_and_key() {
    let error = changed("share_cores", "share_core");
    assert!(
        error.starts_with("c.toml:5: share_core: unknown field `share_core`"),
        "{error}"
    );
    let error = changed("cores = [0, 1]", "colour = \"red\"");
    assert!(
        error.starts_with("c.toml:15: colour: unknown field `colour`"),
        "{error}"
    );
    let error = error_of(&format!("{GOOD}\n[timing]\nhartbeat = \"1s\"\n"));
    assert!(error.contains("hartbeat: unknown field"), "{error}");
}

#[test]
fn wrong_types_and_wrong_syntax_name_the_line() {
    assert!(changed("shards = 2", "shards = \"two\"").starts_with("c.toml:2: shards: "));
    assert!(changed("shards = 2", "shards = ").starts_with("c.toml:2"));
    assert!(changed("replicas = 3\n", "").contains("missing field `replicas`"));
    assert!(changed("\"30d\"", "\"soon\"").starts_with("c.toml:7: keep: \"soon\" is neither"));
    assert!(changed("\"quorum\"", "\"guess\"").starts_with("c.toml:6: reads: unknown variant"));
    assert!(changed("4000", "70000").starts_with("c.toml:14: base_port: "));
}

#[test]
fn values_out_of_bounds_are_refused() {
    for (old, new, expected) in [
        (
            "cluster_id = 7",
            "cluster_id = 0",
            "c.toml:1: cluster_id: must not be 0",
        ),
        (
            "shards = 2",
            "shards = 0",
            "c.toml:2: shards: 0 is not between",
        ),
        (
            "shards = 2",
            "shards = 91",
            "c.toml:2: shards: 91 is not between",
        ),
        (
            "replicas = 3",
            "replicas = 2",
            "c.toml:3: replicas: 2 is not 1, 3 or 5",
        ),
        (
            "67108864",
            "67108865",
            "c.toml:9: segment_bytes: 67108865 is not a multiple",
        ),
        (
            "67108864",
            "65536",
            "c.toml:9: segment_bytes: 65536 is not a multiple",
        ),
        (
            "segment_bytes = 67108864",
            "checkpoint_bytes = 1048575",
            "c.toml:9: checkpoint_bytes: 1048575 is not between 1048576 and",
        ),
        (
            "segment_bytes = 67108864",
            "cached_accounts = 4294967296",
            "c.toml:9: cached_accounts: 4294967296 is above",
        ),
        (
            "\"hash\"",
            "\"range\"",
            "c.toml:4: placement: \"range\" needs accounts_per_shard",
        ),
        ("id = 2", "id = 0", "c.toml:19: id: nodes count from 1"),
        ("id = 2", "id = 1", "c.toml:19: id: node 1 is there twice"),
        (
            "\"127.0.0.1\"",
            "\"here\"",
            "c.toml:13: address: \"here\" is not an IP address",
        ),
        (
            "4100",
            "4001",
            "c.toml:21: base_port: node 2 and node 1 would both listen",
        ),
        (
            "4100",
            "4089",
            "c.toml:21: base_port: node 2 and node 1 would both listen",
        ),
        (
            "4000",
            "65500",
            "c.toml:14: base_port: 65500 is not between 1 and 65445",
        ),
        (
            "4000",
            "0",
            "c.toml:14: base_port: 0 is not between 1 and 65445",
        ),
        ("[0, 1]", "[]", "c.toml:15: cores: needs at least one CPU"),
        (
            "/d/n2",
            "/d/n1",
            "c.toml:23: data_dir: /d/n1 belongs to another node",
        ),
        ("/d/n2", "", "c.toml:23: data_dir: must not be empty"),
    ] {
        let error = changed(old, new);
        assert!(error.starts_with(expected), "{old} -> {new}: {error}");
    }
}

#[test]
fn accounts_per_shard_belongs_to_range_placement() {
    let error = changed("\"hash\"", "\"hash\"\naccounts_per_shard = 5");
    assert!(
        error.starts_with("c.toml:5: accounts_per_shard: has a meaning only"),
        "{error}"
    );
    let error = changed("\"hash\"", "\"range\"\naccounts_per_shard = 0");
    assert!(
        error.starts_with("c.toml:5: accounts_per_shard: must not be 0"),
        "{error}"
    );
    let text = GOOD.replacen("\"hash\"", "\"range\"\naccounts_per_shard = 5", 1);
    let placement = ClusterConfig::parse(&text, "c.toml").unwrap().placement;
    assert_eq!(
        placement,
        Placement::Range {
            accounts_per_shard: 5
        }
    );
}

#[test]
fn sharing_a_core_has_to_be_allowed() {
    let error = changed("share_cores = true", "share_cores = false");
    assert!(
        error.starts_with("c.toml:22: cores: replicas s1r1 and s1r2 would both"),
        "{error}"
    );
}

#[test]
fn fewer_nodes_than_replicas_are_refused() {
    let end = GOOD.find("[[node]]\nid = 3").unwrap();
    let error = error_of(&GOOD[..end]);
    assert!(
        error.contains("node: 2 nodes cannot host 3 replicas of one shard"),
        "{error}"
    );
    let end = GOOD.find("[[node]]").unwrap();
    assert!(error_of(&GOOD[..end]).contains("there is no [[node]]"));
}

#[test]
fn a_wrong_layout_is_refused() {
    for (layout, expected) in [
        ("[[1, 2, 3]]", "c.toml:10: layout: has 1 rows for 2 shards"),
        (
            "[[1, 2], [1, 2, 3]]",
            "c.toml:10: layout: shard 1: 2 nodes for 3 replicas",
        ),
        (
            "[[1, 2, 3], [1, 2, 4]]",
            "c.toml:10: layout: shard 2: there is no node 4",
        ),
        (
            "[[1, 2, 3], [1, 2, 2]]",
            "c.toml:10: layout: shard 2: node 2 twice",
        ),
    ] {
        let error = changed("\n\n[[node]]", &format!("\nlayout = {layout}\n[[node]]"));
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn unsound_timing_and_limits_are_refused() {
    for (table, expected) in [
        ("[timing]\nlease = \"2s\"\n", "timing: needs"),
        ("[timing]\nelection_max = \"30d\"\n", "timing: needs"),
        (
            "[limits]\nconnections = 1\n",
            "connections: 1 is not between",
        ),
        ("[limits]\nidle_timeout = \"0s\"\n", "limits: timeouts"),
    ] {
        let error = error_of(&format!("{GOOD}\n{table}"));
        assert!(error.contains(expected), "{error}");
        assert!(error.starts_with("c.toml:3"), "{error}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = ClusterConfig::load(Path::new("/nowhere/c.toml")).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/nowhere/c.toml: cannot be read: "),
        "{error}"
    );
}
