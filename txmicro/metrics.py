"""The metrics of a process, for Prometheus. Names and labels are those of MicroServices.js, where it has the metric.

==========================================  =========  ===============================================
``microservices_messages_received_total``   counter    by ``service`` and ``type``
``microservices_messages_sent_total``       counter    by ``service`` and ``type``
``microservices_job_errors_total``          counter    by ``service`` and ``error_type``
``microservices_workers_total``             gauge      by ``type``
``microservices_connected_workers``         gauge      only in a process with a SystemManager
``microservices_job_processing_seconds``    histogram  by ``service`` and ``job_type``
``microservices_jobs_total``                counter    by ``service``, ``job_type`` and ``outcome``
``microservices_job_wait_seconds``          histogram  by ``service`` and ``job_type``
``microservices_job_trip_seconds``          histogram  by ``service`` and ``target``
``microservices_job_resends_total``         counter    by ``service`` and ``job_type``
``microservices_dead_letters_total``        counter    by ``service`` and ``reason``
``microservices_pending_jobs``              gauge      by ``service``: jobs sent that have not ended
``microservices_running_jobs``              gauge      by ``service``: jobs whose handler runs
``microservices_held_jobs``                 gauge      by ``service``: jobs received that wait until others have ended
``microservices_broker_blocked``            gauge      1 while the broker accepts no messages from this process
``microservices_queue_jobs``                gauge      by ``type`` and ``queue``; only in a process with a SystemManager
``microservices_queue_consumers``           gauge      by ``type`` and ``queue``; only in a process with a SystemManager
``microservices_queue_oldest_seconds``      gauge      by ``type`` and ``queue``; only in a process with a SystemManager
==========================================  =========  ===============================================

``service`` is a worker's type, or ``SystemManager``. ``type`` is the type of a message: ``job``, ``ack``, ``result``,
``worker.new``, …; of ``workers_total``, it is a worker's type. ``error_type`` is the name of an error's class.
``job_type`` is ``interactive`` or ``durable``. ``reason`` says why a durable job became a dead letter. ``target`` is
the type that a job's first address names. ``queue`` is ``interactive``, ``durable``, ``quarantine`` or ``dead``.

``outcome`` says how a handler's run ended, at the worker that ran it:

=============  =====================================================================
``succeeded``  the job has ended with a result
``failed``     an interactive job has ended with an error
``forwarded``  the job goes on to its next hop
``canceled``   its sender has given the job up
``retried``    a durable job has failed, and is tried again
``dead``       a durable job has failed for the last time, and becomes a dead letter
``returned``   the worker stops; a durable job is returned to the broker
=============  =====================================================================

Three histograms tell where the time goes. A job waits from when it was sent until its handler starts
(``job_wait_seconds``). The handler runs (``job_processing_seconds``). The trip is the time from the send to the end,
with all hops, at the worker that sent the job (``job_trip_seconds``). A wait is the difference between the clocks of
two machines; one below 0 counts as 0. Only the first attempt of a durable job has a wait: later ones start when its
worker's ``retry`` says.

An error is counted once, where it happens, even if nobody awaits the job. That is the worker whose handler failed, or
the sender that gave up the job (``JobTimeout``, ``NoWorkerAvailable``, ``WorkerLost``, ``NotStored``).

Label values come from other programs, too, and each one takes memory here and in Prometheus as long as they run. So a
label has at most :data:`~txmicro.util.prometheus.LIMIT` values; further ones are counted as ``other``.

Values that change with every job are plain numbers (:mod:`txmicro.util.prometheus`). So record only in the reactor's
thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Container, Iterator
from time import perf_counter
from typing import Any, Final, NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Gauge, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from .util.prometheus import BUCKETS, LIMIT, OTHER, Children, Counters, Durations, Histograms, Tally, clean

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


class _QueueState(NamedTuple):
    """The numbers of one queue; None: unknown."""

    jobs: int | None
    consumers: int | None
    oldest: float | None


class _QueueGauges(Collector):
    """The gauges of the queues of each worker type. Those of the types beyond the limit are added up as ``other``."""

    def __init__(self) -> None:
        self.types: dict[str, dict[str, _QueueState]] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges, as the registry asks for them; none if nobody looks at queues."""
        if not self.types:
            return
        yield self._gauge("jobs", "Jobs that wait in the queue", lambda state: state.jobs, sum)
        yield self._gauge("consumers", "Consumers of the queue", lambda state: state.consumers, sum)
        yield self._gauge(
            "oldest_seconds",
            "Upper bound of the age of the queue's oldest job",
            lambda state: state.oldest,
            max,
        )

    def _gauge(
        self,
        name: str,
        text: str,
        read: Callable[[_QueueState], float | None],
        join: Callable[[list[float]], float],
    ) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"microservices_queue_{name}", text, labels=["type", "queue"])
        values: dict[tuple[str, str], list[float]] = {}
        for number, (kind, queues) in enumerate(self.types.items()):
            label = clean(kind) if number < LIMIT else OTHER
            for queue, state in queues.items():
                value = read(state)
                if value is not None:
                    values.setdefault((label, queue), []).append(value)
        for labels, known in values.items():
            family.add_metric(labels, join(known))
        return family


class Metrics:
    """The metrics of one process, which its services share.

    :param registry: the registry that they are added to; it can hold only one ``Metrics``.
    :param seconds: the clock for the run times of jobs.
    """

    def __init__(self, registry: CollectorRegistry, seconds: Callable[[], float] = perf_counter) -> None:
        self.registry = registry
        self.seconds = seconds
        self.received = self._counters("messages_received", "Messages received", "type")
        self.sent = self._counters("messages_sent", "Messages sent", "type")
        self.errors = self._counters("job_errors", "Jobs that failed, and other errors", "error_type")
        self.outcomes = self._counters("jobs", "Runs of handlers, by how they ended", "job_type", "outcome")
        self.waits = self._histograms("job_wait_seconds", "Time from a job's send to its start", "job_type")
        self.runs = self._histograms("job_processing_seconds", "Time spent processing jobs", "job_type")
        self.trips = self._histograms("job_trip_seconds", "Time from a job's send to its end", "target")
        self.resends = self._counters("job_resends", "Jobs that were published again", "job_type")
        self.dead = self._counters("dead_letters", "Durable jobs that became dead letters", "reason")
        self.job_gauges = _JobGauges()
        registry.register(self.job_gauges)
        self.queues = _QueueGauges()
        registry.register(self.queues)
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

    def _counters(self, name: str, text: str, *labels: str) -> Counters:
        family = Counters(name, text, ("service", *labels), Tally)
        self.registry.register(family)
        return family

    def _histograms(self, name: str, text: str, *labels: str) -> Histograms:
        family = Histograms(name, text, ("service", *labels), Durations)
        self.registry.register(family)
        return family

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


class LaneMetrics:
    """The numbers of the jobs of one lane that the workers of a service have run.

    :ivar outcomes: how many ended how. ``lane.outcomes[SUCCEEDED].value += 1`` counts one, without a call.
    """

    __slots__ = ("_run", "_wait", "outcomes")

    def __init__(self, outcomes: Children[Tally], wait: Durations, run: Durations) -> None:
        self.outcomes = outcomes
        self._wait = wait
        self._run = run

    def ran(self, seconds: float, wait: float | None) -> None:
        """Record that a handler ran for *seconds*, after its job had waited for *wait* seconds; None: unknown."""
        run = self._run
        run.counts[bisect_left(BUCKETS, seconds)] += 1  # as in observe, without the calls
        run.sum += seconds
        if wait is not None:
            wait = max(0.0, wait)  # clocks differ
            waits = self._wait
            waits.counts[bisect_left(BUCKETS, wait)] += 1
            waits.sum += wait


class ServiceMetrics:
    """The metrics of one service.

    :ivar registry: the process's registry, for metrics of your own.
    :ivar lanes: the jobs that its workers have run, by ``job_type``.
    :ivar trips: the trips of the jobs that its workers have sent, by ``target``.
    """

    def __init__(self, metrics: Metrics, name: str) -> None:
        self.registry = metrics.registry
        self._metrics = metrics
        self._received = metrics.received.of(name)
        self._sent = metrics.sent.of(name)
        self._errors = metrics.errors.of(name)
        self._runs = metrics.runs.of(name)
        self._waits = metrics.waits.of(name)
        self.lanes: Children[LaneMetrics] = Children(self._lane)
        self.trips = metrics.trips.of(name)
        self._resends = metrics.resends.of(name)
        self._dead = metrics.dead.of(name)
        self._name = name

    def _lane(self, job_type: str) -> LaneMetrics:
        outcomes = self._metrics.outcomes.of(self._name, job_type)
        return LaneMetrics(outcomes, self._waits[job_type], self._runs[job_type])

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
        self._runs[job_type].observe(seconds)

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

    def set_queue(
        self, type: str, queue: str, jobs: int | None, consumers: int | None, oldest: float | None
    ) -> None:
        """Set what is known of a queue of the worker type *type*. A value that is None is not on the page.

        :param queue: ``interactive``, ``durable``, ``quarantine`` or ``dead``.
        :param oldest: an upper bound of the age of its oldest job, in seconds.
        """
        self._metrics.queues.types.setdefault(type, {})[queue] = _QueueState(jobs, consumers, oldest)

    def keep_queues(self, types: Container[str]) -> None:
        """Remove the queues of all worker types that are not among *types*."""
        known = self._metrics.queues.types
        for type in [each for each in known if each not in types]:
            del known[type]

    def snapshot(self) -> dict[str, Any]:
        """Return this service's numbers so far, which only grow while the process runs, as plain dicts.

        - ``received``, ``sent``, ``errors``, ``resends``, ``dead``: numbers by the metric's label.
        - ``jobs``: numbers by lane and outcome.
        - ``wait``, ``run`` by lane, ``trip`` by target: ``{"counts": […], "sum": seconds}``. There is one count per
          bucket of :data:`~txmicro.util.prometheus.BUCKETS`, and one more for longer times. They are not added up.
        """
        return {
            "received": _values(self._received),
            "sent": _values(self._sent),
            "errors": _values(self._errors),
            "resends": _values(self._resends),
            "dead": _values(self._dead),
            "jobs": {job_type: _values(lane.outcomes) for job_type, lane in self.lanes.items()},
            "wait": _buckets(self._waits),
            "run": _buckets(self._runs),
            "trip": _buckets(self.trips),
        }


def _values(tallies: Children[Tally]) -> dict[str, int]:
    return {label: tally.value for label, tally in tallies.items()}


def _buckets(durations: Children[Durations]) -> dict[str, Any]:
    return {label: {"counts": each.counts.copy(), "sum": each.sum} for label, each in durations.items()}
