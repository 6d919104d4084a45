"""The gauges that are read on each scrape: the jobs of the workers, and the queues that a manager looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, TypeVar

from prometheus_client.core import GaugeMetricFamily

from txmicro.util.prometheus import LIMIT, OTHER, ReservedCollector, clean

Value = TypeVar("Value")


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

    @property
    def job_capacity(self) -> int:
        """How many handlers run at once."""

    @property
    def pending_bytes(self) -> int:
        """Size of the messages that it keeps for the jobs that it has sent."""


class JobGauges(ReservedCollector):
    """The gauges of jobs, by service. They are read from the workers on each scrape, so that a job costs nothing."""

    def __init__(self) -> None:
        self.workers: dict[str, dict[JobCounts, None]] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges, as the registry asks for them."""
        yield self._gauge("pending_jobs", "Jobs sent that have not ended", lambda each: each.pending_jobs)
        yield self._gauge("running_jobs", "Jobs whose handler runs", lambda each: each.running_jobs)
        held = "Jobs received that wait until others have ended"
        yield self._gauge("held_jobs", held, lambda each: each.held_jobs)
        yield self._gauge("job_capacity", "Jobs that can run at once", lambda each: each.job_capacity)
        kept = "Size of the messages of jobs sent that have not ended"
        yield self._gauge("outbox_bytes", kept, lambda each: each.pending_bytes)

    def _gauge(self, name: str, text: str, read: Callable[[JobCounts], int]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"microservices_{name}", text, labels=["service"])
        for service, workers in self.workers.items():
            family.add_metric([service], sum(map(read, workers)))
        return family


class WorkerGauges(ReservedCollector):
    """The gauges of the workers on the bus, in a process with a SystemManager. Further types are added as ``other``.

    :ivar connected: how many are on the bus; None: this process has no SystemManager.
    :ivar types: how many there are, by type.
    """

    def __init__(self) -> None:
        self.connected: int | None = None
        self.types: dict[str, int] = {}

    def set_count(self, type: str, count: int) -> None:
        """Set the number of workers of *type*. A type beyond the limit is forgotten when it has none."""
        self.types[type] = count
        if not count and list(self.types).index(type) >= LIMIT:
            del self.types[type]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges, as the registry asks for them."""
        by_type = GaugeMetricFamily("microservices_workers_total", "Workers by type", labels=["type"])
        counts: dict[str, int] = {}
        for label, count in _bounded(self.types):
            counts[label] = counts.get(label, 0) + count
        for label, count in counts.items():
            by_type.add_metric([label], count)
        yield by_type
        if self.connected is not None:
            name = "microservices_connected_workers"
            yield GaugeMetricFamily(name, "Workers connected to the bus", self.connected)


def _bounded(types: dict[str, Value]) -> Iterator[tuple[str, Value]]:
    """Yield the label value of each worker type, ``other`` for those beyond the limit, and its value."""
    for number, (type, value) in enumerate(types.items()):
        yield clean(type) if number < LIMIT else OTHER, value


class QueueState(NamedTuple):
    """The numbers of one queue; None: unknown."""

    jobs: int | None
    consumers: int | None
    oldest: float | None


class QueueGauges(ReservedCollector):
    """The gauges of the queues of each worker type. Those of the types beyond the limit are added up as ``other``."""

    def __init__(self) -> None:
        self.types: dict[str, dict[str, QueueState]] = {}

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
        read: Callable[[QueueState], float | None],
        join: Callable[[list[float]], float],
    ) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"microservices_queue_{name}", text, labels=["type", "queue"])
        values: dict[tuple[str, str], list[float]] = {}
        for label, queues in _bounded(self.types):
            for queue, state in queues.items():
                value = read(state)
                if value is not None:
                    values.setdefault((label, queue), []).append(value)
        for labels, known in values.items():
            family.add_metric(labels, join(known))
        return family
