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

    /// Waits for the event and takes it.
    pub(crate) async fn wait(&self) {
        poll_fn(|context| self.poll(context)).await;
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_set.replace(false) {
            return Poll::Ready(());
        }
        self.waiter.set(Some(context.waker().clone()));
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn an_event_is_not_lost_before_the_wait_and_counts_once() {
        let wakeup = Wakeup::default();
        wakeup.set();
        wakeup.set();
        block_on(async {
            assert!(poll_once(wakeup.wait()).await.is_some());
            let mut waiting = pin!(wakeup.wait());
            assert!(poll_once(waiting.as_mut()).await.is_none());
            wakeup.set();
            assert!(poll_once(waiting.as_mut()).await.is_some());
        });
    }
}
