//! A store that takes another one's newest checkpoint, over a link that loses and alters, killed at any
//! moment: afterwards it opens as the other one does, and never as anything in between.

mod support;

use std::collections::VecDeque;

use quorate_durable::fetch::{CHUNKS_MAX, Fetch, FetchError};
use quorate_durable::serve::{Answer, answer};
use quorate_protocol::ids::ReplicaId;
use quorate_protocol::prng::Prng;
use quorate_protocol::snapshot::{Message, Part};
use quorate_protocol::time::MS;
use quorate_protocol::words::Words;
use quorate_storage::store::{Binding, Finish, Manifest, Operation, Read, Store, Unreadable, open};

use support::Files;

const BINDING: Binding = Binding {
    cluster: 1,
    shard: 1,
};
const OTHER: ReplicaId = ReplicaId(2);

impl Files {
    fn open(&mut self) -> Store {
        let opened = open(&self.listing(), self, BINDING).expect("a store that was only killed");
        assert_eq!(opened.damage, []);
        let repairs = opened.repairs.iter();
        repairs.for_each(|repair| self.carry_out(repair));
        opened.store
    }

    /// Writes the next checkpoint: some accounts, some history, a side table.
    fn checkpoint(&mut self, store: &mut Store, rows: u32, salt: u8) {
        let begun = store.begin(store.manifest().slot + 10, rows);
        let number = begun.expect("there is room");
        let first = number << 32;
        for row in 0..u64::from(rows) {
            let key = first + row;
            let mut account = [salt; 160];
            account[..8].copy_from_slice(&key.to_le_bytes());
            store.account(
                &account,
                key.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                false,
                None,
            );
        }
        for row in 0..u64::from(rows) {
            let key = first + row;
            store.history(
                &[salt; 96],
                key.wrapping_mul(0xbf58_476d_1ce4_e5b9),
                u128::from(key),
            );
        }
        store.context(&[salt; 48]);
        store.side(&[salt; 5000]);
        store.finish(Finish {
            mark: b"mark",
            history_from: 0,
        });
        let mut published = false;
        while !published {
            let goes_on = store.step(1 << 20);
            if let Some(operation) = store.next_operation() {
                self.carry_out(&operation);
                published = store.finish_operation(operation).is_some();
            } else {
                assert!(goes_on, "not published yet");
            }
        }
        while let Some(operation) = store.next_operation() {
            self.carry_out(&operation);
            store.finish_operation(operation);
        }
    }
}

/// A store with so many checkpoints.
fn filled(checkpoints: u32, rows: u32) -> (Files, Store) {
    let mut files = Files::default();
    let mut store = files.open();
    for _ in 0..checkpoints {
        files.checkpoint(&mut store, rows, 7);
    }
    (files, store)
}

/// What the other one says to a question.
fn reply(store: &Store, files: &mut Files, question: &Message) -> Message {
    let Message::Ask { part, offset } = question else {
        panic!("{question:?} is no question");
    };
    match answer(store, *part, *offset) {
        Answer::Say(message) => message,
        Answer::Read(read) => {
            let mut bytes = vec![0; read.bytes];
            match files.read(&read.file.file_name(), read.offset, &mut bytes) {
                Ok(()) => read.chunk(&bytes),
                Err(Unreadable) => read.gone(),
            }
        }
    }
}

/// One bit of a chunk's bytes.
fn altered(message: Message, random: &mut Prng) -> Message {
    let Message::Chunk {
        part,
        offset,
        total,
        bytes,
    } = message
    else {
        return message;
    };
    let mut bytes = bytes.as_bytes().to_vec();
    let bit = usize::try_from(random.range(0, bytes.len() as u64 * 8)).expect("small");
    bytes[bit / 8] ^= 1 << (bit % 8);
    Message::Chunk {
        part,
        offset,
        total,
        bytes: Words::from_bytes(&bytes).expect("whole words"),
    }
}

/// Takes the other one's checkpoint, at most so many steps. True once it is done.
fn fetch(
    files: &mut Files,
    (theirs, other): (&mut Files, &Store),
    random: &mut Prng,
    steps_max: u64,
) -> (bool, Fetch) {
    let store = files.open();
    let mut fetch = Fetch::new(&store, OTHER, [ReplicaId(3)].into_iter());
    let mut now_ns = 0;
    for _ in 0..steps_max {
        if fetch.is_done() {
            return (true, fetch);
        }
        if let Some(operation) = fetch.next_operation() {
            files.carry_out(&operation);
            fetch.finish_operation(&operation);
            continue;
        }
        if let Some((to, question)) = fetch.next_question(now_ns) {
            let message = reply(other, theirs, &question);
            let message = match random.range(0, 10) {
                0 => continue,
                1 => altered(message, random),
                _ => message,
            };
            fetch.on_message(now_ns, to, &message).expect("one shard");
            continue;
        }
        now_ns = now_ns.max(fetch.deadline_ns());
    }
    (fetch.is_done(), fetch)
}

/// Answers come while more is asked; some are lost, and with them nothing but time.
#[test]
fn several_chunks_are_under_way_and_never_more_than_agreed() {
    let (mut theirs, other) = filled(3, 8000);
    let mut most = 0;
    for seed in 0..10 {
        let random = &mut Prng::new(seed);
        let mut files = Files::default();
        let mut fetch = Fetch::new(&files.open(), OTHER, [ReplicaId(3)].into_iter());
        let mut on_their_way = VecDeque::new();
        let (mut unwritten, mut now_ns) = (0, 0);
        while !fetch.is_done() {
            on_their_way.extend(std::iter::from_fn(|| fetch.next_question(now_ns)));
            let under_way = on_their_way.len() + unwritten;
            assert!(under_way <= CHUNKS_MAX, "{under_way} chunks");
            most = most.max(under_way);
            match random.range(0, 20) {
                0 => on_their_way.clear(),
                1..=10 => {
                    if let Some((to, question)) = on_their_way.pop_front() {
                        let message = reply(&other, &mut theirs, &question);
                        fetch.on_message(now_ns, to, &message).expect("one shard");
                        let of_file = matches!(
                            question,
                            Message::Ask {
                                part: Part::File { .. },
                                ..
                            }
                        );
                        unwritten += usize::from(of_file);
                    }
                }
                _ => {
                    if let Some(operation) = fetch.next_operation() {
                        files.carry_out(&operation);
                        unwritten -= usize::from(matches!(operation, Operation::Write { .. }));
                        fetch.finish_operation(&operation);
                    }
                }
            }
            now_ns += match on_their_way.is_empty() {
                true => 100 * MS,
                false => MS,
            };
        }
        assert_eq!(newest(&mut files), *other.manifest());
    }
    assert_eq!(most, CHUNKS_MAX);
}

/// A link that takes a chunk every 300 ms: the last of sixteen is five seconds on its way, and nobody else is
/// asked for what comes.
#[test]
fn a_slow_link_is_not_taken_for_silence() {
    let (mut theirs, other) = filled(1, 8000);
    let mut files = Files::default();
    let mut fetch = Fetch::new(&files.open(), OTHER, [ReplicaId(3)].into_iter());
    let mut on_their_way = VecDeque::new();
    let mut now_ns = 0;
    while !fetch.is_done() {
        on_their_way.extend(std::iter::from_fn(|| fetch.next_question(now_ns)));
        while let Some(operation) = fetch.next_operation() {
            files.carry_out(&operation);
            fetch.finish_operation(&operation);
        }
        now_ns += 300 * MS;
        if let Some((to, question)) = on_their_way.pop_front() {
            assert_eq!(to, OTHER);
            let message = reply(&other, &mut theirs, &question);
            fetch.on_message(now_ns, to, &message).expect("one shard");
        }
    }
    assert_eq!(fetch.progress().chunks_refused, 0);
    assert_eq!(newest(&mut files), *other.manifest());
}

fn newest(files: &mut Files) -> Manifest {
    files.open().manifest().clone()
}

#[test]
fn an_empty_store_takes_everything_and_opens_as_the_other_one() {
    let (mut theirs, other) = filled(3, 4000);
    let mut refused = 0;
    for seed in 0..30 {
        let mut files = Files::default();
        let random = &mut Prng::new(seed);
        let (done, fetch) = fetch(&mut files, (&mut theirs, &other), random, u64::MAX);
        assert!(done);
        refused += fetch.progress().chunks_refused;
        assert_eq!(newest(&mut files), *other.manifest());
        for listed in &other.manifest().files {
            let name = listed.file.file_name();
            assert!(files.0[&name] == theirs.0[&name], "{name}");
        }
    }
    assert!(refused > 20, "{refused} altered chunks were noticed");
}

#[test]
fn files_that_are_here_already_are_not_asked_for() {
    let (mut files, mut own) = filled(2, 300);
    let mut theirs = files.clone();
    let mut other = theirs.open();
    for _ in 0..2 {
        theirs.checkpoint(&mut other, 300, 7);
    }
    files.checkpoint(&mut own, 300, 7);
    let random = &mut Prng::new(1);
    let (done, fetch) = fetch(&mut files, (&mut theirs, &other), random, u64::MAX);
    assert!(done);
    assert_eq!(newest(&mut files), *other.manifest());
    let taken = fetch.progress().bytes;
    let whole: usize = theirs.0.values().map(Vec::len).sum();
    assert!(taken * 3 < whole as u64, "{taken} of {whole} bytes");
}

#[test]
fn killed_at_any_moment_it_has_the_old_checkpoint_or_the_new_one() {
    let (before, _) = filled(1, 200);
    let mut theirs = before.clone();
    let mut other = theirs.open();
    for _ in 0..4 {
        theirs.checkpoint(&mut other, 200, 7);
    }
    let (mut old, mut new) = (0, 0);
    for steps in 0..200 {
        for mut files in [before.clone(), Files::default()] {
            let number_before = newest(&mut files).number;
            let random = &mut Prng::new(steps);
            fetch(&mut files, (&mut theirs, &other), random, steps);
            match newest(&mut files).number {
                number if number == number_before => old += 1,
                5 => new += 1,
                number => panic!("checkpoint {number}"),
            }
            if newest(&mut files).number < 5 {
                let (done, _) = fetch(&mut files, (&mut theirs, &other), random, u64::MAX);
                assert!(done);
            }
            assert_eq!(newest(&mut files), *other.manifest());
        }
    }
    assert!(old > 20 && new > 20, "{old} old, {new} new");
}

/// Two checkpoints later the other one has removed a file that was being taken.
#[test]
fn what_has_gone_meanwhile_is_begun_again() {
    let (mut theirs, mut other) = filled(2, 3000);
    let mut files = Files::default();
    let store = files.open();
    let mut fetch = Fetch::new(&store, OTHER, [].into_iter());
    let mut now_ns = 0;
    let mut questions = 0;
    while !fetch.is_done() {
        if let Some(operation) = fetch.next_operation() {
            files.carry_out(&operation);
            fetch.finish_operation(&operation);
        } else if let Some((to, question)) = fetch.next_question(now_ns) {
            questions += 1;
            if questions == 3 {
                for _ in 0..2 {
                    theirs.checkpoint(&mut other, 3000, 7);
                }
            }
            let message = reply(&other, &mut theirs, &question);
            fetch.on_message(now_ns, to, &message).expect("one shard");
        } else {
            now_ns = now_ns.max(fetch.deadline_ns());
        }
    }
    assert_eq!(fetch.progress().begun_again, 1);
    assert_eq!(newest(&mut files), *other.manifest());
}

#[test]
fn other_bytes_under_the_same_name_are_a_divergence() {
    let (mut files, _) = filled(2, 100);
    let mut theirs = Files::default();
    let mut other = theirs.open();
    for _ in 0..3 {
        theirs.checkpoint(&mut other, 100, 8);
    }
    let store = files.open();
    let mut fetch = Fetch::new(&store, OTHER, [].into_iter());
    let (to, question) = fetch.next_question(0).expect("nothing is open");
    let message = reply(&other, &mut theirs, &question);
    let error = fetch.on_message(0, to, &message).unwrap_err();
    assert!(
        matches!(error, FetchError::Diverged { from: OTHER, .. }),
        "{error}"
    );
}
