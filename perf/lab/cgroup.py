"""A share of a core for some processes, by the kernel's cgroups (version 1 or 2)."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from lab.script import Failure

ROOT = Path("/sys/fs/cgroup")
# Short, so that who has used its share is not stopped for longer than an election takes.
PERIOD_US = 10_000


class Limited:
    """Processes that together have `percent` of one core; whatever they start, too. In `with`; afterwards they are as before."""

    def __init__(self, processes: list[int], percent: int) -> None:
        self._processes = processes
        self._quota_us = PERIOD_US * percent // 100
        self._group = Path()
        self._home = Path()

    def __enter__(self) -> Limited:
        name = f"quorate-perf-{os.getpid()}"
        try:
            if (ROOT / "cpu").is_dir():
                self._home, self._group = ROOT / "cpu", ROOT / "cpu" / name
                self._group.mkdir()
                (self._group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (self._group / "cpu.cfs_quota_us").write_text(str(self._quota_us))
            elif "cpu" in (ROOT / "cgroup.controllers").read_text().split():
                self._home, self._group = ROOT, ROOT / name
                (ROOT / "cgroup.subtree_control").write_text("+cpu")
                self._group.mkdir()
                (self._group / "cpu.max").write_text(f"{self._quota_us} {PERIOD_US}")
            else:
                raise Failure("this host's cgroups have no cpu controller")
            self._move(self._group)
        except OSError as error:
            self.__exit__()
            raise Failure(f"no cgroup: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._move(self._home)
        # It counts as busy for a moment after its last process has left.
        for _ in range(100):
            with contextlib.suppress(OSError):
                self._group.rmdir()
                return
            time.sleep(0.01)

    def _move(self, to: Path) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                (to / "cgroup.procs").write_text(str(process))


def resident_bytes(processes: list[int]) -> int:
    """What the processes have in memory together."""
    page = os.sysconf("SC_PAGE_SIZE")
    pages = [int(Path(f"/proc/{it}/statm").read_text().split()[1]) for it in processes]
    return sum(pages) * page
