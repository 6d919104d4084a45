"""The metrics of a process, for Prometheus: those of MicroServices.js, under their names and labels, and ours.

==========================================  =========  ===============================================
``microservices_messages_received_total``   counter    by ``service`` and ``type``
``microservices_messages_sent_total``       counter    by ``service`` and ``type``
``microservices_job_errors_total``          counter    by ``service`` and ``error_type``
``microservices_workers_total``             gauge      by ``type``
``microservices_connected_workers``         gauge      on a SystemManager's page only, as no one else knows
``microservices_job_processing_seconds``    histogram  by ``service`` and ``job_type``
``microservices_job_resends_total``         counter    by ``service`` and ``job_type``
``microservices_dead_letters_total``        counter    by ``service`` and ``reason``
``microservices_pending_jobs``              gauge      by ``service``: jobs sent that have not ended
``microservices_running_jobs``              gauge      by ``service``: jobs whose handler runs
``microservices_held_jobs``                 gauge      by ``service``: jobs received that wait until others have ended
``microservices_broker_blocked``            gauge      1 while the broker takes no messages of this process
==========================================  =========  ===============================================

``service`` is a worker's type, or ``SystemManager``. ``type`` is a message's: ``job``, ``ack``, ``result``,
``worker.new``, … (of ``workers_total``: a worker's). ``error_type`` is the name of an error's class. ``job_type`` is
``interactive`` or ``durable``. ``reason`` says why a durable job was moved to the dead letters.

An error is counted once, where it happens, whether anybody awaits the job or not: at the worker whose handler failed,
or at the sender that gave the job up (``JobTimeout``, ``NoWorkerAvailable``, ``WorkerLost``, ``NotStored``).

Label values come from other programs too, and each one costs memory here and in Prometheus for ever. So each
label takes :data:`LIMIT` of them, and the rest count as ``other``.

What is recorded with every job is counted in plain numbers, which become samples when somebody reads them: the
client library's own counters take a lock each time. So recording belongs to the reactor's thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate
from time import perf_counter
from typing import Final, Generic, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Gauge, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from .util.text import encodable

LIMIT: Final = 100
"""How many values a label takes."""

OTHER: Final = "other"

INTERACTIVE: Final = "interactive"
DURABLE: Final = "durable"
"""The values of ``job_type``."""

# Seconds: from a handler that only looks something up to one that somebody waits for.
BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

_LONGEST: Final = 100

Child = TypeVar("Child")


class _Children(dict[str, Child], Generic[Child]):
    """The children of a metric, by label value. A known one costs a dict's lookup."""

    def __init__(self, make: Callable[[str], Child]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, value: str) -> Child:
        known = _clean(value)
        if known not in self and len(self) >= LIMIT:
            known = OTHER
        if known != value:
            return self[known]
        child = self[value] = self._make(value)
        return child


def _clean(value: str) -> str:
    """*value* as a page in UTF-8 can show it, and not for ever."""
    return encodable(value[:_LONGEST])


class _Tally:
    """A child of a counter."""

    __slots__ = ("value",)

    def __init__(self, _label: str) -> None:
        self.value = 0


class _Durations:
    """A child of a histogram: how many fell into each bucket, and their sum."""

    __slots__ = ("counts", "sum")

    def __init__(self, _label: str) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """How many were at most as long as each bucket's bound."""
        bounds = [*map(floatToGoString, BUCKETS), "+Inf"]
        return list(zip(bounds, accumulate(self.counts), strict=True))


class _Family(Collector, Generic[Child]):
    """Children by service and by one more label."""

    def __init__(self, name: str, text: str, label: str, child: Callable[[str], Child]) -> None:
        self._name = f"microservices_{name}"
        self._text = text
        self._labels = ["service", label]
        self._child = child
        self._services: dict[str, _Children[Child]] = {}

    def of(self, service: str) -> _Children[Child]:
        """The children of a service."""
        return self._services.setdefault(service, _Children(self._child))

    def _all(self) -> Iterator[tuple[list[str], Child]]:
        for service, children in self._services.items():
            for value, child in children.items():
                yield [service, value], child


class _Counters(_Family[_Tally]):
    def collect(self) -> Iterator[CounterMetricFamily]:
        """What the registry asks for."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, tally in self._all():
            family.add_metric(labels, tally.value)
        yield family


class _Histograms(_Family[_Durations]):
    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What the registry asks for."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, durations in self._all():
            family.add_metric(labels, durations.buckets(), durations.sum)
        yield family


class JobCounts(Protocol):
    """A worker, as far as its jobs are counted."""

    @property
    def pending_jobs(self) -> int:
        """How many jobs it has sent that have not ended."""

    @property
    def running_jobs(self) -> int:
        """How many jobs it runs."""

    @property
    def held_jobs(self) -> int:
        """How many jobs it has received that wait until others have ended."""


class _JobGauges(Collector):
    """The gauges of jobs, by service. They are read from the workers on each scrape, so that a job costs nothing."""

    def __init__(self) -> None:
        self.workers: dict[str, list[JobCounts]] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges, as the registry asks for them."""
        yield self._gauge("pending", "Jobs sent that have not ended", lambda worker: worker.pending_jobs)
        yield self._gauge("running", "Jobs whose handler runs", lambda worker: worker.running_jobs)
        yield self._gauge(
            "held", "Jobs received that wait until others have ended", lambda worker: worker.held_jobs
        )

    def _gauge(self, name: str, text: str, count: Callable[[JobCounts], int]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"microservices_{name}_jobs", text, labels=["service"])
        for service, workers in self.workers.items():
            family.add_metric([service], sum(map(count, workers)))
        return family


class Metrics:
    """The metric families of one process; several services in it share them.

    :param registry: where they are registered, at most once.
    :param seconds: the clock that jobs are timed by.
    """

    def __init__(self, registry: CollectorRegistry, seconds: Callable[[], float] = perf_counter) -> None:
        self.registry = registry
        self.seconds = seconds
        self.received = _Counters("messages_received", "Messages received", "type", _Tally)
        self.sent = _Counters("messages_sent", "Messages sent", "type", _Tally)
        self.errors = _Counters("job_errors", "Jobs that failed, and other errors", "error_type", _Tally)
        self.jobs = _Histograms(
            "job_processing_seconds", "Time spent processing jobs", "job_type", _Durations
        )
        self.resends = _Counters("job_resends", "Jobs that were published once more", "job_type", _Tally)
        self.dead = _Counters("dead_letters", "Durable jobs that were given up", "reason", _Tally)
        for family in (self.received, self.sent, self.errors, self.jobs, self.resends, self.dead):
            registry.register(family)
        self.job_gauges = _JobGauges()
        registry.register(self.job_gauges)
        self.blocked = Gauge(
            "microservices_broker_blocked", "Whether the broker takes no messages", registry=registry
        )
        self._connected_workers: Gauge | None = None
        workers = Gauge("microservices_workers_total", "Workers by type", ["type"], registry=registry)
        self.workers: _Children[Gauge] = _Children(workers.labels)
        self._crowd: dict[str, int] = {}
        self._services: dict[str, ServiceMetrics] = {}
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def service(self, name: str) -> ServiceMetrics:
        """The metrics of the service called *name*: a worker type, or the SystemManager's."""
        if name not in self._services:
            self._services[name] = ServiceMetrics(self, name)
        return self._services[name]

    def set_connected_workers(self, count: int) -> None:
        """There are *count* workers on the bus. A page does not show what its process never said."""
        if self._connected_workers is None:
            self._connected_workers = Gauge(
                "microservices_connected_workers", "Workers connected to the bus", registry=self.registry
            )
        self._connected_workers.set(count)

    def set_worker_count(self, type: str, count: int) -> None:
        """There are *count* workers of *type*; ``other`` holds the sum of the types beyond the limit."""
        child = self.workers[type]
        if type in self.workers:
            child.set(count)
            return
        self._crowd[type] = count
        if not count:
            del self._crowd[type]
        child.set(sum(self._crowd.values()))


class ServiceMetrics:
    """What one service records; also the API for the metrics of one's own, in :attr:`registry`."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self.registry = metrics.registry
        self._metrics = metrics
        self._received = metrics.received.of(name)
        self._sent = metrics.sent.of(name)
        self._errors = metrics.errors.of(name)
        self._jobs = metrics.jobs.of(name)
        self._resends = metrics.resends.of(name)
        self._dead = metrics.dead.of(name)
        self._name = name

    def record_message_received(self, type: str) -> None:
        """A message of *type* came in."""
        self._received[type].value += 1

    def record_message_sent(self, type: str) -> None:
        """A message of *type* went out."""
        self._sent[type].value += 1

    def record_error(self, error_type: str) -> None:
        """A job failed, or something else did, with an error of *error_type*."""
        self._errors[error_type].value += 1

    def record_resend(self, job_type: str) -> None:
        """A job of *job_type* was published once more."""
        self._resends[job_type].value += 1

    def record_dead_letter(self, reason: str) -> None:
        """A durable job was given up, for *reason*."""
        self._dead[reason].value += 1

    def observe_job(self, job_type: str, seconds: float) -> None:
        """A job of *job_type* took *seconds*."""
        self._jobs[job_type].observe(seconds)

    def start_job_timer(self, job_type: str) -> Callable[[], float]:
        """Start to time a job; call the result once it is done: it records the time, and gives it in seconds."""
        clock, started = self._metrics.seconds, self._metrics.seconds()

        def stop() -> float:
            seconds = clock() - started
            self.observe_job(job_type, seconds)
            return seconds

        return stop

    def add_job_counts(self, worker: JobCounts) -> None:
        """Count the jobs of *worker* in the gauges of this service, until :meth:`remove_job_counts`."""
        self._metrics.job_gauges.workers.setdefault(self._name, []).append(worker)

    def remove_job_counts(self, worker: JobCounts) -> None:
        """Count the jobs of *worker* no more. The gauges of a service without workers stay, at 0."""
        self._metrics.job_gauges.workers[self._name].remove(worker)

    def set_worker_count(self, type: str, count: int) -> None:
        """There are *count* workers of *type* on the bus."""
        self._metrics.set_worker_count(type, count)

    def set_connected_workers(self, count: int) -> None:
        """There are *count* workers on the bus."""
        self._metrics.set_connected_workers(count)
