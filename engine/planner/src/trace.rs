//! A recorded edge list: CSV with the header `timestamp,src,dst,amount`, one transfer per row.
//!
//! The file is input from strangers: every field is checked once, here, and an error names the file,
//! the line and the field. Rows are kept in time order (rows of equal time in file order), because
//! planning on the older part and scoring on the newer one is the point of a trace.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use quorate_protocol::ids::AccountId;

/// Decimal digits of the `amount` column that count: a unit of the ledger is a millionth.
const UNIT_DIGITS: i64 = 6;
/// Largest amount after conversion.
const UNITS_MAX: u128 = 1 << 63;
/// Most rows: 48 bytes each in memory, as many again while they are sorted.
const ROWS_MAX: usize = 1 << 26;
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
    #[error("{file}: {error}")]
    Io { file: String, error: std::io::Error },
    #[error("{file}: line {line}: {reason}")]
    Line {
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
            Err(error) => Err(TraceError::Io { file: name, error }),
        }
    }

    /// Reads CSV from anywhere; `file` is the name for errors.
    ///
    /// # Errors
    /// As [`Trace::open`].
    pub fn parse(file: &str, input: impl Read) -> Result<Self, TraceError> {
        let mut lines = Lines {
            file,
            number: 0,
            input: BufReader::new(input),
        };
        let Some(header) = lines.next()? else {
            return Err(TraceError::Empty { file: file.into() });
        };
        if !header.fields().eq(HEADER) {
            let found: Vec<&str> = header.fields().collect();
            let (found, wanted) = (shown(&found.join(",")), HEADER.join(","));
            return Err(header.refused(format!("header is \"{found}\", not \"{wanted}\"")));
        }
        let mut transfers = Vec::new();
        while let Some(line) = lines.next()? {
            if transfers.len() == ROWS_MAX {
                return Err(line.refused(format!("more than {ROWS_MAX} transfers")));
            }
            transfers.push(line.transfer()?);
        }
        Self::new(transfers).ok_or_else(|| TraceError::Empty { file: file.into() })
    }

    /// The transfers, oldest first.
    #[must_use]
    pub fn transfers(&self) -> &[TraceTransfer] {
        &self.transfers
    }
}

/// Characters of what was found that an error shows.
const FOUND_SHOWN: usize = 80;

/// Text of a stranger's file as a terminal may have it: escaped, and not more than can be read.
fn shown(text: &str) -> String {
    let mut shown: String = text.escape_debug().take(FOUND_SHOWN).collect();
    if text.escape_debug().nth(FOUND_SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}

/// Longest line; four numbers need far less.
const LINE_BYTES_MAX: usize = 1024;

/// The lines of a file that are not blank, with their numbers.
///
/// The format has no quotes and no line breaks inside fields, and errors must name the right line
/// even after blank ones, so lines are read as lines and not by a CSV reader.
struct Lines<'a, R> {
    file: &'a str,
    number: u64,
    input: BufReader<R>,
}

impl<'a, R: Read> Lines<'a, R> {
    /// The next line that is not blank, without its end.
    fn next(&mut self) -> Result<Option<Line<'a>>, TraceError> {
        loop {
            let mut bytes = Vec::new();
            // One byte more than a line may have tells a long line from a full one.
            let mut bounded = self.input.by_ref().take(LINE_BYTES_MAX as u64 + 1);
            let count = bounded.read_until(b'\n', &mut bytes);
            let count = count.map_err(|error| TraceError::Io {
                file: self.file.into(),
                error,
            })?;
            if count == 0 {
                return Ok(None);
            }
            self.number += 1;
            let line = Line {
                file: self.file,
                number: self.number,
                text: String::from_utf8_lossy(&bytes).trim().to_owned(),
            };
            if count > LINE_BYTES_MAX {
                return Err(line.refused(format!("longer than {LINE_BYTES_MAX} bytes")));
            }
            if !line.text.is_empty() {
                return Ok(Some(line));
            }
        }
    }
}

/// Exponents beyond this are as good as this one: a line has no room for digits that would make up for it.
const EXPONENT_MAX: i64 = 1 << 20;

/// A decimal as [`f64`] takes it, not negative, in millionths: exact, and halves go up. `None` if there are
/// too many.
fn millionths(text: &str) -> Option<u64> {
    let text = text.trim_start_matches('+');
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, bounded_exponent(exponent)?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    // So many of the digits lie before the point of the result.
    let before = i64::try_from(whole.len()).ok()? + exponent + UNIT_DIGITS;
    let mut units = 0_u128;
    for (place, digit) in (0..).zip(digits()) {
        let digit = u128::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
        match before.cmp(&place) {
            Ordering::Greater => units = units.checked_mul(10)?.checked_add(digit)?,
            Ordering::Equal => units += u128::from(digit >= 5),
            Ordering::Less => break,
        }
    }
    let given = i64::try_from(whole.len() + fraction.len()).ok()?;
    for _ in given..before {
        if units == 0 {
            break;
        }
        units = units.checked_mul(10)?;
    }
    (units <= UNITS_MAX).then(|| u64::try_from(units).expect("at most 2^63"))
}

/// Digits with a sign, however many there are.
fn bounded_exponent(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] | digits => (1, digits),
    };
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let size = |size: i64, digit: &u8| (size * 10 + i64::from(digit - b'0')).min(EXPONENT_MAX);
    is_number.then(|| sign * digits.iter().fold(0, size))
}

/// One line with what its errors need.
struct Line<'a> {
    file: &'a str,
    number: u64,
    /// Bytes that are not UTF-8 are replaced: no number contains a replacement character.
    text: String,
}

impl Line<'_> {
    fn fields(&self) -> impl Iterator<Item = &str> {
        self.text.split(',').map(str::trim)
    }

    fn transfer(&self) -> Result<TraceTransfer, TraceError> {
        let count = self.fields().count();
        if count != HEADER.len() {
            return Err(self.refused(format!("{count} fields, not {}", HEADER.len())));
        }
        let timestamp = self.decimal(0)?;
        let debit = self.account(1)?;
        let credit = self.account(2)?;
        if debit == credit {
            return Err(self.bad_field(2, "the same account as src"));
        }
        self.decimal(3)?;
        let amount = millionths(self.field(3))
            .ok_or_else(|| self.bad_field(3, "above 2^63 millionths"))?
            .max(1);
        Ok(TraceTransfer {
            timestamp,
            debit,
            credit,
            amount,
        })
    }

    fn account(&self, column: usize) -> Result<AccountId, TraceError> {
        let number: Option<u64> = self.field(column).parse().ok();
        let id = number.map(|number| AccountId(u128::from(number) + 1));
        id.ok_or_else(|| self.bad_field(column, "not a whole number from 0 to 2^64 - 1"))
    }

    fn decimal(&self, column: usize) -> Result<f64, TraceError> {
        let number: Option<f64> = self.field(column).parse().ok();
        number
            .filter(|number| number.is_finite() && *number >= 0.0)
            .ok_or_else(|| self.bad_field(column, "not a number of at least 0"))
    }

    fn field(&self, column: usize) -> &str {
        self.fields().nth(column).unwrap_or_default()
    }

    fn refused(&self, reason: String) -> TraceError {
        TraceError::Line {
            file: self.file.into(),
            line: self.number,
            reason,
        }
    }

    fn bad_field(&self, column: usize, reason: &'static str) -> TraceError {
        TraceError::Field {
            file: self.file.into(),
            line: self.number,
            field: HEADER[column],
            reason,
            found: shown(self.field(column)),
        }
    }
}
