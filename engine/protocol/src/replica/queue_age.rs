//! How long the head of a queue has waited, without a time per element.
//!
//! The queue is cut into stretches of [`STRETCH_NS`]: an element is at most that much younger than its
//! stretch. With a bound on the age, the number of stretches is bounded too.

use alloc::collections::VecDeque;

use crate::time::MS;

/// Accuracy of an age.
const STRETCH_NS: u64 = MS;

/// The ages in one queue, which the owner tells what it pushes and takes.
#[derive(Debug, Default)]
pub(crate) struct QueueAge {
    /// Elements that wait, and when the first of them was pushed.
    stretches: VecDeque<(usize, u64)>,
}

impl QueueAge {
    /// One element was pushed at the end.
    pub fn pushed(&mut self, now_ns: u64) {
        match self.stretches.back_mut() {
            Some((count, since_ns)) if now_ns.saturating_sub(*since_ns) < STRETCH_NS => *count += 1,
            _ => self.stretches.push_back((1, now_ns)),
        }
    }

    /// That many elements were taken from the front.
    ///
    /// # Panics
    /// If there were not that many.
    pub fn taken(&mut self, mut count: usize) {
        while count > 0 {
            let (left, _) = self
                .stretches
                .front_mut()
                .expect("only what was pushed is taken");
            let gone = count.min(*left);
            *left -= gone;
            count -= gone;
            if *left == 0 {
                self.stretches.pop_front();
            }
        }
    }

    /// How long the oldest element has waited, in nanoseconds; 0 if none waits.
    pub fn of_oldest(&self, now_ns: u64) -> u64 {
        self.stretches
            .front()
            .map_or(0, |&(_, since_ns)| now_ns.saturating_sub(since_ns))
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::VecDeque;

    use super::*;
    use crate::prng::Prng;

    #[test]
    fn it_is_the_age_of_the_oldest_but_for_one_stretch() {
        let mut random = Prng::new(1);
        let mut queue = VecDeque::new();
        let mut age = QueueAge::default();
        let mut now_ns = 0;
        for _ in 0..10_000 {
            now_ns += random.range(0, STRETCH_NS / 2);
            if random.range(0, 2) == 0 {
                queue.push_back(now_ns);
                age.pushed(now_ns);
            } else {
                let count = queue
                    .len()
                    .min(usize::try_from(random.range(0, 4)).expect("small"));
                queue.drain(..count);
                age.taken(count);
            }
            let exact = queue.front().map_or(0, |&since_ns| now_ns - since_ns);
            let told = age.of_oldest(now_ns);
            assert!(
                (exact..exact + STRETCH_NS).contains(&told),
                "{told} of {exact}"
            );
        }
    }
}
