"""Log events of a test, and a reactor and an object that log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, Logger, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

WORKER = "WB:1795449588399-3fa9"
MANAGER = "SystemManager:1795449588399-0000"
TIME = 1795449588.25


def listen(test: SynchronousTestCase) -> list[LogEvent]:
    """Return a list to which all log events are added until *test* ends."""
    events: list[LogEvent] = []
    observer: Any = events.append
    globalLogPublisher.addObserver(observer)
    test.addCleanup(globalLogPublisher.removeObserver, observer)
    return events


def texts(events: Iterable[LogEvent], part: str = "") -> list[str]:
    """Return the texts of *events* that contain *part*."""
    said = [formatEvent(event) or "" for event in events]
    return [text for text in said if part in text]


class Reactor(MemoryReactorClock):
    """A reactor whose ``callFromThread`` calls immediately."""

    def callFromThread(self, function: Any, *args: Any) -> None:
        """Call *function* with *args*."""
        function(*args)


class Named:
    """An object that logs and has an id."""

    log = Logger()

    def __init__(self, id: Any) -> None:
        self.id = id


def event(message: str = "hello", **fields: Any) -> LogEvent:
    return {
        "log_time": TIME,
        "log_level": LogLevel.info,
        "log_namespace": "txmicro.bus.connections.Bus",
        "log_format": "{message}",
        "message": message,
        **fields,
    }


def failure(error: Exception) -> Failure:
    try:
        raise error
    except type(error):
        return Failure()
