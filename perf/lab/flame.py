"""Flame graphs: the output of `perf script` folded into stacks, and these drawn as plain SVG.

A box is a function in its callers' context, as wide as the share of samples in which it was on the
stack; from left to right means nothing, equal stacks stand together by name. The picture is after
Brendan Gregg, "The Flame Graph", Communications of the ACM 59 (6), 2016.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

Stack = tuple[str, ...]

WIDTH, ROW, MARGIN = 1200, 17, 10
# Narrower boxes cannot be seen, and make most of a picture's bytes.
NARROWEST = 0.3
LETTER = 6.6
# What the mangling adds to tell versions of a crate apart.
HASH = re.compile(r"::h[0-9a-f]{16}$")
# Address, symbol, and in brackets the file; none for a frame that was inlined.
FRAME = re.compile(r"^\s+[0-9a-f]+\s+(.*?)(?:\s+\(([^()]*)\))?$")
KERNEL = "[kernel"
# perf writes it at a frame that the compiler has put into its caller.
INLINED = " (inlined)"


def fold(script: Iterable[str]) -> Counter[Stack]:
    """Stacks, outermost function first, with their samples. A sample is a line at the margin, then
    a line for each frame, innermost first, then an empty one."""
    stacks: Counter[Stack] = Counter()
    frames: list[str] = []
    for line in script:
        match = FRAME.match(line.rstrip("\n").removesuffix(INLINED))
        if match:
            frames.append(function(match[1], match[2] or ""))
        elif not line.strip() and frames:
            stacks[tuple(reversed(frames))] += 1
            frames = []
    if frames:
        stacks[tuple(reversed(frames))] += 1
    return stacks


def function(symbol: str, file: str) -> str:
    """A symbol as people read it; those of the kernel are marked as other tools do."""
    name = HASH.sub("", symbol.strip()) or "[unknown]"
    return name + "_[k]" if file.startswith(KERNEL) else name


def folded(stacks: Counter[Stack]) -> str:
    """One stack a line, as other tools read it."""
    return "".join(f"{';'.join(stack)} {count}\n" for stack, count in sorted(stacks.items()))


def own_time(stacks: Counter[Stack]) -> list[tuple[str, float]]:
    """Functions with the share of samples that were in themselves, the largest first."""
    own: Counter[str] = Counter()
    for stack, count in stacks.items():
        own[stack[-1]] += count
    total = sum(stacks.values())
    return [
        (name, count / total)
        for name, count in sorted(own.items(), key=lambda item: (-item[1], item[0]))
    ]


@dataclass
class Box:
    """A function in its context."""

    count: int = 0
    children: dict[str, Box] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        return 1 + max((child.depth for child in self.children.values()), default=0)


def tree(stacks: Counter[Stack]) -> Box:
    """All stacks under one root."""
    root = Box()
    for stack, count in stacks.items():
        box = root
        box.count += count
        for name in stack:
            box = box.children.setdefault(name, Box())
            box.count += count
    return root


def render(stacks: Counter[Stack], title: str) -> str:
    """The picture: the root at the bottom."""
    root = tree(stacks)
    height = (root.depth + 2) * ROW + 2 * MARGIN
    width = WIDTH + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" font-family="monospace" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{width / 2:.0f}" y="{MARGIN + 12}" text-anchor="middle" font-size="14">'
        f"{escape(title)}</text>",
    ]
    if root.count > 0:
        _draw(parts, "all", root, root.count, float(MARGIN), height - MARGIN - ROW)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _draw(parts: list[str], name: str, box: Box, total: int, x: float, y: int) -> None:
    width = WIDTH * box.count / total
    if width < NARROWEST:
        return
    told = escape(f"{name}: {box.count} samples, {100 * box.count / total:.2f} %")
    parts.append(
        f'<g><title>{told}</title><rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 1}"'
        f' rx="1" fill="{_colour(name)}"/>'
    )
    letters = int((width - 4) / LETTER)
    if letters >= 3:
        text = name if len(name) <= letters else name[: letters - 2] + ".."
        parts.append(f'<text x="{x + 2:.1f}" y="{y + 12}">{escape(text)}</text>')
    parts.append("</g>")
    for child, inner in sorted(box.children.items()):
        _draw(parts, child, inner, total, x, y - ROW)
        x += WIDTH * inner.count / total


def _colour(name: str) -> str:
    """A warm colour that is the function's own in every picture; the kernel's are blue."""
    shade = zlib.crc32(name.encode())
    if name.endswith("_[k]"):
        return f"rgb({90 + shade % 60},{150 + shade // 64 % 60},{210 + shade // 4096 % 45})"
    return f"rgb({205 + shade % 50},{80 + shade // 64 % 140},{shade // 16384 % 60})"
