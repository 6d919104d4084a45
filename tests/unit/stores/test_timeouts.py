from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.stores import StoreError, StoreTimeout
from txmicro.stores.timeouts import TICK, TimeoutWheel


class TimeoutWheelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.timeouts = TimeoutWheel(self.clock)

    def add(self, seconds: float) -> Deferred[Any]:
        return self.timeouts.add(Deferred(), self.clock.seconds() + seconds)

    def test_a_deferred_fails_at_its_deadline_and_not_before(self) -> None:
        soon, later = self.add(1), self.add(2)
        self.clock.pump([TICK] * int(1 / TICK))
        self.assertNoResult(soon)
        self.clock.pump([TICK] * 2)
        self.failureResultOf(soon, StoreTimeout)
        self.assertNoResult(later)
        self.clock.pump([TICK] * int(1 / TICK))
        self.failureResultOf(later, StoreTimeout)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_deferred_that_fires_in_time_keeps_its_outcome(self) -> None:
        good, bad, cancelled = self.add(1), self.add(1), self.add(1)
        good.callback("done")
        bad.errback(StoreError("no"))
        cancelled.cancel()
        self.clock.advance(2)
        self.assertEqual(self.successResultOf(good), "done")
        self.assertNotIsInstance(self.failureResultOf(bad, StoreError).value, StoreTimeout)
        self.failureResultOf(cancelled, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.timeouts._buckets, {})

    def test_a_deferred_that_has_fired_is_not_kept(self) -> None:
        done: Deferred[str] = Deferred()
        done.callback("done")
        self.assertEqual(self.successResultOf(self.timeouts.add(done, 1)), "done")
        self.assertEqual(self.timeouts._buckets, {})
        self.clock.advance(TICK)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_many_deferreds_share_one_timer(self) -> None:
        waits = [self.add(number / 100) for number in range(100)]
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(2)
        for wait in waits:
            self.failureResultOf(wait, StoreTimeout)

    def test_a_timeout_may_fire_another_deferred(self) -> None:
        first, second = self.add(1), self.add(1)
        first.addErrback(lambda _: second.callback("done"))
        self.clock.advance(2)
        self.assertEqual(self.successResultOf(second), "done")
        self.successResultOf(first)

    def test_no_timer_runs_after_the_stop(self) -> None:
        self.timeouts.stop()
        wait = self.add(1)
        self.timeouts.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        wait.callback(None)

    def test_a_timeout_may_stop_the_wheel(self) -> None:
        wait = self.add(1).addErrback(lambda _: self.timeouts.stop())
        self.clock.advance(2)
        self.successResultOf(wait)
        self.assertEqual(self.clock.getDelayedCalls(), [])
