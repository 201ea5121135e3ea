"""The lines of perf/results.ndjson: one run each, and what a series of them says.

Only runs whose money check is ok count.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from lab.script import CHECK, OK, Failure

Line = dict[str, Any]


def append(path: Path, line: Line) -> None:
    """Adds a run."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, separators=(",", ":")) + "\n")


def read(path: Path) -> list[Line]:
    """All runs, oldest first."""
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from error
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            lines.append(json.loads(text))
        except ValueError as error:
            raise Failure(f"{path}:{number}: {error}") from error
    return lines


def counts(line: Line) -> bool:
    """Whether the run was made, and its money is right: by every check, where a line has several."""
    run = line["run"]
    is_right = (run.get("verify") or {}).get("ok") is True and all(line.get("checks", {}).values())
    return run.get("error") is None and is_right


def leader_ns(line: Line) -> float | None:
    """CPU time of leaders per transfer: of all leaders that took part in it. `None` if they changed."""
    costs = _costs(line, of_leaders=True)
    return sum(costs) if costs else None


def follower_ns(line: Line) -> float | None:
    """CPU time of one follower per transfer: of all of them, over how many each shard has."""
    costs = _costs(line, of_leaders=False)
    return sum(costs) / (line["replicas"] - 1) if costs else None


def _costs(line: Line, of_leaders: bool) -> list[float]:
    if line.get("leaders_changed"):
        return []
    leaders = line.get("leaders", [])
    cpu = line.get("cpu", {})
    return [
        cost["user_ns"] + cost["system_ns"]
        for name, cost in cpu.items()
        if (name in leaders) == of_leaders
    ]


@dataclass(frozen=True)
class Summary:
    """Medians of a series; `None` where no run has the figure."""

    runs: int
    throughput: float | None
    p50_us: float | None
    p99_us: float | None
    leader_ns: float | None
    follower_ns: float | None


def summary(lines: Sequence[Line]) -> Summary:
    """The medians of the runs that count."""
    valid = [line for line in lines if counts(line)]
    return Summary(
        runs=len(valid),
        throughput=middle(line["run"]["throughput_tps"] for line in valid),
        p50_us=middle(line["run"]["latency_us"]["p50"] for line in valid),
        p99_us=middle(line["run"]["latency_us"]["p99"] for line in valid),
        leader_ns=middle(leader_ns(line) for line in valid),
        follower_ns=middle(follower_ns(line) for line in valid),
    )


def middle(values: Iterable[float | None]) -> float | None:
    """The median of those that are there."""
    known = [value for value in values if value is not None]
    return median(known) if known else None


def tell(line: Line) -> None:
    """One run, for a person who waits."""
    run = line["run"]
    figures = [
        f"{grouped(run['throughput_tps'])} transfers/s",
        f"p50 {milliseconds(run['latency_us']['p50'])} ms",
        f"p99 {milliseconds(run['latency_us']['p99'])} ms",
        f"CPU ns leader {grouped(leader_ns(line))} follower {grouped(follower_ns(line))}",
        *(f"{count} {code}" for code, count in run["rejected"].items()),
        *(f"{run[what]} {what}" for what in ("unknown", "dropped") if run[what] > 0),
    ]
    replicas = line["shards"] * line["replicas"]
    if line["checkpointed"] < replicas:
        # What they grow by goes into memory that is touched for the first time.
        figures.append(f"{line['checkpointed']} of {replicas} past their first checkpoint")
    if line["leaders_changed"]:
        figures.append("LEADERS CHANGED: the CPU of leaders and followers is mixed")
    if not counts(line):
        figures.append(f"MONEY CHECK NOT OK: {run['error'] or run['verify']}")
    print(f"{line['experiment']:<18} {', '.join(figures)}", flush=True)


def check_code(lines: Iterable[Line]) -> int:
    """The exit code of a series: whether every run counts."""
    wrong = [line["experiment"] for line in lines if not counts(line)]
    if wrong:
        print(f"the money check was not ok: {', '.join(wrong)}", file=sys.stderr)
    return CHECK if wrong else OK


def table(header: Sequence[str], rows: Iterable[Sequence[str]], markdown: bool = False) -> str:
    """Columns for people: the first to the left, the others to the right."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    texts = []
    for row in cells:
        aligned = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:])),
        ]
        texts.append("| " + " | ".join(aligned) + " |" if markdown else "  ".join(aligned).rstrip())
    if markdown:
        texts.insert(1, "| --- |" + " ---: |" * (len(header) - 1))
    return "\n".join(texts)


def grouped(value: float | None, digits: int = 0) -> str:
    """A figure with its thousands told apart, or a dash."""
    return "-" if value is None else f"{value:,.{digits}f}"


def milliseconds(microseconds: float | None) -> str:
    """A latency, or a dash."""
    return "-" if microseconds is None else f"{microseconds / 1e3:.2f}"
