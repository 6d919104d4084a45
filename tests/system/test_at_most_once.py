"""Tests jobs with ``redeliver=False``: they run at most once, and the sender is told whether that is known."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.system.test_slips import SlipTestCase
from txmicro.config import Config
from txmicro.errors import JobTimeout, NoWorkerAvailable, WorkerLost
from txmicro.manager import SystemManager
from txmicro.protocol.job import Forward, Job


class OnceTests(SlipTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.waiting: list[Deferred[str]] = []
        self.handlers["WB:*"] = self.wait

    async def handle(self, job: Job) -> Any:
        if job.address not in self.handlers:
            self.handlers[job.address] = self.wait
        return await super().handle(job)

    async def wait(self, job: Job) -> str:
        self.waiting.append(Deferred())
        return await self.waiting[-1]

    def send(self, address: str = "WB:*", **given: Any) -> Deferred[Any]:
        return self.sender.send(address, redeliver=False, **given).when_done()

    def test_it_is_done(self) -> None:
        self.worker("WB")
        job = self.send()
        self.advance(5)
        self.waiting[0].callback("done")
        self.assertEqual(self.result(job), "done")

    def test_its_worker_dies_and_it_runs_nowhere_else(self) -> None:
        bus = self.worker("WB")
        job = self.send()
        self.advance(0.5)
        self.worker("WB")
        self.kill(bus)
        error = self.error(job, WorkerLost, 7)
        self.assertFalse(error.retryable)
        self.assertEqual(list(self.ran.values()), [1])

    def test_its_worker_dies_before_it_acknowledged_the_job(self) -> None:
        """The broker delivers the copy to another worker, which sees that it was delivered before."""
        bus = self.worker("WB")
        self.worker("WB")
        job = self.send()
        while not self.ran:
            self.clock.advance(0)
        self.kill(bus)
        self.error(job, WorkerLost, 0.5)
        self.assertEqual(list(self.ran.values()), [1])

    def test_a_worker_that_reconnects_continues_the_job(self) -> None:
        self.worker("WB")
        job = self.send()
        self.advance(0.5)
        self.restart_broker()
        self.advance(8)
        self.assertNoResult(job)
        self.waiting[0].callback("done")
        self.assertEqual(self.result(job, 5), "done")
        self.assertEqual(list(self.ran.values()), [1])

    def test_its_copy_waits_at_the_broker_until_the_deadline(self) -> None:
        self.worker("WB", config=Config(capacity=1))
        self.sender.send("WB:*")
        self.advance(0.5)
        late, early = self.send(timeout=5.0), self.send(timeout=20.0)
        self.error(late, JobTimeout, 5.2)
        self.advance(4)
        self.waiting.pop().callback("done")
        self.advance(0.5)
        self.waiting.pop().callback("in its turn")
        self.assertEqual(self.result(early), "in its turn")
        self.assertEqual(len(self.ran), 2)

    def test_a_worker_that_stops_leaves_jobs_that_it_did_not_start_to_another(self) -> None:
        first = self.worker("WB", config=Config(capacity=1))
        running, held = self.send(self.members[-1].id), self.send()
        self.advance(0.5)
        self.worker("WB")
        stopping = first.stopService()
        self.advance(2.5)
        for each in self.waiting:
            each.callback("done")
        self.assertEqual((self.result(running), self.result(held)), ("done", "done"))
        self.assertEqual(sorted(self.ran.values()), [1, 1])
        self.successResultOf(stopping)

    def test_there_is_no_worker(self) -> None:
        self.process(SystemManager())
        self.error(self.send("WX:*"), NoWorkerAvailable, 5.0)

    def test_a_worker_starts_later(self) -> None:
        job = self.send()
        self.advance(0.5)
        self.worker("WB")
        self.advance(2)
        self.waiting[0].callback("done")
        self.assertEqual(self.result(job), "done")

    def test_the_hops_that_follow_run_at_most_once_too(self) -> None:
        seen: list[bool] = []

        async def forward(job: Job) -> Forward:
            return Forward("WC:*")

        async def look(job: Job) -> str:
            seen.append(job.redeliver)
            return await self.wait(job)

        self.handlers.update({"WB:*": forward, "WC:*": look})
        self.worker("WB")
        bus = self.worker("WC")
        job = self.send()
        self.advance(0.5)
        self.worker("WC")
        self.kill(bus)
        self.error(job, WorkerLost, 7)
        self.assertEqual(seen, [False])
        self.advance(1)
        self.check_free()

    def test_a_durable_job_cannot_be_at_most_once(self) -> None:
        self.assertRaises(ValueError, self.sender.send, "WB:*", durable=True, redeliver=False)

    def test_a_very_long_deadline_gives_an_expiration_that_a_broker_accepts(self) -> None:
        self.worker("WB")
        job = self.send(timeout=1e9)
        self.advance(0.5)
        self.waiting[0].callback("done")
        self.assertEqual(self.result(job), "done")
