"""Counts the log events of a process, for its metrics page."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter
from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer


@implementer(ILogObserver)
class LogCounter:
    """An observer that counts events by level, whether or not the configuration has them written. It is thread-safe."""

    def __init__(self, registry: CollectorRegistry) -> None:
        lines = Counter("microservices_log_lines", "Log events, by level", ["level"], registry=registry)
        self._levels = {level: lines.labels(level.name) for level in LogLevel.iterconstants()}

    def __call__(self, event: LogEvent) -> None:
        """Count *event*."""
        self._levels[event.get("log_level", LogLevel.info)].inc()
