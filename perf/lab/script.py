"""How a measuring script starts and ends: its environment, signals and exit codes.

Exit codes are those of the programs: 0 success, 1 anything that failed, 2 bad usage, 4 a check of
money that was not ok. No script ends with 3, by which a program refuses a plan.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

PERF = Path(__file__).resolve().parent.parent
ROOT = PERF.parent

OK, FAILED, USAGE, REFUSED, CHECK = 0, 1, 2, 3, 4


class Failure(Exception):
    """Ends a script with a message and an exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Settings:
    """What the environment says."""

    binaries: Path
    runs: int
    seconds: int
    warmup: int
    results: Path
    base_port: int
    touch_gib: int

    @property
    def quorate(self) -> Path:
        return self.binaries / "quorate"

    @property
    def bench(self) -> Path:
        return self.binaries / "quorate-bench"

    def check_binaries(self) -> None:
        """Before anything is started: what is missing, and how to get it."""
        for binary in (self.quorate, self.bench):
            if not os.access(binary, os.X_OK):
                raise Failure(f"no {binary.name} in {self.binaries}; run: cargo build --release")


def settings(runs: int, seconds: int = 6, warmup: int = 12) -> Settings:
    """QUORATE_BIN_DIR, RUNS, SECONDS_EACH, WARMUP, RESULTS, BASE_PORT, TOUCH_GIB; the arguments are
    the script's own defaults."""
    return Settings(
        binaries=Path(os.environ.get("QUORATE_BIN_DIR") or ROOT / "target/release"),
        runs=number("RUNS", runs, 1),
        seconds=number("SECONDS_EACH", seconds, 1),
        # Until the first checkpoint (64 MiB of log with few accounts) every row goes into memory that the process
        # has never touched. Where twelve seconds are too few for that, a line of results says so.
        warmup=number("WARMUP", warmup, 0),
        results=Path(os.environ.get("RESULTS") or PERF / "results.ndjson"),
        base_port=number("BASE_PORT", 24000, 1024),
        touch_gib=number("TOUCH_GIB", 4, 0),
    )


def number(name: str, default: int, least: int) -> int:
    """A whole number from the environment."""
    text = os.environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise Failure(f"{name}={text}: not a whole number from {least}", USAGE)
    return int(text)


def commit() -> str:
    """The commit of the tree that the script lies in."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else "unknown"


def run_script(name: str, body: Callable[[], int]) -> NoReturn:
    """Runs a script's body to its exit code. A signal unwinds it: what it began is ended."""
    for number_of_signal in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number_of_signal, _unwind)
    try:
        code = body()
    except Failure as failure:
        print(f"perf/{name}: {failure}", file=sys.stderr)
        code = failure.code
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    sys.exit(code)


def _unwind(number_of_signal: int, _frame: object) -> NoReturn:
    sys.exit(128 + number_of_signal)
