"""An observer that gives log lines to an output, in a thread of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from twisted.logger import LogEvent, Logger

from txmicro.log import Line, read
from txmicro.util.background_writer import BackgroundWriter

T = TypeVar("T", bound=str | bytes | tuple[int, str])

REMINDER: Final = 60.0
"""Seconds after which it is logged again that lines cannot be written."""


class LogSink(Generic[T]):
    """An observer that writes events. An output that fails or blocks costs only log lines.

    :param name: the name of the output, for the log of other outputs.
    :param render: returns the form of a line that is written. :param write: writes lines, or raises OSError.
    :ivar writer: the writer, which has to be started and stopped.
    """

    log = Logger()

    def __init__(self, name: str, render: Callable[[Line], T], write: Callable[[Sequence[T]], None]) -> None:
        self._name = name
        self._render: Callable[[Line], T] = render
        self._reported = -REMINDER
        self.writer: BackgroundWriter[T] = BackgroundWriter(write, self._note, self._lost)

    def __call__(self, event: LogEvent) -> None:
        """Write *event* soon."""
        rendered = self._render(read(event))
        self.writer.put(rendered, len(rendered[1] if isinstance(rendered, tuple) else rendered))

    def _note(self, number: int, reason: str) -> T:
        text = f"{number:,} log lines before this one were not written: {reason}"
        return self._render(Line(time.time(), "warn", "", "", "log", text, [], component="daemons"))

    def _lost(self, _number: int, reason: str) -> None:
        now = time.monotonic()
        if now - self._reported >= REMINDER:
            self._reported = now  # before the line, which comes here, too
            self.log.error(
                "cannot write the log to {output}: {reason}; its lines are dropped until that is possible (logged at "
                "most once a minute)",
                output=self._name,
                reason=reason,
            )
