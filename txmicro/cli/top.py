"""``txmicro top``: the worker types and their load, live."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import click
from rich.console import Console, ConsoleOptions, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from txmicro.util.text import printable

from .figures import show_count, show_rate, show_seconds, show_time
from .options import CONFIG, JSON, command, seconds
from .output import write, write_json, write_table
from .page_client import PAGE, TOKEN, PageClient, PageTask, PageUnreachable
from .task import Context

_HEADER: Final = (
    "TYPE",
    "WORKERS",
    "RUNNING",
    "JOBS/S",
    "ERRORS/S",
    "WAIT P50",
    "WAIT P99",
    "RUN P50",
    "RUN P99",
    "QUEUED",
    "OLDEST",
    "DEAD",
)

_LEAST_NEEDED: Final = ("RUN P50", "WAIT P50", "OLDEST", "RUNNING", "RUN P99", "DEAD", "WAIT P99", "WORKERS")
"""The columns that are left out on a narrow terminal, in this order."""

_GAP: Final = 2
"""Blanks between two columns."""


def _value(*path: str) -> Callable[[dict[str, Any]], float]:
    def read(summary: dict[str, Any]) -> float:
        found: Any = summary
        for name in path:
            found = found[name]
        return found or 0.0

    return read


_ORDERS: Final[dict[str, Callable[[dict[str, Any]], float]]] = {
    "jobs": _value("jobs_per_second"),
    "errors": _value("errors_per_second"),
    "wait": _value("wait", "p99"),
    "run": _value("run", "p99"),
    "queued": lambda summary: _queued(summary) or 0,
    "dead": _value("queues", "dead", "jobs"),
    "type": lambda _: 0,
}


@dataclass(kw_only=True)
class Top(PageTask):
    """``txmicro top``.

    :ivar once: whether to write the numbers of now, and end. :ivar interval: seconds between two pictures.
    """

    once: bool = False
    interval: float = 1.0
    sort: str = "type"
    as_json: bool = False
    _pausing: Deferred[None] | None = field(default=None, init=False)

    async def ask(self, page: PageClient, context: Context) -> None:
        """Show the numbers until the command is interrupted; once if the output is not a terminal."""
        if self.as_json:
            write_json(await page.get("/api/overview"), context.out)
        elif self.once or not _has_screen(Console(file=context.out)):
            self._write(await page.get("/api/overview"), context)
        else:
            await self._watch(page, context)

    def interrupt(self) -> bool:
        """End the pause between two pictures, and the command."""
        if self._pausing is None:
            return False
        self._pausing.cancel()
        return True

    def _write(self, overview: dict[str, Any], context: Context) -> None:
        types = self._sorted(overview)
        write(_summary(overview), context.out)
        if context.out.isatty():
            Console(file=context.out).print(_Types(types))
        else:
            write_table(_HEADER, map(_row, types), context.out)

    async def _watch(self, page: PageClient, context: Context) -> None:
        overview = await page.get("/api/overview")  # an error of the first request ends the command
        with _screen(context) as screen:
            while True:
                screen.update(self._picture(overview, ""), refresh=True)
                if not await self._pause(context.reactor):
                    return
                try:
                    overview = await page.get("/api/overview")
                except PageUnreachable as error:
                    screen.update(self._picture(overview, str(error)), refresh=True)

    async def _pause(self, reactor: Any) -> bool:
        """Return False if the pause was interrupted."""
        self._pausing = deferLater(reactor, self.interval)
        try:
            await self._pausing
        except CancelledError:
            return False
        self._pausing = None
        return True

    def _picture(self, overview: dict[str, Any], problem: str) -> Group:
        types = self._sorted(overview)
        return Group(
            Text(printable(_summary(overview))),
            Text(""),
            _Types(types),
            Text(""),
            Text(printable(problem), style="bold red") if problem else Text("Ctrl-C ends", style="dim"),
        )

    def _sorted(self, overview: dict[str, Any]) -> list[dict[str, Any]]:
        order = _ORDERS[self.sort]
        return sorted(overview["types"], key=lambda summary: (-order(summary), summary["type"]))


def _has_screen(console: Console) -> bool:
    """Return whether *console* is a terminal on which text can be replaced."""
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def _screen(context: Context) -> Iterator[Live]:
    """Give the whole terminal, which is as before on exit. rich's own refreshing would run in a thread."""
    console = Console(file=context.out)
    with Live(
        console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
    ) as live:
        yield live


class _Types:
    """A table of worker types, with as many columns as the console has room for."""

    def __init__(self, types: Sequence[dict[str, Any]]) -> None:
        self._types = types

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> Iterator[Table]:
        rows = [dict(zip(_HEADER, map(printable, _row(summary)), strict=True)) for summary in self._types]
        names = _fitting(rows, options.max_width)
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        for name in names:
            table.add_column(name, justify="left" if name == _HEADER[0] else "right", no_wrap=True)
        for summary, row in zip(self._types, rows, strict=True):
            table.add_row(*(Text(row[name]) for name in names), style=_style(summary))
        yield table


def _fitting(rows: Sequence[dict[str, str]], width: int) -> list[str]:
    """Return the columns that *width* has room for."""
    names = list(_HEADER)
    for unneeded in _LEAST_NEEDED:
        if sum(max(len(name), *(len(row[name]) for row in rows), 0) + _GAP for name in names) <= width:
            break
        names.remove(unneeded)
    return names


def _style(summary: dict[str, Any]) -> str:
    """Return the color of a row: red without workers for what waits, yellow with errors or suspect workers."""
    if not summary["workers"] and _queued(summary):
        return "bold red"
    return "yellow" if summary["errors_per_second"] or summary["suspect"] else ""


def _summary(overview: dict[str, Any]) -> str:
    types = overview["types"]
    rate = sum(summary["jobs_per_second"] or 0.0 for summary in types)
    errors = sum(summary["errors_per_second"] or 0.0 for summary in types)
    bus = overview["bus"]
    state = "" if bus["connected"] else f"; the bus is not connected: {bus['obstacle']}"
    return (
        f"{show_time(overview['time'])}  {_plural(overview['workers'], 'worker')} of {_plural(len(types), 'type')}, "
        f"{show_rate(rate)} jobs/s, {show_rate(errors)} errors/s{state}"
    )


def _plural(number: int, one: str) -> str:
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"


def _queued(summary: dict[str, Any]) -> int | None:
    known = [
        jobs
        for queue in ("interactive", "durable", "quarantine")
        if (jobs := summary["queues"][queue]["jobs"]) is not None
    ]
    return sum(known) if known else None


def _oldest(summary: dict[str, Any]) -> float | None:
    known = [
        age
        for queue in ("interactive", "durable", "quarantine")
        if (age := summary["queues"][queue]["oldest"]) is not None and summary["queues"][queue]["jobs"]
    ]
    return max(known, default=None)


def _row(summary: dict[str, Any]) -> Sequence[str]:
    suspect = f" ({summary['suspect']} suspect)" if summary["suspect"] else ""
    return (
        summary["type"],
        f"{summary['workers']:,}{suspect}",
        f"{show_count(summary['running'])}/{summary['capacity']:,}",
        show_rate(summary["jobs_per_second"]),
        show_rate(summary["errors_per_second"]),
        show_seconds(summary["wait"]["p50"]),
        show_seconds(summary["wait"]["p99"]),
        show_seconds(summary["run"]["p50"]),
        show_seconds(summary["run"]["p99"]),
        show_count(_queued(summary)),
        show_seconds(_oldest(summary)),
        show_count(summary["queues"]["dead"]["jobs"]),
    )


TOP: Final = command(
    "top",
    Top,
    "Show the worker types and their load, live: jobs and errors per second, how long jobs wait and run, what is "
    "queued and how old that is, and dead letters. Without a terminal, the numbers of now are written once. "
    "Ctrl-C ends the command.",
    click.Option(["--once"], is_flag=True, help="Write the numbers of now, and end.", show_default=False),
    click.Option(["--interval"], type=seconds(3600), default="1", help="Seconds between two pictures."),
    click.Option(
        ["--sort"],
        type=click.Choice(list(_ORDERS)),
        default="type",
        help="What the types are sorted by, the most first.",
    ),
    JSON,
    PAGE,
    TOKEN,
    CONFIG,
    short="Show worker types and their load, live.",
)
