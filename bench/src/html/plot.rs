//! A figure over time as SVG: seconds of one or more loads behind each other on one axis.
//!
//! ```text
//!   before      | held out | during      | after        stages, in their order
//!   0 1 2 .. 9    0 1 2      0 1 2 ..      0 1 2 ..     seconds of each
//! ```
//! The time between two loads (planning, checking) is not on the axis. A point is drawn in the middle
//! of its second and carries the key of its stage, its second, the key of its figure and the value as
//! they are in the document (`data-` attributes); nothing is drawn that is not there. A second that the
//! load did not fill counts less for that alone: its point is open and no line leads to it.

use crate::figures::float;
use crate::report::SeriesRow;

use super::markup::Markup;
use super::scale::Scale;

/// Points of one plot at most: a browser draws them at once. Of longer series each stretch shows its
/// lowest and its highest second.
const POINTS_MAX: usize = 2_000;

/// Width of every drawing.
pub(super) const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 34.0;
const X_STEPS: u32 = 12;
const Y_STEPS: u32 = 4;

/// One load.
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a> {
    /// Its key in the document.
    pub key: &'static str,
    pub name: &'static str,
    /// Measured time.
    pub seconds: f64,
    pub series: &'a [SeriesRow],
}

/// A time within a stage in which something went on.
#[derive(Clone, Copy, Debug)]
pub struct Band {
    /// Key of the stage.
    pub stage: &'static str,
    pub name: &'static str,
    /// Seconds since the stage's start.
    pub from_second: f64,
    pub to_second: f64,
}

/// What the plots of a page have in common: their axis of time.
#[derive(Clone, Debug)]
pub struct Timeline<'a> {
    stages: Vec<Stage<'a>>,
    band: Option<Band>,
    /// Where each stage begins, and where the last one ends; in seconds.
    starts: Vec<f64>,
    rows_per_stretch: usize,
}

/// A figure that every second has.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// Its key in a row of the document's series.
    pub key: &'static str,
    pub title: &'static str,
    /// What one unit of the axis is in the document's unit.
    pub unit: f64,
    pub of: fn(&SeriesRow) -> Option<f64>,
}

/// Committed transfers.
pub const COMMITTED: Measure = Measure {
    key: "committed",
    title: "committed, transfers/s",
    unit: 1.0,
    of: |row| Some(float(row.committed)),
};
/// 99th percentile of latency.
pub const P99: Measure = Measure {
    key: "p99_us",
    title: "p99 latency, ms",
    unit: 1e3,
    of: |row| row.p99_us,
};
/// Share of committed transfers that crossed shards.
pub const CROSS_SHARD_RATIO: Measure = Measure {
    key: "cross_shard_ratio",
    title: "cross-shard ratio, %",
    unit: 1e-2,
    of: |row| row.cross_shard_ratio,
};

/// A value to draw.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    second: u64,
    value: f64,
    /// The load filled this second.
    is_whole: bool,
    /// Every second since the point before has a value.
    is_joined: bool,
}

impl<'a> Timeline<'a> {
    /// The stages in their order; those without a second are left out.
    #[must_use]
    pub fn new(stages: Vec<Stage<'a>>, band: Option<Band>) -> Self {
        let stages: Vec<Stage<'a>> = stages
            .into_iter()
            .filter(|stage| !stage.series.is_empty())
            .collect();
        let mut starts = vec![0.0];
        let mut end = 0.0;
        for stage in &stages {
            let rows = stage.series.last().map_or(0, |row| row.second + 1);
            end += float(rows).max(stage.seconds.ceil());
            starts.push(end);
        }
        let rows: usize = stages.iter().map(|stage| stage.series.len()).sum();
        Self {
            stages,
            band,
            starts,
            rows_per_stretch: rows.div_ceil(POINTS_MAX / 2).max(1),
        }
    }

    /// Nothing was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Seconds of which only the lowest and the highest are drawn; `None` if all are.
    #[must_use]
    pub fn thinned(&self) -> Option<usize> {
        (self.rows_per_stretch > 2).then_some(self.rows_per_stretch)
    }

    /// Draws one figure.
    #[must_use]
    pub fn plot(&self, measure: &Measure) -> Markup {
        let points: Vec<Vec<Point>> = self
            .stages
            .iter()
            .map(|stage| points(stage, measure, self.rows_per_stretch))
            .collect();
        let values = points.iter().flatten().map(|point| point.value);
        let scale = Scale::new(values.fold(0.0, f64::max) / measure.unit, Y_STEPS, 0.0);
        let mut content = Markup::tag("title", measure.title);
        content.push(text(LEFT - 56.0, 12.0, "start", measure.title));
        content.push(self.grid(&scale));
        content.push(self.band());
        for (n, stage) in self.stages.iter().enumerate() {
            content.push(self.boundary(n, stage));
            let at = |point: &Point| {
                let y = y(&scale, point.value / measure.unit);
                (self.x(n, float(point.second) + 0.5), y)
            };
            content.push(line(&points[n], at));
            for point in &points[n] {
                content.push(dot(stage, measure, point, at(point)));
            }
        }
        svg(HEIGHT, content)
    }

    /// Where a second of the n-th stage lies.
    fn x(&self, stage: usize, second: f64) -> f64 {
        let end = self.starts.last().copied().unwrap_or(0.0).max(1.0);
        LEFT + (self.starts[stage] + second) / end * (WIDTH - LEFT - RIGHT)
    }

    fn grid(&self, scale: &Scale) -> Markup {
        let mut grid = Markup::empty();
        for &tick in scale.ticks() {
            let y = y(scale, tick);
            grid.push(rule("grid", (LEFT, y), (WIDTH - RIGHT, y)));
            grid.push(text(LEFT - 6.0, y + 4.0, "end", &scale.label(tick)));
        }
        let end = self.starts.last().copied().unwrap_or(0.0);
        let seconds = Scale::new(end, X_STEPS, 1.0);
        for &tick in seconds.ticks().iter().filter(|&&tick| tick <= end) {
            let (x, y) = (self.x(0, tick), HEIGHT - BOTTOM);
            grid.push(rule("grid", (x, y), (x, y + 4.0)));
            grid.push(text(x, y + 16.0, "middle", &seconds.label(tick)));
        }
        grid.push(text(WIDTH - RIGHT, 12.0, "end", "by second of load"));
        grid
    }

    fn boundary(&self, n: usize, stage: &Stage<'_>) -> Markup {
        let x = self.x(n, 0.0);
        let mut boundary = rule("boundary", (x, TOP), (x, HEIGHT - BOTTOM));
        boundary.push(text(x + 4.0, HEIGHT - 4.0, "start", stage.name));
        boundary
    }

    fn band(&self) -> Markup {
        let stage = |band: &Band| self.stages.iter().position(|it| it.key == band.stage);
        let Some((band, n)) = self.band.and_then(|band| Some((band, stage(&band)?))) else {
            return Markup::empty();
        };
        let (from, to) = (self.x(n, band.from_second), self.x(n, band.to_second));
        let attributes = [
            ("class", "moves".to_owned()),
            ("x", coordinate(from)),
            ("y", coordinate(TOP)),
            // Thinner than a line it would not be seen.
            ("width", coordinate((to - from).max(1.0))),
            ("height", coordinate(HEIGHT - TOP - BOTTOM)),
            ("data-band", band.name.to_owned()),
            ("data-stage", band.stage.to_owned()),
            ("data-from-second", band.from_second.to_string()),
            ("data-to-second", band.to_second.to_string()),
        ];
        let mut drawn = Markup::element("rect", attributes, Markup::tag("title", band.name));
        drawn.push(text((from + to) / 2.0, TOP + 12.0, "middle", band.name));
        drawn
    }
}

/// The values of a stage; of every `rows_per_stretch` rows the first lowest and the last highest,
/// which of one or two are all.
fn points(stage: &Stage<'_>, measure: &Measure, rows_per_stretch: usize) -> Vec<Point> {
    let mut points = Vec::new();
    let mut is_joined = false;
    for rows in stage.series.chunks(rows_per_stretch) {
        let valued = || {
            let rows = rows.iter();
            rows.filter_map(|row| Some((row.second, (measure.of)(row)?)))
        };
        let low = valued().min_by(|a, b| a.1.total_cmp(&b.1));
        let high = valued().max_by(|a, b| a.1.total_cmp(&b.1));
        let kept = [low, high].map(|point| point.map(|(second, _)| second));
        for row in rows {
            let Some(value) = (measure.of)(row) else {
                is_joined = false;
                continue;
            };
            if kept.contains(&Some(row.second)) {
                points.push(Point {
                    second: row.second,
                    value,
                    is_whole: float(row.second + 1) <= stage.seconds,
                    is_joined,
                });
                is_joined = true;
            }
        }
    }
    points
}

/// The line through the seconds that a load filled.
fn line(points: &[Point], at: impl Fn(&Point) -> (f64, f64)) -> Markup {
    let mut path = String::new();
    for point in points.iter().filter(|point| point.is_whole) {
        let (x, y) = at(point);
        let command = if point.is_joined { 'L' } else { 'M' };
        path += &format!("{command}{} {} ", coordinate(x), coordinate(y));
    }
    let attributes = [("class", "line".to_owned()), ("d", path.trim().to_owned())];
    Markup::element("path", attributes, Markup::empty())
}

fn dot(stage: &Stage<'_>, measure: &Measure, point: &Point, (x, y): (f64, f64)) -> Markup {
    let class = if point.is_whole { "dot" } else { "part" };
    let (second, value) = (point.second, point.value);
    let attributes = [
        ("class", class.to_owned()),
        ("cx", coordinate(x)),
        ("cy", coordinate(y)),
        ("r", "2.5".to_owned()),
        ("data-stage", stage.key.to_owned()),
        ("data-second", second.to_string()),
        ("data-key", measure.key.to_owned()),
        ("data-value", value.to_string()),
    ];
    let shown = value / measure.unit;
    let hint = format!("{}, second {second}: {shown:.2}", stage.name);
    Markup::element("circle", attributes, Markup::tag("title", &hint))
}

fn y(scale: &Scale, value: f64) -> f64 {
    HEIGHT - BOTTOM - value / scale.top() * (HEIGHT - TOP - BOTTOM)
}

/// A drawing as wide as the page.
pub(super) fn svg(height: f64, content: Markup) -> Markup {
    let attributes = [
        ("viewBox", format!("0 0 {WIDTH} {height}")),
        ("role", "img".to_owned()),
    ];
    Markup::element("svg", attributes, content)
}

/// Text at a point; `anchor` says which end of it.
pub(super) fn text(x: f64, y: f64, anchor: &'static str, text: &str) -> Markup {
    let attributes = [
        ("x", coordinate(x)),
        ("y", coordinate(y)),
        ("text-anchor", anchor.to_owned()),
    ];
    Markup::element("text", attributes, Markup::text(text))
}

fn rule(class: &'static str, from: (f64, f64), to: (f64, f64)) -> Markup {
    let attributes = [
        ("class", class.to_owned()),
        ("x1", coordinate(from.0)),
        ("y1", coordinate(from.1)),
        ("x2", coordinate(to.0)),
        ("y2", coordinate(to.1)),
    ];
    Markup::element("line", attributes, Markup::empty())
}

/// A tenth of a unit is less than a pixel.
pub(super) fn coordinate(at: f64) -> String {
    format!("{at:.1}")
}
