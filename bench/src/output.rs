//! Where a command's document and its tables go.
//!
//! With `--json -` stdout carries one JSON document and nothing else. A file is created before
//! anything is measured: a path that cannot be written should not cost a run.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use serde::Serialize;

use crate::failure::Failure;

/// Writes a line for people to stderr. Whoever has closed it does not want to hear, and nothing stops for that.
pub fn say(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The destination of `--json`.
#[derive(Debug)]
pub enum Document {
    /// Not asked for.
    None,
    Stdout,
    File(File),
}

impl Document {
    /// Opens what `--json` names.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn open(path: Option<&Path>) -> Result<Self, Failure> {
        match path {
            None => Ok(Self::None),
            Some(path) if path.as_os_str() == "-" => Ok(Self::Stdout),
            Some(path) => File::create(path)
                .map(Self::File)
                .map_err(|error| Failure::Usage(format!("--json: {}: {error}", path.display()))),
        }
    }

    /// Writes the document where it belongs; the tables of `text`, told whether they go to a
    /// terminal, to stdout unless the document is there.
    ///
    /// # Errors
    /// Writing failed.
    pub fn write(
        &mut self,
        document: &impl Serialize,
        text: impl FnOnce(bool) -> String,
    ) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let result = match self {
            Self::None => writeln!(stdout, "{}", text(stdout.is_terminal())),
            Self::Stdout => write_json(&mut stdout, document),
            Self::File(file) => write_json(file, document)
                .and_then(|()| writeln!(stdout, "{}", text(stdout.is_terminal()))),
        };
        result.map_err(|error| Failure::Other(anyhow::anyhow!("writing the result: {error}")))
    }
}

fn write_json(out: &mut impl Write, document: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    out.write_all(b"\n")?;
    out.flush()
}
