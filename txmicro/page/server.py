"""The server of a process's pages: metrics, health, and at a SystemManager the page for operators and its API."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from txmicro.util.host_port import host_port

from .site import BODY_MAX, PageRoute, site

ANY_INTERFACE: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


class PageServer(Service):
    """Serves a process's pages. If its port is in use, an error is logged, and the process runs without them.

    :param routes: the pages.
    :param interface: the address to listen on; empty: all.
    :param port: the port to listen on; 0: a free one.
    :param setting: the configuration's key of *port*, for the error.
    :param host: the host under which others reach the pages; empty: *interface*, or the name of this machine.
    :param body_max: bytes of the largest body of a request.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        routes: Iterable[PageRoute],
        *,
        interface: str,
        port: int,
        setting: str = "metrics_port",
        host: str = "",
        body_max: int = BODY_MAX,
    ) -> None:
        self._reactor = reactor
        self._site = site(routes, reactor, body_max)
        self._interface = interface
        self._port = port
        self._setting = setting
        self._host = host
        self._listening: Any = None

    @property
    def address(self) -> str:
        """The ``host:port`` of the pages for others; empty: there are no pages."""
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
