"""Tests a worker whose queue names another connection holds. RabbitMQ 4.3 keeps the names of a lost node."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.system.test_recovery import RecoveryTestCase, echo
from txmicro.amqp.channel import Channel
from txmicro.errors import DuplicateWorker, NoWorkerAvailable
from txmicro.manager import SystemManager
from txmicro.protocol import topology
from txmicro.protocol.job import Job
from txmicro.worker import Worker


class LockingTestCase(RecoveryTestCase):
    def lock(self, worker: Worker) -> Channel:
        """Let another connection hold the names of the worker's queues, like those of a lost node."""
        channel = self.operator()
        for name in self.plain(worker):
            self.broker.model._delete_queue(self.broker.model.queues[name])
            self.result(channel.queue_declare(queue=name, exclusive=True), 0.0)
        self.advance(3)
        return channel

    def free(self, channel: Channel, worker: Worker) -> None:
        """Delete the exclusive queues, like a node that has started again."""
        for name in self.plain(worker):
            self.result(channel.queue_delete(queue=name))

    def plain(self, worker: Worker) -> tuple[str, str]:
        """Return the names of its queues at the first start."""
        return topology.inbox_queue(worker.id), topology.direct_queue(worker.id)

    def names(self, worker: Worker) -> list[str]:
        """Return the names of the exclusive queues of this worker at the broker."""
        return [name for name in self.broker.model.queues if f".{worker.id}" in name]


class LockedTests(LockingTestCase):
    def test_it_continues_with_queues_of_other_names(self) -> None:
        sender, worker = self.pair()
        heard: list[Any] = []
        self.result(worker.subscribe("#", lambda topic, data: heard.append(data)))
        self.lock(worker)
        self.assertTrue(worker._running_engine.channel.ready)
        self.assertEqual(self.result(sender.send(worker.id, 1).when_done()), 1)
        self.assertEqual(self.result(sender.send("WB:*", 2).when_done()), 2)
        sender.publish("x", 3)
        self.advance(0.2)
        self.assertEqual(heard, [3])
        self.assertEqual(len(self.logged("is locked")), 1)

    def test_a_job_that_it_sent_before_gets_its_answer(self) -> None:
        _, worker = self.pair()
        waiting: Deferred[str] = Deferred()

        async def handle(job: Job) -> str:
            return await waiting

        other = Worker("WX", do_job=handle)
        self.process(other)
        answer = worker.send("WX:*", timeout=30).when_done()
        self.advance(0.5)
        self.lock(worker)
        waiting.callback("done")
        self.assertEqual(self.result(answer), "done")

    def test_its_queues_are_deleted_when_it_stops(self) -> None:
        _, worker = self.pair()
        channel = self.lock(worker)
        self.free(channel, worker)
        self.assertEqual(len(self.names(worker)), 2)
        self.stop(worker.bus)
        self.assertEqual(self.names(worker), [])

    def test_it_has_its_own_names_again_after_the_next_loss(self) -> None:
        sender, worker = self.pair()
        channel = self.lock(worker)
        self.free(channel, worker)
        self.restart_broker()
        self.advance(5)
        self.assertEqual(set(self.names(worker)), set(self.plain(worker)))
        self.check(sender)

    def test_a_manager_keeps_it_in_the_list(self) -> None:
        sender, worker = self.pair()
        self.process(SystemManager())
        channel = self.lock(worker)
        self.free(channel, worker)
        post = sender._running_engine.channel.publisher
        post.notify("worker.next", {"address": worker.id, "sender": {"id": sender.id, "type": "WA"}})
        job = sender.send(worker.id, 1)
        self.advance(10)
        self.assertEqual(self.result(job.when_done()), 1)
        self.error(sender.send("WB:nobody").when_done(), NoWorkerAvailable, 10)

    def test_a_locked_name_at_the_first_start_is_another_worker(self) -> None:
        channel = self.operator()
        self.result(channel.queue_declare(queue=topology.inbox_queue("WB:1"), exclusive=True))
        worker = Worker("WB", do_job=echo, id="WB:1")
        self.process(worker)
        self.failureResultOf(worker.when_ready(), DuplicateWorker)


class RivalTests(LockingTestCase):
    """Tests another worker with the same id that takes the plain names. Then both never run together."""

    def setUp(self) -> None:
        super().setUp()
        self.sender, self.worker = self.pair()
        self.ran: list[Job] = []

        async def handle(job: Job) -> str:
            self.ran.append(job)
            return "the other"

        channel = self.lock(self.worker)
        self.free(channel, self.worker)
        self.rival = Worker("WB", do_job=handle, id=self.worker.id)
        self.process(self.rival)
        self.advance(1)

    def test_the_worker_with_the_plain_names_continues(self) -> None:
        self.assertTrue(self.rival._running_engine.channel.ready)
        self.assertFalse(self.worker._running_engine.channel.ready)
        for address in (self.rival.id, "WB:*", "WB:*"):
            self.assertEqual(self.result(self.sender.send(address).when_done()), "the other")
        self.assertNotEqual(self.logged("another worker on the bus is called WB:1"), [])

    def test_it_continues_after_any_time(self) -> None:
        self.advance(60, 0.25)
        self.assertFalse(self.worker._running_engine.channel.ready)
        self.assertTrue(self.rival._running_engine.channel.ready)

    def test_the_other_worker_is_ready_after_it_has_stopped(self) -> None:
        self.stop(self.rival.bus)
        self.advance(5)
        self.assertEqual(self.result(self.sender.send(self.worker.id, 1).when_done()), 1)
