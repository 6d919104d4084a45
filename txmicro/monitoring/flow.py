"""How many jobs flow from type to type, per second."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from .report import Report

EDGES_MAX: Final = 2_000
"""The most edges. Jobs of further ones are not counted."""

SECONDS: Final = 10
"""Seconds over which rates are averaged."""

KEPT: Final = 600
"""Seconds for which an edge without jobs is kept."""


class Edge(NamedTuple):
    """The jobs that workers of one type send to another one, per second, and those of them that fail."""

    source: str
    target: str
    jobs_per_second: float
    errors_per_second: float


class _Counts:
    """The jobs and errors of an edge.

    :ivar past: the last seconds. :ivar idle: for how many seconds there was none.
    """

    __slots__ = ("errors", "idle", "jobs", "past")

    def __init__(self) -> None:
        self.jobs = self.errors = self.idle = 0
        self.past: deque[tuple[int, int]] = deque(maxlen=SECONDS)

    def tick(self) -> None:
        self.past.append((self.jobs, self.errors))
        self.idle = 0 if self.jobs or self.errors else self.idle + 1
        self.jobs = self.errors = 0


class JobFlow:
    """The edges between the types."""

    def __init__(self) -> None:
        self._edges: dict[tuple[str, str], _Counts] = {}

    def add(self, report: Report) -> None:
        """Count what *report* says was sent, has failed, or was lost."""
        for target, count in report.sent.items():
            if edge := self._edge(report.type, target):
                edge.jobs += count
        for source, count in report.failed.items():
            if edge := self._edge(source, report.type):
                edge.errors += count
        for target, count in report.lost.items():
            if edge := self._edge(report.type, target):
                edge.errors += count

    def tick(self) -> None:
        """End a second."""
        for edge in self._edges.values():
            edge.tick()
        for key in [key for key, edge in self._edges.items() if edge.idle > KEPT]:
            del self._edges[key]

    def edges(self) -> Iterator[Edge]:
        """Yield the edges, ordered by source and target."""
        for (source, target), edge in sorted(self._edges.items()):
            seconds = max(1, len(edge.past))
            jobs, errors = (sum(column) for column in zip(*edge.past, strict=True)) if edge.past else (0, 0)
            yield Edge(source, target, jobs / seconds, errors / seconds)

    def _edge(self, source: str, target: str) -> _Counts | None:
        known = self._edges.get((source, target))
        if known is None and len(self._edges) < EDGES_MAX:
            known = self._edges[source, target] = _Counts()
        return known
