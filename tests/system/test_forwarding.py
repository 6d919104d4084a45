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

    def test_one_that_passed_a_job_on_and_has_no_more_time_leaves_it_to_whoever_has_it(self) -> None:
        async def forward(job: Job) -> Forward:
            return Forward("WB:*")

        pilot = self.process(Worker("WD", do_job=forward), config=Config(grace=1.0))
        job = self.sender.send("WD:*").when_done()
        self.advance(0.2)
        self.stop(pilot)
        self.assertNoResult(job)
        self.answer.callback("done")
        self.assertEqual(self.result(job), "done")

    def test_an_answer_that_finds_no_inbox_is_said_again_before_anyone_asks(self) -> None:
        job = self.sender.send("WB:*").when_done()
        self.advance(0.2)
        model = self.broker.model
        model._delete_queue(model.queues[topology.inbox_queue("WA:1")])
        self.answer.callback("done")
        self.assertEqual(self.result(job, 1.6), "done")  # a probe would be sent after 2 s
