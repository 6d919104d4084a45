"""The interface between workers and what records their spans, for instance :mod:`txmicro.tracing`.

Without a tracer, jobs only carry the trace context that they were sent with.
"""

from __future__ import annotations

from typing import Protocol

from .job import Job
from .span import RequestSpan, Span
from .trace_headers import TraceContext


class Tracer(Protocol):
    """Starts spans. Its methods are called in the reactor's thread, and do not raise."""

    def send(self, job: Job) -> Span:
        """Start the span of sending the hop *job*, and have the hop carry its context.

        The parent of a first hop is the current span, or the trace context that *job* has. The parent of a later hop is
        that context, which is the one of the handler before.
        """

    def process(self, job: Job, worker: str) -> Span:
        """Start the span of the handler that *worker* runs for *job*, and have *job* carry its context.

        The parent is the span that sent the hop. The span of another run has a link to the run before, or, if that is
        unknown, to the parent.
        """

    def publish(self, topic: str, worker: str, trace: TraceContext) -> tuple[Span, TraceContext]:
        """Start the span of an event that *worker* publishes; return it, and the context that the event carries.

        The parent is the current span, or *trace*.
        """

    def handle(self, topic: str, pattern: str, worker: str, trace: TraceContext) -> tuple[Span, TraceContext]:
        """Start the span of the handler that *worker* runs for an event; return it and its context.

        :param pattern: the topics to which the handler has subscribed. :param trace: the context of the event.
        """

    def request(self, method: str, path: str, host: str, trace: TraceContext) -> RequestSpan:
        """Start the span of an HTTP request that this process answers.

        :param path: the path, without the query string, which may hold secrets. :param host: the header ``Host``.
        :param trace: the trace context of the client, which is the parent.
        """

    def store(self, kind: str, collection: str, operation: str) -> Span:
        """Start the span of an *operation* of a document store, below the current span.

        :param kind: the database, ``sqlite`` or ``mongodb``. :param collection: the table or collection.
        """
