//! Which crate may depend on which: the table of ARCHITECTURE.md, read from `cargo metadata`.
//!
//! A crate or an edge that is not in the tables below fails; so does a table row without a crate.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use quorate_tidy::{code_only, has_word, root, rust_files};

/// Crate -> what it may name of ours, outside its own tests.
const EDGES: &[(&str, &[&str])] = &[
    ("quorate-protocol", &[]),
    ("quorate-storage", &[]),
    ("quorate-wire", &["protocol"]),
    ("quorate-access", &["protocol", "wire"]),
    ("quorate-config", &["protocol", "access"]),
    ("quorate-planner", &["protocol"]),
    ("quorate-durable", &["protocol", "storage"]),
    ("quorate-net", &[]),
    (
        "quorate-client",
        &["protocol", "wire", "access", "config", "net"],
    ),
    (
        "quorate-runtime",
        &[
            "protocol", "wire", "access", "storage", "config", "durable", "net",
        ],
    ),
    (
        "quorate-cli",
        &[
            "protocol", "runtime", "client", "planner", "storage", "durable", "wire", "access",
            "config",
        ],
    ),
    (
        "quorate-bench",
        &["protocol", "client", "planner", "wire", "config", "net"],
    ),
    ("quorate-bare", &[]),
    ("quorate-micro", &["protocol", "wire", "storage"]),
    ("quorate-interaction", &["protocol", "wire", "storage"]),
    (
        "quorate-simulator",
        &[
            "protocol",
            "wire",
            "storage",
            "durable",
            "protocol-planted",
            "storage-planted",
            "simulator-planted",
        ],
    ),
    ("quorate-protocol-planted", &[]),
    ("quorate-storage-planted", &[]),
    ("quorate-wire-planted", &["protocol-planted"]),
    (
        "quorate-durable-planted",
        &["protocol-planted", "storage-planted"],
    ),
    (
        "quorate-simulator-planted",
        &[
            "protocol-planted",
            "wire-planted",
            "storage-planted",
            "durable-planted",
        ],
    ),
    (
        "quorate-cluster-tests",
        &["protocol", "client", "wire", "config"],
    ),
    ("quorate-exhaustive", &["protocol", "storage"]),
    ("quorate-fuzz", &["protocol", "wire", "storage", "config"]),
    ("quorate-tidy", &[]),
];

/// Outside crates that only some of ours may name.
const FENCED: &[(&str, &[&str])] = &[
    (
        "glommio",
        &[
            "quorate-net",
            "quorate-runtime",
            "quorate-client",
            "quorate-bench",
            "quorate-bare",
        ],
    ),
    ("hmac", &["quorate-access"]),
    ("sha2", &["quorate-access"]),
    ("socket2", &["quorate-net", "quorate-bare"]),
    ("metis", &["quorate-planner"]),
    ("pathfinding", &["quorate-planner"]),
    ("memmap2", &["quorate-storage", "quorate-storage-planted"]),
    ("rkyv", &["quorate-wire", "quorate-wire-planted"]),
];

/// All that the pure core may use.
const PROTOCOL_EXTERNAL: &[&str] = &["zerocopy", "hashbrown", "foldhash"];

fn packages() -> Vec<Package> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata reads the workspace");
    metadata.packages
}

/// Names of the normal and build dependencies, and of the development ones.
fn dependencies(package: &Package) -> (Vec<&str>, Vec<&str>) {
    let names = |development: bool| {
        package
            .dependencies
            .iter()
            .filter(|edge| (edge.kind == DependencyKind::Development) == development)
            .map(|edge| edge.name.as_str())
            .collect()
    };
    (names(false), names(true))
}

#[test]
fn crates_depend_only_along_the_allowed_edges() {
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let packages = packages();
    for package in &packages {
        let name = package.name.as_str();
        let may = allowed
            .get(name)
            .unwrap_or_else(|| panic!("{name} has no row in the table of edges"));
        let (normal, _) = dependencies(package);
        for edge in normal {
            if let Some(ours) = edge.strip_prefix("quorate-") {
                assert!(may.contains(&ours), "{name} may not depend on {edge}");
            }
        }
    }
    for (name, _) in EDGES {
        assert!(
            packages
                .iter()
                .any(|package| package.name.as_str() == *name),
            "{name} is gone"
        );
    }
}

#[test]
fn tests_of_the_pure_crates_reach_no_shell() {
    let pure = [
        "quorate-protocol",
        "quorate-storage",
        "quorate-simulator",
        "quorate-interaction",
        "quorate-planner",
    ];
    let shells = [
        "quorate-net",
        "quorate-runtime",
        "quorate-client",
        "quorate-cli",
        "quorate-bench",
        "glommio",
    ];
    for package in packages() {
        let name = package.name.as_str();
        let (_, development) = dependencies(&package);
        for edge in development {
            let reaches = pure.contains(&name) && shells.contains(&edge);
            assert!(
                !reaches,
                "{name} may not depend on {edge}, not even in tests"
            );
        }
    }
}

#[test]
fn the_core_uses_three_outside_crates() {
    let packages = packages();
    let protocol = packages
        .iter()
        .find(|package| package.name.as_str() == "quorate-protocol")
        .expect("the protocol crate");
    for edge in dependencies(protocol).0 {
        assert!(
            PROTOCOL_EXTERNAL.contains(&edge),
            "protocol may not depend on {edge}"
        );
    }
}

/// Planted bugs exist in the twins alone, and a twin is its original but for the switch.
#[test]
fn only_twins_have_the_switch_of_planted_bugs() {
    let packages = packages();
    let twins: Vec<&Package> = packages
        .iter()
        .filter(|package| package.name.as_str().ends_with("-planted"))
        .collect();
    assert_eq!(twins.len(), 5);
    for package in &packages {
        let is_twin = twins.iter().any(|twin| twin.name == package.name);
        let switches = package.features.contains_key("planted");
        assert_eq!(switches, is_twin, "{} and the feature", package.name);
        for edge in &package.dependencies {
            assert!(
                !edge.features.iter().any(|feature| feature == "planted"),
                "{} asks {} for planted bugs",
                package.name,
                edge.name
            );
        }
    }
    for twin in twins {
        let name = twin.name.trim_end_matches("-planted");
        let original = packages
            .iter()
            .find(|package| package.name.as_str() == name)
            .unwrap_or_else(|| panic!("{} has no original", twin.name));
        let source = |package: &Package| {
            let library = package.targets.iter().find(|target| target.is_lib());
            let path = &library.expect("a library").src_path;
            std::fs::canonicalize(path).expect("its source")
        };
        assert_eq!(source(twin), source(original), "{name}");
        // The simulator's binary, which the twin lacks, has dependencies of its own.
        for edge in dependencies(twin).0 {
            let edge = edge.trim_end_matches("-planted");
            assert!(dependencies(original).0.contains(&edge), "{name}: {edge}");
        }
    }
}

#[test]
fn fenced_crates_stay_behind_their_fence() {
    for package in packages() {
        let name = package.name.as_str();
        for edge in dependencies(&package).0 {
            if let Some((_, users)) = FENCED.iter().find(|(fenced, _)| *fenced == edge) {
                assert!(users.contains(&name), "{name} may not depend on {edge}");
            }
        }
    }
}

#[test]
fn glommio_is_named_only_behind_its_fence() {
    let behind = [
        "engine/net/",
        "engine/runtime/",
        "engine/client/",
        "bench/",
        "perf/bare/",
    ];
    for file in rust_files() {
        let outside = !behind.iter().any(|prefix| file.path.starts_with(prefix));
        let named = has_word(&code_only(&file.text), "glommio");
        assert!(!(outside && named), "{} names glommio", file.path);
    }
}

#[test]
fn glommio_is_optional_in_the_client() {
    for package in packages() {
        if package.name.as_str() == "quorate-client" {
            let runtime = package
                .dependencies
                .iter()
                .find(|edge| edge.name == "glommio");
            assert!(
                runtime.is_none_or(|edge| edge.optional),
                "applications need no glommio"
            );
        }
    }
}
