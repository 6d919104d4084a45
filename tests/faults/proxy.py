"""A network proxy between a worker and its broker that can freeze, delay, cut and reset connections."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol

from tests.support.rabbitmq import HOST, reactor


class Proxy:
    """Forwards bytes to ``port``, in both directions.

    :ivar port: the port on which it listens.
    :ivar delay: seconds by which all bytes are delayed.
    :ivar frozen: whether bytes are kept back, with connections open.
    :ivar tear_after: bytes that each side of a connection still forwards before the connection is reset, in the
        middle of a frame or not; None: all.
    :ivar refuse: whether new connections are reset at once.
    :ivar lost: times at which clients have closed their connections, in seconds of the monotonic clock.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.delay = 0.0
        self.frozen = False
        self.refuse = False
        self.tear_after: int | None = None
        self.connections: set[ProxiedConnection] = set()
        self.lost: list[float] = []
        self._listening: Any = reactor.listenTCP(0, Factory.forProtocol(self._accept), interface=HOST)

    @property
    def port(self) -> int:
        """Return the port on which it listens."""
        return int(self._listening.getHost().port)

    def _accept(self) -> Protocol:
        connection = ProxiedConnection(self, self._target)
        return connection.near

    def freeze(self) -> None:
        """Forward nothing, and send neither FIN nor RST."""
        self.frozen = True

    def thaw(self) -> None:
        """Forward the bytes that were kept back, and later ones, if both ends are still connected."""
        self.frozen = False
        for connection in list(self.connections):
            connection.flush()

    def reset(self) -> None:
        """Reset all connections."""
        for connection in list(self.connections):
            connection.abort()

    def close(self) -> Deferred[Any]:
        """Close the listening port. Fire when it is closed."""
        self.reset()
        return gatherResults([maybeDeferred(self._listening.stopListening)])


class ProxiedConnection:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, port: int) -> None:
        self.proxy = proxy
        self._port = port
        self.near, self.far = _Side(self), _Side(self)
        self.near.other, self.far.other = self.far, self.near

    def accepted(self) -> None:
        """Connect to the target for a client that has connected."""
        if self.proxy.refuse:
            self.near.transport.abortConnection()
            return
        self.proxy.connections.add(self)
        dialed = connectProtocol(TCP4ClientEndpoint(reactor, HOST, self._port), self.far)
        dialed.addErrback(lambda _: self.near.transport.abortConnection())

    def abort(self) -> None:
        """Reset both sides."""
        self.proxy.connections.discard(self)
        for side in (self.near, self.far):
            side.abort()

    def flush(self) -> None:
        """Forward the bytes that were kept back. If one end is closed, reset the other one."""
        if self.near.closed or self.far.closed:
            self.abort()
        for side in (self.near, self.far):
            side.flush()


class _Side(Protocol):
    """One end of a connection. The bytes that it receives are forwarded to the other end."""

    other: _Side
    transport: Any = None

    def __init__(self, connection: ProxiedConnection) -> None:
        self._connection = connection
        self._waiting = bytearray()
        self._passed = 0
        self.closed = False

    def connectionMade(self) -> None:
        if self is self._connection.near:
            self._connection.accepted()
        else:
            self.other.flush()

    def dataReceived(self, data: bytes) -> None:
        if self._connection.proxy.delay:
            reactor.callLater(self._connection.proxy.delay, self._arrived, data)
        else:
            self._arrived(data)

    def _arrived(self, data: bytes) -> None:
        self._waiting += data
        self.flush()

    def flush(self) -> None:
        """Forward the bytes that were kept back, as far as the proxy permits."""
        proxy, target = self._connection.proxy, self.other.transport
        if proxy.frozen or self.closed or target is None or not self._waiting:
            return
        data, self._waiting = bytes(self._waiting), bytearray()
        if proxy.tear_after is not None and self._passed + len(data) > proxy.tear_after:
            target.write(data[: max(0, proxy.tear_after - self._passed)])
            target.loseConnection()  # after these bytes are sent; then the other end is reset
            self.closed = True
            return
        self._passed += len(data)
        target.write(data)

    def abort(self) -> None:
        """Reset the connection."""
        self.closed = True
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionLost(self, reason: Any = None) -> None:
        self.closed = True
        proxy = self._connection.proxy
        if self is self._connection.near:
            proxy.lost.append(time.monotonic())
        if not proxy.frozen:  # while frozen, the other end is not reset either
            self._connection.abort()
