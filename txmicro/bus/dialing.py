"""Connecting to one broker."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory

from txmicro.amqp.connection import Connection
from txmicro.amqp.flush_scheduler import FlushScheduler
from txmicro.amqp.uri import BrokerAddress

HANDSHAKE_TIMEOUT = 15.0
"""Seconds from the start of a connection attempt until the AMQP handshake must be complete."""


class Target:
    """A broker to connect to: an ``IStreamClientEndpoint``, and the address with user, virtual host and options."""

    def __init__(self, endpoint: Any, broker: BrokerAddress) -> None:
        self.endpoint = endpoint
        self._broker = broker

    @property
    def broker(self) -> BrokerAddress:
        """The broker's address; a subclass may learn the port late."""
        return self._broker


def dial(
    target: Target, clock: Any, heartbeat: int, name: str, scheduler: FlushScheduler | None = None
) -> Deferred[Connection]:
    """Connect to a broker.

    :param heartbeat: seconds, unless the broker's URL says otherwise. :param name: the connection's name in
        the broker's own tools.
    :param scheduler: of the writes, shared with other connections; None: one of its own.

    Fires with the connection once the handshake is complete. Fails with TimeoutError after ``HANDSHAKE_TIMEOUT``, or
    with the error of the endpoint or of the broker. Canceling it drops the connection.
    """
    return Deferred.fromCoroutine(_handshake(target, clock, heartbeat, name, scheduler)).addTimeout(
        HANDSHAKE_TIMEOUT, clock
    )


async def _handshake(
    target: Target, clock: Any, heartbeat: int, name: str, scheduler: FlushScheduler | None
) -> Connection:
    broker = target.broker
    factory = Factory.forProtocol(
        lambda: Connection(
            vhost=broker.vhost,
            username=broker.username,
            password=broker.password,
            external=broker.external,
            heartbeat=heartbeat if broker.heartbeat is None else broker.heartbeat,
            channel_max=broker.channel_max or 0,
            clock=clock,
            connection_name=name,
            scheduler=scheduler,
        )
    )
    factory.noisy = False
    connection: Connection = await target.endpoint.connect(factory)
    return await connection.ready()
