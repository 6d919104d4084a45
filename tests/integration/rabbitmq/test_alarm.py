"""Tests a broker that blocks publishers because memory or disk space is low: RabbitMQ, and the embedded one."""

from __future__ import annotations

from tests.support.live import Embedded, Live, LiveBroker, LiveTestCase, RabbitMQ
from tests.support.logs import listen, texts
from tests.support.system import SystemTestCase
from txmicro.config import Config
from txmicro.errors import JobTimeout
from txmicro.manager import SystemManager
from txmicro.protocol.job import Job
from txmicro.worker import Worker

BEATING = Config(keepalive=1000)


async def echo(job: Job) -> object:
    return job.data


class InMemory(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.events = listen(self)
        self.sender, self.worker = Worker("WA"), Worker("WB", do_job=echo)
        self.manager = SystemManager()
        self.process(self.sender)
        self.process(self.worker)
        self.process(self.manager, config=BEATING)
        self.advance(2)

    def alarm(self, on: bool) -> None:
        """Raise the alarm of the broker, which then blocks the publishers; or end it."""
        if on:
            self.broker.model.memory.allocate(1 << 30)
        else:
            self.broker.model.memory.free(1 << 30)

    def said(self, part: str) -> list[str]:
        return texts(self.events, part)


class WordsTests(InMemory):
    def test_the_alarm_and_its_end_are_logged_once_and_the_alarm_is_a_metric(self) -> None:
        blocked = self.sender.bus.metrics.registry.get_sample_value
        self.assertEqual(blocked("microservices_broker_blocked"), 0)
        self.alarm(True)
        self.advance(5)
        job = self.sender.send("WB:*", 1)
        self.advance(5)
        self.assertEqual(blocked("microservices_broker_blocked"), 1)
        self.assertEqual(len(self.said("accepts no messages (low on memory)")), 3)  # once in each process
        self.alarm(False)
        self.assertEqual(self.result(job.when_done(), 3), 1)
        self.assertEqual(blocked("microservices_broker_blocked"), 0)
        self.assertEqual(len(self.said("accepts messages again, after 10.")), 3)

    def test_the_alarm_ends_when_the_connection_is_lost(self) -> None:
        self.alarm(True)
        self.advance(1)
        self.restart_broker()
        self.advance(5)
        value = self.sender.bus.metrics.registry.get_sample_value("microservices_broker_blocked")
        self.assertEqual(value, 0)
        self.assertEqual(self.result(self.sender.send("WB:*", 1).when_done()), 1)

    def test_a_job_that_fails_because_of_it_says_so(self) -> None:
        self.alarm(True)
        self.advance(1)
        error = self.error(self.sender.send("WB:*", timeout=5).when_done(), JobTimeout, 6)
        self.assertIn(
            "nothing could be published: the broker accepts no messages (low on memory)", str(error)
        )
        self.alarm(False)


class ManagerTests(InMemory):
    def test_a_manager_that_does_not_receive_its_own_messages_removes_no_worker(self) -> None:
        self.alarm(True)
        self.advance(30)
        self.alarm(False)
        self.advance(10)
        self.assertEqual(self.said("removed from the list"), [])
        self.assertEqual({entry["state"] for entry in self.manager.registry.listing()}, {"alive"})
        self.assertEqual(self.manager.registry.counts(), {"WA": 1, "WB": 1})

    def test_a_manager_that_receives_its_own_messages_removes_silent_workers(self) -> None:
        assert self.worker._engine is not None
        self.patch(self.worker._engine._control, "notified", lambda topic, body: None)
        self.advance(5)
        self.assertEqual(self.manager.registry.counts(), {"WA": 1, "WB": 0})


class StopTests(InMemory):
    def test_a_stop_ends_within_its_grace(self) -> None:
        self.alarm(True)
        self.advance(1)
        for member in (self.sender, self.worker, self.manager):
            if isinstance(member, Worker):  # a request about an exchange, which the broker does not read
                member._running_engine._publisher.reply("WX:1", "ack", "", b"")
        stopping = [bus.stopService() for bus in self.buses]
        self.advance(Config().grace)
        for each in stopping:
            self.successResultOf(each)
        self.assertEqual(len(self.said("its last messages may be lost: the broker accepts no messages")), 2)
        self.alarm(False)


class Alarm(Live):
    """Tests that need a real connection."""

    async def alarm(self, on: bool) -> None:
        """Raise the broker's alarm, or end it."""
        raise NotImplementedError

    async def test_the_alarm_from_start_to_end(self) -> None:
        sender, manager = Worker("WA"), SystemManager()
        await self.start(sender)
        worker = Worker("WB", do_job=echo)
        await self.start(worker)
        await self.start(manager, keepalive=300)
        leaving = Worker("WC", do_job=echo)
        bus = await self.start(leaving, grace=1)
        await self.until(lambda: len(manager.registry) == 3, "the manager knows all")
        await self.alarm(True)
        try:
            job = sender.send("WB:*", 1, timeout=60)
            late = sender.send("WB:*", 2, timeout=4)
            await self.until(lambda: not sender.bus.writable, "the sender is told")
            error = await self.failed(late, JobTimeout)
            self.assertIn("the broker accepts no messages", str(error))
            self.assertEqual(len(manager.registry), 3)
            self.assertEqual(self.lines("is removed from the list of workers"), [])
            # It sends a request about an exchange, which the broker does not read. The stop waited for its answer.
            leaving._running_engine._publisher.reply("WX:1", "ack", "", b"")
            stopping = bus.stopService()
            await self.until(lambda: stopping.called, "it stops within its grace")
        finally:
            await self.alarm(False)
        self.assertEqual(await job, 1)
        await self.until(lambda: self.lines("accepts messages again"), "the end is said")
        self.assertLessEqual({sender.id, worker.id}, {entry["id"] for entry in manager.registry.listing()})


class OnRabbitMQ(Alarm, LiveTestCase):
    broker: RabbitMQ

    def make_broker(self) -> LiveBroker:
        return RabbitMQ()

    async def alarm(self, on: bool) -> None:
        await self.broker.node.set_memory_watermark(0 if on else 0.4)


class OnTheEmbeddedBroker(Alarm, LiveTestCase):
    broker: Embedded

    def make_broker(self) -> LiveBroker:
        return Embedded()

    async def alarm(self, on: bool) -> None:
        memory = self.broker._broker.factory.model.memory
        (memory.allocate if on else memory.free)(1 << 30)
