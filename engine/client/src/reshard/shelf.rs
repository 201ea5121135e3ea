//! Where the cluster keeps plans: documents in the catalog of the first shard.
//!
//! ```text
//! "reshard" | 0                            the plan of now, or the last one: a `Record` as JSON
//! "reshard" | 1                            those before it, the oldest first: `[Record]` as JSON
//! "reshard" | 1 << 63 | drawn << 16 | n    moves of a plan, in order: account u128, source u32, target u32 each
//! ```
//!
//! The record is written last: a plan that it names is there with all its moves. Two tools that begin at once write
//! different documents, and one record. Moves that no record names, of a tool that died or came too late, are removed
//! once there is a newer record: those of a tool that is about to write one are newer than every record.

use quorate_protocol::ids::{AccountId, DocumentKey, ShardId};
use quorate_protocol::limits::DOCUMENT_BYTES_MAX;
use quorate_protocol::shard::catalog::{Document, PutAnswer};
use thiserror::Error;

use super::AccountMove;
use super::record::Record;
use crate::catalog::Catalog;
use crate::error::ClientError;
use crate::ulid::os_random;

/// The shard whose catalog it is.
pub const SHARD: ShardId = ShardId(1);
/// Records of plans that are over; their moves are kept for fewer.
pub const HISTORY_MAX: usize = 64;
/// The newest plans, the present one included, whose moves are kept: one of them can be undone.
pub const PLANS_KEPT: u64 = 4;

const NAME: u128 = 0x7265_7368_6172_6400 << 64;
const RECORD: DocumentKey = DocumentKey(NAME);
const HISTORY: DocumentKey = DocumentKey(NAME | 1);
const MOVE_BYTES: usize = 24;
const MOVES_PER_CHUNK: usize = DOCUMENT_BYTES_MAX / MOVE_BYTES;

/// Why plans cannot be read or written.
#[derive(Debug, Error)]
pub enum ShelfError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("plan {0} is under way; wait for it, resume it or abort it")]
    UnderWay(u64),
    #[error("another tool has changed the plan meanwhile")]
    Changed,
    #[error("{0} moves do not fit beside the plans that are kept")]
    TooManyMoves(usize),
    #[error("there is no plan")]
    Nothing,
    #[error("the moves of plan {0} are not kept any more")]
    MovesGone(u64),
    #[error("what the cluster keeps of plans cannot be read: {0}")]
    Unreadable(String),
}

/// A record with its version.
#[derive(Clone, Debug, PartialEq)]
pub struct Shelved {
    pub record: Record,
    pub version: u64,
}

/// The plan of now, or the last one.
///
/// # Errors
/// There is no answer, or it cannot be read.
pub fn current(catalog: &mut impl Catalog) -> Result<Option<Shelved>, ShelfError> {
    let document = catalog.document(RECORD)?;
    if !document.is_there() {
        return Ok(None);
    }
    let record = serde_json::from_slice(&document.bytes).map_err(unreadable)?;
    Ok(Some(Shelved {
        record,
        version: document.version,
    }))
}

/// Writes the record over the one that was read.
///
/// # Errors
/// There is no answer, or another tool has written it in between: [`ShelfError::Changed`].
pub fn replace(
    catalog: &mut impl Catalog,
    version: u64,
    record: Record,
) -> Result<Shelved, ShelfError> {
    let bytes = serde_json::to_vec(&record).map_err(unreadable)?;
    match catalog.put_document(RECORD, version, &bytes)? {
        PutAnswer::Written { version } => Ok(Shelved { record, version }),
        PutAnswer::Conflict { .. } => Err(ShelfError::Changed),
        PutAnswer::Full => Err(ShelfError::TooManyMoves(0)),
    }
}

/// Begins a plan: keeps its moves, puts the last one into the history, and makes `record` the plan of now, with its number
/// and its count of documents.
///
/// # Errors
/// Another plan is under way, the moves do not fit, or there is no answer.
pub fn begin(
    catalog: &mut impl Catalog,
    mut record: Record,
    moves: &[AccountMove],
) -> Result<Shelved, ShelfError> {
    let last = current(catalog)?;
    if let Some(last) = &last
        && !last.record.status.has_ended()
    {
        return Err(ShelfError::UnderWay(last.record.number));
    }
    record.number = last.as_ref().map_or(0, |last| last.record.number) + 1;
    record.chunks_named = os_random() >> 17;
    if let Some(last) = &last {
        forget_moves(catalog, last)?;
    }
    let chunks = moves.chunks(MOVES_PER_CHUNK);
    record.chunks = u32::try_from(chunks.len()).expect("far fewer");
    for (number, chunk) in (0..).zip(chunks) {
        let key = chunk_key(record.chunks_named, number);
        let version = catalog.document(key)?.version;
        match catalog.put_document(key, version, &encode(chunk))? {
            PutAnswer::Written { .. } => {}
            PutAnswer::Conflict { .. } => return Err(ShelfError::Changed),
            PutAnswer::Full => return Err(ShelfError::TooManyMoves(moves.len())),
        }
    }
    match last {
        Some(last) => {
            remember(catalog, last.record)?;
            replace(catalog, last.version, record)
        }
        None => {
            let version = catalog.document(RECORD)?.version;
            replace(catalog, version, record)
        }
    }
}

/// All plans that are remembered, the oldest first; the last one is [`current`].
///
/// # Errors
/// There is no answer, or it cannot be read.
pub fn history(catalog: &mut impl Catalog) -> Result<Vec<Record>, ShelfError> {
    let mut records = remembered(&catalog.document(HISTORY)?)?;
    let last = current(catalog)?.map(|last| last.record);
    let is_last = |record: &Record| {
        last.as_ref()
            .is_some_and(|last| last.number == record.number)
    };
    records.retain(|record| !is_last(record));
    records.extend(last);
    Ok(records)
}

/// The moves of a plan, in order.
///
/// # Errors
/// They are not kept any more, there is no answer, or it cannot be read.
pub fn moves(catalog: &mut impl Catalog, record: &Record) -> Result<Vec<AccountMove>, ShelfError> {
    let mut moves = Vec::new();
    for number in 0..record.chunks {
        let key = chunk_key(record.chunks_named, number);
        let document = catalog.document(key)?;
        if !document.is_there() {
            return Err(ShelfError::MovesGone(record.number));
        }
        let chunk = decode(&document.bytes);
        moves.extend(chunk.ok_or_else(|| unreadable("moves of no whole length"))?);
    }
    Ok(moves)
}

/// Removes the moves of plans that are too old to be undone once there is one more, and those that no record names.
fn forget_moves(catalog: &mut impl Catalog, last: &Shelved) -> Result<(), ShelfError> {
    let records = history(catalog)?;
    let is_kept = |record: &&Record| record.number + PLANS_KEPT > last.record.number + 1;
    let kept: Vec<u64> = records
        .iter()
        .filter(is_kept)
        .map(|record| record.chunks_named)
        .collect();
    for row in catalog.documents()? {
        let is_named = |name: u64| kept.contains(&name);
        let is_old = row.version < last.version;
        if is_old && name_of(row.key).is_some_and(|name| !is_named(name)) {
            catalog.put_document(row.key, row.version, &[])?;
        }
    }
    Ok(())
}

/// Adds a plan that is over. It is there once, however often that is tried.
fn remember(catalog: &mut impl Catalog, record: Record) -> Result<(), ShelfError> {
    let document = catalog.document(HISTORY)?;
    let version = document.version;
    let mut records = remembered(&document)?;
    if records.iter().any(|old| old.number == record.number) {
        return Ok(());
    }
    records.push(record);
    let surplus = records.len().saturating_sub(HISTORY_MAX);
    records.drain(..surplus);
    let bytes = serde_json::to_vec(&records).map_err(unreadable)?;
    match catalog.put_document(HISTORY, version, &bytes)? {
        PutAnswer::Written { .. } => Ok(()),
        PutAnswer::Conflict { .. } | PutAnswer::Full => Err(ShelfError::Changed),
    }
}

fn remembered(document: &Document) -> Result<Vec<Record>, ShelfError> {
    match document.is_there() {
        false => Ok(Vec::new()),
        true => serde_json::from_slice(&document.bytes).map_err(unreadable),
    }
}

fn chunk_key(name: u64, chunk: u32) -> DocumentKey {
    DocumentKey(NAME | 1 << 63 | u128::from(name) << 16 | u128::from(chunk))
}

/// The number that was drawn for the moves of a plan, if a document has some.
fn name_of(key: DocumentKey) -> Option<u64> {
    let is_chunk = key.0 >> 63 == NAME >> 63 | 1;
    is_chunk.then(|| u64::try_from(key.0 >> 16 & ((1 << 47) - 1)).expect("47 bits"))
}

fn encode(moves: &[AccountMove]) -> Vec<u8> {
    let rows = moves.iter().flat_map(|planned| {
        let account = planned.account.0.to_le_bytes();
        let source = planned.source.0.to_le_bytes();
        let target = planned.target.0.to_le_bytes();
        account.into_iter().chain(source).chain(target)
    });
    rows.collect()
}

fn decode(bytes: &[u8]) -> Option<Vec<AccountMove>> {
    let rows = bytes.chunks(MOVE_BYTES).map(|row| {
        let (account, shards) = row.split_first_chunk()?;
        let (source, target) = shards.split_first_chunk()?;
        Some(AccountMove {
            account: AccountId(u128::from_le_bytes(*account)),
            source: ShardId(u32::from_le_bytes(*source)),
            target: ShardId(u32::from_le_bytes(target.try_into().ok()?)),
        })
    });
    rows.collect()
}

fn unreadable(why: impl ToString) -> ShelfError {
    ShelfError::Unreadable(why.to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::super::record::{Progress, Status, Traffic};
    use super::*;
    use quorate_protocol::client::DocumentRow;

    /// A catalog in memory, by the table of `quorate_protocol::shard::catalog`.
    #[derive(Debug, Default)]
    pub struct Written {
        documents: BTreeMap<DocumentKey, Document>,
        writes: u64,
        removed: u64,
    }

    impl Catalog for Written {
        fn document(&mut self, key: DocumentKey) -> Result<Document, ClientError> {
            let there = self.documents.get(&key).cloned();
            Ok(there.unwrap_or(Document {
                version: self.removed,
                bytes: Vec::new(),
            }))
        }

        fn put_document(
            &mut self,
            key: DocumentKey,
            expected: u64,
            bytes: &[u8],
        ) -> Result<PutAnswer, ClientError> {
            let version = self.document(key)?.version;
            if version != expected {
                return Ok(PutAnswer::Conflict { version });
            }
            self.writes += 1;
            let version = self.writes;
            let bytes = bytes.to_vec();
            if bytes.is_empty() {
                self.documents.remove(&key);
                self.removed = version;
            } else {
                self.documents.insert(key, Document { version, bytes });
            }
            Ok(PutAnswer::Written { version })
        }

        fn documents(&mut self) -> Result<Vec<DocumentRow>, ClientError> {
            let rows = self.documents.iter().map(|(&key, document)| DocumentRow {
                key,
                version: document.version,
                bytes: u32::try_from(document.bytes.len()).unwrap(),
            });
            Ok(rows.collect())
        }
    }

    pub fn record() -> Record {
        Record {
            number: 0,
            undoes: None,
            status: Status::Running,
            reason: None,
            created_unix_ns: 7,
            ended_unix_ns: None,
            predicted: None,
            before: Traffic::default(),
            moves: 0,
            chunks: 0,
            chunks_named: 0,
            progress: Progress::default(),
            driver: None,
            windows_after: Vec::new(),
        }
    }

    fn planned(accounts: u128) -> Vec<AccountMove> {
        let moves = (1..=accounts).map(|account| AccountMove {
            account: AccountId(account << 64 | account),
            source: ShardId(1),
            target: ShardId(3),
        });
        moves.collect()
    }

    fn end(catalog: &mut Written, begun: &Shelved) -> Shelved {
        let ended = Record {
            status: Status::Done,
            ..begun.record.clone()
        };
        replace(catalog, begun.version, ended).unwrap()
    }

    #[test]
    fn a_plan_is_kept_with_its_moves_and_only_one_is_under_way() {
        let mut catalog = Written::default();
        assert_eq!(current(&mut catalog).unwrap(), None);
        let moves_of_it = planned(25_000);
        let begun = begin(&mut catalog, record(), &moves_of_it).unwrap();
        assert_eq!((begun.record.number, begun.record.chunks), (1, 3));
        assert_eq!(current(&mut catalog).unwrap().as_ref(), Some(&begun));
        assert_eq!(moves(&mut catalog, &begun.record).unwrap(), moves_of_it);
        let refused = begin(&mut catalog, record(), &planned(1)).unwrap_err();
        assert!(matches!(refused, ShelfError::UnderWay(1)), "{refused}");
        assert_eq!(moves(&mut catalog, &begun.record).unwrap(), moves_of_it);
    }

    /// Both wrote the moves of "plan 1" under the same names: one won the record, the other the moves.
    #[test]
    fn two_tools_that_begin_at_once_do_not_mix_their_moves() {
        let mut catalog = Written::default();
        let begun = begin(&mut catalog, record(), &planned(3)).unwrap();
        let ended = end(&mut catalog, &begun);
        // The late one has read that nothing is under way, and dies behind its moves.
        let late = chunk_key(77, 0);
        catalog.put_document(late, 0, &encode(&planned(9))).unwrap();
        let second = begin(&mut catalog, record(), &planned(4)).unwrap();
        assert_eq!(moves(&mut catalog, &second.record).unwrap(), planned(4));
        assert!(
            catalog.document(late).unwrap().is_there(),
            "it may yet come"
        );
        assert_ne!(ended.record.chunks_named, second.record.chunks_named);
        end(&mut catalog, &second);
        begin(&mut catalog, record(), &planned(5)).unwrap();
        assert!(!catalog.document(late).unwrap().is_there());
    }

    #[test]
    fn who_writes_over_what_was_not_read_is_told() {
        let mut catalog = Written::default();
        let begun = begin(&mut catalog, record(), &[]).unwrap();
        end(&mut catalog, &begun);
        let late = replace(&mut catalog, begun.version, record()).unwrap_err();
        assert!(matches!(late, ShelfError::Changed), "{late}");
    }

    #[test]
    fn the_history_has_every_plan_once_and_the_moves_of_the_newest() {
        let mut catalog = Written::default();
        let mut ended = Vec::new();
        for accounts in 1..=6 {
            let begun = begin(&mut catalog, record(), &planned(accounts)).unwrap();
            ended.push(end(&mut catalog, &begun).record);
        }
        let old = history(&mut catalog).unwrap();
        assert_eq!(old, ended);
        for (record, accounts) in ended.iter().zip(1..) {
            match moves(&mut catalog, record) {
                Ok(moves) => {
                    assert!(record.number > 2);
                    assert_eq!(moves, planned(accounts));
                }
                Err(error) => {
                    assert!(record.number <= 2, "{error}");
                    assert!(matches!(error, ShelfError::MovesGone(_)), "{error}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_and_not_taken_for_nothing() {
        let mut catalog = Written::default();
        catalog.put_document(RECORD, 0, b"{}").unwrap();
        let error = current(&mut catalog).unwrap_err();
        assert!(error.to_string().contains("missing field"), "{error}");
    }
}
