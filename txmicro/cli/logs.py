"""``txmicro logs``: the log lines of all workers, from files and from the bus."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import click
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from txmicro.log_format import text_format
from txmicro.protocol.address import parse_id
from txmicro.util.log_levels import LEVELS

from .client import on_bus
from .log_entries import LogEntry, Selection, from_fields
from .log_files import LogFileUnreadable, read_files
from .options import CONFIG, TYPE_VALUE, Value, command, whole_number
from .output import write
from .task import Context, Task

_AT_ONCE: Final = 1_000
"""Lines that are read in one turn of the reactor, so that the connection answers heartbeats meanwhile."""

_KNOWN: Final = 10_000
"""Lines of files that are remembered, to leave them out when they come from the bus, too."""

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_AGE: Final = re.compile(r"(\d{1,6})([smhd])")


@dataclass(kw_only=True)
class ShowLogs(Task):
    """``txmicro logs``.

    :ivar files: the log files; empty: the configured one.
    :ivar since: seconds before now, or a moment; None: from the beginning.
    :ivar last: the most lines of files; 0: all.
    """

    files: Sequence[str]
    job: str | None
    worker: str | None
    kind: str | None
    level: str
    since: float | datetime | None
    last: int
    follow: bool
    as_json: bool
    config: str | None = None
    _stop: Deferred[None] = field(default_factory=Deferred)

    async def run(self, context: Context) -> None:
        """Write the lines of the files, and with ``--follow`` those of the bus until it is interrupted."""
        config = context.load(self.config)
        self._selection = Selection(
            job=self.job, worker=self.worker, kind=self.kind, level=self.level, since=self._earliest(context)
        )
        color = context.out.isatty() and not context.environ.get("NO_COLOR")
        self._render = text_format(color)
        self._known: deque[tuple[int, str, str]] = deque(maxlen=_KNOWN)
        if not self.follow:
            await self._write_files(config.log_file, context)
            return
        async with on_bus(context, config) as client:
            live = _Live()
            for topic in self._selection.topics:
                await client.subscribe(topic, live.heard)
            if self.files or os.path.exists(config.log_file):
                await self._write_files(config.log_file, context)
            live.write = lambda entry: self._write_live(entry, context)
            live.flush()
            await self._stop

    def interrupt(self) -> bool:
        """End ``--follow``; the command is then done."""
        if not self.follow:
            return False
        if not self._stop.called:
            self._stop.callback(None)
        return True

    def _earliest(self, context: Context) -> float:
        if isinstance(self.since, datetime):
            return self.since.timestamp()
        return 0.0 if self.since is None else context.time() - self.since

    async def _write_files(self, configured: str, context: Context) -> None:
        if not (self.files or os.path.exists(configured)):
            raise LogFileUnreadable(
                f"log_file: {configured} does not exist; run a logger worker, which writes it, name the log files of "
                "daemons, or use --follow to read the bus"
            )
        for entry in await self._read(self.files or [configured], context):
            self._write(entry, context)

    async def _read(self, paths: Sequence[str], context: Context) -> Iterable[LogEntry]:
        """Return the last entries of files; without ``--last`` write them as they are read, and return none."""
        kept: deque[LogEntry] = deque(maxlen=self.last or None)

        def warn(text: str) -> None:
            write(f"txmicro: {text}", context.err)

        for number, entry in enumerate(read_files(paths, self._selection.since, warn)):
            if self._selection.wants(entry):
                if self.last:
                    kept.append(entry)
                else:
                    self._write(entry, context)
            if number % _AT_ONCE == _AT_ONCE - 1:
                await deferLater(context.reactor, 0)
        return kept

    def _write(self, entry: LogEntry, context: Context) -> None:
        self._known.append(_identity(entry))
        print(entry.json() if self.as_json else self._render(entry.line).rstrip("\n"), file=context.out)

    def _write_live(self, entry: LogEntry, context: Context) -> None:
        if self._selection.wants(entry) and _identity(entry) not in self._known:
            self._write(entry, context)
            context.out.flush()


def _identity(entry: LogEntry) -> tuple[int, str, str]:
    """Return what is the same of a line in the logger's file and in its event."""
    return int(entry.line.time * 1000), entry.line.worker, entry.line.message


class _Live:
    """The lines of the bus. Those that come before :attr:`write` is set are kept."""

    def __init__(self) -> None:
        self.write: Any = None
        self._early: list[LogEntry] = []

    def heard(self, _topic: str, body: Any) -> None:
        """Take an event of the bus; one that is not a log line is ignored."""
        entry = from_fields(body) if isinstance(body, dict) else None
        if entry is None:
            return
        if self.write is None:
            self._early.append(entry)
        else:
            self.write(entry)

    def flush(self) -> None:
        """Write what has come before."""
        early, self._early = self._early, []
        for entry in early:
            self.write(entry)


def _since(text: str) -> float | datetime:
    if found := _AGE.fullmatch(text):
        return int(found[1]) * _UNITS[found[2]]
    return datetime.fromisoformat(text)


def _level(text: str) -> str:
    if text.lower() not in LEVELS:
        raise ValueError
    return text.lower()


def _worker(text: str) -> str:
    return str(parse_id(text))


LOGS: Final = command(
    "logs",
    ShowLogs,
    "Show the log lines of all workers. They are read from the file log_file, which a logger worker writes, or from "
    "FILE…, in text or JSON. Rotated and compressed files are read, too. With --follow the lines of the bus are shown, "
    "until the command is interrupted; files are then read before, where there are any.",
    click.Argument(["files"], nargs=-1, metavar="[FILE]...", type=click.Path()),
    click.Option(["--job"], metavar="ID", help="Lines of this job, of all its hops and workers."),
    click.Option(["--worker"], type=Value("ID", _worker, "a worker's id"), help="Lines of this worker."),
    click.Option(["--type", "kind"], type=TYPE_VALUE, help="Lines of workers of this type."),
    click.Option(
        ["--level"],
        type=Value("LEVEL", _level, f"one of {', '.join(LEVELS)}"),
        default="debug",
        help=f"Lines of this level and above: {', '.join(LEVELS)}.",
    ),
    click.Option(
        ["--since"],
        type=Value("TIME", _since, "an age, such as 30s, 10m, 2h or 1d, or a time, such as 2026-11-24T16:30"),
        help="Lines from this time on: an age, such as 30s, 10m, 2h or 1d, or a local time, such as 2026-11-24T16:30.",
    ),
    click.Option(
        ["--last"], type=whole_number(0, 999_999_999), default="0", help="The last N lines of files; 0: all."
    ),
    click.Option(
        ["--follow", "-f"],
        is_flag=True,
        help="Show the lines of the bus, too, as they come.",
        show_default=False,
    ),
    click.Option(
        ["--json", "as_json"], is_flag=True, help="Write one JSON object for each line.", show_default=False
    ),
    CONFIG,
    short="Show the log lines of all workers.",
)
