"""The memory of jobs in processes that are killed, and in two that use one file."""

from __future__ import annotations

from tests.support.programs import ProgramTestCase, reactor
from txmicro.page.memory.memory import JobMemory
from txmicro.page.memory.queries import JobQuery

WRITER = """
import sys, time
from twisted.internet import reactor
from twisted.internet.task import LoopingCall
from txmicro.monitoring.records import SENT, Record
from txmicro.page.memory import memory

memory.INTERVAL = 0.02
remembering = memory.JobMemory(reactor, sys.argv[1], 1_000_000)
count = 0

def add():
    global count
    remembering.add(Record(SENT, time.time(), f"a-{count + each}") for each in range(50))
    count += 50
    print("remembered", len(remembering), flush=True)

LoopingCall(add).start(0.01)
reactor.run()
"""
"""A program that remembers jobs in the file that is its argument, without an end."""


class KilledTests(ProgramTestCase):
    async def test_a_process_that_is_killed_loses_only_what_was_not_written(self) -> None:
        path = str(self.directory / "jobs.db")
        program = self.run_program("python", "-c", WRITER, path)
        written = int((await program.says(r"remembered (\d{3,})"))[1])
        second = JobMemory(reactor, path, 1_000_000)  # while the other process has the file
        self.addCleanup(second.close)
        await second.flush()
        self.assertEqual(len(second), 0)
        await second.close()
        await program.kill()
        again = JobMemory(reactor, path, 1_000_000)
        self.addCleanup(again.close)
        page = await again.jobs(JobQuery(limit=500))
        self.assertGreaterEqual(len(again), written)
        numbers = [int(job["id"].removeprefix("a-")) for job in page["jobs"]]
        self.assertEqual(numbers, list(range(len(again) - 1, len(again) - 1 - len(numbers), -1)))
