//! The key, and the file that it comes from.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

/// Fewest bytes of a key: those of the proofs that are made with it.
pub const KEY_BYTES_MIN: usize = 32;
/// Most bytes that are read.
pub const KEY_BYTES_MAX: usize = 4_096;
/// Rights of anybody but the owner.
const OTHERS: u32 = 0o077;

/// A shared secret. Its memory is overwritten when it goes.
pub struct Key(Zeroizing<Vec<u8>>);

/// Why a file is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    #[error("{}: {error}", path.display())]
    Io {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("{}: mode {mode:03o} lets others at it, want 600 or 400", path.display())]
    Mode { path: PathBuf, mode: u32 },
    #[error("{}: it belongs to user {owner}, this process is user {user}", path.display())]
    Owner {
        path: PathBuf,
        owner: u32,
        user: u32,
    },
    #[error("{}: not a file", path.display())]
    NotAFile { path: PathBuf },
    #[error("{}: {bytes} bytes, a key has {KEY_BYTES_MIN} to {KEY_BYTES_MAX}", path.display())]
    Length { path: PathBuf, bytes: usize },
}

impl Key {
    /// Takes bytes that are long enough; `None` if they are not.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let is_key = (KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&bytes.len());
        is_key.then(|| Self(Zeroizing::new(bytes.to_vec())))
    }

    /// Reads a file that nobody but its owner, this process's user or root, can read. Line feeds at its end are not part of the
    /// key, so that an editor can write it.
    ///
    /// # Errors
    /// Names the file, and what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let io = |error| KeyError::Io {
            path: path.to_owned(),
            error,
        };
        // The file that is checked is the one that is read. To open a pipe would wait for a writer: without that it is seen
        // to be none.
        let no_wait = OFlags::NONBLOCK.bits().cast_signed();
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(no_wait)
            .open(path)
            .map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(KeyError::NotAFile {
                path: path.to_owned(),
            });
        }
        let mode = metadata.mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(KeyError::Mode {
                path: path.to_owned(),
                mode,
            });
        }
        let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if owner != user && owner != 0 {
            return Err(KeyError::Owner {
                path: path.to_owned(),
                owner,
                user,
            });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES_MAX + 1));
        let limit = u64::try_from(KEY_BYTES_MAX + 1).expect("a small constant");
        file.by_ref()
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(io)?;
        while matches!(bytes.last(), Some(b'\n' | b'\r')) {
            bytes.pop();
        }
        let key = Self::new(&bytes).ok_or_else(|| KeyError::Length {
            path: path.to_owned(),
            bytes: bytes.len(),
        });
        bytes.zeroize();
        key
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    /// Not its bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn written(bytes: &[u8], mode: u32) -> Result<Key, KeyError> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        fs::write(&path, bytes).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        Key::load(&path)
    }

    #[test]
    fn a_key_is_what_the_file_has_without_line_feeds_at_its_end() {
        let key = written(b"0123456789abcdef0123456789abcdef\r\n", 0o600).expect("a key");
        assert_eq!(key.bytes(), b"0123456789abcdef0123456789abcdef");
        assert!(written(&[7; KEY_BYTES_MAX], 0o400).is_ok());
        assert_eq!(format!("{key:?}"), "Key");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_its_mode() {
        for mode in [0o644, 0o640, 0o604, 0o660, 0o610] {
            let error = written(&[7; 32], mode).expect_err("refused");
            assert!(
                error.to_string().contains(&format!("{mode:03o}")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_key_that_is_too_short_or_too_long_is_refused_with_its_length() {
        for length in [0, 31, KEY_BYTES_MAX + 1] {
            let error = written(&vec![7; length], 0o600).expect_err("refused");
            assert!(
                error.to_string().contains(&format!("{length} bytes")),
                "{error}"
            );
        }
        // What was left out does not count.
        assert!(written(&[b"k".repeat(31), b"\n\n".to_vec()].concat(), 0o600).is_err());
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).expect("set");
        assert!(matches!(
            Key::load(directory.path()),
            Err(KeyError::NotAFile { .. })
        ));
        assert!(matches!(
            Key::load(&directory.path().join("none")),
            Err(KeyError::Io { .. })
        ));
    }

    /// The start of a node with such a path hung, silently, for a writer that never came.
    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
        assert!(matches!(Key::load(&path), Err(KeyError::NotAFile { .. })));
    }
}
