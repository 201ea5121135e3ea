//! Where the programs under test are.
//!
//! `QUORATE_BIN_DIR` names a directory with all of them. Without it they are built by cargo in the
//! release profile, into the target directory that this test runs from: after `scripts/test` has
//! built them that is a check of a second, and a test never runs against a stale binary.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The programs.
#[derive(Debug)]
pub struct Binaries {
    pub quorate: PathBuf,
    pub bench: PathBuf,
}

/// The programs under test, built once per test binary.
///
/// # Panics
/// If they cannot be built or found.
pub fn binaries() -> &'static Binaries {
    static FOUND: OnceLock<Binaries> = OnceLock::new();
    FOUND.get_or_init(|| {
        let directory = match env::var_os("QUORATE_BIN_DIR") {
            Some(directory) => PathBuf::from(directory),
            None => build(),
        };
        let binaries = Binaries {
            quorate: directory.join("quorate"),
            bench: directory.join("quorate-bench"),
        };
        for path in [&binaries.quorate, &binaries.bench] {
            assert!(path.is_file(), "no program {}", path.display());
        }
        binaries
    })
}

fn build() -> PathBuf {
    let own = env::current_exe().expect("the test knows its own file");
    // target/PROFILE/deps/TEST
    let target = own
        .ancestors()
        .nth(3)
        .expect("cargo's layout")
        .to_path_buf();
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // The same selection as scripts/test, so that the same features are unified and nothing is
    // built twice.
    let built = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--package=quorate-cli",
            "--package=quorate-bench",
            "--quiet",
            "--target-dir",
        ])
        .arg(&target)
        .current_dir(root)
        .status()
        .expect("cargo runs");
    assert!(built.success(), "the programs under test do not build");
    target.join("release")
}
