"""The metrics page for Prometheus, ``GET /metrics``, and the server of a process's pages."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.web.server import Request, Site

from txmicro.util.host_port import host_port

from .site import Answer, Page, site

ANY_INTERFACE: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not listened on

_NO_PAGES: Final[Mapping[str, Page]] = {}


def _metrics(registry: CollectorRegistry, request: Request) -> Answer:
    """Return the samples of *registry*, in the format that the client accepts."""
    encode, content_type = choose_encoder(request.getHeader("accept") or "")
    return Answer(200, content_type, encode(registry))


def metrics_site(registry: CollectorRegistry, reactor: Any, pages: Mapping[str, Page] = _NO_PAGES) -> Site:
    """Return a site with *registry* at ``/metrics``, and *pages*. *reactor* times out idle connections."""
    return site({"metrics": partial(_metrics, registry), **pages}, reactor)


class MetricsServer(Service):
    """Serves the metrics page. If its port is in use, an error is logged, and the process runs without the page.

    :param interface: the address to listen on; empty: all.
    :param port: the port to listen on; 0: a free one.
    :param setting: the configuration's key of *port*, for the error.
    :param host: the host under which others reach the page; empty: *interface*, or the name of this machine.
    :param pages: the other pages of the process, by their paths without the first slash.
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
        host: str = "",
        pages: Mapping[str, Page] = _NO_PAGES,
    ) -> None:
        self._reactor = reactor
        self._site = metrics_site(registry, reactor, pages)
        self._interface = interface
        self._port = port
        self._setting = setting
        self._host = host
        self._listening: Any = None

    @property
    def address(self) -> str:
        """The page's ``host:port`` for others; empty: there is no page."""
        if self._listening is None:
            return ""
        host = self._host or (socket.gethostname() if self._interface in ANY_INTERFACE else self._interface)
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
