"""Charts and flame graphs are well-formed and hold what they are given."""

from __future__ import annotations

import unittest
import xml.etree.ElementTree as xml
from collections import Counter

from lab import flame, svg

SCRIPT = """\
s1r1-1 4242 
\t    55d0c0 quorate_protocol::ledger::apply::h0123456789abcdef (/opt/quorate)
\t    55d0c1 <core::iter::Map<I,F> as core::iter::Iterator>::next (inlined)
\t    55d0c2 main (/opt/quorate)

s1r1-1 4242 
\tffffffff81 entry_SYSCALL_64 ([kernel.kallsyms])
\t    55d0c2 main (/opt/quorate)

s1r1-1  4242 
\t    55d0c0 quorate_protocol::ledger::apply::h0123456789abcdef (/opt/quorate)
\t    55d0c1 <core::iter::Map<I,F> as core::iter::Iterator>::next (inlined)
\t    55d0c2 main (/opt/quorate)

s1r1-1  4242 
\t    7f00aa [unknown] ([vdso])
"""
NEXT = "<core::iter::Map<I,F> as core::iter::Iterator>::next"


class Flame(unittest.TestCase):
    def test_stacks_are_folded_outermost_first(self) -> None:
        apply = ("main", NEXT, "quorate_protocol::ledger::apply")
        expected = Counter({apply: 2, ("main", "entry_SYSCALL_64_[k]"): 1, ("[unknown]",): 1})
        stacks = flame.fold(SCRIPT.splitlines())
        self.assertEqual(stacks, expected)
        self.assertEqual(flame.own_time(stacks)[0], ("quorate_protocol::ledger::apply", 0.5))
        self.assertIn("main;entry_SYSCALL_64_[k] 1\n", flame.folded(stacks))

    def test_a_box_is_as_wide_as_its_samples_and_says_its_name(self) -> None:
        picture = flame.render(flame.fold(SCRIPT.splitlines()), "a < b")
        root = xml.fromstring(picture)
        widths = {}
        for group in root.iter("{http://www.w3.org/2000/svg}g"):
            title, box = group[0], group[1]
            widths[(title.text or "").rpartition(":")[0]] = float(box.get("width", ""))
        self.assertEqual(widths["all"], flame.WIDTH)
        self.assertEqual(widths["main"], flame.WIDTH * 3 / 4)
        self.assertEqual(widths[NEXT], flame.WIDTH / 2)

    def test_no_sample_is_an_empty_picture(self) -> None:
        xml.fromstring(flame.render(Counter(), "nothing"))
        self.assertEqual(flame.own_time(Counter()), [])


class Chart(unittest.TestCase):
    def test_ticks_hold_all_values_and_are_round(self) -> None:
        linear = svg.axis([3.0, 1_730.0], log=False)
        self.assertEqual(linear.ticks, (0, 500, 1_000, 1_500, 2_000))
        self.assertEqual(svg.axis([1, 8_190], log=True).ticks, (1, 10, 100, 1_000, 10_000))
        self.assertEqual(svg.axis([700.0, 1_900.0], log=True).ticks, (500, 1_000, 2_000))
        for values, log in (
            ([1e-3, 5e6], True),
            ([7.0], True),
            ([0.0], False),
            ([-4.0, 9.5], False),
        ):
            axis = svg.axis(values, log)
            self.assertGreater(axis.high, axis.low)
            for value in values:
                self.assertTrue(-1e-9 <= axis.place(value) <= 1 + 1e-9, (values, axis))

    def test_nothing_is_put_where_a_logarithm_has_no_place(self) -> None:
        with self.assertRaises(ValueError):
            svg.axis([0.0, 10.0], log=True)

    def test_numbers_are_short(self) -> None:
        values = (0, 0.25, 20, 1_500, 8_190, 10_000_000, 2e9)
        self.assertEqual(
            [svg.number(value) for value in values],
            ["0", "0.25", "20", "1.5k", "8.19k", "10M", "2G"],
        )

    def test_a_picture_is_well_formed_and_holds_every_point_inside(self) -> None:
        series = (
            svg.Series("leader <1>", ((1, 900), (100, 90), (8_190, 9))),
            svg.Series("follower", ((1, 500),)),
        )
        panel = svg.Panel("a & b", "batch", "ns", series, x_log=True, y_log=True)
        picture = svg.render([panel] * 4)
        self.assertEqual(picture, svg.render([panel] * 4))
        root = xml.fromstring(picture)
        circles = list(root.iter("{http://www.w3.org/2000/svg}circle"))
        self.assertEqual(len(circles), 16)
        for circle in circles:
            self.assertTrue(svg.LEFT <= float(circle.get("cx", "")) <= svg.WIDTH - svg.RIGHT)
            self.assertTrue(svg.TOP <= float(circle.get("cy", "")) <= svg.HEIGHT - svg.BOTTOM)
        self.assertEqual(root.get("width"), str(2 * svg.WIDTH))

    def test_a_panel_without_points_has_no_axes(self) -> None:
        picture = svg.render([svg.Panel("t", "x", "y", (svg.Series("leader", ()),), x_log=True)])
        self.assertIn("not measured", picture)
        self.assertNotIn("<line", picture)


if __name__ == "__main__":
    unittest.main()
