//! Whether a run could have been durable: the log on the disk that is compared, and synced.
//!
//! What a server's own settings say is for its module; here is what holds for all.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, ensure};

/// Requires that `log` lies on the disk of `scratch`, where every other system's log is.
///
/// # Errors
/// One of them cannot be looked at, or they are on different devices.
pub fn require_same_disk(log: &Path, scratch: &Path) -> anyhow::Result<()> {
    let device = |path: &Path| -> anyhow::Result<u64> {
        let metadata = fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
        Ok(metadata.dev())
    };
    let (of_log, of_scratch) = (device(log)?, device(scratch)?);
    ensure!(
        of_log == of_scratch,
        "the log {} is on device {of_log}, the scratch directory {} on {of_scratch}",
        log.display(),
        scratch.display()
    );
    Ok(())
}

/// Requires that the log was synced at all; returns how often.
///
/// # Errors
/// Transfers were committed without one sync, or the server's counter went backwards.
pub fn require_syncs(before: u64, after: u64, committed: u64) -> anyhow::Result<u64> {
    let syncs = after
        .checked_sub(before)
        .with_context(|| format!("syncs of the log went from {before} to {after}"))?;
    ensure!(
        syncs > 0 || committed == 0,
        "{committed} transfers committed without one sync of the log"
    );
    Ok(syncs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_disk_is_refused_and_the_same_is_not() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        require_same_disk(&here.join("src"), here).expect("one tree, one disk");
        let error = require_same_disk(Path::new("/proc"), here).expect_err("another device");
        assert!(error.to_string().contains("/proc"), "{error}");
    }

    #[test]
    fn commits_without_a_sync_are_refused() {
        assert_eq!(require_syncs(3, 10, 20).expect("seven"), 7);
        assert_eq!(require_syncs(3, 3, 0).expect("nothing to sync"), 0);
        assert!(require_syncs(3, 3, 1).is_err());
        assert!(require_syncs(4, 3, 1).is_err());
    }
}
