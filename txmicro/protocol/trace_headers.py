"""The headers of messages and of HTTP requests that carry a trace context: W3C Trace Context, levels 1 and 2.

``tracestate`` is passed along with ``traceparent``, and never without it. The specification asks for that, and samplers
keep their decision in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

TraceContext = tuple[str | None, str | None]
"""A ``traceparent`` and a ``tracestate``; None: there is none."""

LONGEST_TRACEPARENT: Final = 255
"""Characters of the longest ``traceparent`` that is passed along. Version 00 has 55; later ones may have more."""

LONGEST_TRACESTATE: Final = 512
"""Characters of a ``tracestate`` that everybody has to pass along. More would be a way to enlarge messages."""

_LONG_ENTRY: Final = 128
"""Characters above which an entry is left out first, as the specification asks."""


def read_trace(headers: Mapping[str, Any]) -> TraceContext:
    """Return the ``traceparent`` and the ``tracestate`` of *headers*, which any program may have written."""
    traceparent, tracestate = read_text(headers, TRACEPARENT), headers.get(TRACESTATE)
    return traceparent, shorten(tracestate) if traceparent and isinstance(tracestate, str) else None


def read_text(headers: Mapping[str, Any], name: str) -> str | None:
    """Return the header *name* if it may be a ``traceparent``, else None."""
    value = headers.get(name)
    return value if isinstance(value, str) and len(value) <= LONGEST_TRACEPARENT else None


def trace_headers(traceparent: str | None, tracestate: str | None) -> dict[str, Any]:
    """Return the headers for a trace context; none if *traceparent* is None."""
    if not traceparent:
        return {}
    return {TRACEPARENT: traceparent, TRACESTATE: tracestate} if tracestate else {TRACEPARENT: traceparent}


def shorten(tracestate: str) -> str | None:
    """Return *tracestate* with at most ``LONGEST_TRACESTATE`` characters; None if nothing is left.

    Whole entries are left out: first those that are long, then those at the end, which are the oldest.
    """
    if len(tracestate) <= LONGEST_TRACESTATE:
        return tracestate or None
    entries = [entry for entry in tracestate.split(",") if len(entry) <= _LONG_ENTRY]
    while len(",".join(entries)) > LONGEST_TRACESTATE:
        entries.pop()
    return ",".join(entries) or None
