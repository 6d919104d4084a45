"""Spans of OpenTelemetry that are kept in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from tests.support.system import Member, SystemTestCase
from txmicro.bus.connections import Bus
from txmicro.config import Config
from txmicro.protocol.tracer import Tracer
from txmicro.tracing import OpenTelemetryTracer


class Spans:
    """The spans that have ended.

    :ivar provider: gives tracers whose spans come here.
    """

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def all(self) -> list[ReadableSpan]:
        """The spans, in the order in which they began."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> list[ReadableSpan]:
        """Return the spans of this name, in the order in which they began."""
        return [span for span in self.all if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """Return the only span of this name."""
        (span,) = self.named(name)
        return span

    def tree(self) -> list[Any]:
        """Return the names of all spans, as nested lists ``[name, child…]``. Spans without a parent here come first."""
        known = {span_id(span) for span in self.all}

        def branch(span: ReadableSpan) -> list[Any]:
            below = [each for each in self.all if each.parent and each.parent.span_id == span_id(span)]
            return [span.name, *map(branch, below)]

        return [branch(span) for span in self.all if not (span.parent and span.parent.span_id in known)]

    def clear(self) -> None:
        """Forget all spans."""
        self._exporter.clear()


def span_id(span: ReadableSpan) -> int:
    """Return the id of *span*."""
    context = span.get_span_context()
    return context.span_id if context else 0


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    """Return the attributes of *span*."""
    return span.attributes or {}


class TracedSystemTestCase(SystemTestCase):
    """Starts processes that record spans.

    :ivar spans: what they have recorded.
    """

    def setUp(self) -> None:
        super().setUp()
        self.trace_with(ALWAYS_ON)

    def trace_with(self, sampler: Sampler) -> None:
        """Record the spans that *sampler* samples."""
        self.spans = Spans(sampler)
        self.tracer = OpenTelemetryTracer(self.spans.provider, self.unix_time)

    def process(self, *members: Member, config: Config | None = None, tracer: Tracer | None = None) -> Bus:
        """Start a process that records spans."""
        return super().process(*members, config=config, tracer=tracer or self.tracer)
