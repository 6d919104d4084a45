"""The factory of an embedded broker: its model and its connections."""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from txmicro.util.clock import Clock, Timer

from .model import MEMORY_LIMIT, Model
from .output_buffer import OutputBuffer
from .server_connection import ServerConnection

MAX_CONNECTIONS: Final = 1024


class BrokerFactory(Factory):
    """An embedded broker, as a Twisted factory.

    :param users: passwords by user name; None: ``guest`` with the password ``guest``.
    :param memory_limit: bytes of messages above which publishers are blocked.
    :param max_connections: how many clients may be connected; further connections are closed at once.
    :ivar model: the exchanges and queues.
    :ivar connections: the open connections.
    """

    log = Logger()
    noisy = False

    def __init__(
        self,
        clock: Clock,
        *,
        users: dict[str, str] | None = None,
        memory_limit: int = MEMORY_LIMIT,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.model = Model(clock, memory_limit=memory_limit)
        self.clock = clock
        self.connections: set[ServerConnection] = set()
        self.users = {"guest": "guest"} if users is None else users
        self._max_connections = max_connections
        self._unflushed: list[OutputBuffer] = []
        self._flush: Timer | None = None
        self._gone: list[Deferred[None]] = []
        self.model.memory.on_alarm = self._on_alarm

    def buildProtocol(self, addr: IAddress | None) -> ServerConnection | None:
        """Return a new connection; None, which closes it, when too many are open."""
        if len(self.connections) >= self._max_connections:
            self.log.warn(
                "Closing a new connection from {addr}: {limit} are open, the most that are allowed. Clients can "
                "connect again when others have disconnected.",
                addr=addr,
                limit=self._max_connections,
                recurring=True,
            )
            return None
        protocol = ServerConnection(self)
        self.connections.add(protocol)
        return protocol

    def lost(self, connection: ServerConnection) -> None:
        """Note that *connection* is closed."""
        self.connections.discard(connection)
        if not self.connections:
            gone, self._gone = self._gone, []
            for waiter in gone:
                waiter.callback(None)

    def shut_down(self) -> Deferred[None]:
        """Close all connections, and tell the clients why.

        Fires with None when they are closed. Does not fail. Canceling it stops the wait.
        """
        if not self.connections:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._gone.append(waiter)
        for connection in list(self.connections):
            connection.shut_down()
        return waiter

    def close(self) -> None:
        """Abort all connections and drop all messages, without telling the clients."""
        for connection in list(self.connections):
            connection.transport.abortConnection()
        self.model.close()

    def flush_later(self, output: OutputBuffer) -> None:
        """Flush *output* at the end of this turn of the reactor, together with those of other connections."""
        self._unflushed.append(output)
        if self._flush is None:
            self._flush = self.clock.callLater(0, self._flush_all)

    def _flush_all(self) -> None:
        self._flush = None
        unflushed, self._unflushed = self._unflushed, []
        for output in unflushed:
            output.flush()

    def _on_alarm(self, on: bool) -> None:
        limit = self.model.memory.limit
        if on:
            text = "Messages take more than {limit} bytes (broker_memory): publishers are blocked until there is room"
            self.log.warn(text, limit=limit, recurring=True)
        else:
            text = "Messages take less than {limit} bytes (broker_memory) again: publishers are unblocked"
            self.log.info(text, limit=limit, recurring=True)
        for connection in list(self.connections):
            connection.set_alarm(on)
