"""The worker of which the benches have many: it echoes."""

from __future__ import annotations

from typing import Any

from txmicro import Job, Worker


class Echo(Worker):
    """Echoes; of any type."""

    type = "Echo"

    async def do_job(self, job: Job) -> Any:
        """What it does."""
        return job.data
