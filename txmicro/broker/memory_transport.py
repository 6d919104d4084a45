"""Connections to the broker in memory, without a network: for unit tests and :mod:`txmicro.testing`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from txmicro.util.clock import Clock, Timer

from .factory import BrokerFactory

BUFFER: Final = 64 * 1024
"""Bytes in transit above which a transport's producer is paused, as with TCP."""


@implementer(IAddress)
class MemoryAddress:
    """The address of both ends of a pipe."""

    host = "memory"
    port = 0

    def __repr__(self) -> str:
        return "MemoryAddress()"


@implementer(ITransport)
class MemoryTransport:
    """One end of a pipe. The protocol at the other end gets what is written here one turn of the reactor later.

    As with TCP, a registered producer is paused while many bytes are in transit, and :meth:`pauseProducing` stops
    what arrives.

    :ivar protocol: the protocol that uses this transport.
    :ivar peer: the other end.
    :ivar connected: whether the pipe is open.
    """

    def __init__(self, clock: Clock) -> None:
        self.peer: MemoryTransport
        self.protocol: Any = None
        self.connected = True
        self.disconnecting = False
        self._clock = clock
        self._sent: list[bytes] = []
        self._size = 0
        self._timer: Timer | None = None
        self._reading = True
        self._producer: Any = None
        self._streaming = False
        self._producer_paused = False
        self._end: Failure | None = None

    @classmethod
    def pair(cls, clock: Clock, *protocols: Any) -> tuple[MemoryTransport, MemoryTransport]:
        """Connect two protocols, the first one first. Return their transports."""
        one, other = cls(clock), cls(clock)
        one.peer, other.peer = other, one
        for transport, protocol in zip((one, other), protocols, strict=True):
            transport.protocol = protocol
            protocol.makeConnection(transport)
        return one, other

    # ITransport:

    def write(self, data: bytes) -> None:
        """Send *data*. Do nothing after the connection was closed."""
        if not self.connected or not data:
            return
        self._sent.append(data)
        self._size += len(data)
        self._transfer_later()
        if self._producer is not None and not self._producer_paused and self._size > BUFFER:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send all of *data*."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close once everything written has arrived and no producer is registered that has more."""
        self.disconnecting = True
        self._transfer_later()

    def abortConnection(self) -> None:
        """Close now, and drop what is in transit. Both ends are notified."""
        self.cut()

    def getPeer(self) -> MemoryAddress:
        """Return the address of the other end."""
        return MemoryAddress()

    def getHost(self) -> MemoryAddress:
        """Return the address of this end."""
        return MemoryAddress()

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing: there is no delay to turn off."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Do nothing: both ends always notice when a pipe is closed."""

    # IConsumer:

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Pause and resume *producer*. Raises ``RuntimeError`` when one is registered already."""
        if self._producer is not None:
            raise RuntimeError("a producer is registered already: unregister it first")
        self._producer, self._streaming = producer, streaming
        self._producer_paused = False
        if not self.connected:
            producer.stopProducing()
        elif not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Pause no producer any more, and complete a close that has waited for this."""
        self._producer = None
        if self.disconnecting:
            self._transfer_later()

    # IPushProducer:

    def pauseProducing(self) -> None:
        """Let no bytes arrive for now."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Let bytes arrive again."""
        self._reading = True
        self.peer._transfer_later()

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    # How bytes are transferred:

    def cut(self) -> None:
        """Break the connection, as an unplugged cable does. Both ends are notified one turn later."""
        for end in (self, self.peer):
            end._finish(Failure(ConnectionLost()))

    def _transfer_later(self) -> None:
        if self._timer is None and self.connected:
            self._timer = self._clock.callLater(0, self._transfer)

    def _transfer(self) -> None:
        self._timer = None
        if self._sent and self.peer._reading:
            data = b"".join(self._sent)
            self._sent.clear()
            self._size = 0
            self._deliver(data)
        if self._sent:
            return
        if self._producer is not None and (self._producer_paused or not self._streaming):
            self._producer_paused = False
            self._producer.resumeProducing()
        elif self.disconnecting:
            self._finish(Failure(ConnectionDone()))
            self.peer._finish(Failure(ConnectionDone()))

    def _deliver(self, data: bytes) -> None:
        try:
            self.peer.protocol.dataReceived(data)
        except Exception:
            self.cut()  # a protocol that raises loses its connection, as with TCP
            raise

    def _finish(self, reason: Failure) -> None:
        """Close: writes are dropped from now on, and the protocol is notified one turn later."""
        if self.connected:
            self.connected = False
            self._sent.clear()
            self._end = reason
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._clock.callLater(0, self._notify)

    def _notify(self) -> None:
        self._timer = None
        self.protocol.connectionLost(self._end)


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Connects clients to the broker of *factory* in this process.

    :ivar down: whether connections are refused, as if the broker did not run.
    """

    def __init__(self, factory: BrokerFactory, clock: Clock) -> None:
        self.down = False
        self._factory = factory
        self._clock = clock
        self._pipes: list[MemoryTransport] = []

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect a protocol of *protocolFactory*.

        The Deferred has already fired with the protocol, or failed with ``ConnectionRefusedError``.
        """
        server = None if self.down else self._factory.buildProtocol(None)
        if server is None:
            return fail(ConnectionRefusedError())
        clients: Any = protocolFactory
        client = clients.buildProtocol(MemoryAddress())
        _theirs, ours = MemoryTransport.pair(self._clock, server, client)
        self._pipes = [*(pipe for pipe in self._pipes if pipe.connected), ours]
        return succeed(client)

    def cut(self) -> None:
        """Break all connections that were made here."""
        for pipe in self._pipes:
            pipe.cut()
