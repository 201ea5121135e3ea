//! Records which commit and profile a binary was built from: figures without them are worthless.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let profile = std::env::var("PROFILE").unwrap_or_default();
    println!("cargo:rustc-env=QUORATE_BUILD_PROFILE={profile}");
    // Only release builds are measured; others need not be rebuilt after every commit.
    if profile == "release" {
        if let Some(path) = head_log() {
            println!("cargo:rerun-if-changed={path}");
        }
        // What the binaries are made of: a change of it may make the tree dirty, or clean again.
        for sources in ["src", "../engine", "../storage", "../Cargo.lock"] {
            println!("cargo:rerun-if-changed={sources}");
        }
        if let Some(hash) = commit() {
            println!("cargo:rustc-env=QUORATE_GIT_HASH={hash}");
        }
    }
}

/// The file that grows with every commit and checkout, wherever this tree keeps it: in a worktree `.git` is a file. `None`
/// if there is none, because cargo takes a path that does not exist for one that has changed.
fn head_log() -> Option<String> {
    let output = Command::new("git")
        .args(["rev-parse", "--git-path", "logs/HEAD"])
        .output()
        .ok()?;
    let path = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && Path::new(&path).is_file()).then_some(path)
}

/// The commit of the tree that is being built, if it is a git tree and git is there; marked if there are
/// changes that no commit has.
fn commit() -> Option<String> {
    let output = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()?;
    let hash = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    let status = Command::new("git")
        .args(["status", "--porcelain", "--untracked-files=no"])
        .output()
        .ok()?;
    let mark = if status.stdout.is_empty() {
        ""
    } else {
        "-dirty"
    };
    (output.status.success() && !hash.is_empty()).then(|| hash + mark)
}
