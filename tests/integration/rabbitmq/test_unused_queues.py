"""``txmicro queues prune``, on RabbitMQ and on the embedded broker over TCP."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any
from uuid import uuid4

from click import UsageError
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from tests.support.live import Embedded, Live, LiveBroker, LiveTestCase, RabbitMQ
from tests.support.rabbitmq import reactor
from txmicro.bus.connections import Bus
from txmicro.cli import main as cli
from txmicro.cli.command_line import read
from txmicro.cli.queues import PruneQueues
from txmicro.errors import JobError, NotStored
from txmicro.operations import unused_queues as unused
from txmicro.protocol import topology
from txmicro.protocol.job import Job
from txmicro.receiving.retry import RetryPolicy
from txmicro.sending import confirmed as storing
from txmicro.worker import Worker


class Taker(Worker):
    """Fails as many times as the job says. Its type is used by one test only."""

    retry = RetryPolicy(attempts=2, steps=(0.1,))

    async def do_job(self, job: Job) -> Any:
        if job.tries < job.data:
            raise JobError("not now", retryable=True)
        return job.tries


class Pruning(Live):
    """Tests ``txmicro queues prune``."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.patch(storing, "QUEUE_GRACE", 0.0)
        self.kind = f"U{uuid4().hex[:8]}"
        self.sender = Worker("WS")
        await self.start(self.sender)

    async def worker(self) -> Bus:
        return await self.start(Taker(self.kind))

    async def was_here(self, *data: int) -> None:
        """Start a worker of the type, have it do jobs with *data*, and stop it."""
        bus = await self.worker()
        for each in data:
            await self.send(each)
        await bus.stopService()

    def send(self, data: int = 0) -> Deferred[Any]:
        return self.sender.send(f"{self.kind}:*", data, durable=True).when_done()

    def command(self) -> cli.Command:
        self.out, self.err = StringIO(), StringIO()
        return cli.Command(reactor, {"TXMICRO_BROKER_URL": self.url()}, self.out, self.err)

    def run_command(self, command: cli.Command | None = None) -> Deferred[int]:
        return (command or self.command()).run(["queues", "prune", self.kind, "--steps", "0.1,5"])

    async def refused(self, running: Deferred[int] | None = None) -> str:
        self.assertEqual(await (running or self.run_command()), cli.NOT_DONE)
        self.assertEqual(self.out.getvalue(), "")
        return self.err.getvalue()

    async def exist(self) -> set[str]:
        """Return the names of the type's queues that exist."""
        client = (await self.raw_publisher()).channel.client
        found = set()
        for name in unused._names(self.kind, (0.1, 5)):
            channel = await client.channel_open()
            try:
                await channel.queue_declare(queue=name, passive=True)
            except Exception:
                continue
            found.add(name)
        return found

    async def amid(self) -> Deferred[int]:
        """Return a running command that has unbound the queue, and waits."""
        running = self.run_command()
        waiting: list[Any] = []

        def wait(clock: Any, seconds: float) -> Deferred[None]:
            waiting.append(None)
            return deferLater(clock, seconds)

        self.patch(unused, "deferLater", wait)
        await self.until(lambda: waiting, "the command waits")
        return running

    async def test_all_queues_of_a_type_without_workers_and_jobs(self) -> None:
        await self.was_here(0, 1)
        names = await self.exist()
        self.assertEqual(len(names), 4)
        self.assertEqual(await self.run_command(), cli.DONE, self.err.getvalue())
        self.assertEqual(set(self.out.getvalue().replace("removed ", "").split()), names)
        self.assertEqual(await self.exist(), set())
        await self.failed(self.send(), NotStored)
        await self.worker()
        self.assertEqual(await self.send(1), 1)

    async def test_the_names_as_json(self) -> None:
        await self.was_here()
        names = await self.exist()
        self.assertEqual(await self.command().run(["queues", "prune", self.kind, "--json"]), cli.DONE)
        answer = json.loads(self.out.getvalue())
        self.assertEqual((answer["type"], set(answer["removed"])), (self.kind, names))

    async def test_a_type_without_queues(self) -> None:
        self.assertEqual(await self.run_command(), cli.DONE)
        self.assertEqual(self.out.getvalue(), f"{self.kind} has no durable queues\n")

    async def test_nothing_while_a_worker_runs(self) -> None:
        await self.worker()
        self.assertIn("are connected", await self.refused())
        self.assertEqual(await self.send(1), 1)

    async def test_nothing_while_a_job_is_stored(self) -> None:
        await self.was_here()
        job = self.sender.send(f"{self.kind}:*", 0, durable=True)
        await job.when_stored()
        self.assertIn(f"{topology.durable_queue(self.kind)} has 1 messages", await self.refused())
        await self.worker()
        self.assertEqual(await job, 0)

    async def test_nothing_while_there_are_dead_letters(self) -> None:
        bus = await self.worker()
        await self.failed(self.send(2), JobError)
        await bus.stopService()
        self.assertIn(f"{topology.dead_queue(self.kind)} has 1 messages", await self.refused())
        self.assertEqual(len(await self.exist()), 4)

    async def test_a_job_that_is_sent_during_the_command_is_not_stored(self) -> None:
        await self.was_here()
        running = await self.amid()
        await self.failed(self.send(), NotStored)
        self.assertEqual(await running, cli.DONE, self.err.getvalue())

    async def test_a_worker_that_starts_during_the_command_keeps_its_queues(self) -> None:
        await self.was_here()
        running = await self.amid()
        await self.worker()
        self.assertIn("are connected", await self.refused(running))
        self.assertEqual(await self.send(1), 1)

    async def test_an_interrupted_command_restores_the_bindings(self) -> None:
        await self.was_here()
        command = self.command()
        self.patch(self, "command", lambda: command)
        running = await self.amid()
        ended: Any = command.interrupt()
        self.assertIn("interrupted", await self.refused(running))
        await ended
        job = self.sender.send(f"{self.kind}:*", 0, durable=True)
        await job.when_stored()
        await self.worker()
        self.assertEqual(await job, 0)


class OnRabbitMQ(Pruning, LiveTestCase):
    """Tests on RabbitMQ, where it is installed."""

    def make_broker(self) -> LiveBroker:
        return RabbitMQ()


class OnTheEmbeddedBroker(Pruning, LiveTestCase):
    """On the embedded broker, over TCP."""

    def make_broker(self) -> LiveBroker:
        return Embedded()


class CommandLineTests(SynchronousTestCase):
    def test_steps_are_seconds(self) -> None:
        for words, steps in ((["--steps", "0.5,30"], (0.5, 30.0)), ([], RetryPolicy().steps)):
            self.assertEqual(
                read(["queues", "prune", "WB", *words]), PruneQueues(kind="WB", steps=steps), words
            )
        for wrong in ("", "x", "0", "-1", "1,,2", "nan", "1e9"):
            error = self.assertRaises(UsageError, read, ["queues", "prune", "WB", "--steps", wrong])
            self.assertIn("--steps", str(error))
