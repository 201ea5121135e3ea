//! `inspect segments`: every data file of a stopped replica's store, and with `--verify` every block of it.
//!
//! A file that no manifest lists is of a checkpoint that was not published, or waits for its removal: what
//! is wrong with it harms nobody.

use std::fmt::Write;

use clap::Args;
use quorate_storage::BLOCK_BYTES;
use quorate_storage::store::{
    BlockRef, ContentSum, FileId, FileKind, Footer, FooterError, Listed, Read, decode_block,
};
use serde_json::{Value, json};

use super::generations::{Store, read_footer};
use super::stopped::{Files, Seen, Stopped, StoppedArgs, each};
use crate::Context;
use crate::failure::Outcome;
use crate::print::table;

/// Damaged blocks that are listed per file; the others are counted.
const BLOCKS_LISTED_MAX: usize = 20;

/// Options of `inspect segments`.
#[derive(Args, Debug)]
pub struct SegmentsArgs {
    #[command(flatten)]
    pub stopped: StoppedArgs,
    /// Read every block, and add up what the files hold
    #[arg(long)]
    pub verify: bool,
}

/// Prints one row per data file.
pub fn run(args: &SegmentsArgs, context: Context) -> Outcome {
    each(&args.stopped, context, |stopped| look(stopped, args.verify))
}

/// What reading every block of a file came to.
#[derive(Debug, Default)]
struct Verified {
    damaged: Vec<String>,
    damaged_more: u64,
    sum: u64,
}

/// One data file.
#[derive(Debug)]
struct DataFile {
    file: FileId,
    /// `None`: it is missing.
    bytes: Option<u64>,
    footer: Option<Result<Footer, FooterError>>,
    /// As the manifests name it, with the numbers of these.
    listed: Vec<(u64, Listed)>,
    verified: Option<Verified>,
}

fn look(stopped: &Stopped, verify: bool) -> Result<Seen, anyhow::Error> {
    let mut disk = stopped.files();
    let store = Store::read(stopped, &mut disk)?;
    let mut names: Vec<FileId> = store.files.iter().map(|(file, _)| *file).collect();
    for (_, manifest) in store.manifests() {
        names.extend(manifest.files.iter().map(|listed| listed.file));
    }
    names.sort_unstable();
    names.dedup();
    let files: Vec<DataFile> = names
        .into_iter()
        .map(|file| DataFile::read(stopped, &store, file, verify, &mut disk))
        .collect();
    let damage: Vec<String> = files.iter().flat_map(DataFile::damage).collect();
    let unlisted = files.iter().filter(|file| file.listed.is_empty()).count();
    let mut text = people(&files);
    for damage in &damage {
        // Writing to a string cannot fail.
        let _ = write!(text, "\ndamage: {damage}");
    }
    Ok(Seen {
        document: json!({
            "files": files.iter().map(DataFile::document).collect::<Vec<_>>(),
            "unlisted": unlisted,
            "verified": verify,
            "damage": damage,
        }),
        text,
        damaged: !damage.is_empty(),
    })
}

impl DataFile {
    fn read(
        stopped: &Stopped,
        store: &Store,
        file: FileId,
        verify: bool,
        disk: &mut Files<'_>,
    ) -> Self {
        let bytes = store.length_of(file);
        let footer = bytes.map(|bytes| read_footer(stopped, file, bytes, disk));
        let listed = store
            .manifests()
            .filter_map(|(_, manifest)| Some((manifest.number, *manifest.find(file)?)))
            .collect();
        let verified = bytes.filter(|_| verify).map(|bytes| {
            let footer = footer.as_ref().and_then(|footer| footer.as_ref().ok());
            Verified::read(stopped, file, bytes, footer, disk)
        });
        Self {
            file,
            bytes,
            footer,
            listed,
            verified,
        }
    }

    fn footer(&self) -> Option<&Footer> {
        self.footer.as_ref()?.as_ref().ok()
    }

    /// Rows that are the newest of their account, by the newest manifest that lists the file.
    fn live(&self) -> Option<u64> {
        let listed = self.listed.iter().max_by_key(|(number, _)| *number);
        let (_, listed) = listed.filter(|_| self.file.kind == FileKind::Accounts)?;
        Some(listed.live)
    }

    /// What is not as a manifest says.
    fn damage(&self) -> Vec<String> {
        let Some((_, listed)) = self.listed.first() else {
            return Vec::new();
        };
        let (file, mut damage) = (self.file, Vec::new());
        match (self.bytes, &self.footer) {
            (None, _) => damage.push(format!("{file} is missing")),
            (Some(_), Some(Err(error))) => damage.push(format!("{file}: {error}")),
            (Some(_), Some(Ok(footer))) if footer.content != listed.content => {
                let (found, expected) = (footer.content, listed.content);
                damage.push(format!(
                    "{file} has content {found:016x}, must have {expected:016x}"
                ));
            }
            (Some(_), _) => {}
        }
        if let Some(bytes) = self.bytes
            && bytes != u64::from(listed.blocks) * u64::from(BLOCK_BYTES)
        {
            let blocks = listed.blocks;
            damage.push(format!(
                "{file} has {bytes} bytes, must have {blocks} blocks"
            ));
        }
        let Some(verified) = &self.verified else {
            return damage;
        };
        damage.extend(
            verified
                .damaged
                .iter()
                .map(|block| format!("{file} {block}")),
        );
        if verified.damaged_more > 0 {
            let more = verified.damaged_more;
            damage.push(format!("{file}: {more} more damaged blocks"));
        }
        if verified.damaged.is_empty() && verified.sum != listed.content {
            let (found, expected) = (verified.sum, listed.content);
            damage.push(format!(
                "{file} adds up to {found:016x}, must be {expected:016x}"
            ));
        }
        damage
    }

    fn document(&self) -> Value {
        let sections = self.footer().map(|footer| {
            let sections = footer.sections.iter();
            sections
                .map(|extent| {
                    json!({
                        "section": format!("{:?}", extent.section),
                        "first": extent.first,
                        "blocks": extent.blocks,
                        "rows": extent.rows,
                    })
                })
                .collect::<Vec<_>>()
        });
        let is_history = self.file.kind == FileKind::History;
        let history = self.footer().filter(|_| is_history).map(|footer| {
            json!({
                "first": footer.base,
                "id_min": footer.key_min.to_string(),
                "id_max": footer.key_max.to_string(),
            })
        });
        json!({
            "file": self.file.file_name(),
            "kind": format!("{:?}", self.file.kind).to_lowercase(),
            "number": self.file.number,
            "bytes": self.bytes,
            "blocks": self.footer().map(|footer| footer.blocks),
            "content": self.footer().map(|footer| format!("{:016x}", footer.content)),
            "sections": sections,
            "history": history,
            "live": self.live(),
            "listed_by": self.listed.iter().map(|(number, _)| number).collect::<Vec<_>>(),
            "blocks_damaged": self.verified.as_ref().map(|verified| {
                verified.damaged.len() as u64 + verified.damaged_more
            }),
            "damage": self.damage(),
        })
    }
}

impl Verified {
    fn read(
        stopped: &Stopped,
        file: FileId,
        bytes: u64,
        footer: Option<&Footer>,
        disk: &mut Files<'_>,
    ) -> Self {
        let mut found = Self::default();
        let mut sum = ContentSum::default();
        let mut block = vec![0; BLOCK_BYTES as usize];
        let binding = stopped.binding();
        let blocks = u32::try_from(bytes / u64::from(BLOCK_BYTES)).unwrap_or(u32::MAX);
        for index in 0..blocks {
            let place = BlockRef { file, block: index };
            let read = disk.read(&file.file_name(), place.offset(), &mut block);
            let decoded = match (read, footer) {
                (Err(error), _) => Err(error.to_string()),
                // Held against the table of the footer, or at least against its own place.
                (Ok(()), Some(footer)) => footer
                    .decode_block(index, &block, &binding)
                    .map_err(|error| error.to_string()),
                (Ok(()), None) => {
                    decode_block(&block, &binding, place).map_err(|error| error.to_string())
                }
            };
            match decoded {
                // The sum is of all blocks but the footer, which comes last.
                Ok(decoded) if index + 1 < blocks => sum.add(decoded.crc),
                Ok(_) => {}
                Err(_) if found.damaged.len() == BLOCKS_LISTED_MAX => found.damaged_more += 1,
                Err(error) => found.damaged.push(format!("block {index}: {error}")),
            }
        }
        found.sum = sum.value();
        found
    }
}

fn people(files: &[DataFile]) -> String {
    let mut rows = table(&["file", "blocks", "rows", "live", "listed by", "blocks read"]);
    for file in files {
        let sections = file.footer().map(|footer| {
            let sections = footer.sections.iter().filter(|extent| extent.rows > 0);
            let texts: Vec<String> = sections
                .map(|extent| format!("{:?} {}", extent.section, extent.rows))
                .collect();
            texts.join(", ")
        });
        let listed: Vec<String> = file
            .listed
            .iter()
            .map(|(number, _)| number.to_string())
            .collect();
        let text = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
        rows.add_row([
            file.file.file_name(),
            text(file.footer().map(|footer| footer.blocks.into())),
            sections.unwrap_or_else(|| "-".to_owned()),
            text(file.live()),
            match listed.is_empty() {
                true => "no checkpoint".to_owned(),
                false => listed.join(", "),
            },
            match &file.verified {
                None => "-",
                Some(verified) if verified.damaged.is_empty() => "all good",
                Some(_) => "damaged",
            }
            .to_owned(),
        ]);
    }
    rows.to_string()
}
