"""The registry: workers that are alive, suspect and removed, step by step."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.discovery.registry import Registry, RegistryFull
from txmicro.protocol.notifications import Announcement


def worker(id: str, started: int = 0, host: str = "") -> Announcement:
    return Announcement(id, id.partition(":")[0], host, started=started)


class RegistryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.registry = Registry(self.clock)

    def announce(self, *ids: str) -> None:
        for id in ids:
            self.registry.add(worker(id))

    def round(self, after: float = 10.0) -> list[str]:
        """Send a keepalive *after* so many seconds, and return the ids of the workers that it removes."""
        self.clock.advance(after)
        return [announcement.id for announcement in self.registry.keepalive(10.0)]

    def states(self) -> dict[str, str]:
        return {body["id"]: body["state"] for body in self.registry.listing()}


class WorkersTests(RegistryCase):
    def test_a_worker_is_new_once(self) -> None:
        self.assertTrue(self.registry.add(worker("WB:1")))
        self.assertFalse(self.registry.add(worker("WB:1")))
        self.assertEqual(len(self.registry), 1)
        self.assertIn("WB:1", self.registry)
        self.assertNotIn("WB:2", self.registry)

    def test_the_latest_announcement_counts(self) -> None:
        self.announce("WB:1")
        self.registry.add(worker("WB:1", host="there"))
        for known in (self.registry.get("WB:1"), self.registry.eldest("WB"), *self.registry.of_type("WB")):
            self.assertEqual(known, worker("WB:1", host="there"))

    def test_a_removed_worker_is_unknown(self) -> None:
        self.announce("WB:1", "WB:2")
        self.assertEqual(self.registry.remove("WB:1"), worker("WB:1"))
        self.assertIsNone(self.registry.remove("WB:1"))
        self.assertIsNone(self.registry.get("WB:1"))
        self.assertEqual(self.registry.of_type("WB"), [worker("WB:2")])
        self.assertTrue(self.registry.add(worker("WB:1")))

    def test_workers_of_a_type_are_sorted_by_age(self) -> None:
        for id, started in (("WB:c", 2), ("WB:b", 1), ("WB:a", 2), ("WC:d", 0)):
            self.registry.add(worker(id, started))
        self.assertEqual([known.id for known in self.registry.of_type("WB")], ["WB:b", "WB:a", "WB:c"])
        self.assertEqual(self.registry.eldest("WB"), worker("WB:b", 1))
        self.assertEqual(self.registry.of_type("WX"), [])
        self.assertIsNone(self.registry.eldest("WX"))

    def test_a_type_without_workers_counts_0(self) -> None:
        self.assertEqual(self.registry.counts(), {})
        self.announce("WB:1", "WB:2", "WC:1")
        self.registry.remove("WB:1")
        self.registry.remove("WC:1")
        self.assertEqual(self.registry.counts(), {"WB": 1, "WC": 0})

    def test_the_listing(self) -> None:
        self.announce("WB:1")
        self.clock.advance(1.5)
        self.announce("WC:1")
        self.clock.advance(0.25)
        self.assertEqual(
            self.registry.listing(),
            [
                {**worker("WB:1").body(), "state": "alive", "age": 1750},
                {**worker("WC:1").body(), "state": "alive", "age": 250},
            ],
        )


class KeepaliveTests(RegistryCase):
    def test_a_worker_that_never_answers_is_suspect_and_then_removed(self) -> None:
        self.announce("WB:1", "WC:1")
        self.assertEqual(self.round(), [])
        for expected in ("alive", "suspect"):
            self.announce("WC:1")
            self.assertEqual(self.round(), [])
            self.assertEqual(self.states(), {"WB:1": expected, "WC:1": "alive"})
        self.announce("WC:1")
        self.assertEqual(self.round(), ["WB:1"])
        self.assertEqual(self.states(), {"WC:1": "alive"})
        self.assertEqual(self.registry.counts(), {"WB": 0, "WC": 1})
        self.assertEqual(self.round(), [])

    def test_a_suspect_that_answers_is_alive(self) -> None:
        self.announce("WB:1")
        for _ in range(3):
            self.round()
        self.assertEqual(self.states(), {"WB:1": "suspect"})
        self.announce("WB:1")
        self.assertEqual(self.states(), {"WB:1": "alive"})
        self.assertEqual([self.round() for _ in range(4)], [[], [], [], ["WB:1"]])

    def test_a_new_worker_has_missed_no_earlier_keepalive(self) -> None:
        self.round()
        self.announce("WB:1")
        self.assertEqual([self.round() for _ in range(4)], [[], [], [], ["WB:1"]])

    def test_a_late_keepalive_counts_nothing(self) -> None:
        self.announce("WB:1")
        self.round()
        self.assertEqual([self.round(after=15.5) for _ in range(5)], [[]] * 5)
        self.assertEqual(self.states(), {"WB:1": "alive"})
        self.assertEqual([self.round(after=15) for _ in range(3)], [[], [], ["WB:1"]])

    def test_an_answer_counts_for_one_keepalive_only(self) -> None:
        self.announce("WB:1")
        self.round(after=100)
        self.assertEqual([self.round() for _ in range(3)], [[], [], ["WB:1"]])

    def test_other_limits(self) -> None:
        self.registry = Registry(self.clock, suspect_after=1, gone_after=2)
        self.announce("WB:1")
        self.round()
        self.round()
        self.assertEqual(self.states(), {"WB:1": "suspect"})
        self.assertEqual(self.round(), ["WB:1"])


class LimitTests(RegistryCase):
    def test_new_workers_are_refused_when_it_is_full(self) -> None:
        self.registry = Registry(self.clock, limit=2)
        self.announce("WB:1", "WB:2")
        self.assertRaises(RegistryFull, self.announce, "WB:3")
        self.announce("WB:1")
        self.assertEqual((len(self.registry), self.registry.counts()), (2, {"WB": 2}))
        self.registry.remove("WB:2")
        self.announce("WB:3")

    def test_types_without_workers_are_forgotten_at_the_limit(self) -> None:
        self.registry = Registry(self.clock, limit=2)
        for id in ("WB:1", "WC:1", "WD:1"):
            self.announce(id)
            self.registry.remove(id)
        self.assertEqual(self.registry.counts(), {"WD": 0})
