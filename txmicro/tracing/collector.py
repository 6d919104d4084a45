"""Reports whether the collector takes spans: once when it does not, and once when it does again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from twisted.logger import Logger, LogLevel

from txmicro.util.log_once import LogOnce

PACKAGE: Final = "opentelemetry"
"""The logger of Python's ``logging`` below which OpenTelemetry logs."""

_EXPORTERS: Final = f"{PACKAGE}.exporter"


class SdkLog(logging.Handler):
    """Forwards OpenTelemetry's log to Twisted's, each kind of line once.

    The exporter logs a line for each batch that the collector does not take. These lines are only remembered.

    :param in_reactor: calls a function in the reactor's thread; the exporter logs in its own.
    :ivar reason: the last line of the exporter.
    """

    log = Logger()

    def __init__(self, in_reactor: Callable[..., Any]) -> None:
        super().__init__(logging.WARNING)
        self.reason = "unknown"
        self._in_reactor = in_reactor
        self._logged = LogOnce()

    def emit(self, record: logging.LogRecord) -> None:
        """Remember or forward *record*."""
        text = record.getMessage()
        if record.name.startswith(_EXPORTERS):
            self.reason = text
        elif self._logged.first(record.msg):
            self._in_reactor(self._forward, text)

    def _forward(self, text: str) -> None:
        self.log.warn("OpenTelemetry: {text} (logged once)", text=text)

    def install(self) -> None:
        """Take OpenTelemetry's log from now on; Python would print it to stderr."""
        logger = logging.getLogger(PACKAGE)
        logger.addHandler(self)
        logger.propagate = False

    def remove(self) -> None:
        """Undo :meth:`install`."""
        logger = logging.getLogger(PACKAGE)
        logger.removeHandler(self)
        logger.propagate = True


class ReportingExporter(SpanExporter):
    """Exports spans with another exporter, and logs when that begins to fail and when it works again.

    :param endpoint: where the spans go, for the log.
    """

    log = Logger()

    def __init__(
        self, exporter: SpanExporter, endpoint: str, sdk_log: SdkLog, in_reactor: Callable[..., Any]
    ) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._sdk_log = sdk_log
        self._in_reactor = in_reactor
        self._works = True
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export *spans*. This runs in the thread of the span processor, and may take seconds."""
        result = self._exporter.export(spans)
        works = result is SpanExportResult.SUCCESS
        lost, self._lost = self._lost, 0 if works else self._lost + len(spans)
        if works is not self._works:
            self._works = works
            self._in_reactor(self._report, works, self._sdk_log.reason, lost)
        return result

    def _report(self, works: bool, reason: str, lost: int) -> None:
        if works:
            text, level = "{endpoint} takes spans again; {lost} spans were lost", LogLevel.info
        else:
            text = (
                "{endpoint} does not take spans: {reason}; spans are dropped until it does, and jobs go on "
                "(logged once)"
            )
            level = LogLevel.warn
        self.log.emit(level, text, endpoint=self._endpoint, reason=reason, lost=lost)

    def shutdown(self) -> None:
        """Shut the other exporter down."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the other exporter."""
        return self._exporter.force_flush(timeout_millis)
