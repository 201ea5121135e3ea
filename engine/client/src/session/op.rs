//! One piece of work in progress: which rows have their final result.

use quorate_protocol::client::AccountAnswer;
use quorate_protocol::ledger::{CodeKind, ResultCode, ResultRow};

use super::part::index;
use super::work::{Cause, Completed, Outcome, PartResult};

#[derive(Debug)]
pub(super) struct Op {
    pub deadline_ns: u64,
    /// Rows without a final result; 1 for a whole request.
    open: usize,
    answer: Answer,
    parts: Vec<PartResult>,
    pub cause: Cause,
}

#[derive(Debug)]
enum Answer {
    Results(Vec<Item>),
    Lookups(Vec<Look>),
    Whole,
}

#[derive(Clone, Debug, Default)]
struct Look {
    /// The last answer; what there is to say at the deadline.
    answer: Option<AccountAnswer>,
    is_final: bool,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    row: ResultRow,
    state: ItemState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ItemState {
    /// Nothing that was sent can take effect any more; `row` says why not.
    Open,
    /// Something that was sent may take effect.
    MayHaveRun,
    Final,
}

impl Op {
    pub fn results(rows: usize, deadline_ns: u64) -> Self {
        // What is true of a row that no leader was ever asked about.
        let item = Item {
            row: ResultRow::unlogged(ResultCode::NotLeader),
            state: ItemState::Open,
        };
        Self::new(rows, Answer::Results(vec![item; rows]), deadline_ns)
    }

    pub fn lookups(rows: usize, deadline_ns: u64) -> Self {
        Self::new(
            rows,
            Answer::Lookups(vec![Look::default(); rows]),
            deadline_ns,
        )
    }

    pub fn whole(deadline_ns: u64) -> Self {
        Self::new(1, Answer::Whole, deadline_ns)
    }

    fn new(open: usize, answer: Answer, deadline_ns: u64) -> Self {
        Self {
            deadline_ns,
            open,
            answer,
            parts: Vec::new(),
            cause: Cause::NotSent,
        }
    }

    pub fn is_complete(&self) -> bool {
        self.open == 0
    }

    /// The rows are on their way.
    pub fn sent(&mut self, items: &[u32]) {
        if let Answer::Results(all) = &mut self.answer {
            for &item in items {
                all[index(item)].state = ItemState::MayHaveRun;
            }
        }
    }

    /// The last send of the rows did nothing and cannot any more, for the reason `code`;
    /// `uncertain` if an earlier one still may.
    pub fn did_nothing(&mut self, items: &[u32], code: ResultCode, uncertain: bool) {
        for &item in items {
            self.item_did_nothing(item, ResultRow::unlogged(code), uncertain);
        }
    }

    /// The same for one row, with its answer.
    pub fn item_did_nothing(&mut self, item: u32, row: ResultRow, uncertain: bool) {
        assert_eq!(row.result().map(ResultCode::kind), Some(CodeKind::Unlogged));
        if let Answer::Results(all) = &mut self.answer {
            let state = if uncertain {
                ItemState::MayHaveRun
            } else {
                ItemState::Open
            };
            all[index(item)] = Item { row, state };
        }
    }

    /// The final result of a row.
    pub fn finish_result(&mut self, item: u32, row: ResultRow) {
        let Answer::Results(all) = &mut self.answer else {
            unreachable!("only batches have result rows");
        };
        let slot = &mut all[index(item)];
        assert!(slot.state != ItemState::Final, "row {item} has its result");
        *slot = Item {
            row,
            state: ItemState::Final,
        };
        self.open -= 1;
    }

    /// The final answer of a look-up.
    pub fn finish_lookup(&mut self, item: u32, answer: AccountAnswer) {
        self.look_answered(item, answer, true);
        self.open -= 1;
    }

    /// The answer of a look-up that is asked again.
    pub fn postpone_lookup(&mut self, item: u32, answer: AccountAnswer) {
        self.look_answered(item, answer, false);
    }

    fn look_answered(&mut self, item: u32, answer: AccountAnswer, is_final: bool) {
        let Answer::Lookups(all) = &mut self.answer else {
            unreachable!("only look-ups have account answers");
        };
        let look = &mut all[index(item)];
        assert!(!look.is_final, "row {item} has its answer");
        *look = Look {
            answer: Some(answer),
            is_final,
        };
    }

    pub fn answered(&mut self, part: PartResult) {
        self.parts.push(part);
    }

    /// What there is to say at the deadline, or when every row is final.
    pub fn into_outcome(self) -> Outcome {
        match self.answer {
            Answer::Results(items) => Outcome::Results(Completed {
                rows: items.iter().map(final_row).collect(),
                parts: self.parts,
            }),
            Answer::Lookups(looks) => looks
                .into_iter()
                .map(|look| look.answer)
                .collect::<Option<Vec<_>>>()
                .map_or(Outcome::NoAnswer(self.cause), Outcome::Accounts),
            Answer::Whole => Outcome::NoAnswer(self.cause),
        }
    }
}

fn final_row(item: &Item) -> ResultRow {
    match item.state {
        ItemState::Final | ItemState::Open => item.row,
        ItemState::MayHaveRun => ResultRow::unlogged(ResultCode::Unknown),
    }
}
