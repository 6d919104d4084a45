from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.util.pausable_clock import PausableClock


class PausableClockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(10)
        self.time = PausableClock(self.clock)

    def test_it_tells_the_clocks_time(self) -> None:
        self.assertEqual((self.time.seconds(), self.time.paused), (10, False))
        self.clock.advance(2)
        self.assertEqual(self.time.seconds(), 12)
        self.assertEqual(self.time.at(11), 11)

    def test_it_does_not_advance_while_it_is_paused(self) -> None:
        self.time.pause()
        self.clock.advance(5)
        self.time.pause()
        self.clock.advance(5)
        self.assertEqual((self.time.seconds(), self.time.at(20), self.time.paused), (10, 10, True))

    def test_it_continues_at_the_time_of_the_pause(self) -> None:
        for _ in range(2):
            self.time.pause()
            self.clock.advance(5)
            self.time.resume()
            self.time.resume()
        self.assertEqual((self.time.seconds(), self.time.paused), (10, False))
        self.clock.advance(1)
        self.assertEqual((self.time.seconds(), self.time.at(22)), (11, 12))

    def test_it_may_begin_paused(self) -> None:
        time = PausableClock(self.clock, paused=True)
        self.clock.advance(5)
        self.assertEqual((time.seconds(), time.paused), (10, True))
        time.resume()
        self.clock.advance(1)
        self.assertEqual(time.seconds(), 11)
