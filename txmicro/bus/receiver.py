"""How the messages for a worker are read, and what is said of those that cannot be."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from txmicro.amqp.properties import Properties
from txmicro.errors import DecodeError, TxmicroError
from txmicro.metrics import ServiceMetrics
from txmicro.protocol.codec.formats import by_content_type
from txmicro.util.log_once import LogOnce

from .connections import Bus


class Receiver:
    """Reads the bodies for one worker.

    :param worker: its id.
    """

    log = Logger()

    def __init__(self, bus: Bus, worker: str, metrics: ServiceMetrics) -> None:
        self._worker = worker
        self._metrics = metrics
        self._max_message = bus.config.max_message
        self._said = LogOnce()

    def read(self, properties: Properties, body: bytes) -> Any:
        """What *body* holds, by its content type; raises :class:`DecodeError`."""
        if len(body) > self._max_message:
            raise DecodeError(f"{len(body)} bytes, more than max_message ({self._max_message})")
        return by_content_type(properties.content_type or "").decode(body)

    def received(self, kind: str) -> None:
        """A message of *kind* was read."""
        self._metrics.record_message_received(kind)

    def dropped(self, kind: str, error: TxmicroError) -> None:
        """A message of *kind* was of no use: it is counted, and the first one is told of."""
        self._metrics.record_error(type(error).__name__)
        if self._said.first(kind):
            self.log.warn(
                "{worker} dropped a {kind!r} that it cannot use (the next ones are only counted): {error}",
                worker=self._worker,
                kind=kind,
                error=error,
            )
