"""One measured run: a cluster, the generator and the servers' CPU, put into one line of results.

```text
{"experiment", "commit", "shards", "replicas", "leaders": ["s1r1"], "leaders_changed": false,     in the measured time
 "checkpointed": 3                  replicas whose first checkpoint was published in the warm-up
 "cpu":       {"s1r1": {"user_ns", "system_ns"}, ...}    executor threads, per committed transfer
 "cpu_other": {"n1": {"user_ns", "system_ns"}, ...}      all other threads of each node, likewise
 "memory_touch_s_per_gib", "run": RUN}
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from lab.cluster import Cluster
from lab.cpu import OutsideOfSamples, Sampler, Samples
from lab.generator import generate
from lab.script import Failure, Settings, commit

Line = dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """A cluster and a load."""

    name: str
    shards: int
    replicas: int
    options: tuple[str, ...]
    accounts: int = 10_000


def measure(
    experiment: Experiment,
    settings: Settings,
    memory_touch: float | None = None,
    began: Callable[[Cluster], None] | None = None,
) -> Line:
    """Runs an experiment on a fresh cluster. `began` is called a second into measuring."""
    with Cluster(settings, experiment.shards, experiment.replicas) as cluster:
        return measure_on(cluster, experiment, settings, memory_touch, began)


def measure_on(
    cluster: Cluster,
    experiment: Experiment,
    settings: Settings,
    memory_touch: float | None = None,
    began: Callable[[Cluster], None] | None = None,
) -> Line:
    """The same on a cluster that is there."""
    options = ["--workload", "uniform", "--accounts", str(experiment.accounts)]
    options += [
        "--warmup",
        str(settings.warmup),
        "--seconds",
        str(settings.seconds),
        *experiment.options,
    ]
    with Sampler(cluster.processes()) as sampler:
        tell = None if began is None else lambda: began(cluster)
        run = generate(settings.bench, cluster.topology, options, tell)
    cpu, other = _cpu(sampler.samples, run, settings.seconds)
    if cpu and (lacking := missing(cpu, cluster.shards, cluster.replicas)):
        raise Failure(f"no thread of {', '.join(lacking)} was found; are they named otherwise now?")
    measured = window(run, settings.seconds)
    return {
        "experiment": experiment.name,
        "commit": commit(),
        "shards": experiment.shards,
        "replicas": experiment.replicas,
        "leaders": cluster.leaders(),
        "leaders_changed": cluster.led_anew(*measured),
        "checkpointed": cluster.checkpointed(measured[0]),
        "cpu": cpu,
        "cpu_other": other,
        "memory_touch_s_per_gib": memory_touch,
        "run": run,
    }


def window(run: dict[str, Any], seconds: int) -> tuple[int, int]:
    """The time in which load was offered and counted, in nanoseconds since 1970.

    Not until the last answer: what was asked for before the window and done in it weighs as much as
    what was asked for in it and done behind, if the load is steady, and only the latter is counted.
    """
    if run.get("measured_from_unix_ns") is None:
        raise Failure(
            "no measured_from_unix_ns in the RUN document; is quorate-bench older than this script?"
        )
    from_ns = int(run["measured_from_unix_ns"])
    return from_ns, from_ns + int(min(seconds, run["seconds"]) * 1e9)


def missing(found: Iterable[str], shards: int, replicas: int) -> list[str]:
    """The replicas without CPU time: their work would be nobody's."""
    every = [
        f"s{shard}r{replica}"
        for shard in range(1, shards + 1)
        for replica in range(1, replicas + 1)
    ]
    return [name for name in every if name not in set(found)]


def _cpu(
    samples: Samples, run: dict[str, Any], seconds: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    if run["committed"] == 0:
        return {}, {}
    try:
        replicas, others = samples.costs(*window(run, seconds))
    except OutsideOfSamples as error:
        raise Failure(f"CPU time: {error}") from error
    per_transfer = [
        {name: cost.per(run["committed"]) for name, cost in part.items()}
        for part in (replicas, others)
    ]
    return per_transfer[0], per_transfer[1]
