"""Publishes log lines on the bus, where the logger worker collects them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from twisted.logger import LogEvent

from txmicro.errors import TxmicroError
from txmicro.log import Line, read

LONGEST_TRACEBACK: Final = 16_384
"""The most characters of a traceback that are published: its end."""


_LIGHT: Final = frozenset(("debug", "info"))


class _Allowance:
    """The number of lines that may be published: *rate* per second, and in one burst."""

    def __init__(self, seconds: Callable[[], float], rate: int) -> None:
        self._seconds = seconds
        self._rate = rate
        self._left = float(rate)
        self._last = seconds()

    def take(self) -> bool:
        """Take one; return False if none is left."""
        now = self._seconds()
        self._left = min(self._rate, self._left + (now - self._last) * self._rate)
        self._last = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class LogPublisher:
    """An observer that publishes log lines.

    The topic is ``log.<level>.<worker type>``, or ``log.<level>.process`` for events without a worker. The body is
    ``{time, level, worker, job, service, message, component, logger, host, pid}`` as in :class:`Line`, and ``hop``,
    ``trace``, ``error``, ``traceback`` (a text) and ``repeated`` where they have a value. Events that are logged during
    a publication are not published, because that would never end.

    :param publish: publishes a body to a topic; may raise a :class:`TxmicroError`.
    :param seconds: gives the time in seconds, for *rate*.
    :param rate: the most lines per second, and in one burst; warnings and errors are counted by themselves.
    :param host: the name of this machine.
    :ivar dropped: how many lines were not published. The next line that is published says how many were dropped before.
    """

    def __init__(
        self,
        publish: Callable[[str, dict[str, Any]], Any],
        seconds: Callable[[], float],
        rate: int = 100,
        host: str = "",
    ) -> None:
        self._host = host
        self.dropped = 0
        self._reported = 0
        self._publish = publish
        self._grave, self._light = _Allowance(seconds, rate), _Allowance(seconds, rate)
        self._busy = False

    def __call__(self, event: LogEvent) -> None:
        """Publish *event*."""
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
        allowance = self._light if line.level in _LIGHT else self._grave
        if not allowance.take():
            self.dropped += 1
            return
        missing = self.dropped - self._reported
        cause = f": {line.traceback[-1]}" if line.traceback else ""
        loss = f" ({missing} lines before this one were dropped)" if missing else ""
        self._send(line, line.message + cause + loss)
        self._reported += missing

    def _send(self, line: Line, message: str) -> None:
        body = {
            "time": line.time,
            "level": line.level,
            "worker": line.worker,
            "job": line.job,
            "service": line.service,
            "message": message,
            "component": line.component,
            "logger": line.logger,
            "host": self._host,
            "pid": os.getpid(),
        }
        extra = {
            "hop": line.hop,
            "trace": line.trace,
            "error": line.error,
            "traceback": "\n".join(line.traceback)[-LONGEST_TRACEBACK:],
            "repeated": line.repeated,
        }
        body |= {name: value for name, value in extra.items() if value or (name == "hop" and value == 0)}
        self._publish(f"log.{line.level}.{line.service if line.worker else 'process'}", body)
