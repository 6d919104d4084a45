"""``txmicro workers``: who is on the bus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import click

from .client import on_bus
from .options import CONFIG, JSON, TYPE_VALUE, command, seconds
from .output import write, write_json, write_table
from .task import Context, Task

_HEADER: Final = ("ID", "STATE", "HOST", "PID", "VERSION", "CAPACITY", "STARTED", "HEARD", "METRICS")


@dataclass(kw_only=True)
class ListWorkers(Task):
    """``txmicro workers``.

    :ivar kind: the type of the workers to list; None: all types.
    :ivar timeout: how long to wait for a SystemManager, in seconds.
    """

    kind: str | None
    timeout: float
    as_json: bool
    config: str | None = None

    async def run(self, context: Context) -> None:
        """Ask the SystemManagers, and write the first answer, without this command."""
        async with on_bus(context, context.load(self.config)) as client:
            listed = await client.list_workers(self.timeout)
        workers = sorted(
            (
                each
                for each in listed
                if each["id"] != client.id and (self.kind is None or each["type"] == self.kind)
            ),
            key=lambda each: (each["type"], each["id"]),
        )
        if self.as_json:
            write_json({"total": len(workers), "workers": workers}, context.out)
        else:
            _write(workers, context)


def _write(workers: Sequence[dict[str, Any]], context: Context) -> None:
    write(f"{len(workers)} worker{'' if len(workers) == 1 else 's'}", context.out)
    if workers:
        write_table(_HEADER, map(_row, workers), context.out)


def _row(worker: dict[str, Any]) -> list[str]:
    started = worker.get("started")
    cells = (
        worker["id"],
        worker.get("state"),
        worker.get("host"),
        worker.get("pid"),
        worker.get("version"),
        worker.get("capacity"),
        _show_time(started) if started else "",
        f"{worker['age'] / 1000:.1f} s ago" if "age" in worker else "",
        worker.get("metrics"),
    )
    return [str("-" if cell in (None, "") else cell) for cell in cells]


def _show_time(milliseconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(milliseconds // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (OverflowError, ValueError, OSError):  # a worker announces any number
        return str(milliseconds)


WORKERS: Final = command(
    "workers",
    ListWorkers,
    "List the workers on the bus, as a SystemManager knows them. STARTED is in UTC. HEARD is when the worker last "
    "announced itself. A worker without a capacity runs no jobs. A worker that was killed stays in the list, unless "
    "the SystemManager's configuration has a keepalive.",
    click.Option(["--type", "kind"], type=TYPE_VALUE, help="List the workers of this type only."),
    click.Option(
        ["--timeout"],
        type=seconds(3600),
        default="5",
        help="Seconds to wait for an answer; without one the status is 1.",
    ),
    JSON,
    CONFIG,
    short="List the workers on the bus.",
)
