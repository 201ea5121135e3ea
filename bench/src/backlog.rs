//! Requests that are due and wait for a free client: bounded, in order of their intended times.
//!
//! Single-threaded; any executor's tasks may wait on it. What does not fit is the caller's to count
//! as dropped.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// The queue between the arrivals and the clients.
#[derive(Debug)]
pub struct Backlog {
    limit: usize,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    due: VecDeque<u64>,
    waiting: VecDeque<Waker>,
    closed: bool,
}

impl Backlog {
    /// Holds at most `limit` requests.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            state: RefCell::default(),
        }
    }

    /// Adds a request; false if it is full or closed.
    pub fn push(&self, intended_ns: u64) -> bool {
        let mut state = self.state.borrow_mut();
        if state.closed || state.due.len() >= self.limit {
            return false;
        }
        state.due.push_back(intended_ns);
        let waker = state.waiting.pop_front();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// The oldest request, waiting for one if there is none; `None` when it is closed.
    pub async fn pop(&self) -> Option<u64> {
        poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            if state.closed {
                return Poll::Ready(None);
            }
            if let Some(intended_ns) = state.due.pop_front() {
                return Poll::Ready(Some(intended_ns));
            }
            state.waiting.push_back(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Ends all waiting; returns how many requests nobody took.
    pub fn close(&self) -> usize {
        let mut state = self.state.borrow_mut();
        state.closed = true;
        let left = std::mem::take(&mut state.due).len();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once, zip};

    #[test]
    fn it_is_bounded_and_keeps_the_order() {
        let backlog = Backlog::new(2);
        assert!(backlog.push(1));
        assert!(backlog.push(2));
        assert!(!backlog.push(3));
        assert_eq!(block_on(backlog.pop()), Some(1));
        assert_eq!(backlog.close(), 1);
        assert_eq!(block_on(backlog.pop()), None);
        assert!(!backlog.push(4));
    }

    #[test]
    fn a_waiting_client_gets_what_arrives_and_ends_when_it_closes() {
        let backlog = Backlog::new(8);
        let mut pop = Box::pin(backlog.pop());
        assert_eq!(block_on(poll_once(&mut pop)), None);
        let (taken, ()) = block_on(zip(pop, async {
            backlog.push(9);
        }));
        assert_eq!(taken, Some(9));
        let waiting = backlog.pop();
        let (taken, left) = block_on(zip(waiting, async { backlog.close() }));
        assert_eq!((taken, left), (None, 0));
    }
}
