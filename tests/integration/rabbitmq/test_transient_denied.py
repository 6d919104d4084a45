"""Tests a broker that denies transient queues which are not exclusive, as RabbitMQ 4 can be configured."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.support.live import LiveTestCase, RabbitMQ
from tests.support.rabbitmq import Node, require_rabbitmq
from tests.support.system import SystemTestCase
from txmicro.broker.errors import Refused
from txmicro.protocol import topology
from txmicro.protocol.job import Job
from txmicro.worker import Worker

DENIED = f"deprecated_features.permit.{topology.TRANSIENT_DENIED} = false\n"


async def echo(job: Job) -> Any:
    return job.data


class EmbeddedTests(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        declare = self.broker.model.declare_queue

        def refuse(*args: Any, **options: Any) -> Any:
            if options.get("auto_delete") and not options.get("exclusive"):
                raise Refused(540, f"Feature `{topology.TRANSIENT_DENIED}` is deprecated.")
            return declare(*args, **options)

        self.patch(self.broker.model, "declare_queue", refuse)

    def test_the_denial_costs_one_connection_and_is_remembered(self) -> None:
        sender, worker = Worker("WA"), Worker("WB", do_job=echo)
        self.process(sender)
        bus = self.process(worker)
        self.advance(5)
        self.assertEqual(self.result(sender.send("WB:*", 1).when_done()), 1)
        tries = self.endpoint.tries
        assert bus.session is not None
        bus.session.consuming.transport.abortConnection()
        self.advance(5)
        self.assertEqual(self.result(sender.send("WB:*", 2).when_done()), 2)
        # Once for the two connections, and once for that of the durable jobs.
        self.assertLessEqual(self.endpoint.tries - tries, 3)


class DeniedRabbitMQ(RabbitMQ):
    """A node of its own."""

    async def start(self) -> None:
        await require_rabbitmq()
        self.node = Node(Path(tempfile.mkdtemp(prefix="txmicro-rabbitmq-")), settings=DENIED)
        self.version = await self.node.version()
        if self.version < (4,):
            raise SkipTest("RabbitMQ 4 is the first that can forbid them")
        await self.node.start()

    async def stop(self) -> None:
        self.node.kill()
        shutil.rmtree(self.node.directory, ignore_errors=True)


class RabbitMQTests(LiveTestCase):
    broker: DeniedRabbitMQ

    def make_broker(self) -> RabbitMQ:
        return DeniedRabbitMQ()

    async def test_jobs_and_events_of_groups_use_quorum_queues(self) -> None:
        heard: list[Any] = []
        sender, worker = Worker("WA"), Worker("WB", do_job=echo)
        worker.subscribe("#", lambda topic, data: heard.append(data), group=True)
        await self.start(sender)
        await self.start(worker)
        self.assertEqual(await sender.send("WB:*", 1), 1)
        sender.publish("x", 2)
        await self.until(lambda: heard == [2], "the event is heard")
        learned = self.broker.version < (4, 3)  # later versions need no attempt
        self.assertEqual(len(self.lines("forbids transient queues")), learned)
