"""Tests workers that are killed by an interactive job, or lose their connections while they run it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.support.system import Endpoint, SystemTestCase
from txmicro.bus.connections import Bus
from txmicro.bus.publisher import Publisher
from txmicro.bus.targets import Target
from txmicro.errors import JobTimeout, NoWorkerAvailable, WorkerLost
from txmicro.manager import SystemManager
from txmicro.protocol import messages
from txmicro.protocol.job import Job
from txmicro.sending.future import JobFuture
from txmicro.worker import Worker


class DeathTestCase(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.sender = Worker("WA", id="WA:1")
        self.manager = SystemManager()
        self.process(self.sender, self.manager)
        self.waiting: list[Deferred[Any]] = []
        self.dead: list[str] = []

    async def wait(self, job: Job) -> Any:
        self.waiting.append(Deferred())
        return await self.waiting[-1]

    def cut(self, bus: Bus) -> Endpoint:
        """Close its connections. They are opened again as soon as the returned endpoint has a broker."""
        assert bus.session is not None
        endpoint = Endpoint(self.clock, None)
        bus._targets[0] = Target(endpoint, bus._targets[0].broker)
        for client in (bus.session.publishing, bus.session.consuming):
            client.transport.abortConnection()
        return endpoint

    def deadly(self, count: int, *, plain: bool = False) -> None:
        """Start workers of the type WB whose handler ends their process before it sends anything."""

        def work(number: int) -> Bus:
            async def die(job: Job) -> Any:
                return await blow_up(job)

            def blow_up(job: Job) -> Deferred[None]:
                self.dead.append(job.key)
                self.cut(bus)
                return Deferred()

            bus = self.process(Worker("WB", do_job=blow_up if plain else die, id=f"WB:{number}"))
            return bus

        for number in range(1, count + 1):
            work(number)


class KillingTests(DeathTestCase):
    def test_a_job_that_kills_its_workers_fails_after_the_limit(self) -> None:
        self.deadly(10, plain=True)
        error = self.error(self.sender.send("WB:*").when_done(), WorkerLost, 15)
        self.assertEqual(len(self.dead), 3)
        self.assertIn("it may be what ends them", str(error))
        self.assertEqual(len(self.sender._engine._outbox), 0)  # type: ignore[union-attr]

    def test_a_job_that_kills_its_workers_before_their_ack_fails_after_the_limit(self) -> None:
        self.deadly(10)
        self.error(self.sender.send("WB:*").when_done(), WorkerLost, 15)
        self.assertEqual(len(self.dead), 4)  # the first one could not tell its id

    def test_its_neighbors_are_done(self) -> None:
        self.deadly(2)
        poison = self.sender.send("WB:*")
        self.process(Worker("WB", do_job=lambda job: "done"))
        self.assertEqual(self.result(poison.when_done(), 10), "done")

    def test_workers_that_only_lose_connections_do_not_count_as_killed(self) -> None:
        buses = [self.process(Worker("WB", do_job=self.wait, id=f"WB:{number}")) for number in (1, 2, 3)]
        job = self.sender.send("WB:*", timeout=200)
        for _ in range(3):
            for bus in buses:
                endpoint = self.cut(bus)
                self.advance(2.5)
                endpoint.broker = self.broker
                self.advance(6)
        self.assertFalse(job.done())
        self.waiting[0].callback("done")
        self.assertEqual(self.result(job.when_done(), 3), "done")


class AwayTests(DeathTestCase):
    """Tests that a running job never fails with NoWorkerAvailable."""

    def away(self, job: JobFuture, bus: Bus, seconds: float) -> None:
        endpoint = self.cut(bus)
        self.advance(seconds)
        self.assertFalse(job.done())
        endpoint.broker = self.broker
        self.advance(5)

    def test_a_worker_without_connection_for_long_while_it_runs_a_job(self) -> None:
        bus = self.process(Worker("WB", do_job=self.wait))
        job = self.sender.send("WB:*", timeout=100)
        self.advance(0.5)
        self.away(job, bus, 42)
        self.assertEqual(len(self.waiting), 1)
        self.waiting[0].callback("done")
        self.assertEqual(self.result(job.when_done(), 1), "done")

    def test_a_worker_that_could_not_acknowledge_the_job(self) -> None:
        reply = Publisher.reply

        def mute(post: Publisher, worker: str, kind: str, key: str, body: bytes) -> None:
            if kind != messages.ACK:
                reply(post, worker, kind, key, body)

        self.patch(Publisher, "reply", mute)
        bus = self.process(Worker("WB", do_job=self.wait))
        job = self.sender.send("WB:*", timeout=100)
        self.advance(7)  # until the broker closes its connection
        self.away(job, bus, 42)
        self.waiting[0].callback("done")
        self.assertEqual(self.result(job.when_done(), 1), "done")

    def test_the_error_at_the_deadline_names_the_lost_worker(self) -> None:
        bus = self.process(Worker("WB", do_job=self.wait, id="WB:1"))
        job = self.sender.send("WB:*", timeout=20)
        self.advance(0.5)
        self.cut(bus)
        error = self.error(job.when_done(), JobTimeout, 20)
        self.assertIn("taken before by WB:1, missing since", str(error))

    def test_jobs_sent_in_the_meantime_fail_without_a_worker(self) -> None:
        bus = self.process(Worker("WB", do_job=self.wait))
        job = self.sender.send("WB:*", timeout=100)
        self.advance(0.5)
        self.cut(bus)
        self.advance(5)
        self.error(self.sender.send("WB:*").when_done(), NoWorkerAvailable, 5)
        self.assertFalse(job.done())
        job.cancel()
