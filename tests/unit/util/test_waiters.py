"""Deferreds that wait for the same event."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from txmicro.util.waiters import Waiters


class WaitersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.waiters = Waiters()

    def test_all_that_wait_are_fired_and_those_that_come_later_wait_on(self) -> None:
        first, second = self.waiters.wait(), self.waiters.wait()
        self.waiters.fire()
        later = self.waiters.wait()
        self.assertIsNone(self.successResultOf(first))
        self.assertIsNone(self.successResultOf(second))
        self.assertNoResult(later)
        self.waiters.fire()
        self.assertIsNone(self.successResultOf(later))

    def test_a_wait_that_is_canceled_is_that_wait_only(self) -> None:
        first, second = self.waiters.wait(), self.waiters.wait()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.waiters.fire()
        self.assertIsNone(self.successResultOf(second))

    def test_a_callback_may_cancel_another_wait_and_wait_again(self) -> None:
        again: list[Deferred[None]] = []

        def fired(_: None) -> None:
            second.cancel()
            again.append(self.waiters.wait())

        first, second = self.waiters.wait(), self.waiters.wait()
        first.addCallback(fired)
        self.waiters.fire()
        self.failureResultOf(second, CancelledError)
        self.assertNoResult(again[0])
