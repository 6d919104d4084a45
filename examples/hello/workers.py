"""A worker that greets."""

from __future__ import annotations

from txmicro import Job, Worker


class Greeter(Worker):
    """A worker that takes ``{"name": …}`` and returns a greeting."""

    type = "Greeter"

    async def do_job(self, job: Job) -> str:
        """Return the greeting: it is the job's result."""
        return f"Hello, {job.data['name']}!"
