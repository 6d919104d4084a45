"""The metrics of a process's connections to the broker."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from txmicro.util.prometheus import ReservedCollector, SingleHistogram


class BusMetrics(ReservedCollector):
    """The metrics of a process's connections to the broker. A process without a bus has only ``broker_blocked``.

    :ivar blocked: whether the broker accepts no messages.
    :ivar confirms: how long the broker takes to confirm messages that it is to keep.
    """

    def __init__(self) -> None:
        self.blocked = False
        self.confirms = SingleHistogram("confirm_seconds", "Time until the broker confirms a durable message")
        self._connected: bool | None = None
        self._connections = 0

    def set_connected(self, connected: bool) -> None:
        """Note whether the bus is connected. Each connection after the first one counts as a reconnection."""
        self._connected = connected
        self._connections += connected

    def collect(self) -> Iterator[Metric]:
        """Yield the samples, for the registry."""
        blocked = "1 while the broker accepts no messages"
        yield GaugeMetricFamily("microservices_broker_blocked", blocked, float(self.blocked))
        if self._connected is None:
            return
        connected = "1 while the process is connected to a broker"
        yield GaugeMetricFamily("microservices_bus_connected", connected, float(self._connected))
        again = "Connections to a broker after the first one"
        yield CounterMetricFamily("microservices_bus_reconnects", again, max(0, self._connections - 1))
