//! Times as users write and read them: nanoseconds since 1970, or RFC 3339 in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quorate_protocol::time::Timestamp;

/// For options.
pub const TIME: &str = "TIME";

/// Reads a time.
///
/// # Errors
/// What was expected instead.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    let wrong = "nanoseconds since 1970 or RFC 3339 in UTC, such as 2024-01-31T12:00:00.5Z";
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let ns = text.parse().map_err(|_| wrong.to_owned())?;
        return Ok(Timestamp(ns));
    }
    let time = humantime::parse_rfc3339(text).map_err(|error| format!("{error}; {wrong}"))?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| wrong)?;
    let ns = u64::try_from(since.as_nanos()).map_err(|_| wrong)?;
    Ok(Timestamp(ns))
}

/// For people; exact.
pub fn render(time: Timestamp) -> String {
    let time = UNIX_EPOCH + Duration::from_nanos(time.0);
    humantime::format_rfc3339_nanos(time).to_string()
}

/// This host's clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_a_time_mean_the_same() {
        let ns = 1_700_000_000_123_456_789;
        assert_eq!(parse(&ns.to_string()), Ok(Timestamp(ns)));
        assert_eq!(parse("2023-11-14T22:13:20.123456789Z"), Ok(Timestamp(ns)));
        assert_eq!(parse(&render(Timestamp(ns))), Ok(Timestamp(ns)));
        assert_eq!(parse("0"), Ok(Timestamp(0)));
    }

    #[test]
    fn anything_else_is_refused_with_what_was_expected() {
        for text in [
            "",
            "now",
            "-5",
            "99999999999999999999",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-11-14T22:13:20+01:00",
            "9999-01-01T00:00:00Z",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("RFC 3339"), "{text}: {error}");
        }
    }
}
