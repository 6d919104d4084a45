"""Tests of the health of processes, in systems in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.support.system import Member, SystemTestCase
from txmicro.amqp.channel import Channel
from txmicro.broker.sessions import ModelSession
from txmicro.bus.connections import Bus
from txmicro.bus.robust_channel import STUCK_AFTER
from txmicro.bus.worker_channel import WorkerChannel
from txmicro.manager import SystemManager
from txmicro.page.health import Health
from txmicro.protocol import topology
from txmicro.worker import Worker


class Slow(Worker):
    """A worker that starts when the test says so."""

    def opened(self) -> Any:
        self.opening: Deferred[None] = Deferred()
        return self.opening


class HealthTestCase(SystemTestCase):
    def start(self, *members: Member) -> Bus:
        bus = self.process(*members)
        self.health = Health(members, bus, None)
        return bus

    def check(self, *, live: bool = True, ready: bool = True) -> None:
        """Check whether the process is live and ready."""
        self.assertEqual(
            (not self.health.defects(), not self.health.obstacles()),
            (live, ready),
            (self.health.defects(), self.health.obstacles()),
        )

    def problems(self) -> list[str]:
        """Return what keeps the process from being ready."""
        return [problem.problem for problem in self.health.obstacles()]


class ReadyTests(HealthTestCase):
    def test_a_worker_and_a_manager(self) -> None:
        echo, sender = Worker("WE", do_job=lambda job: job.data), Worker("WS")
        bus = self.start(SystemManager(), echo, sender)
        self.check()
        stopping = bus.stopService()
        self.check(ready=False)
        self.assertIn("it is not running", self.problems())
        self.result(stopping)

    def test_a_worker_whose_opened_has_not_ended(self) -> None:
        slow = Slow("WE")
        self.start(slow)
        self.check(ready=False)
        self.assertEqual(self.problems(), ["it is starting: opened() has not ended"])
        slow.opening.callback(None)
        self.advance(0.1)
        self.check()

    def test_a_worker_that_does_not_take_durable_jobs(self) -> None:
        worker = Worker("WE", do_job=lambda job: job.data)
        self.start(worker)
        model = self.broker.model
        owner = ModelSession(model)
        model.delete_queue(owner, topology.durable_queue("WE"))
        self.advance(0.01, step=0.01)
        (problem,) = self.problems()
        self.assertTrue(
            problem.startswith("it takes no durable jobs: its queues are not consumed: "), problem
        )
        self.advance(5)
        self.check()


class BrokerTests(HealthTestCase):
    def test_a_broker_that_is_down_and_comes_back(self) -> None:
        self.start(SystemManager(), Worker("WE", do_job=lambda job: job.data))
        self.endpoint.broker = None
        self.broker.close()
        self.advance(2 * STUCK_AFTER)
        self.check(ready=False)
        self.assertIn("there is no connection to the broker", self.problems())
        self.restart_broker()
        self.advance(10)
        self.check()

    def test_a_process_that_starts_without_a_broker(self) -> None:
        self.endpoint.broker = None
        self.start(SystemManager(), Worker("WE", do_job=lambda job: job.data))
        self.advance(2 * STUCK_AFTER)
        self.check(ready=False)
        self.endpoint.broker = self.broker
        self.advance(10)
        self.check()

    def test_a_broker_that_accepts_no_messages(self) -> None:
        bus = self.start(Worker("WE"))
        assert bus.session is not None
        bus.session.publishing.set_blocked(True, "low on memory")
        self.check(ready=False)
        self.assertEqual(self.problems(), ["the broker accepts no messages (low on memory)"])


class LiveTests(HealthTestCase):
    def test_consumers_that_a_connected_broker_does_not_declare_again(self) -> None:
        worker = Worker("WE", do_job=lambda job: job.data)
        self.start(worker)
        waiting: list[Deferred[None]] = []

        def build(_self: Any, _session: Any, _channel: Channel) -> Deferred[None]:
            waiting.append(Deferred())
            return waiting[-1]

        patch = self.patch(WorkerChannel, "build", build)
        self.restart_broker()
        self.advance(STUCK_AFTER - 10)
        self.check(ready=False)
        self.advance(20)
        self.check(live=False, ready=False)
        (defect,) = self.health.defects()
        self.assertEqual(defect.part, worker.id)
        self.assertIn("the broker is connected, but has not declared its queues for", defect.problem)
        patch.restore()
        waiting[-1].errback(ConnectionError("an answer at last"))
        self.advance(10)
        self.check()

    def test_refusals_by_the_broker_are_not_mended_by_a_restart(self) -> None:
        self.start(Worker("WE", do_job=lambda job: job.data))

        async def build(_self: Any, _session: Any, _channel: Channel) -> None:
            raise ConnectionError("refused")

        self.patch(WorkerChannel, "build", build)
        self.restart_broker()
        self.advance(2 * STUCK_AFTER)
        self.check(ready=False)
        self.assertEqual(self.problems(), ["its queues are not consumed: refused"])

    def test_a_part_that_has_given_up(self) -> None:
        for part in (Worker("WE"), SystemManager()):
            bus = self.start(part)

            def fail(_self: Any, _reason: Any) -> bool:
                raise RuntimeError("a bug")

            patch = self.patch(WorkerChannel, "gives_up", fail)
            self.restart_broker()
            self.advance(5)
            patch.restore()
            self.check(live=False, ready=False)
            (defect,) = self.health.defects()
            self.assertEqual(defect, (part.id, "its queues are not declared any more"))
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
            self.stop(bus)

    def test_a_bus_that_does_not_connect_any_more(self) -> None:
        bus = self.start(SystemManager())
        assert bus._life is not None
        bus._life.cancel()
        self.advance(0.1)
        self.assertIn(("bus", "it does not connect to the broker any more"), self.health.defects())
