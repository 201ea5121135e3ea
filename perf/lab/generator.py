"""One run of quorate-bench: its document, whatever the money check said."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.script import CHECK, FAILED, OK, REFUSED, Failure

# A line of progress that is not of the warm-up: a second of measuring has passed.
MEASURING = re.compile(r"run +\d+ s ")
# Of what it says, so much is shown when it fails.
LINES_SHOWN = 20


@dataclass(frozen=True)
class _End:
    """How a process of it ended."""

    command: str
    code: int
    document: dict[str, Any] | None
    said: str

    def failure(self) -> Failure:
        """Why there is no result. Money that is wrong weighs more than what has ended the load."""
        verify = (self.document or {}).get("verify") or {}
        is_wrong = verify.get("ok") is False and verify.get("completed") is True
        said = f":\n{self.said}" if self.said else ""
        return Failure(
            f"quorate-bench {self.command} ended with {self.code}{said}",
            CHECK if is_wrong else FAILED,
        )

    def told(self) -> dict[str, Any]:
        """The document, if it says how the load ended, for the caller to judge: also a money check that failed, or
        could not be made, and a plan that was refused."""
        is_unchecked = self.code == FAILED and (self.document or {}).get("error", "none") is None
        if self.code not in (OK, REFUSED, CHECK) and not is_unchecked:
            raise self.failure()
        if self.document is None:
            raise Failure(f"quorate-bench {self.command} ended with {self.code} and no document")
        return self.document


def generate(
    bench: Path,
    topology: Path,
    options: Sequence[str],
    began: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Loads the cluster and returns the RUN document. `began` is called once, a second into measuring,
    while the load goes on."""
    end = _execute(bench, "run", topology, options, began)
    # A run that was interrupted is none.
    if end.document is not None and end.document["interrupted"]:
        raise end.failure()
    return end.told()


def locality(bench: Path, topology: Path, options: Sequence[str]) -> dict[str, Any]:
    """Loads, moves accounts, loads again; returns the document, of a plan that was carried out or refused."""
    return _execute(bench, "locality", topology, options, None).told()


def _execute(
    bench: Path,
    command: str,
    topology: Path,
    options: Sequence[str],
    began: Callable[[], None] | None,
) -> _End:
    with tempfile.TemporaryDirectory(prefix="quorate-run.") as directory:
        document = Path(directory) / "run.json"
        words = [str(bench), command, "-f", str(topology), *options, "--json", str(document)]
        said = deque[str](maxlen=LINES_SHOWN)
        with subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
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
        return _End(command, load.returncode, _read(document), "".join(said).rstrip())


def _read(document: Path) -> dict[str, Any] | None:
    try:
        run: dict[str, Any] = json.loads(document.read_text())
    except (OSError, ValueError):
        return None
    return run
