"""Times, durations and rates, as commands show them."""

from __future__ import annotations

import math

from twisted.trial.unittest import SynchronousTestCase

from txmicro.cli.figures import show_count, show_rate, show_seconds, show_time


class FigureTests(SynchronousTestCase):
    def test_durations_have_a_unit_that_fits(self) -> None:
        for seconds, shown in (
            (None, "-"),
            (0.0, "0.00 ms"),
            (0.000515, "0.52 ms"),
            (0.0144, "14 ms"),
            (1.0, "1.00 s"),
            (119.0, "119.00 s"),
            (120.0, "2 min"),
            (7_200.0, "2 h"),
            (3 * 86_400.0, "3 d"),
        ):
            self.assertEqual(show_seconds(seconds), shown, seconds)

    def test_rates_below_ten_have_a_decimal(self) -> None:
        rates = (None, 0.0, 0.25, 9.96, 12_345.6)
        self.assertEqual([show_rate(rate) for rate in rates], ["-", "0", "0.2", "10.0", "12,346"])

    def test_counts(self) -> None:
        self.assertEqual([show_count(count) for count in (None, 0, 1_234)], ["-", "0", "1,234"])

    def test_times_are_in_utc_and_any_number_is_shown(self) -> None:
        self.assertEqual(show_time(1_795_536_598.7554), "2026-11-24T16:09:58.755Z")
        self.assertEqual(show_time(None), "-")
        for odd in (1e300, -1e300, math.inf, math.nan):
            self.assertEqual(show_time(odd), str(odd))
