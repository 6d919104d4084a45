"""The job that runs here: in coroutines, ``inlineCallbacks`` functions, plain functions, threads and tasks."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread
from twisted.trial.unittest import TestCase

from tests.support.programs import reactor
from txmicro.protocol.job import Job
from txmicro.receiving.running_job import current
from txmicro.testing import running
from txmicro.worker import Worker

Seen = list[tuple[str, int | None] | None]


def here() -> tuple[str, int | None] | None:
    job = current()
    return None if job is None else (job.id, job.hop)


class RunningJobTests(TestCase):
    timeout = 30.0

    async def seen(self, handler: Callable[[Job], Any], *, threads: bool = False) -> None:
        """Run two jobs at once. Check that the handler sees its own job, and nobody sees one afterwards."""
        worker = Worker("WB", do_job=handler)
        worker.threads = threads
        async with running(worker) as sender:
            jobs = [sender.send("WB:*") for _ in range(2)]
            results = await gatherResults([job.when_done() for job in jobs])
            for job, seen in zip(jobs, results, strict=True):
                self.assertTrue(seen)
                self.assertEqual([tuple(each) for each in seen], [(job.id, 0)] * len(seen))
        self.assertIsNone(current())

    async def test_a_coroutine(self) -> None:
        async def deeper() -> Any:
            await deferLater(reactor, 0)
            return here()

        async def handle(job: Job) -> Seen:
            before = here()
            await deferLater(reactor, 0)
            return [before, here(), await deeper()]

        await self.seen(handle)

    async def test_an_inline_callbacks_function(self) -> None:
        @inlineCallbacks
        def handle(job: Job) -> Generator[Any, Any, Seen]:
            before = here()
            yield deferLater(reactor, 0)
            return [before, here()]

        await self.seen(handle)

    async def test_a_plain_function(self) -> None:
        await self.seen(lambda job: [here()])

    async def test_a_handler_in_a_thread(self) -> None:
        def handle(job: Job) -> Seen:
            before = here()
            blockingCallFromThread(reactor, lambda: None)
            return [before, here()]

        await self.seen(handle, threads=True)

    async def test_a_call_in_a_thread(self) -> None:
        async def handle(job: Job) -> Seen:
            return [await worker.in_thread(here), here()]

        worker = Worker("WB", do_job=handle)
        async with running(worker) as sender:
            job = sender.send("WB:*")
            self.assertEqual(await job, [[job.id, 0]] * 2)

    async def test_a_handler_that_fails_leaves_no_job_behind(self) -> None:
        def fail(job: Job) -> None:
            raise RuntimeError(str(here()))

        async with running(Worker("WB", do_job=fail)) as sender:
            job = sender.send("WB:*")
            error = await job.when_done().addCallbacks(str, str)
            self.assertIn(job.id, error)
        self.assertIsNone(current())
        self.flushLoggedErrors()

    async def test_a_task_that_outlives_the_handler_keeps_its_job(self) -> None:
        tasks: list[Deferred[Any]] = []
        go: Deferred[None] = Deferred()

        async def task() -> Any:
            await go
            return here()

        async def handle(job: Job) -> None:
            tasks.append(Deferred.fromCoroutine(task()))

        async with running(Worker("WB", do_job=handle)) as sender:
            job = sender.send("WB:*")
            await job
            go.callback(None)
            self.assertEqual(await tasks[0], (job.id, 0))
