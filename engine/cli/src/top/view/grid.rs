//! A table that leaves out its least important columns until the rest fits. Knows nothing of a cluster.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

/// Blanks between columns.
const GAP: u16 = 1;

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub title: &'static str,
    /// Cells are cut to it. The last column takes what is left.
    pub width: u16,
    pub side: Side,
    /// 0 always stays; of the others the highest goes first.
    pub rank: u8,
}

/// Where the text of a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// A column of text.
pub const fn left(title: &'static str, width: u16, rank: u8) -> Column {
    Column {
        title,
        width,
        side: Side::Left,
        rank,
    }
}

/// A column of numbers.
pub const fn right(title: &'static str, width: u16, rank: u8) -> Column {
    Column {
        title,
        width,
        side: Side::Right,
        rank,
    }
}

/// Draws the titles and as many rows as there is room for. Each row has a cell per column.
pub fn draw(buffer: &mut Buffer, area: Rect, columns: &[Column], rows: &[Vec<Span<'_>>]) {
    let shown = fitting(columns, area.width);
    let titles: Vec<Span<'_>> = columns
        .iter()
        .map(|column| Span::styled(column.title, Style::new().add_modifier(Modifier::DIM)))
        .collect();
    let all = std::iter::once(&titles).chain(rows);
    for (y, cells) in (area.top()..area.bottom()).zip(all) {
        let mut x = area.left();
        for &index in &shown {
            let is_last = shown.last() == Some(&index);
            let left = area.right().saturating_sub(x);
            let width = match (is_last, columns[index].side) {
                (true, Side::Left) => left,
                _ => columns[index].width.min(left),
            };
            let Some(cell) = cells.get(index) else { break };
            draw_cell(buffer, (x, y), width, columns[index].side, cell);
            x = x.saturating_add(width + GAP);
        }
    }
}

fn draw_cell(buffer: &mut Buffer, at: (u16, u16), width: u16, side: Side, cell: &Span<'_>) {
    let text = u16::try_from(cell.width()).unwrap_or(u16::MAX);
    let blanks = match side {
        Side::Left => 0,
        Side::Right => width.saturating_sub(text),
    };
    if width > blanks {
        let line = Line::from(cell.clone());
        buffer.set_line(at.0 + blanks, at.1, &line, width - blanks);
    }
}

/// Columns that are shown, in their order.
fn fitting(columns: &[Column], width: u16) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let needed = |shown: &[usize]| {
        let gaps = GAP * u16::try_from(shown.len().saturating_sub(1)).unwrap_or(u16::MAX);
        gaps + shown.iter().map(|&it| columns[it].width).sum::<u16>()
    };
    while needed(&shown) > width {
        // Of several of a rank the last one goes first.
        let least = shown.iter().copied().max_by_key(|&it| columns[it].rank);
        match least.filter(|&it| columns[it].rank > 0) {
            Some(least) => shown.retain(|&it| it != least),
            None => break,
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        left("name", 4, 0),
        right("a", 3, 2),
        right("b", 3, 1),
        left("note", 4, 3),
    ];

    fn drawn(width: u16) -> String {
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, 3));
        let rows: Vec<Vec<Span<'_>>> = ["first", "x"]
            .iter()
            .map(|&name| {
                vec![
                    name.into(),
                    "1".into(),
                    "2000".into(),
                    "a longer note".into(),
                ]
            })
            .collect();
        let area = buffer.area;
        draw(&mut buffer, area, &COLUMNS, &rows);
        super::super::text_of(&buffer)
    }

    #[test]
    fn columns_go_by_their_rank_and_the_last_takes_what_is_left() {
        assert_eq!(
            drawn(20),
            "name   a   b note\nfirs   1 200 a longe\nx      1 200 a longe\n"
        );
        assert_eq!(drawn(12), "name   a   b\nfirs   1 200\nx      1 200\n");
        assert_eq!(drawn(9), "name   b\nfirs 200\nx    200\n");
        assert_eq!(drawn(3), "nam\nfir\nx\n");
    }
}
