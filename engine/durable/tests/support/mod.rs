//! A directory in memory, without faults.

#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;

use quorate_storage::BLOCK_BYTES;
use quorate_storage::store::{BlockRun, Operation, Read, Unreadable};

/// The files of one directory.
#[derive(Clone, Default)]
pub struct Files(pub BTreeMap<String, Vec<u8>>);

impl Read for Files {
    fn read(&mut self, name: &str, offset: u64, out: &mut [u8]) -> Result<(), Unreadable> {
        let start = usize::try_from(offset).expect("small");
        let file = self.0.get(name).ok_or(Unreadable)?;
        out.copy_from_slice(file.get(start..start + out.len()).ok_or(Unreadable)?);
        Ok(())
    }
}

impl Files {
    /// Does at once what a shell would take its time for.
    pub fn carry_out(&mut self, operation: &Operation) {
        match operation {
            Operation::Create { file } => {
                self.0.insert(file.file_name(), Vec::new());
            }
            Operation::Write {
                file,
                offset,
                bytes,
            } => {
                let content = self.0.get_mut(&file.file_name()).expect("created");
                assert_eq!(content.len() as u64, *offset, "files are written in order");
                content.extend_from_slice(bytes);
            }
            Operation::Publish { generation, bytes } => {
                let name = generation.file_name().to_owned();
                self.0.insert(name, bytes.clone());
            }
            Operation::Retract { generation } => {
                self.0.remove(generation.file_name());
            }
            Operation::Remove { file } => {
                self.0.remove(&file.file_name());
            }
            Operation::Sync { .. } | Operation::SyncDirectory => {}
        }
    }

    /// Blocks of a published file.
    pub fn blocks(&mut self, run: BlockRun) -> Vec<u8> {
        let mut bytes = vec![0; run.blocks as usize * BLOCK_BYTES as usize];
        let name = run.first.file.file_name();
        self.read(&name, run.first.offset(), &mut bytes)
            .expect("published");
        bytes
    }

    /// Every file with its length in bytes.
    pub fn listing(&self) -> Vec<(String, u64)> {
        let files = self.0.iter();
        files
            .map(|(name, bytes)| (name.clone(), bytes.len() as u64))
            .collect()
    }
}
