//! The event queue of virtual time: the next event is the one with the smallest `(time, number)`.
//!
//! Events at the same instant come out in the order in which they were put in, so that the order of
//! a run depends on nothing but the seed. Time never goes back.

use std::collections::BTreeMap;

/// Events waiting for their time.
#[derive(Debug)]
pub struct Queue<E> {
    waiting: BTreeMap<(u64, u64), E>,
    number: u64,
    now_ns: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            number: 0,
            now_ns: 0,
        }
    }
}

impl<E> Queue<E> {
    /// True time: nanoseconds since the start of the run.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Plans an event; one in the past happens now.
    pub fn push(&mut self, at_ns: u64, event: E) {
        self.number += 1;
        self.waiting
            .insert((at_ns.max(self.now_ns), self.number), event);
    }

    /// Takes the next event and goes to its time.
    pub fn pop(&mut self) -> Option<E> {
        let ((at_ns, _), event) = self.waiting.pop_first()?;
        assert!(at_ns >= self.now_ns, "time went back");
        self.now_ns = at_ns;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_of_planning() {
        let mut queue = Queue::default();
        queue.push(20, "c");
        queue.push(10, "a");
        queue.push(10, "b");
        assert_eq!(queue.pop(), Some("a"));
        queue.push(5, "late: now");
        assert_eq!(queue.pop(), Some("b"));
        assert_eq!(queue.pop(), Some("late: now"));
        assert_eq!(queue.now_ns(), 10);
        assert_eq!(queue.pop(), Some("c"));
        assert_eq!(queue.pop(), None);
    }
}
