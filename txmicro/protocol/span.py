"""The interface of a span, which a :class:`~txmicro.protocol.tracer.Tracer` starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol


class Span(Protocol):
    """One operation of a trace. Its methods are called in the reactor's thread, and do not raise."""

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return ``function(*args)``, called while this span is the current one. Coroutines keep it."""

    def event(self, name: str, attributes: Mapping[str, str | int | float] | None = None) -> None:
        """Record that something happened now."""

    def end(self, error: BaseException | None = None, outcome: str = "") -> None:
        """End the span, with *error* unless that is None. Later calls do nothing.

        :param outcome: how the job ended, as the metrics name it; empty: the span has no outcome.
        """
