//! Documents: a write takes effect once and only over the version that it names, and a read is never older than what
//! was told before it began.
//!
//! Judged by the writes that the logs made (the model's), and by what the operator was told. Bytes are unique, so a
//! write is known by them; one without bytes removes, and is known by the version alone.

use super::Violation;
use super::model::documents::{Documents, Written};
use super::replays::Replays;
use crate::history::{DocumentAnswer, DocumentUse, DocumentWant, History};
use quorate_protocol::shard::catalog::{Document, PutAnswer};

/// Judges every use of a document that was answered.
pub fn check(history: &History, replays: &Replays, violations: &mut Vec<Violation>) {
    for (number, one) in history.documents.iter().enumerate() {
        let Some(replay) = replays.shard(one.shard) else {
            continue;
        };
        if let Err(text) = judge(one, &replay.documents, history) {
            let (key, shard) = (one.key, one.shard);
            violations.push(Violation {
                checker: "documents",
                text: format!("use {number} of document {key} at shard {shard}: {text}"),
            });
        }
    }
}

fn judge(one: &DocumentUse, log: &Documents, history: &History) -> Result<(), String> {
    if let DocumentWant::Put { bytes, .. } = &one.want
        && !bytes.is_empty()
    {
        let of_it = log.writes().filter(|(_, written)| &written.bytes == bytes);
        if of_it.count() > 1 {
            return Err("it was written twice".to_owned());
        }
    }
    let Some((_, answer)) = &one.answer else {
        return Ok(());
    };
    match (&one.want, answer) {
        (DocumentWant::Put { bytes, .. }, DocumentAnswer::Put(answer)) => {
            judge_put(one, bytes, *answer, log)
        }
        (DocumentWant::Read, DocumentAnswer::Read(document)) => {
            judge_read(one, document, log, history)
        }
        (DocumentWant::Put { .. }, DocumentAnswer::Read(_)) => Err("a write was read".to_owned()),
        (DocumentWant::Read, DocumentAnswer::Put(_)) => Err("a read was written".to_owned()),
    }
}

fn judge_put(
    one: &DocumentUse,
    bytes: &[u8],
    answer: PutAnswer,
    log: &Documents,
) -> Result<(), String> {
    match answer {
        PutAnswer::Full => Err("the catalog was called full".to_owned()),
        PutAnswer::Written { version } => match at(log, version) {
            Some(written) if written.key == one.key && written.bytes == bytes => Ok(()),
            other => Err(format!(
                "told to be version {version}, which the log made {}",
                told(other)
            )),
        },
        PutAnswer::Conflict { .. } if one.is_unsure || bytes.is_empty() => Ok(()),
        PutAnswer::Conflict { version } => {
            let is_written = log.writes().any(|(_, written)| written.bytes == bytes);
            match is_written {
                true => Err(format!(
                    "told to be in conflict with version {version}, and done"
                )),
                false => Ok(()),
            }
        }
    }
}

fn judge_read(
    one: &DocumentUse,
    document: &Document,
    log: &Documents,
    history: &History,
) -> Result<(), String> {
    // What it must have seen: the latest write that was told before it began.
    let told_before = |other: &DocumentUse| match &other.answer {
        Some((at_ns, DocumentAnswer::Put(PutAnswer::Written { version })))
            if (other.shard, other.key) == (one.shard, one.key)
                && one.started_ns.is_some_and(|started_ns| *at_ns < started_ns) =>
        {
            Some(*version)
        }
        _ => None,
    };
    let least = history
        .documents
        .iter()
        .filter_map(told_before)
        .max()
        .unwrap_or(0);
    let version = document.version;
    if !document.is_there() {
        // Its version is that of a removal, of whatever document.
        let is_removal = at(log, version).is_some_and(|written| written.bytes.is_empty());
        let removed = |(version, written): (u64, &Written)| {
            version >= least && written.key == one.key && written.bytes.is_empty()
        };
        return match (least == 0 || log.writes().any(removed)) && (version == 0 || is_removal) {
            true => Ok(()),
            false => Err(format!(
                "not there as of version {version}, although version {least} was told before"
            )),
        };
    }
    match at(log, version) {
        Some(written) if written.key == one.key && written.bytes == document.bytes => {}
        other => {
            let made = told(other);
            return Err(format!("read version {version}, which the log made {made}"));
        }
    }
    match version >= least {
        true => Ok(()),
        false => Err(format!("read version {version} after {least} was told")),
    }
}

/// A write in few words: documents may be long.
fn told(written: Option<&Written>) -> String {
    match written {
        None => "never".to_owned(),
        Some(Written { key, bytes }) => {
            let first = bytes.get(..8);
            format!(
                "document {key} with {} bytes that begin {first:?}",
                bytes.len()
            )
        }
    }
}

fn at(log: &Documents, version: u64) -> Option<&Written> {
    let mut writes = log.writes();
    writes.find_map(|(number, written)| (number == version).then_some(written))
}

#[cfg(test)]
mod tests {
    use quorate_protocol::ids::{DocumentKey, ShardId, Slot};

    use super::super::fixture::{Scene, rejects};
    use super::super::log::{Command, DocumentWrite};
    use super::*;

    const KEY: DocumentKey = DocumentKey(1);

    fn put(expected: u64, bytes: &[u8], at_ns: u64, answer: PutAnswer) -> DocumentUse {
        DocumentUse {
            shard: ShardId(1),
            key: KEY,
            want: DocumentWant::Put {
                expected,
                bytes: bytes.to_vec(),
            },
            started_ns: Some(at_ns - 1),
            is_unsure: false,
            answer: Some((at_ns, DocumentAnswer::Put(answer))),
        }
    }

    fn read(at_ns: u64, answer: Option<(u64, &[u8])>) -> DocumentUse {
        let (version, bytes) = answer.unwrap_or((3, b""));
        let document = Document {
            version,
            bytes: bytes.to_vec(),
        };
        DocumentUse {
            shard: ShardId(1),
            key: KEY,
            want: DocumentWant::Read,
            started_ns: Some(at_ns - 1),
            is_unsure: false,
            answer: Some((at_ns, DocumentAnswer::Read(document))),
        }
    }

    /// Written, replaced, refused, removed.
    fn scene() -> Scene {
        let mut scene = Scene::valid();
        let entry = scene.state.logs.get_mut(&ShardId(1)).unwrap();
        let entry = entry.get_mut(&Slot(1)).unwrap();
        for (expected, bytes) in [(0, &b"a"[..]), (1, b"b"), (1, b"c"), (2, b"")] {
            entry.commands.push(Command::PutDocument(DocumentWrite {
                key: KEY,
                expected,
                bytes: bytes.to_vec(),
            }));
        }
        scene.history.documents = vec![
            put(0, b"a", 10, PutAnswer::Written { version: 1 }),
            put(1, b"b", 20, PutAnswer::Written { version: 2 }),
            put(1, b"c", 30, PutAnswer::Conflict { version: 2 }),
            read(32, Some((2, b"b"))),
            put(2, b"", 40, PutAnswer::Written { version: 3 }),
            read(50, None),
        ];
        scene
    }

    fn found(scene: &Scene) -> Vec<Violation> {
        let mut violations = Vec::new();
        check(&scene.history, &scene.replays(), &mut violations);
        violations
    }

    #[test]
    fn a_true_history_passes() {
        assert_eq!(found(&scene()), []);
    }

    #[test]
    fn every_kind_of_lie_is_found() {
        let lies: [(usize, DocumentUse, &str); 5] = [
            (
                2,
                put(1, b"c", 30, PutAnswer::Written { version: 3 }),
                "told to be version 3",
            ),
            (
                1,
                put(1, b"b", 20, PutAnswer::Conflict { version: 1 }),
                "in conflict with version 1, and done",
            ),
            (0, put(0, b"a", 10, PutAnswer::Full), "called full"),
            (3, read(32, Some((1, b"a"))), "read version 1 after 2"),
            (3, read(32, Some((2, b"x"))), "which the log made"),
        ];
        for (number, lie, text) in lies {
            let mut scene = scene();
            scene.history.documents[number] = lie;
            rejects(&found(&scene), text);
        }
        // One that is not there although nobody has removed it.
        let mut scene = scene();
        let entry = scene.state.logs.get_mut(&ShardId(1)).unwrap();
        entry.get_mut(&Slot(1)).unwrap().commands.pop();
        rejects(&found(&scene), "not there as of version 3, although");
    }
}
