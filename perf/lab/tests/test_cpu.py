"""CPU time is that of the window and of nothing beside it."""

from __future__ import annotations

import os
import threading
import time
import unittest

from lab.cluster import first_checkpoints
from lab.cpu import OutsideOfSamples, Sampler, Samples, Thread
from lab.measure import missing, window
from lab.script import Failure

STAT = "7 (s1r1-1) S 1 7 7 0 -1 4194624 90 0 0 0 {user} {system} 0 0 20 0 9 0 1000 0 0"


def thread(
    name: str, samples: list[tuple[int, int, int, int]], from_start: bool = True, node: int = 1
) -> Thread:
    made = Thread(node, name, from_start)
    for at_ns, run_ns, user, system in samples:
        made.add(at_ns, f"{run_ns} 5 6\n", STAT.format(user=user, system=system))
    return made


class Window(unittest.TestCase):
    def test_edges_between_samples_are_interpolated(self) -> None:
        one = thread("s1r1-1", [(0, 0, 0, 0), (100, 80, 6, 2), (200, 100, 7, 3), (300, 200, 9, 3)])
        cost = one.cost(50, 250)
        # From 40 to 150; of the ticks 3 to 8 user and 1 to 3 system.
        self.assertAlmostEqual(cost.user_ns + cost.system_ns, 110)
        self.assertAlmostEqual(cost.user_ns, 110 * 5 / 7)

    def test_the_windows_of_a_run_add_up_to_the_run(self) -> None:
        one = thread("s1r1-1", [(n * 10, n * n, n, 0) for n in range(11)])
        parts = [one.cost(low, low + 7).user_ns for low in range(0, 98, 7)]
        self.assertAlmostEqual(sum(parts), one.cost(0, 98).user_ns)

    def test_a_thread_that_came_or_went_counts_for_what_it_ran(self) -> None:
        born = thread("iou-wrk-7", [(150, 10, 0, 1), (160, 20, 0, 2)], from_start=False)
        self.assertAlmostEqual(born.cost(100, 400).system_ns, 20)
        gone = thread("iou-wrk-8", [(0, 0, 0, 0), (120, 60, 0, 6)])
        self.assertAlmostEqual(gone.cost(100, 400).system_ns, 10)

    def test_less_than_a_tick_splits_as_the_whole_life(self) -> None:
        one = thread("s1r1-1", [(0, 0, 30, 10), (100, 1_000, 30, 10)])
        self.assertAlmostEqual(one.cost(0, 100).user_ns, 750)

    def test_a_window_beside_the_samples_is_no_figure(self) -> None:
        samples = Samples([thread("s1r1-1", [(100, 0, 0, 0), (200, 9, 1, 0)])], last_sweep_ns=200)
        samples.costs(100, 200)
        for low, high in ((99, 150), (150, 201)):
            with self.assertRaises(OutsideOfSamples):
                samples.costs(low, high)

    def test_executors_are_apart_from_all_other_threads(self) -> None:
        # The number behind is that of the executor in its process.
        names = ["s1r1-1", "s2r1-2", "s1r1 accept", "iou-wrk-1234", "quorate", "signals"]
        threads = [thread(name, [(0, 0, 0, 0), (10, 10, 1, 0)]) for name in names]
        replicas, others = Samples(threads, last_sweep_ns=10).costs(0, 10)
        self.assertEqual(list(replicas), ["s1r1", "s2r1"])
        self.assertEqual(replicas["s1r1"].user_ns, 10)
        self.assertEqual({name: cost.user_ns for name, cost in others.items()}, {"n1": 40})

    def test_a_name_with_brackets_and_blanks_moves_no_field(self) -> None:
        one = Thread(1, "x", True)
        one.add(5, "123 4 5", "7 (a) b (c)) S 1 7 7 0 -1 4194624 90 0 0 0 11 22 0 0 20 0")
        self.assertEqual((one.run_ns, one.user_ticks, one.system_ticks), ([123], [11], [22]))

    def test_first_checkpoints_count_if_they_were_before_the_window(self) -> None:
        line = (
            "{}Z  INFO quorate_runtime::store: checkpoint published number={} slot=2 counters=C\n"
        )
        times = [("2023-11-14T22:13:19.000001", 1), ("2023-11-14T22:13:21.000000", 1)]
        log = "".join(line.format(*one) for one in [*times, ("2023-11-14T22:13:19.500000", 2)])
        at = 1_700_000_000 * 10**9
        found = [first_checkpoints(log, at + n * 10**9) for n in (-1, 0, 2)]
        self.assertEqual(found, [0, 1, 2])

    def test_a_replica_without_a_thread_is_no_free_replica(self) -> None:
        self.assertEqual(missing(["s1r1", "s1r2", "s2r1"], 2, 2), ["s2r2"])
        self.assertEqual(missing(["s1r1"], 1, 1), [])

    def test_the_window_is_the_time_of_offering_not_of_waiting(self) -> None:
        run = {"measured_from_unix_ns": "1700000000000000001", "seconds": 6.4}
        start = 1_700_000_000_000_000_001
        self.assertEqual(window(run, 6), (start, start + 6_000_000_000))
        # Interrupted before its time.
        self.assertEqual(window(run | {"seconds": 2.0}, 6), (start, start + 2_000_000_000))
        for old in ({"seconds": 6.0}, {"measured_from_unix_ns": None, "seconds": 0.0}):
            with self.assertRaises(Failure):
                window(old, 6)


class ThisProcess(unittest.TestCase):
    @unittest.skipUnless(os.path.exists("/proc/self/schedstat"), "the kernel tells no run times")
    def test_what_a_thread_used_is_found(self) -> None:
        used = []

        def work() -> None:
            begun = time.thread_time_ns()
            while time.thread_time_ns() - begun < 60_000_000:
                pass
            used.append(time.thread_time_ns())

        with Sampler({1: os.getpid()}) as sampler:
            from_ns = time.time_ns()
            worker = threading.Thread(target=work)
            worker.start()
            worker.join()
            time.sleep(0.15)
            to_ns = time.time_ns()
        replicas, others = sampler.samples.costs(from_ns, to_ns)
        self.assertEqual(replicas, {})
        # It may have ended up to a pause after its last sample, so only most of it is sure to be
        # seen; the sampler's own threads add to it.
        found = others["n1"].user_ns + others["n1"].system_ns
        self.assertGreater(found, 0)
        self.assertLess(found, used[0] + 200_000_000)


if __name__ == "__main__":
    unittest.main()
