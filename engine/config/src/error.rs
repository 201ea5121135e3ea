//! Why a configuration is refused: always with file, line and field.

use std::fmt;
use std::io;

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file, or the command that made the configuration.
    pub file: String,
    /// 1-based; `None` if the problem has no line (a missing file, a command-line option).
    pub line: Option<usize>,
    /// The key, or empty if the text is not TOML.
    pub field: String,
    /// What is wrong, with the value.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl ConfigError {
    pub(crate) fn unreadable(file: &str, error: &io::Error) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            field: String::new(),
            problem: format!("cannot be read: {error}"),
        }
    }

    /// The file of the key is no key.
    pub(crate) fn key(file: &str, text: &str, error: &quorate_access::KeyError) -> Self {
        let field = "key_file";
        let line = text
            .lines()
            .position(|line| line.trim_start().starts_with(field));
        Self {
            file: file.to_owned(),
            line: line.map(|line| line + 1),
            field: field.to_owned(),
            problem: error.to_string(),
        }
    }

    /// An error of the TOML parser. Its message names an unknown key itself; the field is read off
    /// the line it points to.
    pub(crate) fn toml(file: &str, text: &str, error: &toml::de::Error) -> Self {
        let line = error.span().map(|span| line_of(text, span.start));
        Self {
            file: file.to_owned(),
            line,
            field: line.map(|line| key_on(text, line)).unwrap_or_default(),
            problem: error.message().trim().replace('\n', ", "),
        }
    }
}

/// The 1-based line of a byte offset.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|&&byte| byte == b'\n').count()
}

/// The key that a line sets, or the table that it opens; empty if neither.
fn key_on(text: &str, line: usize) -> String {
    let line = text.lines().nth(line - 1).unwrap_or_default().trim();
    if line.starts_with('[') {
        return line.trim_matches(['[', ']']).to_owned();
    }
    match line.split_once('=') {
        Some((key, _)) => key.trim().to_owned(),
        None => String::new(),
    }
}
