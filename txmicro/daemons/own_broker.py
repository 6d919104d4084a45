"""The embedded broker of this process, as a target that its bus connects to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from txmicro.amqp import uri
from txmicro.broker.service import EmbeddedBroker
from txmicro.bus.targets import CONNECT_TIMEOUT, Target
from txmicro.page.server import ANY_INTERFACE


def own_target(reactor: Any, broker: EmbeddedBroker, interface: str) -> Target:
    """Return the target for *broker*, the embedded one of this process, which listens on *interface*."""
    host = "127.0.0.1" if interface in ANY_INTERFACE else interface
    return _OwnTarget(_OwnBroker(reactor, host, broker), host, broker)


class _OwnTarget(Target):
    """The embedded broker as a target: its port is known once it listens."""

    def __init__(self, endpoint: Any, host: str, own: EmbeddedBroker) -> None:
        super().__init__(endpoint, uri.BrokerAddress(host=host))
        self._own = own

    @property
    def broker(self) -> uri.BrokerAddress:
        """The address of the broker, with the port that it listens on, or will listen on."""
        return replace(self._broker, port=self._own.port)


@implementer(IStreamClientEndpoint)
class _OwnBroker:
    """Connects to the embedded broker, whose port is known once it listens."""

    def __init__(self, reactor: Any, host: str, broker: EmbeddedBroker) -> None:
        self._reactor = reactor
        self._host = host
        self._broker = broker

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """Connect as the interface says."""
        endpoint: Any = HostnameEndpoint(self._reactor, self._host, self._broker.port, CONNECT_TIMEOUT)
        connected: Deferred[Any] = endpoint.connect(factory)
        return connected
