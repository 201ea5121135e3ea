//! What waits for the core: a bounded queue of inputs in front of the one task that owns it.
//!
//! Own events (the log) come first, then peers, then clients: what was begun is finished before new
//! work is admitted. Readers wait at a full queue, so the bound reaches the sender through TCP.
//!
//! A client's deadline runs from the moment its request arrived here, not from the one at which the
//! core gets to it. Work that has waited for too long is not begun: it is answered `busy`, which costs
//! next to nothing, and so the queue becomes young again.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use quorate_protocol::client::{Request, RequestBody};
use quorate_protocol::ids::{ConnectionId, RequestId};
use quorate_protocol::input::Input;
use quorate_protocol::limits::{QUEUE_DELAY_NS_MAX, REQUEST_DEADLINE_NS};

use crate::limits::{INBOX_BYTES_MAX, INBOX_INPUTS_MAX};
use crate::wakeup::Wakeup;

/// Where an input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Peer,
    Client,
}

/// What the core's task takes from the queue.
#[derive(Debug)]
pub(crate) enum Next {
    Input(Input),
    /// New work that has waited for too long: nothing is done, the client is told `busy`.
    TooOld {
        connection: ConnectionId,
        request: RequestId,
    },
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
    inputs: RefCell<VecDeque<(Input, usize, Instant)>>,
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

    /// Forgets the events of the shell itself: the core that they are for has ended.
    pub(crate) fn clear_own(&self) {
        self.own.borrow_mut().clear();
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

    /// What is next.
    pub(crate) fn pop(&self) -> Option<Next> {
        let own = self.own.borrow_mut().pop_front();
        if let Some(input) = own.or_else(|| Some(self.peers.pop()?.0)) {
            return Some(Next::Input(input));
        }
        let (input, arrived) = self.clients.pop()?;
        Some(after_waiting(input, arrived.elapsed()))
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
        self.inputs
            .borrow_mut()
            .push_back((input, bytes, Instant::now()));
    }

    fn pop(&self) -> Option<(Input, Instant)> {
        let (input, bytes, arrived) = self.inputs.borrow_mut().pop_front()?;
        self.bytes.set(self.bytes.get() - bytes);
        if !self.is_full() {
            for waiting in self.waiting.take() {
                waiting.wake();
            }
        }
        Some((input, arrived))
    }

    fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_full() {
            return Poll::Ready(());
        }
        self.waiting.borrow_mut().push(context.waker().clone());
        Poll::Pending
    }
}

/// What is left of a request after `waited`.
fn after_waiting(input: Input, waited: Duration) -> Next {
    let Input::Client {
        connection,
        mut request,
    } = input
    else {
        return Next::Input(input);
    };
    if begins_work(&request) && waited > Duration::from_nanos(QUEUE_DELAY_NS_MAX) {
        return Next::TooOld {
            connection,
            request: request.id,
        };
    }
    let asked_ms = match request.deadline_ms {
        0 => REQUEST_DEADLINE_NS / 1_000_000,
        asked_ms => u64::from(asked_ms),
    };
    let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    let left_ms = asked_ms.saturating_sub(waited_ms).max(1);
    request.deadline_ms = u32::try_from(left_ms).expect("at most what was asked for");
    Next::Input(Input::Client {
        connection,
        request,
    })
}

/// Whether the request puts something into the log; questions are answered however old they are.
fn begins_work(request: &Request) -> bool {
    matches!(
        request.body,
        RequestBody::CreateAccounts(_)
            | RequestBody::CreateTransfers(_)
            | RequestBody::MoveAccounts { .. }
    )
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};
    use quorate_protocol::ids::{ConnectionId, PersistSeq};
    use quorate_protocol::time::Timestamp;
    use quorate_protocol::words::Rows;

    use super::*;

    fn gone(connection: u64) -> Input {
        Input::Disconnected {
            connection: ConnectionId(connection),
        }
    }

    fn number(next: Option<Next>) -> Option<u64> {
        match next? {
            Next::Input(Input::Disconnected { connection }) => Some(connection.0),
            Next::Input(Input::Durable { upto }) => Some(upto.0),
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

    fn asked(deadline_ms: u32, body: RequestBody) -> Input {
        Input::Client {
            connection: ConnectionId(1),
            request: Request {
                id: RequestId(7),
                deadline_ms,
                seen: Timestamp::ZERO,
                body,
            },
        }
    }

    fn left_ms(next: Next) -> Option<u32> {
        match next {
            Next::Input(Input::Client { request, .. }) => Some(request.deadline_ms),
            Next::Input(other) => panic!("{other:?}"),
            Next::TooOld { .. } => None,
        }
    }

    #[test]
    fn a_deadline_runs_while_a_request_waits() {
        let waited = Duration::from_millis(300);
        let left = |asked_ms| left_ms(after_waiting(asked(asked_ms, RequestBody::Status), waited));
        assert_eq!(left(2_000), Some(1_700));
        assert_eq!(left(0), Some(4_700), "the default");
        assert_eq!(left(100), Some(1), "over: the core says so");
        assert_eq!(left(u32::MAX), Some(u32::MAX - 300));
    }

    /// Six times the load that fits the deadlines waited in front of the core, each request with its
    /// whole deadline still before it when its turn came: nobody heard of a result in time.
    #[test]
    fn work_that_has_waited_for_too_long_is_not_begun() {
        let longest = Duration::from_nanos(QUEUE_DELAY_NS_MAX);
        let longer = longest + Duration::from_nanos(1);
        let work = || asked(0, RequestBody::CreateTransfers(Rows::from_slice(&[])));
        assert!(left_ms(after_waiting(work(), longest)).is_some());
        assert!(left_ms(after_waiting(work(), longer)).is_none());
        let question = asked(0, RequestBody::Status);
        assert!(left_ms(after_waiting(question, longer)).is_some());
        assert_eq!(
            number(Some(after_waiting(gone(3), longer))),
            Some(3),
            "never lost"
        );
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
