"""``txmicro queues``: the queues of durable jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import click

from txmicro.amqp.connection import Connection
from txmicro.operations.unused_queues import remove_unused
from txmicro.receiving.retry import STEPS, RetryPolicy

from .options import CONFIG, JSON, TYPE, Value, command, group
from .output import write, write_json
from .task import ConnectedTask, Context


def _steps(text: str) -> tuple[float, ...]:
    return RetryPolicy(steps=tuple(map(float, text.split(",")))).steps


@dataclass(kw_only=True)
class PruneQueues(ConnectedTask):
    """``txmicro queues prune``."""

    kind: str
    steps: tuple[float, ...]
    as_json: bool = False

    async def work(self, client: Connection, context: Context) -> None:
        """Remove the queues, and write their names."""
        removed = await remove_unused(client, self.kind, self.steps, context.reactor)
        if self.as_json:
            write_json({"type": self.kind, "removed": removed}, context.out)
            return
        for name in removed:
            write(f"removed {name}", context.out)
        if not removed:
            write(f"{self.kind} has no durable queues", context.out)


_STEPS: Final = click.Option(
    ["--steps"],
    type=Value("SECONDS,…", _steps, "seconds, such as 1,5,30,120"),
    default=",".join(f"{step:g}" for step in STEPS),
    help="Seconds between attempts, as in the RetryPolicy of the type, with commas between them.",
)

QUEUES: Final = group(
    "queues",
    "Remove queues of durable jobs that are no longer used.",
    [
        command(
            "prune",
            PruneQueues,
            "Remove the durable queues of a worker type, unless a queue holds a job or a dead letter, or a worker of "
            "the type is connected. Then nothing is removed, and the status is 1.",
            TYPE,
            _STEPS,
            JSON,
            CONFIG,
            short="Remove the durable queues of a worker type that is no longer used.",
        )
    ],
)
