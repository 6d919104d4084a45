"""The entries of logs: parsed from lines of files and from events of the bus, and selected."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from txmicro.log import Line, clean
from txmicro.util.json_lines import json_line
from txmicro.util.log_levels import LEVELS
from txmicro.util.text import printable

_OF_DAEMON: Final = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT[\d:.]{8,15}[+-]\d\d:\d\d) (?P<level>[a-z]+) +(?P<source>\S+) (?P<message>.*)"
)
_OF_LOGGER: Final = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT[\d:.]{8,15}Z) (?P<level>[a-z]+) +(?P<source>\S+) (?P<worker>\S*) (?P<job>\S+) "
    r"(?P<message>.*)"
)
_NAMES: Final = re.compile(
    r" \((?:job (?P<job>[^\s/]+)(?:/(?P<hop>\d{1,9}))?)?(?:, )?(?:trace (?P<trace>[0-9a-f]{32}))?\)$"
)
_YEAR_3000: Final = 32_503_680_000
_INDENT: Final = "    "


class LogEntry(NamedTuple):
    """An entry: a line, and the process that logged it. :ivar host: empty: unknown. :ivar pid: 0: unknown."""

    line: Line
    host: str = ""
    pid: int = 0

    def json(self) -> str:
        """Return the entry as one line of JSON."""
        line = self.line
        fields = {
            **line._asdict(),
            "traceback": "\n".join(line.traceback),
            "repeated": line.repeated or None,
            "host": self.host,
            "pid": self.pid or None,
        }
        return json_line(fields)


def from_fields(fields: Mapping[str, Any]) -> LogEntry | None:
    """Return the entry with these *fields*, whose ``time`` is Unix time; None: they are not those of a log line."""
    time, level, message = fields.get("time"), fields.get("level"), fields.get("message")
    if not isinstance(time, int | float) or isinstance(time, bool) or not 0 <= time < _YEAR_3000:
        return None
    if level not in LEVELS or not isinstance(message, str):
        return None
    texts = {
        name: printable(value) if isinstance(value := fields.get(name), str) else ""
        for name in ("worker", "job", "service", "trace", "error", "component", "logger", "host")
    }
    numbers = {
        name: value if type(value := fields.get(name)) is int else None for name in ("hop", "repeated", "pid")
    }
    traceback = fields.get("traceback")
    worker = texts["worker"]
    line = Line(
        time,
        level,
        worker,
        texts["job"],
        worker.partition(":")[0] or texts["service"] or texts["component"] or "-",
        clean(message),
        [printable(each) for each in traceback.split("\n")]
        if isinstance(traceback, str) and traceback
        else [],
        numbers["hop"],
        texts["trace"],
        texts["error"],
        texts["component"],
        texts["logger"],
        numbers["repeated"] or 0,
    )
    return LogEntry(line, texts["host"], numbers["pid"] or 0)


def from_line(text: str) -> LogEntry | None:
    """Return the entry of a line of a file, in any of its formats, without its traceback; None: it is not one."""
    try:
        if text.startswith("{"):
            fields = json.loads(text)
            return from_fields({**fields, "time": _seconds(fields["time"])})
        found = _OF_DAEMON.fullmatch(text) or _OF_LOGGER.fullmatch(text)
        return None if found is None else _from_match(found)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _from_match(found: re.Match[str]) -> LogEntry | None:
    fields: dict[str, Any] = {
        "service": found["source"],
        **found.groupdict(),
        "time": _seconds(found["time"]),
    }
    if "worker" not in fields:  # the source is the worker, or else a part of the program
        fields["worker"] = found["source"] if ":" in found["source"] else ""
    if fields.get("job") == "-":
        fields["job"] = ""
    names = _NAMES.search(fields["message"])
    if names is not None and (names["job"] or names["trace"]):
        hop = names["hop"]
        fields |= {"job": names["job"] or fields.get("job"), "hop": hop and int(hop), "trace": names["trace"]}
        fields["message"] = fields["message"][: names.start()]
    return from_fields(fields)


class Unread:
    """Counts the lines of a file that are not log lines. :ivar lines: how many."""

    lines = 0


def entries(lines: Iterable[str], unread: Unread) -> Iterator[LogEntry]:
    """Yield the entries of the *lines* of a file; indented lines are the traceback of the entry before them."""
    last: LogEntry | None = None
    for text in lines:
        text = text.rstrip("\n")
        if text.startswith(_INDENT) and last is not None:
            last.line.traceback.append(printable(text[len(_INDENT) :]))
            continue
        if last is not None:
            yield last
        last = from_line(text)
        if last is None and text:
            unread.lines += 1
    if last is not None:
        yield last


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The entries that are wanted. None: any.

    :ivar job: a job's id, which the entry has, or its message names. :ivar worker: a worker's id.
    :ivar kind: a worker type. :ivar level: the lowest level. :ivar since: the earliest Unix time.
    """

    job: str | None = None
    worker: str | None = None
    kind: str | None = None
    level: str = "debug"
    since: float = 0.0

    def wants(self, entry: LogEntry) -> bool:
        """Return whether *entry* is wanted."""
        line = entry.line
        return (
            line.time >= self.since
            and LEVELS.index(line.level) >= LEVELS.index(self.level)
            and self.worker in (None, line.worker)
            and self.kind in (None, line.worker.partition(":")[0])
            and (
                self.job is None
                or self.job in (line.job, line.job.partition("/")[0])
                or self.job in line.message
            )
        )

    @property
    def topics(self) -> list[str]:
        """The topics of the events that may be wanted: few, because a user of the broker needs a right for each."""
        return [f"log.{level}.#" for level in LEVELS[LEVELS.index(self.level) :]]
