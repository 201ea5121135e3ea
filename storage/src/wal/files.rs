//! The files that recovery starts from: checked for owner, size and number, their headers read.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::recovery::RecoveryError;
use super::segment::{SegmentHeader, SegmentHeaderError, SegmentNumber, Walk};
use crate::bytes::zero_from;
use crate::superblock::{Identity, IdentityError, Seal};

/// The segments of one replica's log.
pub(super) struct Files<'a> {
    pub(super) identity: Identity,
    seal: Seal,
    pub(super) segments: BTreeMap<SegmentNumber, &'a [u8]>,
    /// Headers that are this log's and their segment's own.
    pub(super) headers: BTreeMap<SegmentNumber, SegmentHeader>,
    /// Where the zeros at the end of a segment begin, for those that were looked through: the end of a
    /// log asks it several times of the same prepared segments, and their zeros come from the disk.
    zero_from: RefCell<BTreeMap<SegmentNumber, usize>>,
}

impl<'a> Files<'a> {
    pub(super) fn new(
        files: &[(SegmentNumber, &'a [u8])],
        identity: Identity,
    ) -> Result<Self, RecoveryError> {
        let segments = collect(files, &identity)?;
        let headers = read_headers(&segments, &identity)?;
        Ok(Self {
            identity,
            seal: identity.seal(),
            segments,
            headers,
            zero_from: RefCell::default(),
        })
    }

    /// The oldest segment needed: the newest header knows. A header that landed with a torn flush
    /// counts: it is kept, and synced before anything is recycled. Without any header nothing was ever
    /// recycled, so the log begins at the beginning.
    pub(super) fn oldest(&self) -> Result<SegmentNumber, RecoveryError> {
        let first = self.segments.keys().next();
        let first = *first.ok_or(RecoveryError::NoSegments)?;
        match self.headers.values().next_back() {
            Some(newest) => Ok(newest.oldest),
            None if first == SegmentNumber::FIRST => Ok(first),
            None => Err(RecoveryError::Beginning { segment: first }),
        }
    }

    /// The last file.
    pub(super) fn last(&self) -> SegmentNumber {
        let last = self.segments.last_key_value();
        last.map_or(SegmentNumber::FIRST, |(segment, _)| *segment)
    }

    /// The highest flush number that a header tells of.
    pub(super) fn flush_max(&self) -> u64 {
        let flushes = self.headers.values().map(|header| header.flush);
        flushes.max().unwrap_or(0)
    }

    pub(super) fn bytes(&self, segment: SegmentNumber) -> &'a [u8] {
        self.segments.get(&segment).copied().unwrap_or(&[])
    }

    pub(super) fn walk(&self, segment: SegmentNumber) -> Option<Walk<'a>> {
        self.segments.get(&segment).map(|bytes| Walk {
            bytes,
            segment,
            seal: self.seal,
            zero_from: bytes.len(),
        })
    }

    /// Where the zeros that `segment` ends with begin.
    pub(super) fn zero_from(&self, segment: SegmentNumber) -> usize {
        let mut known = self.zero_from.borrow_mut();
        *known
            .entry(segment)
            .or_insert_with(|| zero_from(self.bytes(segment)))
    }

    /// All segments from `first` on, to be searched for whatever is in them.
    pub(super) fn walks_from(&self, first: SegmentNumber) -> impl Iterator<Item = Walk<'a>> + '_ {
        self.segments.range(first..).filter_map(|(segment, _)| {
            let walk = self.walk(*segment)?;
            let zero_from = self.zero_from(*segment);
            Some(Walk { zero_from, ..walk })
        })
    }

    /// Whether nothing was written under their numbers to any segment from `first` on: they are zeros,
    /// or recycled and still as their earlier life left them.
    pub(super) fn untouched_from(&self, first: SegmentNumber) -> bool {
        self.segments
            .range(first..)
            .all(|(segment, bytes)| match SegmentHeader::decode(bytes) {
                Ok(header) => header.segment < *segment,
                Err(_) => self.zero_from(*segment) == 0,
            })
    }
}

fn collect<'a>(
    files: &[(SegmentNumber, &'a [u8])],
    identity: &Identity,
) -> Result<BTreeMap<SegmentNumber, &'a [u8]>, RecoveryError> {
    let mut segments = BTreeMap::new();
    for (segment, bytes) in files {
        if !segment.is_possible() {
            return Err(RecoveryError::Number { segment: *segment });
        }
        if bytes.len() as u64 != identity.segment_bytes {
            return Err(RecoveryError::SegmentBytes {
                segment: *segment,
                found: bytes.len() as u64,
                expected: identity.segment_bytes,
            });
        }
        if segments.insert(*segment, *bytes).is_some() {
            return Err(RecoveryError::Duplicate { segment: *segment });
        }
    }
    Ok(segments)
}

/// The headers that say what their segment is. A header of another number is what a recycled segment
/// still holds from before; any other that cannot be read is left to the table.
fn read_headers(
    segments: &BTreeMap<SegmentNumber, &[u8]>,
    identity: &Identity,
) -> Result<BTreeMap<SegmentNumber, SegmentHeader>, RecoveryError> {
    let mut headers = BTreeMap::new();
    for (segment, bytes) in segments {
        match SegmentHeader::decode(bytes) {
            Ok(header) => {
                check_identity(&header.identity, identity).map_err(|error| {
                    RecoveryError::Identity {
                        segment: *segment,
                        error,
                    }
                })?;
                if header.segment == *segment {
                    headers.insert(*segment, header);
                }
            }
            Err(SegmentHeaderError::Version { found }) => {
                return Err(RecoveryError::Version {
                    segment: *segment,
                    found,
                });
            }
            Err(
                SegmentHeaderError::Blank
                | SegmentHeaderError::Short { .. }
                | SegmentHeaderError::Magic { .. }
                | SegmentHeaderError::Crc { .. }
                | SegmentHeaderError::Field { .. },
            ) => {}
        }
    }
    Ok(headers)
}

fn check_identity(found: &Identity, expected: &Identity) -> Result<(), IdentityError> {
    found.check(expected)?;
    if found.created_ns != expected.created_ns {
        return Err(IdentityError::Created {
            found: found.created_ns,
            expected: expected.created_ns,
        });
    }
    if found.segment_bytes != expected.segment_bytes {
        return Err(IdentityError::SegmentBytes {
            found: found.segment_bytes,
        });
    }
    Ok(())
}
