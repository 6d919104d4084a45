"""A collector of spans: an HTTP server for OTLP, on a real port."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.support.programs import PATIENCE, reactor


class Collector(Resource):
    """Takes what programs send to ``/v1/traces``.

    :ivar url: for ``OTEL_EXPORTER_OTLP_ENDPOINT``.
    :ivar spans: the spans, in the order of their arrival. :ivar services: the ``service.name`` of each, by span id.
    :ivar paths: the paths and content types of the requests.
    :ivar silent: whether it leaves requests unanswered.
    """

    isLeaf = True

    def __init__(self, case: TestCase) -> None:
        super().__init__()
        self.spans: list[Span] = []
        self.services: dict[bytes, str] = {}
        self.paths: set[tuple[bytes, bytes | None]] = set()
        self.silent = False
        self._waiting: list[tuple[set[str], Deferred[None]]] = []
        self._asked: list[Deferred[None]] = []
        self._connections: set[Any] = set()
        self._port = reactor.listenTCP(0, Site(self), interface="127.0.0.1")
        case.addCleanup(lambda: ensureDeferred(self._close()))
        self.url = f"http://127.0.0.1:{self._port.getHost().port}"

    async def _close(self) -> None:
        await self._port.stopListening()
        for transport in self._connections:
            transport.abortConnection()
        await deferLater(reactor, 0)

    def render_POST(self, request: Any) -> Any:
        self._connections.add(request.transport)
        asked, self._asked = self._asked, []
        for waiting in asked:
            waiting.callback(None)
        if self.silent:
            return NOT_DONE_YET
        self.paths.add((request.path, request.getHeader(b"content-type")))
        for resource in ExportTraceServiceRequest.FromString(request.content.read()).resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += scope.spans
                self.services |= dict.fromkeys((span.span_id for span in scope.spans), names["service.name"])
        self._tell()
        request.setHeader(b"content-type", b"application/x-protobuf")
        return ExportTraceServiceResponse().SerializeToString()

    def has(self, *names: str) -> Deferred[None]:
        """Fire when spans of all these names have arrived."""
        has: Deferred[None] = Deferred()
        self._waiting.append((set(names), has))
        self._tell()
        return has.addTimeout(PATIENCE, reactor)

    def was_asked(self) -> Deferred[None]:
        """Fire at the next request."""
        asked: Deferred[None] = Deferred()
        self._asked.append(asked)
        return asked.addTimeout(PATIENCE, reactor)

    def one(self, name: str) -> Span:
        """Return the only span of this name."""
        (span,) = (span for span in self.spans if span.name == name)
        return span

    def _tell(self) -> None:
        there = {span.name for span in self.spans}
        for each in list(self._waiting):
            names, has = each
            if names <= there:
                self._waiting.remove(each)
                has.callback(None)
