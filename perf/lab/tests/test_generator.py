"""Which ends of quorate-bench are a run, and which end a series."""

from __future__ import annotations

import json
import tempfile
import unittest
from pathlib import Path
from typing import Any

from lab.generator import generate
from lab.script import Failure

DOCUMENT = {"error": None, "interrupted": False, "verify": {"ok": False}}


class Ends(unittest.TestCase):
    def test_a_money_check_that_failed_or_was_not_made_is_a_run(self) -> None:
        for code in (0, 1, 4):
            self.assertEqual(end(code, DOCUMENT), DOCUMENT)

    def test_what_was_not_run_to_its_end_is_none(self) -> None:
        for code, changes in ((1, {"error": "no quorum"}), (130, {}), (0, {"interrupted": True})):
            with self.assertRaisesRegex(Failure, f"ended with {code}"):
                end(code, DOCUMENT | changes)
        for code in (0, 1, 2):
            with self.assertRaisesRegex(Failure, f"ended with {code}"):
                end(code, None)


def end(code: int, document: dict[str, Any] | None) -> dict[str, Any]:
    """What is made of a generator that leaves this document, the last argument, and ends so."""
    with tempfile.TemporaryDirectory() as directory:
        bench = Path(directory) / "bench"
        text = "" if document is None else json.dumps(document)
        bench.write_text(
            f"#!/bin/sh\nfor file; do :; done\nprintf '%s' '{text}' >\"$file\"\nexit {code}\n"
        )
        bench.chmod(0o755)
        return generate(bench, Path("cluster.toml"), [])


if __name__ == "__main__":
    unittest.main()
