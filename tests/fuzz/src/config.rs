//! `cluster.toml`.

use quorate_config::{ClusterConfig, ConfigError};

use crate::Verdict;

const NAME: &str = "fuzz.toml";

/// Reads a configuration. Bytes that are no text never get to the parser.
pub fn run(bytes: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Verdict::Refused;
    };
    match ClusterConfig::parse(text, NAME) {
        Ok(config) => {
            renders_to_itself(&config);
            answers(&config);
            Verdict::Taken
        }
        Err(error) => {
            names_its_place(text, &error);
            Verdict::Refused
        }
    }
}

fn renders_to_itself(config: &ClusterConfig) {
    let text = config.to_toml();
    let again = ClusterConfig::parse(&text, NAME);
    assert_eq!(again.as_ref(), Ok(config), "{text}");
}

/// What was taken has an answer to everything that it is asked later.
fn answers(config: &ClusterConfig) {
    for replica in config.all_replicas() {
        assert!(config.contains(replica));
        let node = config.node_of(replica);
        assert!(config.replicas_of(node.id).contains(&replica));
        assert_eq!(config.address_of(replica).ip(), node.address);
        assert!(node.cores.contains(&config.core_of(replica)));
        assert!(config.data_dir_of(replica).starts_with(&node.data_dir));
        assert!(config.administration_address_of(node.id).is_some());
        let leader = config.preferred_leader(replica.shard);
        assert!((1..=config.replicas).contains(&leader.0));
        assert_eq!(config.replica_config(replica, 1).address, replica);
    }
}

/// A refusal says where: the file, a line of it, and the key unless the text is no TOML at all.
fn names_its_place(text: &str, error: &ConfigError) {
    assert_eq!(error.file, NAME);
    assert!(!error.problem.is_empty() && !error.problem.contains('\n'));
    let lines = 1 + text.matches('\n').count();
    let line = error.line.expect("a line of the text is wrong");
    assert!((1..=lines).contains(&line), "line {line} of {lines}");
    if text.parse::<toml::Table>().is_ok() {
        let named = !error.field.is_empty() || error.problem.contains('`');
        assert!(named, "{error} names no key");
    }
}
