//! What the operator writes down: documents of the shards' catalogs.
//!
//! A few keys that are written and read all the time, mostly with the version that was seen last, sometimes with an older
//! one, several at once. Every document that is written has bytes of its own, so that a checker knows whose it is.

use quorate_protocol::client::ReplyBody;
use quorate_protocol::ids::{DocumentKey, ShardId};

use crate::history::{DocumentAnswer, DocumentUse, DocumentWant, History};
use crate::job::{Job, Want};
use crate::world::World;

const KEYS: u64 = 3;
/// Most documents are small, but some take more than a checkpoint's first block.
const LENGTHS: [u64; 4] = [1, 20, 300, 5_000];

/// Submits one more use of a document.
pub fn use_one(world: &mut World) {
    let shards = world.parameters.shards;
    let number = world.history.documents.len();
    let stream = &mut world.document_stream;
    let shard = ShardId(1 + u32::try_from(stream.below(u64::from(shards))).expect("below a u32"));
    let key = DocumentKey(1 + u128::from(stream.below(KEYS)));
    let want = match stream.below(10) {
        0..3 => DocumentWant::Read,
        kind => DocumentWant::Put {
            expected: match stream.below(4) {
                0 => stream.below(4),
                _ => last_seen(&world.history, shard, key),
            },
            bytes: match kind {
                3 => Vec::new(),
                _ => {
                    let length = stream.pick(&LENGTHS);
                    let filling = (0..length).map(|at| at.to_le_bytes()[0]);
                    let name = u64::try_from(number).expect("a usize fits 64 bits");
                    name.to_le_bytes().into_iter().chain(filling).collect()
                }
            },
        },
    };
    let one = DocumentUse {
        shard,
        key,
        want,
        started_ns: None,
        is_unsure: false,
        answer: None,
    };
    world.history.documents.push(one);
    let operator = &mut world.actors[world.parameters.clients];
    operator
        .client
        .submit(Job::new(Want::Document(number), shard));
}

/// The version that the operator was told last.
fn last_seen(history: &History, shard: ShardId, key: DocumentKey) -> u64 {
    let of_it = |one: &&DocumentUse| one.shard == shard && one.key == key;
    let mut told = history.documents.iter().rev().filter(of_it);
    told.find_map(|one| Some(one.answer.as_ref()?.1.version()))
        .unwrap_or(0)
}

/// What a reply says to a use; `None`: it is not an answer to it.
#[must_use]
pub fn answer(want: &DocumentWant, body: ReplyBody) -> Option<DocumentAnswer> {
    match (want, body) {
        (DocumentWant::Put { .. }, ReplyBody::PutDocument(answer)) => {
            Some(DocumentAnswer::Put(answer))
        }
        (DocumentWant::Read, ReplyBody::Document(document)) => Some(DocumentAnswer::Read(document)),
        _ => None,
    }
}
