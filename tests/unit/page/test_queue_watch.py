"""The watch of queues: what is asked, what is known, and missing rights and answers."""

from __future__ import annotations

from typing import Any, cast

from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.logs import listen, texts
from txmicro.amqp.errors import AccessRefused
from txmicro.metrics import Metrics
from txmicro.monitoring.fleet import Fleet
from txmicro.monitoring.report import Report
from txmicro.page.queue_watch import AT_ONCE, FIRST_PAUSE, PAUSE, TIMEOUT, UNKNOWN, QueueWatch

NOTHING = "no such queue"


class Session:
    """A session that counts what it is told to, and asks a broker for the rest.

    :ivar known: the counts by queue, or the error.
    """

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        self.asked: list[str] = []
        self.waiting: list[Deferred[Any]] = []

    async def counts(self, queue: str) -> tuple[int, int] | None:
        self.asked.append(queue)
        answer = self.known.get(queue, NOTHING)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Deferred):
            self.waiting.append(answer)
        return await answer if isinstance(answer, Deferred) else None if answer == NOTHING else answer


class Bus:
    def __init__(self) -> None:
        self.clock = Clock()
        self.ids = self
        self.session: Session | None = Session()

    def time(self) -> float:
        return 1_795_449_588.0 + self.clock.seconds()


class QueueWatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bus = Bus()
        self.fleet = Fleet()
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry).service("SystemManager")
        self.watch = QueueWatch("SystemManager:1", cast("Any", self.bus), self.fleet, metrics)
        self.lines = listen(self)

    @property
    def session(self) -> Session:
        assert self.bus.session is not None
        return self.bus.session

    def look(self, *types: str, later: float = 5.0) -> list[str]:
        """Look at the queues of *types* after *later* seconds, and return the names that were asked about."""
        self.bus.clock.advance(later)
        self.session.asked.clear()
        self.watch.look(types)
        return self.session.asked

    def gauge(self, name: str, queue: str) -> float | None:
        return self.registry.get_sample_value(f"microservices_queue_{name}", {"type": "WB", "queue": queue})

    def test_it_asks_about_the_four_queues_of_each_type(self) -> None:
        asked = self.look("WB", "WA")
        names = [f"txmicro.{name}" for name in ("jobs.WB", "jobs.WB.durable", "quarantine.WB", "dead.WB")]
        self.assertCountEqual(asked, [*names, *(name.replace("WB", "WA") for name in names)])

    def test_what_is_known(self) -> None:
        self.session.known = {"txmicro.jobs.WB": (0, 2), "txmicro.dead.WB": (7, 0)}
        self.look("WB")
        queues = self.watch.queues["WB"]
        self.assertEqual(queues["interactive"], {"jobs": 0, "consumers": 2, "oldest": 0.0})
        self.assertEqual(queues["dead"], {"jobs": 7, "consumers": 0, "oldest": None})
        self.assertEqual(queues["durable"], UNKNOWN)
        self.assertEqual((self.gauge("jobs", "dead"), self.gauge("consumers", "interactive")), (7, 2))
        self.assertIsNone(self.gauge("jobs", "durable"))

    def test_the_age_follows_from_an_empty_queue_and_from_started_jobs(self) -> None:
        self.session.known = {"txmicro.jobs.WB.durable": (0, 1)}
        self.look("WB")
        self.session.known = {"txmicro.jobs.WB.durable": (3, 1)}
        self.look("WB", later=20)
        self.assertEqual(self.watch.queues["WB"]["durable"]["oldest"], 20)
        self.fleet.heard(Report("WB:1", "WB", "", youngest={"durable": self.bus.time() - 4}), self.bus.time())
        self.look("WB", later=1)
        self.assertEqual(self.watch.queues["WB"]["durable"]["oldest"], 5)
        self.assertEqual(self.gauge("oldest_seconds", "durable"), 5)

    def test_a_queue_that_does_not_exist_is_asked_about_again_after_a_while(self) -> None:
        self.session.known = {"txmicro.jobs.WB": (1, 1)}
        self.look("WB")
        self.assertEqual(self.look("WB"), ["txmicro.jobs.WB"])
        self.assertEqual(len(self.look("WB", later=FIRST_PAUSE)), 4)
        self.assertEqual(len(self.look("WB", later=FIRST_PAUSE)), 1)
        self.assertEqual(len(self.look("WB", later=FIRST_PAUSE)), 4)
        for _ in range(5):
            self.look("WB", later=PAUSE)
        self.assertEqual(len(self.look("WB", later=PAUSE - 1)), 1)

    def test_a_worker_that_joins_may_have_declared_queues(self) -> None:
        self.look("WA", "WB")
        self.watch.joined("WB")
        self.assertEqual(len(self.look("WA", "WB")), 4)

    def test_a_queue_without_an_answer_holds_the_others_up_only_shortly(self) -> None:
        self.session.known = {"txmicro.jobs.WA": Deferred(), "txmicro.jobs.WB": (1, 1)}
        self.look("WA", "WB")
        self.assertEqual(self.watch.queues["WB"]["interactive"]["jobs"], 1)
        self.assertEqual(self.look("WA", "WB", later=TIMEOUT / 2), [])  # the answers are still awaited
        self.assertEqual(self.look("WA", "WB", later=TIMEOUT), ["txmicro.jobs.WB"])
        self.assertEqual(self.watch.queues["WA"]["interactive"], UNKNOWN)

    def test_not_too_many_questions_are_open_at_once(self) -> None:
        types = [f"T{number}" for number in range(20)]
        self.session.known = {f"txmicro.jobs.{kind}": Deferred() for kind in types}
        self.look(*types)
        self.assertEqual(len(self.session.waiting), AT_ONCE)
        for waiting in self.session.waiting:
            waiting.callback((1, 1))
        self.assertGreater(len(self.session.waiting), AT_ONCE)
        self.watch.stop()
        self.assertEqual(self.bus.clock.getDelayedCalls(), [])

    def test_a_missing_right_is_logged_once(self) -> None:
        self.session.known = {
            f"txmicro.{name}.WB": AccessRefused("no right", "write") for name in ("jobs", "dead")
        }
        for _ in range(3):
            self.look("WB", later=PAUSE)
        self.assertEqual(len(texts(self.lines, "cannot look at")), 1)
        self.assertEqual(self.watch.queues["WB"]["dead"], UNKNOWN)

    def test_types_that_are_not_there_any_more_are_forgotten(self) -> None:
        self.session.known = {"txmicro.jobs.WB": (1, 1)}
        self.look("WB")
        self.look("WA")
        self.assertEqual(list(self.watch.queues), ["WA"])
        self.assertIsNone(self.gauge("jobs", "interactive"))

    def test_without_a_connection_it_asks_nothing(self) -> None:
        self.bus.session = None
        self.watch.look(["WB"])
        self.assertEqual(self.watch.queues, {})

    def test_a_lost_connection_ends_the_round(self) -> None:
        self.session.known = {"txmicro.jobs.WB": OSError("lost")}
        self.look("WB")
        self.assertEqual(self.watch.queues["WB"]["interactive"], UNKNOWN)
        self.session.known = {"txmicro.jobs.WB": succeed((4, 1))}
        self.look("WB")
        self.assertEqual(self.watch.queues["WB"]["interactive"]["jobs"], 4)
