//! Which attempts of other shards' leaders are on their way into the log here.
//!
//! A coordinator counts its attempts, so a bit each is enough: one window of bits per coordinator, from the oldest attempt
//! that is on its way to the newest that was heard of, a million at most.
//!
//! What is not in a window (of a coordinator that cannot be, of an older ballot, or so far behind the newest that the window has left it) counts as
//! not on its way. That costs a second record in the log and nothing else: `Prepared` of what is prepared already answers
//! the same vote.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::ids::{Ballot, ShardId};
use crate::limits::{ATTEMPTS_MAX, COORDINATORS_MAX};
use crate::txn::record::{Attempt, TxnId};

/// Attempts per word of a window.
const WORD: u64 = u64::BITS as u64;
/// Words of a window: 128 KiB, eight times the attempts that a coordinator keeps open.
const WORDS_MAX: usize = 1 << 14;
const _: () = assert!(WORDS_MAX * u64::BITS as usize >= 8 * ATTEMPTS_MAX);

/// All windows, by coordinator.
#[derive(Debug, Default)]
pub(crate) struct UnderWay(Vec<Window>);

impl UnderWay {
    pub fn contains(&self, txn: &TxnId) -> bool {
        let window = place(txn.coordinator).and_then(|place| self.0.get(place));
        window.is_some_and(|window| window.contains(txn.attempt))
    }

    pub fn insert(&mut self, txn: &TxnId) {
        let Some(place) = place(txn.coordinator) else {
            return;
        };
        if place >= self.0.len() {
            self.0.resize_with(place + 1, Window::default);
        }
        self.0[place].insert(txn.attempt);
    }

    pub fn remove(&mut self, txn: &TxnId) {
        let window = place(txn.coordinator).and_then(|place| self.0.get_mut(place));
        if let Some(window) = window {
            window.remove(txn.attempt);
        }
    }
}

fn place(coordinator: ShardId) -> Option<usize> {
    let place = usize::try_from(coordinator.0).ok()?;
    (place < COORDINATORS_MAX).then_some(place)
}

/// Attempts of one coordinator under its newest ballot.
#[derive(Debug, Default)]
struct Window {
    ballot: Ballot,
    /// Number of the first word: that many words of attempts came before.
    first: u64,
    words: VecDeque<u64>,
}

impl Window {
    fn contains(&self, attempt: Attempt) -> bool {
        let word = self.index(attempt).and_then(|index| self.words.get(index));
        word.is_some_and(|word| word & bit(attempt) != 0)
    }

    fn insert(&mut self, attempt: Attempt) {
        if attempt.ballot > self.ballot {
            *self = Self {
                ballot: attempt.ballot,
                ..Self::default()
            };
        }
        if attempt.ballot < self.ballot {
            return;
        }
        let word = attempt.counter / WORD;
        if self.words.is_empty() {
            self.first = word;
        }
        // What is sent again does not come in the order of its counters.
        let before = usize::try_from(self.first.saturating_sub(word)).unwrap_or(usize::MAX);
        if before > 0 && before.saturating_add(self.words.len()) <= WORDS_MAX {
            (0..before).for_each(|_| self.words.push_front(0));
            self.first = word;
        }
        let Some(index) = self.index(attempt) else {
            return;
        };
        let index = self.make_room(index);
        self.words[index] |= bit(attempt);
    }

    fn remove(&mut self, attempt: Attempt) {
        let index = self.index(attempt);
        let Some(word) = index.and_then(|index| self.words.get_mut(index)) else {
            return;
        };
        *word &= !bit(attempt);
        // The last one stays: more of its attempts are to come.
        while self.words.len() > 1 && self.words.front() == Some(&0) {
            self.words.pop_front();
            self.first += 1;
        }
    }

    /// The window's word of an attempt; it may lie behind the last one.
    fn index(&self, attempt: Attempt) -> Option<usize> {
        let ahead = (attempt.counter / WORD).checked_sub(self.first)?;
        let index = usize::try_from(ahead).ok()?;
        (attempt.ballot == self.ballot).then_some(index)
    }

    /// Slides the window so far that it holds the word at `index`; returns where that is then.
    fn make_room(&mut self, index: usize) -> usize {
        let gone = (index + 1).saturating_sub(WORDS_MAX);
        self.words.drain(..gone.min(self.words.len()));
        self.first += u64::try_from(gone).expect("a usize fits 64 bits");
        let index = index - gone;
        if index >= self.words.len() {
            self.words.resize(index + 1, 0);
        }
        index
    }
}

fn bit(attempt: Attempt) -> u64 {
    1 << (attempt.counter % WORD)
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;
    use crate::prng::Prng;
    use crate::txn::record::Subject;

    fn txn(coordinator: u32, ballot: u64, counter: u64) -> TxnId {
        TxnId {
            coordinator: ShardId(coordinator),
            subject: Subject::Transfer,
            id: counter.into(),
            attempt: Attempt {
                ballot: Ballot(ballot),
                counter,
            },
        }
    }

    #[test]
    fn it_is_a_set_of_what_is_counted_up() {
        let mut draws = Prng::new(5);
        let (mut set, mut twin) = (UnderWay::default(), BTreeSet::new());
        let mut newest = [0_u64; 3];
        for _ in 0..50_000 {
            let coordinator = draws.draw() % 3;
            let place = usize::try_from(coordinator).expect("small");
            let coordinator = u32::try_from(coordinator).expect("small") + 1;
            if draws.draw().is_multiple_of(2) {
                // Some come late, such as what is sent again to a new leader.
                newest[place] += 1 + draws.draw() % 3;
                let late = draws.draw() % 4 * (draws.draw() % 200);
                let new = txn(coordinator, 7, newest[place].saturating_sub(late));
                set.insert(&new);
                twin.insert(new);
            } else {
                let old = newest[place].saturating_sub(draws.draw() % 200);
                let old = txn(coordinator, 7, old);
                assert_eq!(set.contains(&old), twin.contains(&old));
                set.remove(&old);
                twin.remove(&old);
            }
        }
        let all: BTreeSet<TxnId> = (1..=3)
            .flat_map(|of| (0..100_000).map(move |counter| txn(of, 7, counter)))
            .filter(|txn| set.contains(txn))
            .collect();
        assert_eq!(all, twin);
    }

    /// A voted attempt in the newest word must not make the window leave that word: the attempts next to it are
    /// still to come.
    #[test]
    fn an_emptied_window_still_takes_the_next_attempt() {
        let mut set = UnderWay::default();
        set.insert(&txn(1, 7, 130));
        set.remove(&txn(1, 7, 130));
        set.insert(&txn(1, 7, 131));
        assert!(set.contains(&txn(1, 7, 131)) && !set.contains(&txn(1, 7, 130)));
    }

    /// A leader that has just begun is sent all that is open, in any order.
    #[test]
    fn what_comes_first_need_not_be_the_oldest() {
        let mut set = UnderWay::default();
        for counter in [70_000, 3, 40_000] {
            set.insert(&txn(1, 7, counter));
        }
        assert!([3, 40_000, 70_000].map(|at| set.contains(&txn(1, 7, at))) == [true; 3]);
        // Farther back than a window reaches.
        let far = WORDS_MAX as u64 * WORD + 70_000;
        set.insert(&txn(1, 7, far));
        set.insert(&txn(1, 7, 4));
        assert!(set.contains(&txn(1, 7, far)) && !set.contains(&txn(1, 7, 4)));
        assert!(set.0[1].words.len() <= WORDS_MAX);
    }

    #[test]
    fn a_later_ballot_begins_anew_and_an_older_one_counts_for_nothing() {
        let mut set = UnderWay::default();
        set.insert(&txn(1, 7, 900));
        set.insert(&txn(1, 9, 1));
        assert!(set.contains(&txn(1, 9, 1)) && !set.contains(&txn(1, 7, 900)));
        set.insert(&txn(1, 7, 901));
        assert!(!set.contains(&txn(1, 7, 901)));
        set.remove(&txn(1, 7, 1));
        assert!(set.contains(&txn(1, 9, 1)));
    }

    #[test]
    fn a_coordinator_that_cannot_be_has_no_window() {
        let mut set = UnderWay::default();
        set.insert(&txn(u32::MAX, 7, 1));
        assert!(set.0.is_empty() && !set.contains(&txn(u32::MAX, 7, 1)));
        set.remove(&txn(u32::MAX, 7, 1));
    }

    #[test]
    fn a_window_is_bounded_and_keeps_the_newest() {
        let mut set = UnderWay::default();
        let far = WORDS_MAX as u64 * WORD * 3;
        for counter in [1, far, far + 1, u64::MAX, u64::MAX - 1] {
            set.insert(&txn(1, 7, counter));
            assert!(set.contains(&txn(1, 7, counter)), "{counter}");
            assert!(set.0[1].words.len() <= WORDS_MAX);
        }
        assert!(!set.contains(&txn(1, 7, 1)) && !set.contains(&txn(1, 7, far)));
        set.remove(&txn(1, 7, u64::MAX));
        assert!(!set.contains(&txn(1, 7, u64::MAX)) && set.contains(&txn(1, 7, u64::MAX - 1)));
    }
}
