"""Records the spans of jobs with OpenTelemetry.

The span of sending a job is a producer span, and that of its handler a consumer span, whose parent is the former. The
conventions allow that where each message has a span of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry.context import Context, get_current
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TracerProvider,
    get_current_span,
    get_tracer_provider,
)
from twisted.logger import Logger, LogLevel

from txmicro._version import __version__
from txmicro.protocol import topology
from txmicro.protocol.address import ANY
from txmicro.protocol.job import Job
from txmicro.protocol.trace_headers import TraceContext

from . import conventions
from .context import describe, parent_context, parse
from .span import OpenTelemetryRequestSpan, OpenTelemetrySpan, UnsampledSpan

SCHEMA: Final = "https://opentelemetry.io/schemas/1.43.0"
"""The release of the semantic conventions that the spans follow."""


_DROPS: Final = "remoteParentNotSampled:AlwaysOffSampler,"
"""A part of the description of the sampler ``ParentBased``, unless it was told to do otherwise."""

_NOT_SAMPLED: Final = frozenset("02468ace")
"""The last digits of a ``traceparent`` whose flag ``sampled`` is not set."""


class OpenTelemetryTracer:
    """A :class:`~txmicro.protocol.tracer.Tracer` that records with OpenTelemetry.

    :param provider: where the spans go; None: the global ``TracerProvider``.
    :param unix_time: returns the Unix time in seconds, for the time that a job has waited.
    """

    log = Logger()

    def __init__(
        self, provider: TracerProvider | None = None, unix_time: Callable[[], float] = time.time
    ) -> None:
        provider = provider or get_tracer_provider()
        self._unix_time = unix_time
        self._tracer = provider.get_tracer("txmicro", __version__, SCHEMA)
        self._follows = _follows_parents(provider)

    def _unsampled(self, job: Job) -> UnsampledSpan | None:
        """Return the span of a *job* whose trace is certainly not sampled, without asking the sampler.

        With sampling these are most jobs, and the sampler takes longer than the rest.
        """
        if self._follows and job.traceparent and job.traceparent[-1] in _NOT_SAMPLED:
            context = parse(job.traceparent, job.tracestate)
            return None if context is None else UnsampledSpan(context)
        return None

    def _start(
        self,
        name: str,
        context: Context | None,
        kind: SpanKind,
        attributes: Mapping[str, Any],
        links: tuple[Link, ...] = (),
    ) -> Span:
        """Return a new span. If the program's sampler or processor raises, that is logged, and the job goes on."""
        try:
            return self._tracer.start_span(name, context, kind, attributes, links)
        except Exception:
            self.log.failure(
                "a span could not be started; its job goes on without it",
                level=LogLevel.error,
                recurring=True,
            )
            return NonRecordingSpan(get_current_span(context).get_span_context())

    def send(self, job: Job) -> OpenTelemetrySpan | UnsampledSpan:
        """Start the span of sending the hop *job*, and have the hop carry its context."""
        unsampled = self._unsampled(job)
        if unsampled is not None:
            return unsampled
        name, shared = _describe_hop("send", job.address, job.durable)
        span = self._start(name, _sending_context(job), SpanKind.PRODUCER, shared)
        if span.is_recording():
            span.set_attributes({conventions.CLIENT: job.sender, **_describe_job(job)})
        return _carry(job, span)

    def process(self, job: Job, worker: str) -> OpenTelemetrySpan | UnsampledSpan:
        """Start the span of the handler that *worker* runs for *job*, and have *job* carry its context."""
        unsampled = self._unsampled(job)
        if unsampled is not None:
            return unsampled
        name, shared = _describe_hop("process", job.address, job.durable)
        parent = parse(job.traceparent, job.tracestate)
        span = self._start(name, parent_context(parent), SpanKind.CONSUMER, shared, _links(job, parent))
        if span.is_recording():
            own = {conventions.CLIENT: worker, conventions.ATTEMPT: job.tries + 1, **_describe_job(job)}
            if job.sent and not (job.durable and job.tries):  # later attempts wait as their policy says
                own[conventions.WAIT] = max(0.0, self._unix_time() - job.sent / 1000)
            span.set_attributes(own)
        return _carry(job, span)

    def publish(self, topic: str, worker: str, trace: TraceContext) -> tuple[OpenTelemetrySpan, TraceContext]:
        """Start the span of an event that *worker* publishes; return it, and the context that the event carries."""
        attributes = _describe_event(topic, worker, "publish", "send")
        name = f"publish {topology.EVENTS}"  # without the topic, which may have an id in it
        context = _current_or(parse(*trace))
        return _with_context(self._start(name, context, SpanKind.PRODUCER, attributes), trace)

    def handle(
        self, topic: str, pattern: str, worker: str, trace: TraceContext
    ) -> tuple[OpenTelemetrySpan, TraceContext]:
        """Start the span of the handler that *worker* runs for an event; return it and its context."""
        attributes = _describe_event(topic, worker, "process", "process") | {conventions.TEMPLATE: pattern}
        context = parent_context(parse(*trace))
        span = self._start(f"process {pattern}", context, SpanKind.CONSUMER, attributes)
        return _with_context(span, trace)

    def request(self, method: str, path: str, host: str, trace: TraceContext) -> OpenTelemetryRequestSpan:
        """Start the span of an HTTP request that this process answers."""
        known = method if method in conventions.METHODS else conventions.OTHER_METHOD
        attributes: dict[str, Any] = {
            conventions.METHOD: known,
            conventions.PATH: path,
            conventions.SCHEME: "http",
            **_server(host),
        }
        if known is not method:
            attributes[conventions.ORIGINAL_METHOD] = method
        name = "HTTP" if known is conventions.OTHER_METHOD else known  # as the conventions say
        span = self._start(name, parent_context(parse(*trace)), SpanKind.SERVER, attributes)
        return OpenTelemetryRequestSpan(span, name)

    def store(self, kind: str, collection: str, operation: str) -> OpenTelemetrySpan:
        """Start the span of an *operation* of a document store, below the current span."""
        attributes = {
            conventions.DATABASE: kind,
            conventions.COLLECTION: collection,
            conventions.DATABASE_OPERATION: operation,
        }
        span = self._start(f"{operation} {collection}", None, SpanKind.CLIENT, attributes)
        return OpenTelemetrySpan(span)


def _follows_parents(provider: Any) -> bool:
    """Return whether the sampler of *provider* drops all spans whose parent is not sampled, as most do."""
    sampler = getattr(provider, "sampler", None)  # the SDK's have one; the interface does not name it
    return sampler is not None and _DROPS in sampler.get_description()


def _server(host: str) -> dict[str, Any]:
    """Return the attributes of the server that the header ``Host`` names. Any client may have written it."""
    try:
        parts = urlsplit(f"//{host}")
        name, port = parts.hostname, parts.port
    except ValueError:
        return {}
    attributes: dict[str, Any] = {conventions.SERVER: name} if name else {}
    return attributes | {conventions.PORT: port} if name and port else attributes


@lru_cache(1000)
def _describe_hop(operation: str, address: str, durable: bool) -> tuple[str, dict[str, Any]]:
    """Return the name and the attributes that the spans of all hops to *address* share."""
    kind, _, rest = address.partition(":")
    exchange = topology.to_exchange(kind)
    if durable:
        key, queue = topology.DURABLE_KEY, topology.durable_queue(kind)
    elif rest == ANY:
        key, queue = "*", topology.jobs_queue(kind)
    else:
        key, queue = address, topology.direct_queue(address)
    attributes = {
        conventions.SYSTEM: conventions.RABBITMQ,
        conventions.OPERATION_NAME: operation,
        conventions.OPERATION_TYPE: operation,
        conventions.DESTINATION: f"{exchange}:{key}",
        conventions.ROUTING_KEY: key,
        conventions.LANE: "durable" if durable else "interactive",
    }
    if operation == "process":
        attributes |= {conventions.DESTINATION: f"{exchange}:{key}:{queue}", conventions.GROUP: kind}
    return f"{operation} {kind}", attributes


def _describe_job(job: Job) -> dict[str, Any]:
    return {conventions.MESSAGE: job.key, conventions.CONVERSATION: job.id}


def _sending_context(job: Job) -> Context:
    """Return the context of the span that sends *job*: the current one, unless *job* belongs to another trace.

    A later hop is sent when its handler has ended, in the context of whatever ended it.
    """
    own = parse(job.traceparent, job.tracestate)
    return parent_context(own) if job.hop else _current_or(own)


def _current_or(own: SpanContext | None) -> Context:
    current = get_current_span().get_span_context()
    if current.is_valid and (own is None or own.trace_id == current.trace_id):
        return get_current()
    return parent_context(own)


def _links(job: Job, parent: Any) -> tuple[Link, ...]:
    """Return the link of a run that is not the first one: to the run before, or, if that is unknown, to the parent."""
    earlier = parse(job.earlier_run)
    if earlier is not None:
        return (Link(earlier, {conventions.LINK: "earlier attempt"}),)
    if parent is not None and (job.tries or job.redelivered):
        return (Link(parent, {conventions.LINK: "sent again" if job.tries else "delivered again"}),)
    return ()


def _describe_event(topic: str, worker: str, name: str, operation: str) -> dict[str, Any]:
    return {
        conventions.SYSTEM: conventions.RABBITMQ,
        conventions.OPERATION_NAME: name,
        conventions.OPERATION_TYPE: operation,
        conventions.DESTINATION: f"{topology.EVENTS}:{topic}",
        conventions.ROUTING_KEY: topic,
        conventions.CLIENT: worker,
    }


def _carry(job: Job, span: Span) -> OpenTelemetrySpan:
    """Have *job* carry the context of *span*; return the span."""
    job.traceparent, job.tracestate = _carried(span, (job.traceparent, job.tracestate))
    return OpenTelemetrySpan(span)


def _with_context(span: Span, trace: TraceContext) -> tuple[OpenTelemetrySpan, TraceContext]:
    return OpenTelemetrySpan(span), _carried(span, trace)


def _carried(span: Span, trace: TraceContext) -> TraceContext:
    """Return the context that a message carries: that of *span*, unless nobody will know that span."""
    return describe(span.get_span_context()) if span.is_recording() or trace[0] is None else trace
