from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txmicro.amqp.deliveries import Deliveries

STEPS = ("arrive", "done", "reject", "take")


class DeliveriesTests(SynchronousTestCase):
    def test_one_frame_acknowledges_all_before_the_first_open_delivery(self) -> None:
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

    def test_one_delivery_is_not_acknowledged_as_multiple(self) -> None:
        deliveries = Deliveries()
        deliveries.arrived(1)
        deliveries.done(1)
        self.assertEqual(deliveries.take(), [(1, False)])

    @given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 10))))
    def test_exactly_the_settled_deliveries_are_acknowledged(self, steps: list[tuple[str, int]]) -> None:
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
