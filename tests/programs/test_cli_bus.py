"""The commands that are on the bus as a worker: as processes, on RabbitMQ and on the embedded broker over TCP."""

from __future__ import annotations

import json
import os
import signal
from typing import Any
from uuid import uuid4

from twisted.internet.task import deferLater

from tests.support.live import Embedded, Live, LiveBroker, LiveTestCase, RabbitMQ
from tests.support.programs import BIN, Program
from tests.support.rabbitmq import reactor
from txmicro.cli import main as cli
from txmicro.manager import SystemManager
from txmicro.protocol.job import Job
from txmicro.worker import Worker


class Sleeper(Worker):
    """Runs jobs that take as many seconds as they say. Its type is of one test alone."""

    async def do_job(self, job: Job) -> Any:
        await deferLater(self.reactor, job.data["seconds"])
        return job.data


class Commands(Live):
    """A SystemManager, a worker, and commands."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.worker = Sleeper(f"S{uuid4().hex[:12]}")
        await self.start(SystemManager(), self.worker)

    def txmicro(self, *words: str) -> Program:
        """Start the program."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TXMICRO_")}
        environ |= {"TXMICRO_BROKER_URL": self.url()}
        program = Program()
        reactor.spawnProcess(program, str(BIN / "txmicro"), ["txmicro", *words], env=environ)
        self.addCleanup(program.kill)
        return program

    async def done(self, *words: str) -> str:
        """Run the program, which succeeds, and return its output."""
        program = self.txmicro(*words)
        status = await program.ended()
        self.assertEqual((status, program.errors), (cli.DONE, ""))
        return program.output

    async def test_who_is_on_the_bus(self) -> None:
        await self.until(lambda: self.worker.peers, "the worker is announced")
        answer = json.loads(await self.done("workers", "--json"))
        self.assertEqual([each["id"] for each in answer["workers"]], [self.worker.id])
        self.assertIn(self.worker.id, await self.done("workers"))

    async def test_how_fast_the_bus_is(self) -> None:
        answer = json.loads(await self.done("bench", "--durable", "--seconds", "0.3", "--json"))
        self.assertEqual([each["lane"] for each in answer["measured"]], ["interactive"] * 2 + ["durable"] * 2)
        for each in answer["measured"]:
            self.assertEqual((each["failed"], each["done"] > 0), (0, True), each)

    async def test_a_job_and_many_jobs(self) -> None:
        data = {"seconds": 0, "text": "é"}
        address = f"{self.worker.type}:*"
        for options in ([], ["--durable"]):
            self.assertEqual(json.loads(await self.done("send", address, json.dumps(data), *options)), data)
            words = ("--count", "500", "--concurrency", "50", "--json", *options)
            summary = json.loads(await self.done("send", address, json.dumps(data), *words))
            self.assertEqual((summary["done"], summary["failed"]), (500, 0))

    async def test_ctrl_c_cancels_the_jobs_and_says_what_is_done(self) -> None:
        address = f"{self.worker.type}:*"
        program = self.txmicro("send", address, '{"seconds": 60}', "--count", "10", "--concurrency", "3")
        await self.until(lambda: self.worker.running_jobs == 3, "three jobs run")
        self.assertEqual(await program.signal(signal.SIGINT), cli.NOT_DONE)
        self.assertRegex(program.output, r"^0 done, 0 failed in \d")
        self.assertEqual(program.errors, "txmicro: interrupted\n")
        await self.until(lambda: self.worker.running_jobs == 0, "the jobs are canceled")


class EmbeddedTests(Commands, LiveTestCase):
    def make_broker(self) -> LiveBroker:
        return Embedded()


class RabbitMQTests(Commands, LiveTestCase):
    def make_broker(self) -> LiveBroker:
        return RabbitMQ()
