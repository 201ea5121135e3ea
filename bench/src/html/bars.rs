//! How long accounts were frozen, as a histogram in SVG.
//!
//! Bars are as wide as each other, though their ranges grow by about two: freeze times spread over
//! powers of ten. Every bar carries its range and its count as they are in the document.

use crate::figures::{float, grouped};
use crate::reshard_report::FreezeBucket;

use super::markup::Markup;
use super::plot::{WIDTH, coordinate, svg, text};

const HEIGHT: f64 = 150.0;
const LEFT: f64 = 10.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 24.0;
/// Width of a bar with the gap behind it, where they need not share the page's.
const STEP_MAX: f64 = 90.0;
/// Part of a step that is the gap.
const GAP: f64 = 0.13;

/// Draws the buckets, the shortest times first.
#[must_use]
pub fn freeze_bars(buckets: &[FreezeBucket]) -> Markup {
    let most = buckets.iter().map(|bucket| bucket.accounts).max();
    let most = float(most.unwrap_or(0).max(1));
    let mut content = Markup::tag("title", "accounts by freeze time");
    let count = float(u64::try_from(buckets.len()).expect("a slice's length fits"));
    let step = STEP_MAX.min((WIDTH - LEFT) / count.max(1.0));
    let width = step * (1.0 - GAP);
    let mut left = LEFT;
    for bucket in buckets {
        let height = float(bucket.accounts) / most * (HEIGHT - TOP - BOTTOM);
        let top = HEIGHT - BOTTOM - height;
        let (middle, accounts) = (left + width / 2.0, grouped(bucket.accounts));
        content.push(Markup::element(
            "rect",
            [
                ("class", "bar".to_owned()),
                ("x", coordinate(left)),
                ("y", coordinate(top)),
                ("width", coordinate(width)),
                ("height", coordinate(height)),
                ("data-from-us", bucket.from_us.to_string()),
                ("data-to-us", bucket.to_us.to_string()),
                ("data-accounts", bucket.accounts.to_string()),
            ],
            Markup::empty(),
        ));
        content.push(text(middle, top - 4.0, "middle", &accounts));
        let range = range_text(bucket.from_us, bucket.to_us);
        content.push(text(middle, HEIGHT - 8.0, "middle", &range));
        left += step;
    }
    svg(HEIGHT, content)
}

/// A range in the largest unit that both ends are whole numbers of.
fn range_text(from_us: u64, to_us: u64) -> String {
    let fits = |unit: u64| from_us.is_multiple_of(unit) && to_us.is_multiple_of(unit);
    let units = [(1_000_000, "s"), (1_000, "ms"), (1, "us")];
    let (unit, name) = units
        .into_iter()
        .find(|&(unit, _)| fits(unit))
        .unwrap_or((1, "us"));
    format!("{}-{} {name}", from_us / unit, to_us / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_in_whole_units() {
        assert_eq!(range_text(0, 1), "0-1 us");
        assert_eq!(range_text(500, 1_000), "500-1000 us");
        assert_eq!(range_text(1_000, 2_000), "1-2 ms");
        assert_eq!(range_text(500_000, 1_000_000), "500-1000 ms");
        assert_eq!(range_text(1_000_000, 2_000_000), "1-2 s");
    }
}
