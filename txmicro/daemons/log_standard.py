"""Passes on the lines of Python's :mod:`logging`, which many libraries use, to the log of the process."""

from __future__ import annotations

import logging
import threading
from typing import Any, Final

from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure

from txmicro.util.log_levels import LogLevels

_LEVELS: Final = (
    (logging.CRITICAL, LogLevel.critical),
    (logging.ERROR, LogLevel.error),
    (logging.WARNING, LogLevel.warn),
    (logging.INFO, LogLevel.info),
)
_NUMBERS: Final = {level.name: number for number, level in _LEVELS} | {"debug": logging.DEBUG}


class StandardHandler(logging.Handler):
    """A handler that logs records as events of Twisted. The logger's name is the component.

    The fields ``worker`` and ``job`` that a record has in ``extra`` are kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Log *record*, unless it comes from an observer that passes on events to :mod:`logging`."""
        if getattr(self._local, "busy", False):
            return
        self._local.busy = True
        try:
            globalLogPublisher(_event(record))
        except Exception:
            self.handleError(record)
        finally:
            self._local.busy = False


def _event(record: logging.LogRecord) -> LogEvent:
    level = next((level for number, level in _LEVELS if record.levelno >= number), LogLevel.debug)
    event: dict[str, Any] = {
        "log_namespace": record.name,
        "log_level": level,
        "log_time": record.created,
        "log_format": "{log_text}",
        "log_text": record.getMessage(),
        "log_system": record.name,
    }
    event |= {name: getattr(record, name) for name in ("worker", "job") if hasattr(record, name)}
    if record.exc_info is not None and record.exc_info[1] is not None:
        kind, error, traceback = record.exc_info
        event["log_failure"] = Failure(error, kind, traceback)
    return event


def log_standard(levels: LogLevels) -> logging.Handler:
    """Pass on all lines of :mod:`logging` from the lowest of *levels* on, as these change; return the handler."""
    handler = StandardHandler()
    root = logging.getLogger()
    root.addHandler(handler)
    levels.watch(lambda: root.setLevel(_NUMBERS[levels.least]))
    return handler
