"""The worker that the benchmarks run many of: it returns its data."""

from __future__ import annotations

from typing import Any

from txmicro import Job, Worker


class Echo(Worker):
    """Returns a job's data; any type can be given to it."""

    type = "Echo"

    async def do_job(self, job: Job) -> Any:
        """Return the job's data."""
        return job.data
