"""An HTTP server with limits for bodies and for the time of a request, and with an orderly shutdown.

The Site of twisted.web stores any body, in memory or in a temporary file, before a resource can refuse it. It waits
without a limit for a request of which a byte arrives now and then. It goes on serving open connections when its port is
closed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.server import Request, Site

from txmicro.errors import EncodeError
from txmicro.protocol.codec.json import JSON
from txmicro.protocol.span import RequestSpan
from txmicro.protocol.trace_headers import TraceContext, shorten
from txmicro.protocol.tracer import Tracer
from txmicro.util.prometheus import OTHER

from .channel import LINGER, BackpressureChannel

REQUEST_TIMEOUT: Final = 60.0
"""Seconds in which a whole request has to arrive, and the next one has to begin: the default of twisted.web."""

NO_ROUTE: Final = "unknown"
"""The route of all paths that have no handler."""

CLOSED: Final = "closed"
"""The status of a request whose client has closed the connection before the answer."""

_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
"""The methods that have their own numbers."""


class BoundedRequest(Request):
    """A request of a :class:`BoundedSite`. Errors are JSON."""

    channel: Any
    content: Any
    refused: bool = False

    def gotLength(self, length: int | None) -> None:
        """Refuse the request if its ``Content-Length`` is above the limit. All headers have arrived."""
        super().gotLength(length)
        if length is not None and length > self.channel.site.body_max:
            self.requestHeaders.removeHeader(b"expect")  # or twisted.web would answer "100 Continue"
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """Store a part of the body, or refuse the request if the body exceeds the limit."""
        if self.refused:
            return
        if self.content.tell() + len(data) > self.channel.site.body_max:
            self._refuse()
        else:
            self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Handle the request, which has arrived completely, unless it was refused."""
        if self.refused:
            self.channel.setTimeout(LINGER)
            return
        super().requestReceived(command, path, version)

    def _refuse(self) -> None:
        """Answer before the body has arrived, and close, so that the body is not parsed as the next request."""
        self.refused = True
        self.clientproto = b"HTTP/1.1"
        self.channel.persistent = False
        limit = self.channel.site.body_max
        text = f"the body is too large: expected at most {limit} bytes (http_body_max)"
        self.write(self.error(413, "MessageTooLarge", text))
        self.channel.close_after_answer()

    def json(self, value: Any, code: int = 200) -> bytes:
        """Set status and headers of an answer; return its body, *value* in JSON.

        :raise TypeError: JSON cannot carry *value*.
        """
        try:
            body = JSON.encode({"": value})[4:-1]  # the codec encodes objects only: {"":…}
        except EncodeError as error:  # has the status 400, but the client is not to blame
            raise TypeError(f"the answer cannot be encoded in JSON: {error.message}") from error
        self.setResponseCode(code)
        self.setHeader(b"content-type", b"application/json")
        self.setHeader(b"content-length", b"%d" % len(body))
        return body

    def error(self, code: int, type: str, message: str) -> bytes:
        """Set status and headers of an answer that is an error; return its body."""
        return self.json({"error": type, "message": message}, code)

    def write(self, data: bytes) -> None:
        """Send a part of the answer; the first part with the headers."""
        if not self.startedWriting and self.channel is not None:
            self.set_headers()
        super().write(data)

    def set_headers(self) -> None:
        """Set the headers that each answer has."""
        if not self.channel.persistent:
            self.setHeader(b"connection", b"close")

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer a request whose handler failed, or that no handler can take."""
        if self.channel is not None:
            self.write(self.channel.site.explain(self, reason))
            self.finish()
        return reason


class LimitedRequest(BoundedRequest):
    """A request of a :class:`LimitedSite`. Each answer has its duration and a job's id.

    :ivar job_id: the id in the answer: that of the job that was sent. If it is None, a fresh id is used.
    :ivar outcome: the return value of the handler, or its failure, if Klein is to render it.
    :ivar route: the template of its path; :data:`NO_ROUTE`: the path has no handler.
    :ivar span: its span, which is the current one while it is handled; None: there is none.
    """

    job_id: str | None = None
    outcome: Any
    route: str = NO_ROUTE
    span: RequestSpan | None = None
    _arrived: float | None = None
    _observed = False

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Note the time, and handle the request, unless it was refused."""
        received = super().requestReceived
        if not self.refused:
            site = self.channel.site
            self._arrived = site.reactor.seconds()
            if site.tracer is not None:
                self.span = span = self._start_span(site.tracer, command, path)
                received = partial(span.run, received)
        received(command, path, version)

    def _start_span(self, tracer: Tracer, command: bytes, uri: bytes) -> RequestSpan:
        path, host = uri.partition(b"?")[0], self.getHeader(b"host") or b""
        return tracer.request(
            command.decode("latin-1"), path.decode("latin-1"), host.decode("latin-1"), trace_of(self)
        )

    def set_headers(self) -> None:
        """Set the duration and the job's id, too."""
        super().set_headers()
        site = self.channel.site
        self.setHeader(b"server-timing", b"total;dur=%.1f" % (self._seconds(site) * 1000))
        self.setHeader(b"x-job-id", (self.job_id or site.new_id()).encode())

    def finish(self) -> None:
        """End the answer, and record it."""
        self._observe(str(self.code))
        super().finish()

    def connectionLost(self, reason: Failure) -> None:
        """Record that the client has closed the connection before the answer."""
        self._observe(CLOSED)
        super().connectionLost(reason)

    def _refuse(self) -> None:
        self.method = self.channel._command  # which requestReceived would get later
        super()._refuse()
        self._observe(str(self.code))

    def _observe(self, status: str) -> None:
        if self._observed or self.channel is None:
            return
        self._observed = True
        site = self.channel.site
        method = self.method.decode("latin-1")
        if self.span is not None:
            self.span.answered(
                "" if self.route == NO_ROUTE else self.route, None if status == CLOSED else int(status)
            )
        site.observe(method if method in METHODS else OTHER, self.route, status, self._seconds(site))

    def _seconds(self, site: LimitedSite) -> float:
        return 0.0 if self._arrived is None else site.reactor.seconds() - self._arrived


class BoundedChannel(BackpressureChannel):
    """A connection of a :class:`BoundedSite`."""

    site: BoundedSite
    transport: Any
    _receiving = False
    _closing = False

    def connectionMade(self) -> None:
        """Register with the site."""
        self.site.channels.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Tell the site."""
        super().connectionLost(reason)
        self.site.connection_closed(self)

    def dataReceived(self, data: bytes) -> None:
        """Take a part of a request. Unlike in HTTPChannel, only its first part starts the timer."""
        if not self._receiving:
            self._receiving = True
            self.resetTimeout()
        LineReceiver.dataReceived(self, data)

    def requestDone(self, request: Any) -> None:
        """Wait for the next request: the answer is complete."""
        self._receiving = False
        super().requestDone(request)

    def close_when_answered(self) -> None:
        """Close the connection after the answer to the request that has arrived, or is arriving; without one, now."""
        self._closing = True
        self.persistent = False
        if not self.requests:
            self.loseConnection()

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """Return whether the connection stays open after the answer."""
        return bool(super().checkPersistence(request, version)) and not self._closing


class BoundedSite(Site):
    """An HTTP server for *resource*.

    :param body_max: bytes of the largest body.
    :param explain: sets status and headers of the answer to a request that failed, and returns its body.
    :param timeout: seconds in which a whole request has to arrive, and the next one has to begin.
    """

    protocol = BoundedChannel  # type: ignore[assignment]  # no HTTP/2
    requestFactory: Any = BoundedRequest
    noisy = False
    reactor: Any

    def __init__(
        self,
        resource: Any,
        reactor: Any,
        *,
        body_max: int,
        explain: Callable[[Any, Failure], bytes],
        timeout: float = REQUEST_TIMEOUT,
    ) -> None:
        super().__init__(resource, reactor=reactor, timeout=timeout, parsePOSTFormSubmission=False)
        self.body_max = body_max
        self.explain = explain
        self.channels: set[BoundedChannel] = set()
        self._drained: Deferred[Any] | None = None

    def startFactory(self) -> None:
        """Do not open an access log, which would have a line per request."""

    def getContentFile(self, length: int | None) -> BytesIO:
        """Return the buffer for a body. It is in memory, as ``body_max`` limits it."""
        return BytesIO()

    @property
    def unanswered(self) -> int:
        """Return how many connections have a request without an answer."""
        return sum(bool(channel.requests) for channel in self.channels)

    def connection_closed(self, channel: BoundedChannel) -> None:
        """Forget *channel*."""
        self.channels.discard(channel)
        if self._drained is not None and not self.channels:
            self._drained.callback(None)
            self._drained = None

    def drain(self, grace: float) -> Deferred[None]:
        """Close each connection when its request is answered, and after *grace* seconds those that are left.

        Fires with None when no connection is left. It never fails. Canceling it is not supported.
        """
        for channel in list(self.channels):
            channel.close_when_answered()
        if not self.channels:
            return succeed(None)
        late = self.reactor.callLater(grace, self._abort)
        self._drained = Deferred()
        return self._drained.addCallback(lambda _: late.cancel() if late.active() else None)

    def _abort(self) -> None:
        for channel in list(self.channels):
            channel.transport.abortConnection()


class LimitedSite(BoundedSite):
    """The HTTP server of a REST worker.

    :param new_id: returns the id for an answer for which no job was sent.
    :param tracer: records a span for each request; None: there are none.
    :param observe: is called for each request with its method, route and status, and the seconds until its answer. It
        must not raise.
    """

    requestFactory = LimitedRequest

    def __init__(
        self,
        resource: Any,
        reactor: Any,
        *,
        new_id: Callable[[], str],
        observe: Callable[[str, str, str, float], None],
        tracer: Tracer | None = None,
        **options: Any,
    ) -> None:
        super().__init__(resource, reactor, **options)
        self.new_id = new_id
        self.observe = observe
        self.tracer = tracer


def trace_of(request: Request) -> TraceContext:
    """Return the W3C trace context of *request*; one that is not valid is ignored."""
    traceparent = request.getHeader(b"traceparent")
    if traceparent is None or not _TRACEPARENT.fullmatch(traceparent):
        return None, None
    tracestate = b",".join(request.requestHeaders.getRawHeaders(b"tracestate", ()))
    return traceparent.decode(), shorten(tracestate.decode("latin-1"))
