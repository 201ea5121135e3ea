"""Placement on a running cluster, beside its bounds: one run of `quorate-bench locality`, then the
same load under the new map and the old one by turns.

```text
locality: before | cost of crossing | held out | plan | during the moves | after
pairs:    load (new) undo load (old) | load (old) undo load (new) | load (new) undo ...    | verify
```

What `locality` measures before and after lies minutes apart, in which a busy host may have become
another one. So the map is changed back and forth on the same cluster, by undoing the last plan and
then the undo, and each pair of neighbouring loads gives one ratio. Which of the two maps comes first
alternates: what only gets slower or faster with time cancels out.

Both loads of a pair make the same payments, which no other load of the run has made (`--round`): the plan
has not seen them.

The freeze of an account is set beside the p50 of requests that hold a transfer across shards. Before the
moves that is nearly every request: of some 33 transfers for one shard, two thirds cross. It is not the
time of a single transfer across shards, which no document has.

A plan that the gate refuses is a result, too, and no reason to try again until it allows one: its run has
a line without figures, and is told beside the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab import results
from lab.cluster import Cluster
from lab.generator import generate, locality
from lab.results import Line
from lab.script import Failure, Settings, commit

Document = dict[str, Any]

NAME = "placement"
SHARDS, REPLICAS = 3, 3
# What the generator does by itself, written down: a changed default must not change the experiment.
LOAD = ("--workload", "communities", "--accounts", "9000", "--clients", "32", "--batch", "100")
NEW, OLD = "new", "old"
STAGES = ("before", "predicted", "achieved")
# In front of a load of a pair: every page was touched before, as for `perf/latency`.
WARMUP_PAIRS = 2
# `locality` numbers its own loads from 0 on and those of the cost from 65,536 on.
FIRST_ROUND = 100
# Decimals of JSON are not exact, and a figure at its bound is held.
EXACT = 1e-9
HELD, MISSED = "held", "NOT HELD"


@dataclass(frozen=True)
class Figure:
    """What is told of a run, and the bound it has, if any."""

    key: str
    name: str
    digits: int = 2
    least: float | None = None
    most: float | None = None
    # Whether a bound is for every run and not for the median: no host's noise excuses the one that misses it.
    always: bool = False

    @property
    def bound(self) -> str:
        if self.least is not None:
            return f">= {self.least:g}"
        return "" if self.most is None else f"<= {self.most:g}"

    def is_held(self, value: float) -> bool:
        """Whether the value keeps the bound."""
        above = self.least is None or value >= self.least - EXACT
        return above and (self.most is None or value <= self.most + EXACT)

    def verdict(self, value: float | None) -> str:
        if not self.bound:
            return ""
        if value is None:
            return "not measured"
        return HELD if self.is_held(value) else MISSED


FIGURES: tuple[Figure, ...] = (
    Figure("cross_before", "cross-shard ratio before", 3),
    Figure("cross_predicted", "cross-shard ratio predicted", 3),
    Figure("cross_achieved", "cross-shard ratio achieved", 3, most=0.12),
    Figure("cross_off", "achieved and predicted, apart by", 3, most=0.03),
    Figure("during_throughput", "throughput during / before", least=0.8),
    Figure("during_p99", "p99 during / before", most=2),
    Figure("freeze", "freeze p99 / p50 of a cross-shard request before", most=3),
    Figure("gain", "throughput after / before", least=1.3),
    Figure("gain_predicted", "throughput after / predicted", least=0.9),
    Figure("pairs_gain", "throughput new / old map, median of the pairs", least=1.3),
    Figure("pairs_gain_predicted", "the same / predicted", least=0.9),
    Figure("pairs_cross_new", "cross-shard ratio in the pairs, new map", 3),
    Figure("pairs_cross_old", "cross-shard ratio in the pairs, old map", 3),
    Figure(
        "undone_off",
        "old map's ratio and that before, farthest apart by",
        3,
        most=0.03,
        always=True,
    ),
)


def order(pair: int) -> tuple[str, str]:
    """The maps of a pair, counted from 1: it begins with the one that the pair before has ended with."""
    return (NEW, OLD) if pair % 2 == 1 else (OLD, NEW)


def measure(settings: Settings, pairs: int, memory_touch: float | None = None) -> Line:
    """One run on a fresh cluster: its line."""
    with Cluster(settings, SHARDS, REPLICAS) as cluster:
        options = timed(settings.warmup, settings.seconds)
        found = locality(settings.bench, cluster.topology, options)
        checks = checks_of_locality(found)
        refused = refusal(found)
        # At once: what lacks here, lacks after the pairs as well.
        figures = {} if refused else figures_of_locality(found)
        loads: list[Document] = []
        undos: list[Document] = []
        # On a cluster whose money is wrong nothing more is measured.
        if all(checks.values()) and not refused:
            short = timed(min(settings.warmup, WARMUP_PAIRS), max(settings.seconds // 2, 1))
            loads, undos = alternate(
                pairs,
                lambda pair: generate(settings.bench, cluster.topology, [*short, *unseen(pair)]),
                cluster.undo,
            )
            checks |= checks_of_pairs(loads, undos)
        if loads and all(checks.values()):
            figures |= figures_of_pairs(figures, loads)
        verify = cluster.verify()
        checks["end"] = is_right(verify)
        from_ns = began_ns(found)
        last = "before" if refused else "after"
        return {
            "experiment": NAME,
            "commit": commit(),
            "shards": SHARDS,
            "replicas": REPLICAS,
            "leaders_changed": cluster.led_anew(from_ns, time.time_ns()),
            "checkpointed": cluster.checkpointed(from_ns),
            "memory_touch_s_per_gib": memory_touch,
            "refused": refused,
            "figures": figures,
            "checks": checks,
            "locality": {key: part for key, part in found.items() if key != last},
            "pairs": loads,
            "undos": undos,
            "verify": verify,
            "run": found[last],
        }


def refusal(found: Document) -> str | None:
    """Why the gate has refused the plan, if it has."""
    plan = found.get("plan") or {}
    return str(plan.get("reason")) if plan.get("decision") == "refuse" else None


def began_ns(found: Document) -> int:
    """When the load before the moves began to be measured, in nanoseconds since 1970."""
    at_ns = (found.get("before") or {}).get("measured_from_unix_ns")
    if not isinstance(at_ns, str) or not at_ns.isdigit():
        raise Failure(
            f"no time before.measured_from_unix_ns in the document of locality, but {at_ns}"
        )
    return int(at_ns)


def timed(warmup: int, seconds: int) -> list[str]:
    """The options of a load."""
    return [*LOAD, "--warmup", str(warmup), "--seconds", str(seconds)]


def unseen(pair: int) -> list[str]:
    """Payments of its own for each pair, behind those of the loads of `locality`, which count from 0."""
    return ["--round", str(FIRST_ROUND + pair)]


def alternate(
    pairs: int, load: Callable[[int], Document], undo: Callable[[], Document]
) -> tuple[list[Document], list[Document]]:
    """The loads of all pairs with their maps, and the undos inside of the pairs; ends early where the money
    is wrong. The new map is there at the beginning."""
    loads: list[Document] = []
    undos: list[Document] = []
    for pair in range(1, pairs + 1):
        for which, name in enumerate(order(pair)):
            if which == 1:
                undos.append(undo())
                if not is_right(undos[-1].get("verify")):
                    return loads, undos
            loads.append({"pair": pair, "map": name, "run": load(pair)})
            if not is_right(loads[-1]["run"].get("verify")):
                return loads, undos
    return loads, undos


def is_right(verify: Mapping[str, Any] | None) -> bool:
    """Whether the money was checked and is right."""
    return (verify or {}).get("ok") is True


def checks_of_locality(found: Document) -> dict[str, bool]:
    """The checks of the money of its stages and at its end."""
    loads = ("before",) if refusal(found) else ("before", "after")
    checks = {name: is_right((found.get(name) or {}).get("verify")) for name in loads}
    return checks | {"locality": is_right(found.get("verify"))}


def checks_of_pairs(loads: Sequence[Document], undos: Sequence[Document]) -> dict[str, bool]:
    checks = {
        f"pair {one['pair']} {one['map']}": is_right(one["run"].get("verify")) for one in loads
    }
    return checks | {f"undo {n}": is_right(undo.get("verify")) for n, undo in enumerate(undos, 1)}


def figures_of_locality(found: Document) -> dict[str, float]:
    """The figures that the document of `locality` gives."""
    ratio = {stage: at(found, "cross_shard_ratio", stage) for stage in STAGES}
    throughput = {stage: at(found, "throughput_tps", stage) for stage in STAGES}
    before = throughput["before"]
    return {
        "cross_before": ratio["before"],
        "cross_predicted": ratio["predicted"],
        "cross_achieved": ratio["achieved"],
        "cross_off": abs(ratio["achieved"] - ratio["predicted"]),
        "throughput_before": before,
        "throughput_predicted": throughput["predicted"],
        "throughput_achieved": throughput["achieved"],
        "during_throughput": over(at(found, "during", "throughput_tps"), before),
        "during_p99": over(
            at(found, "during", "latency_us", "p99"), at(found, "before", "latency_us", "p99")
        ),
        "freeze": over(
            at(found, "reshard", "freeze_us", "p99"),
            at(found, "before", "cross", "latency_us", "p50"),
        ),
        "gain": over(throughput["achieved"], before),
        # Predicted is before x (1 + the lower of the gains that the gate predicts).
        "gain_predicted": over(throughput["achieved"], throughput["predicted"]),
    }


def figures_of_pairs(figures: Mapping[str, float], loads: Sequence[Document]) -> dict[str, float]:
    """The figures that the pairs give, beside those of `locality`."""
    maps = {name: [one["run"] for one in loads if one["map"] == name] for name in (NEW, OLD)}
    gain = middle(ratios(loads))
    cross = {name: [at(run, "cross_shard_ratio") for run in runs] for name, runs in maps.items()}
    before = figures["cross_before"]
    return {
        "pairs_gain": gain,
        "pairs_gain_predicted": over(
            gain, over(figures["throughput_predicted"], figures["throughput_before"])
        ),
        "pairs_cross_new": middle(cross[NEW]),
        "pairs_cross_old": middle(cross[OLD]),
        "undone_off": max(abs(ratio - before) for ratio in cross[OLD]),
    }


def ratios(loads: Sequence[Document]) -> list[float]:
    """Throughput under the new map over that under the old one, of each pair."""
    throughput = {(one["pair"], one["map"]): at(one["run"], "throughput_tps") for one in loads}
    pairs = sorted({pair for pair, _ in throughput})
    if not pairs or len(throughput) != 2 * len(pairs):
        raise Failure(f"{len(throughput)} loads are not two for each of {len(pairs)} pairs")
    return [over(throughput[pair, NEW], throughput[pair, OLD]) for pair in pairs]


def at(document: Mapping[str, Any], *keys: str) -> float:
    """The number at these keys, outermost first."""
    value: Any = document
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Failure(f"no number {'.'.join(keys)} in the document of quorate-bench, but {value}")
    return float(value)


def over(value: float, under: float) -> float:
    """A ratio."""
    if under <= 0:
        raise Failure(f"{value:g} over {under:g} is no ratio: was nothing committed?")
    return value / under


def middle(values: Sequence[float]) -> float:
    median = results.middle(values)
    assert median is not None, "there is a pair, and each has both maps"
    return median


def run_table(line: Line) -> str:
    """The figures of one run beside their bounds."""
    figures = line["figures"]
    rows = [
        [
            figure.name,
            results.grouped(figures.get(figure.key), figure.digits),
            figure.bound,
            figure.verdict(figures.get(figure.key)),
        ]
        for figure in FIGURES
    ]
    money = HELD if results.counts(line) else MISSED
    rows.append(["checks of the money", f"{len(line['checks'])}", "all ok", money])
    return results.table(["figure", "value", "bound", ""], rows)


def median_table(lines: Sequence[Line]) -> str:
    """Medians of the runs that count beside their bounds, with the lowest and the highest."""
    right = [line for line in lines if results.counts(line)]
    valid = [line["figures"] for line in right]
    rows = []
    for figure in FIGURES:
        values = [figures[figure.key] for figures in valid if figure.key in figures]
        median = results.middle(values)
        shown = [median, min(values, default=None), max(values, default=None)]
        cells = [results.grouped(value, figure.digits) for value in shown]
        verdicts = [figure.verdict(value) for value in (values if figure.always else [])]
        verdict = next((one for one in verdicts if one == MISSED), figure.verdict(median))
        rows.append([figure.name, *cells, figure.bound, verdict])
    allowed = [line for line in lines if not line["refused"]]
    for name, some in (
        ("runs whose plan was not refused", allowed),
        ("runs whose money was right", right),
    ):
        verdict = HELD if len(some) == len(lines) else MISSED
        rows.append([name, f"{len(some)} of {len(lines)}", "", "", "all", verdict])
    return results.table(["figure", "median", "lowest", "highest", "bound", ""], rows)


def missed(lines: Sequence[Line]) -> list[str]:
    """The figures whose bound is not held, or that nobody has measured: at the median, or in every run."""
    valid = [line["figures"] for line in lines if results.counts(line)]
    names = []
    for figure in FIGURES:
        values = [figures[figure.key] for figures in valid if figure.key in figures]
        judged = values if figure.always else [results.middle(values)]
        if figure.bound and not (judged and all(figure.verdict(one) == HELD for one in judged)):
            names.append(figure.name)
    return names


def told(line: Line) -> list[str]:
    """What else a person wants to know of a run, a sentence each."""
    sentences = _told_of_refusal(line) if line["refused"] else _told_of_moves(line)
    if line["checkpointed"] < SHARDS * REPLICAS:
        sentences.append(
            f"{line['checkpointed']} of {SHARDS * REPLICAS} replicas past their first checkpoint"
        )
    if line["leaders_changed"]:
        sentences.append("LEADERS CHANGED meanwhile: a load may have waited for an election")
    if not results.counts(line):
        wrong = [name for name, right in line["checks"].items() if not right]
        sentences.append(f"MONEY CHECK NOT OK: {', '.join(wrong)}")
    return sentences


def _told_of_refusal(line: Line) -> list[str]:
    return [f"PLAN REFUSED: {line['refused']}"]


def _told_of_moves(line: Line) -> list[str]:
    found, figures = line["locality"], line["figures"]
    moved, planned, seconds = (at(found, "reshard", key) for key in ("moved", "planned", "seconds"))
    crossing = at(found, "before", "cross", "latency_us", "requests")
    share = over(crossing, at(found, "before", "latency_us", "requests"))
    p50_us = at(found, "before", "cross", "latency_us", "p50")
    sentences = [
        f"{moved:,.0f} of {planned:,.0f} accounts moved in {seconds:.1f} s;"
        f" {results.grouped(figures['throughput_before'])} transfers/s before,"
        f" {results.grouped(figures['throughput_predicted'])} predicted,"
        f" {results.grouped(figures['throughput_achieved'])} after",
        f"{share:.1%} of the requests before the moves held a transfer across shards: their p50,"
        f" {results.milliseconds(p50_us)} ms, stands for that of a commit across shards",
    ]
    if "pairs_gain" in figures:
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios(line["pairs"]))
        sentences.append(f"throughput new / old map by pair: {each}")
    return sentences
