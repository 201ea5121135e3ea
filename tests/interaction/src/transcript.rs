//! What the replicas did, as lines.
//!
//! Every message sent, every record logged, every flush and every reply, in their order; equal doings
//! of several replicas in a row are one line. Heartbeats and the chosen watermark, which is written
//! when nothing else is, are left out unless `verbose`.

use std::collections::BTreeSet;

use quorate_protocol::ids::ReplicaAddress;
use quorate_protocol::output::Record;

use crate::cluster::Letter;
use crate::render;

/// A line of output that may still grow.
#[derive(Debug)]
enum Line {
    Sent {
        from: ReplicaAddress,
        to: Vec<String>,
        text: String,
    },
    /// Replicas that did the same one after the other.
    Did {
        at: Vec<ReplicaAddress>,
        what: String,
    },
    Text(String),
}

/// Lines so far.
#[derive(Debug, Default)]
pub struct Transcript {
    /// Heartbeats and watermarks too.
    pub verbose: bool,
    /// Nothing but replies.
    pub quiet: bool,
    lines: Vec<Line>,
    /// Replicas with a record that was shown and is not durable.
    unflushed: BTreeSet<ReplicaAddress>,
}

impl Transcript {
    /// A line of its own.
    pub fn text(&mut self, text: String) {
        self.lines.push(Line::Text(text));
    }

    /// A message was sent; `fate` keeps it from arriving.
    pub fn sent(&mut self, letter: &Letter, fate: Option<&str>) {
        if self.quiet || (is_heartbeat(letter) && !self.verbose) {
            return;
        }
        let mark = fate.map_or(String::new(), |fate| format!(" ({fate})"));
        let receiver = format!("{}{mark}", letter.to);
        let text = render::message(&letter.message);
        match self.lines.last_mut() {
            Some(Line::Sent {
                from,
                to,
                text: same,
            }) if *from == letter.from && *same == text && !to.contains(&receiver) => {
                to.push(receiver);
            }
            _ => self.lines.push(Line::Sent {
                from: letter.from,
                to: vec![receiver],
                text,
            }),
        }
    }

    /// A record was appended to a log.
    pub fn logged(&mut self, at: ReplicaAddress, record: &Record) {
        let what = match record {
            Record::Chosen { .. } if !self.verbose => return,
            // A follower's entry was just shown in the message that brought it.
            Record::Accepted { ballot, slot, .. } if ballot.replica() != at.replica => {
                format!("accepted {ballot} slot {slot}")
            }
            Record::Promise { .. } | Record::Chosen { .. } | Record::Accepted { .. } => {
                render::record(record)
            }
        };
        self.unflushed.insert(at);
        self.did(at, format!("logs {what}"));
    }

    /// A log was flushed. It is not shown if nothing of what it made durable was.
    pub fn flushed(&mut self, at: ReplicaAddress) {
        if self.unflushed.remove(&at) {
            self.did(at, "flushed".to_owned());
        }
    }

    /// A process has ended.
    pub fn crashed(&mut self, at: ReplicaAddress) {
        self.unflushed.remove(&at);
    }

    /// A replica did something by itself.
    pub fn did(&mut self, by: ReplicaAddress, did: String) {
        if self.quiet {
            return;
        }
        match self.lines.last_mut() {
            Some(Line::Did { at, what }) if *what == did && !at.contains(&by) => at.push(by),
            _ => self.lines.push(Line::Did {
                at: vec![by],
                what: did,
            }),
        }
    }

    /// How much there is.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.lines.len()
    }

    /// Forgets what came after a mark.
    pub fn cut_back(&mut self, mark: usize) {
        self.lines.truncate(mark);
    }

    /// Takes the lines.
    pub fn take(&mut self) -> Vec<String> {
        let lines = std::mem::take(&mut self.lines);
        lines
            .into_iter()
            .map(|line| match line {
                Line::Sent { from, to, text } => format!("{from} > {}: {text}", to.join(", ")),
                Line::Did { at, what } => format!("{} {what}", list(&at)),
                Line::Text(text) => text,
            })
            .collect()
    }
}

/// Whether a message carries nothing but life.
#[must_use]
pub fn is_heartbeat(letter: &Letter) -> bool {
    matches!(
        render::kind(&letter.message),
        "Heartbeat" | "HeartbeatReply"
    )
}

/// Words with spaces between them.
#[must_use]
pub fn list<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(" ")
}
