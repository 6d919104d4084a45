"""Spans of OpenTelemetry. It needs the extra ``txmicro[otel]``, and nothing else imports OpenTelemetry."""

from .tracer import OpenTelemetryTracer

__all__ = ["OpenTelemetryTracer"]
