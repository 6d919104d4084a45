from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from txmicro.errors import JobError
from txmicro.protocol.job import Job
from txmicro.testing import running
from txmicro.worker import Worker


class Short(JobError):
    """A user's error with fields."""

    def __init__(self, sku: str, missing: int) -> None:
        super().__init__(f"{missing} of {sku} are missing")
        self.sku = sku
        self.missing = missing


class FieldTests(TestCase):
    async def check(self, **options: Any) -> None:
        async def fail(job: Job) -> None:
            raise Short("A-1", job.data)

        async with running(Worker("Stock", do_job=fail)) as bus:
            with self.assertRaises(Short) as raised:
                await bus.send("Stock:*", 3, **options)
        error = raised.exception
        self.assertEqual((error.sku, error.missing), ("A-1", 3))
        self.assertEqual(error.message, "3 of A-1 are missing")

    async def test_the_fields_of_an_error_arrive_at_the_sender(self) -> None:
        await self.check()

    async def test_the_fields_of_an_error_arrive_at_the_sender_of_a_durable_job(self) -> None:
        await self.check(durable=True)
