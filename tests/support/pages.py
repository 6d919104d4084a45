"""Requests to a process's pages, in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from txmicro.page.site import PageRoute, site


class Reply(NamedTuple):
    """An answer, with the names of its headers in lower case."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A connection to a site with *routes*.

    :ivar transport: what the site writes to. :ivar channel: the site's protocol.
    """

    def __init__(
        self, routes: Iterable[PageRoute], clock: Clock, address: str = "127.0.0.1", **options: Any
    ) -> None:
        self.site = site(routes, clock, **options)
        self.site.doStart()
        self.connect(address)

    def connect(self, address: str = "127.0.0.1") -> None:
        """Open a connection from *address*."""
        self.channel: Any = self.site.buildProtocol(IPv4Address("TCP", address, 1))
        transport: Any = StringTransport(peerAddress=IPv4Address("TCP", address, 1))
        self.aborted = False
        transport.abortConnection = self._abort
        transport.loseWriteConnection = transport.loseConnection
        self.transport = transport
        self.channel.makeConnection(transport)

    def _abort(self) -> None:
        self.aborted = True
        self.transport.loseConnection()

    def ask(self, target: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Reply:
        """Send a request, and return its answer."""
        self.send(target, method, body, **headers)
        return self.reply()

    def send(self, target: str, method: str = "GET", body: bytes | None = None, **headers: str) -> None:
        """Send a request."""
        given = {"Host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if body is not None:
            given["Content-Length"] = str(len(body))
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
        self.channel.dataReceived("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))

    def reply(self) -> Reply:
        """Return what the site has written since the last call, as one answer."""
        head, _, body = self.transport.value().decode().partition("\r\n\r\n")
        self.transport.clear()
        status, *fields = head.split("\r\n")
        names = (field.split(": ", 1) for field in fields)
        return Reply(int(status.split()[1]), {name.lower(): value for name, value in names}, body)

    def close(self) -> None:
        """Close the connection, and stop the site."""
        if self.channel is not None:
            self.channel.connectionLost(Failure(ConnectionDone()))
        self.site.doStop()
