"""The metrics of one process, each with the numbers of all services."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final

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
    """

    def __init__(self, registry: CollectorRegistry, seconds: Callable[[], float] = perf_counter) -> None:
        self.registry = registry
        self.seconds = seconds
        self.received = self._counters("messages_received", "Messages received", "type")
        self.sent = self._counters("messages_sent", "Messages sent", "type")
        self.undecodable = self._counters("undecodable_messages", "Messages received that cannot be decoded")
        self.errors = self._counters("job_errors", "Jobs that failed, and other errors", "error_type")
        self.outcomes = self._counters("jobs", "Runs of handlers, by how they ended", "job_type", "outcome")
        self.waits = self._histograms("job_wait_seconds", "Time from a job's send to its start", "job_type")
        self.runs = self._histograms("job_processing_seconds", "Time spent processing jobs", "job_type")
        self.trips = self._histograms("job_trip_seconds", "Time from a job's send to its end", "target")
        self.resends = self._counters("job_resends", "Jobs that were published again", "job_type")
        self.redeliveries = self._counters(
            "job_redeliveries", "Jobs that the broker delivered again", "job_type"
        )
        self.probes = self._counters("probes", "Questions to workers whether they have jobs")
        self.dead = self._counters("dead_letters", "Durable jobs that became dead letters", "reason")
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
        family = Counters(name, text, ("service", *labels), Tally)
        self.registry.register(family)
        return family

    def _histograms(self, name: str, text: str, *labels: str) -> Histograms:
        family = Histograms(name, text, ("service", *labels), Durations)
        self.registry.register(family)
        return family
