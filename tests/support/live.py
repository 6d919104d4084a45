"""Runs buses on the real reactor and a real broker: RabbitMQ, or the embedded one over TCP."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, formatEvent
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.support.logs import listen
from tests.support.rabbitmq import HOST, Node, reactor, require_rabbitmq
from txmicro.amqp.channel import Channel
from txmicro.amqp.connection import Connection
from txmicro.amqp.properties import Properties
from txmicro.broker.service import EmbeddedBroker
from txmicro.broker.sessions import ModelSession
from txmicro.bus.connections import Bus
from txmicro.bus.targets import Target, target
from txmicro.config import Config
from txmicro.manager import SystemManager
from txmicro.metrics import Metrics
from txmicro.protocol.address import Ids
from txmicro.worker import Worker

Member = Worker | SystemManager

PATIENCE = 30.0
"""Seconds that :meth:`LiveTestCase.until` waits at most. The conditions are usually met much sooner."""


class LiveBroker(Protocol):
    """A broker that a test can stop, kill and restart."""

    @property
    def port(self) -> int:
        """Return the port on which it listens."""

    async def start(self) -> None:
        """Start the broker; raise SkipTest where it is not installed."""

    async def stop(self) -> None:
        """Stop the broker at the end of the test."""

    async def kill(self) -> None:
        """Kill the broker without closing its connections."""

    async def restart(self) -> None:
        """Start the broker again on the same port."""

    async def close_connections(self) -> None:
        """Close all connections, as an operator can."""

    async def delete_queue(self, name: str) -> None:
        """Delete a queue, as an operator can, regardless of its owner."""


class RabbitMQ:
    """The RabbitMQ node that all tests share."""

    node: Node

    @property
    def port(self) -> int:
        return self.node.port

    async def start(self) -> None:
        self.node = await require_rabbitmq()

    async def stop(self) -> None:
        """Do nothing: other tests use the node, too."""

    async def kill(self) -> None:
        self.node.kill()

    async def restart(self) -> None:
        await self.node.start()

    async def close_connections(self) -> None:
        await self.node.close_connections()

    async def delete_queue(self, name: str) -> None:
        await self.node.delete_queue(name)


class Embedded:
    """The embedded broker, in this process, over TCP."""

    def __init__(self) -> None:
        self._broker = EmbeddedBroker(reactor, port=0)

    @property
    def port(self) -> int:
        return self._broker.port

    async def start(self) -> None:
        self._broker.startService()

    async def stop(self) -> None:
        await self._broker.stopService()

    async def kill(self) -> None:
        port = self.port
        self._broker.factory.close()
        await self._broker.stopService()
        self._broker = EmbeddedBroker(reactor, port=port)

    async def restart(self) -> None:
        self._broker.startService()

    async def close_connections(self) -> None:
        for connection in list(self._broker.factory.connections):
            connection.shut_down()

    async def delete_queue(self, name: str) -> None:
        model = self._broker.factory.model
        owner: Any = model.queues[name].owner
        model.delete_queue(owner or ModelSession(model), name)


@implementer(IStreamClientEndpoint)
class Network:
    """The network between a process and the broker. A test can interrupt it."""

    def __init__(self, port: int) -> None:
        self._endpoint = TCP4ClientEndpoint(reactor, HOST, port)
        self._connected: list[Any] = []
        self._whole = True

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """Connect unless the network is interrupted (:class:`IStreamClientEndpoint`)."""
        if not self._whole:
            return fail(ConnectionRefusedError())
        connecting: Deferred[Any] = self._endpoint.connect(factory)
        return connecting.addCallback(self._remember)

    def _remember(self, protocol: Any) -> Any:
        self._connected.append(protocol)
        return protocol

    def cut(self) -> None:
        """Reset all connections, and fail all later ones."""
        self._whole = False
        for protocol in self._connected:
            protocol.transport.abortConnection()


class RawPublisher:
    """A connection to the broker that publishes any message, valid or not."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    async def publish(
        self, exchange: str, key: str, body: bytes, content_type: str | None = None, kind: str | None = None
    ) -> None:
        """Publish a message, and wait until it is in its queues."""
        properties = Properties(content_type=content_type, message_type=kind).encode()
        prefix = self.channel.publisher(exchange, key)
        await self.channel.publish_confirmed(prefix, properties, body, "")


class LiveTestCase(TestCase):
    """Starts processes (a bus each) on a broker, and stops them at the end."""

    timeout = 90

    def make_broker(self) -> LiveBroker:
        """Return the broker to test on."""
        raise NotImplementedError

    async def setUp(self) -> None:  # type: ignore[override]
        self.broker = self.make_broker()
        await self.broker.start()
        self.buses: list[Bus] = []
        self.events = listen(self)

    async def tearDown(self) -> None:  # type: ignore[override]
        await gatherResults([bus.stopService() for bus in self.buses if bus.running])
        await self.broker.stop()

    # Helpers for tests

    def url(self, *, port: int = 0, user: str = "guest:guest", vhost: str = "%2f") -> str:
        return f"amqp://{user}@{HOST}:{port or self.broker.port}/{vhost}"

    def launch(self, *members: Member, url: str = "", network: Network | None = None, **settings: Any) -> Bus:
        """Start a process, and do not wait for it."""
        where = target(reactor, url or self.url())
        bus = Bus(
            reactor,
            [where if network is None else Target(network, where.broker)],
            config=Config(**settings),
            metrics=Metrics(CollectorRegistry()),
            ids=Ids(),
            random=random.random,
        )
        self.buses.append(bus)
        for member in members:
            member.setServiceParent(bus)
        bus.startService()
        return bus

    async def start(self, *members: Member, network: Network | None = None, **settings: Any) -> Bus:
        """Start a process, and wait until all its members are ready."""
        bus = self.launch(*members, network=network, **settings)
        for member in members:
            await member.when_ready()
        return bus

    async def raw_publisher(self) -> RawPublisher:
        client = Connection(vhost="/", username="guest", password="guest", clock=reactor)
        self.addCleanup(client.shutdown)
        await connectProtocol(TCP4ClientEndpoint(reactor, HOST, self.broker.port), client)
        await client.ready()
        channel = await client.channel_open()
        await channel.confirm_select()
        return RawPublisher(channel)

    async def until(self, holds: Callable[[], Any], what: str) -> None:
        """Wait until *holds()* is true; *what* describes that in the failure."""
        deadline = reactor.seconds() + PATIENCE
        while not holds():
            if reactor.seconds() > deadline:
                self.fail(f"waited {PATIENCE:g} s in vain: {what}")
            await deferLater(reactor, 0.02)

    async def failed(self, waiting: Awaitable[Any], kind: type[Exception]) -> Any:
        """Return the error of *kind* that *waiting* fails with."""
        try:
            result = await waiting
        except kind as error:
            return error
        return self.fail(f"no {kind.__name__}, but {result!r:.200}")

    def lines(self, text: str) -> list[LogEvent]:
        """Return the log events whose text contains *text*."""
        return [event for event in self.events if text in (formatEvent(event) or "")]


# The base of a mixin of live tests. If it were LiveTestCase, trial would run the tests of the mixin itself.
if TYPE_CHECKING:
    Live = LiveTestCase
else:
    Live = object
