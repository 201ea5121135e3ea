//! Printing: one JSON document on stdout for machines, or plain lines and tables for people.

use std::fmt;
use std::io::{self, Write};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use quorate_protocol::ledger::ResultRow;
use serde_json::Value;

use crate::failure::Failure;

/// Who reads stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    People,
    Machine,
}

impl Output {
    /// Prints the document, or what `people` renders.
    ///
    /// A reader that closed the pipe early (`| head`) is no failure.
    pub fn print(self, document: &Value, people: impl FnOnce() -> String) -> Result<(), Failure> {
        match self {
            Self::Machine => line(&document.to_string()),
            Self::People => line(people().trim_end()),
        }
    }
}

/// Writes one text and a line break to stdout.
pub fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Writes a line for people to stderr. Whoever has closed it does not want to hear, and nothing stops for that.
pub fn say(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A table without borders, columns apart by two blanks.
#[must_use]
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(header.to_vec());
    table
}

/// The name of a result, or its number if a newer server knows more codes than this program.
#[must_use]
pub fn result_name(row: &ResultRow) -> String {
    match row.result() {
        Some(code) => code.name().to_owned(),
        None => format!("code {}", row.code),
    }
}
