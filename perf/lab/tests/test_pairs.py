"""Two builds take turns, and are compared within their pairs."""

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path
from typing import Any

from lab import experiments, pairs, script
from lab.script import Failure


def line(pair: int, side: str, throughput: float, cpu_ns: float, **changes: Any) -> dict[str, Any]:
    made = {
        "experiment": "pairs-local-1x3",
        "pair": pair,
        "side": side,
        "shards": 1,
        "replicas": 3,
        "leaders": ["s1r1"],
        "leaders_changed": False,
        "cpu": {
            "s1r1": {"user_ns": cpu_ns - 100, "system_ns": 100},
            "s1r2": {"user_ns": 7, "system_ns": 1},
        },
        "run": {
            "throughput_tps": throughput,
            "latency_us": {"p50": 1, "p99": 2},
            "host": {"git_hash": f"{side}-hash"},
            "error": None,
            "verify": {"ok": True},
        },
    }
    return made | changes


# By pair the host is another: the ratios are 1.1, 0.9 and 0.5, the differences 10, -20 and 90.
LINES = [
    line(1, "A", 100, 1_000),
    line(1, "B", 110, 1_010),
    line(2, "B", 180, 1_980),
    line(2, "A", 200, 2_000),
    line(3, "A", 400, 3_000),
    line(3, "B", 200, 3_090),
]


class Turns(unittest.TestCase):
    def test_who_begins_alternates_and_the_sides_of_a_pair_are_neighbours(self) -> None:
        wanted = [experiments.standing(name) for name in ("local-1x1", "cross-10")]
        turns = list(pairs.schedule(3, wanted))
        told = [f"{turn.pair}{turn.side}{turn.experiment.name[0]}" for turn in turns]
        self.assertEqual(told, ["1Al", "1Bl", "1Ac", "1Bc", "2Bl", "2Al", "2Bc", "2Ac"] + told[8:])
        self.assertEqual(told[8:], ["3Al", "3Bl", "3Ac", "3Bc"])

    def test_a_line_says_its_side_and_has_a_name_of_its_own(self) -> None:
        experiment = pairs.renamed(experiments.standing("local-1x3"))
        self.assertEqual(experiment.name, "pairs-local-1x3")
        self.assertEqual(experiment.options, experiments.standing("local-1x3").options)
        marked = pairs.marked({"experiment": experiment.name}, pairs.Turn(2, experiment, "B"))
        self.assertEqual((marked["side"], marked["pair"]), ("B", 2))

    def test_each_side_has_its_own_binaries_and_what_lacks_is_told(self) -> None:
        settings = script.settings(runs=5)
        with tempfile.TemporaryDirectory() as name:
            directories = {side: Path(os.path.relpath(name)) / side for side in pairs.SIDES}
            for side in pairs.SIDES:
                directories[side].mkdir()
                with self.assertRaisesRegex(Failure, f"no quorate in .*/{side};"):
                    pairs.settings_of(settings, directories)
                for program in ("quorate", "quorate-bench"):
                    (directories[side] / program).touch()
                    (directories[side] / program).chmod(0o755)
            both = pairs.settings_of(settings, directories)
            for side in pairs.SIDES:
                self.assertTrue(os.path.samefile(both[side].quorate.parent, directories[side]))
                self.assertTrue(both[side].quorate.is_absolute())


class Comparisons(unittest.TestCase):
    def test_ratios_and_differences_are_made_within_the_pairs(self) -> None:
        found = pairs.compare(LINES)
        self.assertEqual(found.ratios, (1.1, 0.9, 0.5))
        self.assertEqual(found.leader_ns, (10, -20, 90))
        self.assertEqual((found.a.throughput, found.b.throughput), (200, 180))
        self.assertEqual((found.a.leader_ns, found.b.leader_ns), (2_000, 1_980))
        self.assertEqual(
            pairs.row("local-1x3", found),
            ["local-1x3", "3", "200", "180", "0.900", "0.500 to 1.100"]
            + ["2,000", "1,980", "+10", "-20 to +90"],
        )
        self.assertEqual(len(pairs.row("", found)), len(pairs.HEADER) + len(pairs.HEADER_CPU))

    def test_a_pair_counts_only_whole_and_if_the_money_is_right(self) -> None:
        wrong = line(1, "B", 999, 1)
        wrong["run"]["verify"] = {"ok": False}
        found = pairs.compare([LINES[0], wrong, *LINES[2:5]])
        self.assertEqual(found.ratios, (0.9,))
        # The medians beside the ratio are those of its pairs.
        self.assertEqual((found.a.runs, found.a.throughput), (1, 200))
        self.assertEqual(pairs.row("x", pairs.compare([]))[1:6], ["0", "-", "-", "-", "-"])

    def test_where_a_leader_changed_throughput_counts_and_cpu_does_not(self) -> None:
        changed = LINES[1] | {"leaders_changed": True}
        found = pairs.compare([LINES[0], changed, *LINES[2:]])
        self.assertEqual((len(found.ratios), found.leader_ns), (3, (-20, 90)))

    def test_nothing_committed_is_no_ratio(self) -> None:
        with self.assertRaisesRegex(Failure, "pair 1: A has committed nothing"):
            pairs.compare([line(1, "A", 0, 1), line(1, "B", 5, 1)])

    def test_the_builds_say_what_they_were_built_of(self) -> None:
        self.assertEqual(pairs.builds(LINES, "A"), "A-hash")
        none = line(1, "B", 1, 1)
        none["run"]["host"]["git_hash"] = None
        self.assertEqual(pairs.builds([*LINES, none], "B"), "B-hash and unknown")


if __name__ == "__main__":
    unittest.main()
