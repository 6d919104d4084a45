"""A client that sends raw bytes."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure


class Raw(Protocol):
    """A client that sends raw bytes."""

    def __init__(self) -> None:
        self.received = b""
        self.gone: Deferred[None] = Deferred()
        self._awaited: list[tuple[bytes, Deferred[None]]] = []

    def hear(self, words: bytes) -> Deferred[None]:
        """Fire when the bytes *words* have been received."""
        heard: Deferred[None] = Deferred()
        self._awaited.append((words, heard))
        self.dataReceived(b"")
        return heard

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        heard = [waiting for waiting in self._awaited if waiting[0] in self.received]
        for waiting in heard:
            self._awaited.remove(waiting)
            waiting[1].callback(None)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.gone.callback(None)
