"""A span of OpenTelemetry, as workers use it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import copy_context
from http import HTTPStatus
from typing import Any

from opentelemetry.context import attach
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    Status,
    StatusCode,
    set_span_in_context,
)
from twisted.logger import Logger, LogLevel

from txmicro.protocol.failures import type_name

from . import conventions

log = Logger()


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
        if error is not None:
            self._record(error)
        try:
            self._span.end()
        except Exception:  # of a span processor of the program
            log.failure("a span could not be ended; its job goes on", level=LogLevel.error, recurring=True)

    def _record(self, error: BaseException) -> None:
        if self._span.is_recording():  # else a traceback would be formatted for nobody
            self._span.set_attribute(conventions.ERROR_TYPE, type_name(error))
            self._span.set_status(Status(StatusCode.ERROR))
            with suppress(Exception):  # that the error's own __str__ raises
                self._span.record_exception(error)
                self._span.set_status(Status(StatusCode.ERROR, str(error)))


class UnsampledSpan:
    """A :class:`~txmicro.protocol.span.Span` that is not recorded: spans below it are not, either.

    :param context: the context of the message, which goes on unchanged.
    """

    __slots__ = ("_context",)

    def __init__(self, context: SpanContext) -> None:
        self._context = context

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return ``function(*args)``, called while this span is the current one. Coroutines keep it."""
        return OpenTelemetrySpan(NonRecordingSpan(self._context)).run(function, *args)

    def event(self, name: str, attributes: Mapping[str, str | int | float] | None = None) -> None:
        """Do nothing."""

    def end(self, error: BaseException | None = None, outcome: str = "") -> None:
        """Do nothing."""


class OpenTelemetryRequestSpan(OpenTelemetrySpan):
    """A :class:`~txmicro.protocol.span.RequestSpan` that OpenTelemetry records.

    :param method: the method, for the span's name.
    """

    __slots__ = ("_failed", "_method")

    def __init__(self, span: Span, method: str) -> None:
        super().__init__(span)
        self._method = method
        self._failed = False

    def failed(self, error: BaseException) -> None:
        """Record *error*, for which this process is to blame."""
        if not self._ended:
            self._failed = True
            self._record(error)

    def answered(self, route: str, status: int | None) -> None:
        """End the span. Later calls do nothing."""
        if self._ended:
            return
        if route:
            self._span.update_name(f"{self._method} {route}")
            self._span.set_attribute(conventions.ROUTE, route)
        if status is not None:
            self._span.set_attribute(conventions.STATUS, status)
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR and not self._failed:
                self._span.set_attribute(conventions.ERROR_TYPE, str(status))
                self._span.set_status(Status(StatusCode.ERROR))
        self.end()
