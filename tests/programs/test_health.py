from __future__ import annotations

from typing import Any

import treq
from twisted.internet.task import deferLater

from tests.support.programs import PATIENCE, ProgramTestCase, reactor
from tests.support.rabbitmq import free_port


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

    async def test_a_worker_whose_broker_is_killed_and_comes_back(self) -> None:
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
