"""Two builds in pairs: every experiment with the binaries of A and with those of B, each on a fresh
cluster, one right behind the other. The first of a pair is A and B by turns: A B, B A, A B, .., so that
what gets slower or faster with time is not taken for the build.

The ratios B / A and the differences B - A are made within the pairs. Only pairs count whose runs both do,
and for the CPU only those in which no leader changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import results
from lab.measure import Experiment
from lab.results import Line, Summary
from lab.script import Failure, Settings

SIDES = A, B = "A", "B"
HEADER = ("experiment", "pairs", "A transfers/s", "B transfers/s", "B / A", "range")
HEADER_CPU = ("A leader ns", "B leader ns", "B - A", "range")


@dataclass(frozen=True)
class Turn:
    """One run: which pair it is of, counted from 1, and whose binaries it is made with."""

    pair: int
    experiment: Experiment
    side: str


def order(pair: int) -> tuple[str, str]:
    """Who begins."""
    return (A, B) if pair % 2 == 1 else (B, A)


def schedule(runs: int, experiments: Sequence[Experiment]) -> Iterator[Turn]:
    """All runs in their order: the experiments take turns, the two sides of a pair are neighbours."""
    for pair in range(1, runs + 1):
        for experiment in experiments:
            for side in order(pair):
                yield Turn(pair, experiment, side)


def settings_of(settings: Settings, directories: dict[str, Path]) -> dict[str, Settings]:
    """The settings of both sides, whose binaries are there."""
    both = {}
    for side in SIDES:
        # Absolute: a bare name would be looked for in PATH.
        both[side] = dataclasses.replace(settings, binaries=directories[side].resolve())
        both[side].check_binaries()
    return both


def renamed(experiment: Experiment) -> Experiment:
    """Under a name of its own: whoever reads runs by the name of an experiment wants one build."""
    return dataclasses.replace(experiment, name=f"pairs-{experiment.name}")


def marked(line: Line, turn: Turn) -> Line:
    """The line of results of this run."""
    return line | {"side": turn.side, "pair": turn.pair}


@dataclass(frozen=True)
class Comparison:
    """What the pairs of one experiment say."""

    a: Summary
    b: Summary
    # B / A of throughput, and B - A of the leaders' CPU time per transfer, by pair.
    ratios: tuple[float, ...]
    leader_ns: tuple[float, ...]


def compare(lines: Sequence[Line]) -> Comparison:
    """The lines of one experiment, of both sides."""
    by_side = {side: _by_pair(lines, side) for side in SIDES}
    both = sorted(by_side[A].keys() & by_side[B].keys())
    found = [(by_side[A][pair], by_side[B][pair]) for pair in both]
    cpu = [(results.leader_ns(a), results.leader_ns(b)) for a, b in found]
    return Comparison(
        a=results.summary([a for a, _ in found]),
        b=results.summary([b for _, b in found]),
        ratios=tuple(_ratio(a, b) for a, b in found),
        leader_ns=tuple(b - a for a, b in cpu if a is not None and b is not None),
    )


def _by_pair(lines: Sequence[Line], side: str) -> dict[int, Line]:
    """The runs of a side that count."""
    return {line["pair"]: line for line in lines if line["side"] == side and results.counts(line)}


def _ratio(a: Line, b: Line) -> float:
    under: float = a["run"]["throughput_tps"]
    if under <= 0:
        raise Failure(f"{a['experiment']}, pair {a['pair']}: A has committed nothing")
    over: float = b["run"]["throughput_tps"]
    return over / under


def row(name: str, comparison: Comparison) -> list[str]:
    """A row of the table below `HEADER` and `HEADER_CPU`."""
    a, b = comparison.a, comparison.b
    return [
        name,
        f"{len(comparison.ratios)}",
        results.grouped(a.throughput),
        results.grouped(b.throughput),
        *spread(comparison.ratios, ".3f"),
        results.grouped(a.leader_ns),
        results.grouped(b.leader_ns),
        *spread(comparison.leader_ns, "+,.0f"),
    ]


def spread(values: Sequence[float], form: str) -> tuple[str, str]:
    """The median, and the lowest and the highest; dashes where there is none."""
    median = results.middle(values)
    if median is None:
        return "-", "-"
    return f"{median:{form}}", f"{min(values):{form}} to {max(values):{form}}"


def builds(lines: Sequence[Line], side: str) -> str:
    """What the binaries of a side say that they were built of."""
    hosts = [line["run"].get("host") or {} for line in lines if line["side"] == side]
    return " and ".join(sorted({host.get("git_hash") or "unknown" for host in hosts}))
