"""Publishes what a worker does with jobs, as long as a SystemManager watches."""

from __future__ import annotations

from collections.abc import Callable
from random import random
from typing import Any, Final, Protocol

from twisted.logger import Logger

from txmicro.bus.publisher import Publisher
from txmicro.errors import TxmicroError
from txmicro.metrics import ServiceMetrics
from txmicro.monitoring.recorder import Recorder
from txmicro.monitoring.report import Numbers, Report, Watch, report_topic
from txmicro.protocol.address import Ids
from txmicro.protocol.notifications import Announcement
from txmicro.util.clock import Clock, Timer

WATCHED: Final = 15.0
"""Seconds for which a watch counts. SystemManagers repeat theirs every 5 seconds."""

IDLE: Final = 10.0
"""Seconds between two reports of a worker that does nothing."""

_MANAGERS_MAX: Final = 100


class Load(Protocol):
    """The jobs of a worker now: the :class:`~txmicro.runtime.engine.Engine`."""

    @property
    def running_jobs(self) -> int:
        """How many of its handlers run."""

    @property
    def held_jobs(self) -> int:
        """How many jobs it has received that wait until others have ended."""

    @property
    def pending_jobs(self) -> int:
        """How many jobs it has sent that have not ended."""


class Reporter:
    """Reports what one worker does.

    Nothing is recorded, and no timer runs, unless a SystemManager has sent a watch within the last ``WATCHED`` seconds.
    If several have, the smallest share and the longest interval count, so that none of them hears too much.

    :param me: returns the worker's announcement.
    :param ids: tells the Unix time, and the process's digits.
    :param counts: the worker's jobs of now.
    :param record: has the worker's jobs recorded from now on; None: not any more.
    :param jitter: a number in [0, 1): which part of the first interval passes before the first report. Otherwise all
        workers that hear the same watch would report at the same time.
    """

    log = Logger()

    def __init__(
        self,
        clock: Clock,
        me: Callable[[], Announcement],
        publisher: Publisher,
        *,
        ids: Ids,
        metrics: ServiceMetrics,
        counts: Load,
        record: Callable[[Recorder | None], None],
        jitter: Callable[[], float] = random,
    ) -> None:
        self._clock = clock
        self._me = me
        self._publisher = publisher
        self._time, self._process = ids.time, ids.process
        self._metrics = metrics
        self._counts = counts
        self._record = record
        self._jitter = jitter
        self._watches: dict[
            str, tuple[Watch, float]
        ] = {}  # by manager, with the time until which each counts
        self._recorder: Recorder | None = None
        self._interval = 1.0
        self._timer: Timer | None = None
        self._last: Report | None = None
        self._last_at = 0.0

    def watched(self, body: Any) -> None:
        """Report for the next ``WATCHED`` seconds. *body* is a watch; raises :class:`~txmicro.errors.DecodeError`."""
        watch = Watch.from_body(body)
        if watch.manager in self._watches or len(self._watches) < _MANAGERS_MAX:
            self._watches[watch.manager] = watch, self._clock.seconds() + WATCHED
        self._follow_watches()
        if self._timer is None:
            self._timer = self._clock.callLater(self._jitter() * self._interval, self._turn)

    def close(self) -> None:
        """Report for the last time, if a SystemManager watches, and stop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._recorder is not None:
            self._report()
        self._watches.clear()
        self._follow_watches()

    def _follow_watches(self) -> None:
        """Record as the watches say that count now."""
        now = self._clock.seconds()
        self._watches = {id: each for id, each in self._watches.items() if each[1] > now}
        watches = [watch for watch, _ in self._watches.values()]
        if not watches:
            self._recorder = self._last = None
            self._record(None)
            return
        if self._recorder is None:
            self._recorder = Recorder(self._me().id, self._time)
            self._record(self._recorder)
        self._interval = max(watch.interval for watch in watches)
        self._recorder.sample(min(watch.share for watch in watches), min(watch.failures for watch in watches))

    def _turn(self) -> None:
        """Report, unless nobody watches any more, and come again."""
        self._timer = None
        self._follow_watches()
        if self._recorder is not None:
            self._timer = self._clock.callLater(self._interval, self._turn)
            self._report()

    def _report(self) -> None:
        if self._publisher.session is None or not self._publisher.session.writable:
            return  # what is recorded waits, up to a limit
        try:
            report = self._make()
            now = self._clock.seconds()
            if not report.is_idle or report != self._last or now - self._last_at >= IDLE:
                self._last, self._last_at = report, now
                self._publisher.notify(report_topic(report.type), report.body())
        except TxmicroError as error:  # it is too large
            self.log.debug("{worker}: a report is left out: {error}", worker=self._me().id, error=error)

    def _make(self) -> Report:
        me, counts = self._me(), self._counts
        report = Report(
            me.id,
            me.type,
            self._process,
            counts.running_jobs,
            counts.held_jobs,
            counts.pending_jobs,
            Numbers.of(self._metrics.snapshot()),
        )
        if self._recorder is not None:
            self._recorder.complete(report)
        return report
