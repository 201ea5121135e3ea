//! A data directory as it is: whether it can be written to, directly, and what it lies on.
//!
//! Leaves nothing behind: the only file that is made loses its name before it is written to.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use quorate_storage::BLOCK_BYTES;
use rustix::fs::{OFlags, statfs, statvfs};

/// What was found at a data directory, or above it where it is not there yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryFacts {
    pub path: PathBuf,
    /// The directory itself, or the nearest one above it that is there.
    pub nearest: PathBuf,
    pub access: Access,
    pub file_system: FileSystem,
    /// Equal for directories of one file system.
    pub device: u64,
    /// `None` if the file system does not say.
    pub free_bytes: Option<u64>,
}

/// How a file can be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// A block was written past the page cache and read back.
    Direct,
    /// A file can be made; why direct IO on it failed.
    NotDirect(String),
    /// Why no file can be made.
    NotWritable(String),
}

/// What the directory lies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// In memory: takes the flag for direct IO and ignores it.
    Memory(&'static str),
    /// On a local disk, with direct IO of its own.
    Local(&'static str),
    /// On something that makes its own rules.
    Other(String),
}

impl FileSystem {
    /// The name that mount(8) knows it by, or its number.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Memory(name) | Self::Local(name) => name,
            Self::Other(name) => name,
        }
    }

    /// By the number that statfs(2) tells.
    #[must_use]
    pub fn of(magic: u64) -> Self {
        let other = match magic {
            0x0102_1994 => return Self::Memory("tmpfs"),
            0x8584_58f6 => return Self::Memory("ramfs"),
            0xef53 => return Self::Local("ext4"),
            0x5846_5342 => return Self::Local("xfs"),
            0x9123_683e => "btrfs",
            0xf2f5_2010 => "f2fs",
            0x2fc1_2fc1 => "zfs",
            0x794c_7630 => "overlay",
            0x6573_5546 => "fuse",
            0x0102_1997 => "9p",
            0x6969 => "nfs",
            0xff53_4d42 | 0xfe53_4d42 => "cifs",
            _ => return Self::Other(format!("file system {magic:#x}")),
        };
        Self::Other(other.to_owned())
    }
}

impl DirectoryFacts {
    /// Looks at a directory, which is not made if it is not there.
    ///
    /// # Errors
    /// Not even a directory above it can be examined.
    pub fn read(path: &Path) -> io::Result<Self> {
        let nearest = path.ancestors().find(|part| part.exists());
        let nearest = nearest.unwrap_or(Path::new("/"));
        let magic = statfs(nearest)?.f_type.cast_unsigned();
        let free = statvfs(nearest).ok();
        Ok(Self {
            path: path.to_owned(),
            nearest: nearest.to_owned(),
            access: access(nearest),
            file_system: FileSystem::of(magic),
            device: nearest.metadata()?.dev(),
            free_bytes: free.map(|found| found.f_bavail.saturating_mul(found.f_frsize)),
        })
    }

    /// Whether the directory itself is there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.nearest == self.path
    }
}

fn access(directory: &Path) -> Access {
    let mut builder = tempfile::Builder::new();
    // Opened by its name a second time, not with the flag at first: where open(2) refuses the flag, it
    // may have made the file all the same.
    let (plain, named) = match builder.prefix(".quorate-doctor-").tempfile_in(directory) {
        Ok(made) => made.into_parts(),
        Err(error) => return Access::NotWritable(reason(&error)),
    };
    drop(plain);
    let opened = open_directly(&named);
    let removed = named.close();
    match (opened.and_then(|file| write_and_read(&file)), removed) {
        (_, Err(error)) => Access::NotWritable(reason(&error)),
        (Err(error), Ok(())) => Access::NotDirect(reason(&error)),
        (Ok(()), Ok(())) => Access::Direct,
    }
}

fn open_directly(path: &Path) -> io::Result<File> {
    let flag = i32::try_from(OFlags::DIRECT.bits()).expect("a flag of open(2) is an int");
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flag).open(path)
}

/// A block as the log writes it, at an address that direct IO takes.
#[repr(C, align(4096))]
struct Block([u8; BLOCK_BYTES as usize]);

const _: () = assert!(BLOCK_BYTES == 4096, "the alignment is written out above");

fn write_and_read(file: &File) -> io::Result<()> {
    let written = Box::new(Block([0x51; BLOCK_BYTES as usize]));
    file.write_all_at(&written.0, 0)?;
    file.sync_data()?;
    let mut read = Box::new(Block([0; BLOCK_BYTES as usize]));
    file.read_exact_at(&mut read.0, 0)?;
    match read.0 == written.0 {
        true => Ok(()),
        false => Err(io::Error::other("other bytes were read than written")),
    }
}

/// What the system says; without the path, which tempfile adds and which is told beside it.
fn reason(error: &io::Error) -> String {
    match error.source() {
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn on_disk() -> tempfile::TempDir {
        let below = std::env::current_exe().unwrap();
        tempfile::tempdir_in(below.parent().unwrap()).unwrap()
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_directory_on_a_disk_takes_direct_io_and_is_left_as_it_was() {
        let root = on_disk();
        let facts = DirectoryFacts::read(root.path()).unwrap();
        assert!(facts.is_there());
        assert_eq!(facts.access, Access::Direct);
        assert!(facts.free_bytes.unwrap() > 0);
        assert_eq!(names(root.path()), Vec::<String>::new());
    }

    #[test]
    fn one_that_is_not_there_is_judged_by_the_nearest_above_and_not_made() {
        let root = on_disk();
        let facts = DirectoryFacts::read(&root.path().join("a/b")).unwrap();
        assert_eq!(facts.nearest, root.path());
        assert!(!facts.is_there());
        assert_eq!(facts.access, Access::Direct);
        assert_eq!(
            facts.device,
            DirectoryFacts::read(root.path()).unwrap().device
        );
        assert_eq!(names(root.path()), Vec::<String>::new());
    }

    #[test]
    fn below_a_file_nothing_can_be_written() {
        let root = on_disk();
        let file = root.path().join("file");
        fs::write(&file, b"x").unwrap();
        let facts = DirectoryFacts::read(&file.join("n1")).unwrap();
        assert!(matches!(facts.access, Access::NotWritable(_)), "{facts:?}");
        assert_eq!(names(root.path()), ["file"]);
        assert_eq!(fs::read(&file).unwrap(), b"x");
    }

    #[test]
    fn memory_is_known_for_what_it_is() {
        let memory = Path::new("/dev/shm");
        if statfs(memory).is_ok_and(|found| found.f_type == 0x0102_1994) {
            let root = tempfile::tempdir_in(memory).unwrap();
            let facts = DirectoryFacts::read(root.path()).unwrap();
            assert_eq!(facts.file_system, FileSystem::Memory("tmpfs"));
            assert_eq!(names(root.path()), Vec::<String>::new());
        }
    }

    #[test]
    fn file_systems_have_names() {
        for (magic, name) in [
            (0xef53, "ext4"),
            (0x5846_5342, "xfs"),
            (0x6969, "nfs"),
            (0x794c_7630, "overlay"),
            (0xab, "file system 0xab"),
        ] {
            assert_eq!(FileSystem::of(magic).name(), name);
        }
    }

    #[test]
    fn a_reason_has_no_path() {
        let absent = tempfile::tempfile_in("/absent/path").unwrap_err();
        assert!(!reason(&absent).contains("absent"), "{absent}");
        assert_eq!(reason(&io::Error::other("why")), "why");
    }
}
