//! The open table: what the two manifests and their files look like, and which one is used.
//!
//! | row | newest manifest | other manifest | verdict |
//! | --- | --- | --- | --- |
//! | `Foreign` | one of them belongs to another cluster or shard | | refused |
//! | `Version` | one of them is of a version that is not supported | | refused |
//! | `Newest` | complete | complete | the newest |
//! | `OlderIncomplete` | complete | names a missing or wrong file | the newest |
//! | `NewestIncomplete` | names a missing or wrong file | complete | the other |
//! | `OneDamaged` | complete | no manifest, though there are bytes | the complete one |
//! | `Only` | complete | absent | the complete one |
//! | `Empty` | absent | absent, and no file of a second checkpoint | an empty store |
//! | `ManifestsMissing` | absent | absent, but files of later checkpoints exist | refused |
//! | `Unusable` | neither is complete, at least one is there | | refused |
//!
//! "Complete": every file that it names exists with its length, and has a footer of the same content.
//! "Newest": of two readable manifests the one with the higher number; a readable one before any other.
//! A manifest under the other's name is none: nothing writes it there.
//!
//! A store that is refused is never touched. One that is empty though it should not be would start a
//! replica that has forgotten what it acknowledged; so whatever hints at an earlier checkpoint refuses.

/// A row of the open table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenRow {
    Foreign,
    Version,
    Newest,
    OlderIncomplete,
    NewestIncomplete,
    OneDamaged,
    Only,
    Empty,
    ManifestsMissing,
    Unusable,
}

/// How one manifest was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Here {
    Absent,
    /// Bytes that are no manifest of this name.
    Damaged,
    /// A manifest; not all of its files are as it says.
    Incomplete,
    Complete,
}

/// A manifest that must not be judged at all. If both are refused, the higher reason counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    Version,
    Foreign,
}

/// Everything that the table looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    pub(crate) newest: Here,
    pub(crate) other: Here,
    /// There is a data file of a checkpoint behind the first.
    pub(crate) later_files: bool,
    pub(crate) refusal: Option<Refusal>,
}

type Matches = fn(&Observation) -> bool;

const TABLE: [(OpenRow, Matches); 10] = [
    (OpenRow::Foreign, |seen| {
        seen.refusal == Some(Refusal::Foreign)
    }),
    (OpenRow::Version, |seen| {
        seen.refusal == Some(Refusal::Version)
    }),
    (OpenRow::Newest, |seen| {
        judged(seen, Here::Complete, Here::Complete)
    }),
    (OpenRow::OlderIncomplete, |seen| {
        judged(seen, Here::Complete, Here::Incomplete)
    }),
    (OpenRow::NewestIncomplete, |seen| {
        judged(seen, Here::Incomplete, Here::Complete)
    }),
    (OpenRow::OneDamaged, |seen| {
        judged(seen, Here::Complete, Here::Damaged)
    }),
    (OpenRow::Only, |seen| {
        judged(seen, Here::Complete, Here::Absent)
    }),
    (OpenRow::Empty, |seen| {
        judged(seen, Here::Absent, Here::Absent) && !seen.later_files
    }),
    (OpenRow::ManifestsMissing, |seen| {
        judged(seen, Here::Absent, Here::Absent) && seen.later_files
    }),
    (OpenRow::Unusable, |seen| {
        let none_complete = seen.newest != Here::Complete && seen.other != Here::Complete;
        let some_there = seen.newest != Here::Absent || seen.other != Here::Absent;
        seen.refusal.is_none() && none_complete && some_there
    }),
];

fn judged(seen: &Observation, newest: Here, other: Here) -> bool {
    seen.refusal.is_none() && seen.newest == newest && seen.other == other
}

/// The row that matches.
///
/// # Panics
/// If not exactly one does; `exactly_one_row_matches_everything` goes through all observations.
pub(crate) fn classify(seen: &Observation) -> OpenRow {
    let mut rows = TABLE.iter().filter(|(_, matches)| matches(seen));
    let (row, _) = rows.next().expect("a row for every observation");
    assert!(rows.next().is_none(), "two rows for {seen:?}");
    *row
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: [Here; 4] = [
        Here::Absent,
        Here::Damaged,
        Here::Incomplete,
        Here::Complete,
    ];

    /// A manifest that is no manifest has no number, so it is not the newest of two.
    fn possible(newest: Here, other: Here) -> bool {
        let readable = |here| matches!(here, Here::Incomplete | Here::Complete);
        readable(newest) || !readable(other) && (newest != Here::Absent || other == Here::Absent)
    }

    #[test]
    fn exactly_one_row_matches_everything() {
        let mut unused: Vec<OpenRow> = TABLE.iter().map(|(row, _)| *row).collect();
        for newest in HERE {
            for other in HERE.into_iter().filter(|other| possible(newest, *other)) {
                for later_files in [false, true] {
                    for refusal in [None, Some(Refusal::Foreign), Some(Refusal::Version)] {
                        let row = classify(&Observation {
                            newest,
                            other,
                            later_files,
                            refusal,
                        });
                        unused.retain(|other| *other != row);
                    }
                }
            }
        }
        assert_eq!(unused, []);
    }

    #[test]
    fn a_store_is_empty_only_if_nothing_says_otherwise() {
        for newest in HERE {
            for other in HERE.into_iter().filter(|other| possible(newest, *other)) {
                for later_files in [false, true] {
                    let row = classify(&Observation {
                        newest,
                        other,
                        later_files,
                        refusal: None,
                    });
                    let nothing =
                        (newest, other, later_files) == (Here::Absent, Here::Absent, false);
                    assert_eq!(row == OpenRow::Empty, nothing);
                }
            }
        }
    }
}
