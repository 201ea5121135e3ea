//! The thread beside a replica that keeps the table of who paid whom.
//!
//! The executor has transfers to serve; a pair among a million costs a trip to memory or two, of which this thread makes
//! many at a time, on whatever core has time. The executor only puts runs of some thousand pairs into a bounded queue.
//! Answers to clients come back as connections do (`acceptor.rs`): a bounded queue, and a byte on a bell for each.
//!
//! ```text
//! executor -> queue of COUNTINGS_MAX -> table
//!          <- queue of ANSWERS_MAX <-
//!          <---- byte on the bell
//! ```
//!
//! An executor never waits: what finds the first queue full is counted as left out, and a question is answered `busy`.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;

use quorate_net::{Stream, give_way};
use quorate_protocol::client::Reply;
use quorate_protocol::ids::ConnectionId;
use quorate_protocol::shard::pair_table::{Answer, Counting, Lost, PairTable};

use crate::acceptor::Bell;
use crate::connections::Connections;
use crate::limits::{ANSWERS_MAX, COUNTINGS_MAX};

/// The thread needs little more than its own frames.
const STACK_BYTES: usize = 128 << 10;

/// A running thread. It ends soon after this is dropped; nobody waits for it, as its last answer may wait for an
/// executor that has ended.
#[derive(Debug)]
pub(crate) struct PairCounter {
    queue: Option<SyncSender<Counting>>,
    lost: Lost,
    /// The thread's end of the bell. Shut down, it tells a thread that rings to end.
    bell: UnixStream,
}

/// What the thread has answered.
#[derive(Debug)]
pub(crate) struct Answers(Receiver<Answer>);

impl PairCounter {
    /// Starts the thread. It runs on any core that the caller may run on, so this must not be called
    /// from an executor, which is pinned to its replica's.
    pub(crate) fn start(name: &str) -> io::Result<(Self, Answers, Bell)> {
        let (bell, executor) = UnixStream::pair()?;
        let ringing = bell.try_clone()?;
        let (queue, countings) = mpsc::sync_channel(COUNTINGS_MAX);
        let (sender, answers) = mpsc::sync_channel(ANSWERS_MAX);
        thread::Builder::new()
            .name(format!("{name} pairs"))
            .stack_size(STACK_BYTES)
            .spawn(move || keep_table(&countings, &sender, &ringing))?;
        let counter = Self {
            queue: Some(queue),
            lost: Lost::default(),
            bell,
        };
        Ok((counter, Answers(answers), Bell(executor)))
    }

    /// Passes it on; returns the answer to a question that there is no room for.
    pub(crate) fn give(&mut self, mut counting: Counting) -> Option<(ConnectionId, Reply)> {
        counting.carry(&mut self.lost);
        let queue = self.queue.as_ref()?;
        let (TrySendError::Full(counting) | TrySendError::Disconnected(counting)) =
            queue.try_send(counting).err()?;
        let refused;
        (self.lost, refused) = counting.lose();
        refused
    }
}

impl Drop for PairCounter {
    fn drop(&mut self) {
        drop(self.queue.take());
        // It fails if the other end is gone, and then the thread has seen that.
        if let Err(error) = self.bell.shutdown(Shutdown::Both) {
            tracing::debug!("bell: {error}");
        }
    }
}

/// Until the executor has gone.
fn keep_table(countings: &Receiver<Counting>, answers: &SyncSender<Answer>, mut bell: &UnixStream) {
    let mut table = PairTable::default();
    while let Ok(counting) = countings.recv() {
        if let Some(answer) = table.take(counting)
            && (answers.send(answer).is_err() || bell.write_all(b"a").is_err())
        {
            return;
        }
    }
}

/// Sends answers on until it is dropped.
pub(crate) async fn pass_on(answers: Answers, bell: Stream, connections: Rc<Connections>) {
    let mut told = [0; ANSWERS_MAX];
    loop {
        match bell.read(&mut told).await {
            Ok(count @ 1..) => (0..count)
                .filter_map(|_| answers.0.try_recv().ok())
                .map(Answer::reply)
                .for_each(|(connection, reply)| connections.reply(connection, &reply)),
            ended => {
                tracing::error!(replica = %connections.address, ?ended, "nobody counts pairs any more");
                return;
            }
        }
        // More may have come meanwhile, and then the read would not wait.
        give_way().await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use quorate_protocol::client::ReplyBody;
    use quorate_protocol::ids::{AccountId, RequestId};
    use quorate_protocol::shard::telemetry::Telemetry;
    use quorate_protocol::time::{Now, Timestamp};

    use super::*;

    /// A leader's side, and the thread's.
    struct Both {
        telemetry: Telemetry,
        counter: PairCounter,
        answers: Answers,
        bell: UnixStream,
    }

    fn started() -> Both {
        let (counter, answers, Bell(bell)) = PairCounter::start("s1r1").unwrap();
        bell.set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let now = Now {
            mono_ns: 1,
            wall_ns: 1,
        };
        Both {
            telemetry: Telemetry::begin(now),
            counter,
            answers,
            bell,
        }
    }

    impl Both {
        fn note(&mut self, transfers: usize) {
            for _ in 0..transfers {
                self.telemetry.note(AccountId(1), AccountId(2));
            }
            assert_eq!(self.pass_on(), []);
        }

        fn ask(&mut self, request: u64) -> Vec<(ConnectionId, Reply)> {
            let asker = (ConnectionId(1), RequestId(request));
            self.telemetry.ask(asker, Timestamp(1), (0, 10));
            self.pass_on()
        }

        /// Returns what was refused.
        fn pass_on(&mut self) -> Vec<(ConnectionId, Reply)> {
            let told = std::iter::from_fn(|| self.telemetry.poll());
            told.filter_map(|it| self.counter.give(it)).collect()
        }

        fn answer(&mut self) -> Reply {
            self.bell.read_exact(&mut [0]).unwrap();
            self.answers.0.try_recv().unwrap().reply().1
        }
    }

    /// How often pairs were counted, and how many were left out.
    fn counted(reply: &Reply) -> (u64, u64) {
        let ReplyBody::Pairs { rows, windows, .. } = &reply.body else {
            panic!("{reply:?}");
        };
        let dropped = windows.iter().map(|window| window.dropped);
        (rows.iter().map(|row| row.weight()).sum(), dropped.sum())
    }

    #[test]
    fn an_answer_has_all_that_was_noted_before_it_was_asked_for() {
        let mut both = started();
        for round in 1..=3 {
            both.note(5_000);
            assert_eq!(both.ask(round), []);
            let reply = both.answer();
            assert_eq!(reply.id, RequestId(round));
            assert_eq!(counted(&reply), (5_000 * round, 0));
        }
    }

    /// A thread that hangs at its answers, as one does whose executor has no time.
    #[test]
    fn what_finds_no_room_is_refused_or_left_out_and_none_is_lost_from_sight() {
        let mut both = started();
        let mut refused = Vec::new();
        for request in 1..=1_000 {
            both.note(1);
            refused.extend(both.ask(request));
        }
        let is_busy = |(_, reply): &(_, Reply)| reply.body == ReplyBody::Busy;
        assert!(refused.iter().all(is_busy));
        let room = COUNTINGS_MAX + ANSWERS_MAX + 1;
        assert!(refused.len() >= 1_000 - room, "{}", refused.len());
        for _ in refused.len()..1_000 {
            both.answer();
        }
        assert_eq!(both.ask(1_001), []);
        let (listed, left_out) = counted(&both.answer());
        assert_eq!(listed + left_out, 1_000);
        assert!(listed <= room as u64, "{listed}");
    }

    #[test]
    fn dropping_it_ends_the_thread_though_it_waits_for_room_for_its_answers() {
        let mut both = started();
        for request in 0..2 * ANSWERS_MAX as u64 {
            both.ask(request);
        }
        drop(both.counter);
        // It would go on for ever if the thread did not let go of its end.
        assert!(both.answers.0.iter().count() <= 2 * ANSWERS_MAX);
    }
}
