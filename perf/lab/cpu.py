"""CPU time of every thread of the servers, for exactly the measured window.

Ten times a second each thread is read with the time at which it was read: how long it has run, from
`schedstat` in nanoseconds, and how that splits into user and system, from `stat`, whose ticks are
too coarse for the whole. What a thread had used at an edge of the window is interpolated between
the samples around it.

A replica's executor is counted for the replica. Threads that accept or keep the table of pairs, workers of
io_uring and the main thread are counted for their node, apart from it.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lab.cluster import EXECUTOR

PAUSE_S = 0.1
# Places in /proc/PID/task/TID/stat after the name, which may itself hold blanks and brackets.
UTIME, STIME = 11, 12


class OutsideOfSamples(Exception):
    """The window is not covered, so a figure would be a guess."""


@dataclass(frozen=True)
class Cost:
    """CPU time, or CPU time per transfer."""

    user_ns: float = 0.0
    system_ns: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.user_ns + other.user_ns, self.system_ns + other.system_ns)

    def per(self, count: int) -> dict[str, float]:
        """One of `count` parts, as it is written down."""
        return {
            "user_ns": round(self.user_ns / count, 1),
            "system_ns": round(self.system_ns / count, 1),
        }


@dataclass
class Thread:
    """The samples of one thread, ascending by time."""

    node: int
    name: str
    # Seen from the first sweep on. One that came later had used nothing before.
    from_start: bool
    at_ns: list[int] = field(default_factory=list)
    run_ns: list[int] = field(default_factory=list)
    user_ticks: list[int] = field(default_factory=list)
    system_ticks: list[int] = field(default_factory=list)

    def add(self, at_ns: int, schedstat: str, stat: str) -> None:
        """One sample, of the texts of the two files."""
        run_ns = int(schedstat.split()[0])
        fields = stat.rpartition(")")[2].split()
        self.at_ns.append(at_ns)
        self.run_ns.append(run_ns)
        self.user_ticks.append(int(fields[UTIME]))
        self.system_ticks.append(int(fields[STIME]))

    def cost(self, from_ns: int, to_ns: int) -> Cost:
        """What it used between two times."""
        if self.from_start and from_ns < self.at_ns[0]:
            raise OutsideOfSamples(
                f"the window begins {self.at_ns[0] - from_ns} ns before the samples of {self.name}"
            )
        run, user, system = (
            _value_at(to_ns, self.at_ns, values) - _value_at(from_ns, self.at_ns, values)
            for values in (self.run_ns, self.user_ticks, self.system_ticks)
        )
        if user + system == 0:
            # Too little for a tick inside the window: as in its whole life.
            user, system = self.user_ticks[-1], self.system_ticks[-1]
        share = user / (user + system) if user + system > 0 else 1.0
        return Cost(run * share, run * (1 - share))

    @property
    def owner(self) -> str:
        """The replica or the node that it is counted for."""
        match = EXECUTOR.fullmatch(self.name)
        return match[1] if match else f"n{self.node}"


@dataclass
class Samples:
    """All threads that were seen."""

    threads: list[Thread] = field(default_factory=list)
    last_sweep_ns: int = 0

    def costs(self, from_ns: int, to_ns: int) -> tuple[dict[str, Cost], dict[str, Cost]]:
        """CPU time between two times: by replica, and by node for the other threads."""
        if to_ns > self.last_sweep_ns:
            raise OutsideOfSamples(
                f"the window ends {to_ns - self.last_sweep_ns} ns after the last samples"
            )
        replicas: dict[str, Cost] = {}
        others: dict[str, Cost] = {}
        for thread in self.threads:
            owners = replicas if EXECUTOR.fullmatch(thread.name) else others
            owners[thread.owner] = owners.get(thread.owner, Cost()) + thread.cost(from_ns, to_ns)
        return dict(sorted(replicas.items())), dict(sorted(others.items()))


class Sampler:
    """Samples the processes while it is in `with`; then `samples` is complete."""

    def __init__(self, processes: Mapping[int, int]) -> None:
        self._processes = processes
        self._threads: dict[tuple[int, int], Thread] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self.samples = Samples()

    def __enter__(self) -> Sampler:
        self._sweep(first=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._sweep(first=False)
        self.samples.threads = list(self._threads.values())

    def _run(self) -> None:
        while not self._ended.wait(PAUSE_S):
            self._sweep(first=False)

    def _sweep(self, first: bool) -> None:
        begun_ns = time.time_ns()
        for node, process in self._processes.items():
            for task in _tasks(process):
                self._sample(node, process, task, first)
        self.samples.last_sweep_ns = begun_ns

    def _sample(self, node: int, process: int, task: int, first: bool) -> None:
        place = f"/proc/{process}/task/{task}"
        try:
            thread = self._threads.get((process, task))
            if thread is None:
                thread = Thread(node, _read(f"{place}/comm").strip(), from_start=first)
            # Each thread with its own time: on a busy machine a sweep may be interrupted for long.
            thread.add(time.time_ns(), _read(f"{place}/schedstat"), _read(f"{place}/stat"))
        except (FileNotFoundError, ProcessLookupError):
            # It ended between being listed and being read; what was seen of it stays.
            return
        self._threads[(process, task)] = thread


def _tasks(process: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{process}/task")]
    except FileNotFoundError:
        return []


def _read(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        return file.read(4096).decode("ascii", "replace")


def _value_at(at_ns: int, times: Sequence[int], values: Sequence[int]) -> float:
    """A counter at a time: nothing before its first sample, its last value behind the last one."""
    after = bisect_right(times, at_ns)
    if after == 0:
        return 0.0
    if after == len(times):
        return float(values[-1])
    (earlier, later), (low, high) = times[after - 1 : after + 1], values[after - 1 : after + 1]
    return low + (high - low) * (at_ns - earlier) / (later - earlier)
