"""The trace context of the job that is being run, for the jobs that its handler sends.

It is a context variable, which coroutines keep, through every ``await``, and so do ``inlineCallbacks`` functions.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any, Final

_current: Final[ContextVar[str | None]] = ContextVar("txmicro_traceparent", default=None)

current: Final = _current.get
"""Return the W3C trace context of the job that is being run here; None: there is none."""


def call_in(traceparent: str | None, function: Callable[..., Any], *args: Any) -> Any:
    """Return ``function(*args)``, called where :func:`current` is *traceparent*, also for what it starts."""
    if traceparent is None and current() is None:  # so it is nearly always, and a context takes time
        return function(*args)
    context = copy_context()
    context.run(_current.set, traceparent)
    return context.run(function, *args)
