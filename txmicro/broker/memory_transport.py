"""Connections to the broker without a network: for unit tests, and :mod:`txmicro.testing`."""

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
"""Bytes on their way above which a transport's producer is paused, as on TCP."""


@implementer(IAddress)
class MemoryAddress:
    """Where the ends of a pipe are."""

    host = "memory"
    port = 0

    def __repr__(self) -> str:
        return "MemoryAddress()"


@implementer(ITransport)
class MemoryTransport:
    """One end of a pipe: what is written here, the protocol at the other end gets one turn later.

    As on TCP, a registered producer is paused while much is on its way, and :meth:`pauseProducing` holds
    back what comes in.

    :ivar protocol: whose transport this is.
    :ivar peer: the other end.
    """

    def __init__(self, clock: Clock) -> None:
        self.peer: MemoryTransport
        self.protocol: Any = None
        self.connected = True
        self.disconnecting = False
        self._clock = clock
        self._sent: list[bytes] = []
        self._size = 0
        self._turn: Timer | None = None
        self._reading = True
        self._producer: Any = None
        self._streaming = False
        self._producer_paused = False
        self._end: Failure | None = None

    @classmethod
    def pair(cls, clock: Clock, *protocols: Any) -> tuple[MemoryTransport, MemoryTransport]:
        """Connect two protocols, the first one first; gives their transports."""
        one, other = cls(clock), cls(clock)
        one.peer, other.peer = other, one
        for transport, protocol in zip((one, other), protocols, strict=True):
            transport.protocol = protocol
            protocol.makeConnection(transport)
        return one, other

    # ITransport:

    def write(self, data: bytes) -> None:
        """Send *data*; nothing after the connection was closed."""
        if not self.connected or not data:
            return
        self._sent.append(data)
        self._size += len(data)
        self._carry_later()
        if self._producer is not None and not self._producer_paused and self._size > BUFFER:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send all of *data*."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close, once what was written has arrived and no producer waits for its turn."""
        self.disconnecting = True
        self._carry_later()

    def abortConnection(self) -> None:
        """Close now; what is on its way is lost. The other end hears of it."""
        self.cut()

    def getPeer(self) -> MemoryAddress:
        """The other end's address."""
        return MemoryAddress()

    def getHost(self) -> MemoryAddress:
        """Our own address."""
        return MemoryAddress()

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is delayed here."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """A pipe does not go away unheard."""

    # IConsumer:

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Tell *producer* when to pause."""
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        self._producer, self._streaming = producer, streaming
        self._producer_paused = False
        if not self.connected:
            producer.stopProducing()
        elif not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Tell nobody any more; a close that waited for this goes on."""
        self._producer = None
        if self.disconnecting:
            self._carry_later()

    # IPushProducer:

    def pauseProducing(self) -> None:
        """Let nothing come in for now."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Let it come in again."""
        self._reading = True
        self.peer._carry_later()

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    # How bytes move:

    def cut(self) -> None:
        """Break the connection without notice, as a pulled cable does: both ends lose it, one turn later."""
        for end in (self, self.peer):
            end._finish(Failure(ConnectionLost()))

    def _carry_later(self) -> None:
        if self._turn is None and self.connected:
            self._turn = self._clock.callLater(0, self._carry)

    def _carry(self) -> None:
        self._turn = None
        if self._sent and self.peer._reading:
            data = b"".join(self._sent)
            self._sent.clear()
            self._size = 0
            self._hand_over(data)
        if self._sent:
            return
        if self._producer is not None and (self._producer_paused or not self._streaming):
            self._producer_paused = False
            self._producer.resumeProducing()
        elif self.disconnecting:
            self._finish(Failure(ConnectionDone()))
            self.peer._finish(Failure(ConnectionDone()))

    def _hand_over(self, data: bytes) -> None:
        try:
            self.peer.protocol.dataReceived(data)
        except Exception:
            self.cut()  # a protocol that raises loses its connection, as on TCP
            raise

    def _finish(self, why: Failure) -> None:
        """Be closed: at once for whoever writes, a turn later for the protocol."""
        if self.connected:
            self.connected = False
            self._sent.clear()
            self._end = why
            if self._turn is not None:
                self._turn.cancel()
            self._turn = self._clock.callLater(0, self._tell)

    def _tell(self) -> None:
        self._turn = None
        self.protocol.connectionLost(self._end)


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Connects clients to the broker of *factory*, in this process.

    :ivar down: connections are refused, as if the broker did not run.
    """

    def __init__(self, factory: BrokerFactory, clock: Clock) -> None:
        self.down = False
        self._factory = factory
        self._clock = clock
        self._pipes: list[MemoryTransport] = []

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect a protocol of *protocolFactory*.

        The Deferred has fired already: with the protocol, or with ``ConnectionRefusedError``.
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
        """Break all connections that were made here, without notice."""
        for pipe in self._pipes:
            pipe.cut()
