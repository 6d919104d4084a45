"""What is logged in a test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase


def listen(test: SynchronousTestCase) -> list[LogEvent]:
    """Return what is logged from now on until *test* ends; it grows."""
    events: list[LogEvent] = []
    observer: Any = events.append
    globalLogPublisher.addObserver(observer)
    test.addCleanup(globalLogPublisher.removeObserver, observer)
    return events


def texts(events: Iterable[LogEvent], part: str = "") -> list[str]:
    """Return what *events* say, of those that have *part* in it."""
    said = [formatEvent(event) or "" for event in events]
    return [text for text in said if part in text]
