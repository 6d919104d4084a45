"""The trace context of the running job, for the jobs that its handler sends.

It is a context variable. Coroutines keep it through each ``await``, and so do ``inlineCallbacks`` functions.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any, Final

_current: Final[ContextVar[str | None]] = ContextVar("txmicro_traceparent", default=None)

current: Final = _current.get
"""Return the W3C trace context of the job that runs here; None: there is none."""


def call_in(traceparent: str | None, function: Callable[..., Any], *args: Any) -> Any:
    """Return ``function(*args)``, called in a context where :func:`current` returns *traceparent*."""
    if traceparent is None and current() is None:  # which is most common; a copied context costs time
        return function(*args)
    context = copy_context()
    context.run(_current.set, traceparent)
    return context.run(function, *args)
