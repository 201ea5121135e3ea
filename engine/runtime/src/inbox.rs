//! What waits for the core: a bounded queue of inputs in front of the one task that owns it.
//!
//! Own events (the log) come first, then peers, then clients: what was begun is finished before new
//! work is admitted. Readers wait at a full queue, so the bound reaches the sender through TCP.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use quorate_protocol::input::Input;

use crate::limits::{INBOX_BYTES_MAX, INBOX_INPUTS_MAX};
use crate::wakeup::Wakeup;

/// Where an input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Peer,
    Client,
}

/// The inputs of one replica.
#[derive(Default)]
pub(crate) struct Inbox {
    own: RefCell<VecDeque<Input>>,
    peers: Queue,
    clients: Queue,
    filled: Wakeup,
}

#[derive(Default)]
struct Queue {
    inputs: RefCell<VecDeque<(Input, usize)>>,
    bytes: Cell<usize>,
    waiting: RefCell<Vec<Waker>>,
}

impl Inbox {
    /// Queues an event of the shell itself. The shell bounds them: one flush and one read of the log
    /// at a time.
    pub(crate) fn push_own(&self, input: Input) {
        self.own.borrow_mut().push_back(input);
        self.filled.set();
    }

    /// Queues an input that came as `bytes` bytes. The caller has waited for [`Self::room`]; the end
    /// of a connection is queued in any case, behind what it had sent.
    pub(crate) fn push(&self, lane: Lane, input: Input, bytes: usize) {
        self.lane(lane).push(input, bytes);
        self.filled.set();
    }

    /// Waits until the lane is below its bounds.
    pub(crate) async fn room(&self, lane: Lane) {
        poll_fn(|context| self.lane(lane).poll_room(context)).await;
    }

    /// The next input.
    pub(crate) fn pop(&self) -> Option<Input> {
        let own = self.own.borrow_mut().pop_front();
        own.or_else(|| self.peers.pop())
            .or_else(|| self.clients.pop())
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.own.borrow().is_empty()
            && self.peers.inputs.borrow().is_empty()
            && self.clients.inputs.borrow().is_empty()
    }

    /// Ready once something was queued (possibly taken since).
    pub(crate) fn poll_filled(&self, context: &mut Context<'_>) -> Poll<()> {
        self.filled.poll(context)
    }

    /// Lets the core's task run though nothing was queued.
    pub(crate) fn nudge(&self) {
        self.filled.set();
    }

    fn lane(&self, lane: Lane) -> &Queue {
        match lane {
            Lane::Peer => &self.peers,
            Lane::Client => &self.clients,
        }
    }
}

impl Queue {
    fn is_full(&self) -> bool {
        self.bytes.get() >= INBOX_BYTES_MAX || self.inputs.borrow().len() >= INBOX_INPUTS_MAX
    }

    fn push(&self, input: Input, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
        self.inputs.borrow_mut().push_back((input, bytes));
    }

    fn pop(&self) -> Option<Input> {
        let (input, bytes) = self.inputs.borrow_mut().pop_front()?;
        self.bytes.set(self.bytes.get() - bytes);
        if !self.is_full() {
            for waiting in self.waiting.take() {
                waiting.wake();
            }
        }
        Some(input)
    }

    fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_full() {
            return Poll::Ready(());
        }
        self.waiting.borrow_mut().push(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};
    use quorate_protocol::ids::{ConnectionId, PersistSeq};

    use super::*;

    fn gone(connection: u64) -> Input {
        Input::Disconnected {
            connection: ConnectionId(connection),
        }
    }

    fn number(input: Option<Input>) -> Option<u64> {
        match input? {
            Input::Disconnected { connection } => Some(connection.0),
            Input::Durable { upto } => Some(upto.0),
            other => panic!("{other:?} was not queued"),
        }
    }

    #[test]
    fn own_events_come_first_then_peers_then_clients() {
        let inbox = Inbox::default();
        inbox.push(Lane::Client, gone(30), 1);
        inbox.push(Lane::Peer, gone(20), 1);
        inbox.push(Lane::Client, gone(31), 1);
        inbox.push_own(Input::Durable {
            upto: PersistSeq(10),
        });
        let order: Vec<u64> = std::iter::from_fn(|| number(inbox.pop())).collect();
        assert_eq!(order, [10, 20, 30, 31]);
        assert!(inbox.is_empty());
    }

    #[test]
    fn a_full_lane_makes_its_senders_wait_until_it_drains() {
        let inbox = Inbox::default();
        block_on(async {
            inbox.push(Lane::Client, gone(1), INBOX_BYTES_MAX);
            assert!(poll_once(inbox.room(Lane::Client)).await.is_none());
            assert!(poll_once(inbox.room(Lane::Peer)).await.is_some());
            assert_eq!(number(inbox.pop()), Some(1));
            assert!(poll_once(inbox.room(Lane::Client)).await.is_some());
            for count in 0..INBOX_INPUTS_MAX {
                assert!(poll_once(inbox.room(Lane::Peer)).await.is_some(), "{count}");
                inbox.push(Lane::Peer, gone(2), 0);
            }
            assert!(poll_once(inbox.room(Lane::Peer)).await.is_none());
        });
    }
}
