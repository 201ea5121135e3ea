//! Programs outside the workspace are built by `--locked` from lock files of their own, which cargo keeps up only where it
//! builds them.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use cargo_metadata::{DependencyKind, MetadataCommand};
use quorate_tidy::root;

const LOCKS: [&str; 1] = ["perf/peers/Cargo.lock"];

/// Package -> what it depends on; without versions.
fn locked(text: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let packages = text.split("[[package]]").skip(1);
    packages
        .map(|block| {
            let mut names = block.lines().filter_map(|line| {
                let value = line
                    .strip_prefix("name = ")
                    .or_else(|| line.strip_prefix(' '))?;
                value.trim_matches([' ', '"', ',']).split(' ').next()
            });
            (names.next().expect("a package has a name"), names.collect())
        })
        .collect()
}

/// `perf/compare` could not be built after a crate had been divided: its lock file did not know the new one.
#[test]
fn lock_files_of_their_own_know_what_our_crates_depend_on() {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("the manifests are read");
    for path in LOCKS {
        let text = fs::read_to_string(root().join(path)).expect("it is there");
        let locked = locked(&text);
        let mut ours = 0;
        for package in &metadata.packages {
            let Some(known) = locked.get(package.name.as_str()) else {
                continue;
            };
            ours += 1;
            let needed = package.dependencies.iter();
            let needed = needed.filter(|it| it.kind != DependencyKind::Development && !it.optional);
            for dependency in needed {
                let name = dependency.name.as_str();
                assert!(
                    known.contains(name),
                    "{path}: {} depends on {name}; run cargo metadata with its manifest",
                    package.name
                );
            }
        }
        assert!(ours > 3, "{path} has {ours} of our crates");
    }
}
