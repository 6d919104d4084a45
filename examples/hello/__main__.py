"""Send one job to a greeter and print its result."""

from __future__ import annotations

from twisted.internet.task import react

from txmicro.testing import running

from .workers import Greeter


async def main(reactor: object) -> None:
    """Run the worker on a broker in memory, send it a job, and stop both."""
    async with running(Greeter()) as client:
        print(await client.send("Greeter:*", {"name": "Ada"}))


react(main)
