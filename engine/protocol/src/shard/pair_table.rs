//! The table of telemetry beside a leader: what it is told, and how it answers.
//!
//! Finding one of a million pairs is a trip to memory or two. No transfer waits for it: the leader hands on what it has
//! committed in runs ([`Output::Count`]), and whoever runs the core keeps the table where it has time for it, such as on
//! another thread. Between the two is a bounded queue. What there was no room for in it is lost, and counted as left out.
//!
//! | told | what the table does |
//! |---|---|
//! | another beginning | forgets everything |
//! | a later window | counts from now on as part of that |
//! | transfers lost on the way | adds them to those left out of their window |
//! | [`Told::Pairs`] | counts them; adds those that it has no room for to those left out |
//! | [`Told::Question`] | gives the answer to a client |
//!
//! [`Output::Count`]: crate::output::Output::Count

use alloc::vec::Vec;
use core::num::NonZeroU32;

use crate::client::{PairRow, Reply, ReplyBody, TelemetryWindow, WINDOWS};
use crate::ids::{ConnectionId, RequestId};
use crate::shard::pairs::{Pair, Pairs};
use crate::time::Timestamp;
use crate::words::Rows;

/// What the table is told, in the order in which the leader says it. Any may be lost.
#[derive(Clone, Debug)]
pub struct Counting {
    pub(crate) period: Period,
    /// What was lost on the way before this: see [`Counting::lose`].
    pub(crate) lost: Lost,
    pub(crate) told: Told,
}

/// When it was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    /// The monotonic time at which the leader began to count.
    pub began_ns: u64,
    /// The window, from one on.
    pub window: NonZeroU32,
}

impl Default for Period {
    fn default() -> Self {
        Self {
            began_ns: 0,
            window: NonZeroU32::MIN,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// Who paid whom.
    Pairs(Vec<Pair>),
    Question(Question),
}

/// `Observe` of a client, with what the leader itself knows.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub connection: ConnectionId,
    pub request: RequestId,
    pub clock: Timestamp,
    /// The rows in up to `limit` places from there on.
    pub from: u32,
    pub limit: u32,
    /// Without those left out.
    pub windows: Vec<TelemetryWindow>,
}

/// Transfers that found no room on their way to the table: their number, and when the last of them were counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lost {
    period: Period,
    transfers: u64,
}

impl Counting {
    /// Takes along what was lost before it.
    pub fn carry(&mut self, lost: &mut Lost) {
        let lost = core::mem::take(lost);
        if lost.period.began_ns == self.period.began_ns {
            self.lost = lost;
        }
    }

    /// There is no room for it: gives back what is to be carried by the next, and the answer to whom it was asked for.
    #[must_use]
    pub fn lose(self) -> (Lost, Option<(ConnectionId, Reply)>) {
        match self.told {
            Told::Pairs(pairs) => {
                let lost = Lost {
                    period: self.period,
                    transfers: self.lost.transfers + pairs.len() as u64,
                };
                (lost, None)
            }
            Told::Question(question) => (self.lost, Some(question.reply(ReplyBody::Busy))),
        }
    }
}

impl Question {
    fn reply(&self, body: ReplyBody) -> (ConnectionId, Reply) {
        let reply = Reply {
            id: self.request,
            clock: self.clock,
            body,
        };
        (self.connection, reply)
    }
}

/// A page of the table for a client. It may change threads, which rows of a reply may not.
#[derive(Debug)]
pub struct Answer {
    question: Question,
    rows: Vec<PairRow>,
    next: u32,
}

impl Answer {
    /// As the client gets it.
    #[must_use]
    pub fn reply(mut self) -> (ConnectionId, Reply) {
        let windows = core::mem::take(&mut self.question.windows);
        self.question.reply(ReplyBody::Pairs {
            rows: Rows::from_slice(&self.rows),
            next: self.next,
            windows,
        })
    }
}

/// Weighted pairs of one leader, and how many transfers were left out.
#[derive(Debug, Default)]
pub struct PairTable {
    period: Period,
    pairs: Pairs,
    /// Of the present window, and of those before it, the newest first.
    left_out: [u64; WINDOWS],
}

impl PairTable {
    /// Takes in what it is told; returns an answer if that was asked for.
    pub fn take(&mut self, counting: Counting) -> Option<Answer> {
        self.follow(counting.period);
        self.leave_out(counting.lost);
        match counting.told {
            Told::Pairs(pairs) => {
                let left_out = self.pairs.count(&pairs);
                self.leave_out(Lost {
                    period: self.period,
                    transfers: left_out,
                });
                self.pairs.sweep();
                None
            }
            Told::Question(question) => Some(self.answer(question)),
        }
    }

    fn follow(&mut self, period: Period) {
        if period.began_ns != self.period.began_ns {
            *self = Self::default();
            self.period.began_ns = period.began_ns;
        }
        while self.period.window < period.window {
            self.pairs.begin_window();
            self.period.window = self.pairs.window();
            self.left_out.rotate_right(1);
            let [present, ..] = &mut self.left_out;
            *present = 0;
        }
    }

    /// Of a window that is not told apart any more it is forgotten.
    fn leave_out(&mut self, lost: Lost) {
        let age = self.period.window.get() - lost.period.window.get();
        let age = usize::try_from(age).unwrap_or(usize::MAX);
        if let Some(of_window) = self.left_out.get_mut(age) {
            *of_window += lost.transfers;
        }
    }

    fn answer(&self, mut question: Question) -> Answer {
        let (rows, next) = self.pairs.rows(question.from, question.limit);
        for (window, left_out) in question.windows.iter_mut().zip(self.left_out) {
            window.dropped = left_out;
        }
        Answer {
            question,
            rows,
            next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::AccountId;
    use crate::limits::TELEMETRY_PAIRS_MAX;

    fn period(began_ns: u64, window: u32) -> Period {
        Period {
            began_ns,
            window: NonZeroU32::new(window).unwrap(),
        }
    }

    fn paid(period: Period, pairs: u128) -> Counting {
        let pairs = (0..pairs).map(|pair| (AccountId(2 * pair + 1), AccountId(2 * pair + 2)));
        Counting {
            period,
            lost: Lost::default(),
            told: Told::Pairs(pairs.collect()),
        }
    }

    fn asked(period: Period, windows: usize) -> Counting {
        Counting {
            period,
            lost: Lost::default(),
            told: Told::Question(Question {
                connection: ConnectionId(3),
                request: RequestId(4),
                clock: Timestamp(5),
                from: 0,
                limit: u32::MAX,
                windows: alloc::vec![TelemetryWindow::default(); windows],
            }),
        }
    }

    /// Counts by pair and window, and those left out by window.
    fn listed(table: &mut PairTable, period: Period) -> (Vec<[u32; WINDOWS]>, Vec<u64>) {
        let (connection, reply) = table
            .take(asked(period, WINDOWS))
            .expect("an answer")
            .reply();
        assert_eq!((connection, reply.id), (ConnectionId(3), RequestId(4)));
        assert_eq!(reply.clock, Timestamp(5));
        let ReplyBody::Pairs { rows, windows, .. } = reply.body else {
            panic!("{reply:?}");
        };
        let counts = rows.iter().map(|row| row.counts).collect();
        (counts, windows.iter().map(|it| it.dropped).collect())
    }

    #[test]
    fn what_is_lost_on_the_way_is_told_by_the_next_of_the_same_beginning() {
        let mut table = PairTable::default();
        let first = period(7, 1);
        assert!(table.take(paid(first, 2)).is_none());
        let (mut lost, refused) = paid(first, 5).lose();
        assert!(refused.is_none());
        let mut next = paid(first, 3);
        next.carry(&mut lost);
        let (mut lost, _) = next.lose();
        let mut question = asked(first, WINDOWS);
        question.carry(&mut lost);
        let (mut lost, refused) = question.lose();
        assert_eq!(refused.unwrap().1.body, ReplyBody::Busy);
        let mut arrived = paid(first, 1);
        arrived.carry(&mut lost);
        table.take(arrived);
        let mut later = paid(first, 1);
        later.carry(&mut lost);
        table.take(later);
        let (counts, left_out) = listed(&mut table, first);
        assert_eq!(counts[..], [[3, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]]);
        assert_eq!(left_out[..2], [8, 0]);
        let (mut lost, _) = paid(first, 9).lose();
        let mut anew = paid(period(8, 1), 1);
        anew.carry(&mut lost);
        table.take(anew);
        assert_eq!(listed(&mut table, period(8, 1)).1[0], 0);
    }

    #[test]
    fn windows_pass_though_nobody_told_of_each_and_another_beginning_forgets_all() {
        let mut table = PairTable::default();
        table.take(paid(period(7, 1), 2));
        let (mut lost, _) = paid(period(7, 1), 4).lose();
        let mut late = paid(period(7, 3), 1);
        late.carry(&mut lost);
        table.take(late);
        let (counts, left_out) = listed(&mut table, period(7, 4));
        assert_eq!(counts[..], [[0, 1, 0, 1, 0, 0], [0, 0, 0, 1, 0, 0]]);
        assert_eq!(left_out[..], [0, 0, 0, 4, 0, 0]);
        table.take(paid(period(9, 1), 0));
        let (counts, left_out) = listed(&mut table, period(9, 1));
        assert_eq!((counts.len(), left_out), (0, alloc::vec![0; WINDOWS]));
    }

    /// They were given back a part with each run, and a leader that commits little has fewer runs in a window than there are
    /// parts: what came no more stayed in the others for ever, until there was no room for what did come.
    #[test]
    fn pairs_that_come_no_more_give_their_room_back_though_few_others_come() {
        let mut table = PairTable::default();
        let all = TELEMETRY_PAIRS_MAX as u128;
        table.take(paid(period(7, 1), all));
        for window in 2..100 {
            table.take(paid(period(7, window), 1));
        }
        assert!(listed(&mut table, period(7, 99)).0.len() <= TELEMETRY_PAIRS_MAX / 2);
    }
}
