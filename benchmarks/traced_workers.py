"""The workers of ``traced.py``: those of ``observed.py``, whose bus may record spans that nobody gets."""

from __future__ import annotations

from typing import Any, Final

from txmicro import Bus

from . import observed_workers

SAMPLE: Final = "sample"
"""The setting: the part of the traces that is recorded. Without it, the bus has no tracer."""


class _Traced:
    parent: Any

    def startService(self) -> None:
        """Give the bus a tracer before the worker makes its engine."""
        bus: Bus = self.parent
        sample = bus.config.settings.get(SAMPLE)
        if sample is not None:
            bus.tracer = _tracer(float(sample))
        super().startService()  # type: ignore[misc]


def _tracer(sample: float) -> Any:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    from txmicro.tracing import OpenTelemetryTracer

    class Nowhere(SpanExporter):
        """Drops spans."""

        def export(self, spans: Any) -> SpanExportResult:
            """Drop *spans*."""
            return SpanExportResult.SUCCESS

    provider = TracerProvider(ParentBasedTraceIdRatio(sample), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Nowhere(), max_queue_size=100_000))
    return OpenTelemetryTracer(provider)


class Echo(_Traced, observed_workers.Echo):
    """Returns a job's data."""


class Bench(_Traced, observed_workers.Bench):
    """Sends jobs when it is told to."""
