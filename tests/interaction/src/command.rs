//! The commands of a story and how they are written.
//!
//! | command | what it does |
//! | --- | --- |
//! | `cluster [shards=2] [replicas=3] [reads=lease] [ids=any] [accounts=10]` | starts all replicas on empty logs |
//! | `boot` | runs until every shard has a leader |
//! | `given 1=1000 2 11=50` | accounts that may not be overdrawn, with money |
//! | `create 1 [closed] [system] [unlimited] [at s1]` | creates an account |
//! | `transfer 5 1 -> 11 300 [at s1r2] [within 100ms] [seen +3s]` | a client pays |
//! | `lookup 1 11 [at s1]`, `lookup-transfer 5 [at s1]` | a client reads |
//! | `move 7 1 2 -> s2 [at s1]` | the operator's tool moves accounts |
//! | `hand-over s1 r2` | the operator moves leadership |
//! | `deliver`, `drop`, `duplicate [first] FROM TO [KIND]` | messages in flight now |
//! | `hold`, `release FROM TO [KIND]` | what `settle` and `run` leave in flight |
//! | `cut A B`, `heal` | no message between A and B arrives |
//! | `flush s1r1`, `stall s1r1`, `unstall s1r1` | durability; a stalled disk is left alone by `settle` |
//! | `crash s1r1 [keeping]`, `restart s1r1` | `keeping`: what was not flushed survives |
//! | `rot s1r1 6` | its newest durable record of slot 6 cannot be read any more |
//! | `tick s1r1`, `advance 1s` | a timer; time that nobody is told of |
//! | `settle` | delivers and flushes until nothing is left to do now |
//! | `run 600ms` | time passes with ticks, `settle` after each |
//! | `ahead s1r1 3s` | its wall clock runs ahead |
//! | `verbose on` | heartbeats and chosen watermarks are shown too |
//! | `show s1`, `show account 1`, `show transfer 5`, `show flight` | state |
//! | `check` | replicas equal, books balanced, nothing reserved or staged |
//! | `quietly COMMAND` | the command and `settle`; only replies are shown |

use quorate_protocol::config::{IdRule, Reads};
use quorate_protocol::ids::{
    AccountId, MoveId, ReplicaAddress, ReplicaId, ShardId, Slot, TransferId,
};
use quorate_protocol::ledger::AccountFlags;
use quorate_protocol::time::{MS, SECOND};

use crate::cluster::Shape;
use crate::disk::Unflushed;
use crate::render::KINDS;

/// One end of a link: a replica, a shard, or anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub shard: Option<ShardId>,
    pub replica: Option<ReplicaId>,
}

impl End {
    /// Whether a replica is meant.
    #[must_use]
    pub fn covers(&self, at: ReplicaAddress) -> bool {
        self.shard.is_none_or(|shard| shard == at.shard)
            && self.replica.is_none_or(|replica| replica == at.replica)
    }
}

/// Which messages are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub from: End,
    pub to: End,
    pub kind: Option<String>,
}

/// Where a client's request goes, and how it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sending {
    /// To the leader of this shard, rather than of the first account's home.
    pub shard: Option<ShardId>,
    /// To this replica, leader or not.
    pub replica: Option<ReplicaId>,
    /// Deadline; 0 asks for the default.
    pub within_ms: u32,
    /// How far ahead of the cluster's time the client claims to have seen.
    pub seen_ahead_ns: Option<u64>,
}

/// What is done with messages in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    Deliver,
    Drop,
    Duplicate,
}

/// What happens to a replica, its disk or its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Flush,
    Stall,
    Unstall,
    Crash(Unflushed),
    Restart,
    Tick,
    /// Its newest durable record of the slot cannot be read any more.
    Rot(Slot),
    /// Its wall clock runs ahead by so many nanoseconds.
    Ahead(u64),
}

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Shard(ShardId),
    Account(AccountId),
    Transfer(TransferId),
    Flight,
}

/// A command.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Cluster(ShapeOf),
    Boot,
    Given(Vec<(AccountId, u128)>),
    Create {
        id: AccountId,
        flags: AccountFlags,
        sending: Sending,
    },
    Transfer {
        id: TransferId,
        debit: AccountId,
        credit: AccountId,
        amount: u128,
        sending: Sending,
    },
    Lookup {
        ids: Vec<AccountId>,
        sending: Sending,
    },
    LookupTransfer {
        id: TransferId,
        sending: Sending,
    },
    Move {
        id: MoveId,
        accounts: Vec<AccountId>,
        target: ShardId,
        sending: Sending,
    },
    HandOver {
        shard: ShardId,
        to: ReplicaId,
    },
    Handle {
        handling: Handling,
        first: bool,
        pattern: Pattern,
    },
    Hold(Pattern),
    Release(Pattern),
    Cut(End, End),
    Heal,
    Process {
        act: Act,
        at: ReplicaAddress,
    },
    Advance(u64),
    Settle,
    Run(u64),
    Verbose(bool),
    Show(View),
    Check,
    Quietly(Box<Command>),
}

/// [`Shape`] with the comparisons that tests of the parser want.
#[derive(Clone, Copy, Debug)]
pub struct ShapeOf(pub Shape);

impl PartialEq for ShapeOf {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

/// The words of a command that are not read yet.
struct Words<'a> {
    words: std::iter::Peekable<std::str::SplitWhitespace<'a>>,
}

/// What can be done to a replica.
const ACTS: [&str; 8] = [
    "flush", "stall", "unstall", "crash", "restart", "tick", "rot", "ahead",
];

type Parsed<T> = Result<T, String>;

/// Reads one command line.
///
/// # Errors
/// With what is wrong about it.
pub fn parse(line: &str) -> Parsed<Command> {
    let mut words = Words {
        words: line.split_whitespace().peekable(),
    };
    let command = words.command()?;
    match words.words.next() {
        None => Ok(command),
        Some(word) => Err(format!("{word:?} is too much")),
    }
}

impl<'a> Words<'a> {
    fn command(&mut self) -> Parsed<Command> {
        let handle = |handling| {
            move |(first, pattern)| Command::Handle {
                handling,
                first,
                pattern,
            }
        };
        Ok(match self.word()? {
            "cluster" => Command::Cluster(self.shape()?),
            "boot" => Command::Boot,
            "given" => Command::Given(self.some(Self::funded)?),
            "create" => self.create()?,
            "transfer" => self.transfer()?,
            "lookup" => Command::Lookup {
                ids: self.some(|word| number(word).map(AccountId))?,
                sending: self.sending()?,
            },
            "lookup-transfer" => Command::LookupTransfer {
                id: TransferId(number(self.word()?)?),
                sending: self.sending()?,
            },
            "move" => self.move_accounts()?,
            "hand-over" => Command::HandOver {
                shard: shard(self.word()?)?,
                to: replica(self.word()?)?,
            },
            "deliver" => self.selection().map(handle(Handling::Deliver))?,
            "drop" => self.selection().map(handle(Handling::Drop))?,
            "duplicate" => self.selection().map(handle(Handling::Duplicate))?,
            "hold" => Command::Hold(self.pattern()?),
            "release" => Command::Release(self.pattern()?),
            "cut" => Command::Cut(end(self.word()?)?, end(self.word()?)?),
            "heal" => Command::Heal,
            "advance" => Command::Advance(duration(self.word()?)?),
            "settle" => Command::Settle,
            "run" => Command::Run(duration(self.word()?)?),
            "verbose" => Command::Verbose(match self.word()? {
                "on" => true,
                "off" => false,
                word => return Err(format!("{word:?} is neither on nor off")),
            }),
            "show" => Command::Show(self.view()?),
            "check" => Command::Check,
            "quietly" => Command::Quietly(Box::new(self.command()?)),
            word => self.process(word)?,
        })
    }

    fn process(&mut self, verb: &str) -> Parsed<Command> {
        if !ACTS.contains(&verb) {
            return Err(format!("unknown command {verb:?}"));
        }
        let at = address(self.word()?)?;
        let act = match verb {
            "flush" => Act::Flush,
            "stall" => Act::Stall,
            "unstall" => Act::Unstall,
            "crash" if self.takes("keeping") => Act::Crash(Unflushed::Kept),
            "crash" => Act::Crash(Unflushed::Lost),
            "restart" => Act::Restart,
            "tick" => Act::Tick,
            "rot" => Act::Rot(Slot(number(self.word()?)?)),
            _ => Act::Ahead(duration(self.word()?)?),
        };
        Ok(Command::Process { act, at })
    }

    fn word(&mut self) -> Parsed<&'a str> {
        let word = self.words.next();
        word.ok_or_else(|| "something is missing at the end".to_owned())
    }

    fn takes(&mut self, word: &str) -> bool {
        self.words.next_if(|next| *next == word).is_some()
    }

    fn expect(&mut self, word: &str) -> Parsed<()> {
        let next = self.word()?;
        if next == word {
            Ok(())
        } else {
            Err(format!("{next:?} stands where {word:?} is expected"))
        }
    }

    /// One or more words that start with a digit.
    fn some<T>(&mut self, one: impl Fn(&str) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut all = vec![one(self.word()?)?];
        let is_number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
        while let Some(word) = self.words.next_if(is_number) {
            all.push(one(word)?);
        }
        Ok(all)
    }

    fn funded(word: &str) -> Parsed<(AccountId, u128)> {
        let (id, money) = word.split_once('=').unwrap_or((word, "0"));
        Ok((AccountId(number(id)?), number(money)?))
    }

    fn shape(&mut self) -> Parsed<ShapeOf> {
        let mut shape = Shape::default();
        for word in self.words.by_ref() {
            let (name, value) = word
                .split_once('=')
                .ok_or_else(|| format!("{word:?} is not of the form name=value"))?;
            match (name, value) {
                ("shards", "1" | "2" | "3") => shape.shards = number(value)?,
                ("replicas", "1" | "3") => shape.replicas = number(value)?,
                ("reads", "lease") => shape.reads = Reads::Lease,
                ("reads", "quorum") => shape.reads = Reads::Quorum,
                ("ids", "any") => shape.ids = IdRule::Any,
                ("ids", "ulid") => shape.ids = IdRule::Ulid,
                ("accounts", value) => shape.accounts_per_shard = number(value)?,
                _ => return Err(format!("{word:?} says nothing about a cluster")),
            }
        }
        Ok(ShapeOf(shape))
    }

    fn create(&mut self) -> Parsed<Command> {
        let id = AccountId(number(self.word()?)?);
        let mut flags = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
        if self.takes("unlimited") {
            flags = AccountFlags::default();
        }
        for (word, flag) in [
            ("closed", AccountFlags::CLOSED),
            ("system", AccountFlags::SYSTEM),
        ] {
            if self.takes(word) {
                flags = flags.union(flag);
            }
        }
        let sending = self.sending()?;
        Ok(Command::Create { id, flags, sending })
    }

    fn transfer(&mut self) -> Parsed<Command> {
        let id = TransferId(number(self.word()?)?);
        let debit = AccountId(number(self.word()?)?);
        self.expect("->")?;
        Ok(Command::Transfer {
            id,
            debit,
            credit: AccountId(number(self.word()?)?),
            amount: number(self.word()?)?,
            sending: self.sending()?,
        })
    }

    fn move_accounts(&mut self) -> Parsed<Command> {
        let id = MoveId(number(self.word()?)?);
        let accounts = self.some(|word| number(word).map(AccountId))?;
        self.expect("->")?;
        Ok(Command::Move {
            id,
            accounts,
            target: shard(self.word()?)?,
            sending: self.sending()?,
        })
    }

    fn sending(&mut self) -> Parsed<Sending> {
        let mut sending = Sending::default();
        if self.takes("at") {
            let end = end(self.word()?)?;
            (sending.shard, sending.replica) = (end.shard, end.replica);
        }
        if self.takes("within") {
            let ms = duration(self.word()?)? / MS;
            sending.within_ms = u32::try_from(ms).map_err(|_| "too long a deadline".to_owned())?;
        }
        if self.takes("seen") {
            let word = self.word()?;
            sending.seen_ahead_ns = Some(duration(word.trim_start_matches('+'))?);
        }
        Ok(sending)
    }

    fn selection(&mut self) -> Parsed<(bool, Pattern)> {
        Ok((self.takes("first"), self.pattern()?))
    }

    fn pattern(&mut self) -> Parsed<Pattern> {
        let (from, to) = (end(self.word()?)?, end(self.word()?)?);
        let kind = match self.words.next() {
            None => None,
            Some(word) if KINDS.contains(&word) => Some(word.to_owned()),
            Some(word) => return Err(format!("no message is called {word:?}")),
        };
        Ok(Pattern { from, to, kind })
    }

    fn view(&mut self) -> Parsed<View> {
        Ok(match self.word()? {
            "account" => View::Account(AccountId(number(self.word()?)?)),
            "transfer" => View::Transfer(TransferId(number(self.word()?)?)),
            "flight" => View::Flight,
            word => View::Shard(shard(word)?),
        })
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Parsed<T> {
    word.parse()
        .map_err(|_| format!("{word:?} is not a number in range"))
}

fn end(word: &str) -> Parsed<End> {
    let (mut of_shard, mut of_replica) = (None, None);
    if word != "*" {
        let (first, second) = word.split_at(word.find('r').unwrap_or(word.len()));
        of_shard = Some(shard(first)?);
        if !second.is_empty() {
            of_replica = Some(replica(second)?);
        }
    }
    Ok(End {
        shard: of_shard,
        replica: of_replica,
    })
}

fn shard(word: &str) -> Parsed<ShardId> {
    let number = word.strip_prefix('s').and_then(|rest| rest.parse().ok());
    let number = number.ok_or_else(|| format!("{word:?} is not a shard, as s1 is"))?;
    Ok(ShardId(number))
}

fn replica(word: &str) -> Parsed<ReplicaId> {
    let number = word.strip_prefix('r').and_then(|rest| rest.parse().ok());
    let number = number.ok_or_else(|| format!("{word:?} is not a replica of a shard, as r2 is"))?;
    Ok(ReplicaId(number))
}

fn address(word: &str) -> Parsed<ReplicaAddress> {
    match end(word) {
        Ok(End {
            shard: Some(shard),
            replica: Some(replica),
        }) => Ok(ReplicaAddress { shard, replica }),
        Ok(_) | Err(_) => Err(format!("{word:?} is not a replica, as s1r2 is")),
    }
}

fn duration(word: &str) -> Parsed<u64> {
    let units = [("ms", MS), ("s", SECOND)];
    let parsed = units.iter().find_map(|(unit, ns)| {
        let count: u64 = word.strip_suffix(unit)?.parse().ok()?;
        count.checked_mul(*ns)
    });
    parsed.ok_or_else(|| format!("{word:?} is not a duration, as 50ms or 2s is"))
}
