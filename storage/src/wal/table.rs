//! The recovery table: what was seen at one place of the log, and the one row that says what it is.
//!
//! | row | seen here | seen beyond | verdict |
//! | --- | --- | --- | --- |
//! | `NextRecord` | a frame that continues the chain | - | taken |
//! | `DuplicateSlot` | the same, for a slot that has a record of an equal or lower ballot | - | taken, replaces it |
//! | `LowerDuplicate` | the same, the slot's record has a higher ballot | - | taken, the higher one stays |
//! | `NextSegment` | the next segment's header continues the chain | - | its frames come next |
//! | `PromiseBelowBallot` | the same, but its promise in force is below its ballot or the promise before | - | damage, unnamed |
//! | `WildSlot` | the same, its slot is too far from all others | - | damage, named |
//! | `ChainBroken` | the next frame by number, but not the one that followed | - | damage, unnamed |
//! | `MissingSegment` | a segment file is absent, a later one is not | - | damage, unnamed |
//! | `BadSegmentHeader` | the next frame, behind a rotten segment header | a later flush | damage, nothing lost |
//! | `CorruptPayload` | the next frame's header without its payload | a later flush | damage, named |
//! | `CorruptMiddle` | no frame of the chain | a later flush | damage, named if one record is lost |
//! | `TornTail` | anything that is not a whole frame | at most the same flush | cut |
//! | `CleanStop` | no frame, and the last record is the end marker | nothing | end |
//! | `CleanEnd` | nothing | nothing | end |
//! | `StaleBlock` | a frame from before the segment was recycled | nothing | end |
//!
//! "A later flush": the flush of some frame or segment header began behind the record that is missing here. Flushes are
//! written one at a time, so the missing record was durable and may have been acknowledged. "At most
//! the same flush": the newest flush found began at or before the place looked at; it was not durable
//! as a whole, nobody was told of it.
//!
//! Bytes behind the last flush that are neither zeros nor provably stale count as a tear: in a
//! recycled segment the middle of an old frame looks like it. Behind the end marker they mean nothing:
//! it is erased, durably, before anything is written behind it.

/// A row of the recovery table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    NextRecord,
    DuplicateSlot,
    LowerDuplicate,
    NextSegment,
    PromiseBelowBallot,
    WildSlot,
    ChainBroken,
    MissingSegment,
    BadSegmentHeader,
    CorruptPayload,
    CorruptMiddle,
    TornTail,
    CleanStop,
    CleanEnd,
    StaleBlock,
}

/// What lies where the next frame should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Here {
    /// The next frame, whole.
    Continues(Content),
    /// No frame, but the next segment's header continues.
    NextSegment,
    /// The frame with the next number, but chain, name or place do not fit.
    ChainBroken,
    /// The first frame of the next segment continues, its segment's header is bad.
    HeaderBad,
    /// The next frame's header; its payload is not what was written.
    PayloadBad,
    /// A segment between here and what follows is absent.
    SegmentMissing,
    /// A frame of the segment's earlier life.
    Stale,
    /// Zeros up to the end of the written world.
    Zero,
    /// None of these.
    Garbage,
}

/// How a frame that continues the chain agrees with the records before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    New,
    Replaces,
    Ignored,
    PromiseLow,
    Wild,
}

/// What the newest flush found beyond proves about the record that should be here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// There is nothing.
    Nothing,
    /// It covers the record, which need not have been durable, and no damage depends on it.
    SameFlush,
    /// It began later: the record was durable.
    LaterFlush,
}

/// Everything that the table looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    pub(crate) here: Here,
    pub(crate) beyond: Beyond,
    /// The last record is the end marker.
    pub(crate) stopped: bool,
}

type Matches = fn(&Observation) -> bool;

const TABLE: [(Row, Matches); 15] = [
    (Row::NextRecord, |seen| {
        seen.here == Here::Continues(Content::New)
    }),
    (Row::DuplicateSlot, |seen| {
        seen.here == Here::Continues(Content::Replaces)
    }),
    (Row::LowerDuplicate, |seen| {
        seen.here == Here::Continues(Content::Ignored)
    }),
    (Row::NextSegment, |seen| seen.here == Here::NextSegment),
    (Row::PromiseBelowBallot, |seen| {
        seen.here == Here::Continues(Content::PromiseLow)
    }),
    (Row::WildSlot, |seen| {
        seen.here == Here::Continues(Content::Wild)
    }),
    (Row::ChainBroken, |seen| seen.here == Here::ChainBroken),
    (Row::MissingSegment, |seen| {
        seen.here == Here::SegmentMissing
    }),
    (Row::BadSegmentHeader, |seen| {
        seen.here == Here::HeaderBad && seen.beyond == Beyond::LaterFlush
    }),
    (Row::CorruptPayload, |seen| {
        seen.here == Here::PayloadBad && seen.beyond == Beyond::LaterFlush
    }),
    (Row::CorruptMiddle, |seen| {
        matches!(seen.here, Here::Stale | Here::Zero | Here::Garbage)
            && seen.beyond == Beyond::LaterFlush
    }),
    (Row::TornTail, |seen| match seen.beyond {
        Beyond::Nothing => {
            matches!(seen.here, Here::HeaderBad | Here::PayloadBad)
                || (seen.here == Here::Garbage && !seen.stopped)
        }
        Beyond::SameFlush => matches!(
            seen.here,
            Here::HeaderBad | Here::PayloadBad | Here::Stale | Here::Zero | Here::Garbage
        ),
        Beyond::LaterFlush => false,
    }),
    (Row::CleanStop, |seen| {
        seen.stopped
            && seen.beyond == Beyond::Nothing
            && matches!(seen.here, Here::Zero | Here::Stale | Here::Garbage)
    }),
    (Row::CleanEnd, |seen| {
        !seen.stopped && seen.beyond == Beyond::Nothing && seen.here == Here::Zero
    }),
    (Row::StaleBlock, |seen| {
        !seen.stopped && seen.beyond == Beyond::Nothing && seen.here == Here::Stale
    }),
];

/// The row that matches.
///
/// # Panics
/// If not exactly one does; `exactly_one_row_matches_everything` goes through all observations.
pub(crate) fn classify(seen: &Observation) -> Row {
    let mut rows = TABLE.iter().filter(|(_, matches)| matches(seen));
    let (row, _) = rows.next().expect("a row for every observation");
    assert!(rows.next().is_none(), "two rows for {seen:?}");
    *row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_row_matches_everything() {
        let content = [
            Content::New,
            Content::Replaces,
            Content::Ignored,
            Content::PromiseLow,
            Content::Wild,
        ];
        let here = content.map(Here::Continues).into_iter().chain([
            Here::NextSegment,
            Here::ChainBroken,
            Here::HeaderBad,
            Here::PayloadBad,
            Here::SegmentMissing,
            Here::Stale,
            Here::Zero,
            Here::Garbage,
        ]);
        let mut unused: Vec<Row> = TABLE.iter().map(|(row, _)| *row).collect();
        for here in here {
            for beyond in [Beyond::Nothing, Beyond::SameFlush, Beyond::LaterFlush] {
                for stopped in [false, true] {
                    let row = classify(&Observation {
                        here,
                        beyond,
                        stopped,
                    });
                    unused.retain(|other| *other != row);
                }
            }
        }
        assert_eq!(unused, []);
    }

    #[test]
    fn nothing_that_was_durable_is_ever_cut() {
        for here in [
            Here::HeaderBad,
            Here::PayloadBad,
            Here::Stale,
            Here::Zero,
            Here::Garbage,
        ] {
            for stopped in [false, true] {
                let row = classify(&Observation {
                    here,
                    beyond: Beyond::LaterFlush,
                    stopped,
                });
                assert!(
                    matches!(
                        row,
                        Row::BadSegmentHeader | Row::CorruptPayload | Row::CorruptMiddle
                    ),
                    "{row:?}"
                );
            }
        }
    }
}
