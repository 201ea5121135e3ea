//! Runs every story and compares what happened with what it says.
//!
//! `QUORATE_REWRITE=1` writes what happened into the stories instead, and says which it changed;
//! read the difference before it is committed.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use quorate_interaction::diff::diff;
use quorate_interaction::script::Script;
use quorate_interaction::story;

/// Fewer stories than this means that some were lost.
const STORIES_MIN: usize = 45;

fn stories() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("stories");
    let entries = fs::read_dir(&folder).expect("the folder of stories");
    let paths = entries.map(|entry| entry.expect("a directory entry").path());
    let is_story = |path: &PathBuf| path.extension().is_some_and(|end| end == "txt");
    let mut stories: Vec<PathBuf> = paths.filter(is_story).collect();
    stories.sort();
    stories
}

/// Runs a story; what is wrong with it, if anything.
fn check(path: &Path, rewrite: bool) -> Result<(), String> {
    let name = path.file_name().expect("a file").to_string_lossy();
    let file = format!("stories/{name}");
    let text = fs::read_to_string(path).map_err(|error| format!("{file}: {error}"))?;
    let script = Script::parse(&file, &text).map_err(|error| error.to_string())?;
    let outputs = story::tell(&script).map_err(|error| error.to_string())?;
    let mut wrong = Vec::new();
    for (block, output) in script.blocks().zip(&outputs) {
        let difference = diff(&block.expected, output);
        if !difference.is_empty() {
            let commands = block.commands.iter().map(|line| format!("> {}", line.text));
            wrong.push(format!("{file}:{}", block.dashes_line));
            wrong.extend(commands.chain(difference));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    if rewrite {
        fs::write(path, script.with_outputs(&outputs)).map_err(|e| format!("{file}: {e}"))?;
        println!("rewrote {file}:\n{}", wrong.join("\n"));
        return Ok(());
    }
    Err(wrong.join("\n"))
}

#[test]
fn every_story_happens_as_it_is_told() {
    let rewrite = std::env::var_os("QUORATE_REWRITE").is_some_and(|value| value == "1");
    let stories = stories();
    assert!(
        stories.len() >= STORIES_MIN,
        "only {} stories",
        stories.len()
    );
    let wrong: Vec<String> = stories
        .iter()
        .filter_map(|path| check(path, rewrite).err())
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} stories went otherwise (QUORATE_REWRITE=1 takes that over):\n{}",
        wrong.len(),
        stories.len(),
        wrong.join("\n\n")
    );
}
