"""Decodes the messages for a worker, and says which ones were dropped."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from txmicro.amqp.properties import Properties
from txmicro.errors import DecodeError, TxmicroError
from txmicro.metrics import ServiceMetrics
from txmicro.protocol.codec.base import Codec
from txmicro.protocol.codec.formats import by_content_type
from txmicro.util.log_once import LogOnce

from .connections import Bus


class Receiver:
    """Decodes the messages for one worker.

    :param worker: its id.
    """

    log = Logger()

    def __init__(self, bus: Bus, worker: str, metrics: ServiceMetrics) -> None:
        self._worker = worker
        self._metrics = metrics
        self._max_message = bus.config.max_message
        self._logged = LogOnce()
        self._codecs: dict[str | None, Codec] = {}  # those of content types that were received

    def read(self, properties: Properties, body: bytes) -> Any:
        """Return *body*, decoded by its content type; raises :class:`DecodeError`."""
        if len(body) > self._max_message:
            raise DecodeError(f"{len(body)} bytes, more than max_message ({self._max_message})")
        codec = self._codecs.get(properties.content_type)
        if codec is None:
            codec = self._codecs[properties.content_type] = by_content_type(properties.content_type or "")
        return codec.decode(body)

    def dropped(self, kind: str, error: TxmicroError) -> None:
        """Count a message of *kind* that cannot be used; log the first one."""
        self._metrics.record_error(type(error).__name__)
        if isinstance(error, DecodeError):
            self._metrics.record_undecodable()
        if self._logged.first(kind):
            self.log.warn(
                "{worker}: dropped a message of type {kind!r} that it cannot use (logged once per type): {error}",
                worker=self._worker,
                kind=kind,
                error=error,
            )
