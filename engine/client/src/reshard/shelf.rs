//! Where the cluster keeps plans: documents in the catalog of the first shard.
//!
//! ```text
//! "reshard" | 0                            the plan of now, or the last one: a `Record` as JSON
//! "reshard" | 1                            those before it, the oldest first: `[Record]` as JSON
//! "reshard" | 2                            what a cross-shard transfer costs: a `MeasuredCost` as JSON
//! "reshard" | 1 << 63 | drawn << 16 | n    moves of a plan, in order: account u128, source u32, target u32 each
//! ```
//!
//! A plan is begun in three steps, so that of two tools that begin at once one is told at its first write, and so that what
//! a tool leaves that died in between is known for what it is:
//!
//! | step | write | who dies behind it leaves |
//! | --- | --- | --- |
//! | 1 | the record, as `preparing`, over the one that was read | a plan that can only be aborted |
//! | 2 | the moves, under the number that the record names | the same; the next plan removes moves that no record names |
//! | 3 | the record, as `running` | a plan without a driver: `resume` |

use quorate_protocol::client::DocumentRow;
use quorate_protocol::ids::{AccountId, DocumentKey, ShardId};
use quorate_protocol::limits::{CATALOG_BYTES_MAX, DOCUMENT_BYTES_MAX};
use quorate_protocol::shard::catalog::{Document, PutAnswer};
use thiserror::Error;

use super::AccountMove;
use super::record::{Record, Status};
use crate::catalog::Catalog;
use crate::error::ClientError;
use crate::ulid::os_random;

/// The shard whose catalog it is.
pub const SHARD: ShardId = ShardId(1);
/// Records of plans that are over; their moves are kept for fewer.
pub const HISTORY_MAX: usize = 64;
/// The newest plans that had moves, the present one included, whose moves are kept: one of them can be undone.
pub const PLANS_KEPT: u64 = 4;

const NAME: u128 = 0x7265_7368_6172_6400 << 64;
const RECORD: DocumentKey = DocumentKey(NAME);
const HISTORY: DocumentKey = DocumentKey(NAME | 1);
pub(super) const COST: DocumentKey = DocumentKey(NAME | 2);
const MOVE_BYTES: usize = 24;
const MOVES_PER_CHUNK: usize = DOCUMENT_BYTES_MAX / MOVE_BYTES;
/// What moves may take of a catalog; the rest is for the records.
const MOVES_BYTES_MAX: usize = CATALOG_BYTES_MAX - (1 << 20);
/// Moves of one plan: beside them there is room for the plan that undoes it.
pub const MOVES_MAX: usize = MOVES_BYTES_MAX / 2 / MOVE_BYTES;

/// Why plans cannot be read or written.
#[derive(Debug, Error)]
pub enum ShelfError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("plan {0} is under way; wait for it, resume it or abort it")]
    UnderWay(u64),
    #[error("another tool has changed the plan meanwhile")]
    Changed,
    #[error("{0} moves are more than the {MOVES_MAX} of one plan; plan with --max-moves")]
    TooManyMoves(usize),
    #[error("the catalog of shard {SHARD} is full")]
    Full,
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

/// Where the next plan's record is written, as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The plan of now, or the last one.
    pub last: Option<Record>,
    /// Of that, or of its absence.
    pub version: u64,
}

/// The plan of now, or the last one.
///
/// # Errors
/// There is no answer, or it cannot be read.
pub fn current(catalog: &mut impl Catalog) -> Result<Option<Shelved>, ShelfError> {
    let Place { last, version } = place(catalog)?;
    Ok(last.map(|record| Shelved { record, version }))
}

/// The same with the version of what is not there.
///
/// # Errors
/// There is no answer, or it cannot be read.
pub fn place(catalog: &mut impl Catalog) -> Result<Place, ShelfError> {
    let document = catalog.document(RECORD)?;
    let record = match document.is_there() {
        false => None,
        true => Some(serde_json::from_slice(&document.bytes).map_err(unreadable)?),
    };
    Ok(Place {
        last: record,
        version: document.version,
    })
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
        PutAnswer::Full => Err(ShelfError::Full),
    }
}

/// Begins a plan over what was read at `place`: keeps its moves, puts the last one into the history, and makes `record` the
/// plan of now, with its number and its documents. What the caller has learnt since it read the place holds for the plan:
/// whoever began another in between has changed the place.
///
/// # Errors
/// Another plan is under way or has been since, the moves do not fit, or there is no answer.
pub fn begin(
    catalog: &mut impl Catalog,
    place: Place,
    mut record: Record,
    moves: &[AccountMove],
) -> Result<Shelved, ShelfError> {
    if moves.len() > MOVES_MAX {
        return Err(ShelfError::TooManyMoves(moves.len()));
    }
    let Place { last, version } = place;
    if let Some(last) = &last
        && !last.status.has_ended()
    {
        return Err(ShelfError::UnderWay(last.number));
    }
    record.number = last.as_ref().map_or(0, |last| last.number) + 1;
    record.chunks_named = os_random() >> 17;
    record.status = Status::Preparing;
    if let Some(last) = last {
        remember(catalog, last)?;
    }
    let begun = replace(catalog, version, record)?;
    // From here on nobody else begins a plan, so no moves are written but these.
    let written = make_room(catalog, &begun.record, moves.len() * MOVE_BYTES)
        .and_then(|()| write_moves(catalog, &begun.record, moves));
    let mut record = begun.record;
    match written {
        Ok(chunks) => {
            record.chunks = chunks;
            record.status = Status::Running;
            replace(catalog, begun.version, record)
        }
        Err(error) => {
            record.status = Status::Aborted;
            record.reason = Some(error.to_string());
            replace(catalog, begun.version, record)?;
            Err(error)
        }
    }
}

fn write_moves(
    catalog: &mut impl Catalog,
    record: &Record,
    moves: &[AccountMove],
) -> Result<u32, ShelfError> {
    let chunks = moves.chunks(MOVES_PER_CHUNK);
    let count = u32::try_from(chunks.len()).expect("far fewer");
    for (number, chunk) in (0..).zip(chunks) {
        let key = chunk_key(record.chunks_named, number);
        let version = catalog.document(key)?.version;
        match catalog.put_document(key, version, &encode(chunk))? {
            PutAnswer::Written { .. } => {}
            PutAnswer::Conflict { .. } => return Err(ShelfError::Changed),
            PutAnswer::Full => return Err(ShelfError::Full),
        }
    }
    Ok(count)
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

/// Removes moves that no record names, and those of the oldest plans that had some: all but [`PLANS_KEPT`], and more where `bytes` would
/// not fit beside them. Those of the plan that is undone stay.
fn make_room(catalog: &mut impl Catalog, next: &Record, bytes: usize) -> Result<(), ShelfError> {
    let records = history(catalog)?;
    let rows = catalog.documents()?;
    let length = |row: &DocumentRow| usize::try_from(row.bytes).expect("a u32 fits");
    let mut used: usize = rows.iter().map(length).sum();
    // A plan that had nothing to move must not cost another its way back.
    let with_moves = records.iter().rev().filter(|record| record.chunks > 0);
    let kept: Vec<u64> = with_moves
        .take(usize::try_from(PLANS_KEPT).expect("few") - 1)
        .map(|record| record.number)
        .collect();
    let order = |name: u64| {
        records
            .iter()
            .position(|record| record.chunks_named == name)
    };
    // Nameless ones first, then the oldest.
    let mut chunks: Vec<(Option<usize>, DocumentRow)> = rows
        .into_iter()
        .filter_map(|row| Some((order(name_of(row.key)?), row)))
        .collect();
    chunks.sort_unstable_by_key(|(order, row)| (*order, row.key));
    for (order, row) in chunks {
        let record = order.map(|order| &records[order]);
        let is_undone = record.is_some_and(|record| next.undoes == Some(record.number));
        let is_kept = record.is_some_and(|record| kept.contains(&record.number));
        let has_room = used + bytes <= MOVES_BYTES_MAX;
        let stays = is_undone || (is_kept && has_room);
        if !stays {
            catalog.put_document(row.key, row.version, &[])?;
            used -= length(&row);
        }
    }
    Ok(())
}

/// Adds a plan that is over. It is there once, however often that is tried, as it was told last: a driver may still be finishing
/// one that was aborted when another tool remembers it.
fn remember(catalog: &mut impl Catalog, record: Record) -> Result<(), ShelfError> {
    let document = catalog.document(HISTORY)?;
    let version = document.version;
    let mut records = remembered(&document)?;
    let age = |record: &Record| (record.ended_unix_ns, record.progress.settled());
    match records.iter_mut().find(|old| old.number == record.number) {
        Some(old) if age(old) >= age(&record) => return Ok(()),
        Some(old) => *old = record,
        None => records.push(record),
    }
    let surplus = records.len().saturating_sub(HISTORY_MAX);
    records.drain(..surplus);
    let bytes = serde_json::to_vec(&records).map_err(unreadable)?;
    match catalog.put_document(HISTORY, version, &bytes)? {
        PutAnswer::Written { .. } => Ok(()),
        PutAnswer::Conflict { .. } => Err(ShelfError::Changed),
        PutAnswer::Full => Err(ShelfError::Full),
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

    fn begin(
        catalog: &mut impl Catalog,
        record: Record,
        moves: &[AccountMove],
    ) -> Result<Shelved, ShelfError> {
        let place = place(catalog)?;
        super::begin(catalog, place, record, moves)
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

    /// Nothing was there, both had read that, and the record of the one that came later was written over the other's, which
    /// was being carried out: its version had been read behind its moves.
    #[test]
    fn of_two_tools_that_begin_at_once_one_is_told() {
        for plans_before in 0..2 {
            let mut catalog = Written::default();
            for _ in 0..plans_before {
                let begun = begin(&mut catalog, record(), &planned(3)).unwrap();
                end(&mut catalog, &begun);
            }
            // The other tool begins its plan between this one's reading and its first write.
            let mut racing = Racing {
                catalog,
                rival: Some(planned(2)),
            };
            let error = begin(&mut racing, record(), &planned(4)).unwrap_err();
            assert!(matches!(error, ShelfError::Changed), "{error}");
            let now = current(&mut racing.catalog).unwrap().unwrap();
            assert_eq!(now.record.status, Status::Running);
            assert_eq!(moves(&mut racing.catalog, &now.record).unwrap(), planned(2));
        }
    }

    /// Lets another plan begin before the first write.
    struct Racing {
        catalog: Written,
        rival: Option<Vec<AccountMove>>,
    }

    impl Catalog for Racing {
        fn document(&mut self, key: DocumentKey) -> Result<Document, ClientError> {
            self.catalog.document(key)
        }

        fn put_document(
            &mut self,
            key: DocumentKey,
            expected: u64,
            bytes: &[u8],
        ) -> Result<PutAnswer, ClientError> {
            if let Some(moves) = self.rival.take() {
                begin(&mut self.catalog, record(), &moves).unwrap();
            }
            self.catalog.put_document(key, expected, bytes)
        }

        fn documents(&mut self) -> Result<Vec<DocumentRow>, ClientError> {
            self.catalog.documents()
        }
    }

    /// Whoever applied a plan twice by mistake, and undid the empty one, and tried again, had lost the moves of the first.
    #[test]
    fn plans_without_moves_cost_no_other_its_way_back() {
        let mut catalog = Written::default();
        let first = begin(&mut catalog, record(), &planned(3)).unwrap();
        end(&mut catalog, &first);
        for _ in 0..2 * PLANS_KEPT {
            let empty = begin(&mut catalog, record(), &[]).unwrap();
            end(&mut catalog, &empty);
        }
        let second = begin(&mut catalog, record(), &planned(2)).unwrap();
        assert_eq!(moves(&mut catalog, &second.record).unwrap(), planned(2));
        assert_eq!(moves(&mut catalog, &first.record).unwrap(), planned(3));
    }

    /// A plan was aborted while its driver finished; a tool that began another in that moment put the unfinished record into the
    /// history, where it said for ever that nothing had moved, and could not be undone.
    #[test]
    fn the_history_has_a_plan_as_it_was_told_last() {
        let mut catalog = Written::default();
        let told = |moved: u64, ended_unix_ns| Record {
            number: 5,
            status: Status::Aborted,
            ended_unix_ns: Some(ended_unix_ns),
            progress: Progress {
                moved,
                ..Progress::default()
            },
            ..record()
        };
        for (moved, ended_unix_ns, kept) in [(0, 7, 0), (3, 7, 3), (9, 8, 9), (3, 7, 9)] {
            remember(&mut catalog, told(moved, ended_unix_ns)).unwrap();
            let records = history(&mut catalog).unwrap();
            let moved: Vec<u64> = records.iter().map(|it| it.progress.moved).collect();
            assert_eq!(moved, [kept]);
        }
    }

    /// The moves that it left filled the catalog, and no command could ever write a plan again.
    #[test]
    fn what_a_tool_left_that_died_is_removed_by_the_next_plan() {
        let mut catalog = Written::default();
        let begun = begin(&mut catalog, record(), &planned(3)).unwrap();
        end(&mut catalog, &begun);
        let left = chunk_key(77, 0);
        let version = catalog.document(left).unwrap().version;
        catalog
            .put_document(left, version, &encode(&planned(9)))
            .unwrap();
        let next = begin(&mut catalog, record(), &planned(4)).unwrap();
        assert!(!catalog.document(left).unwrap().is_there());
        assert_eq!(moves(&mut catalog, &begun.record).unwrap(), planned(3));
        assert_eq!(moves(&mut catalog, &next.record).unwrap(), planned(4));
    }

    #[test]
    fn a_large_plan_and_the_one_that_undoes_it_fit() {
        let mut catalog = Written::default();
        let most = u128::try_from(MOVES_MAX).unwrap();
        let begun = begin(&mut catalog, record(), &planned(1_000)).unwrap();
        end(&mut catalog, &begun);
        let large = begin(&mut catalog, record(), &planned(most)).unwrap();
        let large = end(&mut catalog, &large);
        let undo = Record {
            undoes: Some(large.record.number),
            ..record()
        };
        let undo = begin(&mut catalog, undo, &planned(most)).unwrap();
        assert_eq!(moves(&mut catalog, &large.record).unwrap().len(), MOVES_MAX);
        assert_eq!(moves(&mut catalog, &undo.record).unwrap().len(), MOVES_MAX);
        let bytes: u32 = catalog
            .documents()
            .unwrap()
            .iter()
            .map(|row| row.bytes)
            .sum();
        assert!(
            usize::try_from(bytes).unwrap() <= CATALOG_BYTES_MAX,
            "{bytes}"
        );
        end(&mut catalog, &undo);
        let error = begin(&mut catalog, record(), &planned(most + 1)).unwrap_err();
        assert!(matches!(error, ShelfError::TooManyMoves(_)), "{error}");
        assert_eq!(current(&mut catalog).unwrap().unwrap().record.number, 3);
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
