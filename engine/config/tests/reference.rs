//! `docs/reference/config.md` names every key that `cluster.toml` may have. The parser itself says which there are.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs;
use std::path::Path;

use quorate_config::ClusterConfig;

/// The keys that the parser would have taken in place of the unknown one in this text.
fn keys(text: &str) -> Vec<String> {
    let error = ClusterConfig::parse(text, "test").unwrap_err().to_string();
    let (_, expected) = error
        .split_once("expected one of ")
        .unwrap_or_else(|| panic!("no list of keys in: {error}"));
    let quoted = expected.split('`').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

#[test]
fn every_key_is_documented() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/config.md");
    let page = fs::read_to_string(page).unwrap();
    let tables = [
        keys("nonsense = 1"),
        keys("[timing]\nnonsense = 1"),
        keys("[limits]\nnonsense = 1"),
        keys("[[node]]\nnonsense = 1"),
    ];
    assert!(tables[0].len() > 15 && tables[3].len() == 5, "{tables:?}");
    for key in tables.iter().flatten() {
        let is_named = [
            format!("`{key}`"),
            format!("`[{key}]`"),
            format!("`[[{key}]]`"),
        ]
        .iter()
        .any(|name| page.contains(name));
        assert!(is_named, "{key} is not in docs/reference/config.md");
    }
}
