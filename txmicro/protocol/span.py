"""The interfaces of spans, which a :class:`~txmicro.protocol.tracer.Tracer` starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Span(Protocol):
    """One operation of a trace. Its methods are called in the reactor's thread, and do not raise."""

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return ``function(*args)``, called while this span is the current one. Coroutines keep it."""

    def event(self, name: str, attributes: Mapping[str, str | int | float] | None = None) -> None:
        """Record that something happened now."""

    def end(self, error: BaseException | None = None, outcome: str = "") -> None:
        """End the span, with *error* unless that is None. Later calls do nothing.

        :param outcome: how the job ended, one of :mod:`~txmicro.protocol.outcomes`; empty: it is not the span of a run.
        """


class RequestSpan(Protocol):
    """The span of an HTTP request that this process answers."""

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return ``function(*args)``, called while this span is the current one. Coroutines keep it."""

    def failed(self, error: BaseException) -> None:
        """Record *error*, for which this process is to blame."""

    def answered(self, route: str, status: int | None) -> None:
        """End the span. Later calls do nothing.

        :param route: the template of the path; empty: no handler has the path.
        :param status: the status of the answer; None: the client has closed the connection before.
        """


def end_with(span: Span, operation: Deferred[T]) -> Deferred[T]:
    """End *span* when *operation* fires or fails; return *operation*."""

    def ended(result: Any) -> Any:
        span.end(result.value if isinstance(result, Failure) else None)
        return result

    return operation.addBoth(ended)
