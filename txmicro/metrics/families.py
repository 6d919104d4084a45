"""The metrics of one process, each with the numbers of all services."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from txmicro.util.prometheus import Counters, Durations, Histograms, SingleHistogram, Tally

from .bus import BusMetrics
from .gauges import JobGauges, QueueGauges, WorkerGauges

INTERACTIVE: Final = "interactive"
DURABLE: Final = "durable"
"""The values of ``job_type``."""


class Families:
    """The metrics of one process. Each family has the numbers of all services.

    :param registry: the registry that they are added to; it can hold only one ``Families``.
    :param seconds: the clock for the run times of jobs.
    :ivar bus: the connections of the process. :ivar lag: how late the reactor is.
    :ivar own: the metrics of the program's own, by name.
    """

    def __init__(self, registry: CollectorRegistry, seconds: Callable[[], float] = perf_counter) -> None:
        self.registry = registry
        self.seconds = seconds
        self.own: dict[str, Any] = {}
        service = "service"
        self.received = self._counters("messages_received", "Messages received", service, "type")
        self.sent = self._counters("messages_sent", "Messages sent", service, "type")
        self.undecodable = self._counters("undecodable_messages", "Messages that cannot be decoded", service)
        self.errors = self._counters(
            "job_errors", "Jobs that failed, and other errors", service, "error_type"
        )
        ended = "Runs of handlers, by how they ended"
        self.outcomes = self._counters("jobs", ended, service, "job_type", "outcome")
        waited = "Time from a job's send to its start"
        self.waits = self._histograms("job_wait_seconds", waited, service, "job_type")
        ran = "Time spent processing jobs"
        self.runs = self._histograms("job_processing_seconds", ran, service, "job_type")
        self.trips = self._histograms(
            "job_trip_seconds", "Time from a job's send to its end", service, "target"
        )
        self.resends = self._counters("job_resends", "Jobs that were published again", service, "job_type")
        redelivered = "Jobs that the broker delivered again"
        self.redeliveries = self._counters("job_redeliveries", redelivered, service, "job_type")
        self.probes = self._counters("probes", "Questions to workers whether they have jobs", service)
        self.dead = self._counters("dead_letters", "Durable jobs that became dead letters", service, "reason")
        operations = "Operations of document stores, by how they ended"
        self.operations = self._counters("store_operations", operations, "store", "operation", "outcome")
        took = "Time of an operation of a document store"
        self.operation_times = self._histograms("store_operation_seconds", took, "store", "operation")
        asked = "Requests that a REST worker answered"
        self.requests = self._counters("http_requests", asked, service, "method", "path", "status")
        answered = "Time from an HTTP request to its answer"
        self.request_times = self._histograms("http_request_seconds", answered, service, "method", "path")
        self.lag = SingleHistogram("reactor_lag_seconds", "Time until the reactor runs a new call")
        self.bus = BusMetrics()
        self.job_gauges = JobGauges()
        self.workers = WorkerGauges()
        self.queues = QueueGauges()
        for collector in (self.lag, self.bus, self.bus.confirms, self.job_gauges, self.workers, self.queues):
            registry.register(collector)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def _counters(self, name: str, text: str, *labels: str) -> Counters:
        family = Counters(name, text, labels, Tally)
        self.registry.register(family)
        return family

    def _histograms(self, name: str, text: str, *labels: str) -> Histograms:
        family = Histograms(name, text, labels, Durations)
        self.registry.register(family)
        return family
