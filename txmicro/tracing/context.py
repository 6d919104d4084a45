"""The trace context of messages, as OpenTelemetry's classes."""

from __future__ import annotations

import re
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NONE: Final = Context()


def parse(traceparent: str | None, tracestate: str | None = None) -> SpanContext | None:
    """Return what a trace context of W3C says; None: there is none, or it is not valid."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if found is None:
        return None
    version, trace, span, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest):
        return None
    context = SpanContext(
        int(trace, 16),
        int(span, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(flags, 16)),
        trace_state=TraceState.from_header([tracestate]) if tracestate else None,
    )
    return context if context.is_valid else None


def describe(context: SpanContext) -> tuple[str, str | None]:
    """Return the ``traceparent`` and the ``tracestate`` of *context*."""
    traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    return traceparent, context.trace_state.to_header() if context.trace_state else None


def parent_context(context: SpanContext | None) -> Context:
    """Return the context in which a child of *context* is started; None: one in which a root is started."""
    return _NONE if context is None else set_span_in_context(NonRecordingSpan(context), _NONE)
