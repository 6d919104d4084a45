"""The embedded broker as a service that listens on a TCP port."""

from __future__ import annotations

from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from txmicro.util.host_port import host_port

from .factory import BrokerFactory
from .model import MEMORY_LIMIT

INTERFACE: Final = "127.0.0.1"
PORT: Final = 5673


class EmbeddedBroker(Service):
    """A broker for one machine, in memory only.

    :param reactor: for listening and for time.
    :param interface: the address to listen on.
    :param port: the TCP port; 0: a free port, which :attr:`port` has once the broker runs.
    :param users: passwords by user name; None: ``guest`` with the password ``guest``.
    :param memory_limit: bytes of messages above which publishers are blocked.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        interface: str = INTERFACE,
        port: int = PORT,
        users: dict[str, str] | None = None,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        self.factory = BrokerFactory(reactor, users=users, memory_limit=memory_limit)
        self._reactor = reactor
        self._interface = interface
        self._port = port
        self._listening: Any = None

    @property
    def port(self) -> int:
        """The TCP port that the broker listens on; before it runs, the configured one."""
        return self._port if self._listening is None else int(self._listening.getHost().port)

    @property
    def listening(self) -> bool:
        """True while the broker listens."""
        return self._listening is not None

    def startService(self) -> None:
        """Listen. Raises ``CannotListenError`` when the port is in use."""
        self._listening = self._reactor.listenTCP(self._port, self.factory, interface=self._interface)
        super().startService()  # type: ignore[no-untyped-call]
        self.log.info(
            "The embedded broker listens on {address}", address=host_port(self._interface, self.port)
        )
        self.log.warn(
            "The embedded broker keeps everything in memory: all messages and queues are lost when it stops, "
            "including durable ones. Run RabbitMQ where that matters."
        )

    def stopService(self) -> Deferred[None]:
        """Stop listening, close all connections, and drop all messages.

        Fires with None when all connections are closed. Canceling it stops the wait.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        if self._listening is None:
            stopped: Deferred[Any] = self.factory.shut_down()
        else:
            listening, self._listening = self._listening, None
            stopped = maybeDeferred(listening.stopListening)
            stopped.addCallback(lambda _: self.factory.shut_down())
        return stopped.addCallback(lambda _: self.factory.close())
