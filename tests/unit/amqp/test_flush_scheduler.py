from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.amqp.flush_scheduler import FlushScheduler


class FlushSchedulerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.turn = FlushScheduler(self.clock)
        self.called: list[str] = []
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def call(self, name: str) -> None:
        self.turn.schedule(lambda: self.called.append(name))

    def test_scheduled_functions_are_called_at_the_end_of_the_turn(self) -> None:
        self.call("a")
        self.call("b")
        self.assertEqual(self.called, [])
        self.clock.advance(0)
        self.assertEqual(self.called, ["a", "b"])
        self.call("c")
        self.clock.advance(0)
        self.assertEqual(self.called, ["a", "b", "c"])

    def test_a_turn_that_reads_ends_with_the_outermost_reading(self) -> None:
        def outer(data: bytes) -> None:
            self.turn.read(lambda data: self.call(data.decode()), data)
            self.assertEqual(self.called, [])

        self.turn.read(outer, b"a")
        self.assertEqual(self.called, ["a"])

    def test_it_ends_also_when_reading_fails(self) -> None:
        def fails(data: bytes) -> None:
            self.call(data.decode())
            raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, self.turn.read, fails, b"a")
        self.assertEqual(self.called, ["a"])

    def test_a_function_that_waits_for_the_clock_is_not_called_twice(self) -> None:
        self.call("a")
        self.turn.read(lambda data: self.call(data.decode()), b"b")
        self.clock.advance(0)
        self.assertEqual(self.called, ["a", "b"])

    def test_functions_may_be_scheduled_at_the_end(self) -> None:
        self.turn.schedule(lambda: self.call("late"))
        self.clock.advance(0)
        self.assertEqual(self.called, ["late"])

    def test_a_removed_function_is_not_called(self) -> None:
        self.turn.schedule(self.fail)
        self.turn.cancel(self.fail)
        self.turn.cancel(self.fail)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.call("a")
        self.turn.schedule(self.fail)
        self.turn.cancel(self.fail)
        self.clock.advance(0)
        self.assertEqual(self.called, ["a"])
