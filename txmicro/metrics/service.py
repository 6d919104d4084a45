"""The metrics of one service, which record what its workers do."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Container, Sequence
from typing import Any, TypeVar

from prometheus_client import Counter, Gauge, Histogram

from txmicro.util.prometheus import BUCKETS, Children, Durations, Tally

from .families import Families
from .gauges import JobCounts, QueueState

Own = TypeVar("Own", Counter, Gauge, Histogram)


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
    :ivar received: the messages received, by type. ``received["job"].value += 1`` counts one, without a call.
    :ivar sent: the messages sent, by type.
    :ivar lanes: the jobs that its workers have run, by ``job_type``.
    :ivar trips: the trips of the jobs that its workers have sent, by ``target``.
    """

    def __init__(self, metrics: Families, name: str) -> None:
        self.registry = metrics.registry
        self._metrics = metrics
        self.received = metrics.received.of(name)
        self.sent = metrics.sent.of(name)
        self._errors = metrics.errors.of(name)
        self._runs = metrics.runs.of(name)
        self._waits = metrics.waits.of(name)
        self.lanes: Children[LaneMetrics] = Children(self._lane)
        self.trips = metrics.trips.of(name)
        self._resends = metrics.resends.of(name)
        self._dead = metrics.dead.of(name)
        self._redeliveries = metrics.redeliveries.of(name)
        self._probes = metrics.probes.of()
        self._undecodable = metrics.undecodable.of()
        self._name = name

    def _lane(self, job_type: str) -> LaneMetrics:
        outcomes = self._metrics.outcomes.of(self._name, job_type)
        return LaneMetrics(outcomes, self._waits[job_type], self._runs[job_type])

    def record_message_received(self, type: str) -> None:
        """Count a received message of *type*."""
        self.received[type].value += 1

    def record_message_sent(self, type: str) -> None:
        """Count a sent message of *type*."""
        self.sent[type].value += 1

    def record_error(self, error_type: str) -> None:
        """Count an error; *error_type* is the name of its class."""
        self._errors[error_type].value += 1

    def record_resend(self, job_type: str) -> None:
        """Count a job of *job_type* that was published again."""
        self._resends[job_type].value += 1

    def record_redelivery(self, job_type: str) -> None:
        """Count a job of *job_type* that the broker delivered again."""
        self._redeliveries[job_type].value += 1

    def record_probe(self) -> None:
        """Count a question to a worker whether it has jobs."""
        self._probes[self._name].value += 1

    def record_undecodable(self) -> None:
        """Count a received message that cannot be decoded."""
        self._undecodable[self._name].value += 1

    def record_store_operation(self, store: str, operation: str, outcome: str, seconds: float) -> None:
        """Record an operation of a document store, which took *seconds*.

        :param store: the kind of the store. :param outcome: ``succeeded``, ``canceled`` or the type of the error.
        """
        self._metrics.operations.of(store, operation)[outcome].value += 1
        self._metrics.operation_times.of(store)[operation].observe(seconds)

    def record_request(self, method: str, path: str, status: str, seconds: float) -> None:
        """Record an HTTP request, which was answered after *seconds*.

        :param path: the template of the path, as there are too many paths.
        """
        self._metrics.requests.of(self._name, method, path)[status].value += 1
        self._metrics.request_times.of(self._name, method)[path].observe(seconds)

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

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """Return the process's counter *name*, for what your program counts. The first call makes it.

        Unlike :attr:`registry`, this can be used by several workers of one process. The counter may be used in any
        thread.

        :param text: what it counts. :param labels: the names of its labels.
        :raise ValueError: the name is not valid, or another metric has it.
        """
        return self._own(Counter, name, text, labels)

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """Return the process's gauge *name*, as :meth:`counter` does."""
        return self._own(Gauge, name, text, labels)

    def histogram(self, name: str, text: str, labels: Sequence[str] = ()) -> Histogram:
        """Return the process's histogram *name*, of seconds, as :meth:`counter` does."""
        return self._own(Histogram, name, text, labels, buckets=BUCKETS)

    def _own(self, kind: type[Own], name: str, text: str, labels: Sequence[str], **options: Any) -> Own:
        known = self._metrics.own.get(name)
        if known is None:
            known = self._metrics.own[name] = kind(name, text, labels, registry=self.registry, **options)
        if not isinstance(known, kind):
            raise ValueError(
                f"the metric {name} is a {type(known).__name__}, not a {kind.__name__}: use another name"
            )
        return known

    def set_worker_count(self, type: str, count: int) -> None:
        """Set the number of connected workers of *type*."""
        self._metrics.workers.set_count(type, count)

    def set_connected_workers(self, count: int) -> None:
        """Set the number of connected workers."""
        self._metrics.workers.connected = count

    def set_queue(
        self, type: str, queue: str, jobs: int | None, consumers: int | None, oldest: float | None
    ) -> None:
        """Set what is known of a queue of the worker type *type*. A value that is None is not on the page.

        :param queue: ``interactive``, ``durable``, ``quarantine`` or ``dead``.
        :param oldest: an upper bound of the age of its oldest job, in seconds.
        """
        self._metrics.queues.types.setdefault(type, {})[queue] = QueueState(jobs, consumers, oldest)

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
            "received": _values(self.received),
            "sent": _values(self.sent),
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
