from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.amqp.deliveries import Deliveries
from txmicro.amqp.flush_scheduler import FlushScheduler

STEPS = ("arrive", "done", "reject", "take")


class Turns(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.turn = FlushScheduler(self.clock)
        self.called: list[str] = []
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def call(self, name: str) -> None:
        self.turn.schedule(lambda: self.called.append(name))

    def test_what_is_due_is_called_when_the_turn_ends(self) -> None:
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

    def test_what_waits_for_the_clock_is_not_called_twice(self) -> None:
        self.call("a")
        self.turn.read(lambda data: self.call(data.decode()), b"b")
        self.clock.advance(0)
        self.assertEqual(self.called, ["a", "b"])

    def test_more_may_become_due_at_the_end(self) -> None:
        self.turn.schedule(lambda: self.call("late"))
        self.clock.advance(0)
        self.assertEqual(self.called, ["late"])

    def test_what_is_forgotten_is_not_called(self) -> None:
        self.turn.schedule(self.fail)
        self.turn.cancel(self.fail)
        self.turn.cancel(self.fail)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.call("a")
        self.turn.schedule(self.fail)
        self.turn.cancel(self.fail)
        self.clock.advance(0)
        self.assertEqual(self.called, ["a"])


class Acknowledgements(SynchronousTestCase):
    def test_one_frame_for_all_that_came_before_the_first_open_one(self) -> None:
        deliveries = Deliveries()
        for tag in range(1, 8):
            deliveries.arrived(tag)
        self.assertTrue(deliveries.done(2))
        for tag in (1, 3, 5, 7):
            self.assertFalse(deliveries.done(tag))
        self.assertEqual(deliveries.take(), [(3, True), (5, False), (7, False)])
        self.assertEqual(deliveries.take(), [])
        deliveries.rejected(4)
        self.assertTrue(deliveries.done(6))
        self.assertEqual(deliveries.take(), [(6, False)])

    def test_one_is_no_multiple(self) -> None:
        deliveries = Deliveries()
        deliveries.arrived(1)
        deliveries.done(1)
        self.assertEqual(deliveries.take(), [(1, False)])

    @given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 10))))
    def test_a_broker_hears_of_what_is_done_and_of_nothing_else(self, steps: list[tuple[str, int]]) -> None:
        deliveries = Deliveries()
        tag, open_here, done, unsettled = 0, list[int](), set[int](), list[int]()
        for step, place in [*steps, ("take", 0)]:
            if step == "arrive":
                tag += 1
                deliveries.arrived(tag)
                open_here.append(tag)
                unsettled.append(tag)
            elif step == "take":
                for acked, multiple in deliveries.take():
                    covered = [one for one in unsettled if one == acked or (multiple and one < acked)]
                    self.assertIn(acked, covered)
                    self.assertLessEqual(set(covered), done)
                    unsettled = [one for one in unsettled if one not in covered]
                self.assertEqual(unsettled, open_here)
            elif open_here:
                one = open_here.pop(place % len(open_here))
                if step == "done":
                    deliveries.done(one)
                    done.add(one)
                else:
                    deliveries.rejected(one)
                    unsettled.remove(one)
