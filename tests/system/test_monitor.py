"""The monitor of a SystemManager: it sees jobs as they happened, and the numbers of all workers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.support.system import SystemTestCase
from txmicro.errors import JobError
from txmicro.manager import SystemManager
from txmicro.monitoring.records import Record
from txmicro.page.monitor import Monitor
from txmicro.protocol.job import Job
from txmicro.worker import Worker

WATCHED = 3.0
"""Seconds after which all workers have heard a watch, and what happened before is reported."""


class ListMemory:
    """Remembers all records, in a list."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def __len__(self) -> int:
        return len({record.job for record in self.records})

    def add(self, records: Iterable[Record]) -> None:
        self.records += records

    def life(self, job: str) -> list[tuple[Any, ...]]:
        """Return what happened to *job*, without times, in the order of hops and attempts."""
        found = [record for record in self.records if record.job == job]
        return [
            (each.kind, each.hop, each.address, each.worker.partition(":")[0], each.attempt, each.outcome)
            for each in found
        ]


class OutOfStock(JobError):
    """There is none left."""

    retryable = True


async def echo(job: Job) -> Any:
    return job.data


async def refuse(job: Job) -> Any:
    raise OutOfStock(f"no {job.data} left")


class MonitorCase(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(self.clock, "rightNow", 1_795_449_588.0)
        self.memory = ListMemory()
        self.manager = SystemManager()
        self.monitor = Monitor(self.manager, self.memory)
        bus = self.process(self.manager)
        self.monitor.setServiceParent(bus)
        self.advance(0.1)

    def watched(self, *workers: Worker) -> None:
        """Start processes with *workers*, and have them watched."""
        for worker in workers:
            self.process(worker)
        self.advance(WATCHED)


class LifeTests(MonitorCase):
    def test_a_job_is_seen_from_its_send_to_its_end(self) -> None:
        client, worker = Worker("CLIENT"), Worker("WB", echo)
        self.watched(client, worker)
        job = client.send("WB:*", 1)
        self.assertEqual(self.result(job.when_done()), 1)
        self.advance(2)
        self.assertCountEqual(
            self.memory.life(job.id),
            [
                ("sent", 0, "WB:*", "CLIENT", 1, ""),
                ("ran", 0, "WB:*", "WB", 1, "succeeded"),
                ("ended", 0, "WB:*", "CLIENT", 0, "succeeded"),
            ],
        )
        self.assertEqual(self.monitor.overview()["remembered_jobs"], 1)
