"""Tests who is told how a job ended when a worker on its way stops or cannot be reached."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.support.system import SystemTestCase
from txmicro.config import Config
from txmicro.protocol import topology
from txmicro.protocol.job import Forward, Job
from txmicro.worker import Worker


class HopTests(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.answer: Deferred[str] = Deferred()
        self.sender = Worker("WA", id="WA:1")
        self.process(self.sender)
        self.process(Worker("WB", do_job=self.handle))

    async def handle(self, job: Job) -> str:
        return await self.answer

    def test_a_worker_that_forwarded_a_job_and_stops_leaves_it_to_the_next_worker(self) -> None:
        async def forward(job: Job) -> Forward:
            return Forward("WB:*")

        pilot = self.process(Worker("WD", do_job=forward), config=Config(grace=1.0))
        job = self.sender.send("WD:*").when_done()
        self.advance(0.2)
        self.stop(pilot)
        self.assertNoResult(job)
        self.answer.callback("done")
        self.assertEqual(self.result(job), "done")

    def test_an_answer_without_an_inbox_is_sent_again_before_a_probe(self) -> None:
        job = self.sender.send("WB:*").when_done()
        self.advance(0.2)
        model = self.broker.model
        model._delete_queue(model.queues[topology.inbox_queue("WA:1")])
        self.answer.callback("done")
        self.assertEqual(self.result(job, 1.6), "done")  # a probe would be sent after 2 s
