"""Log lines about OpenTelemetry and about the collector."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from twisted.trial.unittest import SynchronousTestCase

from tests.support.logs import listen, texts
from txmicro.tracing.collector import PACKAGE, ReportingExporter, SdkLog


def at_once(function: Callable[..., Any], *args: Any) -> None:
    function(*args)


class Answers(SpanExporter):
    """An exporter with given results. It logs each failure, as the real one does."""

    def __init__(self, *results: bool) -> None:
        self._results = list(results)
        self._log = logging.getLogger(f"{PACKAGE}.exporter.otlp")

    def export(self, spans: Any) -> SpanExportResult:
        if self._results.pop(0):
            return SpanExportResult.SUCCESS
        self._log.error("Failed to export %s batch code: %s", "spans", 503)
        return SpanExportResult.FAILURE


class CollectorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sdk_log = SdkLog(at_once)
        self.sdk_log.install()
        self.addCleanup(self.sdk_log.remove)
        self.events = listen(self)

    def export(self, *results: bool) -> list[str]:
        exporter = ReportingExporter(Answers(*results), "the collector http://x", self.sdk_log, at_once)
        for _ in results:
            exporter.export([Any, Any])  # type: ignore[list-item]  # only their number counts
        return texts(self.events)

    def test_a_collector_that_works_is_not_mentioned(self) -> None:
        self.assertEqual(self.export(True, True), [])

    def test_one_line_when_it_fails_and_one_when_it_works_again(self) -> None:
        self.assertEqual(
            self.export(True, False, False, False, True, True),
            [
                "the collector http://x does not take spans: Failed to export spans batch code: 503; spans are "
                "dropped until it does, and jobs go on (logged once)",
                "the collector http://x takes spans again; 6 spans were lost",
            ],
        )

    def test_other_lines_of_opentelemetry_are_forwarded_once_each(self) -> None:
        log = logging.getLogger(f"{PACKAGE}.sdk.trace")
        for _ in range(3):
            log.warning("Queue full, dropping %s.", "Span")
        log.info("of no interest")
        self.assertEqual(texts(self.events), ["OpenTelemetry: Queue full, dropping Span. (logged once)"])

    def test_afterwards_the_log_is_as_before(self) -> None:
        self.sdk_log.remove()
        logger = logging.getLogger(PACKAGE)
        self.assertTrue(logger.propagate)
        self.assertNotIn(self.sdk_log, logger.handlers)
