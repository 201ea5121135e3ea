"""The floor under a latency: one flush and one round trip on this machine, without Quorate.

`bare floor` measures it; its document has `flush_us`, a block written durably with nothing else in
flight, and `round_trip_us`, 64 bytes there and back between two cores, each with `p50`.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab.script import Failure

SECONDS = 3


@dataclass(frozen=True)
class Floor:
    """Medians of one measurement."""

    flush_us: float
    round_trip_us: float

    @property
    def total_us(self) -> float:
        return self.flush_us + self.round_trip_us


def floor(binaries: Path) -> Floor | None:
    """Measures it now; `None` where there is no such program."""
    bare = program(binaries)
    if bare is None:
        return None
    parent = os.environ.get("TMPDIR") or "/var/tmp"
    with tempfile.TemporaryDirectory(prefix="quorate-floor.", dir=parent) as directory:
        document = Path(directory) / "floor.json"
        options = ["--dir", f"{directory}/log", "--seconds", str(SECONDS), "--json", str(document)]
        done = subprocess.run(
            [str(bare), "floor", *options], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise Failure(f"bare floor ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
        return floor_of(document.read_text(encoding="utf-8"))


def program(binaries: Path) -> Path | None:
    """Where it is."""
    bare = binaries / "bare"
    return bare if os.access(bare, os.X_OK) else None


def floor_of(text: str) -> Floor:
    """Of the document that it prints."""
    try:
        document = json.loads(text)
        return Floor(float(document["flush_us"]["p50"]), float(document["round_trip_us"]["p50"]))
    except (ValueError, KeyError, TypeError) as error:
        raise Failure(
            f"bare floor: no flush_us and round_trip_us with p50 in {text.strip()[:500]}"
        ) from error
