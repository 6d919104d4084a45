"""The numbers of all workers that report: rates and times by type, and what flows between the types.

A state machine without I/O. :meth:`Fleet.heard` takes a report, :meth:`Fleet.tick` ends a second. The memory is bounded
by the limits below, however much is reported.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from txmicro.protocol.outcomes import DEAD, FAILED, RETRIED

from .differences import added
from .flow import JobFlow
from .quantiles import RecentDurations, quantile
from .report import Numbers, Report
from .series import LENGTH, Series

FORGET: Final = 30.0
"""Seconds after the last report in which a worker, and the numbers of its process, are still known."""

RATE_SECONDS: Final = 10
"""Seconds over which the rates of now are averaged."""

QUANTILE_SECONDS: Final = 60
"""Seconds whose jobs count for the quantiles of now."""

WORKERS_MAX: Final = 100_000
TYPES_MAX: Final = 500
"""The most workers, or processes with workers, and types. Reports of further ones are ignored."""

ERRORS: Final = (FAILED, RETRIED, DEAD)
"""The outcomes that count as errors."""


class Quantiles(NamedTuple):
    """The median and the 99th percentile of durations, in seconds; None: there were none."""

    p50: float | None
    p99: float | None


class WorkerNumbers:
    """The numbers of one worker.

    :ivar heard: when its last report came, in Unix seconds. :ivar rate: jobs per second, between its last reports.
    """

    __slots__ = ("heard", "held", "pending", "rate", "running")

    def __init__(self) -> None:
        self.heard = self.rate = 0.0
        self.running = self.held = self.pending = 0

    def update(self, report: Report, now: float) -> None:
        """Note what *report* says."""
        self.running, self.held, self.pending = report.running, report.held, report.pending
        elapsed = now - self.heard
        if elapsed > 0:
            self.rate = report.ran / elapsed if elapsed < FORGET else 0.0
        self.heard = now


class TypeNumbers:
    """The numbers of one worker type.

    :ivar series: ``jobs`` and ``errors`` per second, and ``wait_p50``, ``wait_p99``, ``run_p50`` and ``run_p99``, in
        seconds; ``depth`` and ``oldest`` of its queues.
    :ivar youngest: by lane, when the job was sent that was sent last of those whose handler has ended, in Unix seconds.
    :ivar heard: when the last report of one of its workers came, in Unix seconds; 0: none came.
    :ivar active: when it was last heard of, in Unix seconds.
    :ivar depth: how many jobs wait in its queues. :ivar oldest: the age of the oldest of them. None: unknown.
    """

    def __init__(self) -> None:
        self.series = Series(
            "jobs", "errors", "wait_p50", "wait_p99", "run_p50", "run_p99", "depth", "oldest"
        )
        self.youngest: dict[str, float] = {}
        self.heard = self.active = 0.0
        self.depth: int | None = None
        self.oldest: float | None = None
        self._jobs = self._errors = 0
        self._wait, self._run, self._trip = (RecentDurations(QUANTILE_SECONDS) for _ in range(3))

    def add(self, numbers: Numbers) -> None:
        """Add *numbers*, which are differences, to the current second."""
        for counts in numbers.jobs.values():
            self._jobs += sum(counts.values())
            self._errors += sum(counts.get(outcome, 0) for outcome in ERRORS)
        for window, histograms in ((self._wait, numbers.wait), (self._run, numbers.run)):
            for durations in histograms.values():
                window.add(durations)

    def add_trips(self, trips: list[int]) -> None:
        """Add *trips*, a histogram of jobs that were sent to it, to the current second."""
        self._trip.add(trips)

    def tick(self, second: int) -> None:
        """End the current second."""
        values: dict[str, float | None] = {"depth": self.depth, "oldest": self.oldest}
        if second - self.heard <= FORGET:
            values |= {"jobs": self._jobs, "errors": self._errors}
        for name, window in (("wait", self._wait), ("run", self._run)):
            if window.current is not None:
                values[f"{name}_p50"] = quantile(window.current, 0.5)
                values[f"{name}_p99"] = quantile(window.current, 0.99)
        self.series.put(second, values)
        self._jobs = self._errors = 0
        for window in (self._wait, self._run, self._trip):
            window.tick()

    @property
    def jobs_per_second(self) -> float | None:
        """How many handlers end per second; None: unknown."""
        return self.series.mean("jobs", RATE_SECONDS)

    @property
    def errors_per_second(self) -> float | None:
        """How many of them fail; None: unknown."""
        return self.series.mean("errors", RATE_SECONDS)

    @property
    def wait(self) -> Quantiles:
        """How long its jobs waited."""
        return _quantiles(self._wait)

    @property
    def run(self) -> Quantiles:
        """How long its handlers ran."""
        return _quantiles(self._run)

    @property
    def trip(self) -> Quantiles:
        """How long the jobs took whose first address it is, as their senders saw it."""
        return _quantiles(self._trip)


class _Process:
    """The last numbers of a service in a process."""

    __slots__ = ("heard", "numbers")

    def __init__(self, numbers: Numbers, heard: float) -> None:
        self.numbers = numbers
        self.heard = heard


class Fleet:
    """The numbers of all workers that report; see the module.

    :ivar workers: the numbers of single workers, by id. :ivar types: those of types.
    :ivar flow: the jobs from type to type.
    """

    def __init__(self) -> None:
        self.workers: dict[str, WorkerNumbers] = {}
        self.types: dict[str, TypeNumbers] = {}
        self.flow = JobFlow()
        self._processes: dict[tuple[str, str], _Process] = {}

    def heard(self, report: Report, now: float) -> None:
        """Add *report*, which came at *now*, in Unix seconds."""
        worker, kind = self._worker(report.worker), self.type(report.type)
        if worker is None or kind is None:
            return
        worker.update(report, now)
        kind.heard = kind.active = now
        for lane, sent in report.youngest.items():
            kind.youngest[lane] = max(sent, kind.youngest.get(lane, 0.0))
        self.flow.add(report)
        difference = self._difference(report, now)
        if difference is None:
            return
        kind.add(difference)
        for target, trips in difference.trip.items():
            if known := self.type(target):
                known.add_trips(trips)
                known.active = now

    def tick(self, now: float) -> None:
        """End a second, at *now*, in Unix seconds."""
        for kind in self.types.values():
            kind.tick(int(now))
        self.flow.tick()
        if int(now) % 10 == 0:
            self._forget(now - FORGET)

    def type(self, name: str) -> TypeNumbers | None:
        """Return the numbers of the type *name*, from now on; None: there are too many types."""
        known = self.types.get(name)
        if known is None and len(self.types) < TYPES_MAX:
            known = self.types[name] = TypeNumbers()
        return known

    def _worker(self, id: str) -> WorkerNumbers | None:
        known = self.workers.get(id)
        if known is None and len(self.workers) < WORKERS_MAX:
            known = self.workers[id] = WorkerNumbers()
        return known

    def _difference(self, report: Report, now: float) -> Numbers | None:
        """Return what the service of the process did since its last report; None: it is the first one.

        Workers of one type in one process report the same numbers, so each job counts once.
        """
        key = report.process, report.type
        process = self._processes.get(key)
        if process is None:
            if len(self._processes) < WORKERS_MAX:
                self._processes[key] = _Process(report.numbers, now)
            return None
        before, process.numbers, process.heard = process.numbers, report.numbers, now
        return added(report.numbers, before)

    def _forget(self, before: float) -> None:
        """Forget what was not heard of since *before*."""
        for id in [id for id, worker in self.workers.items() if worker.heard < before]:
            del self.workers[id]
        for key in [key for key, process in self._processes.items() if process.heard < before]:
            del self._processes[key]
        for name in [name for name, kind in self.types.items() if kind.active < before - LENGTH]:
            del self.types[name]


def _quantiles(window: RecentDurations) -> Quantiles:
    return Quantiles(quantile(window.counts, 0.5), quantile(window.counts, 0.99))
