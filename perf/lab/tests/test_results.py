"""What a series of lines says, and what a document must hold."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path
from typing import Any

from lab import curve, experiments, results
from lab.cluster import new_leaders
from lab.floor import floor_of
from lab.memory import available_of, touch
from lab.script import Failure


def line(throughput: float, experiment: str = "local-1x3", **changes: Any) -> dict[str, Any]:
    latency = {"p50": throughput / 10, "p99": None}
    made = {
        "experiment": experiment,
        "commit": "abc",
        "shards": 2,
        "replicas": 3,
        "leaders": ["s1r1", "s2r2"],
        "cpu": {
            f"s{s}r{r}": {"user_ns": 10.0 * s, "system_ns": r} for s in (1, 2) for r in (1, 2, 3)
        },
        "run": {
            "throughput_tps": throughput,
            "latency_us": latency,
            "error": None,
            "verify": {"ok": True},
        },
    }
    return made | changes


def wrong(throughput: float) -> dict[str, Any]:
    made = line(throughput)
    made["run"]["verify"]["ok"] = False
    return made


class Lines(unittest.TestCase):
    def test_medians_are_of_the_runs_whose_money_is_right(self) -> None:
        summary = results.summary([line(100), wrong(1), line(300), line(200)])
        self.assertEqual((summary.runs, summary.throughput, summary.p50_us), (3, 200, 20))
        self.assertIsNone(summary.p99_us)
        self.assertEqual(results.check_code([line(1)]), 0)

    def test_a_wrong_check_is_exit_code_4(self) -> None:
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            self.assertEqual(results.check_code([line(1), wrong(2)]), 4)
        self.assertIn("local-1x3", said.getvalue())

    def test_leaders_and_followers_are_told_apart(self) -> None:
        # Leaders: 10 + 1 and 20 + 2. Followers: 12, 13, 21, 23, of which each shard has two.
        self.assertEqual(results.leader_ns(line(1)), 33)
        self.assertEqual(results.follower_ns(line(1)), (12 + 13 + 21 + 23) / 2)
        alone = line(1, replicas=1, leaders=["s1r1"], cpu={"s1r1": {"user_ns": 5, "system_ns": 2}})
        self.assertEqual((results.leader_ns(alone), results.follower_ns(alone)), (7, None))

    def test_a_leader_that_changed_leaves_its_throughput_and_not_its_cpu(self) -> None:
        changed = line(100, leaders_changed=True)
        both = results.summary([changed, line(300)])
        self.assertEqual((both.runs, both.throughput, both.leader_ns), (2, 200, 33))
        self.assertIsNone(results.follower_ns(changed))

    def test_a_program_without_a_check_does_not_count(self) -> None:
        external = line(1)
        external["run"]["verify"] = None
        self.assertFalse(results.counts(external))

    def test_lines_of_older_scripts_have_no_cpu_and_still_count(self) -> None:
        old = line(100)
        del old["cpu"], old["leaders"]
        summary = results.summary([old])
        self.assertEqual((summary.throughput, summary.leader_ns), (100, None))

    def test_what_is_appended_is_read_and_a_broken_line_is_named(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "results.ndjson"
            for throughput in (1, 2):
                results.append(path, line(throughput))
            self.assertEqual([one["run"]["throughput_tps"] for one in results.read(path)], [1, 2])
            with path.open("a") as file:
                file.write("{\n")
            with self.assertRaisesRegex(Failure, "results.ndjson:3"):
                results.read(path)

    def test_a_table_aligns_and_is_markdown_if_asked(self) -> None:
        rows = [["a", "1"], ["long", "1,000"]]
        self.assertEqual(results.table(["x", "n"], rows), "x         n\na         1\nlong  1,000")
        lines = results.table(["x", "n"], rows, markdown=True).splitlines()
        self.assertEqual(lines[1:3], ["| --- | ---: |", "| a    |     1 |"])

    def test_the_kept_results_can_be_read(self) -> None:
        kept = results.read(Path(__file__).resolve().parents[2] / "results.ndjson")
        self.assertTrue(all(results.summary([one]).runs in (0, 1) for one in kept))


class Curves(unittest.TestCase):
    def test_points_are_the_newest_commits(self) -> None:
        name = "curve-batch-10"
        lines = [
            line(1, name, commit="old"),
            line(2, name),
            line(4, name),
            line(8, "local-1x3", commit="new"),
        ]
        commit, found = curve.summaries(lines, None)
        self.assertEqual((commit, found[name].throughput), ("abc", 3))
        self.assertEqual(curve.summaries(lines, "old")[1][name].throughput, 1)
        with self.assertRaises(Failure):
            curve.summaries([line(8)], None)

    def test_the_page_and_the_picture_show_what_was_measured(self) -> None:
        _, found = curve.summaries([line(2, "curve-batch-10"), line(2, "curve-shards-2x3")], None)
        drawn = [line(2, memory_touch_s_per_gib=touch) for touch in (0.4, None, 3.0)]
        drawn[0]["run"]["host"] = {"git_hash": "abc-dirty"}
        page = curve.page("abc", found, drawn)
        self.assertIn("commit abc, binaries of abc-dirty and unknown", page)
        self.assertIn("0.40 to 3.00 s per GiB", page)
        self.assertIn("| batch-10 ", " ".join(page.split("  ")))
        self.assertNotIn("## Cross", page)
        self.assertEqual(curve.picture(found).count("<circle"), 4)

    def test_experiments_have_names_of_their_own_and_large_ones_can_be_left_out(self) -> None:
        names = [one.name for one in (*curve.choose([], 10**7), *experiments.STANDING)]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual(len(curve.choose(["accounts"], 10**5)), 2)
        with self.assertRaises(Failure) as caught:
            experiments.standing("local-1x2")
        self.assertEqual(caught.exception.code, 2)


class Machine(unittest.TestCase):
    def test_a_leader_is_new_if_the_log_says_so_in_the_measured_time(self) -> None:
        part = " INFO quorate_runtime::executor: part in the group replica=s1r2"
        log = (
            f'2026-03-01T00:00:01.5Z {part} role="leader" ballot=1.2 serves=true\n'
            f'2026-03-01T00:00:02.5Z {part} role="follower" ballot=2.1 serves=false\n'
        )
        second = 1_000_000_000
        at = 1_772_323_200 * second
        self.assertEqual(new_leaders(log, at + second, at + 3 * second), 1)
        self.assertEqual(new_leaders(log, at + 2 * second, at + 3 * second), 0)
        self.assertEqual(new_leaders(log, at, at + second), 0)

    def test_the_floor_is_a_flush_and_a_round_trip(self) -> None:
        whole = {"flush_us": {"p50": 200, "p99": 900}, "round_trip_us": {"p50": 30.0}}
        self.assertEqual(floor_of(json.dumps(whole)).total_us, 230)
        for text in (
            "",
            "[]",
            json.dumps({"flush_us": {"p50": 200}}),
            json.dumps(whole | {"flush_us": 1}),
        ):
            with self.assertRaises(Failure):
                floor_of(text)

    def test_memory_is_touched_only_where_it_is_to_spare(self) -> None:
        self.assertEqual(available_of("MemTotal: 9 kB\nMemAvailable:   20 kB\n"), 20_480)
        self.assertIsNone(touch(0))


if __name__ == "__main__":
    unittest.main()
