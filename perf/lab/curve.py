"""The cost curve: CPU time per transfer against what may drive it, one thing at a time.

Four curves. Each point is an experiment, and its figure the median of that experiment's runs; the
table and the picture are made of perf/results.ndjson alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab import results, svg
from lab.measure import Experiment, Line
from lab.results import Summary
from lab.script import Failure

LARGE = ("--clients", "4", "--batch", "8190")
# Clients and connections for each batch size: enough in flight for the cluster to be busy.
BATCHES = {1: (1024, 32), 10: (1024, 32), 100: (256, 16), 1000: (32, 4), 8190: (4, 1)}
EXPLANATION = """\
CPU time of the executor threads per committed transfer, user and system, medians of the runs: of
all leaders that take part in a transfer, and of one follower of each of them. A batch is split over
the shards, so with six a request has a sixth of 8190. Throughput and latency stand beside it to
tell a busy run from an idle one."""
ACCOUNTS = (10_000, 100_000, 1_000_000, 10_000_000)
SHARDS = (1, 2, 3, 6)
CROSS = (0, 10, 50, 100)


@dataclass(frozen=True)
class Point:
    """One place on a curve, with the experiment that measures it."""

    x: float
    experiment: Experiment


@dataclass(frozen=True)
class Curve:
    """What is varied, and with what."""

    name: str
    title: str
    x_label: str
    x_log: bool
    y_log: bool
    points: tuple[Point, ...]


def _batch(batch: int) -> Point:
    clients, connections = BATCHES[batch]
    load = ("--clients", str(clients), "--connections", str(connections), "--batch", str(batch))
    return Point(batch, Experiment(f"curve-batch-{batch}", 1, 3, load))


def _accounts(accounts: int) -> Point:
    return Point(accounts, Experiment(f"curve-accounts-{accounts}", 1, 1, LARGE, accounts))


def _shards(shards: int, replicas: int) -> Point:
    # All local: what crossing costs is another curve.
    local = ("--cross", "0") if shards > 1 else ()
    return Point(
        shards, Experiment(f"curve-shards-{shards}x{replicas}", shards, replicas, (*LARGE, *local))
    )


def _cross(percent: int) -> Point:
    return Point(
        percent, Experiment(f"curve-cross-{percent}", 3, 3, (*LARGE, "--cross", str(percent)))
    )


CURVES: tuple[Curve, ...] = (
    Curve(
        "batch",
        "Batch size (1 shard x 3 replicas)",
        "transfers per request",
        True,
        True,
        tuple(map(_batch, BATCHES)),
    ),
    Curve(
        "accounts",
        "Accounts (1 x 1, batch 8190)",
        "accounts",
        True,
        False,
        tuple(map(_accounts, ACCOUNTS)),
    ),
    Curve(
        "shards",
        "Shards (batch 8190, all local)",
        "shards",
        False,
        False,
        tuple(_shards(shards, replicas) for replicas in (1, 3) for shards in SHARDS),
    ),
    Curve(
        "cross",
        "Cross-shard share (3 x 3, batch 8190)",
        "% of transfers across shards",
        False,
        False,
        tuple(map(_cross, CROSS)),
    ),
)


def choose(names: Sequence[str], accounts_max: int) -> list[Experiment]:
    """The experiments of these curves, or of all."""
    wanted = [
        point for curve in CURVES if not names or curve.name in names for point in curve.points
    ]
    # Of the other curves, whose accounts are no axis, nothing is left out.
    least = max(accounts_max, min(ACCOUNTS))
    return [point.experiment for point in wanted if point.experiment.accounts <= least]


def summaries(lines: Sequence[Line], commit: str | None) -> tuple[str, dict[str, Summary]]:
    """A commit, by default that of the newest run of a curve, and medians of its experiments."""
    of_curves = [line for line in lines if line["experiment"].startswith("curve-")]
    if commit is None and of_curves:
        commit = of_curves[-1]["commit"]
    chosen = [line for line in of_curves if line["commit"] == commit and results.counts(line)]
    if not chosen:
        raise Failure(f"no run of a curve that counts, of commit {commit or 'unknown'}")
    names = {line["experiment"] for line in chosen}
    return str(commit), {
        name: results.summary([line for line in chosen if line["experiment"] == name])
        for name in names
    }


def picture(found: dict[str, Summary]) -> str:
    """Four panels."""
    return svg.render([_panel(curve, found) for curve in CURVES])


def _panel(curve: Curve, found: dict[str, Summary]) -> svg.Panel:
    series = []
    for replicas in sorted({point.experiment.replicas for point in curve.points}):
        for role in ("leader", "follower") if replicas > 1 else ("leader",):
            places = [
                (point.x, figure)
                for point in curve.points
                if point.experiment.replicas == replicas
                and (figure := _figure(found.get(point.experiment.name), role)) is not None
            ]
            series.append(svg.Series(f"{role}, x {replicas}", tuple(places)))
    label = "CPU ns per transfer"
    return svg.Panel(
        curve.title, curve.x_label, label, tuple(series), x_log=curve.x_log, y_log=curve.y_log
    )


def _figure(summary: Summary | None, role: str) -> float | None:
    if summary is None:
        return None
    return summary.leader_ns if role == "leader" else summary.follower_ns


def page(commit: str, found: dict[str, Summary], drawn: Sequence[Line]) -> str:
    """The table, with what has to be known to read it. `drawn` are the runs behind `found`."""
    header = [
        "experiment",
        "shards x replicas",
        "runs",
        "leader ns",
        "follower ns",
        "transfers/s",
        "p50 ms",
    ]
    parts = [
        "# The cost curve",
        f"Made by `perf/curve --draw` from `perf/results.ndjson`, commit {commit}, "
        f"binaries of {' and '.join(_binaries(drawn))}.",
        "![Four panels](curve.svg)",
        EXPLANATION,
    ]
    touches = [line.get("memory_touch_s_per_gib") for line in drawn]
    if touches := [touch for touch in touches if touch is not None]:
        low, high = min(touches), max(touches)
        parts.append(f"First touch of memory before these runs: {low:.2f} to {high:.2f} s per GiB.")
    for curve in CURVES:
        rows = [
            _row(point.experiment, found)
            for point in curve.points
            if point.experiment.name in found
        ]
        if rows:
            parts += [f"## {curve.title}", results.table(header, rows, markdown=True)]
    return "\n\n".join(parts) + "\n"


def _binaries(drawn: Sequence[Line]) -> list[str]:
    """What the binaries themselves say they were built of: not always the tree's commit."""
    hosts = [line["run"].get("host", {}) for line in drawn]
    return sorted({host.get("git_hash", "unknown") for host in hosts})


def _row(experiment: Experiment, found: dict[str, Summary]) -> list[str]:
    summary = found[experiment.name]
    return [
        experiment.name.removeprefix("curve-"),
        f"{experiment.shards} x {experiment.replicas}",
        f"{summary.runs}",
        results.grouped(summary.leader_ns),
        results.grouped(summary.follower_ns),
        results.grouped(summary.throughput),
        results.milliseconds(summary.p50_us),
    ]
