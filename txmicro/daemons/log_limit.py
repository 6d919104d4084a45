"""Limits how often the log says the same, and counts what it leaves out.

An event with the field ``recurring=True`` is one of many of its kind; so is every event of Twisted's own. Of one kind
a few pass in a while, and then one line says how many more there were; for as long as it goes on, only such lines
follow. All other events pass.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

from twisted.logger import LogEvent

from txmicro.log import Observer, read, worker_of

MOST: Final = 5
"""Events of one kind that pass in ``PERIOD``."""

PERIOD: Final = 10.0
"""Seconds, from the first event of a kind until it is told how many more there were."""


def kind_of(event: LogEvent) -> Hashable | None:
    """Return what *event* has in common with those that are to be counted with it; None: it is not to be counted.

    That is its format, who logged it, the type of the worker and that of the failure, but not what is inserted.
    """
    source = event.get("log_namespace", "")
    if not event.get("recurring", source.startswith("twisted.")):
        return None
    failure = event.get("log_failure")
    cause = None if failure is None else failure.type
    return source, event.get("log_format"), event.get("log_level"), worker_of(event).partition(":")[0], cause


class _Seen:
    """What there was of one kind: how many, and the last of those that were left out."""

    def __init__(self, count: int = 0) -> None:
        self.count = count
        self.last: LogEvent = {}


class RateLimitedObserver:
    """Passes to *observer* at most ``MOST`` events of a kind in ``PERIOD``, and then one that says how many more came.

    :param reactor: for the time until that is told; events may come from other threads.
    """

    def __init__(self, observer: Observer, reactor: Any) -> None:
        self._observer = observer
        self._reactor = reactor
        self._seen: dict[Hashable, _Seen] = {}
        self._timers: dict[Hashable, Any] = {}
        self._closed = False

    def __call__(self, event: LogEvent) -> None:
        """Observe *event*."""
        kind = None if self._closed else kind_of(event)
        if kind is None or self._few(kind, event):
            self._observer(event)

    def _few(self, kind: Hashable, event: LogEvent) -> bool:
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
            self._timers[kind] = self._reactor.callLater(PERIOD, self._tell, kind)

    def _tell(self, kind: Hashable) -> None:
        self._timers.pop(kind, None)
        seen = self._seen.pop(kind)
        more = seen.count - MOST
        if more > 0:
            self._observer(_summary(seen.last, more))
            if not self._closed:  # it may go on
                self._seen[kind] = _Seen(MOST)
                self._start(kind)

    def close(self) -> None:
        """Say how many were left out until now. From now on all events pass, and no timer is left."""
        self._closed = True
        timers, self._timers = self._timers, {}
        for timer in timers.values():
            timer.cancel()
        for kind in list(self._seen):
            self._tell(kind)


def _summary(last: LogEvent, more: int) -> LogEvent:
    """An event like *last*, without its traceback, that says how many *more* there were."""
    summary = {key: value for key, value in last.items() if key not in ("log_failure", "log_flattened")}
    failure = last.get("log_failure")
    cause = "" if failure is None else f": {failure.type.__name__}: {failure.getErrorMessage()}"
    return summary | {
        "log_format": "… {more:,} more like this in the last {period:g} s; the last one: {last}{cause}",
        "more": more,
        "period": PERIOD,
        "last": read(last).message,
        "cause": cause,
    }
