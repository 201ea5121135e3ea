//! Builds the graph of [`super`] from a history and the lives of accounts.

use std::collections::BTreeMap;
use std::fmt;

use quorate_protocol::ids::AccountId;
use quorate_protocol::ledger::{CodeKind, ResultCode};

use super::graph::{Graph, GraphBuilder, Node};
use crate::checkers::durability::same_fields;
use crate::checkers::model::{Actor, Step};
use crate::checkers::reads::Placed;
use crate::checkers::replays::{Moment, Replays};
use crate::history::History;

/// What a node stands for.
#[derive(Clone, Debug)]
pub enum Kind {
    Operation(Operation),
    /// A moment of real time at which something was answered.
    Answered(u64),
    /// Everything that ended on an account up to a slot.
    Ended {
        account: AccountId,
        moment: Moment,
    },
    /// Everything that took effect on an account up to a slot, for reads that saw it.
    Seen {
        account: AccountId,
        moment: Moment,
    },
    /// Everything that took effect on an account from a slot on, for reads that did not see it.
    Unseen {
        account: AccountId,
        moment: Moment,
    },
}

/// An operation of a client.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    Write(Actor, Span),
    Read {
        number: usize,
        account: AccountId,
        span: Span,
    },
}

/// When an operation was first sent and first known to be done.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub started_ns: u64,
    /// `None`: nobody was told.
    pub answered_ns: Option<u64>,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = match self {
            Self::Write(Actor::Creation(account), span) => {
                write!(f, "creation of account {account}")?;
                span
            }
            Self::Write(Actor::Transfer(id), span) => {
                write!(f, "transfer {id}")?;
                span
            }
            Self::Write(Actor::Move(source, id), span) => {
                write!(f, "move {id} from shard {source}")?;
                span
            }
            Self::Read {
                number,
                account,
                span,
            } => {
                write!(f, "read {number} of account {account}")?;
                span
            }
        };
        write!(f, " (sent at {} ns", span.started_ns)?;
        match span.answered_ns {
            Some(at_ns) => write!(f, ", answered at {at_ns} ns)"),
            None => write!(f, ", never answered)"),
        }
    }
}

/// The graph and what its nodes are.
#[derive(Debug)]
pub struct Built {
    pub graph: Graph,
    pub kinds: Vec<Kind>,
}

impl Built {
    /// A node as an index.
    #[must_use]
    pub fn index(&self, node: Node) -> usize {
        usize::try_from(node).expect("a u32 fits")
    }

    /// Whether the node is no operation.
    #[must_use]
    pub fn is_helper(&self, node: Node) -> bool {
        !matches!(self.kinds[self.index(node)], Kind::Operation(_))
    }
}

struct Builder {
    graph: GraphBuilder,
    kinds: Vec<Kind>,
    spans: Vec<(Node, Span)>,
}

/// Builds it.
#[must_use]
pub fn build(history: &History, replays: &Replays, reads: &[Placed]) -> Built {
    let mut builder = Builder {
        graph: GraphBuilder::default(),
        kinds: Vec::new(),
        spans: Vec::new(),
    };
    let mut writers: BTreeMap<Actor, Node> = BTreeMap::new();
    for (actor, span) in spans(history, replays) {
        let node = builder.operation(Operation::Write(actor, span), span);
        writers.insert(actor, node);
    }
    let mut readers: BTreeMap<AccountId, Vec<(Node, Option<Moment>)>> = BTreeMap::new();
    for placed in reads {
        let read = &history.reads[placed.read];
        let span = Span {
            started_ns: read.started_ns,
            answered_ns: read.answer.as_ref().map(|answer| answer.at_ns),
        };
        let operation = Operation::Read {
            number: placed.read,
            account: placed.account,
            span,
        };
        let node = builder.operation(operation, span);
        let of_account = readers.entry(placed.account).or_default();
        of_account.push((node, placed.saw));
    }
    for (&account, life) in &replays.lives {
        let steps: Vec<(Node, &Step)> = life
            .iter()
            .filter_map(|step| Some((*writers.get(&step.actor)?, step)))
            .collect();
        builder.effects(account, &steps);
        if let Some(readers) = readers.get(&account) {
            builder.seen(account, &steps, readers);
            builder.unseen(account, &steps, readers);
        }
    }
    builder.real_time();
    Built {
        graph: builder.graph.finish(),
        kinds: builder.kinds,
    }
}

impl Builder {
    fn node(&mut self, kind: Kind) -> Node {
        self.kinds.push(kind);
        self.graph.node()
    }

    fn operation(&mut self, operation: Operation, span: Span) -> Node {
        let node = self.node(Kind::Operation(operation));
        self.spans.push((node, span));
        node
    }

    /// A chain of helpers, one per key, each before the next.
    fn chain<K: Copy>(&mut self, keys: &[K], kind: impl Fn(K) -> Kind) -> Vec<Node> {
        let mut nodes: Vec<Node> = Vec::with_capacity(keys.len());
        for &key in keys {
            let node = self.node(kind(key));
            if let Some(&before) = nodes.last() {
                self.graph.edge(before, node);
            }
            nodes.push(node);
        }
        nodes
    }

    /// What ended before something else began.
    fn effects(&mut self, account: AccountId, steps: &[(Node, &Step)]) {
        let mut moments: Vec<Moment> = steps.iter().map(|(_, step)| step.moment()).collect();
        moments.dedup();
        let ended = self.chain(&moments, |moment| Kind::Ended { account, moment });
        for (node, step) in steps {
            let end = moments.partition_point(|moment| *moment < step.moment());
            self.graph.edge(*node, ended[end]);
            let begin = moments.partition_point(|moment| *moment < step.begin());
            if let Some(before) = begin.checked_sub(1) {
                self.graph.edge(ended[before], *node);
            }
        }
    }

    fn seen(
        &mut self,
        account: AccountId,
        steps: &[(Node, &Step)],
        readers: &[(Node, Option<Moment>)],
    ) {
        let moments = changes(steps);
        let seen = self.chain(&moments, |moment| Kind::Seen { account, moment });
        for (node, step) in steps.iter().filter(|(_, step)| step.sums.is_some()) {
            let at = moments.partition_point(|moment| *moment < step.moment());
            self.graph.edge(*node, seen[at]);
        }
        for (node, saw) in readers {
            let count = saw.map_or(0, |saw| moments.partition_point(|moment| *moment <= saw));
            if let Some(last) = count.checked_sub(1) {
                self.graph.edge(seen[last], *node);
            }
        }
    }

    fn unseen(
        &mut self,
        account: AccountId,
        steps: &[(Node, &Step)],
        readers: &[(Node, Option<Moment>)],
    ) {
        let moments = changes(steps);
        let unseen = self.chain(&moments, |moment| Kind::Unseen { account, moment });
        for (node, step) in steps.iter().filter(|(_, step)| step.sums.is_some()) {
            let at = moments.partition_point(|moment| *moment < step.moment());
            self.graph.edge(unseen[at], *node);
        }
        for (node, saw) in readers {
            let count = saw.map_or(0, |saw| moments.partition_point(|moment| *moment <= saw));
            if let Some(&next) = unseen.get(count) {
                self.graph.edge(*node, next);
            }
        }
    }

    /// What was answered before something else was sent: a sweep over the answers in their order.
    fn real_time(&mut self) {
        let spans = std::mem::take(&mut self.spans);
        let mut ends: Vec<u64> = spans.iter().filter_map(|(_, s)| s.answered_ns).collect();
        ends.sort_unstable();
        ends.dedup();
        let answered = self.chain(&ends, Kind::Answered);
        for (node, span) in spans {
            if let Some(at_ns) = span.answered_ns {
                let end = ends.partition_point(|end| *end < at_ns);
                self.graph.edge(node, answered[end]);
            }
            let begin = ends.partition_point(|end| *end < span.started_ns);
            if let Some(before) = begin.checked_sub(1) {
                self.graph.edge(answered[before], node);
            }
        }
    }
}

/// Moments at which the account changed.
fn changes(steps: &[(Node, &Step)]) -> Vec<Moment> {
    let changes = steps.iter().filter(|(_, step)| step.sums.is_some());
    let mut moments: Vec<Moment> = changes.map(|(_, step)| step.moment()).collect();
    moments.dedup();
    moments
}

/// Every operation that left a trace in the logs, with its time as clients know it.
fn spans(history: &History, replays: &Replays) -> BTreeMap<Actor, Span> {
    let mut spans: BTreeMap<Actor, Span> = BTreeMap::new();
    let mut note = |actor, started_ns: Option<u64>, answered_ns: Option<u64>| {
        let Some(started_ns) = started_ns else { return };
        let span = spans.entry(actor).or_insert(Span {
            started_ns,
            answered_ns: None,
        });
        span.started_ns = span.started_ns.min(started_ns);
        span.answered_ns = [span.answered_ns, answered_ns].into_iter().flatten().min();
    };
    for creation in &history.creations {
        let answered_ns = creation.answer.map(|answer| answer.at_ns);
        let actor = Actor::Creation(creation.account.id);
        note(actor, creation.started_ns, answered_ns);
    }
    for one in &history.moves {
        let answered_ns = one.answered_ns.filter(|_| one.moved == Some(true));
        note(Actor::Move(one.source, one.id), one.started_ns, answered_ns);
    }
    let mut kept = BTreeMap::new();
    for (_, decision) in replays.decisions() {
        kept.insert(decision.transfer.id, decision.transfer);
    }
    for transfer_use in &history.transfers {
        let id = transfer_use.transfer.id;
        let Some(kept) = kept.get(&id) else { continue };
        // A use with other fields can have told of the decision, but not have made it.
        let made = same_fields(kept, &transfer_use.transfer);
        let answered_ns = transfer_use
            .answer
            .filter(|answer| tells_of_decision(answer.code))
            .map(|answer| answer.at_ns);
        let started_ns = if made {
            transfer_use.started_ns
        } else {
            Some(u64::MAX)
        };
        note(Actor::Transfer(id), started_ns, answered_ns);
    }
    spans
}

/// Whether an answer was possible only once the id was decided.
fn tells_of_decision(code: ResultCode) -> bool {
    match code.kind() {
        CodeKind::Success | CodeKind::Recorded | CodeKind::Used => true,
        CodeKind::Malformed | CodeKind::Expired | CodeKind::Unlogged => false,
    }
}
