//! What the files of a store are called, and to whom they belong.
//!
//! A file is named by its kind and the number of the checkpoint that wrote it: `history-000000000000002a`.
//! The manifest of checkpoint `n` is `manifest-0` or `manifest-1`, whichever `n` is modulo two, so that
//! publishing one never touches the one before. Every other name, temporary ones included, is none of
//! the store's.

use std::fmt;

/// Whose bytes these are. The checksum of every block starts from it, so a block of another cluster or
/// shard never verifies here. The replica is left out on purpose: all replicas of a shard write the
/// same bytes, and repair each other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    pub cluster: u64,
    pub shard: u32,
}

impl Binding {
    /// Where the checksum of every block starts.
    #[must_use]
    pub fn crc(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.cluster.to_le_bytes());
        hasher.update(&self.shard.to_le_bytes());
        hasher.finalize()
    }
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum FileKind {
    /// The accounts that changed between two checkpoints.
    Accounts = 1,
    /// What took effect between two checkpoints, in order.
    History = 2,
    /// The caller's other tables as of a checkpoint.
    Side = 3,
}

impl FileKind {
    /// Every kind, in the order of their codes.
    pub const ALL: [Self; 3] = [Self::Accounts, Self::History, Self::Side];

    /// The kind of a stored code; `None` if there is no such kind.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// As stored.
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::History => "history",
            Self::Side => "side",
        }
    }
}

/// A data file: immutable once its checkpoint is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    pub kind: FileKind,
    /// Of the checkpoint that wrote it, from 1.
    pub number: u64,
}

/// No store gets here; keeps arithmetic on numbers from overflowing.
pub(crate) const NUMBER_MAX: u64 = 1 << 48;

impl FileId {
    /// Name of the file: `accounts-0000000000000001`.
    #[must_use]
    pub fn file_name(self) -> String {
        self.to_string()
    }

    /// The data file that has this name; `None` for every other name.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<Self> {
        let (prefix, digits) = name.split_once('-')?;
        let kind = FileKind::ALL
            .into_iter()
            .find(|kind| kind.prefix() == prefix)?;
        let number = u64::from_str_radix(digits, 16).ok()?;
        let file = Self { kind, number };
        (file.is_possible() && file.to_string() == name).then_some(file)
    }

    /// Whether a checkpoint can have written it.
    pub(crate) fn is_possible(self) -> bool {
        (1..NUMBER_MAX).contains(&self.number)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.kind.prefix(), self.number)
    }
}

/// Which of the two manifest files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Generation {
    Even,
    Odd,
}

impl Generation {
    /// Both, in the order of their names.
    pub const ALL: [Self; 2] = [Self::Even, Self::Odd];

    /// Where the manifest of checkpoint `number` goes.
    #[must_use]
    pub fn of(number: u64) -> Self {
        match number.is_multiple_of(2) {
            true => Self::Even,
            false => Self::Odd,
        }
    }

    /// Name of the file: `manifest-0` or `manifest-1`.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Even => "manifest-0",
            Self::Odd => "manifest-1",
        }
    }

    /// The manifest that has this name; `None` for every other name.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|generation| generation.file_name() == name)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_no_others() {
        for kind in FileKind::ALL {
            for number in [1, 0x2A, NUMBER_MAX - 1] {
                let file = FileId { kind, number };
                assert_eq!(FileId::from_file_name(&file.file_name()), Some(file));
            }
            assert_eq!(FileKind::from_code(kind.code()), Some(kind));
        }
        for name in [
            "",
            "accounts",
            "accounts-",
            "accounts-1",
            "accounts-0000000000000000",
            "accounts-000000000000002A",
            "accounts-+00000000000002a",
            "accounts-000000000000002a.tmp",
            "accounts-0001000000000000",
            "wal-0000000000000001",
            "manifest-0",
        ] {
            assert_eq!(FileId::from_file_name(name), None, "{name}");
        }
        for generation in Generation::ALL {
            let name = generation.file_name();
            assert_eq!(Generation::from_file_name(name), Some(generation));
        }
        assert_eq!(Generation::from_file_name("manifest-2"), None);
        assert_eq!(Generation::of(7), Generation::Odd);
    }
}
