"""A network between a worker and its broker that can freeze, delay, cut and tear."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol

from tests.support.rabbitmq import HOST, reactor


class Proxy:
    """Passes bytes on to ``port``, both ways.

    :ivar port: where it listens. :ivar delay: seconds that every piece of bytes takes.
    :ivar frozen: whether bytes stay where they are, with connections open and no word about it.
    :ivar tear_after: bytes that each side of a connection still passes before the connection is reset, in the
        middle of a frame or not; None: all.
    :ivar refuse: whether new connections are reset at once.
    :ivar lost: when clients have ended their connections, in the monotonic clock's seconds.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.delay = 0.0
        self.frozen = False
        self.refuse = False
        self.tear_after: int | None = None
        self.pairs: set[Pair] = set()
        self.lost: list[float] = []
        self._listening: Any = reactor.listenTCP(0, Factory.forProtocol(self._accept), interface=HOST)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listening.getHost().port)

    def _accept(self) -> Protocol:
        pair = Pair(self, self._target)
        return pair.near

    def freeze(self) -> None:
        """Pass nothing on, and say nothing: no FIN, no RST."""
        self.frozen = True

    def thaw(self) -> None:
        """Pass on what waits, and what comes, as far as both ends are still there."""
        self.frozen = False
        for pair in list(self.pairs):
            pair.flush()

    def reset(self) -> None:
        """Reset all connections."""
        for pair in list(self.pairs):
            pair.abort()

    def close(self) -> Deferred[Any]:
        """Be gone. Fires when nobody listens any more."""
        self.reset()
        return gatherResults([maybeDeferred(self._listening.stopListening)])


class Pair:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, port: int) -> None:
        self.proxy = proxy
        self._port = port
        self.near, self.far = _Side(self), _Side(self)
        self.near.other, self.far.other = self.far, self.near

    def accepted(self) -> None:
        """The client is there."""
        if self.proxy.refuse:
            self.near.transport.abortConnection()
            return
        self.proxy.pairs.add(self)
        dialed = connectProtocol(TCP4ClientEndpoint(reactor, HOST, self._port), self.far)
        dialed.addErrback(lambda _: self.near.transport.abortConnection())

    def abort(self) -> None:
        """Reset both sides."""
        self.proxy.pairs.discard(self)
        for side in (self.near, self.far):
            side.abort()

    def flush(self) -> None:
        """Pass on what waits, unless one end has gone: then the other hears of it."""
        if self.near.gone or self.far.gone:
            self.abort()
        for side in (self.near, self.far):
            side.flush()


class _Side(Protocol):
    """What one end says: bytes for the other end."""

    other: _Side
    transport: Any = None

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._waiting = bytearray()
        self._passed = 0
        self.gone = False

    def connectionMade(self) -> None:
        if self is self._pair.near:
            self._pair.accepted()
        else:
            self.other.flush()

    def dataReceived(self, data: bytes) -> None:
        if self._pair.proxy.delay:
            reactor.callLater(self._pair.proxy.delay, self._arrived, data)
        else:
            self._arrived(data)

    def _arrived(self, data: bytes) -> None:
        self._waiting += data
        self.flush()

    def flush(self) -> None:
        """Pass on what waits, as far as the proxy lets it."""
        proxy, target = self._pair.proxy, self.other.transport
        if proxy.frozen or self.gone or target is None or not self._waiting:
            return
        data, self._waiting = bytes(self._waiting), bytearray()
        if proxy.tear_after is not None and self._passed + len(data) > proxy.tear_after:
            target.write(data[: max(0, proxy.tear_after - self._passed)])
            target.loseConnection()  # when these bytes have left; the other end is then reset
            self.gone = True
            return
        self._passed += len(data)
        target.write(data)

    def abort(self) -> None:
        """Reset it."""
        self.gone = True
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionLost(self, reason: Any = None) -> None:
        self.gone = True
        proxy = self._pair.proxy
        if self is self._pair.near:
            proxy.lost.append(time.monotonic())
        if not proxy.frozen:  # while frozen, the other end hears nothing of that either
            self._pair.abort()
