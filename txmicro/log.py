"""Log events: the text of a line, and which events are logged.

Everything logs through Twisted's :class:`~twisted.logger.Logger`, with the fields ``worker`` (a worker's id) and
``job`` (a job's id) besides Twisted's. ``recurring=True`` marks events that may come in large numbers
(:mod:`txmicro.daemons.log_limit`). An observer is a callable that gets events, from ``globalLogPublisher`` or from
another observer. :mod:`txmicro.daemons.log_output` has observers that write, and :mod:`txmicro.daemons.log_publisher`
has one that publishes lines on the bus.

An event is one line, whatever it contains: control characters are escaped, passwords in URLs are masked, and long
messages and tracebacks are cut.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Final, NamedTuple

from twisted.logger import LogEvent, Logger, LogLevel, formatEvent
from twisted.python.failure import Failure

from .errors import AddressError, JobError
from .protocol.address import parse_id
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

MANAGER: Final = "SystemManager"
"""The worker type whose log the key ``SystemManager_log`` switches; ``Worker_log`` switches those of all others."""


class Line(NamedTuple):
    """An event as text that is safe to show.

    :ivar time: Unix time, in seconds.
    :ivar level: one of ``config.LEVELS``.
    :ivar worker: the id of the worker or SystemManager whose event it is; empty: none.
    :ivar job: a job's id; empty: none.
    :ivar service: the type of *worker*, or else the name of the module that logged.
    :ivar message: the formatted message.
    :ivar traceback: its lines; empty: none.
    """

    time: float
    level: str
    worker: str
    job: str
    service: str
    message: str
    traceback: list[str]


def read(event: LogEvent) -> Line:
    """Return *event* as text."""
    worker, failure = worker_of(event), event.get("log_failure")
    return Line(
        event.get("log_time", 0.0),
        event.get("log_level", LogLevel.info).name,
        worker,
        clean(str(event.get("job", ""))),
        worker.partition(":")[0] or clean(str(event.get("log_namespace", "-")).rpartition(".")[2]),
        _without(worker, clean(formatEvent(event))),
        traceback_of(failure) if failure is not None else [],
    )


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


def filtered(observer: Observer, *, level: str, manager_log: bool, worker_log: bool) -> Observer:
    """Return an observer that passes on to *observer* the events that the configuration wants logged.

    :param level: the lowest level, one of ``config.LEVELS``.
    :param manager_log: whether the SystemManager's events are passed on. Errors always are.
    :param worker_log: whether the workers' events are passed on. Errors always are.
    """
    least = LogLevel.levelWithName(level)

    def observe(event: LogEvent) -> None:
        weight = event.get("log_level", LogLevel.info)
        if weight >= least and (weight >= LogLevel.error or switched_on(event)):
            observer(event)

    def switched_on(event: LogEvent) -> bool:
        if manager_log and worker_log:
            return True
        kind = worker_of(event).partition(":")[0]
        return not kind or (manager_log if kind == MANAGER else worker_log)

    return observe


def log_failed_job(log: Logger, worker: str, job: str, error: BaseException, *, again: bool = False) -> None:
    """Log the exception of a handler with its traceback. A JobError is not logged: it is an answer, not a defect.

    :param again: whether the job is tried again.
    """
    if not isinstance(error, JobError):
        log.failure(
            "{worker}: job {job} failed; it is tried again" if again else "{worker}: job {job} failed",
            Failure(error),
            LogLevel.error,
            worker=worker,
            job=job,
            recurring=True,
        )
