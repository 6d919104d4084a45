"""The monitor of a SystemManager: what it knows of the fleet, as the JSON of the page's API."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from txmicro.bus.connections import Bus
from txmicro.discovery.registry import SUSPECT
from txmicro.manager import PROBLEMS, SystemManager
from txmicro.metrics import DURABLE, INTERACTIVE
from txmicro.monitoring.fleet import Fleet, Quantiles
from txmicro.monitoring.records import Record
from txmicro.monitoring.report import Report
from txmicro.monitoring.sampling import Sampling
from txmicro.protocol.notifications import Announcement
from txmicro.protocol.trace_headers import TraceContext
from txmicro.util.clock import Timer

from .log_lines import read_line, record_of
from .queue_watch import NAMES, QUARANTINE, UNKNOWN, QueueWatch

LINES: Final = 1_000
"""Log lines that are kept."""

WAITING: Final = (INTERACTIVE, DURABLE, QUARANTINE)
"""The queues whose jobs count in a series' ``depth`` and ``oldest``: jobs that are to run."""

INTERVAL: Final = 1.0
LONGEST_INTERVAL: Final = 10.0
"""Seconds between two reports of a worker, at least and at most."""

REPORTS: Final = 500.0
"""Reports per second that are wanted at most: more workers report less often."""

WATCH_EVERY: Final = 5
"""Seconds between two watches, and between two looks at the queues."""

SOON: Final = 0.5
"""Seconds until a watch after a worker has joined: several often join at once."""

GAP: Final = 2.0
"""Seconds between two watches at least. Every worker receives each of them, and a thousand may join within a minute."""

_SERIES: Final = (
    "jobs",
    "errors",
    "wait_p50",
    "wait_p99",
    "run_p50",
    "run_p99",
    "depth",
    "oldest",
)
LINGERING: Final = 120.0
"""Seconds for which a type without workers is in the overview. One for which jobs or dead letters wait stays."""
_WORKER_PAGE: Final = 100
"""Workers in one answer, unless the caller wants fewer or more."""


class Memory(Protocol):
    """Remembers jobs: the job memory of the page."""

    def add(self, records: Iterable[Record]) -> None:
        """Remember *records*. Does not fail."""

    def __len__(self) -> int:
        """Return how many jobs are remembered."""


class Monitor(Service):
    """Watches the workers of a system through a SystemManager; a child service of the manager's bus, added after it.

    Its methods return what :doc:`/reference/page_api` describes. Times are Unix seconds, durations are seconds.

    :param manager: the manager. :param memory: remembers single jobs; None: nobody does.
    :ivar fleet: the numbers of all workers that report.
    :ivar queues: what is known of the queues of all types.
    :ivar lines: the last warnings and errors of all processes, the oldest first: ``{time, level, worker, job, service,
        message}``.
    """

    log = Logger()
    bus: Bus
    queues: QueueWatch

    def __init__(self, manager: SystemManager, memory: Memory | None = None) -> None:
        self.manager = manager
        self.memory = memory
        self.fleet = Fleet()
        self.lines: deque[dict[str, Any]] = deque(maxlen=LINES)
        self._sampling = Sampling()
        self._watching: Timer | None = None
        self._watched_at = -GAP
        self._seconds = 0
        manager.listener = self
        self._reporters: set[str] = set()  # workers on the bus that have reported
        self._changed: list[Callable[[], None]] = []
        self._line_listeners: list[Callable[[dict[str, Any]], None]] = []

    def startService(self) -> None:
        """Start to watch."""
        super().startService()
        if not isinstance(self.parent, Bus):
            raise TypeError("the monitor has no bus; call setServiceParent(bus) before it is started")
        self.bus = self.parent
        self.queues = QueueWatch(self.manager.id, self.bus, self.fleet, self.manager.metrics)
        for pattern in PROBLEMS:
            subscribing = Deferred.fromCoroutine(
                self.manager.channel.subscribe(pattern, self._logged, group=False)
            )
            subscribing.addErrback(self._not_subscribed)
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = self.bus.clock
        self._adapted_at = self.bus.clock.seconds()
        self._ticking.start(1.0, now=False)

    def stopService(self) -> None:
        """Stop watching."""
        super().stopService()
        self._ticking.stop()
        self.queues.stop()
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    # Events

    def reported(self, report: Report) -> None:
        """Take a worker's report."""
        if not self.running:
            return
        self._sampling.heard(report)
        self.fleet.heard(report, self.bus.ids.time())
        if report.worker in self.fleet.workers:
            self._reporters.add(report.worker)
        if self.memory is not None and report.records:
            self.memory.add(report.records)

    def joined(self, worker: Announcement) -> None:
        """Have *worker*, which is new, report soon."""
        if self.running:
            self.queues.joined(worker.type)
        self._watch_soon()

    def connected(self) -> None:
        """Have all workers report soon."""
        self._watch_soon()

    def _logged(self, topic: str, data: Any, _trace: TraceContext) -> None:
        """Take a log line of any process."""
        line = read_line(topic, data, self.bus.ids.time())
        if line is None or not self.running:
            return
        self.lines.append(line)
        if self.memory is not None and line["job"]:
            self.memory.add([record_of(line, data)])
        for callback in list(self._line_listeners):
            _call(self.log, callback, line)

    def _not_subscribed(self, failure: Failure) -> None:
        """Do nothing more: the channel subscribes again, and logs why it could not."""
        self.log.debug(
            "{manager} does not hear log lines yet: {reason}",
            manager=self.manager.id,
            reason=failure.getErrorMessage(),
        )

    def _watch_soon(self) -> None:
        if self._watching is None and self.running:
            wait = max(SOON, self._watched_at + GAP - self.bus.clock.seconds())
            self._watching = self.bus.clock.callLater(wait, self._watch)

    def _watch(self) -> None:
        self._watching, self._watched_at = None, self.bus.clock.seconds()
        interval = min(LONGEST_INTERVAL, max(INTERVAL, len(self.fleet.workers) / REPORTS))
        self.manager.watch(interval, self._sampling.share, self._sampling.failures)

    def _tick(self) -> None:
        """End a second, and tell those who want to know. Never raise, because that would end the loop."""
        self._seconds += 1
        try:
            self._note_depths()
            self.fleet.tick(self.bus.ids.time())
            if self._seconds % WATCH_EVERY == 0:
                now = self.bus.clock.seconds()
                self._sampling.adapt(now - self._adapted_at)  # longer than planned if the reactor was blocked
                self._adapted_at = now
                self._watch_soon()
                self._reporters.intersection_update(
                    worker.id for worker, *_ in self.manager.registry.states()
                )
                self.queues.look({*self.manager.registry.counts(), *self.fleet.types})
        except Exception:
            self.log.failure("the monitor could not end a second; it goes on", recurring=True)
        for callback in list(self._changed):
            _call(self.log, callback)

    def _note_depths(self) -> None:
        for kind, queues in self.queues.queues.items():
            if numbers := self.fleet.type(kind):
                waiting = [queues[name] for name in WAITING if name in queues]
                depths = [queue["jobs"] for queue in waiting if queue["jobs"] is not None]
                ages = [queue["oldest"] for queue in waiting if queue["jobs"] and queue["oldest"] is not None]
                numbers.depth = sum(depths) if depths else None
                numbers.oldest = max(ages, default=None)
                numbers.active = self.bus.ids.time()

    def when_changed(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call *callback* once a second, until the function is called that this returns."""
        return _listen(self._changed, callback)

    def when_line(self, callback: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Call *callback* with each new line of :attr:`lines`, until the function is called that this returns."""
        return _listen(self._line_listeners, callback)

    # Answers

    def overview(self) -> dict[str, Any]:
        """Return the content of ``/api/overview``: all types with their numbers of now.

        ``jobs_per_second``, ``errors_per_second``, ``running``, ``held`` and ``pending`` of a type are None if none of
        its workers reports, as those of MicroServices.js.
        """
        obstacle = self.manager.obstacle
        types = self._types()
        return {
            "time": self.bus.ids.time(),
            "share": self._sampling.share,
            "workers": sum(each["workers"] for each in types),
            "types": types,
            "bus": {"connected": not obstacle, "obstacle": obstacle},
            "records_per_second": self._sampling.rate,
            "remembered_jobs": 0 if self.memory is None else len(self.memory),
        }

    def _types(self) -> list[dict[str, Any]]:
        counts = self.manager.registry.counts()
        kinds = {*counts, *self.fleet.types}
        found = {
            kind: self._blank(kind)
            for kind in kinds
            if counts.get(kind) or self._lingers(kind, kind in counts)
        }
        for worker, state, _ in self._states():
            summary = found[worker.type]
            summary["workers"] += 1
            summary["suspect"] += state == SUSPECT
            summary["capacity"] += worker.capacity
            if known := self.fleet.workers.get(worker.id):
                for name in ("running", "held", "pending"):
                    summary[name] = (summary[name] or 0) + getattr(known, name)
        return [found[kind] for kind in sorted(found)]

    def _states(self) -> Iterator[tuple[Announcement, str, float]]:
        """Yield the workers as the registry does. Those that have reported and do not any more are suspect, too.

        The registry misses a worker only if there is a keepalive. One that was killed says nothing.
        """
        for worker, state, age in self.manager.registry.states():
            silent = worker.id in self._reporters and worker.id not in self.fleet.workers
            yield worker, SUSPECT if silent else state, age

    def _lingers(self, kind: str, had_workers: bool) -> bool:
        """Return whether a type without workers is still shown: something waits for it, or it was heard lately."""
        numbers = self.fleet.types.get(kind)
        heard = numbers.heard if numbers else 0.0
        if not heard and not had_workers:
            return False
        waiting = any(queue["jobs"] for queue in self.queues.queues.get(kind, {}).values())
        return waiting or self.bus.ids.time() - heard < LINGERING

    def _blank(self, kind: str) -> dict[str, Any]:
        """Return the summary of a type without its workers."""
        numbers = self.fleet.types.get(kind)
        nothing = Quantiles(None, None)
        return {
            "type": kind,
            "workers": 0,
            "suspect": 0,
            "capacity": 0,
            "running": None,
            "held": None,
            "pending": None,
            "jobs_per_second": numbers and numbers.jobs_per_second,
            "errors_per_second": numbers and numbers.errors_per_second,
            "wait": (numbers.wait if numbers else nothing)._asdict(),
            "run": (numbers.run if numbers else nothing)._asdict(),
            "trip": (numbers.trip if numbers else nothing)._asdict(),
            "queues": {queue: self.queues.queues.get(kind, {}).get(queue, UNKNOWN) for queue in NAMES},
        }

    def series(self, type: str, seconds: int = 600) -> dict[str, Any] | None:
        """Return the content of ``/api/types/{type}/series``: a value per second; None: the type is not known."""
        numbers = self.fleet.types.get(type)
        if numbers is None:
            if type not in self.manager.registry.counts():
                return None
            return {
                "type": type,
                "start": int(self.bus.ids.time()),
                "step": 1,
                **{name: [] for name in _SERIES},
            }
        columns = {name: numbers.series.last(name, seconds) for name in _SERIES}
        start = numbers.series.end - len(columns["jobs"]) + 1
        return {"type": type, "start": start, "step": 1, **columns}

    def workers(
        self,
        type: str = "",
        state: str = "",
        search: str = "",
        limit: int = _WORKER_PAGE,
        after: str = "",
    ) -> dict[str, Any]:
        """Return the content of ``/api/workers``: workers by id.

        :param type: only those of this type. :param state: only those in this state, ``alive`` or ``suspect``.
        :param search: only those whose id, host or version contains this text, in any case.
        :param limit: how many. :param after: the ``next`` of the answer before.
        """
        text = search.lower()
        found = sorted(
            (
                (worker, its_state, age)
                for worker, its_state, age in self._states()
                if (not type or worker.type == type)
                and (not state or its_state == state)
                and (not text or text in f"{worker.id} {worker.host} {worker.version}".lower())
            ),
            key=lambda each: each[0].id,
        )
        page = [each for each in found if each[0].id > after][: limit + 1]
        shown = page[:limit]
        return {
            "total": len(found),
            "next": shown[-1][0].id if len(page) > limit and shown else None,
            "workers": [self._worker(*each) for each in shown],
        }

    def _worker(self, worker: Announcement, state: str, age: float) -> dict[str, Any]:
        now = self.bus.ids.time()
        numbers = self.fleet.workers.get(worker.id)
        started = worker.started / 1000 if worker.started else None
        return {
            "id": worker.id,
            "type": worker.type,
            "state": state,
            "host": worker.host,
            "pid": worker.pid,
            "version": worker.version,
            "capacity": worker.capacity,
            "running": numbers and numbers.running,
            "held": numbers and numbers.held,
            "pending": numbers and numbers.pending,
            "started": started,
            "uptime": None if started is None else max(0.0, now - started),
            "heard": max(now - age, numbers.heard if numbers else 0.0),
            "metrics": worker.metrics,
            "jobs_per_second": numbers and numbers.rate,
        }

    def flow(self) -> dict[str, Any]:
        """Return the content of ``/api/flow``: the types, and the jobs that flow between them."""
        counts = self.manager.registry.counts()
        edges = [edge._asdict() for edge in self.fleet.flow.edges()]
        kinds = {*counts, *(edge["source"] for edge in edges), *(edge["target"] for edge in edges)}
        return {
            "nodes": [{"type": kind, "workers": counts.get(kind, 0)} for kind in sorted(kinds)],
            "edges": edges,
        }

    def errors(self, limit: int = 100) -> dict[str, Any]:
        """Return the content of ``/api/errors``: the last warnings and errors of all processes, the newest first."""
        return {"lines": list(reversed(self.lines))[:limit]}


def _listen(listeners: list[Any], callback: Any) -> Callable[[], None]:
    listeners.append(callback)
    return lambda: listeners.remove(callback) if callback in listeners else None


def _call(log: Logger, callback: Callable[..., None], *args: Any) -> None:
    try:
        callback(*args)
    except Exception:  # the others are called all the same
        log.failure("a listener of the monitor failed; the next change is told to it, too", recurring=True)
