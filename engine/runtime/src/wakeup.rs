//! Waking one task of the same executor: no thread, no lock, no allocation.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// An event that one task waits for. Several `set`s before the task looks count as one.
#[derive(Default)]
pub(crate) struct Wakeup {
    is_set: Cell<bool>,
    waiter: Cell<Option<Waker>>,
}

impl Wakeup {
    /// Lets the waiting task run; remembered if none waits.
    pub(crate) fn set(&self) {
        self.is_set.set(true);
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    /// Takes the event if it is there, else arranges to be woken by it.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_set.replace(false) {
            return Poll::Ready(());
        }
        let waiter = match self.waiter.take() {
            Some(waiter) if waiter.will_wake(context.waker()) => waiter,
            _ => context.waker().clone(),
        };
        self.waiter.set(Some(waiter));
        Poll::Pending
    }

    /// Waits for the event and takes it.
    pub(crate) async fn wait(&self) {
        poll_fn(|context| self.poll(context)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn an_event_before_the_wait_is_not_lost_and_counts_once() {
        let wakeup = Wakeup::default();
        wakeup.set();
        wakeup.set();
        block_on(async {
            assert!(poll_once(wakeup.wait()).await.is_some());
            assert!(poll_once(wakeup.wait()).await.is_none());
        });
    }

    #[test]
    fn an_event_wakes_the_task_that_waits() {
        let wakeup = Wakeup::default();
        block_on(async {
            let mut waiting = pin!(wakeup.wait());
            assert!(poll_once(waiting.as_mut()).await.is_none());
            wakeup.set();
            assert!(poll_once(waiting.as_mut()).await.is_some());
        });
    }
}
