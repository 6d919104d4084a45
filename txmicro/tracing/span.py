"""A span of OpenTelemetry, as workers use it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Any

from opentelemetry.context import attach
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context

from txmicro.protocol.failures import type_name

from . import conventions


class OpenTelemetrySpan:
    """A :class:`~txmicro.protocol.span.Span` that OpenTelemetry records."""

    __slots__ = ("_ended", "_span")

    def __init__(self, span: Span) -> None:
        self._span = span
        self._ended = False

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return ``function(*args)``, called while this span is the current one. Coroutines keep it."""
        return copy_context().run(self._run, function, *args)

    def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        attach(set_span_in_context(self._span))  # in a context of its own, so it need not be detached
        return function(*args)

    def event(self, name: str, attributes: Mapping[str, str | int | float] | None = None) -> None:
        """Record that something happened now."""
        if not self._ended:
            self._span.add_event(name, attributes)

    def end(self, error: BaseException | None = None, outcome: str = "") -> None:
        """End the span, with *error* unless that is None. Later calls do nothing."""
        if self._ended:
            return
        self._ended = True
        if outcome:
            self._span.set_attribute(conventions.OUTCOME, outcome)
        if error is not None and self._span.is_recording():
            self._span.set_attribute(conventions.ERROR_TYPE, type_name(error))
            self._span.record_exception(error)
            self._span.set_status(Status(StatusCode.ERROR, str(error)))
        self._span.end()
