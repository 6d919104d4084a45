"""Problems that are logged once."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txmicro.util.log_once import LogOnce


class LogOnceTests(SynchronousTestCase):
    def test_the_first_problem_of_a_kind_is_logged(self) -> None:
        once = LogOnce()
        self.assertEqual(
            [once.first(kind) for kind in ("a", "b", "a", ("a", 1), ("a", 1))],
            [True, True, False, True, False],
        )

    def test_the_number_of_kinds_is_limited(self) -> None:
        once = LogOnce(limit=3)
        self.assertEqual(sum(once.first(number) for number in range(10)), 3)
        self.assertFalse(once.first(0))
