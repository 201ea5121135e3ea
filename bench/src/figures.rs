//! Figures as documents and people get them: units, rounding, grouping, tables.

use comfy_table::{Table, presets};

/// An empty table: with lines on a terminal, plain columns elsewhere.
#[must_use]
pub fn table(terminal: bool) -> Table {
    let mut table = Table::new();
    table.load_preset(if terminal {
        presets::ASCII_FULL_CONDENSED
    } else {
        presets::NOTHING
    });
    table
}

/// A count, or nanoseconds, to compute with.
#[must_use]
pub fn float(count: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact below 2^53: 104 days of nanoseconds, and more transfers than any run makes"
    )]
    let count = count as f64;
    count
}

/// Nanoseconds as microseconds, to a tenth.
#[must_use]
pub fn us(ns: u64) -> f64 {
    rounded(float(ns) / 1e3)
}

/// Nanoseconds as seconds, to a millisecond.
#[must_use]
pub fn seconds(ns: u64) -> f64 {
    (us(ns) / 1e3).round() / 1e3
}

/// Transfers a second; 0 if no time was measured.
#[must_use]
pub fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        rounded(float(count) / seconds)
    } else {
        0.0
    }
}

/// Milliseconds for people.
#[must_use]
pub fn millis(us: Option<f64>) -> String {
    us.map_or_else(|| "-".to_owned(), |us| format!("{:.2}", us / 1e3))
}

/// A share for people.
#[must_use]
pub fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

/// A ratio of two figures for people.
#[must_use]
pub fn factor(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
}

/// Digits in groups of three.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate in groups of three digits.
#[must_use]
pub fn grouped_f64(number: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates are not negative and far below 2^53"
    )]
    let whole = number.round() as u64;
    grouped(whole)
}

/// To a tenth: more would be noise.
#[must_use]
pub fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_groups_of_three() {
        let numbers = [0, 999, 1_000, 123_456, 1_234_567];
        assert_eq!(
            numbers.map(grouped),
            ["0", "999", "1,000", "123,456", "1,234,567"]
        );
    }

    #[test]
    fn times_are_rounded_once() {
        assert_eq!(us(1_234_567), 1_234.6);
        assert_eq!(seconds(3_004_911_899), 3.005);
        assert_eq!(millis(Some(1_234.6)), "1.23");
        assert_eq!(millis(None), "-");
        assert_eq!(percent(Some(0.6667)), "66.7 %");
        assert_eq!([factor(Some(1.234)), factor(None)], ["1.23", "-"]);
        assert_eq!(per_second(10, 0.0), 0.0);
    }
}
