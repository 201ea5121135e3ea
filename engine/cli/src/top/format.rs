//! Numbers as they stand in a narrow column; what is not known is `n/a`, never a zero.

use std::time::Duration;

/// Stands for whatever nobody has told.
pub const UNKNOWN: &str = "n/a";

/// What there is, or [`UNKNOWN`].
pub fn known<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), text)
}

/// At most six characters: `987`, `12.3k`, `4.5M`. Cut, never rounded up to what was not reached.
#[must_use]
pub fn count(value: u64) -> String {
    let (unit, name) = match value {
        0..10_000 => return value.to_string(),
        10_000..1_000_000 => (1_000, "k"),
        1_000_000..1_000_000_000 => (1_000_000, "M"),
        1_000_000_000..1_000_000_000_000 => (1_000_000_000, "G"),
        1_000_000_000_000.. => (1_000_000_000_000, "T"),
    };
    scaled(value, unit, name)
}

/// Events in a second.
#[must_use]
pub fn rate(per_second: u64) -> String {
    format!("{}/s", count(per_second))
}

/// Microseconds: `850us`, `2.1ms`, `12.0s`.
#[must_use]
pub fn latency(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}us"),
        1_000..1_000_000 => scaled(us, 1_000, "ms"),
        1_000_000.. => scaled(us, 1_000_000, "s"),
    }
}

/// A share in thousandths.
#[must_use]
pub fn share(per_mille: u64) -> String {
    format!("{}.{}%", per_mille / 10, per_mille % 10)
}

/// How long something is ago, or lasts.
#[must_use]
pub fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        172_800.. => format!("{}d", seconds / 86_400),
    }
}

/// One digit behind the point below a hundred, none above.
fn scaled(value: u64, unit: u64, name: &str) -> String {
    let tenths = value / (unit / 10);
    match tenths {
        0..1_000 => format!("{}.{}{name}", tenths / 10, tenths % 10),
        1_000.. => format!("{}{name}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_times_stay_short() {
        let counts = [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10.0k"),
            (99_999, "99.9k"),
            (999_999, "999k"),
            (1_234_567, "1.2M"),
            (u64::MAX, "18446744T"),
        ];
        for (value, text) in counts {
            assert_eq!(count(value), text);
        }
        let latencies = [
            (999, "999us"),
            (2_199, "2.1ms"),
            (999_999, "999ms"),
            (12_000_000, "12.0s"),
        ];
        for (us, text) in latencies {
            assert_eq!(latency(us), text);
        }
        let ages = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7_200, "2h"),
            (172_800, "2d"),
        ];
        for (seconds, text) in ages {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
        assert_eq!(share(1_000), "100.0%");
        assert_eq!(share(7), "0.7%");
        assert_eq!(known(None, rate), "n/a");
        assert_eq!(known(Some(5), rate), "5/s");
    }
}
