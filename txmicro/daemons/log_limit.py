"""Limits how many similar log events are logged, and counts the others.

Events with the field ``recurring=True``, and all events of Twisted, are limited: a few events of one kind are logged in
a period. At its end, one line says how many more there were. As long as more come, only such lines follow. All other
events are always logged.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

from twisted.logger import LogEvent

from txmicro.log import Observer, read, worker_of
from txmicro.protocol.failures import type_name

MOST: Final = 5
"""The most events of one kind in :data:`PERIOD`."""

PERIOD: Final = 10.0
"""Seconds from the first event of a kind until the line that says how many more there were."""


def kind_of(event: LogEvent) -> Hashable | None:
    """Return the kind of *event*, which similar events share; None: the event is not limited.

    The kind is the format, the logger, the type of the worker and the class of the exception, without any values.
    """
    source = event.get("log_namespace", "")
    if not event.get("recurring", source.startswith("twisted.")):
        return None
    failure = event.get("log_failure")
    cause = None if failure is None else failure.type
    return source, event.get("log_format"), event.get("log_level"), worker_of(event).partition(":")[0], cause


class _Seen:
    """The events of one kind: their number, and the last one that was not logged."""

    def __init__(self, count: int = 0) -> None:
        self.count = count
        self.last: LogEvent = {}


class RateLimitedObserver:
    """Passes on to *observer* at most :data:`MOST` events of a kind in :data:`PERIOD`, and how many more came.

    :param reactor: for the periods. Events may come from any thread.
    """

    def __init__(self, observer: Observer, reactor: Any) -> None:
        self._observer = observer
        self._reactor = reactor
        self._seen: dict[Hashable, _Seen] = {}
        self._timers: dict[Hashable, Any] = {}
        self._closed = False

    def __call__(self, event: LogEvent) -> None:
        """Pass on *event*, or count it."""
        kind = None if self._closed else kind_of(event)
        if kind is None or self._pass(kind, event):
            self._observer(event)

    def _pass(self, kind: Hashable, event: LogEvent) -> bool:
        seen = self._seen.get(kind)
        if seen is None:
            seen = self._seen[kind] = _Seen()
            self._reactor.callFromThread(self._start, kind)
        seen.count += 1
        if seen.count <= MOST:
            return True
        seen.last = event
        return False

    def _start(self, kind: Hashable) -> None:
        if kind in self._seen and kind not in self._timers and not self._closed:
            self._timers[kind] = self._reactor.callLater(PERIOD, self._report, kind)

    def _report(self, kind: Hashable) -> None:
        self._timers.pop(kind, None)
        seen = self._seen.pop(kind)
        more = seen.count - MOST
        if more > 0:
            self._observer(_summary(seen.last, more))
            if not self._closed:  # more may come
                self._seen[kind] = _Seen(MOST)
                self._start(kind)

    def close(self) -> None:
        """Log how many events were left out, cancel all timers, and pass on all events from now on."""
        self._closed = True
        timers, self._timers = self._timers, {}
        for timer in timers.values():
            timer.cancel()
        for kind in list(self._seen):
            self._report(kind)


def _summary(last: LogEvent, more: int) -> LogEvent:
    """Return an event like *last*, without its traceback, that says how many *more* there were."""
    summary = {key: value for key, value in last.items() if key not in ("log_failure", "log_flattened")}
    failure = last.get("log_failure")
    cause = "" if failure is None else f": {failure.type.__name__}: {failure.getErrorMessage()}"
    if failure is not None:
        summary["error_type"] = type_name(failure.value)
    return summary | {
        "log_format": "… {more:,} more like this in the last {period:g} s; the last one: {last}{cause}",
        "more": more,
        "period": PERIOD,
        "last": read(last).message,
        "cause": cause,
    }
