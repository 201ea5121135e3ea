"""One run of quorate-bench: its RUN document, whatever the money check said."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab.script import CHECK, FAILED, OK, Failure

# A line of progress that is not of the warm-up: a second of measuring has passed.
MEASURING = re.compile(r"run +\d+ s ")
# Of what it says, so much is shown when it fails.
LINES_SHOWN = 20


def generate(
    bench: Path,
    topology: Path,
    options: Sequence[str],
    began: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Loads the cluster and returns the document. `began` is called once, a second into measuring,
    while the load goes on."""
    with tempfile.TemporaryDirectory(prefix="quorate-run.") as directory:
        document = Path(directory) / "run.json"
        command = [str(bench), "run", "-f", str(topology), *options, "--json", str(document)]
        said = deque[str](maxlen=LINES_SHOWN)
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as load:
            try:
                assert load.stderr is not None, "it is a pipe"
                for line in load.stderr:
                    said.append(line)
                    if began is not None and MEASURING.match(line):
                        began()
                        began = None
            except BaseException:
                load.kill()
                raise
        run = _read(document)
        if not _is_told(load.returncode, run):
            raise Failure(
                f"quorate-bench run ended with {load.returncode}:\n{''.join(said).rstrip()}"
            )
        if run is None:
            raise Failure(f"quorate-bench run ended with {load.returncode} and no document")
        return run


def _is_told(code: int, run: dict[str, Any] | None) -> bool:
    """Whether the document says how the run ended, for the caller to judge: also a money check that failed, or
    could not be made. A run that was interrupted is none."""
    if run is not None and run["interrupted"]:
        return False
    return code in (OK, CHECK) or (code == FAILED and run is not None and run["error"] is None)


def _read(document: Path) -> dict[str, Any] | None:
    try:
        run: dict[str, Any] = json.loads(document.read_text())
    except (OSError, ValueError):
        return None
    return run
