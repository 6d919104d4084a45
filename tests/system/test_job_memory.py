"""The memory of jobs: what real workers report becomes lives of jobs, and groups of their failures."""

from __future__ import annotations

from typing import Any

from tests.system.test_monitor import MonitorCase, OutOfStock, echo
from txmicro.page.memory import reading
from txmicro.page.memory.cleaning import clean
from txmicro.page.memory.files import open_file
from txmicro.page.memory.queries import FailureQuery, JobQuery
from txmicro.page.memory.writing import Writer
from txmicro.protocol import topology
from txmicro.protocol.job import Forward, Job
from txmicro.receiving.retry import RetryPolicy
from txmicro.worker import Worker


async def pass_on(job: Job) -> Forward:
    return Forward("WC:*", job.data)


async def refuse(job: Job) -> Any:
    raise OutOfStock(f"no {job.data} left on shelf {len(str(job.data))}")


class JobMemoryTests(MonitorCase):
    def setUp(self) -> None:
        super().setUp()
        self.client = Worker("CLIENT")
        worker = Worker("WB", refuse)
        worker.retry = RetryPolicy(attempts=2, steps=(1.0,))
        self.watched(self.client, Worker("WA", pass_on), worker, Worker("WC", echo))
        self.file = open_file("")
        self.addCleanup(self.file.close)

    def remember(self) -> None:
        """Write what was heard, the last record first."""
        writer = Writer(self.file.connection, 100)
        for record in reversed(self.memory.records):
            writer.write(clean([record], self.now), self.now)

    def life(self, id: str) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
        job = reading.job(self.file.connection, id)
        assert job is not None
        steps = job.pop("steps")
        return job, [(each["kind"], each["hop"], each["attempt"], each["outcome"]) for each in steps]

    def test_a_job_of_several_hops(self) -> None:
        sent = self.client.send("WA:*", 1)
        self.assertEqual(self.result(sent.when_done(), 2), 1)
        self.advance(2)
        self.remember()
        job, steps = self.life(sent.id)
        self.assertEqual(
            steps,
            [
                ("sent", 0, 1, ""),
                ("ran", 0, 1, "forwarded"),
                ("sent", 1, 1, ""),
                ("ran", 1, 1, "succeeded"),
                ("ended", 0, 0, "succeeded"),
            ],
        )
        self.assertEqual(
            (job["type"], job["hops"], job["outcome"], job["lane"]), ("WA", 2, "succeeded", "interactive")
        )
        self.assertEqual((job["sender"][:7], job["worker"][:3]), ("CLIENT:", "WC:"))
        for kind in ("WA", "WC"):
            [found] = reading.jobs(self.file.connection, JobQuery(type=kind))["jobs"]
            self.assertEqual(found["id"], sent.id)

    def test_dead_letters_are_found_from_their_group_of_failures(self) -> None:
        sent = [self.client.send("WB:*", data, durable=True) for data in ("tea", "tea", "rum")]
        for future in sent:
            self.error(future.when_done(), OutOfStock, 5)
        self.advance(2)
        self.remember()
        job, steps = self.life(sent[0].id)
        self.assertEqual((job["outcome"], job["lane"], job["error"]), ("dead", "durable", "OutOfStock"))
        self.assertEqual(
            steps,
            [
                ("sent", 0, 1, ""),
                ("ran", 0, 1, "retried"),
                ("ran", 0, 2, "dead"),
                ("dead", 0, 2, ""),
                ("ended", 0, 0, "failed"),
            ],
        )
        groups = reading.failures(self.file.connection, FailureQuery())["groups"]
        self.assertEqual(
            {group["message"]: (group["type"], group["count"], group["dead"]) for group in groups},
            {"no tea left on shelf #": ("WB", 2, 2), "no rum left on shelf #": ("WB", 1, 1)},
        )
        keys = [reading.dead_letters(self.file.connection, group["id"]) for group in groups]
        letters = self.broker.model.queues[topology.dead_queue("WB")].ready
        self.assertCountEqual(
            [key for found in keys if found for key in found.keys],
            [str(letter.properties.message_id) for letter in letters],
        )
