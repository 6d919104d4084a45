"""Tests a daemon whose handlers block all threads of its worker."""

from __future__ import annotations

import json

from twisted.internet.defer import gatherResults

from tests.support.programs import Program, ProgramTestCase
from tests.support.rabbitmq import free_port

MODULE = """
import os, time
from txmicro.worker import Worker

class Waits(Worker):
    type = "WT"
    threads = True

    def opened(self):
        self.reactor.callLater(0.3, self.begin)

    def begin(self):
        for number in range(12):
            self.send("WT:*", number).when_done().addBoth(self.tell)

    def do_job(self, job):
        self.log.warn(f"job {job.data} runs")
        while not os.path.exists("go"):
            time.sleep(0.05)
        return job.data

    def tell(self, result):
        self.log.warn(f"a job ended: {result}")
"""


class BlockedThreadsTests(ProgramTestCase):
    async def test_handlers_that_block_all_threads_do_not_prevent_a_reconnect(self) -> None:
        (self.directory / "waits.py").write_text(MODULE)
        config = {"worker_types": {"WT": "waits:Waits"}, "worker_metrics_port": 0}
        (self.directory / "waits.json").write_text(json.dumps(config))
        port = str(free_port())
        broker = await self.start_broker(port)
        worker = self.twistd(
            "txmicro-worker --config waits.json --type WT", TXMICRO_BROKER_URL=f"amqp://localhost:{port}"
        )
        await gatherResults([worker.says(f"job {number} runs") for number in range(12)])
        await broker.kill()
        worker.output = ""
        await self.start_broker(port)
        await worker.says("connected to")
        self.assertNotIn("a job ended", worker.output)
        (self.directory / "go").touch()
        await gatherResults([worker.says(f"a job ended: {number}\n") for number in range(12)])

    async def start_broker(self, port: str) -> Program:
        broker = self.twistd("txmicro-broker", TXMICRO_BROKER_LISTEN_PORT=port)
        await broker.says("listens on")
        return broker
