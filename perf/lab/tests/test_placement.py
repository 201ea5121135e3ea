"""Each figure of placement is the one that it is called, and each bound has two sides."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from lab import placement, results, script
from lab.generator import locality
from lab.placement import FIGURES, NEW, OLD
from lab.script import CHECK, FAILED, Failure

Document = dict[str, Any]

VERIFY: Document = {
    "ok": True,
    "ledgers": [{"ledger": 1, "debits_posted": "9", "credits_posted": "9"}],
    "in_doubt": 0,
    "digests_equal": True,
    "owners_unique": True,
    "accounts": 9_003,
    "transfers": 3_000_000,
    "problems": [],
    "unchecked": [],
    "completed": True,
}
WRONG: Document = VERIFY | {"ok": False, "problems": ["debits 9, credits 8"]}


def latency(p50: float, p99: float, requests: int = 1_000) -> Document:
    """`LatencyUs` of bench/src/report.rs."""
    return {
        "requests": requests,
        "mean": p50,
        "p50": p50,
        "p90": p50,
        "p99": p99,
        "p999": p99,
        "max": p99,
    }


def stage(throughput: float, ratio: float, p99: float) -> Document:
    """`StageReport` of bench/src/locality_report.rs."""
    return {
        "measured_from_unix_ns": "1700000000000000001",
        "seconds": 20.0,
        "committed": int(throughput * 20),
        "rejected": {},
        "unknown": 0,
        "dropped": 0,
        "throughput_tps": throughput,
        "cross_shard_ratio": ratio,
        "latency_us": latency(39_000, p99),
        "local": {"committed": 1, "latency_us": latency(10_000, 20_000, 5)},
        "cross": {"committed": 2, "latency_us": latency(40_000, p99, 995)},
        "series": [{"second": 0, "committed": 1, "p99_us": p99, "cross_shard_ratio": ratio}],
        "generator_cpu": 0.3,
    }


def run(throughput: float, ratio: float, p99: float = 80_000, **changes: Any) -> Document:
    """`RunReport` of bench/src/report.rs."""
    made = {
        "workload": "communities",
        "mode": "closed",
        "clients": 32,
        "batch": 100,
        "host": {"git_hash": "abc", "cluster": {"placement": "hash"}},
        "verify": VERIFY,
        "settings": {"accounts": 9_000, "seed": 1},
        "interrupted": False,
        "error": None,
    }
    return stage(throughput, ratio, p99) | made | changes


def document() -> Document:
    """`LocalityReport` of bench/src/locality_report.rs, every bound kept: gain 1.5, of 1.6 predicted."""
    gate = {"cross_cost": 2.0, "is_cost_measured": True, "min_gain": 0.05}
    return {
        "before": run(50_000, 0.667),
        "after": run(75_000, 0.075),
        # `ReshardReport` of bench/src/reshard_report.rs.
        "reshard": {
            "planned": 5_993,
            "moved": 5_993,
            "seconds": 21.8,
            "freeze_us": {"p50": 64_000.0, "p99": 100_000.0, "max": 364_000.0},
            "freeze_buckets": [{"from_us": 50_000, "to_us": 100_000, "accounts": 5_993}],
            "retries": 3,
            "already_there": 0,
            "given_up": 0,
            "refused": 0,
            "elsewhere": 0,
        },
        "verify": VERIFY,
        "plan": {
            "decision": "apply",
            "reason": "it gains 60 %",
            "gate": gate | {"predicted_gain": {"mean": 0.6, "busiest": 0.61}},
            "cross_shard_ratio": {"hash": 0.667, "current": 0.667, "in_sample": 0.07},
        },
        "low_cross": stage(70_000, 0.1, 60_000),
        "held_out": stage(50_000, 0.667, 80_000),
        "during": stage(45_000, 0.4, 120_000),
        "cross_shard_ratio": {"before": 0.667, "predicted": 0.07, "achieved": 0.075},
        "throughput_tps": {"before": 50_000.0, "predicted": 80_000.0, "achieved": 75_000.0},
        "load_max_over_avg": {"before": 1.1, "predicted": 1.02, "achieved": 1.05},
        "accounts_max_over_avg": {"before": 1.0, "predicted": 1.0, "achieved": 1.0},
        "payback": {"transfers": 1_000, "lost_seconds": 2.0, "saved_us_per_transfer": 6.7},
        "host": {"git_hash": "abc"},
        "parameters": {"workload": "communities", "clients": 32, "batch": 100},
        "error": None,
    }


def loads(*pairs: tuple[float, float], old_ratio: float = 0.667) -> list[Document]:
    """Throughput under the new map and the old one, by pair."""
    made = []
    for number, (new, old) in enumerate(pairs, 1):
        made.append({"pair": number, "map": NEW, "run": run(new, 0.075)})
        made.append({"pair": number, "map": OLD, "run": run(old, old_ratio)})
    return made


def changed(value: Any, *keys: str) -> Document:
    """The document with another value at these keys."""
    made = copy.deepcopy(document())
    place = made
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return made


def verdict(key: str, found: Document, pairs: list[Document] | None = None) -> str:
    figures = placement.figures_of_locality(found)
    figures |= placement.figures_of_pairs(figures, pairs or loads((75_000, 50_000)))
    return next(one for one in FIGURES if one.key == key).verdict(figures[key])


class Bounds(unittest.TestCase):
    def sides(self, key: str, held: list[Document], missed: list[Document]) -> None:
        for wanted, documents in (("held", held), ("NOT HELD", missed)):
            for one in documents:
                self.assertEqual(verdict(key, one), wanted, key)

    def test_the_document_keeps_all_of_them(self) -> None:
        verdicts = [verdict(one.key, document()) for one in FIGURES]
        self.assertEqual(verdicts.count("held"), 10)
        self.assertEqual(set(verdicts), {"held", ""})

    def test_the_ratio_achieved_and_its_distance_from_the_prediction(self) -> None:
        keys = ("cross_shard_ratio", "achieved")
        self.sides("cross_achieved", [changed(0.12, *keys)], [changed(0.1201, *keys)])
        near = [changed(0.10, *keys), changed(0.04, *keys)]
        self.sides("cross_off", near, [changed(0.1001, *keys), changed(0.0399, *keys)])

    def test_load_beside_the_moves(self) -> None:
        keys = ("during", "throughput_tps")
        self.sides("during_throughput", [changed(40_000, *keys)], [changed(39_999, *keys)])
        tail = ("during", "latency_us", "p99")
        self.sides("during_p99", [changed(160_000, *tail)], [changed(160_001, *tail)])

    def test_a_freeze_is_set_beside_requests_across_shards_alone(self) -> None:
        keys = ("reshard", "freeze_us", "p99")
        self.sides("freeze", [changed(120_000, *keys)], [changed(120_001, *keys)])
        # All requests together are quicker here, and do not count.
        self.sides("freeze", [changed(1.0, "before", "latency_us", "p50")], [])

    def test_the_gain_and_what_was_predicted_of_it(self) -> None:
        keys = ("throughput_tps", "achieved")
        self.sides("gain", [changed(65_000, *keys)], [changed(64_999, *keys)])
        self.sides("gain_predicted", [changed(72_000, *keys)], [changed(71_999, *keys)])

    def test_the_gain_in_pairs_is_the_median_of_the_ratios_within_them(self) -> None:
        # 1.2, 1.5 and 1.5; of the medians of both sides it would be 60 / 50 = 1.2.
        pairs = loads((60_000, 50_000), (150_000, 100_000), (45_000, 30_000))
        self.assertEqual(placement.ratios(pairs), [1.2, 1.5, 1.5])
        figures = placement.figures_of_locality(document())
        found = placement.figures_of_pairs(figures, pairs)
        self.assertAlmostEqual(found["pairs_gain"], 1.5)
        self.assertAlmostEqual(found["pairs_gain_predicted"], 1.5 / 1.6)
        for key, held, missed in (
            ("pairs_gain", 65_000, 64_999),
            ("pairs_gain_predicted", 72_000, 71_999),
        ):
            self.assertEqual(verdict(key, document(), loads((held, 50_000))), "held")
            self.assertEqual(verdict(key, document(), loads((missed, 50_000))), "NOT HELD")

    def test_every_undo_has_to_bring_the_old_map_back(self) -> None:
        for ratio, wanted in ((0.697, "held"), (0.637, "held"), (0.6971, "NOT HELD")):
            one = loads((3, 2), old_ratio=ratio)
            self.assertEqual(verdict("undone_off", document(), one), wanted)
        # One of three that did not is none that a median may hide.
        three = loads((3, 2), (3, 2), (3, 2))
        three[3]["run"]["cross_shard_ratio"] = 0.1
        self.assertEqual(verdict("undone_off", document(), three), "NOT HELD")

    def test_what_lacks_is_named(self) -> None:
        for keys in (
            ("cross_shard_ratio", "achieved"),
            ("throughput_tps", "predicted"),
            ("during", "latency_us", "p99"),
            ("before", "cross", "latency_us", "p50"),
            ("reshard", "freeze_us", "p99"),
        ):
            name = ".".join(keys).replace(".", r"\.")
            with self.assertRaisesRegex(Failure, f"no number {name} "):
                placement.figures_of_locality(changed(None, *keys))
            # A stage that was not reached, and one that nobody knew of.
            found = document()
            del found[keys[0]]
            for one in (changed(None, keys[0]), found):
                with self.assertRaisesRegex(Failure, rf"no number {keys[0]}\."):
                    placement.figures_of_locality(one)
        with self.assertRaisesRegex(Failure, "no ratio"):
            placement.figures_of_locality(changed(0.0, "throughput_tps", "before"))
        with self.assertRaisesRegex(Failure, "measured_from_unix_ns"):
            placement.began_ns(changed(None, "before", "measured_from_unix_ns"))
        figures = placement.figures_of_locality(document())
        for lacking in ([], loads((3, 2))[:1]):
            with self.assertRaisesRegex(Failure, "not two for each"):
                placement.figures_of_pairs(figures, lacking)


class Turns(unittest.TestCase):
    def test_a_pair_begins_with_the_map_that_is_there(self) -> None:
        now, seen, pairs = [NEW], [], []

        def load(pair: int) -> Document:
            seen.append(now[0])
            pairs.append(pair)
            return run(1, 0.1)

        def undo() -> Document:
            now[0] = OLD if now[0] == NEW else NEW
            return {"status": "done", "verify": VERIFY}

        made, undos = placement.alternate(3, load, undo)
        self.assertEqual(seen, [NEW, OLD, OLD, NEW, NEW, OLD])
        self.assertEqual([one["map"] for one in made], seen)
        self.assertEqual([one["pair"] for one in made], [1, 1, 2, 2, 3, 3])
        # Both loads of a pair make the same payments, no two pairs do.
        self.assertEqual(pairs, [1, 1, 2, 2, 3, 3])
        self.assertEqual(len({tuple(placement.unseen(pair)) for pair in pairs}), 3)
        self.assertEqual(len(undos), 3)

    def test_where_money_is_wrong_nothing_more_is_loaded(self) -> None:
        right, wrong = run(1, 0.1), run(1, 0.1, verify=WRONG)
        made, undos = placement.alternate(2, lambda _: wrong, lambda: {"verify": VERIFY})
        self.assertEqual((len(made), len(undos)), (1, 0))
        self.assertIn(False, placement.checks_of_pairs(made, undos).values())
        made, undos = placement.alternate(2, lambda _: right, lambda: {"verify": WRONG})
        self.assertEqual((len(made), len(undos)), (1, 1))
        self.assertEqual(
            placement.checks_of_pairs(made, undos), {"pair 1 new": True, "undo 1": False}
        )

    def test_every_check_of_a_locality_counts(self) -> None:
        for keys in (("before", "verify"), ("after", "verify"), ("verify",)):
            checks = placement.checks_of_locality(changed(WRONG, *keys))
            self.assertEqual(list(checks.values()).count(False), 1, keys)
        self.assertTrue(all(placement.checks_of_locality(document()).values()))


def line(throughput: float, is_right: bool = True) -> results.Line:
    found = changed(throughput, "throughput_tps", "achieved")
    figures = placement.figures_of_locality(found)
    return {
        "experiment": placement.NAME,
        "refused": None,
        "figures": figures | placement.figures_of_pairs(figures, loads((3, 2))),
        "checks": {"before": True, "end": is_right},
        "run": found["after"],
    }


class Tables(unittest.TestCase):
    def test_medians_are_of_runs_whose_checks_are_all_right(self) -> None:
        lines = [line(60_000), line(1, is_right=False), line(75_000), line(70_000)]
        rows = placement.median_table(lines).splitlines()
        gain = next(row for row in rows if row.startswith("throughput after / before"))
        self.assertEqual(gain.split()[-6:], ["1.40", "1.20", "1.50", ">=", "1.3", "held"])
        self.assertEqual(rows[-1].split()[-6:], ["3", "of", "4", "all", "NOT", "HELD"])
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            self.assertEqual(results.check_code(lines), CHECK)
        self.assertEqual(results.check_code([line(1)]), 0)

    def test_what_is_not_held_is_named(self) -> None:
        self.assertEqual(placement.missed([line(75_000)]), [])
        named = placement.missed([line(50_000), line(50_000), line(75_000)])
        self.assertEqual(named, ["throughput after / before", "throughput after / predicted"])
        # Nothing that counts was measured: nothing is held.
        bounds = [figure.name for figure in placement.FIGURES if figure.bound]
        self.assertEqual(placement.missed([line(75_000, is_right=False)]), bounds)

    def test_one_run_in_which_undo_failed_is_one_too_many(self) -> None:
        lines = [line(75_000), line(75_000), line(75_000)]
        undone = "old map's ratio and that before.* <= 0.03 +"
        self.assertRegex(placement.median_table(lines), undone + "held")
        lines[1]["figures"]["undone_off"] = 0.5
        lines[1]["figures"]["gain"] = 0.5
        table = placement.median_table(lines)
        self.assertRegex(table, undone + "NOT HELD")
        self.assertRegex(table, "throughput after / before .* >= 1.3 +held")

    def test_a_run_shows_a_bound_that_was_missed_and_one_that_was_not_measured(self) -> None:
        missed = line(60_000)
        del missed["figures"]["pairs_gain"]
        table = placement.run_table(missed)
        self.assertRegex(table, r"throughput after / before +1\.20 +>= 1\.3 +NOT HELD")
        self.assertRegex(table, r"median of the pairs +- +>= 1\.3 +not measured")
        self.assertRegex(table, r"cross-shard ratio before +0\.667\n")


class Whole(unittest.TestCase):
    """With programs that leave the documents and know which map there is."""

    def test_a_run_gives_a_line_that_can_be_read(self) -> None:
        with programs({"new": run(90_000, 0.075), "old": run(60_000, 0.66)}) as directory:
            made, said = measured(directory, pairs=2)
            words = (directory / "said").read_text().splitlines()
        self.assertTrue(results.counts(made))
        self.assertEqual([one["map"] for one in made["pairs"]], [NEW, OLD, OLD, NEW])
        self.assertAlmostEqual(made["figures"]["pairs_gain"], 1.5)
        self.assertAlmostEqual(made["figures"]["undone_off"], 0.007)
        self.assertEqual(results.summary([made]).throughput, 75_000)
        loading = [word for word in words if word.startswith(("run", "locality"))]
        self.assertIn("--warmup 30 --seconds 20", loading[0])
        self.assertTrue(all("--warmup 2 --seconds 10" in word for word in loading[1:]))
        self.assertIn("5,993 of 5,993 accounts", said)
        self.assertIn("99.5% of the requests", said)
        self.assertIn("by pair: 1.50, 1.50", said)
        self.assertIn("verify", words[-2])
        self.assertIn("cluster stop", words[-1])

    def test_wrong_money_in_a_pair_leaves_a_line_that_does_not_count(self) -> None:
        runs = {"new": run(90_000, 0.075), "old": run(60_000, 0.66, verify=WRONG)}
        with programs(runs) as directory:
            made, said = measured(directory, pairs=3)
        self.assertFalse(results.counts(made))
        self.assertNotIn("pairs_gain", made["figures"])
        self.assertIn("MONEY CHECK NOT OK: pair 1 old", said)

    def test_the_last_check_counts_as_well(self) -> None:
        runs = {"new": run(90_000, 0.075), "old": run(60_000, 0.66)}
        with programs(runs, ends={"verify": (WRONG, CHECK)}) as directory:
            made, said = measured(directory, pairs=1)
        self.assertIn("pairs_gain", made["figures"])
        self.assertFalse(results.counts(made))
        self.assertIn("MONEY CHECK NOT OK: end", said)

    def test_an_undo_that_found_wrong_money_or_nothing_is_told_apart(self) -> None:
        runs = {"new": run(90_000, 0.075), "old": run(60_000, 0.66)}
        with programs(runs, ends={"undo": ({"verify": WRONG}, CHECK)}) as directory:
            made, said = measured(directory, pairs=1)
        self.assertIn("MONEY CHECK NOT OK: undo 1", said)
        self.assertEqual(len(made["pairs"]), 1)
        for code, wanted in ((CHECK, CHECK), (FAILED, FAILED), (2, FAILED)):
            with programs(runs, ends={"undo": (None, code)}) as directory:
                with self.assertRaisesRegex(Failure, rf"reshard undo .*\({code}\)") as caught:
                    measured(directory, pairs=1)
            self.assertEqual(caught.exception.code, wanted)

    def test_a_plan_that_was_refused_is_a_line_without_figures(self) -> None:
        found = document() | {"after": None, "reshard": None, "during": None}
        found["plan"] |= {"decision": "refuse", "reason": "it gains 0 %"}
        with programs({}, found, code=3) as directory:
            made, said = measured(directory, pairs=2)
            words = (directory / "said").read_text()
        self.assertTrue(results.counts(made))
        self.assertEqual((made["figures"], made["pairs"]), ({}, []))
        self.assertEqual(made["checks"], {"before": True, "locality": True, "end": True})
        self.assertEqual(results.summary([made]).throughput, 50_000)
        self.assertIn("PLAN REFUSED: it gains 0 %", said)
        self.assertNotIn("undo", words)
        # It weighs nothing in the medians, and is not hidden by them.
        table = placement.median_table([line(75_000), made])
        self.assertRegex(table, r"throughput after / before +1\.50 .* held")
        self.assertRegex(table, r"plan was not refused +1 of 2 +all +NOT HELD")
        self.assertRegex(placement.run_table(made), r"after / before +- .*not measured")
        with programs({}, found | {"verify": WRONG}, code=3) as directory:
            made, _ = measured(directory, pairs=2)
        self.assertFalse(results.counts(made))

    def test_what_was_not_carried_out_is_told_with_its_reason(self) -> None:
        for code, changes, wanted in (
            (2, {}, FAILED),
            (1, {"error": "no quorum"}, FAILED),
            (1, {"error": "no quorum", "verify": WRONG}, CHECK),
            (1, {"error": "no quorum", "verify": WRONG | {"completed": False}}, FAILED),
        ):
            with programs({}, document() | changes, code) as directory:
                with self.assertRaisesRegex(Failure, f"locality ended with {code}") as caught:
                    locality(directory / "quorate-bench", Path("cluster.toml"), [])
            self.assertEqual(caught.exception.code, wanted)


BENCH = """\
#!/bin/sh
cd '{directory}'
echo "$*" >>said
for file; do :; done
case $1 in
run) cp "$(cat map).json" "$file" ;;
locality) cp locality.json "$file"; exit {code} ;;
esac
"""
QUORATE = """\
#!/bin/sh
cd '{directory}'
echo "$*" >>said
case "$1 $2" in
'cluster init') echo 'shards = 3' ;;
'reshard undo')
  case $(cat map) in new) echo old >next ;; *) echo new >next ;; esac
  mv next map
  cat undo.json; exit {undo} ;;
'verify -f') cat verify.json; exit {verify} ;;
esac
"""


@contextlib.contextmanager
def programs(
    runs: dict[str, Document],
    found: Document | None = None,
    code: int = 0,
    ends: dict[str, tuple[Document | None, int]] | None = None,
) -> Iterator[Path]:
    """A directory with both: what a load gives under each map, what locality does, with its exit code, and how
    `undo` and `verify` end where it is not well."""
    well = {
        "undo": ({"status": "done", "moved": 5_993, "verify": VERIFY}, 0),
        "verify": (VERIFY, 0),
    }
    last = well | (ends or {})
    codes = {"code": code} | {command: end[1] for command, end in last.items()}
    files = {command: end[0] for command, end in last.items()}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for file, content in (files | runs | {"locality": found or document()}).items():
            text = "" if content is None else json.dumps(content)
            (directory / f"{file}.json").write_text(text)
        (directory / "map").write_text(NEW)
        for program, text in (("quorate-bench", BENCH), ("quorate", QUORATE)):
            (directory / program).write_text(text.format(directory=directory, **codes))
            (directory / program).chmod(0o755)
        yield directory


def measured(directory: Path, pairs: int) -> tuple[results.Line, str]:
    """The line of a run with these programs, and what is told of it."""
    environment = {"QUORATE_BIN_DIR": str(directory), "TMPDIR": str(directory)}
    with mock.patch.dict(os.environ, environment, clear=False):
        for name in ("SECONDS_EACH", "WARMUP"):
            os.environ.pop(name, None)
        made = placement.measure(script.settings(runs=1, seconds=20, warmup=30), pairs)
    return made, "\n".join(placement.told(made))


if __name__ == "__main__":
    unittest.main()
