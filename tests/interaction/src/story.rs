//! Carries out the commands of a story on a cluster.
//!
//! This file moves the replicas; how their doings become lines is in [`crate::transcript`].

use std::collections::{BTreeMap, BTreeSet};

use quorate_protocol::client::{ReplyBody, Request, RequestBody};
use quorate_protocol::ids::{
    AccountId, ConnectionId, ReplicaAddress, RequestId, ShardId, TransferId,
};
use quorate_protocol::ledger::{Account, AccountFlags, Transfer};
use quorate_protocol::shard::map::Placement;
use quorate_protocol::time::{MS, SECOND, Timestamp};
use quorate_protocol::words::Rows;

use crate::cluster::{Cluster, Event, Letter, WALL_NS};
use crate::command::{Act, Command, End, Handling, Pattern, Sending, View};
use crate::render;
use crate::script::{Script, ScriptError};
use crate::transcript::{Transcript, is_heartbeat, list};
use crate::view;

/// A command that goes on for longer goes on for ever.
const STEPS_MAX: u32 = 100_000;
/// All requests of a story come over one connection.
const CLIENT: ConnectionId = ConnectionId(1);
/// Transfers that `given` makes have ids from here on.
const FUNDING_IDS: u128 = 1_000_000;

/// A story being told.
struct Teller {
    cluster: Cluster,
    holds: Vec<Pattern>,
    cuts: Vec<(End, End)>,
    stalled: BTreeSet<ReplicaAddress>,
    requests: u64,
    labels: BTreeMap<RequestId, String>,
    last_reply: Option<ReplyBody>,
    transcript: Transcript,
}

type Told<T> = Result<T, String>;

/// Runs a whole story: the output of each of its blocks.
///
/// # Errors
/// At the first command that cannot be carried out.
pub fn tell(script: &Script) -> Result<Vec<Vec<String>>, ScriptError> {
    let mut teller: Option<Teller> = None;
    let mut outputs = Vec::new();
    for block in script.blocks() {
        let mut output = Vec::new();
        for line in &block.commands {
            if let Command::Cluster(shape) = &line.command {
                teller = Some(Teller::new(Cluster::new(shape.0)));
                continue;
            }
            let teller = teller.as_mut().expect("the parser saw the cluster first");
            teller
                .command(&line.command)
                .map_err(|reason| ScriptError {
                    file: script.file.clone(),
                    line: line.line,
                    reason,
                })?;
            output.extend(teller.transcript.take());
        }
        outputs.push(output);
    }
    Ok(outputs)
}

impl Teller {
    fn new(cluster: Cluster) -> Self {
        let mut teller = Self {
            cluster,
            holds: Vec::new(),
            cuts: Vec::new(),
            stalled: BTreeSet::new(),
            requests: 0,
            labels: BTreeMap::new(),
            last_reply: None,
            transcript: Transcript::default(),
        };
        teller.note();
        teller
    }

    fn command(&mut self, command: &Command) -> Told<()> {
        match command {
            Command::Cluster(_) => unreachable!("a story has one cluster"),
            Command::Boot => self.boot(),
            Command::Given(accounts) => self.given(accounts),
            Command::Create { .. }
            | Command::Transfer { .. }
            | Command::Lookup { .. }
            | Command::LookupTransfer { .. }
            | Command::Move { .. }
            | Command::HandOver { .. } => self.request(command),
            Command::Handle {
                handling,
                first,
                pattern,
            } => self.handle(*handling, *first, pattern),
            Command::Hold(pattern) => {
                self.holds.push(pattern.clone());
                Ok(())
            }
            Command::Release(pattern) => self.release(pattern),
            Command::Cut(a, b) => {
                self.cuts.push((*a, *b));
                self.note();
                Ok(())
            }
            Command::Heal => {
                self.cuts.clear();
                Ok(())
            }
            Command::Process { act, at } => self.process(*act, *at),
            Command::Advance(ns) => {
                self.cluster.set_now_ns(self.cluster.now_ns() + ns);
                Ok(())
            }
            Command::Settle => self.settle(),
            Command::Run(ns) => self.run(*ns),
            Command::Verbose(on) => {
                self.transcript.verbose = *on;
                Ok(())
            }
            Command::Show(view) => self.show(*view),
            Command::Check => {
                let line = view::check(&self.cluster)?;
                self.transcript.text(line);
                Ok(())
            }
            Command::Quietly(command) => self.quietly(|teller| {
                teller.command(command)?;
                teller.settle()
            }),
        }
    }

    /// Does something to one replica, its disk or its clock.
    fn process(&mut self, act: Act, at: ReplicaAddress) -> Told<()> {
        if !self.cluster.knows(at) {
            return Err(format!("there is no {at} in this cluster"));
        }
        let runs = self.cluster.replica(at).is_some();
        match act {
            Act::Restart if runs => return Err(format!("{at} runs")),
            Act::Restart => self.cluster.start(at),
            Act::Flush | Act::Crash(_) | Act::Tick if !runs => {
                return Err(format!("{at} does not run"));
            }
            Act::Flush => {
                let upto = self.cluster.last_appended(at);
                let upto = upto.ok_or_else(|| format!("{at} has nothing to flush"))?;
                self.cluster.flush(at, upto);
            }
            Act::Crash(unflushed) => {
                self.cluster.crash(at, unflushed);
                self.transcript.crashed(at);
            }
            Act::Tick => self.cluster.tick(at),
            Act::Rot(slot) if self.cluster.rot(at, slot) => {}
            Act::Rot(slot) => return Err(format!("{at} has no durable record of slot {slot}")),
            Act::Stall => {
                self.stalled.insert(at);
            }
            Act::Unstall => {
                self.stalled.remove(&at);
            }
            Act::Ahead(ns) => self.cluster.set_ahead_ns(at, ns),
        }
        self.note();
        Ok(())
    }

    fn quietly(&mut self, what: impl FnOnce(&mut Self) -> Told<()>) -> Told<()> {
        let was = std::mem::replace(&mut self.transcript.quiet, true);
        let done = what(self);
        self.transcript.quiet = was;
        done
    }

    fn boot(&mut self) -> Told<()> {
        let shards = self.cluster.shape().shards;
        let all = |cluster: &Cluster| {
            let mut shards = (1..=shards).map(ShardId);
            shards.all(|shard| cluster.leader(shard).is_some())
        };
        let end_ns = self.cluster.now_ns() + 5 * SECOND;
        self.quietly(|teller| {
            while !all(&teller.cluster) && teller.cluster.now_ns() < end_ns {
                teller.run(10 * MS)?;
            }
            teller.run(200 * MS)
        })?;
        for shard in (1..=shards).map(ShardId) {
            let leader = self.leader(shard)?;
            let replica = self.cluster.replica(leader).expect("it leads");
            let ballot = replica.serving().expect("it leads");
            let text = format!("{leader} leads under {ballot}");
            self.transcript.text(text);
        }
        Ok(())
    }

    /// Accounts with money, paid by a system account at the end of each shard's range.
    fn given(&mut self, accounts: &[(AccountId, u128)]) -> Told<()> {
        let limited = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
        let unlimited = AccountFlags::SYSTEM;
        for &(id, money) in accounts {
            let range = u128::from(self.cluster.shape().accounts_per_shard);
            let funder = AccountId(u128::from(self.home(id).0) * range);
            self.must(&create(id, limited), &["ok"])?;
            if money > 0 {
                self.must(&create(funder, unlimited), &["ok", "exists"])?;
                let order = Command::Transfer {
                    id: TransferId(FUNDING_IDS + id.0),
                    debit: funder,
                    credit: id,
                    amount: money,
                    sending: Sending::default(),
                };
                self.must(&order, &["ok"])?;
            }
        }
        self.quietly(|teller| teller.run(100 * MS))
    }

    /// A preparation that has to succeed; nothing of it is written down.
    fn must(&mut self, command: &Command, answers: &[&str]) -> Told<()> {
        let before = self.transcript.mark();
        self.last_reply = None;
        self.quietly(|teller| {
            teller.command(command)?;
            teller.settle()
        })?;
        self.transcript.cut_back(before);
        let answer = self.last_reply.as_ref().map(render::reply);
        match answer {
            Some(answer) if answers.contains(&&*answer) => Ok(()),
            answer => Err(format!("{command:?} was answered {answer:?}")),
        }
    }

    fn request(&mut self, command: &Command) -> Told<()> {
        let (label, shard, sending, body) = match command {
            Command::Create { id, flags, sending } => {
                let rows = Rows::from_slice(&[Account::new(*id, 1, 1, *flags)]);
                let body = RequestBody::CreateAccounts(rows);
                (format!("create {id}"), self.home(*id), *sending, body)
            }
            Command::Transfer {
                id,
                debit,
                credit,
                amount,
                sending,
            } => {
                let transfer = Transfer::new(*id, *debit, *credit, *amount, 1, 1);
                let body = RequestBody::CreateTransfers(Rows::from_slice(&[transfer]));
                (format!("transfer {id}"), self.home(*debit), *sending, body)
            }
            Command::Lookup { ids, sending } => {
                let body = RequestBody::LookupAccounts(Rows::from_slice(ids));
                (
                    format!("lookup {}", list(ids)),
                    self.home(ids[0]),
                    *sending,
                    body,
                )
            }
            Command::LookupTransfer { id, sending } => {
                let body = RequestBody::LookupTransfers(Rows::from_slice(&[*id]));
                ("lookup-transfer".to_owned(), ShardId(1), *sending, body)
            }
            Command::Move {
                id,
                accounts,
                target,
                sending,
            } => {
                let body = RequestBody::MoveAccounts {
                    id: *id,
                    target: *target,
                    accounts: Rows::from_slice(accounts),
                };
                (format!("move {id}"), self.home(accounts[0]), *sending, body)
            }
            Command::HandOver { shard, to } => {
                let body = RequestBody::TransferLeadership { to: *to };
                ("hand-over".to_owned(), *shard, Sending::default(), body)
            }
            other => unreachable!("{other:?} is no request"),
        };
        self.send(label, shard, sending, body)
    }

    fn send(
        &mut self,
        label: String,
        home: ShardId,
        sending: Sending,
        body: RequestBody,
    ) -> Told<()> {
        let shard = sending.shard.unwrap_or(home);
        let at = match sending.replica {
            Some(replica) => ReplicaAddress { shard, replica },
            None => self.leader(shard)?,
        };
        if self.cluster.replica(at).is_none() {
            return Err(format!("{at} does not run"));
        }
        self.requests += 1;
        let id = RequestId(self.requests);
        self.labels.insert(id, label);
        let ahead_ns = sending.seen_ahead_ns;
        let seen = ahead_ns.map_or(0, |ns| WALL_NS + self.cluster.now_ns() + ns);
        let request = Request {
            id,
            deadline_ms: sending.within_ms,
            seen: Timestamp(seen),
            body,
        };
        self.cluster.ask(at, CLIENT, request);
        self.note();
        Ok(())
    }

    fn handle(&mut self, handling: Handling, first: bool, pattern: &Pattern) -> Told<()> {
        let matching = self
            .cluster
            .in_flight()
            .iter()
            .filter(|l| matches(pattern, l));
        let mut numbers: Vec<u64> = matching.map(|letter| letter.number).collect();
        if numbers.is_empty() {
            return Err("no such message is in flight".to_owned());
        }
        if first {
            numbers.truncate(1);
        }
        for number in numbers {
            match handling {
                Handling::Deliver => self.cluster.deliver(number),
                Handling::Drop => self.cluster.drop_letter(number),
                Handling::Duplicate => self.cluster.deliver_copy(number),
            }
            self.note();
        }
        Ok(())
    }

    fn release(&mut self, pattern: &Pattern) -> Told<()> {
        let before = self.holds.len();
        self.holds.retain(|held| held != pattern);
        if self.holds.len() == before {
            return Err("nothing is held like that".to_owned());
        }
        Ok(())
    }

    fn settle(&mut self) -> Told<()> {
        for _ in 0..STEPS_MAX {
            let mut letters = self.cluster.in_flight().iter();
            if let Some(letter) = letters.find(|letter| !self.is_held(letter)) {
                self.cluster.deliver(letter.number);
            } else if let Some((at, upto)) = self.to_flush() {
                self.cluster.flush(at, upto);
            } else {
                return Ok(());
            }
            self.note();
        }
        Err(format!("not quiet after {STEPS_MAX} steps"))
    }

    fn to_flush(&self) -> Option<(ReplicaAddress, quorate_protocol::ids::PersistSeq)> {
        let mut free = self
            .cluster
            .addresses()
            .filter(|at| !self.stalled.contains(at));
        free.find_map(|at| Some((at, self.cluster.last_appended(at)?)))
    }

    fn run(&mut self, ns: u64) -> Told<()> {
        let end_ns = self.cluster.now_ns() + ns;
        self.settle()?;
        for _ in 0..STEPS_MAX {
            let Some((due_ns, at)) = self.cluster.next_tick().filter(|(due, _)| *due <= end_ns)
            else {
                self.cluster.set_now_ns(end_ns);
                return Ok(());
            };
            self.cluster.set_now_ns(due_ns.max(self.cluster.now_ns()));
            self.cluster.tick(at);
            self.note();
            self.settle()?;
        }
        Err(format!("a timer never ends within {STEPS_MAX} ticks"))
    }

    fn show(&mut self, view: View) -> Told<()> {
        let lines = match view {
            View::Shard(shard) => view::shard(&self.cluster, shard),
            View::Account(id) => view::account(&self.cluster, id),
            View::Transfer(id) => view::transfer(&self.cluster, id),
            View::Flight => {
                let letters = self.cluster.in_flight().iter();
                let letters =
                    letters.filter(|letter| self.transcript.verbose || !is_heartbeat(letter));
                letters
                    .map(|l| {
                        format!(
                            "in flight {} > {}: {}",
                            l.from,
                            l.to,
                            render::message(&l.message)
                        )
                    })
                    .collect()
            }
        };
        if lines.is_empty() {
            return Err("there is no such thing".to_owned());
        }
        lines
            .into_iter()
            .for_each(|line| self.transcript.text(line));
        Ok(())
    }

    /// Writes down what has happened since the last time, and loses what was sent over a cut link.
    fn note(&mut self) {
        for event in self.cluster.take_events() {
            match event {
                Event::Sent(letter) => {
                    let fate = self.fate(&letter);
                    self.transcript.sent(&letter, fate);
                }
                Event::Logged { at, record } => self.transcript.logged(at, &record),
                Event::Flushed { at } => self.transcript.flushed(at),
                Event::ReadBack { at, from, upto } => {
                    let what = format!("reads slots {from}..{upto} of its log");
                    self.transcript.did(at, what);
                }
                Event::Stopped { at, reason } => {
                    self.transcript.did(at, format!("stops: {reason:?}"));
                }
                Event::Replied { at, reply, .. } => {
                    let label = self.labels.get(&reply.id).map_or("nothing", String::as_str);
                    let body = render::reply(&reply.body);
                    self.transcript
                        .text(format!("{at} > client: {label}: {body}"));
                    self.last_reply = Some(reply.body);
                }
            }
        }
        let cut = self.cluster.in_flight().iter().filter(|l| self.is_cut(l));
        let cut: Vec<u64> = cut.map(|letter| letter.number).collect();
        for number in cut {
            self.cluster.drop_letter(number);
        }
    }

    /// What keeps a message from arriving, if anything does now.
    fn fate(&self, letter: &Letter) -> Option<&'static str> {
        if self.is_cut(letter) {
            Some("cut")
        } else if self.cluster.replica(letter.to).is_none() {
            Some("down")
        } else {
            self.is_held(letter).then_some("held")
        }
    }

    fn is_held(&self, letter: &Letter) -> bool {
        self.holds.iter().any(|pattern| matches(pattern, letter))
    }

    fn is_cut(&self, letter: &Letter) -> bool {
        let between = |a: &End, b: &End| a.covers(letter.from) && b.covers(letter.to);
        self.cuts
            .iter()
            .any(|(a, b)| between(a, b) || between(b, a))
    }

    fn leader(&self, shard: ShardId) -> Told<ReplicaAddress> {
        let leader = self.cluster.leader(shard);
        leader.ok_or_else(|| format!("shard {shard} has no leader"))
    }

    fn home(&self, account: AccountId) -> ShardId {
        let shape = self.cluster.shape();
        let accounts_per_shard = shape.accounts_per_shard;
        Placement::Range { accounts_per_shard }.home(account, shape.shards)
    }
}

fn create(id: AccountId, flags: AccountFlags) -> Command {
    let sending = Sending::default();
    Command::Create { id, flags, sending }
}

fn matches(pattern: &Pattern, letter: &Letter) -> bool {
    let kind = render::kind(&letter.message);
    pattern.from.covers(letter.from)
        && pattern.to.covers(letter.to)
        && pattern.kind.as_ref().is_none_or(|wanted| wanted == kind)
}
