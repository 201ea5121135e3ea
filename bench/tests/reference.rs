//! `docs/reference/bench-cli.md`: the help of every command of `quorate-bench`, as the program prints it.
//!
//! `QUORATE_REWRITE=1 cargo test -p quorate-bench --test reference` writes it anew.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

const HEAD: &str = "# Commands of quorate-bench\n\nThe help of every command, as the program prints it; a test compares \
    them. What the options mean together is in [bench.md](bench.md).\n";

fn help(command: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate-bench"))
        .args(command)
        .arg("--help")
        .env_remove("QUORATE_CLUSTER")
        .env_remove("COLUMNS")
        .output()
        .expect("the program runs");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text")
}

/// The names in the list of commands of a help.
fn commands(help: &str) -> Vec<&str> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect()
}

#[test]
fn the_page_shows_the_help_of_every_command() {
    let root = help(&[]);
    let names = commands(&root);
    assert!(names.contains(&"run") && names.len() >= 4, "{names:?}");
    let mut expected = HEAD.to_owned();
    let sections = names.iter().map(|&name| (name, help(&[name])));
    for (name, text) in [("", root.clone())].into_iter().chain(sections) {
        let title = format!("quorate-bench {name}");
        writeln!(expected, "\n## {}\n\n```text", title.trim()).expect("to a string");
        for line in text.lines() {
            writeln!(expected, "{}", line.trim_end()).expect("to a string");
        }
        writeln!(expected, "```").expect("to a string");
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/bench-cli.md");
    if std::env::var_os("QUORATE_REWRITE").is_some() {
        fs::write(&page, &expected).expect("written");
    }
    let found = fs::read_to_string(&page).unwrap_or_default();
    assert!(
        found == expected,
        "docs/reference/bench-cli.md differs from the help: QUORATE_REWRITE=1 writes it anew"
    );
}
