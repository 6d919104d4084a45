from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.util.sweeper import LATE, Sweeper

TICK = 0.125  # a power of two: sums of it are exact


class SweeperTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sweeps: list[float] = []
        self.goes_on = True
        self.sweeper = Sweeper(self.clock, TICK, self.sweep)
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def sweep(self) -> bool:
        self.sweeps.append(self.clock.seconds())
        return self.goes_on

    def test_it_continues_while_it_is_needed(self) -> None:
        self.sweeper.start()
        self.sweeper.start()
        self.assertTrue(self.sweeper.runs)
        self.clock.pump([TICK] * 2)
        self.goes_on = False
        self.clock.pump([TICK] * 2)
        self.assertEqual(self.sweeps, [TICK, 2 * TICK, 3 * TICK])
        self.assertFalse(self.sweeper.runs)
        self.sweeper.start()
        self.clock.pump([TICK])
        self.assertEqual(self.sweeps[3:], [5 * TICK])

    def test_it_can_be_stopped(self) -> None:
        self.sweeper.start()
        self.sweeper.stop()
        self.sweeper.stop()
        self.clock.advance(1)
        self.assertEqual(self.sweeps, [])

    def test_a_late_call_is_skipped_once(self) -> None:
        self.sweeper.start()
        late = TICK + LATE + TICK
        self.clock.advance(late)
        self.assertEqual(self.sweeps, [])
        self.clock.advance(late)
        self.assertEqual(self.sweeps, [2 * late])
        self.sweeper.stop()

    def test_a_call_that_is_less_late_is_not_skipped(self) -> None:
        self.sweeper.start()
        self.clock.advance(TICK + LATE)
        self.assertEqual(self.sweeps, [TICK + LATE])
        self.sweeper.stop()
