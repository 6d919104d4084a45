"""``txmicro queues``: the queues of durable jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TextIO

from twisted.python.usage import UsageError

from txmicro.amqp.connection import Connection
from txmicro.operations.unused_queues import remove_unused
from txmicro.receiving.retry import STEPS, RetryPolicy

from .options import CommandGroup, TypeCommand, write


def _steps(text: str) -> tuple[float, ...]:
    try:
        return RetryPolicy(steps=tuple(map(float, text.split(",")))).steps
    except ValueError as error:
        raise UsageError(f"--steps: {text!r} is not valid; expected seconds, such as 1,5,30,120") from error


class PruneQueues(TypeCommand):
    """``txmicro queues prune``."""

    longdesc = (
        "Removes the durable queues of a worker type, unless a queue holds a job or a dead letter, or a worker of the "
        "type is connected. Then nothing is removed, and the status is 1."
    )
    optParameters = [
        [
            "steps",
            None,
            ",".join(f"{step:g}" for step in STEPS),
            "Seconds between attempts, as in the RetryPolicy of the type, with commas between them.",
        ],
    ]

    def postOptions(self) -> None:
        """Convert the steps to numbers; raise UsageError if they are wrong."""
        self["steps"] = _steps(self["steps"])

    async def work(self, client: Connection, clock: Any, time: Callable[[], float], out: TextIO) -> None:
        """Remove the queues, and write their names."""
        removed = await remove_unused(client, self["type"], self["steps"], clock)
        for name in removed:
            write(f"removed {name}", out)
        if not removed:
            write(f"{self['type']} has no durable queues", out)


class QueuesOptions(CommandGroup):
    """``txmicro queues``."""

    subCommands = [
        ["prune", None, PruneQueues, "Remove the durable queues of a worker type that is no longer used."]
    ]
