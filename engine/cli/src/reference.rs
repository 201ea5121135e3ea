//! `docs/reference/cli.md`: the help of every command, as the program prints it.
//!
//! Only a test: it compares the page, and writes it anew when run with `QUORATE_REWRITE=1`.

use std::fmt::Write;

use clap::{Command, CommandFactory};

use crate::Cli;

const HEAD: &str = "# Commands\n\nThe help of every command of `quorate`. This page is compared \
    with the program by a test; `--json` and `--log-format` are there everywhere and shown \
    once.\n";
/// Options that every command has.
const EVERYWHERE: [&str; 3] = ["--json", "--log-format", "--version"];

#[test]
fn the_reference_page_shows_the_help_of_every_command() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/cli.md");
    let mut root = Cli::command().term_width(100).disable_help_subcommand(true);
    root.build();
    let mut expected = HEAD.to_owned();
    write_command(&mut expected, &root, true);
    if std::env::var_os("QUORATE_REWRITE").is_some() {
        std::fs::write(path, &expected).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        page == expected,
        "docs/reference/cli.md differs from the help of the commands"
    );
}

fn write_command(page: &mut String, command: &Command, is_root: bool) {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let help = command.clone().term_width(100).render_help().to_string();
    writeln!(page, "\n## {name}\n\n```text").unwrap();
    let mut skipping = false;
    for line in help.lines() {
        let is_option = line.trim_start().starts_with('-');
        // A skipped option's continuation lines go with it.
        skipping = match is_option {
            true => !is_root && EVERYWHERE.iter().any(|option| line.contains(option)),
            false => skipping && line.starts_with("        "),
        };
        if !skipping {
            writeln!(page, "{}", line.trim_end()).unwrap();
        }
    }
    writeln!(page, "```").unwrap();
    for sub in command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
    {
        write_command(page, sub, false);
    }
}
