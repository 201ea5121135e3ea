//! What a run writes while it goes on: the ids of what was acknowledged, and every second's latencies.

use std::path::Path;

use anyhow::Context;

use crate::acked::AckedFile;
use crate::failure::Failure;
use crate::hlog::IntervalLog;

/// The files that were asked for.
#[derive(Debug, Default)]
pub struct Files {
    pub acked: Option<AckedFile>,
    pub intervals: Option<IntervalLog>,
}

impl Files {
    /// Creates what `--acked` and `--hlog` name: a path that cannot be written should not cost a run.
    ///
    /// # Errors
    /// The option and the path that cannot be created.
    pub fn create(acked: Option<&Path>, hlog: Option<&Path>) -> Result<Self, Failure> {
        Ok(Self {
            acked: created("--acked", acked, AckedFile::create)?,
            intervals: created("--hlog", hlog, IntervalLog::create)?,
        })
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// A file that is not complete.
    pub fn finish(self) -> anyhow::Result<()> {
        if let Some(acked) = self.acked {
            acked.finish().context("--acked")?;
        }
        if let Some(intervals) = self.intervals {
            intervals.finish().context("--hlog")?;
        }
        Ok(())
    }
}

fn created<T>(
    option: &str,
    path: Option<&Path>,
    create: impl FnOnce(&Path) -> std::io::Result<T>,
) -> Result<Option<T>, Failure> {
    let Some(path) = path else {
        return Ok(None);
    };
    let created = create(path);
    created
        .map(Some)
        .map_err(|error| Failure::Usage(format!("{option}: {}: {error}", path.display())))
}
