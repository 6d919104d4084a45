"""What happens to log events: what a line says, the switches, and the publication on the bus.

Everything logs through Twisted's :class:`~twisted.logger.Logger`, with fields: ``worker`` (a worker's id) and
``job`` (a job's), besides those that Twisted sets; ``recurring`` marks one of many of its kind
(:mod:`txmicro.daemons.log_limit`). Observers are callables, for ``globalLogPublisher`` or for each other;
:mod:`txmicro.daemons.log_output` has those that write.

A line is one line whatever the message holds: what would break or color it is escaped, passwords in URLs are
masked, and long messages and tracebacks are cut.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any, Final, NamedTuple

from twisted.logger import LogEvent, Logger, LogLevel, formatEvent
from twisted.python.failure import Failure

from .errors import AddressError, JobError, TxmicroError
from .protocol.address import parse_id
from .util.passwords import mask
from .util.text import printable

Observer = Callable[[LogEvent], None]

LONGEST: Final = 8_192
"""Characters that are shown of a message, and of a line of a traceback."""

REPEATED: Final = 3
"""How often a frame of a traceback is shown that follows itself."""

FIRST_LINES: Final = 20
LAST_LINES: Final = 40
"""Lines of a long traceback that are shown, from its begin and from its end; a ``RecursionError`` has thousands."""

MANAGER: Final = "SystemManager"
"""The worker type that goes by ``SystemManager_log``, where all others go by ``Worker_log``."""


class Line(NamedTuple):
    """What an event says, in text that is safe to show.

    :ivar time: Unix time, in seconds.
    :ivar level: one of ``config.LEVELS``.
    :ivar worker: id of the worker or SystemManager whose event it is; empty: none's.
    :ivar job: a job's id; empty: none.
    :ivar service: the type of *worker*, or else the name of the part of the program that logged.
    :ivar message: what it says.
    :ivar traceback: lines.
    """

    time: float
    level: str
    worker: str
    job: str
    service: str
    message: str
    traceback: list[str]


def read(event: LogEvent) -> Line:
    """What *event* says."""
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
    """*message* without the id that it begins with: that stands before it already."""
    rest = message.removeprefix(worker) if worker else message
    return rest.lstrip(": ") if rest[:1] in (" ", ":") else message


def traceback_of(failure: Failure) -> list[str]:
    """Return the lines of *failure*'s traceback, safe to show, without repetitions and the middle of a long one."""
    lines = _unrepeated(failure.getTraceback().splitlines())
    left_out = len(lines) - FIRST_LINES - LAST_LINES
    if left_out > 1:
        lines[FIRST_LINES:-LAST_LINES] = [f"  … {left_out:,} lines are left out …"]
    return [clean(line) for line in lines]


def _unrepeated(lines: list[str]) -> list[str]:
    """*lines*, with frames that follow themselves counted, as Python does."""
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
    """Return the id of the worker or SystemManager whose event it is; empty: nobody's.

    Whoever logs knows best who it is: a SystemManager's ``worker`` is somebody else.
    """
    for name in (getattr(event.get("log_source"), "id", ""), event.get("worker", "")):
        try:
            return str(parse_id(name))
        except AddressError:
            continue
    return ""


def clean(text: str) -> str:
    """Return *text* on one line, without passwords, cut when it is long."""
    if "://" in text:  # masked before the cut, which may be inside a password
        text = mask(text[: 2 * LONGEST]) + text[2 * LONGEST :]
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}… ({len(text) - LONGEST} more characters)"
    return printable(text)


def filtered(observer: Observer, *, level: str, manager_log: bool, worker_log: bool) -> Observer:
    """*observer*, for what the configuration wants logged.

    :param level: the least; one of ``config.LEVELS``.
    :param manager_log: whether the SystemManager's events pass.
    :param worker_log: whether the workers' do. Errors pass anyway.
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


def log_failed_job(log: Logger, worker: str, job: str, error: BaseException) -> None:
    """Log what a handler raised, with its traceback, unless it is a JobError: that is an answer, not a defect."""
    if not isinstance(error, JobError):
        log.failure(
            "{worker}: job {job} failed",
            Failure(error),
            LogLevel.error,
            worker=worker,
            job=job,
            recurring=True,
        )


class EventLogPublisher:
    """An observer that publishes log lines, for the logger worker to collect.

    The topic is ``log.<level>.<worker type>`` (``log.info.process`` for what is no worker's), the body
    ``{time, level, worker, job, service, message}`` as in :class:`Line`. What is logged while a line is being
    published is not published, as that would never end; nor is more than *rate* lines a second.

    :param publish: sends a body to a topic; may raise a :class:`TxmicroError`.
    :param seconds: the clock for the rate.
    :param rate: lines per second, and how many may come at once.
    :ivar dropped: how many lines were not published. The next line that is tells of those since the last.
    """

    def __init__(
        self, publish: Callable[[str, dict[str, Any]], Any], seconds: Callable[[], float], rate: int = 100
    ) -> None:
        self.dropped = 0
        self._told = 0
        self._publish = publish
        self._seconds = seconds
        self._rate = rate
        self._allowance = float(rate)
        self._last = seconds()
        self._busy = False

    def __call__(self, event: LogEvent) -> None:
        """Observe *event*."""
        if self._busy:
            return
        self._busy = True
        try:
            self._observe(read(event))
        except TxmicroError:
            self.dropped += 1
        finally:
            self._busy = False

    def _observe(self, line: Line) -> None:
        if not self._allowed():
            self.dropped += 1
            return
        missing = self.dropped - self._told
        cause = f": {line.traceback[-1]}" if line.traceback else ""
        loss = f" ({missing} lines before this one were dropped)" if missing else ""
        self._send(line, line.message + cause + loss)
        self._told += missing

    def _allowed(self) -> bool:
        now = self._seconds()
        self._allowance = min(self._rate, self._allowance + (now - self._last) * self._rate)
        self._last = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def _send(self, line: Line, message: str) -> None:
        body = {
            "time": line.time,
            "level": line.level,
            "worker": line.worker,
            "job": line.job,
            "service": line.service,
            "message": message,
        }
        self._publish(f"log.{line.level}.{line.service if line.worker else 'process'}", body)
