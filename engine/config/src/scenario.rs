//! The scenario file: sets of transfers, balance reads and node failures, as a table of three columns.
//!
//! This module only reads: from bytes to a [`Scenario`] that cannot be wrong, or the line, the column
//! and what was expected there. The runner is `quorate scenario run`, which starts from these types; nothing
//! here runs anything.
//!
//! ```text
//! Set Number,Transactions,Live Nodes
//! 1,"(21, 700, 2)","[n1, n2, n4, n5, n7, n8]"     a set begins: its number, and the nodes that are up
//! ,"(100, 501, 8)",                               (debit, credit, amount)
//! ,F(n5),                                         n5 fails
//! ,"(702, 1301, 2)",
//! ,R(n5),                                         n5 recovers
//! ,(1301),                                        what is the balance of 1301
//! ```
//!
//! A transfer has commas, so it is quoted, as csv demands. Whether a transfer is allowed (an amount of
//! 0, an account paying itself, too little money) is the engine's to say, and a set may ask it. Whether
//! a node that fails is up at that moment is the runner's: a second failure changes nothing.

mod field;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use quorate_protocol::ids::{AccountId, NodeId};

/// Longest file: twice what the most rows take.
pub const FILE_BYTES_MAX: usize = 8 << 20;
/// Most rows of all sets together: far more than people write, and 10 MB in memory.
pub const ROWS_MAX: usize = 1 << 17;
/// The header, as the file must have it.
pub const COLUMNS: [&str; 3] = ["Set Number", "Transactions", "Live Nodes"];

/// What a scenario may name. The defaults are nine nodes and 9,000 accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Nodes are n1 to this one.
    pub nodes: u32,
    /// Accounts are 1 to this one.
    pub accounts: u128,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            nodes: 9,
            accounts: 9_000,
        }
    }
}

/// All sets of a file, in its order. At least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    pub sets: Vec<Set>,
}

/// One set. It begins with fresh state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// From the file; no other set has it.
    pub number: u32,
    /// Nodes that are up when the set begins. At least one.
    pub live: BTreeSet<NodeId>,
    /// At least one, in the order of the file.
    pub rows: Vec<Row>,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// 1-based line of the file; replies are reported under it.
    pub line: u64,
    pub step: Step,
}

/// What a row asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Transfer {
        debit: AccountId,
        credit: AccountId,
        amount: u128,
    },
    Balance {
        account: AccountId,
    },
    /// The node's process is killed.
    Fail {
        node: NodeId,
    },
    /// The node's process starts again from its disk.
    Recover {
        node: NodeId,
    },
}

impl Step {
    /// Whether it waits for all rows before it, and all rows behind it wait for it.
    #[must_use]
    pub fn is_control(&self) -> bool {
        match self {
            Self::Fail { .. } | Self::Recover { .. } => true,
            Self::Transfer { .. } | Self::Balance { .. } => false,
        }
    }
}

impl fmt::Display for Step {
    /// As it stands in the file, without the quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transfer {
                debit,
                credit,
                amount,
            } => write!(f, "({}, {}, {amount})", debit.0, credit.0),
            Self::Balance { account } => write!(f, "({})", account.0),
            Self::Fail { node } => write!(f, "F(n{})", node.0),
            Self::Recover { node } => write!(f, "R(n{})", node.0),
        }
    }
}

/// Why a file is no scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ScenarioError {
    pub file: String,
    /// 1-based; `None` if the problem is the whole file's.
    pub line: Option<u64>,
    /// The column, or empty if the row as a whole is wrong.
    pub column: &'static str,
    /// What was expected, and what was found.
    pub problem: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.column.is_empty() {
            write!(f, ": {}", self.column)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl Scenario {
    /// Reads and checks a file of at most [`FILE_BYTES_MAX`] bytes.
    pub fn load(path: &Path, bounds: &Bounds) -> Result<Self, ScenarioError> {
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        // One byte more than allowed tells a file that is too long, whatever its length claims to be.
        let limit = u64::try_from(FILE_BYTES_MAX + 1).expect("8 MiB fit 64 bits");
        File::open(path)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(|error| ScenarioError {
                file: name.clone(),
                line: None,
                column: "",
                problem: format!("cannot be read: {error}"),
            })?;
        Self::parse(&bytes, &name, bounds)
    }

    /// Checks the bytes of a file; `name` stands for it in errors.
    pub fn parse(bytes: &[u8], name: &str, bounds: &Bounds) -> Result<Self, ScenarioError> {
        let mut reading = Reading {
            name,
            bounds,
            numbers: BTreeSet::new(),
            sets: Vec::new(),
        };
        if bytes.len() > FILE_BYTES_MAX {
            let problem = format!("expected at most {FILE_BYTES_MAX} bytes");
            return Err(reading.refuse(None, "", problem));
        }
        let mut table = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(bytes);
        let mut record = csv::StringRecord::new();
        let mut lines = Lines::of(bytes);
        let mut rows = 0;
        loop {
            let before = table.position().clone();
            match table.read_record(&mut record) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    let line = lines.number_at(error.position().unwrap_or(&before));
                    return Err(reading.refuse(Some(line), "", csv_problem(&error)));
                }
            }
            let line = lines.number_at(record.position().unwrap_or(&before));
            match rows {
                0 => reading.header(line, &record)?,
                _ if rows > ROWS_MAX => {
                    let problem = format!("expected at most {ROWS_MAX} rows");
                    return Err(reading.refuse(Some(line), "", problem));
                }
                _ => reading.row(line, &record)?,
            }
            rows += 1;
        }
        match (rows, reading.sets.is_empty()) {
            (0, _) => Err(reading.refuse(None, "", expected_header("nothing"))),
            (_, true) => Err(reading.refuse(None, "", "expected at least one set".to_owned())),
            (_, false) => Ok(Self { sets: reading.sets }),
        }
    }
}

/// What has been read so far.
struct Reading<'a> {
    name: &'a str,
    bounds: &'a Bounds,
    numbers: BTreeSet<u32>,
    sets: Vec<Set>,
}

impl Reading<'_> {
    fn refuse(&self, line: Option<u64>, column: &'static str, problem: String) -> ScenarioError {
        ScenarioError {
            file: self.name.to_owned(),
            line,
            column,
            problem,
        }
    }

    fn header(&self, line: u64, record: &csv::StringRecord) -> Result<(), ScenarioError> {
        if record.iter().eq(COLUMNS) {
            return Ok(());
        }
        let found: Vec<&str> = record.iter().collect();
        let problem = expected_header(&field::quoted(&found.join(",")));
        Err(self.refuse(Some(line), "", problem))
    }

    fn row(&mut self, line: u64, record: &csv::StringRecord) -> Result<(), ScenarioError> {
        let fields = [record.get(0), record.get(1), record.get(2)];
        let ([Some(number), Some(transaction), Some(live)], 3) = (fields, record.len()) else {
            let problem = format!(
                "expected 3 fields, found {}; a field with commas stands in double quotes",
                record.len()
            );
            return Err(self.refuse(Some(line), "", problem));
        };
        let [number_column, transaction_column, live_column] = COLUMNS;
        let refuse = |reading: &Self, column, problem| reading.refuse(Some(line), column, problem);
        if number.is_empty() && !live.is_empty() {
            let problem = "expected nothing: only the first row of a set lists nodes".to_owned();
            return Err(refuse(self, live_column, problem));
        }
        if !number.is_empty() {
            let number =
                field::set_number(number).map_err(|text| refuse(self, number_column, text))?;
            let live = field::nodes(live, self.bounds.nodes)
                .map_err(|text| refuse(self, live_column, text))?;
            if !self.numbers.insert(number) {
                let problem = format!("expected a number that no set has yet, found {number}");
                return Err(refuse(self, number_column, problem));
            }
            self.sets.push(Set {
                number,
                live,
                rows: Vec::new(),
            });
        }
        let step = field::step(transaction, self.bounds)
            .map_err(|text| refuse(self, transaction_column, text))?;
        match self.sets.last_mut() {
            Some(set) => set.rows.push(Row { line, step }),
            None => {
                let problem = "expected the number of the first set, found nothing".to_owned();
                return Err(refuse(self, number_column, problem));
            }
        }
        Ok(())
    }
}

/// Counts lines as editors do; the table's own count takes a lone carriage return for no line end, and
/// its positions may lie before the line ends and empty lines that precede a record.
struct Lines<'a> {
    rest: &'a [u8],
    passed: usize,
    number: u64,
}

impl<'a> Lines<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            passed: 0,
            number: 1,
        }
    }

    /// The number of the line on which the record at `position` begins. Positions must rise.
    fn number_at(&mut self, position: &csv::Position) -> u64 {
        let start = usize::try_from(position.byte()).unwrap_or(usize::MAX);
        loop {
            let (length, is_end) = match self.rest {
                [b'\r', b'\n', ..] => (2, true),
                [b'\r' | b'\n', ..] => (1, true),
                [_, ..] => (1, false),
                [] => return self.number,
            };
            // Inside a record, or at the line ends before it.
            if self.passed >= start && !is_end {
                return self.number;
            }
            self.number += u64::from(is_end);
            self.passed += length;
            self.rest = &self.rest[length..];
        }
    }
}

fn expected_header(found: &str) -> String {
    format!("expected the header {}, found {found}", COLUMNS.join(","))
}

fn csv_problem(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { err, .. } => {
            format!("expected UTF-8, field {} is not", err.field() + 1)
        }
        _ => format!("expected a row of csv: {error}"),
    }
}

#[cfg(test)]
mod tests;
