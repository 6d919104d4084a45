"""Prometheus metrics whose values are plain numbers: samples are made from them on each scrape.

The counters of the client library take a lock for each change. These take none, so they may be changed only in the
reactor's thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final, Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from .text import encodable

LIMIT: Final = 100
"""The most values of a label."""

OTHER: Final = "other"

# Seconds: from a handler that only looks up something to one that takes a minute.
BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

_LONGEST: Final = 100

Child = TypeVar("Child")


class Children(dict[str, Child], Generic[Child]):
    """The children of a metric, by label value. A known value takes one dict lookup."""

    def __init__(self, make: Callable[[str], Child]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, value: str) -> Child:
        known = clean(value)
        if known not in self and len(self) >= LIMIT:
            known = OTHER
        if known != value:
            return self[known]
        child = self[value] = self._make(value)
        return child


def clean(value: str) -> str:
    """Return *value* so that UTF-8 can encode it, and cut if it is long."""
    return encodable(value[:_LONGEST])


class Tally:
    """A child of a counter."""

    __slots__ = ("value",)

    def __init__(self, _label: str) -> None:
        self.value = 0


class Durations:
    """A child of a histogram: the number of values in each bucket, and their sum."""

    __slots__ = ("counts", "sum")

    def __init__(self, _label: str) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Add a value."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Return the number of values up to each bucket's bound."""
        bounds = [*map(floatToGoString, BUCKETS), "+Inf"]
        return list(zip(bounds, accumulate(self.counts), strict=True))


class ReservedCollector(Collector):
    """A collector whose names, as far as it has samples from the start, no other one in its registry can have."""

    def describe(self) -> Iterable[Metric]:
        """Return the metrics, for the registry."""
        return self.collect()


class Family(ReservedCollector, Generic[Child]):
    """A metric with labels.

    :param labels: their names. The values of the last one are bounded (:class:`Children`); those of the others are the
        caller's own.
    """

    def __init__(self, name: str, text: str, labels: Sequence[str], child: Callable[[str], Child]) -> None:
        self._name = f"microservices_{name}"
        self._text = text
        self._labels = list(labels)
        self._child = child
        self._families: dict[tuple[str, ...], Children[Child]] = {}

    def of(self, *values: str) -> Children[Child]:
        """Return the children whose labels, except the last one, have these values."""
        known = self._families.get(values)
        if known is None:
            known = self._families[values] = Children(self._child)
        return known

    def _all(self) -> Iterator[tuple[list[str], Child]]:
        for values, children in self._families.items():
            for value, child in children.items():
                yield [*values, value], child


class SingleHistogram(ReservedCollector):
    """A histogram without labels, for the registry.

    :ivar durations: its values.
    """

    def __init__(self, name: str, text: str) -> None:
        self._name = f"microservices_{name}"
        self._text = text
        self.durations = Durations("")

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the samples, for the registry."""
        family = HistogramMetricFamily(self._name, self._text, labels=[])
        family.add_metric([], self.durations.buckets(), self.durations.sum)
        yield family


class Counters(Family[Tally]):
    """A counter, for the registry."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the samples, for the registry."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, tally in self._all():
            family.add_metric(labels, tally.value)
        yield family


class Histograms(Family[Durations]):
    """A histogram, for the registry."""

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the samples, for the registry."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, durations in self._all():
            family.add_metric(labels, durations.buckets(), durations.sum)
        yield family
