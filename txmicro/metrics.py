"""The metrics of a process, for Prometheus. Names and labels are those of MicroServices.js, where it has the metric.

==========================================  =========  ===============================================
``microservices_messages_received_total``   counter    by ``service`` and ``type``
``microservices_messages_sent_total``       counter    by ``service`` and ``type``
``microservices_job_errors_total``          counter    by ``service`` and ``error_type``
``microservices_workers_total``             gauge      by ``type``
``microservices_connected_workers``         gauge      only in a process with a SystemManager
``microservices_job_processing_seconds``    histogram  by ``service`` and ``job_type``
``microservices_job_resends_total``         counter    by ``service`` and ``job_type``
``microservices_dead_letters_total``        counter    by ``service`` and ``reason``
``microservices_pending_jobs``              gauge      by ``service``: jobs sent that have not ended
``microservices_running_jobs``              gauge      by ``service``: jobs whose handler runs
``microservices_held_jobs``                 gauge      by ``service``: jobs received that wait until others have ended
``microservices_broker_blocked``            gauge      1 while the broker accepts no messages from this process
==========================================  =========  ===============================================

``service`` is a worker's type, or ``SystemManager``. ``type`` is the type of a message: ``job``, ``ack``, ``result``,
``worker.new``, …; of ``workers_total``, it is a worker's type. ``error_type`` is the name of an error's class.
``job_type`` is ``interactive`` or ``durable``. ``reason`` says why a durable job became a dead letter.

An error is counted once, where it happens, even if nobody awaits the job. That is the worker whose handler failed, or
the sender that gave up the job (``JobTimeout``, ``NoWorkerAvailable``, ``WorkerLost``, ``NotStored``).

Label values come from other programs, too, and each one takes memory here and in Prometheus as long as they run. So a
label has at most :data:`~txmicro.util.prometheus.LIMIT` values; further ones are counted as ``other``.

Values that change with every job are plain numbers (:mod:`txmicro.util.prometheus`). So record only in the reactor's
thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Gauge, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from .util.prometheus import Children, Counters, Durations, Histograms, Tally

INTERACTIVE: Final = "interactive"
DURABLE: Final = "durable"
"""The values of ``job_type``."""


class JobCounts(Protocol):
    """The numbers of a worker's jobs."""

    @property
    def pending_jobs(self) -> int:
        """How many jobs it has sent that have not ended."""

    @property
    def running_jobs(self) -> int:
        """How many of its handlers run."""

    @property
    def held_jobs(self) -> int:
        """How many jobs it has received that wait until others have ended."""


class _JobGauges(Collector):
    """The gauges of jobs, by service. They are read from the workers on each scrape, so that a job costs nothing."""

    def __init__(self) -> None:
        self.workers: dict[str, dict[JobCounts, None]] = {}

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
    """The metrics of one process, which its services share.

    :param registry: the registry that they are added to; it can hold only one ``Metrics``.
    :param seconds: the clock for the run times of jobs.
    """

    def __init__(self, registry: CollectorRegistry, seconds: Callable[[], float] = perf_counter) -> None:
        self.registry = registry
        self.seconds = seconds
        self.received = Counters("messages_received", "Messages received", "type", Tally)
        self.sent = Counters("messages_sent", "Messages sent", "type", Tally)
        self.errors = Counters("job_errors", "Jobs that failed, and other errors", "error_type", Tally)
        self.jobs = Histograms("job_processing_seconds", "Time spent processing jobs", "job_type", Durations)
        self.resends = Counters("job_resends", "Jobs that were published again", "job_type", Tally)
        self.dead = Counters("dead_letters", "Durable jobs that became dead letters", "reason", Tally)
        for family in (self.received, self.sent, self.errors, self.jobs, self.resends, self.dead):
            registry.register(family)
        self.job_gauges = _JobGauges()
        registry.register(self.job_gauges)
        self.blocked = Gauge(
            "microservices_broker_blocked", "1 while the broker accepts no messages", registry=registry
        )
        self._connected_workers: Gauge | None = None
        workers = Gauge("microservices_workers_total", "Workers by type", ["type"], registry=registry)
        self.workers: Children[Gauge] = Children(workers.labels)
        self._overflow: dict[str, int] = {}
        self._services: dict[str, ServiceMetrics] = {}
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def service(self, name: str) -> ServiceMetrics:
        """Return the metrics of the service *name*: a worker type, or ``SystemManager``."""
        if name not in self._services:
            self._services[name] = ServiceMetrics(self, name)
        return self._services[name]

    def set_connected_workers(self, count: int) -> None:
        """Set the number of connected workers. Before the first call, the page does not have the metric."""
        if self._connected_workers is None:
            self._connected_workers = Gauge(
                "microservices_connected_workers", "Workers connected to the bus", registry=self.registry
            )
        self._connected_workers.set(count)

    def set_worker_count(self, type: str, count: int) -> None:
        """Set the number of workers of *type*. Types beyond the limit are added up as ``other``."""
        child = self.workers[type]
        if type in self.workers:
            child.set(count)
            return
        self._overflow[type] = count
        if not count:
            del self._overflow[type]
        child.set(sum(self._overflow.values()))


class ServiceMetrics:
    """The metrics of one service.

    :ivar registry: the process's registry, for metrics of your own.
    """

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
        """Count a received message of *type*."""
        self._received[type].value += 1

    def record_message_sent(self, type: str) -> None:
        """Count a sent message of *type*."""
        self._sent[type].value += 1

    def record_error(self, error_type: str) -> None:
        """Count an error; *error_type* is the name of its class."""
        self._errors[error_type].value += 1

    def record_resend(self, job_type: str) -> None:
        """Count a job of *job_type* that was published again."""
        self._resends[job_type].value += 1

    def record_dead_letter(self, reason: str) -> None:
        """Count a durable job that became a dead letter, for *reason*."""
        self._dead[reason].value += 1

    def observe_job(self, job_type: str, seconds: float) -> None:
        """Record that a job of *job_type* took *seconds*."""
        self._jobs[job_type].observe(seconds)

    def start_job_timer(self, job_type: str) -> Callable[[], float]:
        """Start to time a job. Return a function that records the time, and returns it in seconds."""
        clock, started = self._metrics.seconds, self._metrics.seconds()

        def stop() -> float:
            seconds = clock() - started
            self.observe_job(job_type, seconds)
            return seconds

        return stop

    def add_job_counts(self, worker: JobCounts) -> None:
        """Count the jobs of *worker* in the gauges of this service, until :meth:`remove_job_counts`."""
        self._metrics.job_gauges.workers.setdefault(self._name, {})[worker] = None

    def remove_job_counts(self, worker: JobCounts) -> None:
        """Stop counting the jobs of *worker*. The gauges of a service without workers stay, at 0."""
        self._metrics.job_gauges.workers[self._name].pop(worker, None)

    def set_worker_count(self, type: str, count: int) -> None:
        """Set the number of connected workers of *type*."""
        self._metrics.set_worker_count(type, count)

    def set_connected_workers(self, count: int) -> None:
        """Set the number of connected workers."""
        self._metrics.set_connected_workers(count)
