"""The metrics page for Prometheus: ``GET /metrics``, on twisted.web."""

from __future__ import annotations

import json
import socket
from io import BytesIO
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from txmicro.util.host_port import host_port
from txmicro.web.channel import BackpressureChannel

IDLE: Final = 10.0
"""Seconds after which an idle connection is closed."""

ANY_INTERFACE: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


class _Error(Resource):
    """An error response, in JSON: ``{"error": type, "message": text}``."""

    isLeaf = True

    def __init__(self, code: int, error: str, message: str, **headers: str) -> None:
        super().__init__()
        self._code = code
        self._headers = headers
        self._body = json.dumps({"error": error, "message": message}).encode()

    def render(self, request: Request) -> bytes:
        """Return the response."""
        request.setResponseCode(self._code)
        request.setHeader(b"content-type", b"application/json")
        for name, value in self._headers.items():
            request.setHeader(name.encode(), value.encode())
        request.setHeader(b"content-length", b"%d" % len(self._body))
        return b"" if request.method == b"HEAD" else self._body


_NOT_FOUND: Final = _Error(404, "NotFound", "the path is not valid; expected /metrics")
_NOT_ALLOWED: Final = _Error(
    405, "NotAllowed", "the method is not valid; expected GET or HEAD", allow="GET, HEAD"
)


class _Metrics(Resource):
    """The samples of the registry, in the format that the client accepts."""

    isLeaf = True

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._registry = registry

    def render(self, request: Request) -> bytes:
        """Return the response."""
        if request.postpath:
            return _NOT_FOUND.render(request)
        if request.method not in (b"GET", b"HEAD"):
            return _NOT_ALLOWED.render(request)
        encode, content_type = choose_encoder(request.getHeader("accept") or "")
        body = encode(self._registry)
        request.setHeader(b"content-type", content_type.encode())
        request.setHeader(b"content-length", b"%d" % len(body))
        return b"" if request.method == b"HEAD" else body


class _MetricsRoot(Resource):
    """The root of the site: every path but ``/metrics`` is an error."""

    def getChild(self, _path: bytes, _request: Request) -> Resource:
        """Return an error."""
        return _NOT_FOUND


class _DiscardedBody(BytesIO):
    """A file for the bodies of requests that discards them, because no one reads them."""

    def write(self, data: Any) -> int:
        """Discard *data*."""
        return len(data)


class _Site(Site):
    noisy = False
    protocol = BackpressureChannel  # type: ignore[assignment]  # no HTTP/2

    def startFactory(self) -> None:
        """Do not open an access log: it would have a line for each scrape."""

    def getContentFile(self, length: int | None) -> BytesIO:
        """Return the file for a request's body."""
        return _DiscardedBody()


def metrics_site(registry: CollectorRegistry, reactor: Any) -> Site:
    """Return a site with *registry* at ``/metrics``. *reactor* times out idle connections."""
    root: Any = _MetricsRoot()
    root.putChild(b"metrics", _Metrics(registry))
    return _Site(root, timeout=IDLE, reactor=reactor)


class MetricsServer(Service):
    """Serves the metrics page. If its port is in use, an error is logged, and the process runs without the page.

    :param interface: the address to listen on; empty: all.
    :param port: the port to listen on; 0: a free one.
    :param setting: the configuration's key of *port*, for the error.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        registry: CollectorRegistry,
        *,
        interface: str,
        port: int,
        setting: str = "metrics_port",
    ) -> None:
        self._reactor = reactor
        self._site = metrics_site(registry, reactor)
        self._interface = interface
        self._port = port
        self._setting = setting
        self._listening: Any = None

    @property
    def address(self) -> str:
        """The page's ``host:port``; empty: there is no page."""
        if self._listening is None:
            return ""
        host = socket.gethostname() if self._interface in ANY_INTERFACE else self._interface
        return host_port(host, self._listening.getHost().port)

    def startService(self) -> None:
        """Start to listen."""
        super().startService()
        try:
            self._listening = self._reactor.listenTCP(self._port, self._site, interface=self._interface)
        except CannotListenError as error:
            self.log.error(
                "no metrics page: cannot listen on {address} ({reason}); set another port as {setting}, or 0",
                address=host_port(self._interface, self._port),
                reason=error.socketError,
                setting=self._setting,
            )
        else:
            self.log.info("the metrics page is http://{address}/metrics", address=self.address)

    def stopService(self) -> Deferred[None] | None:
        """Stop listening. Fires when the port is closed. Open connections time out."""
        super().stopService()
        listening, self._listening = self._listening, None
        return None if listening is None else listening.stopListening()
