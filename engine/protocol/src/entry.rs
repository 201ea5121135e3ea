//! What one slot decides, for ever: a header and a batch of commands, as one run of words.
//!
//! ```text
//! header    32 bytes   origin u64 | timestamp u64 | epoch u32 | sections u32 | zero u64
//! section   16 bytes   kind u16 | zero u16 | rows u32 | words u32 | extra u32
//!           words * 16 bytes of records, their layout given by the kind
//! section   ...
//! ```
//!
//! The bytes are checked once, where they enter ([`Entry::from_words`]); afterwards every section is
//! known to be whole. The log and the `paxos::Accept` message carry these bytes unchanged, and a
//! re-proposal keeps them, origin included.

use alloc::vec::Vec;
use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ids::{AccountId, Ballot};
use crate::ledger::{Account, Transfer};
use crate::limits::ENTRY_BYTES_MAX;
use crate::shard::catalog::{self, DocumentHead, DocumentSection};
use crate::time::Timestamp;
use crate::txn::record::{
    AcknowledgedRow, CommitRow, MoveHead, MoveVersionRow, MovedAccountRow, PrepareRow,
    PreviousOwnerRow, RouteRow, TxnRow,
};
use crate::words::{Row, Word, Words};

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    origin: Ballot,
    timestamp: Timestamp,
    epoch: u32,
    sections: u32,
    zero: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SectionHeader {
    kind: u16,
    zero: u16,
    rows: u32,
    words: u32,
    extra: u32,
}

const _: () = assert!(size_of::<Header>() == 32 && size_of::<SectionHeader>() == 16);
const HEADER_WORDS: usize = 2;

/// Bytes of an entry without commands.
pub const ENTRY_HEADER_BYTES: usize = 32;
/// Bytes that a section costs beside its records.
pub const SECTION_HEADER_BYTES: usize = 16;

/// The commands of one kind in one entry. They take effect in the order of their sections, and
/// inside a section in the order of its records.
#[derive(Clone, Copy, Debug)]
pub enum Section<'a> {
    /// Create accounts whose default home is this shard.
    CreateAccounts(&'a [Account]),
    /// Transfers with both accounts on this shard.
    Transfers(&'a [Transfer]),
    /// 2PC at the participant: validate and reserve; the vote is the apply result.
    Prepare(&'a [PrepareRow]),
    /// 2PC at the coordinator: the apply decides.
    Commit(&'a [CommitRow]),
    /// 2PC at the participant: post or drop what was prepared (transfers and moves).
    Resolve(&'a [TxnRow]),
    /// A batch of accounts arrives at its target: staged, invisible.
    PrepareMove(MoveSection<'a>),
    /// A batch of accounts leaves its source, if nothing has touched it.
    CommitMove {
        head: &'a MoveHead,
        accounts: &'a [MoveVersionRow],
    },
    /// A consistent cut at `at` is announced; the entry's timestamp lies below it.
    CutRegister { at: Timestamp },
    /// The cut at `at` is passed; the entry's timestamp lies above it.
    CutPass { at: Timestamp },
    /// 2PC at the coordinator: participants have resolved what they prepared.
    Acknowledged(&'a [AcknowledgedRow]),
    /// A document of the shard's catalog is written, if it has the version that is expected.
    PutDocument(DocumentSection<'a>),
    /// At the home of accounts: former owners have said where they went from there.
    Forward(&'a [RouteRow]),
    /// At a former owner: the homes know as much as these stubs say.
    DropStubs(&'a [RouteRow]),
}

/// The parts of [`Section::PrepareMove`].
#[derive(Clone, Copy, Debug)]
pub struct MoveSection<'a> {
    pub head: &'a MoveHead,
    pub accounts: &'a [MovedAccountRow],
    pub owners: &'a [PreviousOwnerRow],
}

const KIND_CREATE_ACCOUNTS: u16 = 1;
const KIND_TRANSFERS: u16 = 2;
const KIND_PREPARE: u16 = 3;
const KIND_COMMIT: u16 = 4;
const KIND_RESOLVE: u16 = 5;
const KIND_PREPARE_MOVE: u16 = 6;
const KIND_COMMIT_MOVE: u16 = 7;
const KIND_CUT_REGISTER: u16 = 8;
const KIND_CUT_PASS: u16 = 9;
const KIND_ACKNOWLEDGED: u16 = 10;
const KIND_PUT_DOCUMENT: u16 = 11;
const KIND_FORWARD: u16 = 12;
const KIND_DROP_STUBS: u16 = 13;

/// Why bytes are not an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryError {
    /// Shorter than a header, or longer than [`ENTRY_BYTES_MAX`].
    Length { bytes: usize },
    /// A reserved field is not zero.
    Reserved { section: u32 },
    /// No such kind of section.
    Kind { section: u32, kind: u16 },
    /// The section's length does not agree with its record count, or leaves the entry.
    Section { section: u32, rows: u32, words: u32 },
    /// Words behind the last section.
    Trailing { words: usize },
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { bytes } => write!(f, "{bytes} bytes cannot be an entry"),
            Self::Reserved { section } => write!(f, "section {section}: reserved field set"),
            Self::Kind { section, kind } => write!(f, "section {section}: unknown kind {kind}"),
            Self::Section {
                section,
                rows,
                words,
            } => {
                write!(
                    f,
                    "section {section}: {rows} rows do not fill {words} words"
                )
            }
            Self::Trailing { words } => write!(f, "{words} words behind the last section"),
        }
    }
}

impl core::error::Error for EntryError {}

/// An immutable, shared entry. Cloning copies a pointer.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry(Words);

impl Entry {
    /// Checks the bytes of an entry that came from a peer or a disk.
    pub fn from_words(words: Words) -> Result<Self, EntryError> {
        let bytes = words.as_bytes().len();
        if !(ENTRY_HEADER_BYTES..=ENTRY_BYTES_MAX).contains(&bytes) {
            return Err(EntryError::Length { bytes });
        }
        let header = header(words.as_slice());
        // Only a hole-filling no-op has no origin: a command without one would pass every fence.
        if header.zero != 0 || (header.origin == Ballot::ZERO && header.sections != 0) {
            return Err(EntryError::Reserved { section: 0 });
        }
        let mut rest = &words.as_slice()[HEADER_WORDS..];
        for section in 0..header.sections {
            let (_, behind) = split_section(rest, section)?;
            rest = behind;
        }
        if !rest.is_empty() {
            return Err(EntryError::Trailing { words: rest.len() });
        }
        Ok(Self(words))
    }

    /// An entry without commands: fills a hole, or is a new leader's first.
    #[must_use]
    pub fn noop(origin: Ballot, timestamp: Timestamp) -> Self {
        EntryBuilder::new().finish(origin, timestamp, 0)
    }

    /// The ballot of the entry's first proposal.
    #[must_use]
    pub fn origin(&self) -> Ballot {
        header(self.0.as_slice()).origin
    }

    /// The leader's timestamp.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        header(self.0.as_slice()).timestamp
    }

    /// The shard-map epoch under which it was proposed.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        header(self.0.as_slice()).epoch
    }

    /// The bytes.
    #[must_use]
    pub fn words(&self) -> &Words {
        &self.0
    }

    /// Length in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.as_bytes().len()
    }

    /// Whether it carries no commands.
    #[must_use]
    pub fn is_noop(&self) -> bool {
        header(self.0.as_slice()).sections == 0
    }

    /// The commands, in order.
    pub fn sections(&self) -> impl Iterator<Item = Section<'_>> {
        let words = self.0.as_slice();
        let mut rest = &words[HEADER_WORDS..];
        (0..header(words).sections).map(move |number| {
            let (section, behind) = split_section(rest, number).expect("checked by from_words");
            rest = behind;
            section
        })
    }

    /// The accounts whose rows are read when it is applied, as often as they occur; without those of what is
    /// in doubt, which are in memory anyway.
    pub fn for_each_account(&self, mut touch: impl FnMut(AccountId)) {
        for section in self.sections() {
            match section {
                Section::Transfers(rows) => rows.iter().for_each(|row| {
                    touch(row.debit_account_id);
                    touch(row.credit_account_id);
                }),
                Section::Commit(rows) => {
                    rows.iter()
                        .for_each(|row| touch(row.transfer.debit_account_id));
                }
                Section::Prepare(rows) => {
                    rows.iter()
                        .for_each(|row| touch(row.transfer.credit_account_id));
                }
                Section::CreateAccounts(rows) => rows.iter().for_each(|row| touch(row.id)),
                Section::PrepareMove(parts) => {
                    parts.accounts.iter().for_each(|row| touch(row.account.id));
                }
                Section::CommitMove { accounts, .. } => {
                    accounts.iter().for_each(|row| touch(row.account));
                }
                Section::Resolve(_)
                | Section::Acknowledged(_)
                | Section::CutRegister { .. }
                | Section::CutPass { .. }
                | Section::PutDocument(_)
                | Section::Forward(_)
                | Section::DropStubs(_) => {}
            }
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = header(self.0.as_slice());
        write!(
            f,
            "Entry(origin {:?}, ts {}, {} sections, {} bytes)",
            header.origin,
            header.timestamp.0,
            header.sections,
            self.bytes()
        )
    }
}

fn header(words: &[Word]) -> Header {
    Header::read_from_bytes(words[..HEADER_WORDS].as_bytes()).expect("entries hold a header")
}

fn split_section(words: &[Word], section: u32) -> Result<(Section<'_>, &[Word]), EntryError> {
    let whole = |rows, words| EntryError::Section {
        section,
        rows,
        words,
    };
    let (first, rest) = words.split_first().ok_or(whole(0, 0))?;
    let head = SectionHeader::read_from_bytes(&first.0).expect("one word");
    let error = whole(head.rows, head.words);
    if head.zero != 0 || head.extra != 0 {
        return Err(EntryError::Reserved { section });
    }
    let length = usize::try_from(head.words).map_err(|_| error)?;
    if length > rest.len() {
        return Err(error);
    }
    let (body, behind) = rest.split_at(length);
    let rows = usize::try_from(head.rows).map_err(|_| error)?;
    let bytes = body.as_bytes();
    let parsed = match head.kind {
        KIND_CREATE_ACCOUNTS => Section::CreateAccounts(rows_of(bytes, rows).ok_or(error)?),
        KIND_TRANSFERS => Section::Transfers(rows_of(bytes, rows).ok_or(error)?),
        KIND_PREPARE => Section::Prepare(rows_of(bytes, rows).ok_or(error)?),
        KIND_COMMIT => Section::Commit(rows_of(bytes, rows).ok_or(error)?),
        KIND_RESOLVE => Section::Resolve(rows_of(bytes, rows).ok_or(error)?),
        KIND_ACKNOWLEDGED => Section::Acknowledged(rows_of(bytes, rows).ok_or(error)?),
        KIND_FORWARD => Section::Forward(rows_of(bytes, rows).ok_or(error)?),
        KIND_DROP_STUBS => Section::DropStubs(rows_of(bytes, rows).ok_or(error)?),
        KIND_PREPARE_MOVE => Section::PrepareMove(MoveSection::parse(bytes).ok_or(error)?),
        KIND_COMMIT_MOVE => {
            let (head, rest) = MoveHead::ref_from_prefix(bytes).map_err(|_| error)?;
            let accounts =
                rows_of(rest, usize::try_from(head.accounts).map_err(|_| error)?).ok_or(error)?;
            Section::CommitMove { head, accounts }
        }
        KIND_PUT_DOCUMENT => Section::PutDocument(DocumentSection::parse(bytes).ok_or(error)?),
        KIND_CUT_REGISTER | KIND_CUT_PASS => {
            let [word] = body else { return Err(error) };
            let at = Timestamp(u64::from_le_bytes(
                word.0[..8].try_into().expect("8 of 16 bytes"),
            ));
            if head.kind == KIND_CUT_REGISTER {
                Section::CutRegister { at }
            } else {
                Section::CutPass { at }
            }
        }
        kind => return Err(EntryError::Kind { section, kind }),
    };
    Ok((parsed, behind))
}

fn rows_of<T: Row>(bytes: &[u8], rows: usize) -> Option<&[T]> {
    let parsed = <[T]>::ref_from_bytes(bytes).ok()?;
    (parsed.len() == rows).then_some(parsed)
}

impl<'a> MoveSection<'a> {
    /// Reads the bytes of a move: head, accounts, previous owners. `None` if they do not fit.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = MoveHead::ref_from_prefix(bytes).ok()?;
        let accounts = usize::try_from(head.accounts).ok()?;
        let length = accounts.checked_mul(size_of::<MovedAccountRow>())?;
        let (accounts_bytes, owners_bytes) = rest.split_at_checked(length)?;
        Some(Self {
            head,
            accounts: rows_of(accounts_bytes, accounts)?,
            owners: rows_of(owners_bytes, usize::try_from(head.owners).ok()?)?,
        })
    }

    /// The same as one run of words, for a message.
    #[must_use]
    pub fn to_words(&self) -> Words {
        let mut words = Vec::new();
        push_rows(&mut words, core::slice::from_ref(self.head));
        push_rows(&mut words, self.accounts);
        push_rows(&mut words, self.owners);
        Words::from_vec(words)
    }
}

fn push_rows<T: Row>(words: &mut Vec<Word>, rows: &[T]) {
    words.extend_from_slice(
        <[Word]>::ref_from_bytes(rows.as_bytes()).expect("records are aligned whole words"),
    );
}

/// Collects the commands of an entry.
#[derive(Debug)]
pub struct EntryBuilder {
    words: Vec<Word>,
    sections: u32,
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_le_bytes(self.0))
    }
}

impl Default for EntryBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl EntryBuilder {
    /// An entry without commands.
    #[must_use]
    pub fn new() -> Self {
        Self {
            words: alloc::vec![Word::default(); HEADER_WORDS],
            sections: 0,
        }
    }

    /// The same with room for so many bytes, header included: nothing is copied while it grows to that.
    #[must_use]
    pub fn with_room(bytes: usize) -> Self {
        let mut words = Vec::with_capacity(bytes.div_ceil(size_of::<Word>()));
        words.resize(HEADER_WORDS, Word::default());
        Self { words, sections: 0 }
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.words.len() * size_of::<Word>()
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sections == 0
    }

    pub fn create_accounts(&mut self, rows: &[Account]) {
        self.section(KIND_CREATE_ACCOUNTS, rows);
    }

    pub fn transfers(&mut self, rows: &[Transfer]) {
        self.section(KIND_TRANSFERS, rows);
    }

    pub fn prepare(&mut self, rows: &[PrepareRow]) {
        self.section(KIND_PREPARE, rows);
    }

    pub fn commit(&mut self, rows: &[CommitRow]) {
        self.section(KIND_COMMIT, rows);
    }

    pub fn resolve(&mut self, rows: &[TxnRow]) {
        self.section(KIND_RESOLVE, rows);
    }

    pub fn acknowledged(&mut self, rows: &[AcknowledgedRow]) {
        self.section(KIND_ACKNOWLEDGED, rows);
    }

    pub fn forward(&mut self, rows: &[RouteRow]) {
        self.section(KIND_FORWARD, rows);
    }

    pub fn drop_stubs(&mut self, rows: &[RouteRow]) {
        self.section(KIND_DROP_STUBS, rows);
    }

    pub fn prepare_move(&mut self, parts: MoveSection<'_>) {
        let at = self.words.len();
        self.words.push(Word::default());
        push_rows(&mut self.words, core::slice::from_ref(parts.head));
        push_rows(&mut self.words, parts.accounts);
        push_rows(&mut self.words, parts.owners);
        self.close(at, KIND_PREPARE_MOVE, 1);
    }

    pub fn commit_move(&mut self, head: &MoveHead, accounts: &[MoveVersionRow]) {
        let at = self.words.len();
        self.words.push(Word::default());
        push_rows(&mut self.words, core::slice::from_ref(head));
        push_rows(&mut self.words, accounts);
        self.close(at, KIND_COMMIT_MOVE, 1);
    }

    pub fn put_document(&mut self, head: &DocumentHead, bytes: &[u8]) {
        let at = self.words.len();
        self.words.push(Word::default());
        catalog::push_section(&mut self.words, head, bytes);
        self.close(at, KIND_PUT_DOCUMENT, 1);
    }

    pub fn cut_register(&mut self, at: Timestamp) {
        self.cut(KIND_CUT_REGISTER, at);
    }

    pub fn cut_pass(&mut self, at: Timestamp) {
        self.cut(KIND_CUT_PASS, at);
    }

    /// Writes the header and closes the entry.
    #[must_use]
    pub fn finish(mut self, origin: Ballot, timestamp: Timestamp, epoch: u32) -> Entry {
        let header = Header {
            origin,
            timestamp,
            epoch,
            sections: self.sections,
            zero: 0,
        };
        self.words[..HEADER_WORDS]
            .as_mut_bytes()
            .copy_from_slice(header.as_bytes());
        // It lives as long as the log needs it.
        if self.words.capacity() > 2 * self.words.len() {
            self.words.shrink_to_fit();
        }
        let entry = Entry(Words::from_vec(self.words));
        assert!(
            entry.bytes() <= ENTRY_BYTES_MAX,
            "entry of {} bytes",
            entry.bytes()
        );
        entry
    }

    fn section<T: Row>(&mut self, kind: u16, rows: &[T]) {
        assert!(!rows.is_empty());
        let at = self.words.len();
        self.words.push(Word::default());
        push_rows(&mut self.words, rows);
        self.close(at, kind, rows.len());
    }

    fn cut(&mut self, kind: u16, at: Timestamp) {
        let start = self.words.len();
        self.words.push(Word::default());
        let mut word = Word::default();
        word.0[..8].copy_from_slice(at.as_bytes());
        self.words.push(word);
        self.close(start, kind, 1);
    }

    fn close(&mut self, at: usize, kind: u16, rows: usize) {
        let words = self.words.len() - at - 1;
        let header = SectionHeader {
            kind,
            zero: 0,
            rows: u32::try_from(rows).expect("bounded by the entry size"),
            words: u32::try_from(words).expect("bounded by the entry size"),
            extra: 0,
        };
        self.words[at].0.copy_from_slice(header.as_bytes());
        self.sections += 1;
    }
}
