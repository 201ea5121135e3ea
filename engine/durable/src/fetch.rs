//! A replica that rebuilds: takes the newest checkpoint of its group into its own store.
//!
//! ```text
//! Manifest -> Files (each: create, write .., sync) -> names synced -> published -> Done
//!    ^          |
//!    +--- Gone -+   the other one has two newer checkpoints: begin again, keep the files
//! ```
//!
//! # Invariants
//!
//! 1. Nothing counts before it is published, which is one rename behind all syncs: killed at any moment,
//!    the next start finds the old checkpoint or the new one.
//! 2. Every block is checked against its own place, and every file against the manifest's sum, before it
//!    is written or counted: what was altered in flight is asked for again.
//! 3. A file that a whole generation here lists is not asked for: it has the same bytes there. Should it
//!    not, the replicas have diverged, and that is an error, not something to repair.
//! 4. At most [`CHUNKS_MAX`] chunks are asked for or wait to be written: so much memory a fetch takes, and as
//!    much of the other's time as the own disk lets it. Several, since a loaded replica answers after a while:
//!    a group goes on meanwhile, and whoever does not take its checkpoints faster than it writes them is
//!    never back.
//! 5. Chunks are taken in the order in which they were asked for; one that is lost is asked for again with
//!    those behind it.

use std::collections::{BTreeMap, VecDeque};

use quorate_protocol::ids::ReplicaId;
use quorate_protocol::snapshot::{CHUNK_BYTES, Message, Part};
use quorate_protocol::time::{MS, SECOND};
use quorate_storage::BLOCK_BYTES;
use quorate_storage::planted::{Bug, planted};
use quorate_storage::store::{
    Binding, BlockRef, ContentSum, FileId, Generation, Listed, MANIFEST_BYTES_MAX, Manifest,
    Operation, Store, decode_block,
};
use thiserror::Error;

const BLOCK: usize = BLOCK_BYTES as usize;
/// If no answer has come for so long, the open questions are put to the next replica.
const ANSWER_NS_MAX: u64 = SECOND;
/// Who has nothing newer is asked again, once all others were.
const PAUSE_NS: u64 = 100 * MS;
/// Bytes asked for per second at most: a rebuild must not take the link from those who serve, and has to be
/// clearly faster than the 110 MiB that a group under full batches writes.
pub const BYTES_PER_SECOND_MAX: u64 = 512 << 20;
/// Chunks of a file that are under way at once.
pub const CHUNKS_MAX: usize = 16;

/// The checkpoint of the group cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FetchError {
    /// Two replicas of one shard wrote different bytes.
    #[error(
        "{file} has content {own:016x} here and {theirs:016x} at {from}: the replicas diverged"
    )]
    Diverged {
        file: FileId,
        own: u64,
        theirs: u64,
        from: ReplicaId,
    },
}

/// What it has done, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Of the checkpoint that is being taken; 0 while none is known.
    pub number: u64,
    pub files_left: usize,
    /// Written so far.
    pub bytes: u64,
    /// Chunks that were not what was written, or not what was asked for.
    pub chunks_refused: u64,
    /// How often it had to begin again with a newer checkpoint.
    pub begun_again: u64,
}

#[derive(Debug)]
enum Stage {
    /// The manifest so far.
    Manifest {
        number: Option<u64>,
        bytes: Vec<u8>,
    },
    Files(Files),
    /// What is left is operations.
    Closing,
    Done,
}

/// The files of a manifest.
#[derive(Debug)]
struct Files {
    manifest: Manifest,
    /// The first one is under way.
    missing: VecDeque<Listed>,
    /// How much of it is asked for, in bytes.
    asked: u64,
    /// How much of it is taken, and what that adds up to.
    offset: u64,
    sum: ContentSum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Question {
    part: Part,
    offset: u64,
    sent_ns: u64,
}

/// One rebuild. The store is closed meanwhile.
#[derive(Debug)]
pub struct Fetch {
    binding: Binding,
    /// A checkpoint of a slot below is no help.
    least: u64,
    peers: Vec<ReplicaId>,
    asked: usize,
    stage: Stage,
    /// What is whole on the own disk, published or not.
    have: BTreeMap<FileId, Listed>,
    /// Sent and not answered, in order.
    questions: VecDeque<Question>,
    /// When the last answer came.
    answered_ns: u64,
    /// No question before.
    not_before_ns: u64,
    operations: VecDeque<Operation>,
    is_open: bool,
    progress: Progress,
}

impl Fetch {
    /// Begins; `first` is asked first, then the `others`.
    #[must_use]
    pub fn new(store: &Store, first: ReplicaId, others: impl Iterator<Item = ReplicaId>) -> Self {
        let mut operations = VecDeque::new();
        if let Some(generation) = store.unusable() {
            operations.push_back(Operation::Retract { generation });
        }
        if store.manifest().number == 0 {
            // Files without any manifest would look like a store that lost both.
            operations.push_back(Operation::Publish {
                generation: Generation::of(0),
                bytes: Manifest::empty(store.binding()).encode(),
            });
        }
        let whole = store.whole_manifests().flat_map(|manifest| &manifest.files);
        Self {
            least: store.manifest().slot + 1,
            have: whole.map(|listed| (listed.file, *listed)).collect(),
            operations,
            ..Self::afresh(store.binding(), 0, first, others)
        }
    }

    /// Begins for a store that cannot be opened, or holds what was not written: nothing of it is used. A
    /// checkpoint of a slot below `least` is no help: the own log does not go on from there.
    #[must_use]
    pub fn afresh(
        binding: Binding,
        least: u64,
        first: ReplicaId,
        others: impl Iterator<Item = ReplicaId>,
    ) -> Self {
        let others = others.filter(|other| *other != first);
        Self {
            binding,
            least,
            peers: [first].into_iter().chain(others).collect(),
            asked: 0,
            stage: Stage::begin(),
            have: BTreeMap::new(),
            questions: VecDeque::new(),
            answered_ns: 0,
            not_before_ns: 0,
            operations: VecDeque::new(),
            is_open: false,
            progress: Progress::default(),
        }
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Whether the checkpoint is published: open the store anew.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// The next question, if it is time. Several may be due at once.
    pub fn next_question(&mut self, now_ns: u64) -> Option<(ReplicaId, Message)> {
        if now_ns >= self.too_late_ns() {
            self.turn_to_next(now_ns);
        }
        if now_ns < self.not_before_ns {
            return None;
        }
        let (part, offset) = self.wanted()?;
        if let Stage::Files(files) = &mut self.stage {
            files.asked += CHUNK_BYTES as u64;
            let pause_ns = CHUNK_BYTES as u64 * SECOND / BYTES_PER_SECOND_MAX;
            self.not_before_ns = self.not_before_ns.max(now_ns) + pause_ns;
        }
        self.questions.push_back(Question {
            part,
            offset,
            sent_ns: now_ns,
        });
        let to = self.peers[self.asked % self.peers.len()];
        Some((to, Message::Ask { part, offset }))
    }

    /// When [`Self::next_question`] is worth calling again, if nothing else happens.
    #[must_use]
    pub fn deadline_ns(&self) -> u64 {
        let next_ns = self.wanted().map_or(u64::MAX, |_| self.not_before_ns);
        self.too_late_ns().min(next_ns)
    }

    /// When whoever is asked counts as silent. On a slow link the last of many answers is long on its way, but
    /// those before it arrive.
    fn too_late_ns(&self) -> u64 {
        self.questions.front().map_or(u64::MAX, |oldest| {
            oldest.sent_ns.max(self.answered_ns) + ANSWER_NS_MAX
        })
    }

    /// A replica of the group said something.
    ///
    /// # Errors
    /// If the replicas have diverged.
    pub fn on_message(
        &mut self,
        now_ns: u64,
        from: ReplicaId,
        message: &Message,
    ) -> Result<(), FetchError> {
        let Some(&Question { part, offset, .. }) = self.questions.front() else {
            return Ok(());
        };
        match message {
            Message::Chunk {
                part: of,
                offset: at,
                total,
                bytes,
            } if *at == offset && answers(part, *of) => {
                self.questions.pop_front();
                self.answered_ns = now_ns;
                let bytes = bytes.as_bytes();
                let taken = match *of {
                    Part::Manifest { number } => {
                        self.manifest_chunk(now_ns, from, number, *total, bytes)?
                    }
                    Part::File { .. } => self.file_chunk(bytes),
                    Part::Newest => false,
                };
                if !taken {
                    self.progress.chunks_refused += 1;
                    self.turn_to_next(now_ns);
                }
            }
            Message::Gone { part: of } if *of == part => {
                if !matches!(self.stage, Stage::Manifest { number: None, .. }) {
                    self.progress.begun_again += 1;
                }
                self.stage = Stage::begin();
                self.turn_to_next(now_ns);
            }
            Message::Chunk { .. } | Message::Gone { .. } | Message::Ask { .. } => {}
        }
        Ok(())
    }

    /// The next operation to carry out, if one is due and none is open.
    pub fn next_operation(&mut self) -> Option<Operation> {
        if self.is_open {
            return None;
        }
        let operation = self.operations.pop_front()?;
        self.is_open = true;
        Some(operation)
    }

    /// The operation was carried out.
    ///
    /// # Panics
    /// If none is open.
    pub fn finish_operation(&mut self, operation: &Operation) {
        assert!(std::mem::take(&mut self.is_open), "an operation is open");
        if let Operation::Write { bytes, .. } = operation {
            self.progress.bytes += bytes.len() as u64;
        }
        if self.operations.is_empty() && matches!(self.stage, Stage::Closing) {
            self.stage = Stage::Done;
        }
    }

    /// What is to be asked for next, unless something has to be answered or written before.
    fn wanted(&self) -> Option<(Part, u64)> {
        match &self.stage {
            Stage::Manifest { .. } if !self.questions.is_empty() || self.writes() > 0 => None,
            Stage::Manifest { number: None, .. } => Some((Part::Newest, 0)),
            Stage::Manifest {
                number: Some(number),
                bytes,
            } => Some((Part::Manifest { number: *number }, bytes.len() as u64)),
            Stage::Files(files) => {
                let listed = files.missing.front()?;
                let under_way = self.questions.len() + self.writes();
                let is_wanted = files.asked < bytes_of(listed) && under_way < CHUNKS_MAX;
                is_wanted.then_some((part_of(listed.file), files.asked))
            }
            Stage::Closing | Stage::Done => None,
        }
    }

    /// Operations that are not carried out yet, most of them writes.
    fn writes(&self) -> usize {
        self.operations.len() + usize::from(self.is_open)
    }

    /// Asks somebody else, a while later if all were asked.
    fn turn_to_next(&mut self, now_ns: u64) {
        self.questions.clear();
        if let Stage::Files(files) = &mut self.stage {
            files.asked = files.offset;
        }
        self.asked += 1;
        if self.asked.is_multiple_of(self.peers.len()) {
            self.not_before_ns = now_ns + PAUSE_NS;
        }
    }

    /// False if it is none.
    fn manifest_chunk(
        &mut self,
        now_ns: u64,
        from: ReplicaId,
        number: u64,
        total: u64,
        chunk: &[u8],
    ) -> Result<bool, FetchError> {
        let Stage::Manifest {
            number: known,
            bytes,
        } = &mut self.stage
        else {
            return Ok(false);
        };
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        if total > MANIFEST_BYTES_MAX || bytes.len() + chunk.len() > total || chunk.is_empty() {
            self.stage = Stage::begin();
            return Ok(false);
        }
        *known = Some(number);
        bytes.extend_from_slice(chunk);
        if bytes.len() < total {
            return Ok(true);
        }
        let manifest = Manifest::decode(bytes).ok().filter(|manifest| {
            manifest.number == number && manifest.check_owner(&self.binding).is_ok()
        });
        self.stage = Stage::begin();
        let Some(manifest) = manifest else {
            return Ok(false);
        };
        if manifest.slot < self.least {
            // No help, and no fault.
            self.turn_to_next(now_ns);
            return Ok(true);
        }
        self.begin_files(from, manifest)?;
        Ok(true)
    }

    fn begin_files(&mut self, from: ReplicaId, manifest: Manifest) -> Result<(), FetchError> {
        let mut missing = VecDeque::new();
        for listed in &manifest.files {
            match self.have.get(&listed.file) {
                Some(own) if own.content == listed.content => {}
                Some(own) => {
                    return Err(FetchError::Diverged {
                        file: listed.file,
                        own: own.content,
                        theirs: listed.content,
                        from,
                    });
                }
                None => missing.push_back(*listed),
            }
        }
        self.progress.number = manifest.number;
        self.stage = Stage::Files(Files {
            manifest,
            missing,
            asked: 0,
            offset: 0,
            sum: ContentSum::default(),
        });
        self.begin_file();
        Ok(())
    }

    /// Creates the next file that is missing; behind the last one the manifest is published.
    fn begin_file(&mut self) {
        let Stage::Files(files) = &mut self.stage else {
            unreachable!("a file is begun behind its manifest");
        };
        (files.asked, files.offset, files.sum) = (0, 0, ContentSum::default());
        self.progress.files_left = files.missing.len();
        match files.missing.front() {
            Some(next) => self
                .operations
                .push_back(Operation::Create { file: next.file }),
            None => self.close(),
        }
    }

    /// False if it is not what was written there.
    fn file_chunk(&mut self, chunk: &[u8]) -> bool {
        let Stage::Files(files) = &mut self.stage else {
            return false;
        };
        let listed = *files.missing.front().expect("it was asked for");
        let total = bytes_of(&listed);
        let offset = files.offset;
        let expected = (total - offset).min(CHUNK_BYTES as u64);
        if chunk.len() as u64 != expected {
            return false;
        }
        let mut sum = files.sum;
        let first = u32::try_from(offset / u64::from(BLOCK_BYTES)).expect("a file's block");
        for (block, bytes) in (first..).zip(chunk.chunks(BLOCK)) {
            let place = BlockRef {
                file: listed.file,
                block,
            };
            match decode_block(bytes, &self.binding, place) {
                // The sum is of all blocks but the footer, which comes last.
                Ok(found) if block + 1 < listed.blocks => sum.add(found.crc),
                Ok(_) => {}
                Err(_) if planted(Bug::ChunkUnchecked) => {}
                Err(_) => return false,
            }
        }
        let is_whole = offset + expected == total;
        if is_whole && sum.value() != listed.content && !planted(Bug::ChunkUnchecked) {
            // Each block is one of this file, and yet they are not the file that the manifest means.
            self.begin_file();
            return false;
        }
        (files.offset, files.sum) = (offset + expected, sum);
        self.operations.push_back(Operation::Write {
            file: listed.file,
            offset,
            bytes: chunk.to_vec(),
        });
        if is_whole {
            files.missing.pop_front();
            if planted(Bug::RebuildEndsEarly) {
                files.missing.clear();
            }
            self.have.insert(listed.file, listed);
            if !planted(Bug::RebuildNotSynced) {
                self.operations
                    .push_back(Operation::Sync { file: listed.file });
            }
            self.begin_file();
        }
        true
    }

    fn close(&mut self) {
        let stage = std::mem::replace(&mut self.stage, Stage::Closing);
        let Stage::Files(Files { manifest, .. }) = stage else {
            unreachable!("all files of a manifest are there");
        };
        self.operations.push_back(Operation::SyncDirectory);
        self.operations.push_back(Operation::Publish {
            generation: Generation::of(manifest.number),
            bytes: manifest.encode(),
        });
    }
}

impl Stage {
    fn begin() -> Self {
        Self::Manifest {
            number: None,
            bytes: Vec::new(),
        }
    }
}

fn part_of(file: FileId) -> Part {
    Part::File {
        kind: file.kind.code(),
        number: file.number,
    }
}

fn bytes_of(listed: &Listed) -> u64 {
    u64::from(listed.blocks) * u64::from(BLOCK_BYTES)
}

/// Whether a chunk of `found` can be the answer to a question for `asked`.
fn answers(asked: Part, found: Part) -> bool {
    match (asked, found) {
        (Part::Newest, Part::Manifest { .. }) => true,
        (Part::Newest, _) => false,
        (asked, found) => asked == found,
    }
}

const _: () = assert!(CHUNK_BYTES.is_multiple_of(BLOCK));
