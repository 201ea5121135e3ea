//! A recorded edge list: CSV with the header `timestamp,src,dst,amount`, one transfer per row.
//!
//! The file is input from strangers: every field is checked once, here, and an error names the file,
//! the line and the field. Rows are kept in time order (rows of equal time in file order), because
//! planning on the older part and scoring on the newer one is the point of a trace.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use quorate_protocol::ids::AccountId;

/// Integer units per unit of the `amount` column.
pub const UNITS_PER_AMOUNT: f64 = 1e6;
/// Largest amount after conversion: whole numbers up to 2^53 are exact in the file's decimals.
const UNITS_MAX: f64 = 9_007_199_254_740_992.0;
/// The header, in this order.
pub const HEADER: [&str; 4] = ["timestamp", "src", "dst", "amount"];

/// One recorded transfer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TraceTransfer {
    /// In the file's own unit; only the order matters here.
    pub timestamp: f64,
    /// Ledger account of `src`: its number in the file + 1.
    pub debit: AccountId,
    /// Ledger account of `dst`.
    pub credit: AccountId,
    /// max(1, round(amount * 10^6)): the ledger refuses an amount of 0.
    pub amount: u64,
}

/// A non-empty list of transfers, oldest first.
#[derive(Clone, PartialEq, Debug)]
pub struct Trace {
    transfers: Vec<TraceTransfer>,
}

/// Where and why a trace is refused.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("{file}: {source}")]
    Io {
        file: String,
        source: std::io::Error,
    },
    #[error("{file}: line {line}: {reason}")]
    Row {
        file: String,
        line: u64,
        reason: String,
    },
    #[error("{file}: line {line}: field {field}: {reason}, found \"{found}\"")]
    Field {
        file: String,
        line: u64,
        field: &'static str,
        reason: &'static str,
        found: String,
    },
    #[error("{file}: no transfers")]
    Empty { file: String },
}

impl Trace {
    /// Takes transfers over and sorts them by time; equal times keep their order.
    /// `None` if there are none.
    #[must_use]
    pub fn new(mut transfers: Vec<TraceTransfer>) -> Option<Self> {
        transfers.sort_by(|a, b| a.timestamp.total_cmp(&b.timestamp));
        (!transfers.is_empty()).then_some(Self { transfers })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, or a row is not as the module says.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Self::parse(&name, file),
            Err(source) => Err(TraceError::Io { file: name, source }),
        }
    }

    /// Reads CSV from anywhere; `file` is the name for errors.
    ///
    /// # Errors
    /// As [`Trace::open`].
    pub fn parse(file: &str, input: impl Read) -> Result<Self, TraceError> {
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(input);
        let headers = reader.headers().map_err(|e| csv_error(file, e))?;
        if headers.is_empty() {
            return Err(TraceError::Empty { file: file.into() });
        }
        if headers != HEADER.as_slice() {
            let found: Vec<&str> = headers.iter().collect();
            return Err(TraceError::Row {
                file: file.into(),
                line: 1,
                reason: format!(
                    "header is \"{}\", not \"{}\"",
                    found.join(","),
                    HEADER.join(",")
                ),
            });
        }
        let mut transfers = Vec::new();
        let mut record = csv::StringRecord::new();
        while reader
            .read_record(&mut record)
            .map_err(|e| csv_error(file, e))?
        {
            let line = record.position().map_or(0, csv::Position::line);
            let row = Row {
                file,
                line,
                record: &record,
            };
            transfers.push(row.transfer()?);
        }
        Self::new(transfers).ok_or_else(|| TraceError::Empty { file: file.into() })
    }

    /// The transfers, oldest first.
    #[must_use]
    pub fn transfers(&self) -> &[TraceTransfer] {
        &self.transfers
    }
}

/// One row with what its errors need.
struct Row<'a> {
    file: &'a str,
    line: u64,
    record: &'a csv::StringRecord,
}

impl Row<'_> {
    fn transfer(&self) -> Result<TraceTransfer, TraceError> {
        let time = "not a number of at least 0";
        let timestamp = self.parsed(0, time, |&t: &f64| t.is_finite() && t >= 0.0)?;
        let debit = self.account(1)?;
        let credit = self.account(2)?;
        if debit == credit {
            return Err(self.refused(2, "the same account as src"));
        }
        let amount = self.parsed(3, "not a number of at least 0", |&x: &f64| {
            x.is_finite() && x >= 0.0
        })?;
        let units = (amount * UNITS_PER_AMOUNT).round().max(1.0);
        if units > UNITS_MAX {
            return Err(self.refused(3, "above 2^53 millionths"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number from 1 to 2^53"
        )]
        let amount = units as u64;
        Ok(TraceTransfer {
            timestamp,
            debit,
            credit,
            amount,
        })
    }

    fn account(&self, column: usize) -> Result<AccountId, TraceError> {
        let reason = "not a whole number from 0 to 2^64 - 1";
        let number: u64 = self.parsed(column, reason, |_| true)?;
        Ok(AccountId(u128::from(number) + 1))
    }

    fn parsed<T: std::str::FromStr>(
        &self,
        column: usize,
        reason: &'static str,
        valid: impl Fn(&T) -> bool,
    ) -> Result<T, TraceError> {
        let parsed = self.record.get(column).unwrap_or_default().parse().ok();
        parsed
            .filter(|value| valid(value))
            .ok_or_else(|| self.refused(column, reason))
    }

    fn refused(&self, column: usize, reason: &'static str) -> TraceError {
        TraceError::Field {
            file: self.file.into(),
            line: self.line,
            field: HEADER[column],
            reason,
            found: self.record.get(column).unwrap_or_default().into(),
        }
    }
}

/// Errors of the CSV reader itself: wrong number of fields, invalid UTF-8, a failing device.
fn csv_error(file: &str, error: csv::Error) -> TraceError {
    let line = error.position().map_or(1, csv::Position::line);
    let row = |reason: &dyn fmt::Display| TraceError::Row {
        file: file.into(),
        line,
        reason: reason.to_string(),
    };
    match error.into_kind() {
        csv::ErrorKind::Io(source) => TraceError::Io {
            file: file.into(),
            source,
        },
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => row(&format!("{len} fields, not {expected_len}")),
        csv::ErrorKind::Utf8 { err, .. } => {
            let field = HEADER.get(err.field()).copied().unwrap_or("after amount");
            row(&format!("field {field}: not UTF-8"))
        }
        other => row(&format!("{other:?}")),
    }
}
