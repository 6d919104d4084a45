"""The job whose handler runs here: for log lines, and for the trace context of the jobs that the handler sends.

It is a context variable. Coroutines keep it through each ``await``, ``inlineCallbacks`` functions through each
``yield``, and the worker's threads through each call. Callbacks that a handler adds to a Deferred do not have it.

Setting a context variable and resetting it calls no Python function. A coroutine copies its context anyway.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Final, NamedTuple

from txmicro.protocol.job import Job
from txmicro.protocol.trace_headers import TraceContext


class RunningJob(NamedTuple):
    """The names of the job that runs. The job itself is not held, because its data may be large.

    :ivar worker: the id of the worker that runs it.
    :ivar id: the job's id; empty: the handler of an event runs. :ivar hop: the number of its hop; 0 is the first.
    :ivar traceparent: its W3C trace context, with a tracer that of the span of its handler; None: there is none.
    :ivar tracestate: what belongs to *traceparent*; None: nothing.
    """

    worker: str
    id: str
    hop: int | None
    traceparent: str | None
    tracestate: str | None = None


_variable: Final[ContextVar[RunningJob | None]] = ContextVar("txmicro_running_job", default=None)

current: Final = _variable.get
"""Return the job whose handler runs here; None: there is none."""

leave: Final = _variable.reset
"""Set what :func:`enter` has replaced. Takes the token that it returned."""


def enter(worker: str, job: Job) -> Token[RunningJob | None]:
    """Have :func:`current` return *job*, which *worker* runs, from now on; return the token for :func:`leave`."""
    values = (worker, job.id, job.hop, job.traceparent, job.tracestate)
    return _variable.set(tuple.__new__(RunningJob, values))  # without a Python call


def enter_event(worker: str, trace: TraceContext) -> Token[RunningJob | None]:
    """Have :func:`current` return the trace context of an event that *worker* handles; return the token."""
    return _variable.set(RunningJob(worker, "", None, *trace))


def trace() -> TraceContext:
    """Return the trace context of the job or event whose handler runs here."""
    running = current()
    return (None, None) if running is None else (running.traceparent, running.tracestate)
