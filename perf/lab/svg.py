"""Line charts as plain SVG, in a grid of panels: axes linear or logarithmic, ticks with numbers,
labels, a legend. Nothing but text is made, so the same points give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 480, 320
LEFT, RIGHT, TOP, BOTTOM = 76, 16, 46, 50
# Told apart also by who does not see all colours; from Okabe and Ito.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
# Where there are fewer decades than this, a logarithmic axis has ticks inside of them.
DECADES_PLAIN = 3


@dataclass(frozen=True)
class Series:
    """A line: its name in the legend and its points, in the order in which they are joined."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Panel:
    """One chart."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    x_log: bool = False
    y_log: bool = False


@dataclass(frozen=True)
class Axis:
    """Values to a place between 0 and 1, with ticks at round values."""

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def axis(values: Sequence[float], log: bool) -> Axis:
    """An axis that holds the values; a linear one begins at 0 where none is below, so that heights
    compare."""
    low, high = min(values), max(values)
    if log:
        if low <= 0:
            raise ValueError(f"{low} has no place on a logarithmic axis")
        return _log_axis(low, high)
    low = min(low, 0.0)
    step = _step((high - low) or 1.0)
    first, last = math.floor(low / step), max(math.ceil(high / step), 1)
    # The lowest may be the highest, and an axis needs some length.
    last = max(last, first + 1)
    return Axis(first * step, last * step, False, tuple(step * n for n in range(first, last + 1)))


def _log_axis(low: float, high: float) -> Axis:
    inside = (1,) if math.log10(high / low) >= DECADES_PLAIN else (1, 2, 5)
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    ticks = [factor * 10.0**decade for decade in decades for factor in inside]
    # 10.0 ** n is not exact everywhere.
    first = max(n for n, tick in enumerate(ticks) if tick <= low * (1 + 1e-9))
    last = min(n for n, tick in enumerate(ticks) if tick >= high * (1 - 1e-9))
    last = max(last, first + 1)
    shown = tuple(ticks[first : last + 1])
    return Axis(shown[0], shown[-1], True, shown)


def _step(length: float) -> float:
    """The round distance that makes about five ticks."""
    power = 10.0 ** math.floor(math.log10(length / 5))
    return next(
        factor * power for factor in (1, 2, 5, 10) if factor * power >= length / 5 * (1 - 1e-9)
    )


def number(value: float) -> str:
    """A tick as it is written: 20, 1.5k, 10M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * (1 - 1e-9):
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


def render(panels: Sequence[Panel], columns: int = 2) -> str:
    """The whole picture."""
    rows = math.ceil(len(panels) / columns)
    width, height = WIDTH * columns, HEIGHT * rows
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for n, panel in enumerate(panels):
        parts.append(f'<g transform="translate({n % columns * WIDTH},{n // columns * HEIGHT})">')
        parts += _panel(panel)
        parts.append("</g>")
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _panel(panel: Panel) -> list[str]:
    points = [point for series in panel.series for point in series.points]
    if not points:
        return _empty(panel)
    x_axis = axis([x for x, _ in points], panel.x_log)
    y_axis = axis([y for _, y in points], panel.y_log)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return LEFT + x_axis.place(x) * (right - LEFT), bottom - y_axis.place(y) * (bottom - TOP)

    middle_x, middle_y = (LEFT + right) / 2, (TOP + bottom) / 2
    parts = [
        _text(middle_x, 18, panel.title, 'text-anchor="middle" font-size="13" font-weight="bold"'),
        _text(middle_x, HEIGHT - 14, panel.x_label, 'text-anchor="middle"'),
        _text(
            16,
            middle_y,
            panel.y_label,
            f'text-anchor="middle" transform="rotate(-90 16 {middle_y:.1f})"',
        ),
    ]
    for tick in x_axis.ticks:
        x, _ = at(tick, y_axis.low)
        parts.append(_line(x, TOP, x, bottom, "#ddd"))
        parts.append(_text(x, bottom + 15, number(tick), 'text-anchor="middle"'))
    for tick in y_axis.ticks:
        _, y = at(x_axis.low, tick)
        parts.append(_line(LEFT, y, right, y, "#ddd"))
        parts.append(_text(LEFT - 6, y + 4, number(tick), 'text-anchor="end"'))
    parts += [_line(LEFT, TOP, LEFT, bottom, "#333"), _line(LEFT, bottom, right, bottom, "#333")]
    for n, series in enumerate(panel.series):
        parts += _series(series, [at(x, y) for x, y in series.points], COLOURS[n % len(COLOURS)])
    return parts + _legend(panel.series)


def _empty(panel: Panel) -> list[str]:
    """Axes of nothing would look like a measurement."""
    centred, title = (
        'text-anchor="middle"',
        'text-anchor="middle" font-size="13" font-weight="bold"',
    )
    return [
        _text((LEFT + WIDTH - RIGHT) / 2, 18, panel.title, title),
        _text((LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2, "not measured", centred),
    ]


def _series(series: Series, places: Sequence[tuple[float, float]], colour: str) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>']
    for (x, y), (value_x, value_y) in zip(places, series.points):
        title = escape(f"{series.name}: {value_x:g}, {value_y:,.4g}")
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}">'
            f"<title>{title}</title></circle>"
        )
    return parts


def _legend(series: Sequence[Series]) -> list[str]:
    parts = []
    x = LEFT + 10.0
    for n, one in enumerate(series):
        colour = COLOURS[n % len(COLOURS)]
        parts.append(f'<rect x="{x:.0f}" y="{TOP - 8}" width="12" height="3" fill="{colour}"/>')
        parts.append(_text(x + 16, TOP - 3, one.name, ""))
        # Widths of letters are not known here; this is wide enough for all common fonts.
        x += 30 + 6.2 * len(one.name)
    return parts


def _text(x: float, y: float, text: str, attributes: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'
