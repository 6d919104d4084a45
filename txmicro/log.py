"""Log events: the text of a line, and which events are logged.

Everything logs through Twisted's :class:`~twisted.logger.Logger`, with the fields ``worker`` (a worker's id) and
``job`` (a job's id) besides Twisted's. An event that a handler logs gets these fields, and ``hop`` and ``traceparent``,
from the job that it runs. ``recurring=True`` marks events that may come in large numbers
(:mod:`txmicro.daemons.log_limit`). An observer is a callable that gets events, from ``globalLogPublisher`` or from
another observer. :mod:`txmicro.daemons.log_output` has observers that write, and :mod:`txmicro.daemons.log_publisher`
has one that publishes lines on the bus.

An event is one line, whatever it contains: control characters are escaped, passwords in URLs are masked, and long
messages and tracebacks are cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import groupby
from typing import Any, Final, NamedTuple

from twisted.logger import LogEvent, Logger, LogLevel, formatEvent
from twisted.python.failure import Failure

from .errors import AddressError, JobError
from .protocol.address import parse_id
from .protocol.failures import type_name
from .protocol.job import Job
from .receiving import running_job
from .util.log_levels import LogLevels, component_of
from .util.passwords import mask
from .util.text import printable

Observer = Callable[[LogEvent], None]

LONGEST: Final = 8_192
"""The most characters of a message, and of a line of a traceback."""

REPEATED: Final = 3
"""How many times a frame is shown when a traceback repeats it (recursion)."""

FIRST_LINES: Final = 20
LAST_LINES: Final = 40
"""How many lines of a long traceback are shown, from its start and its end. A ``RecursionError`` has thousands."""

_TRACEPARENT: Final = re.compile("[0-9a-f]{2}-([0-9a-f]{32})-")

MANAGER: Final = "SystemManager"
"""The worker type whose log the key ``SystemManager_log`` switches; ``Worker_log`` switches those of all others."""


class Line(NamedTuple):
    """An event as text that is safe to show.

    :ivar time: Unix time, in seconds.
    :ivar level: one of :data:`txmicro.util.log_levels.LEVELS`.
    :ivar worker: the id of the worker or SystemManager whose event it is; empty: none.
    :ivar job: a job's id; empty: none.
    :ivar service: the type of *worker*, or else the name of the module that logged.
    :ivar message: the formatted message.
    :ivar traceback: its lines; empty: none.
    :ivar hop: the number of the job's hop; None: unknown.
    :ivar trace: the id of the job's trace (32 hexadecimal digits); empty: none.
    :ivar error: the type of the exception; empty: none.
    :ivar component: the part of the program that logged, such as ``bus``; :mod:`txmicro.util.log_levels`.
    :ivar logger: the full name of the logger.
    :ivar repeated: how many events like this one were left out; 0: none.
    """

    time: float
    level: str
    worker: str
    job: str
    service: str
    message: str
    traceback: list[str]
    hop: int | None = None
    trace: str = ""
    error: str = ""
    component: str = ""
    logger: str = ""
    repeated: int = 0


def with_running_job(event: LogEvent) -> LogEvent:
    """Return *event* with the fields of the job whose handler runs here, if there is one.

    Its own fields stay: it may be about another job, and then gets only the worker.
    """
    running = running_job.current()
    if running is None:
        return event
    if event.get("job", running.id) != running.id:
        return {"worker": running.worker, **event}
    return {
        "worker": running.worker,
        "job": running.id,
        "hop": running.hop,
        "traceparent": running.traceparent,
        **event,
    }


def read(event: LogEvent) -> Line:
    """Return *event* as text."""
    worker, failure, job = worker_of(event), event.get("log_failure"), event.get("job")
    name, hop = _hop_of(clean(job.id if isinstance(job, Job) else str(job or "")))
    logger = clean(str(event.get("log_namespace", "-")))
    return Line(
        event.get("log_time", 0.0),
        event.get("log_level", LogLevel.info).name,
        worker,
        name,
        worker.partition(":")[0] or logger.rpartition(".")[2],
        _without(worker, clean(formatEvent(event))),
        traceback_of(failure) if failure is not None else [],
        _number(event.get("hop"), None) if hop is None else hop,
        trace_of(event.get("traceparent")),
        clean(type_name(failure.value)) if failure is not None else clean(str(event.get("error_type", ""))),
        component_of(logger),
        logger,
        _number(event.get("more"), 0),
    )


def _hop_of(key: str) -> tuple[str, int | None]:
    """Return the id and the hop of *key*: a hop's key, or a job's id, which has no hop."""
    job, slash, hop = key.rpartition("/")
    return (job, int(hop)) if slash and hop.isdecimal() and len(hop) < 10 else (key, None)


def _number(value: object, default: Any) -> Any:
    return value if type(value) is int else default


def trace_of(traceparent: object) -> str:
    """Return the id of the trace in a W3C ``traceparent``; empty if it has none."""
    found = _TRACEPARENT.match(traceparent) if isinstance(traceparent, str) else None
    return found[1] if found else ""


def _without(worker: str, message: str) -> str:
    """Return *message* without the id that it begins with, because the line shows the id before the message."""
    rest = message.removeprefix(worker) if worker else message
    return rest.lstrip(": ") if rest[:1] in (" ", ":") else message


def traceback_of(failure: Failure) -> list[str]:
    """Return the lines of *failure*'s traceback, safe to show.

    Repeated frames are counted instead of shown, and a long traceback lacks its middle.
    """
    lines = _unrepeated(failure.getTraceback().splitlines())
    left_out = len(lines) - FIRST_LINES - LAST_LINES
    if left_out > 1:
        lines[FIRST_LINES:-LAST_LINES] = [f"  … {left_out:,} lines left out …"]
    return [clean(line) for line in lines]


def _unrepeated(lines: list[str]) -> list[str]:
    """Return *lines* with repeated frames counted instead of shown, as Python does."""
    frames: list[list[str]] = []
    for line in lines:
        if not frames or line.startswith("  File ") or not line.startswith("    "):
            frames.append([])
        frames[-1].append(line)
    shown: list[str] = []
    for frame, same in groupby(frames):
        times = len(list(same))
        shown += frame * min(times, REPEATED)
        if times > REPEATED:
            shown.append(f"  [Previous frame repeated {times - REPEATED:,} more times]")
    return shown


def worker_of(event: LogEvent) -> str:
    """Return the id of the worker or SystemManager whose event it is; empty: none.

    The id of the object that logged comes first: in a SystemManager's events, the field ``worker`` is another worker.
    """
    for name in (getattr(event.get("log_source"), "id", ""), event.get("worker", "")):
        if name:
            try:
                return str(parse_id(name))
            except AddressError:
                continue
    return ""


def clean(text: str) -> str:
    """Return *text* on one line, without passwords, and cut if it is long."""
    if "://" in text:  # before the cut, which may be inside a password
        text = mask(text[: 2 * LONGEST]) + text[2 * LONGEST :]
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}… ({len(text) - LONGEST} more characters)"
    return printable(text)


def filtered(observer: Observer, levels: LogLevels, *, manager_log: bool, worker_log: bool) -> Observer:
    """Return an observer that passes on to *observer* the events that the configuration wants logged.

    :param levels: the lowest level of each component.
    :param manager_log: whether the SystemManager's events are passed on. Errors always are.
    :param worker_log: whether the workers' events are passed on. Errors always are.
    """
    always = frozenset(("error", "critical"))

    def observe(event: LogEvent) -> None:
        level = event.get("log_level", LogLevel.info).name
        if not levels.may_want(level):
            return
        kind = worker_of(event).partition(":")[0]
        if levels.wants(level, str(event.get("log_namespace", "")), kind) and (
            level in always or switched_on(kind)
        ):
            observer(event)

    def switched_on(kind: str) -> bool:
        return not kind or (manager_log if kind == MANAGER else worker_log)

    return observe


def log_failed_job(log: Logger, worker: str, job: Job, error: BaseException, *, again: bool = False) -> None:
    """Log the exception of a handler with its traceback. A JobError is not logged: it is an answer, not a defect.

    :param again: whether the job is tried again.
    """
    if not isinstance(error, JobError):
        log.failure(
            "{worker}: job {job} failed; it is tried again" if again else "{worker}: job {job} failed",
            Failure(error),
            LogLevel.error,
            worker=worker,
            job=job.id,
            hop=job.hop,
            traceparent=job.traceparent,
            recurring=True,
        )
