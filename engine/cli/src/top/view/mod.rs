//! The screen, drawn from a model: nine windows on 80 x 24 and more on more. Pure: the same model on the
//! same size is the same screen, which the snapshots hold on to.
//!
//! This file decides where the windows are; [`windows`] what is in them.

mod chart;
mod grid;
mod windows;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Widget};

use self::grid::Column;
use super::model::Model;

/// The smallest screen on which everything has its place.
pub const COLUMNS_MIN: u16 = 80;
pub const ROWS_MIN: u16 = 24;
/// From here on windows have frames.
const COLUMNS_ROOMY: u16 = 120;
const ROWS_ROOMY: u16 = 36;

/// Room for the columns of shards that matter.
const SHARDS_WIDE: u16 = 64;

const GOOD: Style = Style::new().fg(Color::Green);
const NOTABLE: Style = Style::new().fg(Color::Yellow);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// What the one before the screen has chosen to see.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    /// Replicas above the first one that is shown.
    pub scroll: usize,
    pub paused: bool,
    pub help: bool,
}

/// Draws the screen.
#[must_use]
pub fn frame(model: &Model, choice: Choice, area: Rect) -> Buffer {
    let mut buffer = Buffer::empty(area);
    if !is_enough(area) {
        too_small(&mut buffer);
        return buffer;
    }
    let places = arrange(model, area);
    for &(window, area) in &places.windows {
        let inner = places.inner(area);
        let Filled { title, content } = windows::fill(window, model, choice, inner);
        let block = places.block().border_style(DIM).title(title);
        let block = match window {
            Window::Summary => block.title(windows::state(model, choice).right_aligned()),
            _ => block,
        };
        block.render(area, &mut buffer);
        match content {
            Content::Lines(lines) => {
                for (y, line) in (inner.top()..inner.bottom()).zip(&lines) {
                    buffer.set_line(inner.left(), y, line, inner.width);
                }
            }
            Content::Chart(values, style) => chart::draw(&mut buffer, inner, &values, style),
            Content::Table(columns, rows) => grid::draw(&mut buffer, inner, columns, &rows),
        }
    }
    if choice.help {
        help(&mut buffer);
    }
    buffer
}

/// How far the replicas can be scrolled on a screen of this size.
#[must_use]
pub fn scroll_max(model: &Model, area: Rect) -> usize {
    if !is_enough(area) {
        return 0;
    }
    let places = arrange(model, area);
    let replicas = places.windows.iter().find(|it| it.0 == Window::Replicas);
    replicas.map_or(0, |&(_, area)| {
        model
            .replicas
            .len()
            .saturating_sub(rows_below_titles(places.inner(area)))
    })
}

fn is_enough(area: Rect) -> bool {
    area.width >= COLUMNS_MIN && area.height >= ROWS_MIN
}

/// The characters of a screen, without blanks at the ends of lines.
#[must_use]
pub fn text_of(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in buffer.area.top()..buffer.area.bottom() {
        let row = (buffer.area.left()..buffer.area.right()).map(|x| buffer[(x, y)].symbol());
        text.push_str(row.collect::<String>().trim_end());
        text.push('\n');
    }
    text
}

/// All of them. The cores share a place with events, or with moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Window {
    Summary,
    Throughput,
    P99,
    CrossShare,
    InDoubt,
    Shards,
    Replicas,
    Moves,
    Cores,
    Events,
}

/// What is in a window.
struct Filled {
    title: Line<'static>,
    content: Content,
}

enum Content {
    Lines(Vec<Line<'static>>),
    Chart(Vec<Option<u64>>, Style),
    Table(&'static [Column], Vec<Vec<Span<'static>>>),
}

/// Where everything is.
struct Places {
    windows: Vec<(Window, Rect)>,
    framed: bool,
}

impl Places {
    /// A window without its frame or title line.
    fn inner(&self, area: Rect) -> Rect {
        self.block().inner(area)
    }

    fn block(&self) -> Block<'static> {
        Block::new().borders(match self.framed {
            true => Borders::ALL,
            false => Borders::TOP,
        })
    }
}

/// Heights of the rows of windows.
struct Heights {
    summary: u16,
    charts: u16,
    ratios: u16,
    tables: u16,
    notes: u16,
    events: u16,
}

/// Of a screen that is large enough.
fn arrange(model: &Model, area: Rect) -> Places {
    let framed = area.width >= COLUMNS_ROOMY && area.height >= ROWS_ROOMY;
    let table_rows = model.replicas.len().max(model.shards.len());
    let table_rows = u16::try_from(table_rows).unwrap_or(u16::MAX);
    let heights = heights(framed, area.height, table_rows);
    let [summary, charts, ratios, tables, notes, events] = Layout::vertical([
        Constraint::Length(heights.summary),
        Constraint::Length(heights.charts),
        Constraint::Length(heights.ratios),
        Constraint::Length(heights.tables),
        Constraint::Length(heights.notes),
        Constraint::Length(heights.events),
    ])
    .areas(area);
    // Frames touch; lines without frames need a blank between them.
    let gap = u16::from(!framed);
    let halves =
        |row: Rect| -> [Rect; 2] { split(row, [row.width.div_ceil(2), row.width / 2], gap) };
    let [throughput, p99] = halves(charts);
    let [cross, in_doubt] = halves(ratios);
    // Beyond what shards need the replicas have more to say: why one is silent or stopped.
    let left = (tables.width + 2) / 2;
    let left = left.min((tables.width * 2 / 5).max(SHARDS_WIDE));
    let [shards, replicas] = split(tables, [left, tables.width - left], gap);
    let (moves, cores, events) = match framed {
        true => {
            let quarter = notes.width / 4;
            let rest = notes.width - 2 * quarter;
            let [moves, cores, events] = split(notes, [quarter, quarter, rest], 0);
            (moves, cores, events)
        }
        false => {
            let [moves, cores] = halves(notes);
            (moves, cores, events)
        }
    };
    Places {
        framed,
        windows: vec![
            (Window::Summary, summary),
            (Window::Throughput, throughput),
            (Window::P99, p99),
            (Window::CrossShare, cross),
            (Window::InDoubt, in_doubt),
            (Window::Shards, shards),
            (Window::Replicas, replicas),
            (Window::Moves, moves),
            (Window::Cores, cores),
            (Window::Events, events),
        ],
    }
}

/// Side by side; all but the last give up `gap` columns at their right.
fn split<const N: usize>(row: Rect, widths: [u16; N], gap: u16) -> [Rect; N] {
    let mut x = row.left();
    let mut index = 0;
    widths.map(|width| {
        index += 1;
        let gap = if index < N { gap } else { 0 };
        let part = Rect::new(x, row.top(), width.saturating_sub(gap), row.height);
        x = x.saturating_add(width);
        part.intersection(row)
    })
}

/// The least that each needs; then whatever is left goes to the tables until all of it is there, to charts, to events.
fn heights(framed: bool, rows: u16, table_rows: u16) -> Heights {
    let mut heights = match framed {
        // Events stand beside the moves and the cores.
        true => Heights {
            summary: 4,
            charts: 5,
            ratios: 4,
            tables: 6,
            notes: 6,
            events: 0,
        },
        false => Heights {
            summary: 3,
            charts: 3,
            ratios: 2,
            tables: 5,
            notes: 2,
            events: 3,
        },
    };
    let frame = if framed { 2 } else { 1 };
    let used = heights.summary
        + heights.charts
        + heights.ratios
        + heights.tables
        + heights.notes
        + heights.events;
    let mut spare = rows.saturating_sub(used);
    let mut grow = |height: &mut u16, wanted: u16| {
        let more = wanted.saturating_sub(*height).min(spare);
        *height += more;
        spare -= more;
    };
    grow(&mut heights.tables, table_rows.saturating_add(frame + 1));
    let charts = heights.charts + 5;
    grow(&mut heights.charts, charts);
    let ratios = heights.ratios + 3;
    grow(&mut heights.ratios, ratios);
    match framed {
        true => grow(&mut heights.notes, u16::MAX),
        false => grow(&mut heights.events, u16::MAX),
    }
    heights
}

/// Rows of a table in a window.
fn rows_below_titles(inner: Rect) -> usize {
    usize::from(inner.height.saturating_sub(1))
}

/// One clear line; broken between words, or cut, where there is no room for it.
fn too_small(buffer: &mut Buffer) {
    let area = buffer.area;
    let text = format!(
        "quorate top needs {COLUMNS_MIN}x{ROWS_MIN}, this is {}x{}",
        area.width, area.height
    );
    let width = usize::from(area.width);
    let mut words = text.split(' ').peekable();
    for y in area.top()..area.bottom() {
        let Some(first) = words.next() else { break };
        let mut row = first.to_owned();
        while let Some(word) = words.next_if(|word| row.len() + 1 + word.len() <= width) {
            row.push(' ');
            row.push_str(word);
        }
        buffer.set_stringn(area.left(), y, row, width, BOLD);
    }
}

fn help(buffer: &mut Buffer) {
    let lines = windows::HELP;
    let wanted = lines.iter().map(|line| line.len()).max().unwrap_or(0) + 4;
    let width = u16::try_from(wanted).unwrap_or(u16::MAX);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let (width, height) = (width.min(buffer.area.width), height.min(buffer.area.height));
    let area = Rect::new(
        buffer.area.left() + (buffer.area.width - width) / 2,
        buffer.area.top() + (buffer.area.height - height) / 2,
        width,
        height,
    );
    Clear.render(area, buffer);
    let block = Block::bordered().title(" help ").border_style(BOLD);
    let inner = block.inner(area);
    block.render(area, buffer);
    for (y, line) in (inner.top()..inner.bottom()).zip(lines) {
        let width = inner.width.saturating_sub(1);
        buffer.set_line(inner.left() + 1, y, &Line::from(*line), width);
    }
}
