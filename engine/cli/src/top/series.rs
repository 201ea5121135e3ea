//! A number over the last minute, gaps included.

use std::collections::VecDeque;
use std::time::Duration;

/// How far back a series goes.
pub const SPAN: Duration = Duration::from_secs(60);
/// Points kept: the shortest interval allows no more in a [`SPAN`].
const POINTS_MAX: usize = 601;

/// Points in the order of their times; `None`: nobody told then.
#[derive(Clone, Debug, Default)]
pub struct Series {
    points: VecDeque<(Duration, Option<u64>)>,
}

impl Series {
    /// Adds a point and forgets what is too old.
    pub fn push(&mut self, at: Duration, value: Option<u64>) {
        self.points.push_back((at, value));
        let is_old = |&(then, _): &(Duration, _)| then + SPAN < at;
        while self.points.len() > POINTS_MAX || self.points.front().is_some_and(is_old) {
            self.points.pop_front();
        }
    }

    /// The highest value within [`SPAN`] of the newest point.
    #[must_use]
    pub fn highest(&self) -> Option<u64> {
        self.points.iter().filter_map(|&(_, value)| value).max()
    }

    /// The values of `columns` equal parts of the [`SPAN`] before the newest point, oldest first. A point stands for the
    /// time since the one before, and fills its parts. Of several points of a part the highest counts: a peak
    /// must not vanish on a narrow screen.
    #[must_use]
    pub fn columns(&self, columns: usize) -> Vec<Option<u64>> {
        let mut values = vec![None; columns];
        let Some(&(newest, _)) = self.points.back() else {
            return values;
        };
        let column_of = |at: Duration| {
            let age = newest.saturating_sub(at).as_millis() * columns as u128;
            let back = usize::try_from(age / SPAN.as_millis()).unwrap_or(columns);
            columns.checked_sub(back + 1)
        };
        let mut before = None;
        for &(at, value) in &self.points {
            let last = column_of(at);
            // From the column behind that of the point before.
            let first = match before {
                Some(then) => column_of(then).map_or(0, |column| column + 1),
                None => last.unwrap_or(0),
            };
            before = Some(at);
            let Some(last) = last else { continue };
            for column in &mut values[first.min(last)..=last] {
                *column = (*column).max(value);
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(points: &[(u64, Option<u64>)]) -> Series {
        let mut series = Series::default();
        for &(seconds, value) in points {
            series.push(Duration::from_secs(seconds), value);
        }
        series
    }

    #[test]
    fn what_is_older_than_the_span_is_forgotten() {
        let series = series(&[(0, Some(9)), (1, Some(5)), (61, Some(3))]);
        assert_eq!(series.highest(), Some(5));
        assert_eq!(Series::default().highest(), None);
    }

    #[test]
    fn the_newest_point_is_at_the_right_and_the_time_before_the_first_is_empty() {
        let values = series(&[(10, Some(1)), (20, Some(2)), (30, Some(3))]).columns(6);
        assert_eq!(values, [None, None, None, Some(1), Some(2), Some(3)]);
        assert_eq!(Series::default().columns(2), [None, None]);
    }

    #[test]
    fn of_several_points_of_a_column_the_highest_is_shown() {
        let values = series(&[(5, Some(7)), (6, Some(2)), (59, Some(3)), (60, None)]).columns(2);
        assert_eq!(values, [Some(7), Some(3)]);
    }

    #[test]
    fn a_point_fills_the_time_since_the_one_before_and_a_gap_stays_a_gap() {
        let values = series(&[(0, Some(1)), (30, Some(4)), (50, None), (60, Some(6))]).columns(6);
        assert_eq!(
            values,
            [Some(4), Some(4), Some(4), None, None, Some(6)],
            "the first point is a whole span old"
        );
    }
}
