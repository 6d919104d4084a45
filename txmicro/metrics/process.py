"""The metrics of one process, by service."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from prometheus_client import CollectorRegistry

from .families import Families
from .service import ServiceMetrics


class Metrics(Families):
    """The metrics of one process, which its services share.

    :param registry: the registry that they are added to; it can hold only one ``Metrics``.
    :param seconds: the clock for the run times of jobs.
    """

    def __init__(self, registry: CollectorRegistry, seconds: Callable[[], float] = perf_counter) -> None:
        super().__init__(registry, seconds)
        self._services: dict[str, ServiceMetrics] = {}

    def service(self, name: str) -> ServiceMetrics:
        """Return the metrics of the service *name*: a worker type, or ``SystemManager``."""
        if name not in self._services:
            self._services[name] = ServiceMetrics(self, name)
        return self._services[name]
