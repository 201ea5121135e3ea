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

from lab.script import CHECK, Failure

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
        # A money check that failed, or could not be made, is in the document: for the caller to judge.
        run = _read(document)
        if load.returncode not in (0, CHECK) and (run is None or run["error"] is not None):
            raise Failure(
                f"quorate-bench run ended with {load.returncode}:\n{''.join(said).rstrip()}"
            )
        if run is None:
            raise Failure(f"quorate-bench run ended with {load.returncode} and no document")
        return run


def _read(document: Path) -> dict[str, Any] | None:
    try:
        run: dict[str, Any] = json.loads(document.read_text())
    except (OSError, ValueError):
        return None
    return run
