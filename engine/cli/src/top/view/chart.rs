//! A series as bars, one per column. What is known and zero has a dot; what is not known has nothing.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::symbols::bar;

/// Shades of a cell, from empty to full.
const LEVELS: [&str; 9] = [
    " ",
    bar::ONE_EIGHTH,
    bar::ONE_QUARTER,
    bar::THREE_EIGHTHS,
    bar::HALF,
    bar::FIVE_EIGHTHS,
    bar::THREE_QUARTERS,
    bar::SEVEN_EIGHTHS,
    bar::FULL,
];
const ZERO: &str = ".";

/// Draws the values, the highest of which fills the height.
pub fn draw(buffer: &mut Buffer, area: Rect, values: &[Option<u64>], style: Style) {
    let highest = values.iter().flatten().copied().max().unwrap_or(0);
    for (x, value) in (area.left()..area.right()).zip(values) {
        let Some(value) = *value else { continue };
        let mut eighths = eighths(value, highest, area.height);
        for y in (area.top()..area.bottom()).rev() {
            let level = eighths.min(8);
            let symbol = match value {
                0 if y + 1 == area.bottom() => ZERO,
                _ => LEVELS[level],
            };
            buffer.set_stringn(x, y, symbol, 1, style);
            eighths -= level;
        }
    }
}

/// Height of a bar; whatever is not zero has at least one.
fn eighths(value: u64, highest: u64, rows: u16) -> usize {
    let full = u128::from(rows) * 8;
    let height = (u128::from(value) * full).checked_div(u128::from(highest));
    let least = u128::from(value > 0);
    let height = height.unwrap_or(0).clamp(least, full.max(least));
    usize::try_from(height).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_high_as_its_value_and_zero_is_not_nothing() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 6, 2));
        let values = [Some(16), Some(8), Some(0), None, Some(1)];
        let area = buffer.area;
        draw(&mut buffer, area, &values, Style::new());
        let row = |y| -> String { (0..6).map(|x| buffer[(x, y)].symbol()).collect() };
        assert_eq!(row(0), format!("{}     ", bar::FULL));
        assert_eq!(row(1), format!("{0}{0}. {1} ", bar::FULL, bar::ONE_EIGHTH));
    }

    #[test]
    fn the_largest_numbers_have_bars() {
        assert_eq!(eighths(u64::MAX, u64::MAX, 3), 24);
        assert_eq!(eighths(1, u64::MAX, 3), 1);
        assert_eq!(eighths(0, 0, 3), 0);
    }
}
