//! The text of a story: prose, and blocks of commands with the output that is expected of them.
//!
//! ```text
//! # Prose: lines that start with a hash.
//!
//! transfer 5 1 -> 11 300
//! settle
//! ----
//! s1r1 > s2r1: PrepareTxn ...
//! ```
//!
//! A block is one or more command lines, a line of four dashes, and the expected lines, which end at
//! the first empty line. Everything is parsed before anything runs; an error names file and line.

use std::fmt;

use crate::command::{self, Command};

/// The line between commands and expected output.
const DASHES: &str = "----";

/// Where and why a script cannot be read, or cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    pub file: String,
    pub line: usize,
    pub reason: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

impl std::error::Error for ScriptError {}

/// Commands with the output that is expected of them together.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub commands: Vec<CommandLine>,
    pub expected: Vec<String>,
    /// Line of the dashes.
    pub dashes_line: usize,
}

/// One command as it is written and as it is understood.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandLine {
    pub line: usize,
    pub text: String,
    pub command: Command,
}

/// A part of a script, in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// An empty line or a comment, kept as it is.
    Prose(String),
    Block(Block),
}

/// A parsed story.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    pub file: String,
    pub parts: Vec<Part>,
}

impl Script {
    /// Reads the text of a story.
    ///
    /// # Errors
    /// At the first line that is not understood.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScriptError> {
        let error = |line: usize, reason: String| ScriptError {
            file: file.to_owned(),
            line,
            reason,
        };
        let mut parts = Vec::new();
        let mut lines = (1..).zip(text.lines()).peekable();
        while let Some((number, line)) = lines.next() {
            if line.trim().is_empty() || line.starts_with('#') {
                parts.push(Part::Prose(line.to_owned()));
                continue;
            }
            let mut commands = Vec::new();
            let mut next = Some((number, line));
            let dashes_line = loop {
                let Some((number, line)) = next else {
                    let reason = format!("the block ends without a line of {DASHES}");
                    return Err(error(number, reason));
                };
                if line == DASHES {
                    break number;
                }
                if line.trim().is_empty() || line.starts_with('#') {
                    return Err(error(number, format!("a command or {DASHES} is expected")));
                }
                let command = command::parse(line).map_err(|reason| error(number, reason))?;
                let text = line.to_owned();
                commands.push(CommandLine {
                    line: number,
                    text,
                    command,
                });
                next = lines.next();
            };
            if commands.is_empty() {
                return Err(error(number, format!("no command before {DASHES}")));
            }
            let mut expected = Vec::new();
            while let Some((_, line)) = lines.next_if(|(_, line)| !line.is_empty()) {
                expected.push(line.to_owned());
            }
            parts.push(Part::Block(Block {
                commands,
                expected,
                dashes_line,
            }));
        }
        let script = Self {
            file: file.to_owned(),
            parts,
        };
        script.check_opening()?;
        Ok(script)
    }

    /// The blocks, in order.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.parts.iter().filter_map(|part| match part {
            Part::Block(block) => Some(block),
            Part::Prose(_) => None,
        })
    }

    /// The text again, with other expected lines in the blocks.
    ///
    /// # Panics
    /// If there is not one output for each block.
    #[must_use]
    pub fn with_outputs(&self, outputs: &[Vec<String>]) -> String {
        let mut outputs = outputs.iter();
        let mut text = String::new();
        let mut push = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        for part in &self.parts {
            match part {
                Part::Prose(line) => push(line),
                Part::Block(block) => {
                    block.commands.iter().for_each(|line| push(&line.text));
                    push(DASHES);
                    let output = outputs.next().expect("one output for each block");
                    output.iter().for_each(|line| push(line));
                }
            }
        }
        assert!(outputs.next().is_none(), "more outputs than blocks");
        text
    }

    /// A story tells what it is about, and begins with a cluster.
    fn check_opening(&self) -> Result<(), ScriptError> {
        let error = |line, reason: &str| ScriptError {
            file: self.file.clone(),
            line,
            reason: reason.to_owned(),
        };
        match self.parts.first() {
            Some(Part::Prose(line)) if line.starts_with("# ") => {}
            Some(_) | None => return Err(error(1, "a story opens with a line of prose")),
        }
        let lines = self.blocks().flat_map(|block| &block.commands);
        for (index, line) in lines.enumerate() {
            let opens = matches!(line.command, Command::Cluster(_));
            if opens != (index == 0) {
                let reason = "a story has one cluster, made by its first command";
                return Err(error(line.line, reason));
            }
        }
        if self.blocks().next().is_none() {
            return Err(error(1, "a story without commands"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        let error = Script::parse("stories/bad.txt", text);
        error.expect_err("the script is bad").to_string()
    }

    #[test]
    fn a_script_is_written_as_it_was_read() {
        let text = "# A story.\n\ncluster shards=1\n----\n\n# More.\nboot\nsettle\n----\na\nb\n";
        let script = Script::parse("stories/a.txt", text).unwrap();
        let expected: Vec<Vec<String>> = script.blocks().map(|b| b.expected.clone()).collect();
        assert_eq!(expected, [vec![], vec!["a".to_owned(), "b".to_owned()]]);
        assert_eq!(script.with_outputs(&expected), text);
        let other = script.with_outputs(&[vec!["x".to_owned()], vec![]]);
        assert!(other.contains("shards=1\n----\nx\n\n# More.\nboot\nsettle\n----\n"));
    }

    #[test]
    fn an_unknown_command_is_named_with_file_and_line() {
        assert_eq!(
            error("# A story.\ncluster\n----\n\nexplode s1r1\n----\n"),
            "stories/bad.txt:5: unknown command \"explode\""
        );
    }

    #[test]
    fn a_command_with_bad_arguments_says_which() {
        let bad = |command: &str| error(&format!("# A story.\ncluster\n----\n\n{command}\n----\n"));
        assert_eq!(
            bad("crash s1"),
            "stories/bad.txt:5: \"s1\" is not a replica, as s1r2 is"
        );
        assert_eq!(
            bad("run fast"),
            "stories/bad.txt:5: \"fast\" is not a duration, as 50ms or 2s is"
        );
        assert_eq!(
            bad("transfer 5 1 11 300"),
            "stories/bad.txt:5: \"11\" stands where \"->\" is expected"
        );
        assert_eq!(
            bad("deliver * * Hello"),
            "stories/bad.txt:5: no message is called \"Hello\""
        );
        assert_eq!(
            bad("flush"),
            "stories/bad.txt:5: something is missing at the end"
        );
        assert_eq!(bad("settle now"), "stories/bad.txt:5: \"now\" is too much");
    }

    #[test]
    fn a_block_needs_its_dashes() {
        assert_eq!(
            error("# A story.\ncluster\n\nboot\n----\n"),
            "stories/bad.txt:3: a command or ---- is expected"
        );
        assert_eq!(
            error("# A story.\ncluster\n"),
            "stories/bad.txt:2: the block ends without a line of ----"
        );
        assert_eq!(
            error("# A story.\n----\n"),
            "stories/bad.txt:2: no command before ----"
        );
    }

    #[test]
    fn a_story_opens_with_prose_and_one_cluster() {
        assert_eq!(
            error("cluster\n----\n"),
            "stories/bad.txt:1: a story opens with a line of prose"
        );
        let reason = "a story has one cluster, made by its first command";
        assert_eq!(
            error("# A.\nboot\n----\n"),
            format!("stories/bad.txt:2: {reason}")
        );
        assert_eq!(
            error("# A.\ncluster\ncluster\n----\n"),
            format!("stories/bad.txt:3: {reason}")
        );
        assert_eq!(
            error("# A.\n"),
            "stories/bad.txt:1: a story without commands"
        );
    }
}
