//! Printing: one JSON document on stdout for machines, or plain lines and tables for people.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::sync::OnceLock;

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

/// Stdout, once [`keep_stdout`] has put it aside.
static KEPT: OnceLock<File> = OnceLock::new();

/// Keeps stdout for what this module writes. Whatever else of the process writes to it writes to
/// stderr from here on, to the end: a C library keeps its text in a buffer of its own, which is
/// written when the process exits, so that giving stdout back after a call would be too early.
///
/// # Errors
/// The file descriptors cannot be had.
pub fn keep_stdout() -> io::Result<()> {
    if KEPT.get().is_none() {
        let kept = rustix::io::dup(io::stdout())?;
        rustix::stdio::dup2_stdout(io::stderr())?;
        let _ = KEPT.set(kept.into());
    }
    Ok(())
}

/// Writes one text and a line break to stdout.
pub fn line(text: &str) -> Result<(), Failure> {
    let written = match KEPT.get() {
        Some(kept) => write_line(kept, text),
        None => write_line(io::stdout().lock(), text),
    };
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// In one call where nothing buffers: a reader of a pipe gets the line at once.
fn write_line(mut out: impl Write, text: &str) -> io::Result<()> {
    out.write_all(format!("{text}\n").as_bytes())?;
    out.flush()
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
