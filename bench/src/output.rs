//! Where a command's document and its tables go.
//!
//! With `--json -` stdout carries one JSON document and nothing else: METIS writes to it, too, from a buffer of its own that
//! is written when the process exits, so whatever else is written there goes to stderr from the start to the end. A file is created before
//! anything is measured: a path that cannot be written should not cost a run.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

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
    /// What was stdout when the process began.
    Stdout(File),
    File(File),
}

impl Document {
    /// Opens what `--json` names.
    ///
    /// # Errors
    /// The file cannot be created, or stdout is closed.
    pub fn open(path: Option<&Path>) -> Result<Self, Failure> {
        match path {
            None => Ok(Self::None),
            Some(path) if path.as_os_str() == "-" => keep_stdout()
                .map(Self::Stdout)
                .map_err(|error| Failure::Usage(format!("--json: stdout: {error}"))),
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
            Self::Stdout(kept) => write_json(kept, document),
            Self::File(file) => write_json(file, document)
                .and_then(|()| writeln!(stdout, "{}", text(stdout.is_terminal()))),
        };
        result.map_err(|error| Failure::Other(anyhow::anyhow!("writing the result: {error}")))
    }
}

/// The destination of `--html`.
#[derive(Debug)]
pub struct HtmlFile(Option<(File, PathBuf)>);

impl HtmlFile {
    /// Opens what `--html` names.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Ok(Self(None));
        };
        let failure = |error: &dyn fmt::Display| {
            Failure::Usage(format!("--html: {}: {error}", path.display()))
        };
        if path.as_os_str() == "-" {
            return Err(failure(&"a page goes to a file, stdout is for --json"));
        }
        let file = File::create(path).map_err(|error| failure(&error))?;
        Ok(Self(Some((file, path.to_owned()))))
    }

    /// Writes the page, which is made only if somebody wants it.
    ///
    /// # Errors
    /// Writing failed.
    pub fn write(&mut self, page: impl FnOnce() -> String) -> Result<(), Failure> {
        let Some((file, path)) = &mut self.0 else {
            return Ok(());
        };
        let written = file.write_all(page().as_bytes());
        written
            .map_err(|error| Failure::Other(anyhow::anyhow!("writing {}: {error}", path.display())))
    }
}

/// Puts stdout aside, and stderr in its place.
fn keep_stdout() -> io::Result<File> {
    let kept = rustix::io::dup(io::stdout())?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(kept.into())
}

fn write_json(out: &mut impl Write, document: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    out.write_all(b"\n")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_made_only_for_a_file() {
        let mut nowhere = HtmlFile::open(None).unwrap();
        nowhere.write(|| panic!("nobody wants it")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.html");
        let mut file = HtmlFile::open(Some(&path)).unwrap();
        file.write(|| "<p></p>".to_owned()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "<p></p>");
    }

    #[test]
    fn a_place_without_a_file_is_bad_usage_and_named() {
        for (path, part) in [("-", "stdout"), ("/nowhere/report.html", "/nowhere")] {
            let failure = HtmlFile::open(Some(Path::new(path))).unwrap_err();
            assert_eq!(failure.exit_code(), 2);
            let text = failure.to_string();
            assert!(
                text.starts_with("--html: ") && text.contains(part),
                "{text}"
            );
        }
    }
}
