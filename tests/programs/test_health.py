from __future__ import annotations

import json
import re
import sys
from typing import Any

import treq
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.web.client import ResponseNeverReceived

from tests.support.programs import PATIENCE, ROOT, ProgramTestCase, reactor
from tests.support.rabbitmq import free_port, require_rabbitmq

BLOCKING = """
import time

from txmicro import Worker


class Blocking(Worker):
    type = "Blocking"

    def startService(self):
        super().startService()
        self.reactor.callLater(1, time.sleep, 60)
"""


class HealthTests(ProgramTestCase):
    """The health pages of real processes."""

    async def ask(self, port: int, page: str) -> tuple[int, Any]:
        answer = await treq.get(f"http://127.0.0.1:{port}/health/{page}", persistent=False)
        return answer.code, await answer.json()

    async def until(self, port: int, ready: int) -> Any:
        """Wait until the status of ``/health/ready`` is *ready*, and return the answer.

        The process must be live all the time.
        """
        deadline = reactor.seconds() + PATIENCE
        while True:
            self.assertEqual(await self.ask(port, "live"), (200, {"status": "live", "problems": []}))
            status, answer = await self.ask(port, "ready")
            if status == ready:
                return answer
            if reactor.seconds() > deadline:
                self.fail(f"/health/ready is {status}, not {ready}: {answer}")
            await deferLater(reactor, 0.05)

    async def test_a_worker_whose_broker_is_killed_and_restarted(self) -> None:
        broker_port, of_broker, of_worker = free_port(), free_port(), free_port()
        self.settings |= {
            "TXMICRO_BROKER_URL": f"amqp://127.0.0.1:{broker_port}",
            "TXMICRO_BROKER_LISTEN_PORT": str(broker_port),
        }
        worker = self.twistd("txmicro-worker --type WD", TXMICRO_WORKER_METRICS_PORT=str(of_worker))
        await worker.says("the metrics page is")
        for _ in range(2):
            answer = await self.until(of_worker, ready=503)
            self.assertIn(
                {"part": "bus", "problem": "there is no connection to the broker"}, answer["problems"]
            )
            broker = self.twistd("txmicro-broker", TXMICRO_WORKER_METRICS_PORT=str(of_broker))
            await broker.says("the metrics page is")
            await self.until(of_broker, ready=200)
            answer = await self.until(of_worker, ready=200)
            self.assertEqual(answer, {"status": "ready", "problems": []})
            await broker.kill()

    async def test_all_in_one_process(self) -> None:
        port = free_port()
        process = self.twistd(
            "txmicro",
            TXMICRO_METRICS_PORT=str(port),
            TXMICRO_REST_PORT="0",
            TXMICRO_BROKER_LISTEN_PORT="0",
        )
        await process.says("the metrics page is")
        await self.until(port, ready=200)
        answer = await treq.get(f"http://127.0.0.1:{port}/sd", persistent=False)
        self.assertEqual(
            await answer.json(),
            [{"targets": [f"127.0.0.1:{port}"], "labels": {"worker_type": "SystemManager,WA,WB,WC,WD"}}],
        )

    async def test_a_worker_whose_rabbitmq_is_killed_and_comes_back(self) -> None:
        """The worker has no durable queue: RabbitMQ loses one that it is killed within half a second after."""
        rabbit = await require_rabbitmq()
        port = free_port()
        self.settings |= {"TXMICRO_BROKER_URL": rabbit.url, "TXMICRO_REST_PORT": "0"}
        worker = self.twistd("txmicro-worker --type WA", TXMICRO_WORKER_METRICS_PORT=str(port))
        await worker.says("the metrics page is")
        await self.until(port, ready=200)
        rabbit.kill()
        await self.until(port, ready=503)
        await rabbit.start()
        await self.until(port, ready=200)

    async def test_a_process_whose_reactor_is_blocked_does_not_answer(self) -> None:
        port = free_port()
        (self.directory / "blocking.py").write_text(BLOCKING)
        worker = self.twistd(
            "txmicro-worker --class blocking:Blocking", TXMICRO_WORKER_METRICS_PORT=str(port)
        )
        await worker.says("the metrics page is")
        await self.ask(port, "live")
        await worker.says("the event loop has been blocked")
        answer = treq.get(f"http://127.0.0.1:{port}/health/live", persistent=False, timeout=1)
        await self.assertFailure(answer, CancelledError, ResponseNeverReceived)


class ContainerTests(ProgramTestCase):
    """The health checks of the image and of etc/compose.yaml, with the image's settings."""

    port: str

    async def check(self, code: str) -> int:
        """Run the Python of a health check; return its status. The port is this test's."""
        self.assertIn(":9091/", code)
        arguments = ["-c", code.replace("9091", self.port)]
        return int((await getProcessOutputAndValue(sys.executable, arguments))[2])

    async def test_live_and_ready(self) -> None:
        self.port, broker = str(free_port()), free_port()
        dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
        (command,) = re.findall(r'\["python", .*\]', dockerfile)
        live = json.loads(command)[2]
        compose = (ROOT / "etc" / "compose.yaml").read_text("utf-8")
        (ready,) = re.findall(r"- (from urllib.*)", compose)
        settings = dict(
            re.findall(r"(TXMICRO_\w+)=(\S+)", dockerfile.partition("ENV ")[2].partition("RUN")[0])
        )
        self.assertEqual(settings.pop("TXMICRO_METRICS_INTERFACE"), "0.0.0.0")
        self.assertEqual(set(settings.values()), {"9091"})
        self.settings |= dict.fromkeys(settings, self.port)
        self.settings |= {
            "TXMICRO_METRICS_INTERFACE": "0.0.0.0",
            "TXMICRO_BROKER_URL": f"amqp://127.0.0.1:{broker}",
            "TXMICRO_BROKER_LISTEN_PORT": str(broker),
        }
        self.assertEqual(await self.check(live), 1)
        worker = self.twistd("txmicro-worker --type WD")
        await worker.says("the metrics page is")
        self.assertEqual([await self.check(code) for code in (live, ready)], [0, 1])
        self.twistd("txmicro-broker", TXMICRO_WORKER_METRICS_PORT="0")
        await worker.says("is ready")
        self.assertEqual([await self.check(code) for code in (live, ready)], [0, 0])
