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
const STORIES_MIN: usize = 50;

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

/// A story of one block whose expectation is not what happens.
fn wrong_story(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let text =
        "# A wrong story.\n\ncluster shards=1 replicas=1\nrun 1s\nshow s1\n----\ns1r1 down\n";
    fs::write(&path, text).expect("the test's own folder");
    path
}

#[test]
fn a_difference_is_shown_and_nothing_is_rewritten_unasked() {
    let path = wrong_story("unasked.txt");
    let before = fs::read_to_string(&path).expect("just written");
    let told = check(&path, false).expect_err("the story is wrong");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines[..2],
        ["stories/unasked.txt:6", "> cluster shards=1 replicas=1"]
    );
    assert!(lines.contains(&"- s1r1 down"), "{told}");
    let leads = |line: &&str| line.starts_with("+ s1r1 leader 1.1, serves");
    assert!(lines.iter().any(leads), "{told}");
    assert_eq!(fs::read_to_string(&path).expect("just written"), before);
}

#[test]
fn a_rewritten_story_happens_as_it_is_told() {
    let path = wrong_story("rewritten.txt");
    check(&path, true).expect("it is taken over");
    check(&path, false).expect("and is right now");
    let after = fs::read_to_string(&path).expect("just written");
    assert!(after.starts_with("# A wrong story.\n\ncluster shards=1 replicas=1\nrun 1s\n"));
}

#[test]
fn a_command_that_cannot_be_carried_out_is_named_with_file_and_line() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("impossible.txt");
    let text = "# A story.\n\ncluster shards=1 replicas=1\n----\n\nrestart s1r1\n----\n";
    fs::write(&path, text).expect("the test's own folder");
    assert_eq!(
        check(&path, false).expect_err("it runs"),
        "stories/impossible.txt:6: s1r1 runs"
    );
}
