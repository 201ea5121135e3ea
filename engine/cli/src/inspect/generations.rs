//! The two manifests of a stopped replica's store, read one by one, and what opening the store would say.

use quorate_protocol::checkpoint::rows::Mark;
use quorate_storage::store::{
    Damage, FileId, FileKind, Footer, FooterError, Generation, Listed, Manifest, ManifestError,
    OpenError, OpenRow, Opened, Read, Section, open,
};

use super::stopped::{Files, Stopped};

/// One manifest, by itself.
#[derive(Debug)]
pub struct Found {
    pub generation: Generation,
    /// `None`: the file is absent.
    pub manifest: Option<Result<Manifest, ManifestError>>,
}

/// A store as it lies there.
#[derive(Debug)]
pub struct Store {
    pub generations: [Found; 2],
    /// Data files that exist, with their length in bytes.
    pub files: Vec<(FileId, u64)>,
    /// What opening says; nothing of its repairs is carried out.
    pub opened: Result<Opened, OpenError>,
}

impl Store {
    /// Reads manifests and footers.
    pub fn read(stopped: &Stopped, disk: &mut Files<'_>) -> Result<Self, anyhow::Error> {
        let listing = stopped.listing()?;
        let binding = stopped.binding();
        let generations = Generation::ALL.map(|generation| Found {
            generation,
            manifest: listing
                .iter()
                .find(|(name, _)| name == generation.file_name())
                .map(|(name, length)| {
                    let manifest = read_manifest(name, *length, disk)?;
                    manifest.check_owner(&binding)?;
                    Ok(manifest)
                }),
        });
        let files = listing
            .iter()
            .filter_map(|(name, length)| Some((FileId::from_file_name(name)?, *length)))
            .collect();
        Ok(Self {
            generations,
            files,
            opened: open(&listing, disk, binding),
        })
    }

    /// The row of the open table that applies.
    pub fn row(&self) -> OpenRow {
        match &self.opened {
            Ok(opened) => opened.row,
            Err(OpenError::Foreign { .. }) => OpenRow::Foreign,
            Err(OpenError::Version { .. }) => OpenRow::Version,
            Err(OpenError::ManifestsMissing { .. }) => OpenRow::ManifestsMissing,
            Err(OpenError::Unusable { .. }) => OpenRow::Unusable,
        }
    }

    /// What is not as it was written, for people.
    pub fn damage(&self) -> Vec<String> {
        let listed = |damage: &[Damage]| damage.iter().map(ToString::to_string).collect();
        match &self.opened {
            Ok(opened) => listed(&opened.damage),
            Err(OpenError::Unusable { damage }) => listed(damage),
            Err(refused) => vec![refused.to_string()],
        }
    }

    /// The manifests that can be read.
    pub fn manifests(&self) -> impl Iterator<Item = (Generation, &Manifest)> {
        self.generations.iter().filter_map(|found| {
            let manifest = found.manifest.as_ref()?.as_ref().ok()?;
            Some((found.generation, manifest))
        })
    }

    /// How long a data file is; `None` if it is absent.
    pub fn length_of(&self, file: FileId) -> Option<u64> {
        let found = self.files.iter().find(|(found, _)| *found == file);
        found.map(|(_, length)| *length)
    }
}

fn read_manifest(name: &str, length: u64, disk: &mut Files<'_>) -> Result<Manifest, ManifestError> {
    let wrong = ManifestError::Length { found: length };
    let bytes = usize::try_from(length).map_err(|_| wrong)?;
    if bytes == 0 || bytes > quorate_storage::store::MANIFEST_BYTES_MAX {
        return Err(wrong);
    }
    let mut bytes = vec![0; bytes];
    disk.read(name, 0, &mut bytes)
        .map_err(|_| ManifestError::Unreadable)?;
    Manifest::decode(&bytes)
}

/// The last block of a data file of this length.
pub fn read_footer(
    stopped: &Stopped,
    file: FileId,
    length: u64,
    disk: &mut Files<'_>,
) -> Result<Footer, FooterError> {
    let block = u64::from(quorate_storage::BLOCK_BYTES);
    let absent = || FooterError::from(quorate_storage::store::BlockError::Absent);
    let blocks = u32::try_from(length / block).map_err(|_| absent())?;
    let last = blocks.checked_sub(1).ok_or_else(absent)?;
    let mut bytes = vec![0; quorate_storage::BLOCK_BYTES as usize];
    disk.read(&file.file_name(), u64::from(last) * block, &mut bytes)
        .map_err(|_| quorate_storage::store::BlockError::Unreadable)?;
    Footer::decode(&bytes, &stopped.binding(), file, blocks)
}

/// Positions of history that a manifest's files hold: the first, and the end (exclusive); `None` if there
/// are none, or their footers cannot be read.
pub fn history_range(
    stopped: &Stopped,
    manifest: &Manifest,
    disk: &mut Files<'_>,
) -> Option<(u64, u64)> {
    let mut range = None;
    for listed in manifest.files_of(FileKind::History) {
        let length = u64::from(listed.blocks) * u64::from(quorate_storage::BLOCK_BYTES);
        let footer = read_footer(stopped, listed.file, length, disk).ok()?;
        let end = footer.base + footer.rows(Section::HistoryRows);
        let (first, _) = range.unwrap_or((footer.base, end));
        range = Some((first, end));
    }
    range
}

/// Accounts whose newest row lies in a file of the manifest: all that the shard owned.
pub fn accounts_of(manifest: &Manifest) -> u64 {
    let files = manifest.files_of(FileKind::Accounts);
    files.map(|listed: &Listed| listed.live).sum()
}

/// The mark, if there is one.
pub fn mark_of(manifest: &Manifest) -> Option<Mark> {
    quorate_durable::offline::mark_of(manifest).ok()
}
